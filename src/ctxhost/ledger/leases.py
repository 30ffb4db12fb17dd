"""Commands on a lease: hold, keep holding, charge line by line, and let go."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.errors import InvalidRequest, LedgerConflict
from ctxhost.ledger import rules
from ctxhost.ledger.model import (
    LeaseEnded,
    LeaseNotFound,
    Reserved,
    charge_id,
    checked_name,
    checked_seconds,
    checked_time,
    differs,
    dimension_list,
    new_entry,
)
from ctxhost.ledger.settling import open_lease, payer
from ctxhost.money import checked_amount
from ctxhost.store import Key, View
from ctxhost.store.rows import Account, Entry, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Hold `amount` for one piece of work.

    `dimensions` are the lines it may be charged for, `rate_card` (JSON) their frozen prices. The hold covers work for
    `paid_for_s` seconds and returns by itself after `hold_s` (at least one).
    """

    account: str
    app: str
    lease: str
    purpose: str
    amount: int
    dimensions: tuple[str, ...]
    rate_card: str
    paid_for_s: int
    hold_s: int

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease)]

    def apply(self, view: View) -> Reserved:
        checked_name(self.lease, "a lease id")
        checked_amount(self.amount)
        checked_seconds(self.paid_for_s, minimum=0)
        checked_seconds(self.hold_s, minimum=1)
        dimensions = dimension_list(self.dimensions)
        stored = view.get(Lease, self.lease)
        if stored is None:
            stored = self._open(view, dimensions)
        else:
            self._compare(stored, dimensions)
        return Reserved(lease=stored.id, reserved=stored.reserved, created_ms=stored.created_ms)

    def _compare(self, stored: Lease, dimensions: str) -> None:
        for field, asked, before in (
            ("account", self.account, stored.account),
            ("app", self.app, stored.app),
            ("purpose", self.purpose, stored.purpose),
            ("amount", self.amount, stored.reserved),
            ("dimensions", dimensions, stored.dimensions),
            ("rate_card", self.rate_card, stored.rate_card),
            ("paid_for_s", self.paid_for_s, stored.paid_for_s),
            ("hold_s", self.hold_s, stored.hold_s),
        ):
            if asked != before:
                raise differs(field)

    def _open(self, view: View, dimensions: str) -> Lease:
        view.put(rules.hold(payer(view, self.account), self.amount))
        lease = Lease(
            id=self.lease,
            account=self.account,
            app=self.app,
            purpose=self.purpose,
            state="open",
            reserved=self.amount,
            held=self.amount,
            dimensions=dimensions,
            open=dimensions,
            waived="",
            rate_card=self.rate_card,
            paid_for_s=self.paid_for_s,
            hold_s=self.hold_s,
            paid_until_ms=view.now_ms + self.paid_for_s * 1_000,
            give_up_at_ms=view.now_ms + self.hold_s * 1_000,
            created_ms=view.now_ms,
            ended_ms=0,
        )
        view.put(lease)
        return lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Raise the hold to `target` (never lower it) and move the dates forward (never back).

    Raises:
        LeaseEnded: it holds nothing any more.
        InsufficientCredits: the difference is not available; nothing was changed.
    """

    account: str
    lease: str
    target: int
    paid_until_ms: int
    give_up_at_ms: int = 0

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease)]

    def apply(self, view: View) -> Lease:
        checked_amount(self.target)
        checked_time(self.paid_until_ms)
        checked_time(self.give_up_at_ms)
        account, lease = open_lease(view, self.account, self.lease)
        if lease.state != "open":
            raise LeaseEnded(f"The lease is {lease.state}.")
        if self.target > lease.held:
            view.put(rules.hold(account, self.target - lease.held))
        lease = lease._replace(
            held=max(lease.held, self.target),
            paid_until_ms=max(lease.paid_until_ms, self.paid_until_ms),
            give_up_at_ms=max(lease.give_up_at_ms, self.give_up_at_ms),
        )
        view.put(lease)
        return lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Lower the hold to `target` (never raise it): what can no longer be charged returns early."""

    account: str
    lease: str
    target: int

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease)]

    def apply(self, view: View) -> Lease:
        checked_amount(self.target)
        account, lease = open_lease(view, self.account, self.lease)
        if lease.held <= self.target:
            return lease
        trimmed = lease._replace(held=self.target)
        _save(view, rules.follow(account, lease, trimmed), trimmed)
        return trimmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Charge one dimension of a lease, once. Never refused for its amount, nor because the lease has ended."""

    account: str
    lease: str
    dimension: str
    quantity: int
    amount: int

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease), (Entry, charge_id(self.lease, self.dimension))]

    def apply(self, view: View) -> Entry:
        checked_amount(self.amount)
        checked_amount(self.quantity)
        stored = view.get(Entry, charge_id(self.lease, self.dimension))
        if stored is not None:
            return self._repeated(stored)
        account, lease = open_lease(view, self.account, self.lease)
        _check_dimension(lease, self.dimension)
        if lease.waived and self.dimension in rules.names(lease.waived):
            raise LedgerConflict(f"{self.dimension} of this lease was waived.", field="dimension")
        return self._book(view, account, lease)

    def _repeated(self, stored: Entry) -> Entry:
        if stored.account != self.account:
            raise LeaseNotFound("There is no such lease on this account.")
        if self.quantity != stored.quantity:
            raise differs("quantity")
        if self.amount != -(stored.allowance + stored.credits):
            raise differs("amount")
        return stored

    def _book(self, view: View, account: Account, lease: Lease) -> Entry:
        paid = rules.split(account, self.amount)
        after = rules.close_line(lease, self.dimension, self.amount, view.now_ms)
        account = rules.booked(account, allowance=-paid.allowance, credits=-paid.credits, freed=lease.held - after.held)
        entry = new_entry(
            id=charge_id(lease.id, self.dimension),
            account=self.account,
            kind="charge",
            seq=account.seq,
            app=lease.app,
            lease=lease.id,
            purpose=lease.purpose,
            dimension=self.dimension,
            quantity=self.quantity,
            allowance=-paid.allowance,
            credits=-paid.credits,
            mark=rules.mark_of(lease, self.amount),
            at_ms=view.now_ms,
        )
        _save(view, account, after)
        view.put(entry)
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Waive:
    """One dimension of a lease will not be charged; a repeat has no effect."""

    account: str
    lease: str
    dimension: str

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease), (Entry, charge_id(self.lease, self.dimension))]

    def apply(self, view: View) -> None:
        account, lease = open_lease(view, self.account, self.lease)
        _check_dimension(lease, self.dimension)
        if self.dimension in rules.names(lease.waived):
            return
        if view.get(Entry, charge_id(self.lease, self.dimension)) is not None:
            raise LedgerConflict(f"{self.dimension} of this lease was charged.", field="dimension")
        after = rules.close_line(lease, self.dimension, 0, view.now_ms)
        waived = ",".join([*rules.names(lease.waived), self.dimension])
        _save(view, rules.follow(account, lease, after), after._replace(waived=waived))


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give the whole hold back. A charge that comes afterwards is booked, marked late."""

    account: str
    lease: str

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease)]

    def apply(self, view: View) -> None:
        account, lease = open_lease(view, self.account, self.lease)
        if lease.state == "open":
            ended = rules.end(lease, "released", view.now_ms)
            _save(view, rules.follow(account, lease, ended), ended)


def _save(view: View, account: Account, lease: Lease) -> None:
    view.put(account)
    view.put(lease)


def _check_dimension(lease: Lease, dimension: str) -> None:
    if dimension not in rules.names(lease.dimensions):
        raise InvalidRequest.of("dimension", f"the lease has no line {dimension!r}", "unknown_dimension")
