"""The ledger broken on purpose, one way at a time. The simulation must notice each."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ctxhost.ledger import leases, pools, rules, settling
from ctxhost.ledger.ledger import Ledger
from ctxhost.ledger.model import charge_id
from ctxhost.store import Key, Query, Row, View, batch, postgres_sql, sqlite_tables
from ctxhost.store.postgres import PostgresStore
from ctxhost.store.rows import Account, Entry, Lease
from ctxhost.store.sqlite import SqliteStore

Patch = pytest.MonkeyPatch
PAUSE_S = 0.004  # between two transactions that ought to be one: time for another host to look


@dataclass(frozen=True)
class Later:
    """Some rows of what a command has put, written by a transaction of their own."""

    account: str
    puts: Sequence[Any]

    def reads(self) -> Iterable[Key]:
        return [(type(row), row.id) for row in self.puts]

    def apply(self, view: View) -> None:
        for row in self.puts:
            view.put(row)


@dataclass(frozen=True)
class Without:
    """A command whose rows of one table are held back."""

    command: Any
    table: type[Any]
    held_back: list[Any]

    @property
    def account(self) -> str:
        return str(self.command.account)

    def reads(self) -> Iterable[Key]:
        return self.command.reads()  # type: ignore[no-any-return]

    def apply(self, view: View) -> Any:
        del self.held_back[:]
        return self.command.apply(Holding(view, self))


class Holding:
    """A view that holds back the rows of one table."""

    def __init__(self, view: View, without: Without) -> None:
        self._view, self._without = view, without

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def put(self, row: Row) -> None:
        self._keep(row, self._view.put)

    def append(self, row: Row) -> None:
        self._keep(row, self._view.append)

    def _keep(self, row: Row, put: Callable[[Row], None]) -> None:
        (self._without.held_back.append if type(row) is self._without.table else put)(row)


def in_two_transactions(patch: Patch, command_types: tuple[type[Any], ...], second: type[Account | Entry]) -> None:
    """Commit the rest of a command first, and its rows of one table a moment later."""
    for engine in (SqliteStore, PostgresStore):
        patch.setattr(engine, "write", _torn(engine.write, command_types, second))


def _torn(
    write: Callable[..., Any], command_types: tuple[type[Any], ...], second: type[Account | Entry]
) -> Callable[..., Any]:
    async def torn(store: Any, command: Any) -> Any:
        if type(command) not in command_types:
            return await write(store, command)
        held_back: list[Any] = []
        answer = await write(store, Without(command, second, held_back))
        if held_back:
            await asyncio.sleep(PAUSE_S)
            await write(store, Later(command.account, held_back))
        return answer

    return torn


def no_idempotency(patch: Patch) -> None:
    """A repeated grant or adjustment has a second effect, under an id of its own."""

    correct = pools._correct_once

    def book_again(view: View, entry: Entry) -> Entry:
        stored = view.get(Entry, entry.id)
        if stored is None:
            return correct(view, entry)
        account = settling.payer(view, entry.account)
        account = rules.booked(account, allowance=entry.allowance, credits=abs(entry.credits))
        view.put(account)
        view.append(entry._replace(id=f"{entry.id}~{account.seq}", seq=account.seq, at_ms=view.now_ms))
        return stored

    patch.setattr(pools, "_correct_once", book_again)


def no_field_check(patch: Patch) -> None:
    """A key that was used for another value is answered as if it were a repeat."""
    patch.setattr(pools, "_stored", lambda view, asked: view.get(Entry, asked.id))
    patch.setattr(leases.Reserve, "_compare", lambda *_: None)
    patch.setattr(leases.Charge, "_repeated", lambda _, stored: stored)


def key_stored_after_commit(patch: Patch) -> None:
    """A grant's effect is committed first, its key a moment later."""
    in_two_transactions(patch, (pools.Grant,), Entry)


def entry_in_another_transaction(patch: Patch) -> None:
    """A charge's entry is committed first, what it does to the account a moment later."""
    in_two_transactions(patch, (leases.Charge,), Account)


def over_reserve(patch: Patch) -> None:
    """A hold is given without looking at what is available."""
    patch.setattr(rules, "hold", lambda account, amount: account._replace(held=account.held + amount))


def double_charge(patch: Patch) -> None:
    """A line that was charged is charged again."""
    apply = leases.Charge.apply

    def charge(self: leases.Charge, view: View) -> Entry:
        stored = view.get(Entry, charge_id(self.lease, self.dimension))
        if stored is None or stored.account != self.account:
            return apply(self, view)
        paid = rules.split(settling.payer(view, self.account), self.amount)
        account = rules.booked(
            settling.get_account(view, self.account), allowance=-paid.allowance, credits=-paid.credits
        )
        view.put(account)
        view.append(stored._replace(id=f"{stored.id}~{account.seq}", seq=account.seq, at_ms=view.now_ms))
        return stored

    patch.setattr(leases.Charge, "apply", charge)


def sweeper_decides(patch: Patch) -> None:
    """Only a sweep returns a hold: until it has run, a lease whose time is over still counts as open."""

    class Blind:
        def __init__(self, view: View) -> None:
            self._view = view

        def __getattr__(self, name: str) -> Any:
            return getattr(self._view, name)

        def due(self, *_: object) -> Sequence[Any]:
            return ()

    settle = settling.settle_clock

    def payer(view: View, account_id: str) -> Account:
        return settle(Blind(view), account_id)

    patch.setattr(settling, "payer", payer)
    patch.setattr(leases, "payer", payer)


def release_lost(patch: Patch) -> None:
    """A lease that is released keeps what it held out of what is available."""

    def release(self: leases.Release, view: View) -> None:
        _, lease = settling.open_lease(view, self.account, self.lease)
        if lease.state == "open":
            view.put(rules.end(lease, "released", view.now_ms))

    patch.setattr(leases.Release, "apply", release)


def overage_dropped(patch: Patch) -> None:
    """A charge is cut to what its lease still holds."""
    book = leases.Charge._book

    def cut(self: leases.Charge, view: View, account: Account, lease: Lease) -> Entry:
        return book(replace(self, amount=min(self.amount, lease.held)), view, account, lease)

    patch.setattr(leases.Charge, "_book", cut)


def expires_early(patch: Patch) -> None:
    """The clock returns a hold a second before its time."""
    load_sql = sqlite_tables.select_due

    def early(row: Any, column: str, now_ms: int) -> bool:
        return bool(row.state == "open" and getattr(row, column) <= now_ms + 1_000)

    patch.setattr(batch, "is_due", early)
    patch.setattr(sqlite_tables, "select_due", lambda *args: load_sql(*args).replace("<= ?", "<= ? + 1000"))
    load_early = postgres_sql._load_due
    patch.setattr(postgres_sql, "_load_due", lambda *args: load_early(*args).replace("<= ", "<= 1000 + "))


@dataclass(frozen=True)
class EndHold:
    """What a careless sweeper writes: it ends what it saw, whatever has become of it since."""

    lease: Lease

    @property
    def account(self) -> str:
        return self.lease.account

    def reads(self) -> Iterable[Key]:
        return [(Lease, self.lease.id)]

    def apply(self, view: View) -> None:
        account = settling.get_account(view, self.account)._replace(clock_ms=view.now_ms)
        ended = rules.expire(self.lease)
        view.put(rules.follow(account, self.lease, ended))
        view.put(ended)


def careless_sweeper(patch: Patch) -> None:
    """A sweeper looks first and writes afterwards, without asking again whether the lease is still open."""

    async def sweep(self: Ledger) -> int:
        store = self._store
        sql = f"select {', '.join(Lease._fields)} from lease where state = 'open' and give_up_at_ms <= :now"
        due = await store.read(Query(sql, lambda rows: list(map(Lease._make, rows)), {"now": store.now_ms()}))
        await asyncio.sleep(PAUSE_S)
        for lease in due:
            await store.write(EndHold(lease))
        return len(due)

    patch.setattr(Ledger, "sweep", sweep)


def sweep_in_two_transactions(patch: Patch) -> None:
    """A sweep ends the leases first and returns what they held a moment later."""
    in_two_transactions(patch, (pools.Tick,), Account)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__.replace("_", "-"): mutant
    for mutant in (
        no_idempotency,
        no_field_check,
        key_stored_after_commit,
        entry_in_another_transaction,
        over_reserve,
        double_charge,
        sweeper_decides,
        release_lost,
        overage_dropped,
        expires_early,
        careless_sweeper,
        sweep_in_two_transactions,
    )
}
