"""An app's SQL reaches its own tables and nothing else, and cannot run on for ever."""

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ctxhost.clock import ManualClock
from ctxhost.functions.appdb import AppDatabase, AppDatabases, AppLimits, QueryError
from ctxhost.functions.appfile import AppFile
from ctxhost.functions.schema import parse_schema
from ctxhost.functions.sql import Statement

NAME = "app_0123456789abcdef"
TABLE = parse_schema('{"tables": {"t": {"columns": {"a": {"type": "text"}}}}}')
LIMITS = AppLimits(timeout_s=0.1, max_rows=100, max_result_bytes=100_000, max_file_bytes=200_000)


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[AppDatabases]:
    host = sqlite3.connect(tmp_path / "host.db")
    host.execute("CREATE TABLE ledger (balance)")
    host.close()
    databases = AppDatabases(tmp_path / "apps", clock=ManualClock(), limits=LIMITS)
    yield databases
    await databases.aclose()


@pytest.fixture
async def db(databases: AppDatabases) -> AppDatabase:
    db = databases.open(NAME)
    await db.apply_schema(TABLE)
    return db


ESCAPES = [
    "ATTACH DATABASE '{host}' AS h",
    "ATTACH '{host}' AS h",
    "DETACH DATABASE main",
    "VACUUM",
    "VACUUM INTO '{out}'",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA database_list",
    "PRAGMA temp_store_directory = '/tmp'",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE VIRTUAL TABLE x USING fts5(a)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "DROP TABLE t",
    "ALTER TABLE t RENAME TO u",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "EXPLAIN SELECT 1",
    "SELECT load_extension('{out}')",
    "SELECT readfile('{host}') AS x",
    "SELECT writefile('{out}', 'x') AS x",
    "SELECT edit('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT sqlite_version()",
    "SELECT sqlite_compileoption_get(1)",
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT json_patch('{{}}', '{{}}')",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.sqlite_schema",
    "SELECT * FROM sqlite_temp_master",
    "SELECT count(*) FROM sqlite_master",
    "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, 'x')",
    "UPDATE sqlite_master SET sql = ''",
    "DELETE FROM sqlite_sequence",
    "SELECT * FROM pragma_database_list",
    "SELECT count(*) FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('t')",
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_stmt",
    "SELECT * FROM fts3tokenize('simple', 'a')",
    "SELECT * FROM h.ledger",
    'SELECT * FROM "{host}".ledger',
    "SELECT * FROM ledger",
    "WITH x AS (SELECT * FROM sqlite_master) SELECT * FROM x",
    "INSERT INTO t SELECT sql FROM sqlite_master",
    "SELECT 1; ATTACH '{host}' AS h",
    "SELECT 1 /* */; DROP TABLE t",
]


HARMLESS = {"EXPLAIN SELECT 1", "REINDEX", "BEGIN", "COMMIT", "ROLLBACK"}
"""What only the reading of the SQL refuses: it reaches nothing."""


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def filled(sql: str, tmp_path: Path) -> str:
    return sql.format(host=tmp_path / "host.db", out=tmp_path / "stolen")


@pytest.mark.parametrize("sql", ESCAPES)
async def test_no_way_out_through_a_query(db: AppDatabase, tmp_path: Path, sql: str) -> None:
    """Refused as a query, nothing written outside, and the app's database works on."""
    with pytest.raises(QueryError) as caught:
        await db.query(filled(sql, tmp_path))

    assert caught.value.code in {"not_allowed", "syntax_error"}
    assert ["apps", "host.db"] == files_in(tmp_path)
    assert 1 == (await db.query("INSERT INTO t VALUES ('still here')")).row_count


@pytest.mark.parametrize("sql", [sql for sql in ESCAPES if ";" not in sql and sql not in HARMLESS])
async def test_no_way_out_past_the_translation(databases: AppDatabases, tmp_path: Path, sql: str) -> None:
    """The connection alone refuses too: a statement that slipped through the reading of the SQL gets no further."""
    statement = Statement(filled(sql, tmp_path), parameters=0, writes=False)

    def run(file: AppFile) -> None:
        file.run(statement, [], cancelled=threading.Event())

    await databases.open(NAME).apply_schema(TABLE)
    with pytest.raises(QueryError):
        await databases.use(NAME, run)

    assert ["apps", "host.db"] == files_in(tmp_path)


RUNAWAYS = [
    pytest.param(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n", id="recursion"
    ),
    pytest.param(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
        "SELECT count(*) FROM n a, n b, n c WHERE a.i + b.i + c.i = 0",
        id="cross-join",
    ),
    pytest.param(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'a' FROM n WHERE i < 0",
        id="write",
    ),
]


@pytest.mark.parametrize("sql", RUNAWAYS)
async def test_a_runaway_is_cut(db: AppDatabase, sql: str) -> None:
    """It ends at its timeout, nothing of it is kept, and the next query is answered."""
    with anyio.fail_after(5), pytest.raises(QueryError) as caught:
        await db.query(sql)

    assert "timeout" == caught.value.code
    assert 0 == (await db.query("SELECT * FROM t")).row_count


async def test_functions_that_cannot_be_interrupted_are_quick(db: AppDatabase) -> None:
    """The worst arguments of instr, replace, trim and LIKE end on their own."""
    haystack = "a" * 2_000_000
    with anyio.fail_after(5):
        found = await db.query("SELECT instr($1, $2 || 'b') AS n", [haystack, haystack[:1_000_000]])
        replaced = await db.query("SELECT length(replace($1, $2 || 'b', '')) AS n", [haystack, haystack[:1_000_000]])
        with pytest.raises(QueryError, match="trim"):
            await db.query("SELECT trim($1, $2)", [haystack, "b" * 1_000_000])
        with pytest.raises(QueryError):
            await db.query("SELECT $1 LIKE $2", [haystack, "%a" * 1_000])

    assert ([{"n": 0}], [{"n": len(haystack)}]) == (found.rows, replaced.rows)


async def test_a_result_has_an_end(db: AppDatabase) -> None:
    """Too many rows, or too many bytes of them, is an error and not a partial answer."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT {} FROM n"
    assert 100 == (await db.query(numbers.format(100, "i"))).row_count

    with pytest.raises(QueryError, match="too_many_rows: over 100 rows"):
        await db.query(numbers.format(101, "i"))
    with pytest.raises(QueryError, match="too_many_rows: over 100,000 bytes"):
        await db.query(numbers.format(20, "format('%10000d', i)"))
    with pytest.raises(QueryError, match="too_many_rows"):
        await db.query("INSERT INTO t " + numbers.format(101, "'a'") + " WHERE true RETURNING a")
    assert 0 == (await db.query("SELECT * FROM t")).row_count


async def test_a_result_cut_short_leaves_no_old_view(db: AppDatabase) -> None:
    """After an error half way through the rows, also one that is kept, the app sees and writes the newest state."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i FROM n, t"
    await db.query("INSERT INTO t VALUES ('a')")
    with pytest.raises(QueryError) as kept:
        await db.query(numbers)
    await db.apply_schema(parse_schema('{"tables": {"more": {"columns": {"a": {"type": "text"}}}}}'))

    assert 1 == (await db.query("INSERT INTO more VALUES ('b')")).row_count
    assert "too_many_rows" == kept.value.code


async def test_a_file_has_an_end(db: AppDatabase) -> None:
    """An app that fills its database is told so, and can make room."""
    with pytest.raises(QueryError, match="database_full"):
        await db.query("INSERT INTO t VALUES (format('%500000d', 1))")

    await db.query("DELETE FROM t")
    assert 1 == (await db.query("INSERT INTO t VALUES ('small')")).row_count
