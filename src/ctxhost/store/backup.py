"""The books as one SQLite file, out of either engine and into either. Blocking: for a command, not for a host.

Taken out while hosts run, as one consistent moment; put in whole or not at all, into a database that holds nothing.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ctxhost.errors import StoreError
from ctxhost.settings import is_url
from ctxhost.store import backup_sqlite
from ctxhost.store.backup_common import counts
from ctxhost.store.migrations import STEPS
from ctxhost.store.sqlite import prepare

_NEEDS_POSTGRES = "A postgresql:// database needs the extra: pip install 'ctxhost[postgres]'."


@dataclass(frozen=True, slots=True)
class Copied:
    """What is in a copy of the books."""

    steps: Sequence[str]
    """The steps of its schema: this version's."""
    rows: Mapping[str, int]
    """How many rows each table has."""
    key_ids: Sequence[str]
    """The encryption keys that its secrets were sealed with."""
    folders: Mapping[str, str]
    """Where the code of each app is."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was put into a database."""

    rows: Mapping[str, int]
    mended: Mapping[str, int]
    """By column, texts with a NUL, which PostgreSQL does not keep: each NUL became U+FFFD."""


def copy_books(database: Path | str, into: Path) -> Copied:
    """Copy a database, as it is at one moment, to a new SQLite file with this version's schema.

    Raises:
        StoreError: it cannot be read, was made by a newer ctxhost, or is none of ours.
    """
    if is_url(database):
        _postgres().dump(str(database), into)
    else:
        backup_sqlite.dump(Path(database), into)
    prepare(into)  # what was copied may be older
    as_one_file(into)
    with closing(sqlite3.connect(into)) as copy:
        return Copied(
            steps=[step.name for step in STEPS],
            rows=counts(lambda sql: copy.execute(sql).fetchone()[0]),
            key_ids=_key_ids(copy),
            folders=dict(copy.execute("select id, folder from app where folder <> '' order by id")),
        )


def load_books(copy: Path, database: Path | str, *, before_commit: Callable[[], None] = lambda: None) -> Loaded:
    """Put a copy's rows into a database that holds nothing, whole or not at all; no job in it is claimed.

    `before_commit` is called when all rows are in and none can be seen yet; what it raises leaves the database empty.

    Raises:
        StoreError: the database holds something, is in use or cannot be written, or the copy is of a newer ctxhost.
    """
    prepare(copy)
    as_one_file(copy)
    with closing(sqlite3.connect(copy)) as source:
        expected = counts(lambda sql: source.execute(sql).fetchone()[0])

    def check(found: Mapping[str, int]) -> None:
        different = [name for name, count in expected.items() if found[name] != count]
        if different:
            raise StoreError(f"Not every row of {', '.join(different)} arrived; nothing was kept.")
        before_commit()

    if is_url(database):
        return Loaded(expected, _postgres().load(copy, str(database), check))
    return Loaded(expected, backup_sqlite.load(copy, Path(database), check))


def as_one_file(copy: Path) -> None:
    """Whatever SQLite keeps beside a file that nobody has open goes into it."""
    with closing(sqlite3.connect(copy)) as db:
        db.execute("pragma journal_mode = delete")


def _key_ids(copy: sqlite3.Connection) -> Sequence[str]:
    sealed = "select sealed from secret union select secret from endpoint union select old_secret from endpoint"
    return sorted({text.split(".")[1] for (text,) in copy.execute(sealed) if text.count(".") > 1})


def _postgres() -> ModuleType:
    """Imported where it is asked for: psycopg is an extra."""
    try:
        from ctxhost.store import backup_postgres
    except ImportError as error:
        raise StoreError(_NEEDS_POSTGRES) from error
    return backup_postgres
