"""The books out of an SQLite file, and into one."""

import fcntl
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations

from ctxhost.errors import StoreError
from ctxhost.store.backup_common import UNCLAIMED, Check, columns_of, counts, known_steps, refuse_unless_empty
from ctxhost.store.rows import TABLES
from ctxhost.store.sqlite import prepare

_BUSY_S = 30


def dump(database: Path, into: Path) -> None:
    """Copy the file as it is at one moment, with SQLite's own backup. Writers go on meanwhile. Raises `StoreError`."""
    if not database.is_file():
        raise StoreError(f"There is no database at {database}.")
    try:
        with _opened(_uri(database, "rw")) as source, _opened(_uri(into, "rwc")) as target:
            source.backup(target)  # in one step: a copy in several begins again whenever another process writes
        _check(into, database)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{database} cannot be copied: {error}") from error


def load(copy: Path, database: Path, check: Check) -> Mapping[str, int]:
    """Put a copy's rows into a file that holds nothing, in one transaction. Raises `StoreError`."""
    prepare(database)
    try:
        with _alone(database), _opened(_uri(database, "rw")) as db:
            db.execute("pragma synchronous = full")
            db.execute("attach ? as copy", (_uri(copy, "ro"),))
            db.execute("begin immediate")
            _fill(db, database)
            check(counts(lambda sql: db.execute(sql).fetchone()[0]))
            db.execute("commit")
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{database} cannot be written ({error}); it holds nothing.") from error
    return {}


def _fill(db: sqlite3.Connection, database: Path) -> None:
    refuse_unless_empty(lambda sql: db.execute(sql).fetchone()[0], database)
    db.execute("delete from account")  # the platform's own comes with the copy
    for table in TABLES:
        columns = columns_of(table)
        db.execute(
            f"insert into main.{table.name} ({columns}) select {columns} from copy.{table.name}"  # noqa: S608
        )
    db.execute(UNCLAIMED)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Keep hosts off the file: living ones share a lock beside it."""
    with database.with_name(f"{database.name}-hosts").open("ab") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"A host runs on {database}; stop it first.") from None
        yield


def _check(copy: Path, database: Path) -> None:
    """Raise `StoreError` unless it is ours, and not newer than we are."""
    migrations = Migrations("ctxhost")
    with closing(sqlite3.connect(copy)) as db:
        described = Database(db)
        if not described[migrations.migrations_table].exists():
            raise StoreError(f"{database} is not a database of ctxhost.")
        known_steps([done.name for done in migrations.applied(described)], database)


def _opened(uri: str) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None))


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"
