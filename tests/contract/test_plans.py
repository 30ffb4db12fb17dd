"""Every statement is served by the index that docs/scaling.md names, however full its tables are, or once were."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest
from tests.contract import documented, occasions
from tests.contract.engines import ENGINES, template
from tests.contract.filled import DUE
from tests.contract.plans import Plan
from tests.contract.traced import SQL_MODULES, makers
from tests.contract.trials import trial
from tests.postgres import server

import ctxhost
from ctxhost.ledger.commands import Tick
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Query, queries
from ctxhost.store.open import open_store
from ctxhost.store.queue import SPLIT_AT
from ctxhost.store.rows import TABLES, Account

ROOT = Path(ctxhost.__file__).parent
SERVED = "Which index serves which query"
COSTS = "What a write costs"
ELSEWHERE = {"store/queries.py", "ledger/verify.py", "doctor.py", "api/health.py"}
"""Where queries are made. Verifying and examining read whole tables; the health check reads none."""
NEEDS_NO_PLAN = {
    "fate": "asks what became of a transaction, and reads no table",
    "numbered": "writes a query in PostgreSQL's way",
}
PAGED = {"open_leases", "entries", "usage", "bots_page", "owed", "messages_page"}
CLAIMS = {"claim jobs", "the next job that falls due"}
A_ROW = {"postgres": 8, "sqlite": 200}
"""What a row that is given, or written, may cost: rows read (a join reads one of each table), or steps."""
A_STATEMENT = {"postgres": 64, "sqlite": 2_000}
"""What it may cost besides: far less than its tables hold."""
A_DUE_JOB = {"postgres": 2, "sqlite": 50}

engines = pytest.mark.parametrize("engine_name", list(ENGINES))


def every_plan(engine_name: str) -> Iterator[tuple[str, str, Plan]]:
    for time, done in trial(engine_name).times.items():
        for occasion, plans in done.items():
            yield from ((time, occasion, plan) for plan in plans)


def told(heading: str, lines: Sequence[str]) -> str:
    """What to put into the page."""
    return "\n".join([f"docs/scaling.md should say under {heading!r}:", *lines])


def test_every_read_is_tried() -> None:
    """A new function of `queries` has to be tried here before it is used."""
    made = inspect.getmembers(queries, inspect.isfunction)
    public = {
        name for name, function in made if not name.startswith("_") and "Query" in str(inspect.signature(function))
    }

    assert public - occasions.GENERIC == {occasion.split()[0] for occasion in occasions.reads(0)}


def test_reads_are_in_one_place() -> None:
    """Nobody makes a query elsewhere, so that none escapes this file."""
    makers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _called(node) == Query.__name__
    }

    assert makers == ELSEWHERE


def _called(node: ast.Call) -> str:
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return function.id if isinstance(function, ast.Name) else ""


def test_every_statement_of_the_engines_is_tried() -> None:
    """What `queries` does not name is sent on one of the occasions."""
    public = {name for module in SQL_MODULES for name in makers(module)}
    tried = {name for engine_name in ENGINES for name in trial(engine_name).made_by}

    assert set() == public - tried - NEEDS_NO_PLAN.keys()


def test_the_indexes_are_those_of_the_page() -> None:
    """The table of docs/scaling.md says what both engines do; where one needs an index less, the other's counts."""
    used: dict[str, frozenset[str]] = {}
    for engine_name in ENGINES:
        for _, occasion, plan in every_plan(engine_name):
            line = documented.line_of(occasion)
            used[line] = used.get(line, frozenset()) | plan.indexes

    found = [documented.index_line(*one) for one in used.items()]
    assert found == documented.table(SERVED), told(SERVED, found)


@engines
def test_a_plan_does_not_depend_on_how_full_a_table_once_was(engine_name: str) -> None:
    """A plan that was made on empty tables, and kept, goes by the same indexes as one that knows them full."""
    trials = trial(engine_name)
    now = _indexes(trials.analyzed)

    assert now == _indexes(trials.full)
    assert now == _indexes(trials.empty)


def _indexes(done: Mapping[str, Sequence[Plan]]) -> Mapping[str, Sequence[frozenset[str]]]:
    return {
        occasion: [plan.indexes for plan in plans]
        for occasion, plans in done.items()
        if occasion not in occasions.WHOLE
    }


@engines
def test_no_table_is_read_from_end_to_end(engine_name: str) -> None:
    """Nor an index, because the condition is on its later columns only."""
    assert [] == [
        (time, occasion, plan.scanned, plan.sent.sql)
        for time, occasion, plan in every_plan(engine_name)
        if plan.scanned and occasion not in occasions.WHOLE
    ]


@engines
def test_no_more_is_read_than_is_given(engine_name: str) -> None:
    """A statement costs what its answer costs. Only the search for jobs reads on, past the due ones of full lanes."""

    def allowed(occasion: str, plan: Plan) -> int:
        beside = A_DUE_JOB[engine_name] * DUE if occasion in CLAIMS else 0
        return A_STATEMENT[engine_name] + A_ROW[engine_name] * plan.given + beside

    assert [] == [
        (time, occasion, plan.effort, plan.given, plan.sent.sql)
        for time, occasion, plan in every_plan(engine_name)
        if plan.effort > allowed(occasion, plan) and occasion not in occasions.WHOLE
    ]


@engines
def test_no_page_is_sorted(engine_name: str) -> None:
    """What is given in parts comes out of its index in order: the first part does not wait for the whole."""
    assert [] == [
        (time, occasion, plan.sent.sql)
        for time, occasion, plan in every_plan(engine_name)
        if plan.is_sorted and occasion.split()[0] in PAGED
    ]


def test_the_costs_are_those_of_the_page() -> None:
    """Trips, statements and rows of a lone write and of a crowd's, as docs/scaling.md tells them."""
    names = [name for write in occasions.WRITES for name in (write, f"{write}, {occasions.CROWD} at once")]
    postgres, sqlite = trial("postgres"), trial("sqlite")

    found = [documented.cost_line(name, postgres, sqlite) for name in names]
    assert found == documented.table(COSTS), told(COSTS, found)
    assert {1} == {documented.commits(side, name) for side in (postgres, sqlite) for name in names}


def test_every_table_has_its_place_among_the_shards() -> None:
    """docs/scaling.md says of each table how it would be distributed."""
    assert [table.name for table in TABLES] == list(documented.cells("Distribution by account"))


@pytest.mark.parametrize(("name", "cell"), [(name, told) for name, (told, _) in documented.cells("Locks").items()])
def test_the_limits_are_those_of_the_page(name: str, cell: str) -> None:
    """An operator reckons with what the code does."""
    module, _, constant = name.rpartition(".")
    assert getattr(import_module(module), constant) == int(cell)


async def test_the_connections_are_those_of_the_page() -> None:
    """`max_connections` is reckoned from this: what a host has open once everything has been used."""
    (told,) = re.findall(r"A host holds (\d+) connections", documented.PAGE.read_text())
    name = "plans_connections"
    url = server().create(name, template=await anyio.to_thread.run_sync(template))
    store = await open_store(url)
    try:
        await store.recover()
        await Ledger(store).open_account("me", account="acct")
        async with anyio.create_task_group() as tasks:  # a crowd, for both quick lanes
            for n in range(2 * SPLIT_AT):
                tasks.start_soon(partial(Ledger(store).open_account, "me", account=f"acct{n}"))
        with psycopg.connect(url) as elsewhere:
            elsewhere.execute("select from account where id = 'acct' for update")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.write, Tick(account="acct"))  # in the patient lane
                for _ in range(2 * int(told)):
                    tasks.start_soon(store.read, queries.by_id(Account, "acct"))
                await _until(lambda: connections(name) == int(told) + 1, within_s=5)
                elsewhere.rollback()
        await _until(lambda: connections(name) <= int(told), within_s=5)
        assert int(told) == connections(name)
    finally:
        await store.aclose()
        server().drop(name)


def connections(database: str) -> int:
    ((count,),) = server().execute(f"select count(*) from pg_stat_activity where datname = '{database}'")
    return int(count)


async def _until(condition: Callable[[], bool], *, within_s: float) -> None:
    """A server is asked until it says so; if it never does, the assertion that follows tells."""
    with anyio.move_on_after(within_s):
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 - a server tells nobody
            await anyio.sleep(0.01)
