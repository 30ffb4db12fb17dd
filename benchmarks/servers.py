"""Servers in processes of their own, so that who asks and who answers do not share an interpreter."""

import contextlib
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

import ctxhost_fake
from ctxhost.cli.server import listen, serving, url_of
from ctxhost.cli.stand import StandFolder, Tenant, make_tenant, stand_settings
from ctxhost.host import Host
from ctxhost.settings import MeetingSettings

T = TypeVar("T")

Serve = Callable[..., contextlib.AbstractAsyncContextManager[T]]
"""Serves while the block lasts; what it yields goes to the parent. A function of a module, its arguments picklable."""
START_TIMEOUT_S = 30
END_TIMEOUT_S = 20
FUNDS_NANO_USD = 5 * 10**14
ENDLESS = 10**9


@contextlib.contextmanager
def running(serve: Serve[T], *given: Any) -> Iterator[T]:
    """A child process that serves until the block is left."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    child = context.Process(target=_child, args=(its, serve, given), daemon=True)
    child.start()
    its.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError("a server did not start in time")
        yield ours.recv()
    finally:
        ours.close()  # what it waits for
        child.join(END_TIMEOUT_S)
        child.terminate()


def _child(pipe: Connection, serve: Serve[Any], given: tuple[Any, ...]) -> None:
    async def work() -> None:
        async with serve(*given) as facts:
            pipe.send(facts)
            with contextlib.suppress(EOFError):
                await to_thread.run_sync(pipe.recv)

    uvloop.run(work())


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


@dataclass(frozen=True, slots=True)
class Served:
    """A host on a server, and a tenant of it."""

    port: int
    tenant: Tenant


@contextlib.asynccontextmanager
async def host_server(folder: Path) -> AsyncIterator[Served]:
    """A host with the fake provider, at work, as `ctxhost serve` would run it."""
    with listen("127.0.0.1", 0) as listening:
        async with opened_host(folder, base_url=url_of("127.0.0.1", listening)) as host:
            tenant = await make_tenant(host, "bench", owner="bench", credit_nano_usd=FUNDS_NANO_USD)
            async with serving(host.asgi, listening):
                yield Served(listening.getsockname()[1], tenant)


@contextlib.asynccontextmanager
async def opened_host(folder: Path, *, base_url: str, work: bool = True) -> AsyncIterator[Host]:
    """A host without limits on how many bots there are."""
    stand = StandFolder(folder)
    stand.make()
    settings = stand_settings(stand, base_url=base_url, default_app="app_bench", speed=1)
    limits = MeetingSettings(provider="fake", unadmitted_limit=ENDLESS, live_limit=ENDLESS)
    settings = settings.model_copy(update={"meetings": limits})
    async with Host(settings, plugins=[ctxhost_fake], work=work, served=True) as host:
        yield host
