"""What is outside of the hosts and survives them: a provider with its calls, and a receiver of what they forward."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.e2e.far import RECORD, REQUEST, SILENT, UNKNOWN
from tests.e2e.host_process import SPEED

from ctxhost.cli.server import listen, serving, url_of
from ctxhost.clock import WallClock
from ctxhost.errors import ProviderTimeout
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import UnknownBot
from ctxhost.rates import LocalRates
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import FakeSettings

LOOPBACK = "127.0.0.1"
CREATE_TAKES_S = 0.2
"""Long enough for a host to end in the middle of it."""


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A host that was killed leaves its connections broken."""


class Receiver:
    """A loopback endpoint that accepts everything, each `after_s`, and what it was sent."""

    def __init__(self, *, after_s: float = 0) -> None:
        self.received: dict[str, tuple[str, str]] = {}
        """webhook-id → (the bot's name, the event)."""
        self.times: Counter[str] = Counter()
        """webhook-id → how often it came."""
        receiver, pause = self, threading.Event()
        self.hurry = pause.set
        """Let it accept at once from now on, also what it has not answered yet."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                name = self.headers["webhook-id"]
                receiver.received[name] = (body["data"]["bot"]["metadata"]["name"], body["event"])
                receiver.times[name] += 1
                pause.wait(after_s)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = _QuietServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class OpenReceiver(Protocol):
    """Opens one that ends with its test."""

    def __call__(self, *, after_s: float = 0) -> Receiver: ...


class AnyHost(httpx.AsyncBaseTransport):
    """A load balancer: to one host after the other, and to the next one when that refuses the connection."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._turns = itertools.cycle([ports, ports[::-1]])
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refused: httpx.ConnectError | None = None
        for port in next(self._turns):
            request.url = request.url.copy_with(host=LOOPBACK, port=port)
            try:
                return await self._inner.handle_async_request(request)
            except httpx.ConnectError as error:
                refused = error
        assert refused is not None
        raise refused

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextmanager
def provider(folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """The fake provider, served beside the test; gives its URL. Its webhooks go to the hosts on `ports`."""
    with (
        start_blocking_portal("asyncio", {"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(_provider(folder, ports)) as url,
    ):
        yield url


@asynccontextmanager
async def _provider(folder: Path, ports: Sequence[int]) -> AsyncIterator[str]:
    clock = WallClock()
    with listen(LOOPBACK, 0) as listening:
        url = url_of(LOOPBACK, listening)
        async with httpx.AsyncClient(transport=AnyHost(ports)) as http:
            services = Services(
                clock=clock, base_url=url, data_dir=folder, http=http, plugin_settings={}, rate=LocalRates(clock).open
            )
            fake = FakeProvider(services, FakeSettings(enabled=True, speed=SPEED))
            async with serving(_app(fake), listening, drain_s=0), anyio.create_task_group() as tasks:
                tasks.start_soon(fake.run)
                yield url
                tasks.cancel_scope.cancel()
            await fake.aclose()


def _app(fake: FakeProvider) -> Starlette:
    async def answer(request: Request) -> Response:
        about = await request.json()
        try:
            return JSONResponse(await _do(fake, request.path_params["what"], about))
        except UnknownBot:
            return Response(status_code=UNKNOWN)
        except ProviderTimeout:
            return Response(status_code=SILENT)

    return Starlette(routes=[Route("/{what}", answer, methods=["POST"])])


async def _do(fake: FakeProvider, what: str, about: Any) -> object:
    match what:
        case "create":
            await anyio.sleep(CREATE_TAKES_S)
            return await fake.create(REQUEST.validate_python(about))
        case "find":
            return await fake.find(about)
        case "read":
            return RECORD.dump_python(await fake.read(about), mode="json")
        case _:
            await fake.leave(about)
            return None
