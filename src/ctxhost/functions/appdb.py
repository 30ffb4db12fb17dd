"""`ctx.db`: an app's own database, far from the host's own: one SQLite file per app, or a database of a PostgreSQL.

On SQLite the SQL is PostgreSQL's as far as `sql.py` says. Times are RFC 3339 text; `columns.py` says what comes back as
bool or as parsed JSON. One app's queries run one after another; those of different apps run side by side.
"""

import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread

from ctxhost.clock import Clock
from ctxhost.errors import SettingsError
from ctxhost.functions.appfile import AppFile, AppLimits, QueryResult
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.schema import Schema
from ctxhost.functions.sql import Statement, translate
from ctxhost.functions.sqltokens import is_text

__all__ = ["AppDatabase", "AppDatabases", "AppLimits", "Databases", "QueryError", "QueryResult", "open_databases"]

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_INT64: Final = range(-(2**63), 2**63)


class Databases(Protocol):
    """Every app's database, on one engine."""

    def open(self, name: str) -> "AppDatabase":
        """The database of this name (16 to 128 letters, digits, `_`, `-`; made to be hard to guess)."""
        ...

    async def query(self, name: str, sql: str, values: Sequence[object]) -> QueryResult:
        """Run one statement of an app. Raises `QueryError`."""
        ...

    async def apply_schema(self, name: str, schema: Schema) -> list[str]:
        """Add to an app's database what it lacks. Raises `SchemaError`."""
        ...

    async def aclose(self) -> None:
        """Let what is running end, and refuse what comes later with code `closed`."""
        ...


class AppDatabase:
    """One app's database. Cheap to make; it is opened on first use."""

    def __init__(self, name: str, databases: Databases) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError("a database name is 16 to 128 letters, digits, _ or -")
        self._name = name
        self._databases = databases

    async def query(self, sql: str, params: Sequence[object] = ()) -> QueryResult:
        """Run one statement as one transaction: `await db.query("SELECT * FROM notes WHERE id = $1", [note_id])`.

        Parameters are str, int, finite float, bool, None, or a dict or list (stored as JSON text). `now()` is the same
        throughout a statement. A caller that is cancelled ends its query.

        Raises:
            QueryError: with a `code`; nothing of the statement was kept.
        """
        return await self._databases.query(self._name, sql, _bound(params))

    async def apply_schema(self, schema: Schema) -> list[str]:
        """Add what the schema has and the database lacks; returns one line per addition.

        Raises:
            SchemaError: the schema contradicts what is there; nothing was changed.
        """
        return await self._databases.apply_schema(self._name, schema)


async def open_databases(url: str | None, directory: Path, *, clock: Clock, ledger: str | Path) -> Databases:
    """The databases of apps: on the PostgreSQL that `url` names, or as files in `directory`.

    `ledger` names the host's own database, in which no app's SQL may ever run.

    Raises:
        SettingsError: the server cannot be used.
    """
    if url is None:
        return AppDatabases(directory, clock=clock)
    try:
        from ctxhost.functions.appdb_postgres import PostgresDatabases
    except ImportError as error:
        raise SettingsError("apps_database needs the extra: pip install 'ctxhost[postgres]'.") from error
    return await PostgresDatabases.connect(url, ledger=str(ledger))


def check_count(statement: Statement, values: Sequence[object]) -> None:
    """Raise `QueryError` unless there is a value for each parameter, and no more."""
    if len(values) != statement.parameters:
        raise QueryError(
            "bad_parameter", f"the statement takes {statement.parameters} parameters, {len(values)} were given"
        )


@dataclass(slots=True, eq=False)
class _Entry:
    """A file in use. `turn` keeps one app from taking more than one thread."""

    file: AppFile
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0


class AppDatabases:
    """A SQLite file for each app below one directory, the `max_open` last used held open, `threads` at work at most."""

    def __init__(
        self, directory: Path, *, clock: Clock, limits: AppLimits | None = None, threads: int = 8, max_open: int = 64
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory.resolve()
        self._clock = clock
        self._limits = limits or AppLimits()
        self._threads = anyio.CapacityLimiter(threads)
        self._max_open = max_open
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._closed = False

    def open(self, name: str) -> AppDatabase:
        """The database with this file name (16 to 128 letters, digits, `_`, `-`; made to be hard to guess)."""
        return AppDatabase(name, self)

    async def query(self, name: str, sql: str, values: Sequence[object]) -> QueryResult:
        """Run one statement of an app. Raises `QueryError`."""
        statement = translate(sql)
        check_count(statement, values)
        cancelled = threading.Event()
        try:
            return await self.use(name, lambda file: file.run(statement, values, cancelled))
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            raise

    async def apply_schema(self, name: str, schema: Schema) -> list[str]:
        """Add to an app's database what it lacks. Raises `SchemaError`."""
        return await self.use(name, lambda file: file.migrate(schema))

    async def use(self, name: str, work: Callable[[AppFile], T]) -> T:
        """Run blocking work on an app's file in a thread of this pool, after the app's earlier work."""
        async with self._entry(name) as entry, entry.turn:
            # Abandoned on cancellation: the caller leaves at once; the file's own lock holds until the thread is out.
            return await anyio.to_thread.run_sync(work, entry.file, abandon_on_cancel=True, limiter=self._threads)

    async def aclose(self) -> None:
        """Close every file after the query that it is running. Later queries are refused with code `closed`."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            while self._entries:
                _, entry = self._entries.popitem()
                await self._close(entry)

    @asynccontextmanager
    async def _entry(self, name: str) -> AsyncIterator[_Entry]:
        if self._closed:
            raise QueryError("closed", "the host is shutting down")
        entry = self._entries.get(name)
        if entry is None:
            file = AppFile(self._directory / f"{name}.db", limits=self._limits, clock=self._clock)
            entry = self._entries[name] = _Entry(file)
        self._entries.move_to_end(name)
        entry.users += 1
        try:
            await self._close_idle()
            yield entry
        finally:
            entry.users -= 1

    async def _close_idle(self) -> None:
        idle = [name for name, entry in self._entries.items() if not entry.users]
        for name in idle[: max(0, len(self._entries) - self._max_open)]:
            entry = self._entries.pop(name)
            with anyio.CancelScope(shield=True):
                await self._close(entry)

    async def _close(self, entry: _Entry) -> None:
        await anyio.to_thread.run_sync(entry.file.close)


def _bound(params: Sequence[object]) -> list[object]:
    if not isinstance(params, (list, tuple)):
        raise QueryError("bad_parameter", "parameters are given as a list")
    return [_value(number, param) for number, param in enumerate(params, start=1)]


def _value(number: int, param: object) -> object:
    match param:
        case None | bool():
            return param
        case str() if is_text(param):
            return param
        case int() if param in _INT64:
            return param
        case float() if math.isfinite(param):
            return param
        case dict() | list():
            return _json(number, param)
    raise QueryError("bad_parameter", f"${number} cannot be stored: {_reason(param)}")


def _json(number: int, param: object) -> str:
    try:
        text = json.dumps(param, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise QueryError("bad_parameter", f"${number} is not JSON: {exc}") from exc
    if not is_text(text):
        raise QueryError("bad_parameter", f"${number} cannot be stored: {_reason(text)}")
    return text


def _reason(param: object) -> str:
    match param:
        case str():
            return "text has no NUL characters and no lone surrogates"
        case int():
            return "an integer has at most 64 bits"
        case float():
            return "a number is finite"
    return f"a {type(param).__name__} is not one of str, int, float, bool, None, dict, list"
