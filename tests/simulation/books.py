"""The rules of the ledger a second time, written from their prose: slow, plain, and with nothing cached.

Balances are sums over the journal, `held` is a sum over the open leases, and what a key did is remembered apart from
the rows. The real ledger must give the same answers and the same rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from ctxhost.ledger import commands as c

MOST = 10**15
TEN_YEARS_S = 315_360_000


class No(Exception):
    """The model refuses: the name of the error, and what it must say."""

    def __init__(self, name: str, *facts: object) -> None:
        super().__init__(name, *facts)
        self.facts = (name, *facts)


@dataclass(frozen=True)
class Terms:
    owner: str
    monthly: int
    floor: int
    period: str
    clock: int
    created: int


@dataclass(frozen=True)
class Work:
    """A lease."""

    account: str
    app: str
    purpose: str
    state: str
    reserved: int
    held: int
    lines: tuple[str, ...]
    left: tuple[str, ...]
    waived: tuple[str, ...]
    rate_card: str
    paid_for_s: int
    hold_s: int
    paid_until: int
    give_up: int
    created: int
    ended: int = 0


@dataclass(frozen=True)
class Line:
    """A line of the journal."""

    id: str
    account: str
    kind: str
    allowance: int
    credits: int
    at: int
    app: str = ""
    lease: str = ""
    purpose: str = ""
    dimension: str = ""
    quantity: int = 0
    mark: str = ""
    note: str = ""


@dataclass
class Books:
    terms: dict[str, Terms] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    journal: list[Line] = field(default_factory=list)
    memory: dict[str, tuple[Mapping[str, Any], Any]] = field(default_factory=dict)
    """What a key was used for, and the answer that it got."""

    def copy(self) -> "Books":
        return Books(dict(self.terms), dict(self.work), list(self.journal), dict(self.memory))

    def run(self, command: Any, now: int) -> tuple["Books", Any]:
        """The books afterwards and the answer; when it refuses, the same books and the refusal's facts."""
        after = self.copy()
        try:
            return after, getattr(after, f"_{type(command).__name__.lower()}")(command, now)
        except No as no:
            return self, no.facts

    # What follows from the journal and the leases.

    def pool(self, account: str, name: str) -> int:
        return sum(getattr(line, name) for line in self.journal if line.account == account)

    def held(self, account: str) -> int:
        return sum(work.held for work in self.work.values() if work.account == account and work.state == "open")

    def available(self, account: str) -> int:
        own = self.pool(account, "allowance") + self.pool(account, "credits")
        return own - self.held(account) - self.terms[account].floor

    def seq(self, account: str) -> int:
        return sum(line.account == account for line in self.journal)

    def due(self, now: int) -> set[str]:
        """Accounts with a hold that the clock has given up."""
        return {work.account for work in self.work.values() if work.state == "open" and work.give_up <= now}

    # Rows, as the store must show them.

    def account_row(self, account: str) -> dict[str, Any]:
        terms = self.terms[account]
        return {
            "id": account,
            "owner": terms.owner,
            "allowance": self.pool(account, "allowance"),
            "credits": self.pool(account, "credits"),
            "held": self.held(account),
            "floor": terms.floor,
            "monthly_allowance": terms.monthly,
            "period": terms.period,
            "seq": self.seq(account),
            "clock_ms": terms.clock,
            "created_ms": terms.created,
        }

    def lease_row(self, lease: str) -> dict[str, Any]:
        work = self.work[lease]
        return {
            "id": lease,
            "account": work.account,
            "app": work.app,
            "purpose": work.purpose,
            "state": work.state,
            "reserved": work.reserved,
            "held": work.held,
            "dimensions": ",".join(work.lines),
            "open": ",".join(work.left),
            "waived": ",".join(work.waived),
            "rate_card": work.rate_card,
            "paid_for_s": work.paid_for_s,
            "hold_s": work.hold_s,
            "paid_until_ms": work.paid_until,
            "give_up_at_ms": work.give_up,
            "created_ms": work.created,
            "ended_ms": work.ended,
        }

    def entry_row(self, line: Line) -> dict[str, Any]:
        place = [other for other in self.journal if other.account == line.account].index(line) + 1
        row = {one.name: getattr(line, one.name) for one in fields(line) if one.name != "at"}
        return {**row, "seq": place, "at_ms": line.at}

    def rows(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            "account": {account: self.account_row(account) for account in self.terms},
            "lease": {lease: self.lease_row(lease) for lease in self.work},
            "entry": {line.id: self.entry_row(line) for line in self.journal},
        }

    # The clock goes first, in every command.

    def _clock(self, account: str, now: int) -> int:
        if account not in self.terms:
            raise No("AccountNotFound")
        now = max(now, self.terms[account].clock)
        self.terms[account] = replace(self.terms[account], clock=now)
        for lease, work in self.work.items():
            if work.account == account and work.state == "open" and work.give_up <= now:
                self.work[lease] = replace(work, state="expired", held=0, ended=work.give_up)
        month = f"{datetime.fromtimestamp(now / 1000, UTC):%Y-%m}"
        if month > self.terms[account].period:
            monthly, rest = self.terms[account].monthly, self.pool(account, "allowance")
            if monthly or rest:
                self._new_month(account, month, monthly, now)
            self.terms[account] = replace(self.terms[account], period=month)
        return now

    def _new_month(self, account: str, month: str, amount: int, now: int) -> dict[str, Any]:
        change = amount - self.pool(account, "allowance")
        note = f"allowance of {month}"
        line = Line(f"{account}/allowance/{month}", account, "reset", change, 0, now, quantity=amount, note=note)
        self.terms[account] = replace(self.terms[account], period=month)
        return self._remember(line.id, {"amount": amount}, self._write(line))

    def _write(self, line: Line) -> dict[str, Any]:
        self.journal.append(line)
        return self.entry_row(line)

    def _remember(self, key: str, asked: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        self.memory[key] = (asked, answer)
        return answer

    def _remembered(self, key: str, asked: Mapping[str, Any]) -> Any:
        """The first answer to this key, or None. Another value is refused, naming the first that differs."""
        if key not in self.memory:
            return None
        before, answer = self.memory[key]
        for name, value in asked.items():
            if before[name] != value:
                raise No("LedgerConflict", name)
        return answer

    # Accounts and their pools.

    def _openaccount(self, asked: c.OpenAccount, now: int) -> dict[str, Any]:
        check(asked.monthly_allowance, 0)
        check_floor(asked.floor)
        stored = self.terms.get(asked.account)
        if stored is None:
            fresh = Terms(asked.owner, asked.monthly_allowance, asked.floor, "", now, now)
            self.terms[asked.account] = fresh
        else:
            now_asked = {"owner": asked.owner, "monthly_allowance": asked.monthly_allowance, "floor": asked.floor}
            current = {"owner": stored.owner, "monthly_allowance": stored.monthly, "floor": stored.floor}
            for name, value in now_asked.items():
                if current[name] != value:
                    raise No("LedgerConflict", name)
        self._clock(asked.account, now)
        return self.account_row(asked.account)

    def _setterms(self, asked: c.SetTerms, now: int) -> dict[str, Any]:
        check(asked.monthly_allowance, 0)
        check_floor(asked.floor)
        self._clock(asked.account, now)
        terms = self.terms[asked.account]
        self.terms[asked.account] = replace(terms, monthly=asked.monthly_allowance, floor=asked.floor)
        return self.account_row(asked.account)

    def _tick(self, asked: c.Tick, now: int) -> dict[str, Any]:
        self._clock(asked.account, now)
        return self.account_row(asked.account)

    def _grant(self, asked: c.Grant, now: int) -> Any:
        check(asked.amount, 1)
        said = {"kind": "grant", "app": "", "lease": "", "note": asked.note, "amount": asked.amount}
        return self._correction(asked.account, asked.key, said, now)

    def _adjust(self, asked: c.Adjust, now: int) -> Any:
        check(abs(asked.amount) if type(asked.amount) is int else asked.amount, 1)
        said = {"kind": "adjust", "app": asked.app, "lease": asked.lease, "note": asked.note, "amount": asked.amount}
        return self._correction(asked.account, asked.key, said, now)

    def _correction(self, account: str, key: str, said: dict[str, Any], now: int) -> Any:
        key = f"{account}//{key}"
        if (answer := self._remembered(key, said)) is not None:
            return answer
        now = self._clock(account, now)
        amount, credits_now = said["amount"], self.pool(account, "credits")
        if amount < 0 and credits_now + amount < 0:
            raise No("InsufficientCredits", -amount, max(credits_now, 0))
        if amount > 0 and credits_now + amount > 10**17:
            raise No("InvalidRequest", "too_much")
        line = Line(
            key, account, said["kind"], 0, amount, now, app=said["app"], lease=said["lease"], note=said["note"]
        )  # fmt: skip
        return self._remember(key, said, self._write(line))

    def _refund(self, asked: c.Refund, now: int) -> Any:
        check(asked.amount, 1)
        charges = [one for one in self.journal if one.id == asked.charge and one.kind == "charge"]
        if not charges or charges[0].account != asked.account:
            raise No("InvalidRequest", "charge_not_found")
        charge = charges[0]
        if asked.amount > -charge.allowance - charge.credits:
            raise No("InvalidRequest", "too_much")
        said = {"note": asked.note, "amount": asked.amount}
        if (answer := self._remembered(f"{charge.id}/refund", said)) is not None:
            return answer
        now = self._clock(asked.account, now)
        to_credits = min(asked.amount, -charge.credits)
        line = Line(
            f"{charge.id}/refund", asked.account, "refund", asked.amount - to_credits, to_credits, now, charge.app,
            charge.lease, charge.purpose, charge.dimension, note=asked.note,
        )  # fmt: skip
        return self._remember(line.id, said, self._write(line))

    def _reset(self, asked: c.Reset, now: int) -> Any:
        check(asked.amount, 0)
        key, said = f"{asked.account}/allowance/{asked.period}", {"amount": asked.amount}
        if (answer := self._remembered(key, said)) is not None:
            return answer
        now = self._clock(asked.account, now)
        if (answer := self._remembered(key, said)) is not None:
            return answer
        if asked.period != f"{datetime.fromtimestamp(now / 1000, UTC):%Y-%m}":
            raise No("InvalidRequest", "not_this_month")
        return self._new_month(asked.account, asked.period, asked.amount, now)

    # Leases.

    def _reserve(self, asked: c.Reserve, now: int) -> Any:
        check(asked.amount, 0)
        check(asked.paid_for_s, 0, TEN_YEARS_S)
        check(asked.hold_s, 1, TEN_YEARS_S)
        if not asked.dimensions or len(asked.dimensions) != len(set(asked.dimensions)):
            raise No("ValueError")
        names = ("account", "app", "purpose", "amount", "dimensions", "rate_card", "paid_for_s", "hold_s")
        said = {name: getattr(asked, name) for name in names}
        if (answer := self._remembered(asked.lease, said)) is not None:
            return answer
        now = self._clock(asked.account, now)
        if self.available(asked.account) < asked.amount:
            raise No("InsufficientCredits", asked.amount, max(self.available(asked.account), 0))
        self.work[asked.lease] = Work(
            asked.account, asked.app, asked.purpose, "open", asked.amount, asked.amount, asked.dimensions,
            asked.dimensions, (), asked.rate_card, asked.paid_for_s, asked.hold_s, now + asked.paid_for_s * 1000,
            now + asked.hold_s * 1000, now,
        )  # fmt: skip
        answer = {"lease": asked.lease, "reserved": asked.amount, "created_ms": now}
        return self._remember(asked.lease, said, answer)

    def _own(self, asked: Any, now: int) -> tuple[int, Work]:
        now = self._clock(asked.account, now)
        work = self.work.get(asked.lease)
        if work is None or work.account != asked.account:
            raise No("LeaseNotFound")
        return now, work

    def _extend(self, asked: c.Extend, now: int) -> dict[str, Any]:
        check(asked.target, 0)
        check(asked.paid_until_ms, 0, 2**53)
        check(asked.give_up_at_ms, 0, 2**53)
        now, work = self._own(asked, now)
        if work.state != "open":
            raise No("LeaseEnded")
        more = asked.target - work.held
        if more > 0 and self.available(asked.account) < more:
            raise No("InsufficientCredits", more, max(self.available(asked.account), 0))
        self.work[asked.lease] = replace(
            work,
            held=max(work.held, asked.target),
            paid_until=max(work.paid_until, asked.paid_until_ms),
            give_up=max(work.give_up, asked.give_up_at_ms),
        )
        return self.lease_row(asked.lease)

    def _trim(self, asked: c.Trim, now: int) -> dict[str, Any]:
        check(asked.target, 0)
        _, work = self._own(asked, now)
        self.work[asked.lease] = replace(work, held=min(work.held, asked.target))
        return self.lease_row(asked.lease)

    def _charge(self, asked: c.Charge, now: int) -> Any:
        check(asked.amount, 0)
        check(asked.quantity, 0)
        key, said = f"{asked.lease}/{asked.dimension}", {"quantity": asked.quantity, "amount": asked.amount}
        if key in self.memory and self.work[asked.lease].account != asked.account:
            raise No("LeaseNotFound")
        if (answer := self._remembered(key, said)) is not None:
            return answer
        now, work = self._own(asked, now)
        if asked.dimension not in work.lines:
            raise No("InvalidRequest", "unknown_dimension")
        if asked.dimension in work.waived:
            raise No("LedgerConflict", "dimension")
        mark = "late" if work.state != "open" else "over" if asked.amount > work.held else ""
        from_allowance = min(asked.amount, self.pool(asked.account, "allowance"))
        line = Line(
            key, asked.account, "charge", -from_allowance, from_allowance - asked.amount, now, work.app, asked.lease,
            work.purpose, asked.dimension, asked.quantity, mark,
        )  # fmt: skip
        self._line_is_over(asked.lease, asked.dimension, asked.amount, now)
        return self._remember(key, said, self._write(line))

    def _waive(self, asked: c.Waive, now: int) -> None:
        now, work = self._own(asked, now)
        if asked.dimension not in work.lines:
            raise No("InvalidRequest", "unknown_dimension")
        if asked.dimension in work.waived:
            return
        if f"{asked.lease}/{asked.dimension}" in self.memory:
            raise No("LedgerConflict", "dimension")
        self._line_is_over(asked.lease, asked.dimension, 0, now)
        self.work[asked.lease] = replace(self.work[asked.lease], waived=(*work.waived, asked.dimension))

    def _line_is_over(self, lease: str, dimension: str, amount: int, now: int) -> None:
        work = self.work[lease]
        left = tuple(line for line in work.left if line != dimension)
        if work.state != "open":
            self.work[lease] = replace(work, left=left)
        elif left:
            self.work[lease] = replace(work, left=left, held=max(work.held - amount, 0))
        else:
            self.work[lease] = replace(work, left=(), held=0, state="closed", ended=now)

    def _release(self, asked: c.Release, now: int) -> None:
        now, work = self._own(asked, now)
        if work.state == "open":
            self.work[asked.lease] = replace(work, held=0, state="released", ended=now)


def check(value: Any, least: int, most: int = MOST) -> None:
    if type(value) is not int:
        raise No("TypeError")
    if not least <= value <= most:
        raise No("ValueError")


def check_floor(floor: Any) -> None:
    check(-floor if type(floor) is int else floor, 0)


def same_rows(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterable[str]:
    """Each difference between two row dumps, in words."""
    for table, rows in expected.items():
        for row_id in sorted(rows.keys() | found[table].keys()):
            ours, theirs = rows.get(row_id), found[table].get(row_id)
            if ours != theirs:
                yield f"{table} {row_id}: expected {ours}, found {theirs}"
