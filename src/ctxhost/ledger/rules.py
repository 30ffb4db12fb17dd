"""The rules of money, pure: rows in, rows out. Nothing here reads a clock, a database or the network.

An amount is held by a lease before work begins. Each of a lease's dimensions is then charged or waived once, in any
order; with none open the lease closes and what it still holds returns. A charge is never refused for its size or its
time: it is booked in full and marked. Only `give_up_at_ms` returns a hold by the clock.
"""

from functools import lru_cache
from typing import NamedTuple

from ctxhost.clock import month_of
from ctxhost.errors import InsufficientCredits, InvalidRequest
from ctxhost.store.rows import Account, Entry, Lease

MAX_CREDITS_NANO_USD = 10**17
"""The most that credits can be raised to ($100 million), far below what a column holds."""
_DAY_MS = 86_400_000


class Split(NamedTuple):
    """Which pools an amount came from; neither is negative."""

    allowance: int
    credits: int


def names(text: str) -> list[str]:
    """The dimensions in a lease's comma-separated column."""
    return text.split(",") if text else []


@lru_cache(maxsize=1_024)
def without(text: str, name: str) -> str:
    """The column without one dimension."""
    return ",".join([other for other in names(text) if other != name])


def hold(account: Account, amount: int) -> Account:
    """Take `amount` out of what is available. Raises `InsufficientCredits` when there is less."""
    if account.available < amount:
        raise InsufficientCredits(required_nano_usd=amount, available_nano_usd=max(account.available, 0))
    return account._replace(held=account.held + amount)


def end(lease: Lease, state: str, at_ms: int) -> Lease:
    """The lease leaves `open`; all that it still holds returns."""
    return lease._replace(state=state, held=0, ended_ms=at_ms)


def expire(lease: Lease) -> Lease:
    """The clock returns the hold. It ended when that was due, not when somebody looked."""
    return end(lease, "expired", lease.give_up_at_ms)


def close_line(lease: Lease, dimension: str, amount: int, now_ms: int) -> Lease:
    """One dimension is over at `amount` (0: waived): its part of the hold returns; the last one closes the lease."""
    still_open = without(lease.open, dimension)
    if lease.state != "open":
        return lease._replace(open=still_open)
    if not still_open:
        return lease._replace(open="", state="closed", held=0, ended_ms=now_ms)
    return lease._replace(open=still_open, held=lease.held - min(amount, lease.held))


def follow(account: Account, before: Lease, after: Lease) -> Account:
    """What a lease no longer holds, its account no longer holds."""
    return account._replace(held=account.held - before.held + after.held)


def split(account: Account, amount: int) -> Split:
    """The allowance is drawn first; only the credits may go below zero."""
    allowance = min(amount, account.allowance)
    return Split(allowance, amount - allowance)


def mark_of(lease: Lease, amount: int) -> str:
    """`late` when the lease had ended, `over` when it held less."""
    if lease.state != "open":
        return "late"
    return "over" if amount > lease.held else ""


def booked(account: Account, *, allowance: int, credits: int, freed: int = 0) -> Account:  # noqa: A002
    """Write an entry's two amounts into the pools; the account's new `seq` is the entry's place in the journal."""
    return account._replace(
        allowance=account.allowance + allowance,
        credits=account.credits + credits,
        held=account.held - freed,
        seq=account.seq + 1,
    )


def check_correction(account: Account, amount: int) -> None:
    """A grant or an adjustment stays within bounds; only a charge may take the credits below zero."""
    if amount < 0 and account.credits + amount < 0:
        raise InsufficientCredits(required_nano_usd=-amount, available_nano_usd=max(account.credits, 0))
    if amount > 0 and account.credits + amount > MAX_CREDITS_NANO_USD:
        raise InvalidRequest.of("amount", "an account holds at most $100,000,000", "too_much")


@lru_cache(maxsize=64)
def _month_of_day(day: int) -> str:
    return month_of(day * _DAY_MS)


def period_of(now_ms: int) -> str:
    """The month whose allowance is in force."""
    return _month_of_day(now_ms // _DAY_MS)


def allowance_is_due(account: Account, now_ms: int) -> bool:
    """A month has begun whose allowance was not set yet."""
    return period_of(now_ms) > account.period


def refund_split(charge: Entry, amount: int) -> Split:
    """Back the way it came: what the credits paid returns first, since they were drawn last."""
    to_credits = min(amount, -charge.credits)
    return Split(amount - to_credits, to_credits)
