"""Serve an ASGI app: a socket that is ours before anything else starts, and an end that lets answers out."""

import contextlib
import errno
import gc
import logging
import math
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sized

import anyio
import uvicorn
from anyio.abc import TaskGroup, TaskStatus
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctxhost.api.problems import problem
from ctxhost.errors import Overloaded, SettingsError
from ctxhost.ids import new_id

log = logging.getLogger("ctxhost.serve")

LINGER_S = 1
"""How long connections that are kept alive stay open once the end was asked for: one more call may be on its way."""
LAST_ANSWERS_S = 1
RETRY_AFTER_S = 1
_BACKLOG = 2_048
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not bound to


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. What is sent to it waits until `serve` begins.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = address(host, port)
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"{where} is taken: stop what listens there, or choose another --port.") from error
        raise SettingsError(f"{where} cannot be listened on: {error.strerror or error}.") from error


def url_of(host: str, listening: socket.socket) -> str:
    """The URL of a listening socket, as seen from this machine."""
    return f"http://{address(_ANY.get(host, host), listening.getsockname()[1])}"


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def settle_heap() -> None:
    """Take all that there is now for lasting: the garbage collector looks through it no more.

    For a process that has started and will serve. Each look takes tens of milliseconds in which nothing else is done.
    """
    gc.collect()
    gc.freeze()


class _Calls:
    """The app, with an end: from `close` on every answer ends its connection, and a call that is cut off is refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._is_closing = False

    def close(self) -> None:
        self._is_closing = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_last(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if self._is_closing:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, receive, send_last)
        except anyio.get_cancelled_exc_class():
            if has_begun or not self._is_closing:
                raise
            await _cut_off(scope, receive, send_last)


async def _cut_off(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = new_id("req")
    log.warning("%s %s did not end in time and was cut off (request %s)", scope["method"], scope["path"], request_id)
    refused = problem(Overloaded("The host is shutting down.", retry_after_s=RETRY_AFTER_S))
    refused.headers["x-request-id"] = request_id
    await refused(scope, receive, send)


class _Server(uvicorn.Server):
    """Leaves signals alone: the program decides what ends it. Its end cuts off no call before `drain_s`."""

    def __init__(self, app: ASGIApp, *, drain_s: float) -> None:
        self._calls = _Calls(app)
        self._drain_s = drain_s
        self.servers = []  # until there are some
        super().__init__(
            uvicorn.Config(
                self._calls,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let the calls under way end, refuse those that do not."""
        began = anyio.current_time()
        self._calls.close()
        await anyio.lowlevel.checkpoint()  # whoever has knocked by now is let in
        for server in self.servers:
            server.close()
        await _empty(self.server_state.connections, within_s=min(LINGER_S, self._drain_s))
        await anyio.lowlevel.checkpoint()  # and what has been said by now is heard
        left_s = max(self._drain_s - (anyio.current_time() - began), 0)
        self.config.timeout_graceful_shutdown = math.ceil(left_s)
        await super().shutdown(sockets)
        await _empty(self.server_state.tasks, within_s=LAST_ANSWERS_S)  # just cancelled, they have an answer to give

    def let_go(self) -> None:
        """Leave nothing on the loop, however it came to the end: the socket that is listened on is closed elsewhere."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()


async def _empty(some: Sized, *, within_s: float) -> None:
    with anyio.move_on_after(within_s):
        while some:  # noqa: ASYNC110 - the server tells nobody when one of its connections or tasks has ended
            await anyio.sleep(0.02)


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket, *, drain_s: float = 10) -> AsyncIterator[None]:
    """Answer requests until the block is left; those under way then have `drain_s` to end.

    What comes in meanwhile on connections that are kept alive is answered too, as the last call on its connection.
    """
    server = _Server(app, drain_s=drain_s)

    async def answer() -> None:
        try:
            await server.serve(sockets=[listening])
        finally:
            server.let_go()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        try:
            yield
        finally:
            server.should_exit = True


class Signals:
    """SIGINT and SIGTERM, as `until_stopped` gives them."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    async def first(self) -> str:
        """Wait for one; returns its name. From then on another one cancels the block."""
        name: str = await self._tasks.start(self._listen)
        return name

    async def _listen(self, *, task_status: TaskStatus[str]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started(signal.Signals(await anext(received)).name)
            log.warning("%s again: ending at once", signal.Signals(await anext(received)).name)
            self._tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def until_stopped() -> AsyncIterator[Signals]:
    """A block that may take its time to end after the first signal, and is cancelled by the second."""
    async with anyio.create_task_group() as tasks:
        yield Signals(tasks)
        tasks.cancel_scope.cancel()
