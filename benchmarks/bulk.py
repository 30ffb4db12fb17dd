"""Rows in bulk, straight into a host's database: what would take a host hours to come by."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from ctxhost.settings import is_url
from ctxhost.store.rows import TABLE_OF, TABLES

_NAMES = {table.name for table in TABLES}


class Into(Protocol):
    """A database that is being filled."""

    def execute(self, sql: str) -> object: ...

    def fill(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None: ...


@dataclass(frozen=True, slots=True)
class _IntoSqlite:
    db: sqlite3.Connection

    def execute(self, sql: str) -> list[Any]:
        return self.db.execute(sql).fetchall()

    def fill(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        marks = ", ".join("?" * len(columns))
        self.db.executemany(f"insert into {table} ({', '.join(columns)}) values ({marks})", rows)


@dataclass(frozen=True, slots=True)
class _IntoPostgres:
    db: "psycopg.Connection[Any]"

    def execute(self, sql: str) -> list[Any]:
        cursor = self.db.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []

    def fill(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        into = f"copy {table} ({', '.join(columns)}) from stdin"
        with self.db.cursor().copy(into.encode()) as copy:
            for row in rows:
                copy.write_row(row)


def put(database: str, rows: Sequence[Any]) -> None:
    """Insert rows, each into the table of its type."""
    by_table: dict[Any, list[Any]] = {}
    for row in rows:
        by_table.setdefault(type(row), []).append(row)
    with opened(database) as into:
        for table, some in by_table.items():
            into.fill(TABLE_OF[table].name, table._fields, some)


def change(database: str, sql: str) -> None:
    with opened(database) as into:
        into.execute(sql)


def opened(database: str) -> AbstractContextManager[Into]:
    """A connection in a transaction."""
    return _postgres(database) if is_url(database) else _sqlite(database)


@contextmanager
def _sqlite(path: str) -> Iterator[_IntoSqlite]:
    with closing(sqlite3.connect(path, timeout=30)) as db, db:
        yield _IntoSqlite(db)


@contextmanager
def _postgres(url: str) -> Iterator[_IntoPostgres]:
    with psycopg.connect(url) as db:
        yield _IntoPostgres(db)


@contextmanager
def bulk(database: str) -> Iterator[Into]:
    """For very many rows, while nobody else is there: indexes are made at the end, and only then is it all on disk."""
    with _bulk_postgres(database) if is_url(database) else _bulk_sqlite(database) as into:
        yield into
    os.sync()


@contextmanager
def _bulk_sqlite(path: str) -> Iterator[Into]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for setting in ("journal_mode = off", "synchronous = off", "cache_size = -1000000", "temp_store = memory"):
            db.execute(f"pragma {setting}")
        into = _IntoSqlite(db)
        indexes = into.execute("select name, sql from sqlite_master where type = 'index' and sql is not null")
        db.execute("begin")
        for name, _ in indexes:
            db.execute(f"drop index {name}")
        yield into
        for _, sql in indexes:
            db.execute(sql)
        db.execute("commit")
        db.execute("pragma journal_mode = wal")


@contextmanager
def _bulk_postgres(url: str) -> Iterator[Into]:
    with _postgres(url) as into:
        for setting in ("synchronous_commit = off", "maintenance_work_mem = '512MB'", "work_mem = '64MB'"):
            into.execute(f"set {setting}")
        every = into.execute(
            "select tablename, indexname, indexdef from pg_indexes where schemaname = current_schema()"
        )
        indexes = [found for found in every if found[0] in _NAMES]
        for table, name, _ in indexes:
            if name == f"{table}_pkey":
                into.execute(f"alter table {table} drop constraint {name}")
            else:
                into.execute(f"drop index {name}")
        yield into
        for table, name, sql in indexes:
            into.execute(f"alter table {table} add primary key (id)" if name == f"{table}_pkey" else sql)
