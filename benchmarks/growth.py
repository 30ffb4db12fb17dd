"""What a bot costs a PostgreSQL database: commits, write-ahead log and room. `python -m benchmarks.growth [--quick]`.

These figures have no baseline beside them: they are counts and sizes, which a busy machine does not change, but for
the last two. docs/scaling.md reckons with them.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg
import uvloop
from rich.console import Console
from rich.table import Table
from tests.contract.traced import Trace, traced
from tests.postgres import Server

import ctxhost_fake
from benchmarks.bulk import put
from ctxhost.clock import WallClock
from ctxhost.ids import new_uuid
from ctxhost.ledger.commands import Charge, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store
from ctxhost.store.open import open_store
from ctxhost.store.rows import TABLES
from ctxhost.store.sqlite import SqliteStore
from ctxhost.testing import Simulation

LINES = ("recording", "transcription")
CROWD = 32
REFERENCES = {"id", "bot", "lease", "message", "provider_id", "recording_id", "transcript_id"}
OF_BOTS = (
    "lease", "entry", "provider_cost", "bot", "handle", "history", "inbound_event", "message", "attempt"
)  # fmt: skip
"""The tables that grow with each bot."""


@dataclass(frozen=True)
class Line:
    what: str
    figure: float
    unit: str


@click.command()
@click.option("--quick", is_flag=True, help="Fewer bots and pairs.")
def main(quick: bool) -> None:
    """Print what a bot, a pair and a backlog cost."""
    bots, pairs = (2_000, 200) if quick else (20_000, 1_000)
    table = Table(title="What a bot costs the database", title_justify="left")
    for heading in ("", "figure"):
        table.add_column(heading, justify="left" if not heading else "right")
    with closing(Server({})) as server:
        for line in uvloop.run(_measure(server, bots=bots, pairs=pairs)):
            table.add_row(line.what, f"{line.figure:,.4g} {line.unit}")
    Console().print(table)


async def _measure(server: Server, *, bots: int, pairs: int) -> Sequence[Line]:
    lines = await _pairs(server, pairs)
    lines += await _lives(server, times=max(bots // 500, 10))
    lines += await _room(server, bots)
    return lines + await _backlog(server)


@contextmanager
def _wal(server: Server) -> Iterator[Callable[[], int]]:
    """How many bytes the server has written to its log since."""
    ((start,),) = server.execute("select pg_current_wal_lsn()::text")
    yield lambda: int(server.execute(f"select pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')")[0][0])


async def _pairs(server: Server, pairs: int) -> list[Line]:
    """A reservation and the two charges that close it, by a lone caller and by a crowd on one account."""
    store = await open_store(server.create("pairs"))
    await Ledger(store).open_account("bench", account="acct")
    await Ledger(store).grant("acct", 10**15, key="funds")
    await _repeat(
        lambda: _pair(store), times=pairs // 4
    )  # so that each page has been touched since the last checkpoint
    with _wal(server) as written:
        await _repeat(lambda: _pair(store), times=pairs)
        lone = written() / pairs
    with _wal(server) as written:
        await asyncio.gather(*[_repeat(lambda: _pair(store), times=pairs // CROWD) for _ in range(CROWD)])
        crowd = written() / (pairs // CROWD * CROWD)
    await store.aclose()
    return [Line("log of a pair, one caller", lone, "bytes"), Line(f"log of a pair, {CROWD} callers", crowd, "bytes")]


async def _repeat(act: Callable[[], Awaitable[None]], *, times: int) -> None:
    for _ in range(times):
        await act()


async def _pair(store: Store) -> None:
    lease = new_uuid()
    reserve = Reserve(
        account="acct", app="app", lease=lease, purpose="meetings", amount=65_000_000, dimensions=LINES,
        rate_card="{}", paid_for_s=300, hold_s=3_600,
    )  # fmt: skip
    await store.write(reserve)
    for line in LINES:
        await store.write(Charge(account="acct", lease=lease, dimension=line, quantity=44, amount=7_333_333))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as name:
        yield Path(name)


async def _live(url: str, script: str, *, times: int, after_first: Callable[[], object] = lambda: None) -> None:
    """Bots with an endpoint that accepts everything, one after the other from the start to the end of their lives."""
    with _folder() as folder:
        plugin_settings = {"fake": {"enabled": True, "script": script}}
        async with Simulation(folder, plugins=[ctxhost_fake], plugin_settings=plugin_settings, database=url) as sim:
            tenant = await sim.open_tenant()
            await sim.receive(tenant)
            for n in range(times):
                await sim.start(tenant)
                await sim.run()
                if not n:
                    after_first()


async def _lives(server: Server, *, times: int) -> list[Line]:
    """A bot of 44 seconds, and what a minute more costs. No other bot shares its commits, which is the dearest case."""
    minutes = 10_800 / 60
    with traced() as trace, _wal(server) as written:
        before: list[int] = []
        url = server.create("lives")
        await _live(url, "happy", times=times + 1, after_first=lambda: before.extend([*_count(trace), written()]))
        commits, trips, log = [
            (now - then) / times for now, then in zip([*_count(trace), written()], before, strict=True)
        ]
    with traced() as trace, _wal(server) as written:
        first: list[int] = []
        url = server.create("long")
        await _live(url, "three_hours", times=2, after_first=lambda: first.extend([*_count(trace), written()]))
        long_commits, _, long_log = [now - then for now, then in zip([*_count(trace), written()], first, strict=True)]
    return [
        Line("commits of a bot's life", commits, ""),
        Line("trips of a bot's life", trips, ""),
        Line("log of a bot's life", log / 1_024, "KiB"),
        Line("commits of a minute in the call", (long_commits - commits) / minutes, ""),
        Line("log of a minute in the call", (long_log - log) / minutes / 1_024, "KiB"),
    ]


def _count(trace: Trace) -> list[int]:
    """Commits and trips so far."""
    kept = [sent for sent in trace.sent if not sent.is_hint]
    return [sum(sent.sql == "commit" for sent in kept), len({sent.trip for sent in kept})]


async def _room(server: Server, bots: int) -> list[Line]:
    """The rows of one bot's life, so many times over: with indexes, as they are after being written in order."""
    url = server.create("room")
    await _live(url, "happy", times=1)
    ((bot,),) = server.execute("select id from bot", database="room")
    before = _sizes(server)
    for name in OF_BOTS:
        server.execute(_multiplied(name, bot, bots), database="room")
    server.execute("vacuum analyze", database="room")
    sizes = {name: (size - before[name]) / bots for name, size in _sizes(server).items()}
    rows = {name: server.execute(f"select count(*) from {name}", database="room")[0][0] / bots for name in OF_BOTS}
    lines = [Line(f"room for a bot: {name}, {rows[name]:.0f} rows", sizes[name], "bytes") for name in OF_BOTS]
    return [*lines, Line("room for a bot", sum(sizes.values()), "bytes"), await _room_on_sqlite(url, bots)]


def _sizes(server: Server) -> dict[str, int]:
    return {name: server.execute(f"select pg_total_relation_size('{name}')", database="room")[0][0] for name in OF_BOTS}


def _multiplied(name: str, bot: str, times: int) -> str:
    """Insert a table's rows again and again under other ids: those that are made in order stay in order."""
    row: Any = next(table.row for table in TABLES if table.name == name)
    fresh = f"replace({{0}}, '{bot}', left('{bot}', 24) || lpad(to_hex(n), 12, '0'))"
    derived = "left({0}, 4) || left(md5({0} || n), length({0}) - 4)"
    columns = []
    for column, kind in row.__annotations__.items():
        if column in REFERENCES:
            changed = f"case when {{0}} = '' then '' when {{0}} like '%{bot}%' then {fresh} else {derived} end"
            columns.append(changed.format(column))
        elif column == "seq":
            columns.append("seq + n * 10")
        else:
            columns.append(f"{column} + n * 1000" if column.endswith("_ms") and kind is int else column)
    numbers = f"generate_series(1, {times}) as n"
    of_the_bot = " where kind = 'charge'" if name == "entry" else ""
    values = f"select {', '.join(columns)} from {numbers}, {name}{of_the_bot}"
    return f"insert into {name} ({', '.join(row._fields)}) {values}"


async def _room_on_sqlite(url: str, bots: int) -> Line:
    with _folder() as folder, psycopg.connect(url) as source:
        path = folder / "room.db"
        await SqliteStore(path, clock=WallClock()).aclose()
        empty = path.stat().st_size
        for table in TABLES:
            if table.name in OF_BOTS:
                rows: Any = table.row
                read = source.execute(f"select {', '.join(rows._fields)} from {table.name}".encode())
                put(str(path), list(map(rows._make, read)))
        with closing(sqlite3.connect(path)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
        return Line("room for a bot on SQLite", (path.stat().st_size - empty) / bots, "bytes")


async def _backlog(server: Server) -> list[Line]:
    """A look for jobs while a lane is full, and so many of its jobs wait."""
    url, lines = server.create("backlog"), []
    store = await open_store(url)
    put_jobs = """
        insert into job select 'deliver/' || n, '', 'deliver', 'deliver/app', n::text, 0, 1,
          case when n <= 16 then 32503680000000 else 0 end, 0, 1
        from generate_series({first}, {last}) as n"""
    had = 0
    for waiting in (0, 1_000, 10_000, 100_000):
        server.execute(put_jobs.format(first=had + 1, last=16 + waiting), database="backlog")
        had = 16 + waiting
        server.execute("vacuum analyze job", database="backlog")
        took_ms = []
        for _ in range(20):
            started = time.perf_counter()
            jobs, _ = await store.claim(["deliver", "read"], limit=128, per_lane=16, hold_s=60)
            took_ms.append((time.perf_counter() - started) * 1_000)
            assert not jobs
        lines.append(Line(f"a look for jobs, {waiting:,} waiting in a full lane", statistics.median(took_ms), "ms"))
    await store.aclose()
    return lines


if __name__ == "__main__":
    main()
