"""Every occasion of `occasions`, traced on a full database and carried out again, statement by statement, on a copy."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
from tests.contract import occasions
from tests.contract.engines import template
from tests.contract.filled import ROWS, statements
from tests.contract.plans import Plan, PostgresPlans, SqlitePlans, replayed
from tests.contract.traced import Sent, Trace, traced
from tests.postgres import server

from ctxhost.clock import month_of
from ctxhost.store import Store
from ctxhost.store.open import open_store
from ctxhost.store.sqlite import SqliteStore

_NUMBERS = (
    f"(with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n < {ROWS - 1})"
    " select n from numbers)"
)


Done = Mapping[str, Sequence[Plan]]
"""By occasion: its statements, carried out."""


@dataclass(frozen=True)
class Trial:
    """What one engine did on each occasion, with plans of different times."""

    sent: Mapping[str, Sequence[Sent]]
    made_by: Collection[str]
    """The functions of the engine's SQL modules that were called for it."""
    empty: Done
    """Plans that were made while every table was empty, and kept."""
    full: Done
    """Made when the tables were full, and the engine had not counted anything yet."""
    analyzed: Done
    """Made when the engine had gathered its statistics."""

    @property
    def times(self) -> Mapping[str, Done]:
        return {"empty": self.empty, "full": self.full, "analyzed": self.analyzed}


@cache
def trial(engine: str) -> Trial:
    return _sqlite() if engine == "sqlite" else _postgres()


def _sqlite() -> Trial:
    now_ms = occasions.started_now().now_ms()
    with tempfile.TemporaryDirectory(prefix="ctxhost-plans-") as name:
        folder = Path(name)
        asyncio.run(_closed(folder / "empty.db"))
        shutil.copyfile(folder / "empty.db", folder / "full.db")
        with closing(sqlite3.connect(folder / "full.db")) as db, db:
            for sql in statements(now_ms=now_ms, period=month_of(now_ms), numbers=_NUMBERS):
                db.execute(sql)
        for copy in ("traced.db", "analyzed.db"):
            shutil.copyfile(folder / "full.db", folder / copy)
        sent, made_by = asyncio.run(_traced(str(folder / "traced.db"), now_ms))
        with closing(sqlite3.connect(folder / "analyzed.db")) as db:
            db.execute("analyze")
        with closing(SqlitePlans(folder / "empty.db")) as plans:
            empty = _only_planned(plans, sent)
        with closing(SqlitePlans(folder / "full.db")) as plans:
            full = _carried_out(plans, sent)
        with closing(SqlitePlans(folder / "analyzed.db")) as plans:
            return Trial(sent, made_by, empty, full, _carried_out(plans, sent))


async def _closed(path: Path) -> None:
    await SqliteStore(path, clock=occasions.started_now()).aclose()


def _postgres() -> Trial:
    now_ms = occasions.started_now().now_ms()
    names = [f"plans_{name}" for name in ("traced", "full", "analyzed", "empty")]
    traced_in, full_in, analyzed_in, empty_in = names
    try:
        _fill(server().create(traced_in, template=template()), now_ms)
        for name in (full_in, analyzed_in):
            server().create(name, template=traced_in)
        server().create(empty_in, template=template())
        sent, made_by = asyncio.run(_traced(server().url(traced_in), now_ms))
        server().execute("analyze", database=analyzed_in)
        with closing(PostgresPlans(server().url(empty_in))) as plans:
            _only_planned(plans, sent)
            _fill(server().url(empty_in), now_ms, rows=ROWS // 5)
            empty = _carried_out(plans, sent)
        with closing(PostgresPlans(server().url(full_in))) as plans:
            full = _carried_out(plans, sent)
        with closing(PostgresPlans(server().url(analyzed_in))) as plans:
            return Trial(sent, made_by, empty, full, _carried_out(plans, sent))
    finally:
        for name in names:
            server().drop(name)


def _fill(url: str, now_ms: int, *, rows: int = ROWS) -> None:
    with psycopg.connect(url) as db:
        numbers = f"generate_series(0, {rows - 1}) as n"
        for sql in statements(now_ms=now_ms, period=month_of(now_ms), numbers=numbers):
            db.execute(sql.encode())


async def _traced(database: str, now_ms: int) -> tuple[Mapping[str, Sequence[Sent]], Collection[str]]:
    """What a store sends on each occasion, and whose SQL it is."""
    clock = None if "://" in database else occasions.started_now()
    with traced() as trace:
        store = await open_store(database, clock=clock)
        sent = {name: await _of(trace, store, act) for name, act in _occasions(now_ms).items()}
        await store.aclose()
    return sent, trace.made_by


def _occasions(now_ms: int) -> Mapping[str, occasions.Occasion]:
    asked = {
        name: _one_after_the_other([occasions.asked(query) for query in queries])
        for name, queries in occasions.reads(now_ms).items()
    }
    return {**asked, **occasions.engine()}


def _one_after_the_other(acts: Sequence[occasions.Occasion]) -> occasions.Occasion:
    async def act(store: Store) -> None:
        for one in acts:
            await one(store)

    return act


async def _of(trace: Trace, store: Store, act: occasions.Occasion) -> Sequence[Sent]:
    trace.take()
    await act(store)
    return trace.take()


Plans = PostgresPlans | SqlitePlans


def _carried_out(plans: Plans, sent: Mapping[str, Sequence[Sent]]) -> Mapping[str, Sequence[Plan]]:
    return {name: replayed(plans, one) for name, one in sent.items()}


def _only_planned(plans: Plans, sent: Mapping[str, Sequence[Sent]]) -> Mapping[str, Sequence[Plan]]:
    plan: Callable[[Sent], Plan] = plans.only_planned
    return {name: [plan(one) for one in some if one.is_plannable] for name, some in sent.items()}
