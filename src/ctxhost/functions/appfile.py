"""One app's SQLite file, used by one thread at a time."""

import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctxhost.clock import Clock, rfc3339
from ctxhost.functions.migrate import apply_schema
from ctxhost.functions.queryerror import QueryError, QueryErrorCode
from ctxhost.functions.schema import Schema
from ctxhost.functions.sql import Statement
from ctxhost.functions.sqlguard import Guard, register_plain

_BUSY_S: Final = 2.0
_PAGE_BYTES: Final = 4_096

_CODES: Final[dict[int, QueryErrorCode]] = {
    sqlite3.SQLITE_ERROR: "syntax_error",
    sqlite3.SQLITE_AUTH: "not_allowed",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_CONSTRAINT: "constraint_violation",
    sqlite3.SQLITE_MISMATCH: "constraint_violation",
    sqlite3.SQLITE_FULL: "database_full",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_TOOBIG: "too_large",
}

# The declared types of columns.py; no other code declares these names.
sqlite3.register_converter("pg_boolean", lambda raw: raw == b"1")
sqlite3.register_converter("pg_json", json.loads)
sqlite3.register_converter("pg_jsonb", json.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppLimits:
    """What one query of an app may take, and how large its file may grow."""

    timeout_s: float = 5.0
    max_rows: int = 10_000
    max_result_bytes: int = 16 * 2**20
    max_value_bytes: int = 4 * 2**20
    max_file_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class QueryResult:
    """`row_count`: rows returned, or rows written when the statement returns none."""

    rows: list[dict[str, Any]]
    row_count: int


class AppFile:
    """Opens on first use. Every method blocks; a thread that comes while another is inside waits for it."""

    def __init__(self, path: Path, *, limits: AppLimits, clock: Clock) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._alone = threading.Lock()
        self._open: tuple[sqlite3.Connection, Guard] | None = None

    def run(self, statement: Statement, params: Sequence[object], cancelled: threading.Event) -> QueryResult:
        """Carry out one statement in a transaction of its own. Raises `QueryError`; then nothing of it is kept."""
        with self._alone:
            connection, guard = self._opened()
            now = rfc3339(self._clock.now_ms())
            guard.watch(now=now, timeout_s=self._limits.timeout_s, cancelled=cancelled)
            try:
                result = self._transact(connection, statement, params)
                guard.rest()
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise guard.complaint or _translated(exc) from exc
            except (ValueError, RecursionError) as exc:
                raise QueryError("database_error", "a json column holds what cannot be read") from exc
            else:
                return result
            finally:
                guard.rest()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def migrate(self, schema: Schema) -> list[str]:
        """Bring the file up to the schema. Returns and raises as `apply_schema` does."""
        with self._alone, closing(_connect(self._path)) as connection:
            register_plain(connection, self._clock)
            return apply_schema(connection, schema)

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._alone:
            if self._open is not None:
                self._open[0].close()
                self._open = None

    def _opened(self) -> tuple[sqlite3.Connection, Guard]:
        if self._open is None:
            connection = _connect(self._path)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA max_page_count = {self._limits.max_file_bytes // _PAGE_BYTES}")
            self._open = connection, Guard(connection, max_value_bytes=self._limits.max_value_bytes)
        return self._open

    def _transact(self, connection: sqlite3.Connection, statement: Statement, params: Sequence[object]) -> QueryResult:
        connection.execute("BEGIN IMMEDIATE" if statement.writes else "BEGIN")
        values = {f"p{n}": value for n, value in enumerate(params, start=1)}
        # Closed also half read, or it would keep its view of the database beyond the transaction.
        with closing(connection.execute(statement.sql, values)) as cursor:
            if cursor.description is None:
                return QueryResult([], connection.execute("SELECT changes()").fetchone()[0])
            rows = self._fetched(cursor)
        return QueryResult(rows, len(rows))

    def _fetched(self, cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
        names = [column[0] for column in cursor.description]
        rows: list[dict[str, Any]] = []
        size = 0
        for values in cursor:
            size += sum(map(_size, values))
            if len(rows) == self._limits.max_rows:
                raise QueryError("too_many_rows", f"over {self._limits.max_rows:,} rows; use LIMIT")
            if size > self._limits.max_result_bytes:
                raise QueryError("too_many_rows", f"over {self._limits.max_result_bytes:,} bytes of rows; use LIMIT")
            rows.append(dict(zip(names, values, strict=True)))
        return rows


def _connect(path: Path) -> sqlite3.Connection:
    # Made first, so that nobody else can read it; SQLite gives its journal the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(
        path,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        detect_types=sqlite3.PARSE_DECLTYPES,
    )
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = ON", "journal_size_limit = 16777216"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _size(value: object) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, (dict, list)) else 8


def _translated(exc: sqlite3.Error) -> QueryError:
    number = getattr(exc, "sqlite_errorcode", -1)
    code = _CODES.get(number & 0xFF, "database_error")
    return QueryError(code, str(exc), columns=_columns(str(exc)) if code == "constraint_violation" else ())


def _columns(message: str) -> tuple[str, ...]:
    """The columns in `UNIQUE constraint failed: notes.a, notes.b` and `CHECK constraint failed: a must be uuid`."""
    _, _, rest = message.partition("failed: ")
    return tuple(part.split()[0].rpartition(".")[2] for part in rest.split(", ") if part)
