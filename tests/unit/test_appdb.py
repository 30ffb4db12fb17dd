"""`ctx.db.query`: what it answers, what it refuses, and how, on both engines; and what is SQLite's alone."""

import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from tests.appdbs import ENGINES, app_names, open_apps

from ctxhost.clock import ManualClock
from ctxhost.functions.appdb import AppDatabase, AppDatabases, AppLimits, Databases, QueryError
from ctxhost.functions.queryerror import QueryErrorCode
from ctxhost.functions.schema import parse_schema

NAME = "app_0123456789abcdef"
NOTES = parse_schema(
    """{"tables": {"notes": {
        "columns": {"id": {"type": "uuid", "primaryKey": true, "default": "gen_random_uuid()"},
                    "title": {"type": "text", "nullable": false},
                    "author": {"type": "text"},
                    "stars": {"type": "integer", "nullable": false, "default": "0"},
                    "at": {"type": "timestamptz", "nullable": false, "default": "now()"},
                    "data": {"type": "jsonb"}},
        "indexes": {"notes_title_author": {"columns": ["title", "author"], "unique": true}}}}}"""
)
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=ENGINES)
def apps_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def names() -> Iterator[list[str]]:
    with app_names(2) as names:
        yield names


@pytest.fixture
async def databases(apps_engine: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Databases]:
    async with open_apps(apps_engine, tmp_path / "apps", clock, max_open=2) as databases:
        yield databases


@pytest.fixture
async def db(databases: Databases, names: list[str]) -> AppDatabase:
    db = databases.open(names[0])
    await db.apply_schema(NOTES)
    return db


@pytest.fixture
async def file_db(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AppDatabase]:
    async with open_apps("sqlite", tmp_path / "apps", clock) as databases:
        db = databases.open(NAME)
        await db.apply_schema(NOTES)
        yield db


async def test_rows_are_dicts_and_row_count_counts(db: AppDatabase) -> None:
    """A write without RETURNING counts the rows it wrote; anything with rows counts those."""
    inserted = await db.query("INSERT INTO notes (title) VALUES ($1), ($2)", ["a", "b"])
    updated = await db.query("UPDATE notes SET stars = stars + 1 WHERE title = $1", ["a"])
    nothing = await db.query("DELETE FROM notes WHERE title = 'z'")
    returned = await db.query("UPDATE notes SET stars = 5 RETURNING title, stars")
    with_first = await db.query("WITH x AS (SELECT 'a' AS t) DELETE FROM notes WHERE title IN (SELECT t FROM x)")
    read = await db.query("SELECT title, stars FROM notes")

    assert (2, 1, 0, 2, 1, 1) == tuple(r.row_count for r in (inserted, updated, nothing, returned, with_first, read))
    assert [] == inserted.rows
    assert [{"title": "b", "stars": 5}] == read.rows


async def test_parameters_by_number_reach_their_places(db: AppDatabase) -> None:
    """Out of order, repeated, next to text that looks like one."""
    result = await db.query("SELECT $2 AS b, $1 AS a, $2 || '$1' AS c", ["one", "two"])

    assert [{"b": "two", "a": "one", "c": "two$1"}] == result.rows


async def test_values_come_back_as_they_went_in(db: AppDatabase) -> None:
    """Every kind of value survives; a dict or list is JSON."""
    values: list[object] = ["ü\n'", 2**63 - 1, -1.5, None, {"a": [1, "é"]}, [1]]

    (row,) = (await db.query("SELECT $1 AS a, $2::bigint AS b, $3::real AS c, $4 AS d, $5 AS e, $6 AS f", values)).rows

    assert [*values[:4], '{"a": [1, "é"]}', "[1]"] == list(row.values())
    await db.query("INSERT INTO notes (title, data) VALUES ('x', $1)", [{"a": None}])
    assert [{"data": {"a": None}}] == (await db.query("SELECT data FROM notes WHERE data->>'a' IS NULL")).rows


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**63, id="too-wide"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param("a\0b", id="nul"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param(b"raw", id="bytes"),
        pytest.param(object(), id="object"),
        pytest.param({"a": float("nan")}, id="nan-in-json"),
        pytest.param([object()], id="object-in-json"),
        pytest.param(["\ud800"], id="surrogate-in-json"),
    ],
)
async def test_a_value_that_cannot_be_stored_is_refused(db: AppDatabase, value: object) -> None:
    """Refused before the database is asked, naming the parameter."""
    with pytest.raises(QueryError, match=r"bad_parameter: \$2 ") as caught:
        await db.query("SELECT $1, $2", [1, value])

    assert "bad_parameter" == caught.value.code


@pytest.mark.parametrize(
    ("sql", "params"), [("SELECT $1", []), ("SELECT 1", [1]), ("SELECT $2", [1]), ("SELECT $1", "a")]
)
async def test_the_number_of_parameters_must_fit(db: AppDatabase, sql: str, params: list[object]) -> None:
    """One too many or too few is a mistake, and so is a bare string."""
    with pytest.raises(QueryError) as caught:
        await db.query(sql, params)

    assert "bad_parameter" == caught.value.code


@pytest.mark.parametrize(
    ("sql", "code", "columns"),
    [
        pytest.param("INSERT INTO notes (title) VALUES (NULL)", "constraint_violation", ("title",), id="not-null"),
        pytest.param(
            "INSERT INTO notes (title, author) VALUES ('a', 'b'), ('a', 'b')",
            "constraint_violation",
            ("title", "author"),
            id="unique",
        ),
        pytest.param("SELEC 1", "not_allowed", (), id="not-a-query"),
        pytest.param("SELECT FROM WHERE", "syntax_error", (), id="syntax"),
        pytest.param("SELECT * FROM nowhere", "syntax_error", (), id="no-table"),
        pytest.param('SELECT "nowhere" FROM notes', "syntax_error", (), id="no-column"),
    ],
)
async def test_errors_have_a_code(db: AppDatabase, sql: str, code: QueryErrorCode, columns: tuple[str, ...]) -> None:
    """A handler can tell what happened without reading prose, and nothing was written."""
    with pytest.raises(QueryError) as caught:
        await db.query(sql)

    assert (code, columns) == (caught.value.code, caught.value.columns)
    assert 0 == (await db.query("SELECT * FROM notes")).row_count


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SELECT replace(format('%1000000d', 1), ' ', '12345')", id="replaced"),
        pytest.param("SELECT format('%3000000d', 1) || format('%3000000d', 1)", id="joined"),
    ],
)
async def test_a_value_has_a_limit(file_db: AppDatabase, sql: str) -> None:
    """A value over 4 MB is not even made."""
    with pytest.raises(QueryError) as caught:
        await file_db.query(sql)

    assert "too_large" == caught.value.code


async def test_a_statement_is_all_or_nothing(db: AppDatabase) -> None:
    """The rows before the one that fails are not kept."""
    with pytest.raises(QueryError):
        await db.query("INSERT INTO notes (title) VALUES ('a'), ('b'), (NULL)")

    assert 0 == (await db.query("SELECT * FROM notes")).row_count


async def test_now_is_the_clocks_time_and_one_per_statement(file_db: AppDatabase, clock: ManualClock) -> None:
    """`now()`, its default, and CURRENT_TIMESTAMP agree, and follow the clock that the host was given."""
    clock.advance(seconds=60)
    sql = "INSERT INTO notes (title) VALUES (now()) RETURNING title = at AS same, at, CURRENT_DATE AS day"

    result = await file_db.query(sql)

    assert [{"same": 1, "at": "2026-05-28T20:27:40.000Z", "day": "2026-05-28"}] == result.rows


async def test_uuids_are_made_and_differ(db: AppDatabase) -> None:
    """`gen_random_uuid()` gives a new one for each row."""
    rows = (await db.query("INSERT INTO notes (title) VALUES ('a'), ('b') RETURNING id")).rows

    assert 2 == len({row["id"] for row in rows})


async def test_upserts_work(db: AppDatabase) -> None:
    """ON CONFLICT … DO UPDATE with `excluded`, as PostgreSQL has it."""
    sql = """INSERT INTO notes (title, author, stars) VALUES ($1, 'me', $2)
             ON CONFLICT (title, author) DO UPDATE SET stars = notes.stars + excluded.stars RETURNING stars"""
    await db.query(sql, ["a", 1])

    assert [{"stars": 3}] == (await db.query(sql, ["a", 2])).rows


async def test_json_tables_work_also_after_the_schema_changed(file_db: AppDatabase) -> None:
    """A list is unpacked with json_each, on a connection that lived through a migration too."""
    sql = "SELECT sum(value) AS s, count(*) AS n FROM json_each($1)"
    assert [{"s": 6, "n": 3}] == (await file_db.query(sql, [[1, 2, 3]])).rows
    await file_db.apply_schema(parse_schema('{"tables": {"more": {"columns": {"a": {"type": "text"}}}}}'))

    assert [{"s": 6, "n": 3}] == (await file_db.query(sql, [[1, 2, 3]])).rows
    assert 0 == (await file_db.query("SELECT * FROM more")).row_count


async def test_replaced_functions_answer_as_before(file_db: AppDatabase) -> None:
    """instr, replace and trim are ours, for their running time; their answers are SQLite's."""
    sql = """SELECT instr('hello', 'l') AS a, instr('x', 'y') AS b, instr(NULL, 'y') AS c,
                    replace('aXbX', 'X', '--') AS d, replace('a', '', 'b') AS e, trim('  a ') AS f,
                    ltrim('xxa', 'x') AS g, rtrim('a-+', '+-') AS h, replace(NULL, 'a', 'b') AS i, trim(NULL) AS j"""

    (row,) = (await file_db.query(sql)).rows

    assert [3, 0, None, "a--b--", "a", "a", "a", "a", None, None] == list(row.values())


async def test_queries_of_one_app_follow_one_another(db: AppDatabase) -> None:
    """Fifty increments at once are fifty."""
    await db.query("INSERT INTO notes (title) VALUES ('a')")
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(db.query, "UPDATE notes SET stars = stars + 1")

    assert [{"stars": 50}] == (await db.query("SELECT stars FROM notes")).rows


async def test_a_cancelled_caller_ends_its_query(db: AppDatabase) -> None:
    """The app's next query does not wait for the timeout of the one whose caller left."""
    await db.query("SELECT 1")
    with anyio.move_on_after(0.1) as scope:
        await db.query(ENDLESS)
    with anyio.fail_after(3):
        result = await db.query("SELECT 1 AS one")

    assert scope.cancelled_caught
    assert [{"one": 1}] == result.rows


async def test_apps_do_not_see_one_another(db: AppDatabase, databases: Databases, names: list[str]) -> None:
    """Another app's table is no table here."""
    await db.query("INSERT INTO notes (title) VALUES ('secret')")

    with pytest.raises(QueryError) as caught:
        await databases.open(names[1]).query("SELECT * FROM notes")

    assert "syntax_error" == caught.value.code


async def test_more_apps_than_may_be_open_take_turns(databases: Databases) -> None:
    """What was used longest ago is closed and opened again, without a reader noticing."""
    with app_names(4) as names:
        for name in names:
            await databases.open(name).apply_schema(NOTES)
            await databases.open(name).query("INSERT INTO notes (title) VALUES ($1)", [name])

        for name in names:
            assert [{"title": name}] == (await databases.open(name).query("SELECT title FROM notes")).rows


async def test_a_closed_host_refuses(db: AppDatabase, databases: Databases) -> None:
    """After `aclose` a query says so, and closing twice is fine."""
    await databases.aclose()
    await databases.aclose()

    with pytest.raises(QueryError) as caught:
        await db.query("SELECT 1")

    assert "closed" == caught.value.code


async def test_files_are_for_the_host_alone(file_db: AppDatabase, tmp_path: Path) -> None:
    """Directory, database and journal are not readable by other users."""
    await file_db.query("INSERT INTO notes (title) VALUES ('a')")
    folder = tmp_path / "apps"

    assert {f"{NAME}.db", f"{NAME}.db-wal", f"{NAME}.db-shm"} == {file.name for file in folder.iterdir()}
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.parametrize("name", ["", "short", "../../etc/passwd_passwd", "a" * 129, "app_0123456789abc\n", "a/" * 9])
async def test_a_name_is_a_name(databases: Databases, name: str) -> None:
    """No name leads out of the directory."""
    with pytest.raises(ValueError, match="a database name"):
        databases.open(name)


async def test_slow_apps_do_not_take_every_thread(tmp_path: Path) -> None:
    """One app's crowd of slow queries uses one thread; another app is answered meanwhile."""
    databases = AppDatabases(tmp_path, clock=ManualClock(), threads=2, limits=AppLimits(timeout_s=60))
    busy = databases.open("app_that_is_very_busy")
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(busy.query, ENDLESS)
        await wait_all_tasks_blocked()
        with anyio.fail_after(5):
            result = await databases.open("app_that_is_calm").query("SELECT 1 AS one")
        tasks.cancel_scope.cancel()
    await databases.aclose()

    assert [{"one": 1}] == result.rows
    assert threading.active_count() < 20
