"""The engines that keep the store's contract. Another one is one more name in `ENGINES`."""

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import psycopg
from tests.postgres import server

from ctxhost.clock import Clock
from ctxhost.store import Store
from ctxhost.store.open import open_store
from ctxhost.store.postgres_schema import migrate
from ctxhost.store.rows import TABLES, Table
from ctxhost.store.sqlite import SqliteStore


@dataclass(frozen=True)
class Engine:
    """How to open a store on the database of a folder (made when missing), and how to look past it."""

    name: str
    open: Callable[[Path, Clock], AbstractAsyncContextManager[Store]]
    database: Callable[[Path], Path | str]
    """What a host is told to open: the name of the folder's database."""
    columns: Callable[[Path], Mapping[str, Sequence[tuple[str, type]]]]
    """Each table of the folder's database with its columns and their Python types."""
    execute: Callable[[Path, str], int]
    """Change something behind the store's back; how many rows it touched."""
    place_of_row: str
    """A column that grows with each row that is added to a table."""
    keeps_nul: bool
    """Whether it can store text with a NUL in it."""
    crash: Callable[[Path, Path], Path]
    """Leave open stores on a folder's database only what is on disk; the folder to go on with, which may be the second,
    an empty one."""
    check: Callable[[Path], None] = lambda _: None
    """Have the engine itself look whether its file is sound."""
    discard: Callable[[Path], None] = lambda _: None
    """Throw the folder's database away, if it is not in the folder itself."""


@asynccontextmanager
async def open_sqlite(folder: Path, clock: Clock) -> AsyncIterator[Store]:
    store = SqliteStore(folder / "ctxhost.db", clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def sqlite_columns(folder: Path) -> Mapping[str, Sequence[tuple[str, type]]]:
    types = {"TEXT": str, "INTEGER": int}
    with closing(sqlite3.connect(folder / "ctxhost.db")) as db:
        strict = db.execute("select name from pragma_table_list where schema = 'main' and strict").fetchall()
        return {
            table: [(name, types[kind]) for _, name, kind, *_ in db.execute(f"pragma table_info({table})")]
            for (table,) in strict
        }


def sqlite_execute(folder: Path, sql: str) -> int:
    with closing(sqlite3.connect(folder / "ctxhost.db")) as db, db:
        return db.execute(sql).rowcount


def crash_sqlite(folder: Path, fresh: Path) -> Path:
    for name in ("ctxhost.db", "ctxhost.db-wal"):
        shutil.copyfile(folder / name, fresh / name)
    return fresh


def check_sqlite(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ctxhost.db")) as db:
        assert [("ok",)] == db.execute("pragma integrity_check").fetchall()
        assert [] == db.execute("pragma foreign_key_check").fetchall()


def postgres_url(folder: Path) -> str:
    """The database of a folder, made when missing; written down there, for the processes that a test starts."""
    note = folder / "postgres.url"
    if not note.exists():
        note.write_text(server().url(_emptied.pop() if _emptied else _new_database()))
    return note.read_text()


_ALL_OTHERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where pid <> pg_backend_pid() and datname = current_database()"
)
_emptied: list[str] = []
"""Databases that tests have given back: emptying one takes a hundredth of the time of making one."""
_numbers = itertools.count()


def database_of(folder: Path) -> str:
    """The name of a folder's database."""
    return str(psycopg.conninfo.conninfo_to_dict(postgres_url(folder))["dbname"])


def _new_database() -> str:
    name = f"test_{next(_numbers)}"
    server().create(name, template=template())
    return name


_SHAPE = """
    select string_agg(t, E'\\n' order by t) from (
        select indexdef from pg_indexes where schemaname = 'public'
        union all select name from ctxhost_migration
        union all select format('%s %s %s', attrelid::regclass, attname, atttypid::regtype) from pg_attribute
            join pg_class on pg_class.oid = attrelid and relkind = 'r' and relnamespace = 'public'::regnamespace
            where attnum > 0 and not attisdropped
    ) as shape (t)
"""


@cache
def _shape() -> str:
    return str(server().execute(_SHAPE, database=template())[0][0])


@cache
def _first_rows() -> list[tuple[Any, ...]]:
    return server().execute("select * from account", database=template())


def _is_as_new(database: str) -> bool:
    """Empty a database; False if something of it was changed that is not its rows, or cannot be had."""
    with suppress(psycopg.Error), psycopg.connect(server().url(database), autocommit=True) as connection:
        connection.execute("set lock_timeout = '1s'")
        connection.execute(_ALL_OTHERS.encode())
        if connection.execute(_SHAPE.encode()).fetchall() != [(_shape(),)]:
            return False
        connection.execute(";".join(map(_emptying, TABLES)).encode())
        for row in _first_rows():
            connection.execute(f"insert into account values ({', '.join(['%s'] * len(row))})".encode(), row)
        return True
    return False


def _emptying(table: Table) -> str:
    """Deleting is quicker; but a journal's rows must lie in their order, not where a vacuum has made room."""
    return f"truncate {table.name}" if table.append_only else f"delete from {table.name}"


@cache
def template() -> str:
    """A database with the schema, for the others to be copied from."""
    asyncio.run(migrate(server().create("ctxhost_template")))
    return "ctxhost_template"


@asynccontextmanager
async def open_postgres(folder: Path, clock: Clock) -> AsyncIterator[Store]:
    url = await anyio.to_thread.run_sync(postgres_url, folder)
    store = await open_store(url, clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def postgres_columns(folder: Path) -> Mapping[str, Sequence[tuple[str, type]]]:
    types = {"text": str, "bigint": int}
    tables: dict[str, list[tuple[str, type]]] = {}
    sql = "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'"
    with psycopg.connect(postgres_url(folder)) as connection:
        for table, column, kind in connection.execute(f"{sql} order by ordinal_position".encode()):
            tables.setdefault(table, []).append((column, types.get(kind, object)))
    return tables


def postgres_execute(folder: Path, sql: str) -> int:
    with psycopg.connect(postgres_url(folder), autocommit=True) as connection:
        return connection.execute(sql.encode()).rowcount


def crash_postgres(folder: Path, _: Path) -> Path:
    postgres_execute(folder, _ALL_OTHERS)
    return folder


def discard_postgres(folder: Path) -> None:
    note = folder / "postgres.url"
    if note.exists():
        database = database_of(folder)
        note.unlink()
        if _is_as_new(database):
            _emptied.append(database)
        else:
            server().drop(database)


SQLITE = Engine(
    name="sqlite",
    open=open_sqlite,
    database=lambda folder: folder / "ctxhost.db",
    columns=sqlite_columns,
    execute=sqlite_execute,
    place_of_row="rowid",
    keeps_nul=True,
    crash=crash_sqlite,
    check=check_sqlite,
)
POSTGRES = Engine(
    name="postgres",
    open=open_postgres,
    database=postgres_url,
    columns=postgres_columns,
    execute=postgres_execute,
    place_of_row="ctid",
    keeps_nul=False,
    crash=crash_postgres,
    discard=discard_postgres,
)
ENGINES = {engine.name: engine for engine in (SQLITE, POSTGRES)}
