"""Schema documents, and bringing a database up to one, on both engines."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.appdbs import ENGINES, app_names, open_apps

from ctxhost.clock import ManualClock
from ctxhost.functions.appdb import AppDatabase, QueryError
from ctxhost.functions.columns import parse_default, parse_type
from ctxhost.functions.schema import Schema, SchemaError, load_schema, parse_schema


@pytest.fixture(params=ENGINES)
def apps_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name() -> Iterator[str]:
    with app_names() as (name,):
        yield name


@pytest.fixture
async def db(apps_engine: str, name: str, tmp_path: Path) -> AsyncIterator[AppDatabase]:
    async with open_apps(apps_engine, tmp_path, ManualClock()) as databases:
        yield databases.open(name)


def schema(columns: dict[str, Any], *, table: str = "t", **indexes: Any) -> Schema:
    return parse_schema(json.dumps({"tables": {table: {"columns": columns, "indexes": indexes}}}))


EVERY_TYPE = {
    "id": {"type": "uuid", "primaryKey": True, "default": "gen_random_uuid()"},
    "words": {"type": "text", "default": "'it''s; DROP TABLE t --'"},
    "short": {"type": "varchar(3)", "default": "'abc'::varchar"},
    "small": {"type": "integer", "default": "-1"},
    "big": {"type": "bigint", "default": "9007199254740993"},
    "flag": {"type": "boolean", "nullable": False, "default": "true"},
    "price": {"type": "numeric", "default": "0.5"},
    "ratio": {"type": "real", "default": "1"},
    "wide": {"type": "double precision"},
    "at": {"type": "timestamptz", "nullable": False, "default": "now()"},
    "day": {"type": "date", "default": "now()"},
    "raw": {"type": "json", "default": "null"},
    "data": {"type": "jsonb", "default": "'{\"a\": [1]}'::jsonb"},
}


async def test_every_type_and_default_comes_back_as_python_knows_it(db: AppDatabase) -> None:
    """Booleans are bool, JSON is parsed, times are RFC 3339 text, whole numbers are exact."""
    await db.apply_schema(schema(EVERY_TYPE))

    result = await db.query("INSERT INTO t (wide, raw) VALUES ($1, $2) RETURNING *", [2, [True, None]])

    (row,) = result.rows
    assert 36 == len(row.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at := row.pop("at"))
    assert at[:10] == row.pop("day")
    assert {
        "words": "it's; DROP TABLE t --",
        "short": "abc",
        "small": -1,
        "big": 9007199254740993,
        "flag": True,
        "price": 0.5,
        "ratio": 1.0,
        "wide": 2.0,
        "raw": [True, None],
        "data": {"a": [1]},
    } == row
    assert isinstance(row["flag"], bool)
    assert [{"flag": False}] == (await db.query("UPDATE t SET flag = false RETURNING flag")).rows


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "not-a-uuid"),
        ("short", "abcd"),
        ("small", 2**31),
        ("small", "seven"),
        ("big", 1.5),
        ("flag", 2),
        ("price", "cheap"),
        ("at", "any day"),
        ("day", "noon"),
        ("data", "{"),
    ],
)
async def test_a_column_takes_only_values_of_its_type(
    db: AppDatabase, apps_engine: str, column: str, value: object
) -> None:
    """What PostgreSQL would refuse is refused; the error names the column where the engine does."""
    await db.apply_schema(schema(EVERY_TYPE))

    with pytest.raises(QueryError) as caught:
        await db.query(f"INSERT INTO t ({column}) VALUES ($1)", [value])

    assert "constraint_violation" == caught.value.code
    assert ((column,) if apps_engine == "sqlite" else ()) == caught.value.columns


async def test_a_second_time_there_is_nothing_to_do(db: AppDatabase) -> None:
    """Applying the same document again finds everything in place."""
    document = schema(EVERY_TYPE, t_words={"columns": ["words", "day"], "unique": True})
    assert ["created table t", "created index t_words"] == await db.apply_schema(document)

    assert [] == await db.apply_schema(document)


async def test_additions_keep_the_rows_and_fill_them(db: AppDatabase) -> None:
    """New columns, with computed defaults too, reach a table that has rows; each row gets a value of its own."""
    first = {"n": {"type": "integer", "primaryKey": True}, "old": {"type": "text", "unique": True}}
    await db.apply_schema(schema(first, by_old={"columns": ["old"]}))
    await db.query("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    more = {
        **first,
        "id": {"type": "uuid", "nullable": False, "default": "gen_random_uuid()"},
        "at": {"type": "timestamptz", "default": "now()", "nullable": False},
        "state": {"type": "text", "nullable": False, "default": "'new'"},
        "key": {"type": "text", "unique": True},
    }

    done = await db.apply_schema(schema(more, by_old={"columns": ["old"]}))

    columns = [f"added column t.{name}" for name in ("id", "at", "state", "key")]
    assert [*columns, "created index t_key_key"] == done
    rows = (await db.query("SELECT * FROM t ORDER BY n")).rows
    assert [(1, "a", "new", None), (2, "b", "new", None)] == [(r["n"], r["old"], r["state"], r["key"]) for r in rows]
    assert 2 == len({row["id"] for row in rows})
    with pytest.raises(QueryError):
        await db.query("INSERT INTO t (n, old) VALUES (3, 'a')")  # the index moved along
    assert [] == await db.apply_schema(schema(more, by_old={"columns": ["old"]}))


async def test_what_the_document_no_longer_names_is_left_alone(db: AppDatabase) -> None:
    """Nothing is ever dropped."""
    await db.apply_schema(schema({"a": {"type": "text"}, "b": {"type": "text"}}))
    await db.query("INSERT INTO t VALUES ('x', 'y')")

    assert ["created table u"] == await db.apply_schema(schema({"a": {"type": "text"}}, table="u"))
    assert [] == await db.apply_schema(schema({"a": {"type": "text"}}))
    assert [{"a": "x", "b": "y"}] == (await db.query("SELECT * FROM t")).rows


@pytest.mark.parametrize(
    ("columns", "indexes", "says"),
    [
        pytest.param({"a": {"type": "integer"}}, {}, "t.a: type is", id="type"),
        pytest.param({"a": {"type": "text", "nullable": False}}, {}, "t.a: nullable is", id="nullable"),
        pytest.param({"a": {"type": "text", "default": "'x'"}}, {}, "t.a: default is", id="default"),
        pytest.param({"a": {"type": "text", "primaryKey": True}}, {}, "t.a: primaryKey is", id="primary-key"),
        pytest.param({"c": {"type": "text", "primaryKey": True}}, {}, "primary key cannot be added", id="new-key"),
        pytest.param({"c": {"type": "text", "nullable": False}}, {}, "t.c: t has rows", id="not-null"),
        pytest.param({"c": {"type": "varchar(1)", "default": "'xx'"}}, {}, "t.c: cannot be added", id="bad-default"),
        pytest.param({"a": {"type": "text", "unique": True}}, {}, "rows repeat a", id="not-unique"),
        pytest.param(
            {"a": {"type": "text"}}, {"t_i": {"columns": ["a"]}}, "t_i is there with other columns", id="index"
        ),
    ],
)
async def test_a_contradiction_is_refused_whole(
    db: AppDatabase, columns: dict[str, Any], indexes: dict[str, Any], says: str
) -> None:
    """One clear line, and not even the harmless part of the document is applied."""
    before = {"a": {"type": "text"}, "b": {"type": "text"}}
    await db.apply_schema(schema(before, t_i={"columns": ["a", "b"]}))
    await db.query("INSERT INTO t VALUES ('x', 'y'), ('x', 'z')")
    tables = {"first": {"columns": {"a": {"type": "text"}}}, "t": {"columns": columns, "indexes": indexes}}

    with pytest.raises(SchemaError) as caught:
        await db.apply_schema(parse_schema(json.dumps({"tables": tables})))

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(QueryError, match="syntax_error"):
        await db.query("SELECT * FROM first")
    assert 2 == (await db.query("SELECT * FROM t")).row_count


async def test_references_hold(db: AppDatabase) -> None:
    """A row cannot refer to one that is not there, and goes with it when the document says cascade."""
    person = {"id": {"type": "uuid", "primaryKey": True, "default": "gen_random_uuid()"}}
    author = {"type": "uuid", "references": {"table": "people", "column": "id", "onDelete": "CASCADE"}}
    tables = {"notes": {"columns": {"author": author}}, "people": {"columns": person}}
    await db.apply_schema(parse_schema(json.dumps({"tables": tables})))
    (row,) = (await db.query("INSERT INTO people DEFAULT VALUES RETURNING id")).rows
    await db.query("INSERT INTO notes VALUES ($1)", [row["id"]])

    with pytest.raises(QueryError, match="constraint_violation"):
        await db.query("INSERT INTO notes VALUES (gen_random_uuid())")
    await db.query("DELETE FROM people")

    assert 0 == (await db.query("SELECT * FROM notes")).row_count


async def test_a_refilled_table_keeps_what_refers_to_it(db: AppDatabase) -> None:
    """Adding a column with a computed default to a parent leaves its children pointing at it."""
    person: dict[str, Any] = {"n": {"type": "integer", "primaryKey": True}}
    child = {"person": {"type": "integer", "references": {"table": "people", "column": "n", "onDelete": "cascade"}}}
    tables = {"people": {"columns": person}, "notes": {"columns": child}}
    await db.apply_schema(parse_schema(json.dumps({"tables": tables})))
    await db.query("INSERT INTO people VALUES (1), (2)")
    await db.query("INSERT INTO notes VALUES (1), (2)")
    person["at"] = {"type": "timestamptz", "default": "now()"}

    await db.apply_schema(parse_schema(json.dumps({"tables": tables})))
    await db.query("DELETE FROM people WHERE n = 1")

    assert [{"person": 2}] == (await db.query("SELECT * FROM notes")).rows
    with pytest.raises(QueryError, match="constraint_violation"):
        await db.query("INSERT INTO notes VALUES (3)")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        pytest.param("{", "Expecting", id="not-json"),
        pytest.param("[]", "document", id="not-an-object"),
        pytest.param('{"tables": {}, "tables": {}}', "the key tables appears twice", id="repeated-key"),
        pytest.param('{"tables": {}, "views": {}}', "views: unknown key", id="unknown-key"),
        pytest.param('{"tables": {"t": {"columns": {}}}}', "tables.t.columns", id="no-columns"),
        pytest.param('{"tables": {"T": {"columns": {"a": {"type": "text"}}}}}', "tables.T", id="upper-case"),
        pytest.param('{"tables": {"t\\"x": {"columns": {"a": {"type": "text"}}}}}', "String should match", id="quote"),
        pytest.param('{"tables": {"sqlite_x": {"columns": {"a": {"type": "text"}}}}}', "reserved", id="reserved"),
        pytest.param('{"tables": {"pg_x": {"columns": {"a": {"type": "text"}}}}}', "reserved", id="postgres-reserved"),
    ],
)
def test_a_bad_document_is_told_in_one_line(document: str, says: str) -> None:
    """The message names the document and the place in it."""
    with pytest.raises(SchemaError) as caught:
        parse_schema(document, source="notes.json")

    assert str(caught.value).startswith("notes.json: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        pytest.param({}, "t.columns.a.type: is required", id="no-type"),
        pytest.param({"type": "serial"}, "unknown type 'serial'", id="type"),
        pytest.param({"type": "text(3)"}, "unknown type", id="length-of-text"),
        pytest.param({"type": "text", "primarykey": True}, "a.primarykey: unknown key", id="key"),
        pytest.param({"type": "text", "nullable": "no"}, "a.nullable", id="not-a-bool"),
        pytest.param({"type": "text", "nullable": 0}, "a.nullable", id="0-is-not-false"),
        pytest.param({"type": "integer", "default": 0}, "a.default", id="default-not-text"),
        pytest.param({"type": "integer", "default": "0; DROP TABLE t"}, "is not one for integer", id="injection"),
        pytest.param({"type": "text", "default": "'a' || 'b'"}, "is not one for text", id="expression"),
        pytest.param({"type": "text", "default": "'a''"}, "is not one for text", id="open-quote"),
        pytest.param({"type": "text", "default": "'a'::x; --"}, "unknown type", id="bad-cast"),
        pytest.param({"type": "text", "default": "random()"}, "is not one for text", id="function"),
        pytest.param({"type": "integer", "default": "now()"}, "is not one for integer", id="wrong-function"),
        pytest.param({"type": "integer", "default": "1.5"}, "is not one for integer", id="fraction"),
        pytest.param({"type": "boolean", "default": "1"}, "is not one for boolean", id="1-is-not-true"),
        pytest.param({"type": "text", "references": {"table": "u", "column": "a"}}, "no column u.a", id="no-target"),
        pytest.param({"type": "text", "references": {"table": "t", "column": "b"}}, "neither unique", id="not-unique"),
        pytest.param({"type": "text", "references": {"table": "t", "column": "k"}}, "another type", id="other-type"),
        pytest.param(
            {"type": "text", "references": {"table": "t", "column": "k", "onDelete": "explode"}}, "cascade", id="action"
        ),
    ],
)
def test_a_bad_column_is_told_in_one_line(column: dict[str, Any], says: str) -> None:
    """Nothing reaches the database but the forms that are known."""
    with pytest.raises(SchemaError) as caught:
        schema({"a": column, "b": {"type": "text"}, "k": {"type": "integer", "unique": True}})

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_indexes_name_columns_that_are_there_and_names_are_used_once() -> None:
    """A slip of the pen in an index is found before the database is touched."""
    with pytest.raises(SchemaError, match="there is no column nope"):
        schema({"a": {"type": "text"}}, i={"columns": ["nope"]})
    with pytest.raises(SchemaError, match="t_a_key is used twice"):
        schema({"a": {"type": "text", "unique": True}}, t_a_key={"columns": ["a"]})


def test_a_missing_schema_file_is_told(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(SchemaError, match=r"gone\.json: cannot be read"):
        load_schema(tmp_path / "gone.json")


def test_defaults_are_rebuilt_from_their_parts() -> None:
    """A computed default is told from a constant one; null is none."""
    assert parse_default("null", parse_type("text")) is None
    computed = parse_default(" NOW() ", parse_type("timestamptz"))
    assert computed is not None
    assert "DEFAULT (now())" == computed.clause


async def test_the_file_can_be_read_with_plain_sqlite(name: str, tmp_path: Path) -> None:
    """An operator's own tools see ordinary tables with telling types."""
    async with open_apps("sqlite", tmp_path, ManualClock()) as databases:
        await databases.open(name).apply_schema(schema({"flag": {"type": "boolean"}}))
        await databases.open(name).query("INSERT INTO t VALUES (true)")

    plain = sqlite3.connect(tmp_path / f"{name}.db")
    row, info = plain.execute("SELECT * FROM t").fetchone(), plain.execute("PRAGMA table_info(t)").fetchone()
    plain.close()

    assert ((1,), "pg_boolean integer") == (row, info[2])
