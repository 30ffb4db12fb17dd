"""What flows between libpq and a server, through our hands: counted before it is in memory.

libpq takes in a row as a whole, and a row may have a gigabyte. So once it has logged in, its socket is exchanged for
one end of a pair; the server's bytes, encrypted or not, are handed to it in small portions, as many as are allowed.
"""

import os
import socket
from contextlib import suppress
from typing import Final

import anyio
import psycopg
from anyio.lowlevel import checkpoint
from psycopg.pq.abc import PGconn

from ctxhost.functions.queryerror import QueryError

_PORTION_BYTES: Final = 8_192  # what libpq always has room for
_PORTIONS_A_TURN: Final = 64


class Sluice:
    """Between a connection that has logged in and its server. Nothing else may read or write that connection."""

    def __init__(self, pg: PGconn, *, max_bytes: int) -> None:
        self._pg = pg
        self._max_bytes = max_bytes
        self._received = 0
        self._server = socket.socket(fileno=os.dup(pg.socket))
        self._ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            os.dup2(theirs.fileno(), pg.socket, inheritable=False)
        for end in (self._server, self._ours):
            end.setblocking(False)

    def start(self) -> None:
        """Count from here."""
        self._received = 0

    async def send(self) -> None:
        """Let everything out that libpq wants to say."""
        while True:
            has_more = self._pg.flush()
            with suppress(BlockingIOError):
                while data := self._ours.recv(16 * _PORTION_BYTES):
                    await self._send(data)
            if not has_more:
                return

    async def receive(self) -> None:
        """Hand libpq the next portion of what the server says, once there is one.

        Raises:
            QueryError: the server has said too much; the connection is of no more use.
            psycopg.OperationalError: the connection is gone.
        """
        while (data := self._portion()) is None:
            await anyio.wait_readable(self._server)
        if not data:
            raise psycopg.OperationalError("the connection is gone")
        before, self._received = self._received, self._received + len(data)
        if self._received > self._max_bytes:
            raise QueryError("too_large", "the result is too large")
        if before // (_PORTIONS_A_TURN * _PORTION_BYTES) < self._received // (_PORTIONS_A_TURN * _PORTION_BYTES):
            await checkpoint()
        self._ours.sendall(data)
        self._pg.consume_input()

    def close(self) -> None:
        """Close both ends, when libpq has closed its own; its last word still goes out."""
        with suppress(OSError):
            self._server.send(self._ours.recv(_PORTION_BYTES))
        self._server.close()
        self._ours.close()

    def _portion(self) -> bytes | None:
        try:
            return self._server.recv(_PORTION_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise psycopg.OperationalError("the connection is gone") from exc

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._server.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._server)
            except OSError as exc:
                raise psycopg.OperationalError("the connection is gone") from exc
