"""The embedded engine: one writer thread with one connection, readers beside it, full durability.

Loads and saves of a batch are set-based: many small statements from a writer thread collapse under load, because each
hands the interpreter lock back and forth.
"""

import asyncio
import fcntl
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sqlite_utils import Database, Migrations

from ctxhost.clock import Clock
from ctxhost.errors import Overloaded, StoreError
from ctxhost.observe.records import BatchRecord
from ctxhost.store import LOOK_AGAIN_MS, Command, Query
from ctxhost.store import sqlite_tables as tables
from ctxhost.store.batch import Batch, Outcome, decide, uncollected, wanted_rows
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.observed import BatchTeller
from ctxhost.store.queue import CLOSING, Queue
from ctxhost.store.rows import Job, kept_for

T = TypeVar("T")

BUSY_TIMEOUT_S = 5
READERS = 2
CHECKED_BYTES = 64 * 2**20  # half a second
CHECKPOINT_PAGES = 4_000  # a page that changes often is copied back once, not each time
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY}


class SqliteStore:
    """A `Store` on one SQLite file. Any number of processes may open the file; the writes of each are safe.

    Raises:
        StoreError: the file is not a database of this version or an older one, is damaged, or cannot be written.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._clock = clock
        self._path = path
        self._host_mark: BinaryIO | None = None
        prepare(path)
        self._writer = _Workers([_open(path)], name="ctxhost-writer")
        self._readers = _Workers([_open(path, read_only=True) for _ in range(READERS)], name="ctxhost-reader")
        self._queue = Queue([self._run])
        self._on_jobs: list[Callable[[], None]] = []
        self._teller = BatchTeller("main")

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def write(self, command: Command[T]) -> T:
        return await self._queue.submit(command)

    async def read(self, query: Query[T]) -> T:
        return await self._readers.call(lambda db: query.shape(_fetch(db, query)))

    async def claim(
        self, kinds: Sequence[str], *, limit: int, per_lane: int, hold_s: int
    ) -> tuple[Sequence[Job], int | None]:
        asked = {"kinds": json.dumps(list(kinds)), "limit": limit, "per_lane": per_lane, "scan": limit * 16}
        return await self._writer.call(lambda db: tables.claim(db, asked, now_ms=self.now_ms(), hold_s=hold_s))

    async def recover(self) -> None:
        """Give back the jobs that dead hosts had claimed, when no other host is alive on this file."""
        await self._writer.call(self._recover)

    def _recover(self, db: sqlite3.Connection) -> None:
        # Living hosts share a lock on a file beside the database: who gets it alone knows that the others are dead.
        if self._host_mark is None:
            self._host_mark = self._path.with_name(f"{self._path.name}-hosts").open("ab")
        try:
            fcntl.flock(self._host_mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            db.execute("update job set claimed_until_ms = 0 where claimed_until_ms > 0")
        fcntl.flock(self._host_mark, fcntl.LOCK_SH)

    async def prune(self, *, keep_s: Mapping[str, int] | None = None, limit: int = 500) -> int:
        """Delete rows that were kept as long as their table promises, at most `limit` of a table; returns how many."""
        pruned = 0
        for table, kept_s in kept_for(keep_s or {}):
            until_ms = self.now_ms() - kept_s * 1_000
            pruned += await self._writer.call(partial(tables.prune, table=table, until_ms=until_ms, limit=limit))
        return pruned

    def on_jobs(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit that put jobs which fall due within `LOOK_AGAIN_MS`."""
        self._on_jobs.append(wake)

    def on_batch(self, tell: Callable[[BatchRecord], None]) -> None:
        self._teller.add(tell)

    def waiting(self) -> int:
        return self._queue.waiting()

    async def aclose(self, *, drain_s: float = 10) -> None:
        await self._queue.aclose(drain_s=drain_s)
        await self._writer.aclose()
        await self._readers.aclose()
        await self._queue.idle()
        if self._host_mark is not None:
            self._host_mark.close()

    async def _run(self, commands: Sequence[Command[Any]]) -> Sequence[Outcome]:
        started_s = time.perf_counter()
        outcomes, has_jobs, batch = await self._writer.call(lambda db: _transact(db, commands, self._clock))
        self._teller.committed(batch, commands=len(commands), started_s=started_s)
        if has_jobs:
            for wake in self._on_jobs:
                asyncio.get_running_loop().call_soon(wake)  # its failure is not the batch's
        return outcomes


_Call = tuple[Callable[[sqlite3.Connection], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class _Workers:
    """Threads, each the owner of a connection, that take functions to run on it from one queue."""

    def __init__(self, connections: Sequence[sqlite3.Connection], *, name: str) -> None:
        self._connections = connections
        self._work: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, args=(connection,), name=f"{name}-{n}", daemon=True)
            for n, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    async def call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise Overloaded(CLOSING)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._work.put((function, loop, answer))
        return await answer

    def _loop(self, connection: sqlite3.Connection) -> None:
        while (item := self._work.get()) is not None:
            function, loop, answer = item
            value, error = None, None
            try:
                value = function(connection)
            except BaseException as raised:  # noqa: BLE001 - handed to the caller, whatever it is
                error = _translated(raised)
            try:
                loop.call_soon_threadsafe(_settle, answer, value, error)
            except RuntimeError:  # the caller's loop is gone, and so is the caller
                continue

    async def aclose(self) -> None:
        """Finish what was asked for before, then end."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._work.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        # One after the other: of two that close at once each sees the other, and none of them puts the log, which holds
        # the last commits, into the file.
        for connection in self._connections:
            connection.close()


def _settle(answer: "asyncio.Future[Any]", value: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)


def _translated(error: BaseException) -> BaseException:
    """A database that has no room or is locked for long is a busy host to its caller, not a crash."""
    if not isinstance(error, sqlite3.OperationalError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _NO_ROOM:
        busy = Overloaded(f"The database cannot write now ({error}); nothing was written.", retry_after_s=5)
    elif code == sqlite3.SQLITE_IOERR:
        busy = Overloaded(f"The database failed ({error}); repeat the call, it has one effect.", retry_after_s=5)
    else:
        return error
    busy.__cause__ = error
    return busy


def _open(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            _set_up(connection, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be used as the database: {error}") from error
    return connection


def _set_up(connection: sqlite3.Connection, *, read_only: bool) -> None:
    connection.execute("pragma synchronous = full")
    connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("pragma fullfsync = on")  # macOS: a sync that reaches the disk
    if read_only:
        connection.execute("pragma query_only = on")


def prepare(path: Path, *, steps: Sequence[Step] | None = None) -> None:
    """Make the file when it is missing, and bring it to this version's schema, or these steps. Raises `StoreError`."""
    with closing(_open(path)) as connection:
        _migrate(connection, path, steps)


def _migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] | None = None) -> None:
    """Bring the file to this version's schema; each step is recorded with what it did."""
    try:
        _check(connection, path)
        connection.execute("begin immediate")
        _apply(Database(connection), path, STEPS if steps is None else steps)
        connection.execute("commit")
        connection.execute("pragma journal_mode = wal")  # kept in the file; only now is it known to be ours
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be used as the database: {error}") from error
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Look at every page, unless that would make starting slow: then SQLite finds damage when it reads it."""
    if path.stat().st_size <= CHECKED_BYTES:
        (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"{path} is damaged ({' '.join(verdict.split())}); restore it from a backup.")


def _apply(database: Database, path: Path, steps: Sequence[Step]) -> None:
    migrations = _migrations(steps)
    if database.table_names() and not database[migrations.migrations_table].exists():
        raise StoreError(f"{path} is a database of another program; name another file.")
    known = {step.name for step in steps}
    newer = [done.name for done in migrations.applied(database) if done.name not in known]
    if newer:
        raise StoreError(f"{path} was made by a newer ctxhost (it has step {newer[0]}); install that version.")
    migrations.apply(database)


def _migrations(steps: Sequence[Step]) -> Migrations:
    migrations = Migrations("ctxhost")
    for step in steps:
        statements = [sql.format(int="integer", text="text", strict=" strict") for sql in step.statements]

        def run(database: Database, statements: Sequence[str] = statements) -> None:
            for sql in statements:
                database.conn.execute(sql)

        migrations(name=step.name)(run)
    return migrations


def _fetch(db: sqlite3.Connection, query: Query[Any]) -> list[tuple[Any, ...]]:
    return db.execute(query.sql, dict(query.params)).fetchall()


def _transact(
    db: sqlite3.Connection, commands: Sequence[Command[Any]], clock: Clock
) -> tuple[list[Outcome], bool, Batch]:
    """One batch, one transaction. Returns the outcomes, whether jobs were put that fall due soon, and what it saved."""
    reads = [tuple(command.reads()) for command in commands]
    db.execute("begin immediate")
    try:
        batch = Batch(clock.now_ms())  # read after the lock was taken
        with uncollected():
            tables.load(db, batch, wanted_rows(commands, reads))
            outcomes = decide(batch, commands, reads)
            tables.save(db, batch)
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    soon_ms = clock.now_ms() + LOOK_AGAIN_MS
    return outcomes, any(isinstance(row, Job) and row.due_ms <= soon_ms for row in batch.changed.values()), batch
