"""Pairs a second on PostgreSQL: reserve, then two charges that close the lease.

The baseline is the textbook's way, with care: a pool of connections, prepared statements, and for each operation one
transaction that locks the account's row, decides, and writes the same rows. Both sides use the same server with the
same durability, for the same callers; their rounds alternate, so that whatever else the machine does hurts both alike.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
import uvloop
from tests.postgres import NoServer, Server

from benchmarks import Figure, Skipped
from benchmarks.ledger import FUNDS, HOLD, LINES, SECONDS, Batched, Side
from ctxhost.errors import InsufficientCredits
from ctxhost.ids import new_uuid
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store
from ctxhost.store.open import open_store
from ctxhost.store.rows import Entry, Lease

TITLE = "Ledger on PostgreSQL: reserve and two charges, pairs a second"
CALLERS = (1, 32, 256)
ACCOUNTS = (1, 1_000)
TARGETS = {(32, 1): 14.0, (32, 1_000): 8.0, (256, 1): 25.0, (256, 1_000): 10.0}
POOL = 20
INSERT = {
    row: f"insert into {name} ({', '.join(row._fields)}) values ({', '.join(['%s'] * len(row._fields))})"
    for row, name in ((Lease, "lease"), (Entry, "entry"))
}


class Plain:
    """One transaction an operation: begin, select for update, decide, update, insert, commit."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()

    async def open(self) -> None:
        for _ in range(POOL):
            connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=0)
            self._pool.put_nowait(connection)

    async def close(self) -> None:
        for _ in range(POOL):
            await (await self._pool.get()).close()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator["psycopg.AsyncConnection[Any]"]:
        connection = await self._pool.get()
        try:
            await connection.execute("begin")
            yield connection
            await connection.execute("commit")
        finally:
            self._pool.put_nowait(connection)

    async def reserve(self, account: str, lease: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        async with self._transaction() as db:
            sql = "select allowance + credits - held - floor from account where id = %s for update"
            (available,) = await _one(db, sql, account)
            if available < HOLD:
                raise InsufficientCredits(required_nano_usd=HOLD, available_nano_usd=available)
            await db.execute(
                "update account set held = held + %s, clock_ms = %s where id = %s", (HOLD, now_ms, account)
            )
            row = Lease(
                lease, account, "app", "meetings", "open", HOLD, HOLD, "recording,transcription",
                "recording,transcription", "", "{}", 300, 3_600, now_ms + 300_000, now_ms + 3_600_000, now_ms, 0,
            )  # fmt: skip
            await db.execute(INSERT[Lease].encode(), row)

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        async with self._transaction() as db:
            (seq,) = await _one(db, "select seq from account where id = %s for update", account)
            held, lines = await _one(db, "select held, open from lease where id = %s", lease)
            left = [other for other in lines.split(",") if other != line]
            after = held - amount if left else 0
            await db.execute(
                "update account set credits = credits - %s, held = held - %s, seq = seq + 1, clock_ms = %s"
                " where id = %s",
                (amount, held - after, now_ms, account),
            )
            await db.execute(
                "update lease set held = %s, open = %s, state = %s, ended_ms = %s where id = %s",
                (after, ",".join(left), "open" if left else "closed", 0 if left else now_ms, lease),
            )
            row = Entry(
                f"{lease}/{line}", account, seq + 1, "charge", "app", lease, "meetings", line, SECONDS,
                0, -amount, "", "", now_ms,
            )  # fmt: skip
            await db.execute(INSERT[Entry].encode(), row)


async def _one(db: "psycopg.AsyncConnection[Any]", sql: Any, *params: object) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await (await db.execute(sql, params)).fetchone()
    assert row is not None
    return row


@dataclass
class Count:
    """What one side has done so far."""

    pairs_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.pairs_ms) / self.seconds

    def quantile(self, share: float) -> float:
        return sorted(self.pairs_ms)[min(int(len(self.pairs_ms) * share), len(self.pairs_ms) - 1)]


def measure(*, quick: bool) -> Iterable[Figure]:
    """Every number of callers, on one account and on many. Raises `Skipped` when no server can be started."""
    rounds, round_s = (2, 0.7) if quick else (6, 1.5)
    try:
        server = Server({})
    except NoServer as error:
        raise Skipped(str(error)) from error
    with closing(server):
        return uvloop.run(_measure(server, rounds=rounds, round_s=round_s))


async def _measure(server: Server, *, rounds: int, round_s: float) -> list[Figure]:
    store, names = await _prepared(server.create("batched"))
    plain_store, _ = await _prepared(server.create("plain"))
    await plain_store.aclose()
    plain = Plain(server.url("plain"))
    await plain.open()
    figures: list[Figure] = []
    for accounts in ACCOUNTS:
        for callers in CALLERS:
            for database in ("batched", "plain"):
                server.execute("vacuum analyze", database=database)
            ours, base = await _compare(
                Batched(store), plain, names[:accounts], callers=callers, rounds=rounds, round_s=round_s
            )
            figures += _figures(ours, base, callers=callers, accounts=accounts)
    await plain.close()
    await store.aclose()
    return figures


def _figures(ours: Count, base: Count, *, callers: int, accounts: int) -> Iterable[Figure]:
    on = "one account" if accounts == 1 else f"{accounts:,} accounts"
    yield Figure(
        name=f"{callers} callers on {on}",
        value=round(ours.rate),
        unit="/s",
        baseline=round(base.rate),
        target=TARGETS.get((callers, accounts)),
    )
    if callers == 32:
        yield Figure(
            name=f"the slowest of 100 ({callers} callers on {on}) beside the baseline's median",
            value=round(ours.quantile(0.99), 1),
            unit="ms",
            baseline=round(statistics.median(base.pairs_ms), 1),
            target=1.0,
            is_ceiling=True,
        )


async def _prepared(url: str) -> tuple[Store, list[str]]:
    """A store with funded accounts."""
    store = await open_store(url)
    names = [f"acct-{n:04}" for n in range(max(ACCOUNTS))]

    async def fund(name: str) -> None:
        await Ledger(store).open_account("bench", account=name)
        await Ledger(store).grant(name, FUNDS, key="funds")

    await asyncio.gather(*map(fund, names))
    return store, names


async def _compare(
    batched: Side, plain: Side, accounts: Sequence[str], *, callers: int, rounds: int, round_s: float
) -> tuple[Count, Count]:
    """What each side does in rounds that take turns; one before them warms up."""
    counts = Count(), Count()
    for n in range(rounds + 1):
        for side, count in zip((batched, plain), counts, strict=True):
            started = time.perf_counter()
            until = started + (round_s if n else 0.3)
            done = await asyncio.gather(*[_call(side, accounts, caller, until=until) for caller in range(callers)])
            if n:
                count.seconds += time.perf_counter() - started
                count.pairs_ms += [took_ms for some in done for took_ms in some]
    return counts


async def _call(side: Side, accounts: Sequence[str], caller: int, *, until: float) -> list[float]:
    """One caller: pair after pair, until the time is over; how long each took."""
    took_ms: list[float] = []
    now: Callable[[], float] = time.perf_counter
    while (started := now()) < until:
        account, lease = accounts[(caller + len(took_ms) * 7) % len(accounts)], new_uuid()
        await side.reserve(account, lease)
        for line, amount in LINES:
            await side.charge(account, lease, line, amount)
        took_ms.append((now() - started) * 1_000)
    return took_ms
