"""The ledger as a textbook has it, with care: one transaction for each operation, which locks the account's row,
decides, and writes the same rows as ours. What the ledger's benchmarks compare with.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg

from benchmarks.pairs import HOLD, HOLD_S, LINES, PAID_FOR_S, SECONDS, Side
from ctxhost.errors import InsufficientCredits
from ctxhost.settings import is_url
from ctxhost.store.rows import TABLE_OF, Entry, Lease
from ctxhost.store.sqlite import CHECKPOINT_PAGES

POOL = 20
Row = tuple[Any, ...]
Psycopg = psycopg.AsyncConnection[Any]


def textbook(database: str) -> AbstractAsyncContextManager[Side]:
    """The baseline on a database that has the schema and the accounts."""
    return _on_postgres(database) if is_url(database) else _on_sqlite(database)


def insert_of(table: Any, mark: str) -> str:
    names = table._fields
    return f"insert into {TABLE_OF[table].name} ({', '.join(names)}) values ({', '.join([mark] * len(names))})"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _check(available: int) -> None:
    if available < HOLD:
        raise InsufficientCredits(required_nano_usd=HOLD, available_nano_usd=available)


def _lease(lease: str, account: str, now_ms: int) -> Lease:
    lines = ",".join(line for line, _ in LINES)
    return Lease(
        lease, account, "app", "meetings", "open", HOLD, HOLD, lines, lines, "", "{}", PAID_FOR_S, HOLD_S,
        now_ms + PAID_FOR_S * 1_000, now_ms + HOLD_S * 1_000, now_ms, 0,
    )  # fmt: skip


def _entry(lease: str, account: str, seq: int, line: str, amount: int, now_ms: int) -> Entry:
    return Entry(
        f"{lease}/{line}", account, seq, "charge", "app", lease, "meetings", line, SECONDS, 0, -amount, "", "", now_ms
    )


def _after_charge(held: int, lines: str, line: str, amount: int) -> tuple[int, str]:
    """What the lease still holds, and the lines that are left."""
    left = ",".join(other for other in lines.split(",") if other != line)
    return held - amount if left else 0, left


@asynccontextmanager
async def _on_sqlite(path: str) -> AsyncIterator[Side]:
    plain = PlainSqlite(path)
    try:
        yield plain
    finally:
        plain.close()


class PlainSqlite:
    """Begin, select, decide, update, insert, commit, in a thread of its own."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma synchronous = full")
        self._db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        self._db.close()

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()

    async def _transaction(self, operation: Callable[..., None], *given: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            self._db.execute("begin immediate")
            operation(*given)
            self._db.execute("commit")
            loop.call_soon_threadsafe(done.set_result, None)

        self._work.put(work)
        await done

    async def reserve(self, account: str, lease: str) -> None:
        await self._transaction(self._reserve, account, lease)

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        await self._transaction(self._charge, account, lease, line, amount)

    def _one(self, sql: str, *given: object) -> Row:
        row: Row = self._db.execute(sql, given).fetchone()
        return row

    def _reserve(self, account: str, lease: str) -> None:
        now_ms = _now_ms()
        _check(*self._one("select allowance + credits - held - floor from account where id = ?", account))
        self._db.execute("update account set held = held + ?, clock_ms = ? where id = ?", (HOLD, now_ms, account))
        self._db.execute(insert_of(Lease, "?"), _lease(lease, account, now_ms))

    def _charge(self, account: str, lease: str, line: str, amount: int) -> None:
        now_ms = _now_ms()
        (seq,) = self._one("select seq from account where id = ?", account)
        held, lines = self._one("select held, open from lease where id = ?", lease)
        after, left = _after_charge(held, lines, line, amount)
        self._db.execute(
            "update account set credits = credits - ?, held = held - ?, seq = seq + 1, clock_ms = ? where id = ?",
            (amount, held - after, now_ms, account),
        )
        self._db.execute(
            "update lease set held = ?, open = ?, state = ?, ended_ms = ? where id = ?",
            (after, left, "open" if left else "closed", 0 if left else now_ms, lease),
        )
        self._db.execute(insert_of(Entry, "?"), _entry(lease, account, seq + 1, line, amount, now_ms))


@asynccontextmanager
async def pool(url: str) -> AsyncIterator["asyncio.LifoQueue[Psycopg]"]:
    """Connections that prepare what they are asked."""
    connections = [
        await Psycopg.connect(url, autocommit=True, prepare_threshold=0, application_name="textbook")
        for _ in range(POOL)
    ]
    free: asyncio.LifoQueue[Psycopg] = asyncio.LifoQueue()
    for connection in connections:
        free.put_nowait(connection)
    try:
        yield free
    finally:
        for connection in connections:
            await connection.close()


@asynccontextmanager
async def _on_postgres(url: str) -> AsyncIterator[Side]:
    async with pool(url) as free:
        yield PlainPostgres(free)


class PlainPostgres:
    """Begin, select for update, decide, update, insert, commit, on a pool of connections."""

    def __init__(self, free: "asyncio.LifoQueue[Psycopg]") -> None:
        self._free = free

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Psycopg]:
        connection = await self._free.get()
        try:
            await connection.execute("begin")
            yield connection
            await connection.execute("commit")
        finally:
            self._free.put_nowait(connection)

    async def reserve(self, account: str, lease: str) -> None:
        now_ms = _now_ms()
        async with self._transaction() as db:
            sql = "select allowance + credits - held - floor from account where id = %s for update"
            _check(*await _one(db, sql, account))
            await db.execute(
                "update account set held = held + %s, clock_ms = %s where id = %s", (HOLD, now_ms, account)
            )
            await db.execute(insert_of(Lease, "%s").encode(), _lease(lease, account, now_ms))

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        now_ms = _now_ms()
        async with self._transaction() as db:
            (seq,) = await _one(db, "select seq from account where id = %s for update", account)
            held, lines = await _one(db, "select held, open from lease where id = %s", lease)
            after, left = _after_charge(held, lines, line, amount)
            await db.execute(
                "update account set credits = credits - %s, held = held - %s, seq = seq + 1, clock_ms = %s"
                " where id = %s",
                (amount, held - after, now_ms, account),
            )
            await db.execute(
                "update lease set held = %s, open = %s, state = %s, ended_ms = %s where id = %s",
                (after, left, "open" if left else "closed", 0 if left else now_ms, lease),
            )
            await db.execute(insert_of(Entry, "%s").encode(), _entry(lease, account, seq + 1, line, amount, now_ms))


async def _one(db: Psycopg, sql: Any, *params: object) -> Row:
    row: Row | None = await (await db.execute(sql, params)).fetchone()
    assert row is not None
    return row
