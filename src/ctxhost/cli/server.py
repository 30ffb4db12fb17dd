"""Serve an ASGI app: a socket that is ours before anything else starts, and an end that lets answers out."""

import contextlib
import errno
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from ctxhost.errors import SettingsError

GRACE_S = 10
"""How long answers under way may take once the end was asked for."""
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


class _Server(uvicorn.Server):
    """Leaves signals alone: the program decides what ends it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Answer requests until the block is left; those under way are finished first."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)

    async def answer() -> None:
        await server.serve(sockets=[listening])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        try:
            yield
        finally:
            server.should_exit = True


async def until_told_to_stop(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> str:
    """Wait for SIGINT or SIGTERM; returns which."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            return signal.Signals(number).name
    raise AssertionError("a signal receiver does not end by itself")
