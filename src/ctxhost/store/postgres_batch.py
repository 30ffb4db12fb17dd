"""One batch on PostgreSQL: lock and load in one trip, decide, save and commit in another.

The account row is the lock. A batch takes the locks that are free and leaves out the commands of accounts that are
locked elsewhere; it may wait for one account at most, while it holds no other, so no two batches wait for each other.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import anyio
import psycopg

from ctxhost.errors import Overloaded
from ctxhost.store import Command, Key, Row
from ctxhost.store import postgres_sql as sql
from ctxhost.store.batch import Batch, Outcome, decide, uncollected, wanted_rows
from ctxhost.store.observed import BatchTeller
from ctxhost.store.postgres_session import RETRY_AFTER_S, Session, is_busy, translated
from ctxhost.store.postgres_wire import Lost, Result, Statement, Wire, sqlstate
from ctxhost.store.rows import DUE_TABLES, TABLE_OF, Account, Job

LOCKED = "55P03"
_TAKEN = "23505"
_CROSSED = {"40001", "40P01"}
_FUTURE = "22023"  # the number of a transaction of which nothing ever reached the disk
FATE_KNOWN_AFTER_S = 5
_FATE_PAUSE_S = 0.02
SEEN_LIMIT = 10_000

Commands = Sequence[Command[Any]]
Reads = Sequence[Sequence[Key]]


class Ran(NamedTuple):
    """What became of a batch's commands, None where the account is locked elsewhere, and whether jobs were put."""

    outcomes: list[Outcome | None]
    elsewhere: AbstractSet[str]
    has_jobs: bool


class Locked(NamedTuple):
    """The accounts that a transaction has locked, its number, and the clock after that."""

    accounts: Mapping[str, Account]
    elsewhere: AbstractSet[str]
    xid: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Batches:
    """Runs batches on a session. `given_now` replaces the database's clock when a test moves its own."""

    session: Session
    given_now: Callable[[], int] | None
    saw_clock: Callable[[int], None]
    teller: BatchTeller
    seen: set[str] = field(default_factory=set)
    """Accounts that are known to be there: none is ever deleted. One of them that is missing is locked elsewhere."""

    async def run(self, commands: Commands, *, wait_for: str | None = None) -> Ran:
        """One transaction; a second one when the first was lost, or crossed another's way, and left nothing.

        Raises:
            Overloaded: the database is gone, full or too slow; nothing was written unless the message says otherwise.
            psycopg.Error: what it refused, `LOCKED` when something was not to be had in time; nothing was written.
        """
        try:
            return await self._run(commands, wait_for)
        except psycopg.Error as error:
            state = sqlstate(error)
            is_repeatable = isinstance(error, Lost) or state in _CROSSED or (state == _TAKEN and len(commands) == 1)
            if not is_repeatable:
                raise _told(error) from error
        try:
            return await self._run(commands, wait_for)
        except psycopg.Error as error:
            raise _told(error) from error

    async def _run(self, commands: Commands, wait_for: str | None) -> Ran:
        reads = [tuple(command.reads()) for command in commands]
        wire = await self.session.wire()
        try:
            return await self._transact(wire, commands, reads, wait_for)
        except BaseException:
            await _roll_back(wire)
            raise

    async def _transact(self, wire: Wire, commands: Commands, reads: Reads, wait_for: str | None) -> Ran:
        started_s = time.perf_counter()
        wanted = wanted_rows(commands, reads)
        given_ms = self.given_now() if self.given_now is not None else None
        accounts = list(dict.fromkeys(command.account for command in commands))
        locks = _locks(accounts, wait_for)
        loads = _loads(wanted, accounts, given_ms)
        opening = self.session.opening(sql.BEGIN)
        results = await wire.trip([*opening, *locks, *(load.statement for load in loads)])
        del results[: len(opening)]
        locked = await self._locked(wire, accounts, results[: len(locks)], given_ms)
        mine = [n for n, command in enumerate(commands) if command.account not in locked.elsewhere]
        outcomes: list[Outcome | None] = [None] * len(commands)
        if not mine:
            await _roll_back(wire)
            return Ran(outcomes, locked.elsewhere, has_jobs=False)
        del results[: len(locks)]
        latest_ms = max([account.clock_ms for account in locked.accounts.values()], default=0)
        if latest_ms > locked.now_ms:  # the clock went back: an account's own is ahead of it
            results[-len(DUE_TABLES) :] = await wire.trip([load.statement for load in _due_loads(accounts, latest_ms)])
        with uncollected():
            batch = _loaded(locked, wanted, loads, results)
            decided = decide(batch, [commands[n] for n in mine], [reads[n] for n in mine])
            saves = _saves(batch)
        await self._commit(wire, locked.xid, saves)
        self.teller.committed(batch, commands=len(mine), started_s=started_s)
        for n, outcome in zip(mine, decided, strict=True):
            outcomes[n] = outcome
        has_jobs = any(table is Job and row is not None for (table, _), row in batch.changed.items())
        return Ran(outcomes, locked.elsewhere, has_jobs)

    async def _locked(
        self, wire: Wire, accounts: Sequence[str], results: Iterable[Result], given_ms: int | None
    ) -> Locked:
        """Tell the accounts that are not there from those that are locked elsewhere."""
        rows = list(chain.from_iterable(result.rows for result in results))
        found = {row[0]: Account._make(row[:-2]) for row in rows}
        clocks = [row[-2:] for row in rows]
        missing = [account for account in accounts if account not in found]
        elsewhere = self.seen.intersection(missing)
        if not clocks or len(elsewhere) < len(missing):
            there, clock = await wire.trip([sql.existing(_storable(missing)), sql.NOW])
            elsewhere = {row[0] for row in there.rows}
            clocks = clocks or clock.rows  # not a later time than that by which what is due was looked for
        self._see(found)
        now_ms, xid = max(clocks)
        if given_ms is None:
            self.saw_clock(now_ms)
        return Locked(found, elsewhere, xid, now_ms if given_ms is None else given_ms)

    def _see(self, accounts: Iterable[str]) -> None:
        if len(self.seen) > SEEN_LIMIT:
            self.seen.clear()
        self.seen.update(accounts)

    async def _commit(self, wire: Wire, xid: int, saves: Sequence[Statement]) -> None:
        """Save and commit. When the answer is lost, ask what became of the transaction."""
        try:
            await wire.trip([*saves, sql.COMMIT])
        except Lost:
            if not await self._is_committed(xid):
                raise

    async def _is_committed(self, xid: int) -> bool:
        with anyio.move_on_after(FATE_KNOWN_AFTER_S):
            while True:
                try:
                    (result,) = await self.session.trip([sql.fate(xid)])
                except (Overloaded, Lost):
                    pass
                except psycopg.Error as error:
                    if sqlstate(error) == _FUTURE:
                        return False
                    raise
                else:
                    fate = result.rows[0][0]
                    if fate != "in progress":
                        return bool(fate == "committed")
                await anyio.sleep(_FATE_PAUSE_S)
        raise Overloaded(
            "The database was lost while it committed; whether this was written is not known."
            " Repeat the call, it has one effect.",
            retry_after_s=RETRY_AFTER_S,
        )


async def _roll_back(wire: Wire) -> None:
    if wire.is_alive:
        try:
            await wire.trip([sql.ROLLBACK])
        except psycopg.Error:
            await wire.close()


def _told(error: psycopg.Error) -> Exception:
    """Locks are the lanes' business; all else that says "not now" is told to the callers."""
    return translated(error) if isinstance(error, Lost) or (is_busy(error) and sqlstate(error) != LOCKED) else error


def _locks(accounts: Sequence[str], wait_for: str | None) -> list[Statement]:
    locks = []
    if wait_for is not None:
        locks.append(sql.lock([wait_for], waits=True))
    others = _storable(account for account in accounts if account != wait_for)
    if others:
        locks.append(sql.lock(others, waits=False))
    return locks


class _Load(NamedTuple):
    """A statement of the first trip, and what its rows are."""

    statement: Statement
    table: type[Row] | None = None
    is_due: bool = False


def _loads(
    wanted: Mapping[type[Row], Mapping[str, None]], accounts: Sequence[str], given_ms: int | None
) -> list[_Load]:
    loads = []
    if Job in wanted:
        loads.append(_Load(sql.lock_jobs(_storable(wanted[Job]))))
    for table, ids in wanted.items():
        unlocked = ids if table is not Account else ids.keys() - set(accounts)
        if unlocked:
            loads.append(_Load(sql.load(table, _storable(unlocked)), table))
    return loads + _due_loads(accounts, given_ms)


def _due_loads(accounts: Sequence[str], now_ms: int | None) -> list[_Load]:
    mine = _storable(accounts)
    return [_Load(sql.load_due(due.row, mine, now_ms), due.row, is_due=True) for due in DUE_TABLES]


def _loaded(
    locked: Locked, wanted: Mapping[type[Row], Iterable[str]], loads: Sequence[_Load], results: Iterable[Result]
) -> Batch:
    batch = Batch(locked.now_ms)
    found: dict[type[Row], list[Row]] = {table: [] for table in wanted}
    found[Account] += locked.accounts.values()
    due = []
    for load, result in zip(loads, results, strict=True):
        if load.is_due and load.table is not None:
            due.append((load.table, result.rows))
        elif load.table is not None:
            found[load.table] += result.rows
    for table, ids in wanted.items():
        batch.load(table, ids, found[table])
    for table, rows in due:
        batch.load_due(table, rows)
    return batch


def _saves(batch: Batch) -> list[Statement]:
    """One statement for each table and kind of change. What was not there is inserted, and fails if it is by now."""
    inserts: dict[Any, list[Row]] = {}
    updates: dict[Any, list[tuple[Row, Row]]] = {}
    deletes: dict[Any, list[str]] = {}
    for key, row in batch.changed.items():
        table, row_id = key
        before = batch.loaded.get(key)
        if row is None:
            if before is not None:
                deletes.setdefault(table, []).append(row_id)
        elif before is None or TABLE_OF[table].append_only:
            inserts.setdefault(table, []).append(row)
        else:
            updates.setdefault(table, []).append((before, row))
    saves = [sql.delete(table, ids) for table, ids in deletes.items()]
    saves += [changes for table, pairs in updates.items() if (changes := sql.update(table, pairs)) is not None]
    return saves + [sql.insert(table, rows) for table, rows in inserts.items()]


def _storable(ids: Iterable[str]) -> list[str]:
    """PostgreSQL keeps no text with a NUL, so there is no row with such an id."""
    return [row_id for row_id in ids if "\x00" not in row_id]
