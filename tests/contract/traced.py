"""What the engines really send: every statement of a store is written down, with the trip that it went in."""

import inspect
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import ModuleType
from typing import Any, Self

import pytest

from ctxhost.store import postgres_session, postgres_sql, sqlite_tables
from ctxhost.store.postgres_wire import Param, Result, Statement, Wire

SQL_MODULES = (postgres_sql, sqlite_tables)


@dataclass(frozen=True)
class Sent:
    """A statement. `trip` is the same for what went to the server together; `options` are its session's settings."""

    sql: str
    trip: int
    params: Sequence[Param] = ()
    options: str = ""

    @property
    def is_plannable(self) -> bool:
        """Whether it reads or writes rows."""
        words = self.sql.split(maxsplit=1)
        return words[0].lower() in {"select", "with", "insert", "update", "delete"} and not self.is_hint

    @property
    def is_hint(self) -> bool:
        """Whether it only tells the other hosts of jobs; nobody waits for it."""
        return "pg_notify" in self.sql


@dataclass
class Trace:
    """What was sent, and which functions of the engines' SQL modules were called for it."""

    sent: list[Sent] = field(default_factory=list)
    trips: int = 0
    made_by: set[str] = field(default_factory=set)

    def take(self) -> list[Sent]:
        """What was sent since this was last asked."""
        taken, self.sent = self.sent, []
        return taken


@contextmanager
def traced() -> Iterator[Trace]:
    """Write down what stores that are opened in here send."""
    trace = Trace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_session, "Wire", _wire(trace))
        patch.setattr(sqlite3, "connect", _connect(trace))
        for module in SQL_MODULES:
            for name in makers(module):
                patch.setattr(module, name, _noted(trace, name, getattr(module, name)))
        yield trace


def makers(module: ModuleType) -> Sequence[str]:
    """The public functions of a module of SQL, and not what it imports."""
    found = inspect.getmembers(module, inspect.isfunction)
    return [name for name, made in found if made.__module__ == module.__name__ and not name.startswith("_")]


def _noted(trace: Trace, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        trace.made_by.add(name)
        return function(*args, **options)

    return call


def _wire(trace: Trace) -> type[Wire]:
    class TracedWire(Wire):
        options = ""

        @classmethod
        async def connect(cls, url: str, *, options: str, prepares: bool, timeout_s: float) -> Self:
            wire = await super().connect(url, options=options, prepares=prepares, timeout_s=timeout_s)
            assert isinstance(wire, cls)
            wire.options = options
            return wire

        async def trip(self, statements: Sequence[Statement]) -> list[Result]:
            trace.trips += 1
            number = trace.trips
            results = await super().trip(statements)
            trace.sent += [Sent(one.sql, number, one.params, self.options) for one in statements]
            return results

    return TracedWire


def _connect(trace: Trace) -> Any:
    def note(sql: str) -> None:
        trace.trips += 1
        trace.sent.append(Sent(sql, trace.trips))

    plain: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = plain(*args, **options)
        connection.set_trace_callback(note)
        return connection

    return connect
