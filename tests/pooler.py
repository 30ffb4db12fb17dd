"""Poolers in transaction mode before a PostgreSQL: one of our own, and the real PgBouncer where there is one.

Ours does what such a pooler does to its clients: a connection to the server is theirs from the first message of a
transaction to its end and no longer; it is then given to whoever waits longest. Nothing that a session holds, such as
a setting or a prepared statement, is there at the next transaction, or it is another client's.
"""

import asyncio
import contextlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from tests.postgres import START_TIMEOUT_S, NoServer, Server

_SSL, _GSS, _CANCEL, _STARTUP = 80_877_103, 80_877_104, 80_877_102, 196_608
_KNOWN = {"user", "database", "client_encoding", "application_name", "datestyle", "timezone", ""}
_IDLE = b"I"
_HELLO = b"R" + struct.pack("!ii", 8, 0)
_KEY = b"K" + struct.pack("!iii", 12, 0, 0)
_READY = b"Z" + struct.pack("!i", 5) + _IDLE


class Gone(Exception):
    """The other side has ended the connection."""


class Wire:
    """One end of a connection, message by message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @property
    def has_ended(self) -> bool:
        return self._reader.at_eof()

    async def exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone from error

    async def message(self) -> bytes:
        """A whole message; its first byte is its kind."""
        head = await self.exactly(5)
        return head + await self.exactly(struct.unpack("!i", head[1:])[0] - 4)

    async def send(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (ConnectionError, RuntimeError) as error:  # uvloop's word for a transport that has closed meanwhile
            raise Gone from error

    async def send_error(self, text: str) -> None:
        """The last word to a client."""
        fields = b"".join(
            kind + value.encode() + b"\0"
            for kind, value in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", "08P01"), (b"M", text))
        )
        with contextlib.suppress(Gone):
            await self.send(b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0")

    def close(self) -> None:
        self.writer.close()


class Pooler:
    """Listens on loopback, and shares `size` connections of each user to each database among all clients."""

    def __init__(self, server: Server, *, size: int = 3) -> None:
        self._place = server.socket
        self._size = size
        self._idle: dict[tuple[str, str], deque[Wire]] = {}
        self._room: dict[tuple[str, str], asyncio.Semaphore] = {}
        self._hello: dict[tuple[str, str], bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self.port = 0
        self.is_silent = False
        """Takes what it is sent and answers nothing, as a machine that hangs."""
        self.clients = self.most_servers = 0

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for idle in self._idle.values():
            for wire in idle:
                wire.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._attend(Wire(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, client: Wire) -> None:
        try:
            with contextlib.suppress(Gone):
                asked = await self._greeted(client)
                if asked is not None:
                    await self._serve(client, (asked["user"], asked.get("database") or asked["user"]))
        finally:
            client.close()

    async def _greeted(self, client: Wire) -> Mapping[str, str] | None:
        """What a client asks for in its first message; None when it only wanted to cancel, or asked too much."""
        while True:
            size, code = struct.unpack("!ii", await client.exactly(8))
            body = await client.exactly(size - 8)
            await self._answering()
            if code in (_SSL, _GSS):
                await client.send(b"N")
                continue
            if code == _CANCEL:
                return None
            words = body.decode().split("\0")
            asked = dict(zip(words[::2], words[1::2], strict=False))
            unknown = asked.keys() - _KNOWN
            if code == _STARTUP and not unknown:
                return asked
            await client.send_error(f"unsupported startup parameter: {', '.join(sorted(unknown))}")
            return None

    async def _answering(self) -> None:
        if self.is_silent:
            await asyncio.get_running_loop().create_future()

    async def _serve(self, client: Wire, who: tuple[str, str]) -> None:
        self.clients += 1
        server = await self._lent(who)
        self._give_back(who, server)
        await client.send(_HELLO + self._hello[who] + _KEY + _READY)
        held: Wire | None = None
        try:
            while (unit := await self._unit(client)) is not None:
                await self._answering()
                held = held or await self._lent(who)
                await held.send(unit)
                if await self._answer(held, client) == _IDLE:
                    self._give_back(who, held)
                    held = None
        except Gone:
            await client.send_error("server conn crashed?")
        finally:
            if held is not None:  # in the middle of a transaction
                held.close()
                self._room[who].release()

    async def _unit(self, client: Wire) -> bytes | None:
        """Everything up to the message that asks for an answer; None at the end."""
        unit = b""
        while True:
            message = await client.message()
            unit += message
            if message[:1] in b"SQ":
                return unit
            if message[:1] == b"X":
                return None

    async def _answer(self, server: Wire, client: Wire) -> bytes:
        """Pass an answer on; what the transaction has come to."""
        while True:
            message = await server.message()
            await client.send(message)
            if message[:1] == b"Z":
                return message[5:]

    async def _lent(self, who: tuple[str, str]) -> Wire:
        """The connection that was not used for longest."""
        await self._room.setdefault(who, asyncio.Semaphore(self._size)).acquire()
        idle = self._idle.setdefault(who, deque())
        self.most_servers = max(self.most_servers, self._size - self._room[who]._value)
        try:
            while idle:
                server = idle.popleft()
                if not server.has_ended:
                    return server
            return await self._connected(who)
        except BaseException:
            self._room[who].release()
            raise

    def _give_back(self, who: tuple[str, str], server: Wire) -> None:
        self._idle[who].append(server)
        self._room[who].release()

    async def _connected(self, who: tuple[str, str]) -> Wire:
        try:
            server = Wire(*await asyncio.open_unix_connection(self._place))
        except OSError as error:
            raise Gone from error
        body = struct.pack("!i", _STARTUP) + f"user\0{who[0]}\0database\0{who[1]}\0\0".encode()
        await server.send(struct.pack("!i", len(body) + 4) + body)
        told = b""
        while (message := await server.message())[:1] != b"Z":
            if message[:1] == b"E":
                raise Gone
            told += message if message[:1] == b"S" else b""
        self._hello[who] = told
        return server


_INI = """
[databases]
* = host={sockets} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
"""


class PgBouncer:
    """The real one, with its shipped settings but for the mode and the size of its pools."""

    def __init__(self, server: Server, *, size: int = 3) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="ctxhost-pgbouncer-", dir="/tmp"))
        self._folder.chmod(0o755)  # it does not run as root
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(_INI.format(sockets=server.socket.parent, port=self.port, size=size))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["pgbouncer", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **server.identity()
            )

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def wait(self) -> None:
        """Until it listens."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise NoServer(f"PgBouncer did not start: {(self._folder / 'log').read_text()[-500:]}")
            time.sleep(0.02)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(START_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)


def has_pgbouncer() -> bool:
    return shutil.which("pgbouncer") is not None


@contextlib.asynccontextmanager
async def pooling(name: str, server: Server, *, size: int = 3) -> AsyncIterator[Callable[[str], str]]:
    """A pooler of a name in `POOLERS`, up and listening; gives the URL of a database behind it."""
    if name == "own":
        own = Pooler(server, size=size)
        await own.start()
        try:
            yield own.url
        finally:
            await own.aclose()
    else:
        real = await asyncio.to_thread(partial(PgBouncer, server, size=size))
        try:
            await asyncio.to_thread(real.wait)
            yield real.url
        finally:
            await asyncio.to_thread(real.close)


POOLERS = ["own", "pgbouncer"] if has_pgbouncer() else ["own"]
needs_pgbouncer = pytest.mark.skipif(not has_pgbouncer(), reason="there is no program `pgbouncer` on PATH")
