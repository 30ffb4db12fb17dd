"""Pairs a second of the store alone, on each engine. The baseline is the textbook's ledger on the same engine.

Both sides write the same rows to databases with the same settings, for the same callers; their rounds alternate, so
that whatever else the machine does hurts both alike.
"""

from collections.abc import Iterable

import uvloop

from benchmarks import Bench, Figure
from benchmarks.engines import POSTGRES, SQLITE, Engine
from benchmarks.pairs import Batched, Count, funded, names_of, take_turns
from benchmarks.textbook import textbook
from ctxhost.cli.server import settle_heap

TITLE = "Ledger: reserve and two charges, pairs a second"
CALLERS = (1, 8, 32, 256)
TARGETS = {
    (SQLITE, 32, 1): 10.0,
    (POSTGRES, 32, 1): 14.0,
    (POSTGRES, 32, 1_000): 8.0,
    (POSTGRES, 256, 1): 25.0,
    (POSTGRES, 256, 1_000): 10.0,
}
WAITS_AT = 32
"""With so many callers the slowest of 100 is, on PostgreSQL, to wait no longer than the baseline's median."""


def measure(bench: Bench) -> Iterable[Figure]:
    """Every number of callers, on one account and on many."""
    for engine in bench.engines:
        with engine.database() as ours, engine.database() as base:
            yield from uvloop.run(_measure(bench, engine, ours, base))


async def _measure(bench: Bench, engine: Engine, database: str, other: str) -> list[Figure]:
    rounds, round_s = bench.pick(full=(8, 0.8), quick=(2, 0.4), tiny=(1, 0.01))
    many = bench.pick(full=1_000, quick=1_000, tiny=2)
    store = await funded(database, accounts=many)
    await (await funded(other, accounts=many)).aclose()
    figures: list[Figure] = []
    async with textbook(other) as plain:
        settle_heap()
        for accounts in (1, many):
            for callers in bench.pick(full=CALLERS, quick=(1, 32, 256), tiny=(2,)):
                for place in (database, other):
                    engine.settle(place)
                sides = [Batched(store), plain]
                counts = await take_turns(sides, names_of(accounts), callers=callers, rounds=rounds, round_s=round_s)
                figures += _figures(engine.name, *counts, callers=callers, accounts=accounts)
    await store.aclose()
    return figures


def _figures(engine: str, ours: Count, base: Count, *, callers: int, accounts: int) -> Iterable[Figure]:
    on = "one account" if accounts == 1 else f"{accounts:,} accounts"
    who = "1 caller" if callers == 1 else f"{callers} callers"
    yield Figure(
        name=f"{engine}, {who} on {on}",
        value=round(ours.per_s),
        unit="/s",
        baseline=round(base.per_s),
        target=TARGETS.get((engine, callers, accounts)),
    )
    if callers == WAITS_AT:
        yield Figure(
            name=f"{engine}, {who} on {on}: p99, beside p50",
            value=round(ours.p99_ms, 1),
            unit="ms",
            baseline=round(base.p50_ms, 1),
            target=1.0 if engine == POSTGRES else None,
            is_ceiling=True,
        )
