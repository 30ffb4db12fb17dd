"""What hosts on one database know of each other: who lives, and a hint when jobs were put.

Both need a connection that keeps its state, so behind a pooler there is neither: claims then end at their deadline, and
jobs are found by polling, which is the truth anyway.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg

from ctxhost.store.postgres_sql import HOSTS_LOCK, JOBS_CHANNEL
from ctxhost.store.postgres_wire import manners

HINT_PAUSE_S = 0.1
RECONNECT_S = 1.0
ANSWER_WITHIN_S = 10


class Hosts:
    """This host among the others, from `join` on."""

    def __init__(self, url: str, wake: Callable[[], None]) -> None:
        self.name = secrets.token_hex(8)
        self._url = url
        self._wake = wake
        self._listener: asyncio.Task[None] | None = None
        self._next_hint = 0.0

    async def join(self, give_back: Callable[[], Awaitable[object]]) -> None:
        """Show that this host lives. When it is alone, the others have died: `give_back` what they had claimed.

        Raises:
            psycopg.Error, Overloaded, TimeoutError: it cannot be known who lives.
        """
        if self._listener is not None:
            return
        connection = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                if await _call(connection, "pg_try_advisory_lock"):
                    await give_back()
                    await _call(connection, "pg_advisory_unlock")
        except BaseException:
            await connection.close()
            raise
        self._listener = asyncio.get_running_loop().create_task(self._listen(connection))

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
                await _call(connection, "pg_advisory_lock_shared")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _listen(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        while True:
            with suppress(psycopg.Error):
                async with connection:
                    await connection.execute(f"listen {JOBS_CHANNEL}".encode())
                    async for notice in connection.notifies():
                        if notice.payload != self.name:
                            self._wake()
            await asyncio.sleep(RECONNECT_S)
            with suppress(psycopg.Error, TimeoutError):
                connection = await self._connect()

    async def aclose(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])


async def _call(connection: "psycopg.AsyncConnection[Any]", function: str) -> object:
    row = await (await connection.execute(f"select {function}(%s)".encode(), (HOSTS_LOCK,))).fetchone()
    return row[0] if row else None
