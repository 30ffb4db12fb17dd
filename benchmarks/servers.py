"""Servers in processes of their own, so that who asks and who answers do not share an interpreter."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import httptools
import uvloop
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

import ctxhost_fake
from ctxhost.cli.server import listen, serving, settle_heap, url_of
from ctxhost.cli.stand import StandFolder, Tenant, make_tenant, stand_settings
from ctxhost.host import Host
from ctxhost.settings import MeetingSettings

T = TypeVar("T")

Serve = Callable[..., contextlib.AbstractAsyncContextManager[T]]
"""Serves while the block lasts; what it yields goes to the parent. A function of a module, its arguments picklable."""
Work = Callable[..., Awaitable[Any]]
Live = Callable[[Connection, Serve[Any], tuple[Any, ...]], Coroutine[Any, Any, None]]
START_TIMEOUT_S = 60
END_TIMEOUT_S = 20
FUNDS_NANO_USD = 5 * 10**14
ENDLESS = 10**9


class NotStarted(Exception):
    """A server in a process of its own did not start."""


@contextlib.contextmanager
def running(serve: Serve[T], *given: Any) -> Iterator[T]:
    """A child process that serves until the block is left."""
    with started(_serve, serve, given) as pipe:
        if not pipe.poll(START_TIMEOUT_S):
            raise NotStarted("it takes too long")
        try:
            facts = pipe.recv()
        except EOFError:
            raise NotStarted("it has ended") from None
        yield facts


@contextlib.contextmanager
def worker(serve: Serve[Work], *given: Any) -> Iterator[Connection]:
    """A child process that does one piece of work for each order sent through the pipe, and sends back what it gave."""
    with started(_obey, serve, given) as pipe:
        yield pipe


@contextlib.contextmanager
def started(live: Live, serve: Serve[Any], given: tuple[Any, ...]) -> Iterator[Connection]:
    """A child process; it ends when the pipe is closed."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    child = context.Process(target=run, args=(live, its, serve, given), daemon=True)
    child.start()
    its.close()
    try:
        yield ours
    finally:
        ours.close()  # what it waits for
        child.join(END_TIMEOUT_S)
        child.terminate()


def run(live: Live, pipe: Connection, serve: Serve[Any], given: tuple[Any, ...]) -> None:
    uvloop.run(live(pipe, serve, given))


async def _serve(pipe: Connection, serve: Serve[Any], given: tuple[Any, ...]) -> None:
    async with serve(*given) as facts:
        pipe.send(facts)
        with contextlib.suppress(EOFError):
            await to_thread.run_sync(pipe.recv)


async def _obey(pipe: Connection, serve: Serve[Work], given: tuple[Any, ...]) -> None:
    async with serve(*given) as work:
        with contextlib.suppress(EOFError):
            while True:
                order = await to_thread.run_sync(pipe.recv)
                pipe.send(await work(*order))


@contextlib.asynccontextmanager
async def empty_route() -> AsyncIterator[int]:
    """A Starlette route that does nothing, for POST and GET at `/`; its port."""

    async def nothing(_: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    async with served(Starlette(routes=[Route("/", nothing, methods=["GET", "POST"])])) as port:
        yield port


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    """An app on the server that `ctxhost serve` uses; its port."""
    with listen("127.0.0.1", 0) as listening:
        async with serving(app, listening):
            yield listening.getsockname()[1]


class Yes(asyncio.Protocol):
    """Says 200 to whatever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[int]:
    """A receiver's port."""
    server = await asyncio.get_running_loop().create_server(Yes, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@dataclass(frozen=True, slots=True)
class Served:
    """A host on a server, and a tenant of it."""

    port: int
    tenant: Tenant


@contextlib.asynccontextmanager
async def host_server(folder: Path, database: str) -> AsyncIterator[Served]:
    """A host with the fake provider, at work, as `ctxhost serve` would run it."""
    async with served_host(folder, database) as (_, found):
        yield found


@contextlib.asynccontextmanager
async def served_host(folder: Path, database: str, *, speed: float = 1) -> AsyncIterator[tuple[Host, Served]]:
    """The same in this process, with the host itself."""
    with listen("127.0.0.1", 0) as listening:
        async with opened_host(folder, database, base_url=url_of("127.0.0.1", listening), speed=speed) as host:
            tenant = await make_tenant(host, "bench", owner="bench", credit_nano_usd=FUNDS_NANO_USD)
            async with serving(host.asgi, listening):
                settle_heap()
                yield host, Served(listening.getsockname()[1], tenant)


@contextlib.asynccontextmanager
async def opened_host(
    folder: Path, database: str, *, base_url: str, work: bool = True, speed: float = 1
) -> AsyncIterator[Host]:
    """A host without limits on how many bots there are."""
    stand = StandFolder(folder)
    stand.make()
    settings = stand_settings(stand, base_url=base_url, default_app="app_bench", speed=speed)
    limits = MeetingSettings(provider="fake", unadmitted_limit=ENDLESS, live_limit=ENDLESS)
    settings = settings.model_copy(update={"database": database, "meetings": limits})
    async with Host(settings, plugins=[ctxhost_fake], work=work, served=True) as host:
        yield host
