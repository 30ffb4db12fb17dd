"""Commands on an account itself: its terms, and what goes into its two pools."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.errors import InvalidRequest
from ctxhost.ledger import rules
from ctxhost.ledger.model import allowance_id, checked_key, checked_name, differs, entry_id, new_entry, refund_id
from ctxhost.ledger.settling import payer, reset_allowance, settle_clock
from ctxhost.money import checked_amount
from ctxhost.store import Key, View
from ctxhost.store.rows import Account, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """Make an account. `floor` is at most zero: how far holds may go into debt."""

    account: str
    owner: str
    monthly_allowance: int = 0
    floor: int = 0

    def reads(self) -> Iterable[Key]:
        return ()

    def apply(self, view: View) -> Account:
        checked_name(self.account, "an account id")
        _check_terms(self.monthly_allowance, self.floor)
        stored = view.get(Account, self.account)
        if stored is None:
            view.put(_fresh_account(self, view.now_ms))  # its clock has not run yet
        else:
            for field in ("owner", "monthly_allowance", "floor"):
                if getattr(self, field) != getattr(stored, field):
                    raise differs(field)
        return settle_clock(view, self.account)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTerms:
    """Change what an account is given each month, from the next month on, and its floor."""

    account: str
    monthly_allowance: int
    floor: int

    def reads(self) -> Iterable[Key]:
        return ()

    def apply(self, view: View) -> Account:
        _check_terms(self.monthly_allowance, self.floor)
        account = payer(view, self.account)
        account = account._replace(monthly_allowance=self.monthly_allowance, floor=self.floor)
        view.put(account)
        return account


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Top-up credits under a key of the caller's."""

    account: str
    key: str
    amount: int
    note: str = ""

    def reads(self) -> Iterable[Key]:
        return [(Entry, entry_id(self.account, self.key))]

    def apply(self, view: View) -> Entry:
        checked_amount(self.amount, minimum=1)
        entry = new_entry(
            id=entry_id(self.account, checked_key(self.key)),
            account=self.account,
            kind="grant",
            credits=self.amount,
            note=self.note,
        )
        return _correct_once(view, entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjust:
    """A visible correction of the credits, up or down, under a key. It never takes them below zero."""

    account: str
    key: str
    amount: int
    note: str
    app: str = ""
    lease: str = ""

    def reads(self) -> Iterable[Key]:
        return [(Entry, entry_id(self.account, self.key))]

    def apply(self, view: View) -> Entry:
        checked_amount(abs(self.amount) if type(self.amount) is int else self.amount, minimum=1)
        entry = new_entry(
            id=entry_id(self.account, checked_key(self.key)),
            account=self.account,
            kind="adjust",
            credits=self.amount,
            note=self.note,
            app=self.app,
            lease=self.lease,
        )
        return _correct_once(view, entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Return a charge, or a part of it, to the pools that paid it. A charge is refunded once."""

    account: str
    charge: str
    amount: int
    note: str = ""

    def reads(self) -> Iterable[Key]:
        return [(Entry, self.charge), (Entry, refund_id(self.charge))]

    def apply(self, view: View) -> Entry:
        checked_amount(self.amount, minimum=1)
        charge = view.get(Entry, self.charge)
        if charge is None or charge.account != self.account or charge.kind != "charge":
            raise InvalidRequest.of("charge", "there is no such charge on this account", "charge_not_found")
        if self.amount > -(charge.allowance + charge.credits):
            raise InvalidRequest.of("amount", "more than was charged", "too_much")
        back = rules.refund_split(charge, self.amount)
        entry = new_entry(
            id=refund_id(self.charge),
            account=self.account,
            kind="refund",
            allowance=back.allowance,
            credits=back.credits,
            note=self.note,
            app=charge.app,
            lease=charge.lease,
            purpose=charge.purpose,
            dimension=charge.dimension,
        )
        return _stored(view, entry) or _book(view, payer(view, self.account), entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Set this month's allowance. Keyed by account and period; the clock does it by itself on the first of a month."""

    account: str
    period: str
    amount: int

    def reads(self) -> Iterable[Key]:
        return [(Entry, allowance_id(self.account, self.period))]

    def apply(self, view: View) -> Entry:
        checked_amount(self.amount)
        entry_key = allowance_id(self.account, self.period)
        stored = view.get(Entry, entry_key)
        if stored is None:
            account = payer(view, self.account)
            stored = view.get(Entry, entry_key)  # the clock may have been about to do it
        if stored is not None:
            if stored.quantity != self.amount:
                raise differs("amount")
            return stored
        current = rules.period_of(view.now_ms)
        if self.period != current:
            raise InvalidRequest.of("period", f"the allowance of {current} is the one to set", "not_this_month")
        return reset_allowance(view, account, self.period, self.amount)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Do what the clock has decided: return holds that were given up, set a new month's allowance."""

    account: str

    def reads(self) -> Iterable[Key]:
        return ()

    def apply(self, view: View) -> Account:
        return payer(view, self.account)


def _check_terms(monthly_allowance: int, floor: int) -> None:
    checked_amount(monthly_allowance)
    checked_amount(-floor if type(floor) is int else floor)


def _fresh_account(asked: OpenAccount, now_ms: int) -> Account:
    return Account(
        id=asked.account,
        owner=asked.owner,
        allowance=0,
        credits=0,
        held=0,
        floor=asked.floor,
        monthly_allowance=asked.monthly_allowance,
        period="",
        seq=0,
        clock_ms=0,
        created_ms=now_ms,
    )


def _correct_once(view: View, entry: Entry) -> Entry:
    stored = _stored(view, entry)
    if stored is not None:
        return stored
    account = payer(view, entry.account)
    rules.check_correction(account, entry.credits)
    return _book(view, account, entry)


def _stored(view: View, asked: Entry) -> Entry | None:
    """The entry that this key has made, or None. Raises `LedgerConflict` when it was made with another value."""
    stored = view.get(Entry, asked.id)
    if stored is None:
        return None
    for field in ("kind", "app", "lease", "note"):
        if getattr(asked, field) != getattr(stored, field):
            raise differs(field)
    if asked.allowance + asked.credits != stored.allowance + stored.credits:
        raise differs("amount")
    return stored


def _book(view: View, account: Account, entry: Entry) -> Entry:
    account = rules.booked(account, allowance=entry.allowance, credits=entry.credits)
    entry = entry._replace(seq=account.seq, at_ms=view.now_ms)
    view.put(account)
    view.put(entry)
    return entry
