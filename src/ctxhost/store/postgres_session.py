"""Connections that heal: when one is lost the next use makes another, soon at first, then less and less often.

Why the database is away is for the operator, who reads it once in the log; callers hear only that it is.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from ctxhost.errors import Overloaded
from ctxhost.store.postgres_wire import Lost, Param, Result, Statement, Wire, sqlstate
from ctxhost.store.queue import CLOSING

log = logging.getLogger("ctxhost.store")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
RETRY_AFTER_S = 2
NO_ANSWER_S = 5  # beyond the statement's own timeout: then the other side is taken for gone
READ_PATIENCE_S = 10
"""How long a read waits for one of the connections."""
_NO_ROOM = {
    "55P03",  # a lock was not to be had in time
    "57014",  # a statement took too long
    "25006",  # this is a replica
    "40001", "40P01",  # two transactions were in each other's way
    "58030",  # the disk failed
}  # fmt: skip
_NO_ROOM_CLASSES = {"53"}  # no disk, memory or connections left


@dataclass(frozen=True, slots=True)
class Manner:
    """How a connection is used, in settings of PostgreSQL; given anew in each transaction when a pooler is between."""

    settings: tuple[tuple[str, str], ...]
    timeout_s: float

    def options(self) -> str:
        return " ".join(f"-c {name}={value}" for name, value in self.settings)

    def statement(self) -> Statement:
        calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in self.settings)
        return Statement(f"select {calls}")


def manner(*, lock_timeout_ms: int, statement_timeout_s: int, **more: str) -> Manner:
    """The settings that fix plans and bound every wait. A plan must not depend on how full a table once was."""
    settings = {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "jit": "off",
        "lock_timeout": f"{lock_timeout_ms}ms",
        "statement_timeout": f"{statement_timeout_s}s",
        **more,
    }
    return Manner(tuple(settings.items()), statement_timeout_s + NO_ANSWER_S)


class Reach:
    """Whether the database can be reached, as a store's sessions find it. Said when it changes, not at each try."""

    def __init__(self) -> None:
        self._away_since_s: float | None = None
        self._pause_s = 0.0
        self._next_try_s = 0.0

    @property
    def may_be_tried(self) -> bool:
        """Not just after somebody has tried in vain."""
        return time.monotonic() >= self._next_try_s

    def lost(self, why: str) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            log.error("the database cannot be reached; it is tried again and again: %s", " ".join(why.split()))
        if self.may_be_tried:
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._next_try_s = time.monotonic() + self._pause_s

    def found(self) -> None:
        self._pause_s = self._next_try_s = 0.0
        if self._away_since_s is not None:
            away_s, self._away_since_s = time.monotonic() - self._away_since_s, None
            log.warning("the database is reached again, after %.1f s", away_s)


class Session:
    """One connection at a time to one database."""

    def __init__(self, url: str, manner: Manner, *, is_pooled: bool, reach: Reach | None = None) -> None:
        self._reach = reach or Reach()
        self._url = url
        self._manner = manner
        self._is_pooled = is_pooled
        self._wire: Wire | None = None
        self._closed = False

    def opening(self, begin: Statement) -> Sequence[Statement]:
        """What a transaction begins with."""
        return (begin, self._manner.statement()) if self._is_pooled else (begin,)

    async def trip(self, statements: Sequence[Statement]) -> list[Result]:
        """As `Wire.trip`. Raises `Overloaded` when there is no connection and none can be made; nothing was sent."""
        return await (await self.wire()).trip(statements)

    async def wire(self) -> Wire:
        """A connection, made now if there is none."""
        if self._wire is not None and self._wire.is_alive:
            return self._wire
        if self._closed:
            raise Overloaded(CLOSING)
        if not self._reach.may_be_tried:
            raise _unreachable()
        await self.reset()
        try:
            self._wire = await Wire.connect(
                self._url,
                options="" if self._is_pooled else self._manner.options(),
                prepares=not self._is_pooled,
                timeout_s=self._manner.timeout_s,
            )
        except psycopg.OperationalError as error:
            self._reach.lost(str(error))
            raise _unreachable() from error
        self._reach.found()
        return self._wire

    async def reset(self) -> None:
        """Give the connection up; the next use makes another."""
        if self._wire is not None:
            await self._wire.close()

    async def aclose(self) -> None:
        self._closed = True
        await self.reset()


class Sessions:
    """A few sessions for statements that stand alone, such as reads."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._free: asyncio.LifoQueue[Session] = asyncio.LifoQueue()
        for session in sessions:
            self._free.put_nowait(session)
        self._closed = False

    async def ask(self, sql: str, params: Sequence[Param] = ()) -> list[Any]:
        """The rows of a statement that only reads; asked again when the connection breaks under it.

        A caller that goes away does not stop it: an interrupted connection could only be thrown away.
        """
        if self._closed:
            raise Overloaded(CLOSING)
        return await asyncio.shield(asyncio.ensure_future(self._ask(Statement(sql, params))))

    async def _ask(self, statement: Statement) -> list[Any]:
        async with self._session() as session:
            try:
                (result,) = await session.trip([statement])
            except Lost:
                (result,) = await session.trip([statement])
        return result.rows

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        try:
            async with asyncio.timeout(READ_PATIENCE_S):
                session = await self._free.get()
        except TimeoutError:
            raise Overloaded("Too many reads are waiting for the database.", retry_after_s=RETRY_AFTER_S) from None
        try:
            yield session
        except psycopg.Error as error:
            raise translated(error) from error
        finally:
            self._free.put_nowait(session)

    async def aclose(self) -> None:
        """Finish what was asked for before, then end."""
        self._closed = True
        for _ in self._sessions:
            await (await self._free.get()).aclose()


def translated(error: Exception) -> Exception:
    """A database that is gone, full or locked is a busy host to its caller; anything else is what it is."""
    if isinstance(error, Lost):
        log.info("the connection to the database broke: %s", error)
        return _unreachable()
    if is_busy(error):
        reason = f"The database cannot do this now ({sqlstate(error)}); nothing was written."
        return Overloaded(reason, retry_after_s=RETRY_AFTER_S)
    return error


def is_busy(error: BaseException) -> bool:
    state = sqlstate(error)
    return state in _NO_ROOM or state[:2] in _NO_ROOM_CLASSES


def _unreachable() -> Overloaded:
    return Overloaded("The database cannot be reached; nothing was written.", retry_after_s=RETRY_AFTER_S)
