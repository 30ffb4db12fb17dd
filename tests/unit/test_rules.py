"""Who is refused, by which rule, in which order; and what an accepted command does to the rows."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ctxhost.clock import ManualClock
from ctxhost.errors import InsufficientCredits, InvalidRequest, LedgerConflict
from ctxhost.ledger import rules
from ctxhost.ledger.commands import (
    AccountNotFound,
    Adjust,
    Charge,
    Extend,
    Grant,
    LeaseEnded,
    LeaseNotFound,
    OpenAccount,
    Refund,
    Release,
    Reserve,
    Reset,
    SetTerms,
    Tick,
    Trim,
    Waive,
)
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Key
from ctxhost.store.batch import Batch, decide, wanted_rows
from ctxhost.store.rows import Account, Entry, Lease

NOW_MS = 1_780_000_000_000
THIS_MONTH = "2026-05"


class Bench:
    """Commands run one after the other on rows in memory: the batch, without an engine."""

    def __init__(self) -> None:
        self.rows: dict[Key, Any] = {}
        self.now_ms = NOW_MS

    def run(self, command: Any) -> Any:
        batch = Batch(self.now_ms)
        reads = [tuple(command.reads())]
        for table, ids in wanted_rows([command], reads).items():
            batch.load(table, ids, [self.rows[table, row_id] for row_id in ids if (table, row_id) in self.rows])
        batch.load_due(Lease, [row for (table, _), row in self.rows.items() if table is Lease])
        ((value, error),) = decide(batch, [command], reads)
        if error is not None:
            raise error
        self.rows.update(batch.changed)
        return value

    def all(self, table: type) -> Iterable[Any]:
        return [row for (of, _), row in self.rows.items() if of is table]


RESERVE = Reserve(
    account="acct", app="app", lease="lease", purpose="meetings", amount=60, dimensions=("recording", "transcription"),
    rate_card="{}", paid_for_s=30, hold_s=60,
)  # fmt: skip
CHARGE = Charge(account="acct", lease="lease", dimension="recording", quantity=44, amount=40)


@pytest.fixture
def bench() -> Bench:
    """An account with 100 in credits, a lease that holds 60 with one of two lines charged, and a stranger."""
    bench = Bench()
    for command in (
        OpenAccount(account="acct", owner="me"),
        OpenAccount(account="other", owner="you", monthly_allowance=50),
        Grant(account="acct", key="first", amount=100, note="hello"),
        RESERVE,
        CHARGE,
        replace(RESERVE, lease="waived", amount=10),
        Waive(account="acct", lease="waived", dimension="recording"),
        replace(RESERVE, lease="released", amount=10),
        Release(account="acct", lease="released"),
    ):
        bench.run(command)
    return bench


def case(command: Any, error: type[Exception], fact: str, name: str) -> Any:
    """A command, the error that refuses it, the field or code that this must name, and what the case is called."""
    return pytest.param(command, error, fact, id=name)


REFUSED = [
    # Grants and adjustments: the value, the key, what it was used for, the account, the money.
    case(Grant(account="nobody", key="", amount=True), TypeError, "", "grant-true"),
    case(Grant(account="nobody", key="", amount=0), ValueError, "", "grant-nothing"),
    case(Grant(account="nobody", key="", amount=1), InvalidRequest, "bad_key", "grant-key-before-account"),
    case(Grant(account="acct", key="k" * 256, amount=1), InvalidRequest, "bad_key", "grant-long-key"),
    case(Grant(account="acct", key="a\nb", amount=1), InvalidRequest, "bad_key", "grant-key-control"),
    case(Grant(account="nobody", key="k", amount=1), AccountNotFound, "", "grant-no-account"),
    case(Grant(account="", key="k", amount=1), AccountNotFound, "", "grant-to-the-platform"),
    case(Adjust(account="acct", key="first", amount=7, note="x"), LedgerConflict, "kind", "other-kind"),
    case(Grant(account="acct", key="first", amount=7, note="x"), LedgerConflict, "note", "note-before-amount"),
    case(Grant(account="acct", key="first", amount=7, note="hello"), LedgerConflict, "amount", "other-amount"),
    case(Adjust(account="acct", key="k", amount=-61, note=""), InsufficientCredits, "", "adjust-below-zero"),
    case(Adjust(account="acct", key="k", amount=-1.0, note=""), TypeError, "", "adjust-float"),  # type: ignore[arg-type]
    # Accounts.
    case(OpenAccount(account="a/b", owner="me"), ValueError, "", "account-id-with-slash"),
    case(OpenAccount(account="", owner="me"), ValueError, "", "account-id-empty"),
    case(OpenAccount(account="acct", owner="me", floor=1), ValueError, "", "floor-above-zero"),
    case(OpenAccount(account="acct", owner="you", floor=-1), LedgerConflict, "owner", "account-other-owner"),
    case(OpenAccount(account="acct", owner="me", floor=-1), LedgerConflict, "floor", "account-other-floor"),
    case(SetTerms(account="nobody", monthly_allowance=0, floor=0), AccountNotFound, "", "terms-no-account"),
    case(Tick(account="nobody"), AccountNotFound, "", "tick-no-account"),
    case(Reset(account="nobody", period="2026-04", amount=1), AccountNotFound, "", "reset-no-account"),
    case(Reset(account="acct", period="2026-04", amount=1), InvalidRequest, "not_this_month", "reset-past"),
    case(Reset(account="other", period=THIS_MONTH, amount=1), LedgerConflict, "amount", "reset-other-amount"),
    # Refunds: the charge, its amount, then the key.
    case(Refund(account="acct", charge="lease/none", amount=1), InvalidRequest, "charge_not_found", "no-charge"),
    case(Refund(account="other", charge="lease/recording", amount=1), InvalidRequest, "charge_not_found", "foreign"),
    case(Refund(account="acct", charge="acct//first", amount=1), InvalidRequest, "charge_not_found", "a-grant"),
    case(Refund(account="acct", charge="lease/recording", amount=41), InvalidRequest, "too_much", "refund-more"),
    # Reservations: values, what the key was used for field by field, the account, the money.
    case(replace(RESERVE, amount=-1), ValueError, "", "reserve-negative"),
    case(replace(RESERVE, hold_s=0), ValueError, "", "reserve-for-no-time"),
    case(replace(RESERVE, hold_s=1.5), TypeError, "", "reserve-half-seconds"),  # type: ignore[arg-type]
    case(replace(RESERVE, lease="a/b"), ValueError, "", "lease-id-with-slash"),
    case(replace(RESERVE, dimensions=()), ValueError, "", "no-lines"),
    case(replace(RESERVE, dimensions=("a", "a")), ValueError, "", "a-line-twice"),
    case(replace(RESERVE, dimensions=("a,b",)), ValueError, "", "a-comma-in-a-line"),
    case(replace(RESERVE, account="nobody", app="x"), LedgerConflict, "account", "lease-of-another-account"),
    case(replace(RESERVE, app="x", purpose="x"), LedgerConflict, "app", "other-app"),
    case(replace(RESERVE, purpose="x", amount=1), LedgerConflict, "purpose", "other-purpose"),
    case(replace(RESERVE, amount=1, dimensions=("x",)), LedgerConflict, "amount", "other-hold"),
    case(replace(RESERVE, dimensions=("x",), rate_card="x"), LedgerConflict, "dimensions", "other-lines"),
    case(replace(RESERVE, rate_card="x", paid_for_s=1), LedgerConflict, "rate_card", "other-prices"),
    case(replace(RESERVE, paid_for_s=1, hold_s=1), LedgerConflict, "paid_for_s", "other-cover"),
    case(replace(RESERVE, hold_s=1), LedgerConflict, "hold_s", "other-time"),
    case(replace(RESERVE, account="nobody", lease="n"), AccountNotFound, "", "reserve-no-account"),
    case(replace(RESERVE, lease="n", amount=31), InsufficientCredits, "", "reserve-one-too-much"),
    # Holding on and letting go.
    case(Extend(account="other", lease="lease", target=1, paid_until_ms=0), LeaseNotFound, "", "extend-foreign"),
    case(Extend(account="acct", lease="x", target=1, paid_until_ms=0), LeaseNotFound, "", "extend-unknown"),
    case(
        Extend(account="acct", lease="released", target=999, paid_until_ms=0), LeaseEnded, "", "ended-wins-over-money"
    ),
    case(Extend(account="acct", lease="lease", target=51, paid_until_ms=0), InsufficientCredits, "", "extend-1-more"),
    case(Trim(account="other", lease="lease", target=0), LeaseNotFound, "", "trim-foreign"),
    case(Release(account="other", lease="lease"), LeaseNotFound, "", "release-foreign"),
    # Charges and waivers: the value, the key, the lease, the line.
    case(replace(CHARGE, amount=10**15 + 1), ValueError, "", "charge-too-large"),
    case(replace(CHARGE, quantity=1, amount=1), LedgerConflict, "quantity", "quantity-before-amount"),
    case(replace(CHARGE, amount=1), LedgerConflict, "amount", "charged-otherwise"),
    case(replace(CHARGE, account="other"), LeaseNotFound, "", "charge-foreign-repeat"),
    case(replace(CHARGE, account="other", lease="waived"), LeaseNotFound, "", "charge-foreign"),
    case(replace(CHARGE, account="nobody", lease="x"), AccountNotFound, "", "charge-no-account"),
    case(replace(CHARGE, lease="x"), LeaseNotFound, "", "charge-unknown-lease"),
    case(replace(CHARGE, dimension="x"), InvalidRequest, "unknown_dimension", "charge-unknown-line"),
    case(replace(CHARGE, lease="waived"), LedgerConflict, "dimension", "charge-after-waiver"),
    case(Waive(account="acct", lease="x", dimension="x"), LeaseNotFound, "", "waive-unknown-lease"),
    case(Waive(account="acct", lease="lease", dimension="x"), InvalidRequest, "unknown_dimension", "waive-unknown"),
    case(Waive(account="acct", lease="lease", dimension="recording"), LedgerConflict, "dimension", "waive-charged"),
]


@pytest.mark.parametrize(("command", "error", "fact"), REFUSED)
def test_a_refusal_names_its_reason_and_leaves_no_trace(
    bench: Bench, command: Any, error: type[Exception], fact: str
) -> None:
    """The first rule that is broken answers; the rows are what they were."""
    before = dict(bench.rows)
    with pytest.raises(error) as caught:
        bench.run(command)

    assert error is caught.type
    if isinstance(caught.value, LedgerConflict):
        assert fact == caught.value.field
    if isinstance(caught.value, InvalidRequest):
        assert fact == caught.value.details[0]["code"]
    assert before == bench.rows


def test_a_refused_hold_says_what_is_missing(bench: Bench) -> None:
    """The refusal carries what was asked for and what is left."""
    with pytest.raises(InsufficientCredits) as caught:
        bench.run(replace(RESERVE, lease="new", amount=31))

    assert (31, 30) == (caught.value.required_nano_usd, caught.value.available_nano_usd)


def test_a_repeat_gets_the_first_answer(bench: Bench) -> None:
    """Whatever has happened since, the same command has the same answer and no effect."""
    answers = [bench.run(command) for command in (RESERVE, CHARGE)]
    bench.now_ms += 10**9
    bench.run(Grant(account="acct", key="later", amount=1))
    before = dict(bench.rows)

    assert answers == [bench.run(command) for command in (RESERVE, CHARGE)]
    assert before == bench.rows


def test_the_last_line_closes_the_lease_and_returns_the_rest(bench: Bench) -> None:
    """A part of the hold goes with each line; with none open, all that is left returns at once."""
    assert 20 == bench.rows[Lease, "lease"].held
    bench.run(replace(CHARGE, dimension="transcription", amount=5))

    lease, account = bench.rows[Lease, "lease"], bench.rows[Account, "acct"]
    assert ("closed", 0, "", NOW_MS) == (lease.state, lease.held, lease.open, lease.ended_ms)
    assert (55, 10) == (account.credits, account.held)


def test_a_charge_is_booked_in_full_whatever_was_held(bench: Bench) -> None:
    """More than was held is marked `over`, may take the credits below zero, and bars new holds until it is paid."""
    entry = bench.run(replace(CHARGE, dimension="transcription", amount=500))

    assert ("over", -500) == (entry.mark, entry.credits)
    assert -440 == bench.rows[Account, "acct"].credits
    with pytest.raises(InsufficientCredits):
        bench.run(replace(RESERVE, lease="new", amount=0))


@pytest.mark.parametrize("lease", ["released", "waived"])
def test_a_late_charge_is_booked_and_touches_no_other_hold(bench: Bench, lease: str) -> None:
    """After release or expiry a charge is marked `late`; what other leases hold stays held."""
    if lease == "waived":
        bench.run(Extend(account="acct", lease="lease", target=20, paid_until_ms=0, give_up_at_ms=NOW_MS + 10**9))
        bench.now_ms += 60_000
    entry = bench.run(replace(CHARGE, lease=lease, dimension="transcription", amount=7))

    account = bench.rows[Account, "acct"]
    assert ("late", -7) == (entry.mark, entry.credits)
    assert 53 == account.credits
    assert account.held == sum(row.held for row in bench.all(Lease))
    assert 20 == bench.rows[Lease, "lease"].held


@pytest.mark.parametrize(("after_ms", "state"), [(59_999, "open"), (60_000, "expired"), (90_000, "expired")])
def test_only_the_clock_gives_a_hold_up(bench: Bench, after_ms: int, state: str) -> None:
    """A hold returns at its time and not a millisecond before, and it ended when that was due, not when it was seen."""
    bench.now_ms = NOW_MS + after_ms
    bench.run(Tick(account="acct"))

    lease = bench.rows[Lease, "lease"]
    assert (state, NOW_MS + 60_000 if state == "expired" else 0) == (lease.state, lease.ended_ms)
    assert (30 if state == "open" else 0) == bench.rows[Account, "acct"].held


def test_extending_is_a_target(bench: Bench) -> None:
    """The hold rises to the target and no further, dates only move forward, and nothing new needs no credit."""
    ask = Extend(account="acct", lease="lease", target=50, paid_until_ms=NOW_MS + 90_000)
    first = bench.run(ask)
    bench.run(replace(CHARGE, lease="waived", dimension="transcription", amount=90))  # now nothing is available

    assert (50, NOW_MS + 90_000, NOW_MS + 60_000) == (first.held, first.paid_until_ms, first.give_up_at_ms)
    assert first == bench.run(ask)
    assert first == bench.run(replace(ask, target=1, paid_until_ms=1))


def test_trimming_returns_what_cannot_be_charged_any_more(bench: Bench) -> None:
    """The hold sinks to the target and never rises."""
    assert 5 == bench.run(Trim(account="acct", lease="lease", target=5)).held
    assert 5 == bench.run(Trim(account="acct", lease="lease", target=15)).held
    assert 15 == bench.rows[Account, "acct"].held


def test_the_allowance_pays_first_and_a_refund_returns_the_same_way(bench: Bench) -> None:
    """What the credits paid returns to them first, since they were drawn last."""
    bench.run(Grant(account="other", key="k", amount=100))
    own = replace(RESERVE, account="other", lease="own")
    bench.run(own)
    charge = bench.run(replace(CHARGE, account="other", lease="own", amount=80))
    refund = bench.run(Refund(account="other", charge="own/recording", amount=50))

    assert (-50, -30) == (charge.allowance, charge.credits)
    assert (20, 30) == (refund.allowance, refund.credits)
    assert refund == bench.run(Refund(account="other", charge="own/recording", amount=50))
    with pytest.raises(LedgerConflict):
        bench.run(Refund(account="other", charge="own/recording", amount=30))


def test_a_new_month_brings_a_new_allowance_once(bench: Bench) -> None:
    """What is left of the old one is gone; a reset that comes with the month's first command is the same reset."""
    bench.now_ms += 31 * 86_400_000
    entry = bench.run(Reset(account="other", period="2026-06", amount=50))

    account = bench.rows[Account, "other"]
    assert ("2026-06", 50, entry.seq) == (account.period, account.allowance, account.seq)
    assert 2 == sum(row.account == "other" for row in bench.all(Entry))
    with pytest.raises(LedgerConflict):
        bench.run(Reset(account="other", period="2026-06", amount=60))


def test_no_key_of_a_caller_meets_an_entry_of_the_ledgers_own(bench: Bench) -> None:
    """A key made to look like a month's reset or a charge is a key like any other."""
    for key in ("allowance/2026-06", "/allowance/2026-06", "recording", "lease/recording"):
        bench.run(Grant(account="other", key=key, amount=1))
    bench.now_ms += 31 * 86_400_000

    assert 50 == bench.run(Tick(account="other")).allowance


def test_a_debt_within_the_overdraft_can_still_be_held_against(bench: Bench) -> None:
    """The floor extends what holds may take, to the last nano-dollar."""
    bench.run(SetTerms(account="acct", monthly_allowance=0, floor=-20))
    bench.run(replace(RESERVE, lease="last", amount=50))

    assert 0 == bench.rows[Account, "acct"].available


def test_credits_have_a_ceiling(bench: Bench) -> None:
    """Grants stop long before a column overflows, with a refusal rather than a fault."""
    account = bench.rows[Account, "acct"]
    bench.rows[Account, "acct"] = account._replace(credits=rules.MAX_CREDITS_NANO_USD)

    with pytest.raises(InvalidRequest):
        bench.run(Grant(account="acct", key="one more", amount=1))


async def test_the_ledger_shows_what_the_clock_has_decided(ledger: Ledger, clock: ManualClock) -> None:
    """A balance needs no sweep to be true; a sweep finds each account once."""
    await ledger.open_account("me", account="acct")
    await ledger.grant("acct", 100, key="k")
    await ledger.write(RESERVE)
    assert (60, 100, ["lease"]) == await shown(ledger)

    clock.advance(seconds=60)
    assert 1 == await ledger.sweep()
    assert 0 == await ledger.sweep()
    assert (0, 100, []) == await shown(ledger)
    await ledger.write(replace(RESERVE, lease="second"))
    clock.advance(seconds=60)
    assert (0, 100, []) == await shown(ledger)
    with pytest.raises(AccountNotFound):
        await ledger.balance("")


async def shown(ledger: Ledger) -> tuple[int, int, list[str]]:
    balance = await ledger.balance("acct")
    return balance.account.held, balance.balance, [lease.id for lease in balance.open_leases]


def test_names_of_lines() -> None:
    """A column of names is read and shortened by whole names."""
    assert [] == rules.names("")
    assert "ab,c" == rules.without("a,ab,c", "a")
    assert "" == rules.without("a", "a")
