"""The server's end: what was accepted is answered, also on a connection that is kept, and nothing holds it open."""

import socket
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ctxhost.cli.server import listen, serving, url_of

WITHIN_S = 10
LOOPBACK = "127.0.0.1"


class Site:
    """Two pages: one that answers, and one that waits to be told to."""

    def __init__(self) -> None:
        self.begun, self.go, self.end = anyio.Event(), anyio.Event(), anyio.Event()
        self._socket = listen(LOOPBACK, 0)
        self.url = url_of(LOOPBACK, self._socket)

    async def serve(self, drain_s: float) -> None:
        """Until `end`, and for as long after it as the server takes."""
        app = Starlette(routes=[Route("/quick", self._quick), Route("/slow", self._slow)])
        with self._socket:
            async with serving(app, self._socket, drain_s=drain_s):
                await self.end.wait()

    async def _quick(self, _: Request) -> Response:
        return PlainTextResponse("quick")

    async def _slow(self, _: Request) -> Response:
        self.begun.set()
        await self.go.wait()
        return PlainTextResponse("slow")

    async def until_closed(self) -> None:
        """Wait until it accepts no connection."""
        parts = httpx.URL(self.url)
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((parts.host, parts.port or 0)):
                    return
            await anyio.sleep(0.01)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=site.url, trust_env=False, verify=False, timeout=WITHIN_S) as opened:
        yield opened


class Call:
    """A call of the slow page, and its answer."""

    answer: httpx.Response

    async def __call__(self, client: httpx.AsyncClient) -> None:
        self.answer = await client.get("/slow")


async def test_what_was_accepted_is_answered(site: Site, client: httpx.AsyncClient) -> None:
    """So is what comes meanwhile on a connection that is kept alive, as the last answer on it; no other is taken."""
    slow = Call()
    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.serve, WITHIN_S)
            tasks.start_soon(slow, client)
            await site.begun.wait()
            first = await client.get("/quick")
            site.end.set()
            await site.until_closed()
            last = await client.get("/quick")
            with pytest.raises(httpx.ConnectError):
                await client.get("/quick")
            site.go.set()

    assert "connection" not in first.headers
    assert ("quick", "close") == (last.text, last.headers["connection"])
    assert (200, "slow", "close") == (slow.answer.status_code, slow.answer.text, slow.answer.headers["connection"])


async def test_a_call_that_does_not_end_is_refused(site: Site, client: httpx.AsyncClient) -> None:
    """It hears 503 and when to come again, not a broken connection."""
    slow = Call()
    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.serve, 0)
            tasks.start_soon(slow, client)
            await site.begun.wait()
            site.end.set()

    headers = slow.answer.headers
    assert (503, "1", "close") == (slow.answer.status_code, headers["retry-after"], headers["connection"])
    assert "overloaded" == slow.answer.json()["error"]["code"]
    assert headers["x-request-id"]


async def test_kept_connections_do_not_keep_the_server(site: Site, client: httpx.AsyncClient) -> None:
    """A client that only stays connected is waited for no longer than a moment."""
    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.serve, 10 * WITHIN_S)
            await client.get("/quick")
            site.end.set()


@pytest.mark.parametrize("is_ending", [False, True])
async def test_a_cancelled_server_accepts_nobody(site: Site, client: httpx.AsyncClient, is_ending: bool) -> None:
    """Also when it was ending already, and waited for a call."""
    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as calls:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(site.serve, 10 * WITHIN_S)
                calls.start_soon(Call(), client)
                await site.begun.wait()
                if is_ending:
                    site.end.set()
                    await site.until_closed()
                tasks.cancel_scope.cancel()
            await site.until_closed()
            site.go.set()
