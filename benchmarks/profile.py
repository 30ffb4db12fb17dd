"""Where the time of a pair goes on PostgreSQL: microseconds a pair, beside the whole time of one. The ratio is a share.

Python's part is sampled by the time it works; the server's part is what the system books for its processes, and what
the server itself says of its waits for the disk. Where two batches are under way at once, the shares come to more than
the whole.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import anyio
import psycopg
import uvloop

from benchmarks import Bench, Figure, Skipped
from benchmarks.engines import POSTGRES
from benchmarks.pairs import LINES, Batched, call, funded, names_of
from ctxhost.cli.server import settle_heap

TITLE = "Profile: where the time of a pair on PostgreSQL goes"
LOADS = ((32, 1), (256, 1_000))
"""Callers and accounts."""
SAMPLE_S = 0.001
STATISTICS_S = 1.1
"""A server tells its statistics no more than once a second."""
PROC = Path("/proc")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
DECIDING, PACKING, WIRE = "Python decides", "Python packs values", "Python sends and reads"
BATCHING, LOOP, CALLERS = "Python makes batches", "Python's event loop", "the callers themselves"
ROOMS = (DECIDING, BATCHING, PACKING, WIRE, LOOP, CALLERS)
_FACTS = """
select array(select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()),
  (select wal_write_time + wal_sync_time from pg_stat_wal),
  (select xact_commit from pg_stat_database where datname = current_database())
"""
_PACKS = {"text", "texts", "integer", "integers", "param"}


def measure(bench: Bench) -> Iterable[Figure]:
    """Each load. Raises `Skipped` without PostgreSQL, or where processes tell nothing of themselves."""
    engine = bench.engine(POSTGRES)
    if not (PROC / "self" / "stat").exists():
        raise Skipped("It needs a Linux /proc.")
    for callers, accounts in bench.pick(full=LOADS, quick=LOADS, tiny=((2, 1),)):
        with engine.database() as database:
            yield from uvloop.run(_measure(bench, database, callers, accounts))


async def _measure(bench: Bench, database: str, callers: int, accounts: int) -> list[Figure]:
    warm_s, round_s, rest_s = bench.pick(
        full=(2.0, 10.0, STATISTICS_S), quick=(0.5, 3.0, STATISTICS_S), tiny=(0.0, 0.1, 0.0)
    )
    store = await funded(f"{database}&options=-c%20track_wal_io_timing%3Don", accounts=accounts)
    side, names = Batched(store), names_of(accounts)
    server = Server(database)
    samples: Counter[str] = Counter()
    settle_heap()
    await call(side, names, callers=range(callers), round_s=warm_s)

    async def facts() -> Facts:
        await anyio.sleep(rest_s)
        await call(side, names, callers=range(1), round_s=0)  # a server tells when it has something to do
        return server.facts()

    before = await facts()
    started_s = time.thread_time()
    with sampling(samples):
        done = await call(side, names, callers=range(callers), round_s=round_s)
    worked_s = time.thread_time() - started_s
    now = await facts()
    await store.aclose()
    spent_s = {
        **{room: worked_s * samples[room] / max(samples.total(), 1) for room in ROOMS},
        "the server's processes": now.ours_s - before.ours_s,
        "the server's background": max(now.others_s - before.others_s, 0),
        "the server waits for the disk": now.disk_s - before.disk_s,
    }
    spent_s["nobody works"] = max(done.lasted_s - sum(spent_s.values()), 0)
    on = "one account" if accounts == 1 else f"{accounts:,} accounts"
    pairs = len(done.pairs_ms)
    return [
        *_shares(f"{callers} on {on}", spent_s, done.lasted_s, pairs=pairs),
        Figure(
            name=f"{callers} on {on}: writes a commit, of the callers",
            value=round(pairs * (1 + len(LINES)) / (now.commits - before.commits), 1),
            unit="",
            baseline=callers,
        ),
    ]


def _shares(load: str, spent_s: Mapping[str, float], lasted_s: float, *, pairs: int) -> Iterable[Figure]:
    whole = round(lasted_s / pairs * 1e6, 1)
    for room, seconds in spent_s.items():
        yield Figure(name=f"{load}: {room}", value=round(seconds / pairs * 1e6, 1), unit="µs", baseline=whole)


@contextmanager
def sampling(into: "Counter[str]") -> Iterator[None]:
    """Count where this thread is, each time the process has worked for so long.

    What the loop does between two callbacks is counted for the later one.
    """

    def look(_: int, frame: FrameType | None) -> None:
        into[room_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def room_of(frame: FrameType | None) -> str:
    """What is being done, by the innermost module that says it."""
    rooms = []
    while frame is not None:
        path, function = frame.f_code.co_filename, frame.f_code.co_name
        if function == "decide":
            return DECIDING
        if path.endswith("store/postgres_wire.py"):
            rooms.append(PACKING if function in _PACKS else WIRE)
        elif path.endswith("store/postgres_sql.py"):
            rooms.append(PACKING)
        elif "/ctxhost/store/" in path:
            rooms.append(BATCHING)
        elif path.endswith("benchmarks/pairs.py"):
            rooms.append(CALLERS)
        frame = frame.f_back
    return rooms[0] if rooms else LOOP


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server has spent so far."""

    ours_s: float
    others_s: float
    disk_s: float
    commits: int


@dataclass(frozen=True, slots=True)
class Server:
    """The server of a database, looked at from outside."""

    url: str

    def facts(self) -> Facts:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(_FACTS).fetchone()
            postmaster = _parent(connection.info.backend_pid)
        assert found is not None
        ours, disk_ms, commits = found
        spent = dict(_spent_s(postmaster))
        mine = sum(seconds for pid, seconds in spent.items() if pid in ours)
        return Facts(ours_s=mine, others_s=sum(spent.values()) - mine, disk_s=disk_ms / 1_000, commits=commits)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on; the second may hold anything."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _spent_s(parent: int) -> Iterator[tuple[int, float]]:
    """What each child of a process has worked; those that end meanwhile are left out."""
    for child in (PROC / str(parent) / "task" / str(parent) / "children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = _stat(int(child))
            yield int(child), (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
