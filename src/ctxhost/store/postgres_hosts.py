"""What hosts on one database know of each other: who lives, and a hint when jobs were put.

Both need a connection that keeps its state, so behind a pooler there is neither: claims then end at their deadline, and
jobs are found by polling, which is the truth anyway.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg

from ctxhost.errors import Overloaded
from ctxhost.store import postgres_sql as sql
from ctxhost.store.postgres_wire import Result, Statement, manners

log = logging.getLogger("ctxhost.store")

HINT_PAUSE_S = 0.1
RECONNECT_S = 1.0
ANSWER_WITHIN_S = 10
LOOK_AGAIN_S = 5
"""Between two looks for hosts that are missing: longer than a living one takes to make a broken connection again."""
LOOK_WITHIN_S = 2


class Hosts:
    """This host among the others, from `join` on."""

    def __init__(
        self,
        url: str,
        *,
        wake: Callable[[], None],
        transact: Callable[[Sequence[Statement]], Awaitable[Sequence[Result]]],
    ) -> None:
        self._number = 1 + secrets.randbelow(2**31 - 1)  # the key of a lock
        self.name = str(self._number)
        self._url = url
        self._wake = wake
        self._transact = transact
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._missing: Sequence[int] = ()
        self._next_hint = 0.0

    @property
    def number(self) -> int:
        """By which the others find out whether this host lives; 0 while they cannot."""
        return 0 if self._connection is None or self._connection.closed else self._number

    async def join(self) -> None:
        """Show that this host lives. When it is alone, the others have died: what they had claimed comes back.

        Raises:
            psycopg.Error, Overloaded, TimeoutError: it cannot be known who lives.
        """
        if self._listener is not None:
            return
        connection = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                if await _call(connection, "pg_try_advisory_lock", sql.HOSTS_LOCK):
                    await self._transact([sql.give_back()])
                    await _call(connection, "pg_advisory_unlock", sql.HOSTS_LOCK)
                await self.look()
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._listener = asyncio.get_running_loop().create_task(self._listen(connection))

    async def look(self) -> None:
        """Give back what the hosts had claimed that were missing at the last look and still are.

        Raises:
            Overloaded, psycopg.Error: it cannot be known who lives.
        """
        back, found = await self._transact([sql.give_back_of(self._missing), sql.missing_hosts()])
        self._missing = [number for (number,) in found.rows]
        if back.touched:
            log.warning("jobs that a dead host had claimed come back: %s", back.touched)
            self._wake()

    def may_hint(self) -> bool:
        """Whether to tell the other hosts of new jobs: not for each commit, they look by themselves soon enough."""
        now = time.monotonic()
        if self._listener is None or now < self._next_hint:
            return False
        self._next_hint = now + HINT_PAUSE_S
        return True

    async def _connect(self) -> "psycopg.AsyncConnection[Any]":
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **manners(self._url))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):  # a host that stands still may hold it alone
                await _call(connection, "pg_advisory_lock_shared", sql.HOSTS_LOCK)
                # Shared also with a connection that broke, as long as the server has not noticed that.
                await _call(connection, "pg_advisory_lock_shared", sql.HOST_LOCKS, self._number)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _listen(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        while True:
            with suppress(psycopg.Error):
                async with connection:
                    await connection.execute(f"listen {sql.JOBS_CHANNEL}".encode())
                    await self._hear(connection)
            await asyncio.sleep(RECONNECT_S)
            with suppress(psycopg.Error, TimeoutError):
                self._connection = connection = await self._connect()
                self._missing = ()  # what broke this connection may have broken theirs

    async def _hear(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        """Until the connection breaks."""
        while True:
            async for notice in connection.notifies(timeout=LOOK_AGAIN_S):
                if notice.payload != self.name:
                    self._wake()
            with suppress(Overloaded, psycopg.Error, TimeoutError):
                async with asyncio.timeout(LOOK_WITHIN_S):  # meanwhile nobody hears whether this connection has broken
                    await self.look()

    async def aclose(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        if self._connection is not None:
            await self._connection.close()  # a listener that never began to listen has not


async def _call(connection: "psycopg.AsyncConnection[Any]", function: str, *keys: int) -> object:
    places = ", ".join(["%s"] * len(keys))
    row = await (await connection.execute(f"select {function}({places})".encode(), keys)).fetchone()
    return row[0] if row else None
