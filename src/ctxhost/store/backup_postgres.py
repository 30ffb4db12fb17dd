"""The books out of a PostgreSQL database, and into one."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import psycopg
from psycopg import IsolationLevel

from ctxhost.errors import StoreError
from ctxhost.store.backup_common import UNCLAIMED, Check, columns_of, counts, known_steps, refuse_unless_empty
from ctxhost.store.postgres_schema import migrate
from ctxhost.store.postgres_sql import HOSTS_LOCK
from ctxhost.store.rows import TABLES, Table
from ctxhost.store.sqlite import prepare

_LOCK_WAIT = "10s"
_NUL, _INSTEAD = "\x00", "\ufffd"

_Connection = psycopg.Connection[tuple[Any, ...]]


def dump(url: str, into: Path) -> None:
    """Copy every row as it is at one moment, in one transaction that only reads.

    Writers go on meanwhile. Raises `StoreError`.
    """
    with _transaction(url, reads_only=True) as database:
        if not _one(database, "select to_regclass('ctxhost_migration') is not null"):
            raise StoreError("The database is not one of ctxhost.")
        names = [name for (name,) in database.execute("select name from ctxhost_migration order by name")]
        prepare(into, steps=known_steps(names, "The database"))
        with closing(sqlite3.connect(into)) as copy:
            copy.execute("pragma synchronous = off")  # half a copy is thrown away
            with copy:
                copy.execute("delete from account")  # the platform's own comes along
                for table in TABLES:
                    _copy_out(database, copy, table)


def _copy_out(database: _Connection, copy: sqlite3.Connection, table: Table) -> None:
    """The columns that this database has: it may be older than this version."""
    fields = [row[1] for row in copy.execute(f"pragma table_info({table.name})") if row[1] in table.row._fields]
    if not fields:
        return
    columns, marks = ", ".join(fields), ", ".join("?" * len(fields))
    types = [_type(table, name) for name in fields]
    statement = f"copy (select {columns} from {table.name}) to stdout (format binary)"  # noqa: S608
    with database.cursor() as cursor, cursor.copy(statement.encode()) as out:
        out.set_types(types)
        copy.executemany(f"insert into {table.name} ({columns}) values ({marks})", out.rows())  # noqa: S608


def load(copy: Path, url: str, check: Check) -> Mapping[str, int]:
    """Put a copy's rows into a database that holds nothing, in one transaction; texts that were mended, by column.

    Raises `StoreError`.
    """
    anyio.run(migrate, url)
    mended: Counter[str] = Counter()
    with _transaction(url) as database, closing(sqlite3.connect(copy)) as source:
        if not _one(database, f"select pg_try_advisory_xact_lock({HOSTS_LOCK})"):
            raise StoreError("A host runs on the database; stop it first.")
        names = ", ".join(table.name for table in TABLES)
        database.execute(f"lock table {names} in exclusive mode".encode())
        refuse_unless_empty(lambda sql: _one(database, sql), "The database")
        database.execute("delete from account")
        for table in TABLES:
            _copy_in(database, source, table, mended)
        database.execute(UNCLAIMED)
        check(counts(lambda sql: _one(database, sql)))
    with suppress(StoreError), _transaction(url) as database:
        database.execute("analyze")  # no plan is made from the statistics of empty tables
    return dict(mended)


def _copy_in(database: _Connection, source: sqlite3.Connection, table: Table, mended: Counter[str]) -> None:
    columns = columns_of(table)
    rows = source.execute(f"select {columns} from {table.name}")  # noqa: S608
    statement = f"copy {table.name} ({columns}) from stdin (format binary)"
    with database.cursor() as cursor, cursor.copy(statement.encode()) as into:
        into.set_types([_type(table, name) for name in table.row._fields])
        for row in rows:
            into.write_row(_storable(table, row, mended))


def _storable(table: Table, row: Sequence[Any], mended: Counter[str]) -> Sequence[Any]:
    if not any(isinstance(value, str) and _NUL in value for value in row):
        return row
    values = list(row)
    for n, name in enumerate(table.row._fields):
        if isinstance(values[n], str) and _NUL in values[n]:
            values[n] = values[n].replace(_NUL, _INSTEAD)
            mended[f"{table.name}.{name}"] += 1
    return values


def _type(table: Table, column: str) -> str:
    return "int8" if table.row.__annotations__[column] is int else "text"


@contextmanager
def _transaction(url: str, *, reads_only: bool = False) -> Iterator[_Connection]:
    """One transaction without a limit of time; of one moment when it only reads."""
    try:
        with psycopg.connect(
            url, connect_timeout=10, client_encoding="UTF8", prepare_threshold=None, application_name="ctxhost backup"
        ) as connection:
            if reads_only:
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = reads_only
            for name, value in (
                ("statement_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("lock_timeout", _LOCK_WAIT),
                ("synchronous_commit", "on"),
            ):
                connection.execute("select set_config(%s, %s, true)", (name, value))
            yield connection
    except psycopg.Error as error:
        raise StoreError(f"The database cannot be used: {' '.join(str(error).split())}") from error


def _one(connection: _Connection, sql: str) -> Any:
    row = connection.execute(sql.encode()).fetchone()
    return row[0] if row else None
