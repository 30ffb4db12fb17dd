"""Pairs a second by several hosts on one PostgreSQL. The baseline is one host with all the callers.

Each host is a store in a process of its own. The rounds of one host and of several take turns.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvloop

from benchmarks import Bench, Figure
from benchmarks.engines import POSTGRES
from benchmarks.pairs import Batched, Count, call, funded, names_of
from benchmarks.servers import Work, worker
from ctxhost.cli.server import settle_heap
from ctxhost.store.open import open_store

TITLE = "Hosts: several on one PostgreSQL, beside one, pairs a second"
HOSTS = (2, 4, 8)
ACCOUNTS = 1_000
TARGET = 0.7


@dataclass(frozen=True, slots=True)
class Load:
    """How many call in all, on how many accounts, and how many hosts they share."""

    callers: int
    accounts: int
    hosts: Sequence[int]
    is_split: bool = False
    """Each host has accounts of its own."""
    target: float | None = None

    def name(self, hosts: int) -> str:
        on = "one account" if self.accounts == 1 else f"{self.accounts:,} accounts"
        split = ", each with its own" if self.is_split else ""
        return f"{hosts} hosts, {self.callers} callers on {on}{split}"


LOADS = (
    Load(64, ACCOUNTS, HOSTS, target=TARGET),
    Load(256, ACCOUNTS, HOSTS, target=TARGET),
    Load(256, ACCOUNTS, HOSTS[-1:], is_split=True),
    Load(64, 1, HOSTS[:1]),
)
TINY = (Load(2, 2, (2,)), Load(2, 2, (2,), is_split=True))


@asynccontextmanager
async def host(database: str) -> AsyncIterator[Work]:
    """One of the hosts; an order is the callers' numbers, the accounts and how long."""
    store = await open_store(database)

    async def work(callers: Sequence[int], accounts: Sequence[str], round_s: float) -> Count:
        return await call(Batched(store), accounts, callers=callers, round_s=round_s)

    settle_heap()
    try:
        yield work
    finally:
        await store.aclose()


def measure(bench: Bench) -> Iterable[Figure]:
    """Each number of hosts beside one, for each load. Raises `Skipped` without PostgreSQL."""
    engine = bench.engine(POSTGRES)
    loads = bench.pick(full=LOADS, quick=LOADS, tiny=TINY)
    with engine.database() as database, ExitStack() as stack:
        uvloop.run(_fund(database, max(load.accounts for load in loads)))
        hosts = max(number for load in loads for number in load.hosts)
        crew = [stack.enter_context(worker(host, database)) for _ in range(hosts)]
        for load in loads:
            engine.settle(database)
            yield from _figures(bench, crew, load)


async def _fund(database: str, accounts: int) -> None:
    await (await funded(database, accounts=accounts)).aclose()


def _figures(bench: Bench, crew: Sequence[Connection], load: Load) -> Iterable[Figure]:
    rounds, round_s = bench.pick(full=(8, 1.0), quick=(2, 0.4), tiny=(1, 0.01))
    counts = {number: Count() for number in (1, *load.hosts)}
    for turn in range(rounds + 1):
        for number, count in counts.items():
            done = _round(crew[:number], load, round_s=round_s if turn else round_s / 2)
            if turn:  # the first warms up
                count.pairs_ms += done.pairs_ms
                count.lasted_s += done.lasted_s
    for number in load.hosts:
        yield Figure(
            name=load.name(number),
            value=round(counts[number].per_s),
            unit="/s",
            baseline=round(counts[1].per_s),
            target=load.target,
        )


def _round(crew: Sequence[Connection], load: Load, *, round_s: float) -> Count:
    """All at once, until the last is done."""
    accounts = names_of(load.accounts)
    for number, pipe in enumerate(crew):
        own = accounts[number :: len(crew)] if load.is_split else accounts
        pipe.send((range(number, load.callers, len(crew)), own, round_s))
    done: list[Count] = [pipe.recv() for pipe in crew]
    return Count([took_ms for count in done for took_ms in count.pairs_ms], max(count.lasted_s for count in done))
