"""The emulator: the API as an ASGI app, its clock, its knobs, and its webhooks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ctxhost.clock import Clock, WallClock
from ctxhost_recall.emulator.api import Api
from ctxhost_recall.emulator.asked import Asked, Place
from ctxhost_recall.emulator.faults import Fault, Faults, Operation
from ctxhost_recall.emulator.gate import Gate
from ctxhost_recall.emulator.life import Story
from ctxhost_recall.emulator.media import Media
from ctxhost_recall.emulator.shapes import Shapes
from ctxhost_recall.emulator.webhooks import Courier, Knobs
from ctxhost_recall.emulator.world import Bot, World

API_KEY = "emulator-key"
WEBHOOK_SECRET = "whsec_ZW11bGF0b3Itc2VjcmV0LWVtdWxhdG9yLXNlY3JldA=="  # noqa: S105 - it protects nothing
TICK_MS = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in, and how it was answered."""

    operation: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    status: int


class Emulator:
    """Recall, as far as its documents tell, on a clock. `app` is to be served; `run` sends the webhooks by itself.

    It is strict: an unknown key, query parameter or path is refused, although Recall passes keys over.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        api_key: str = API_KEY,
        webhook_url: str = "",
        webhook_secret: str = WEBHOOK_SECRET,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Without a `webhook_url` no webhook is sent; with `http`, which stays the caller's, they go through that."""
        self.clock: Clock = clock or WallClock()
        self.api_key = api_key
        self.webhook_secret = webhook_secret
        self.seen: list[Seen] = []
        """Every request, in order."""
        self.world = World(self.clock)
        self.faults = Faults()
        self.gate = Gate(self.clock, self.faults, api_key=api_key)
        self.shapes = Shapes(self.world, media := Media(self.world, secret=api_key))
        self.api = Api(self.world, self.shapes)
        self.courier = Courier(self.world, self.clock, webhook_url, webhook_secret, http=http)
        routes = [self._route(path, places) for path, places in self.api.places().items()]
        routes.append(Route("/_media/{id}", media.serve))
        app = Starlette(routes=routes, exception_handlers={404: _no_page})
        app.router.redirect_slashes = False
        self.app: ASGIApp = app

    @property
    def webhooks(self) -> Knobs:
        """How webhooks come: lost, doubled, reordered, under which headers."""
        return self.courier.knobs

    @property
    def bots(self) -> Mapping[str, Bot]:
        """Every bot, by id, in the order in which they were made."""
        return self.world.bots

    def send_webhooks_to(self, url: str) -> None:
        """Where webhooks go from now on."""
        self.courier.url = url

    def tell(self, *stories: Story) -> None:
        """The lives of the next bots."""
        self.world.next_stories.extend(stories)

    def fail(self, operation: Operation, fault: Fault, *, times: int | None = 1) -> None:
        """Meet the next calls with a fault; `times` None: all from now on."""
        self.faults.add(operation, fault, times=times)

    def calls(self, operation: Operation) -> list[Seen]:
        """The requests of a kind that came in."""
        return [seen for seen in self.seen if seen.operation == operation]

    def next_event_ms(self) -> int | None:
        """When the next webhook is due; None: there is none to come. For a clock that is moved by hand."""
        return self.courier.next_due_ms()

    async def deliver_due(self) -> int:
        """Send every webhook that is due now; returns how many arrived. For a clock that is moved by hand."""
        return await self.courier.deliver_due()

    async def run(self) -> None:
        """Send webhooks as they fall due, for ever."""
        while True:
            await self.deliver_due()
            await self.clock.sleep_until(self.clock.now_ms() + TICK_MS)

    async def aclose(self) -> None:
        await self.courier.aclose()

    def _route(self, path: str, places: Mapping[str, Place]) -> Route:
        return Route(f"/api/v1{path}", self._endpoint(places), methods=list(places))

    def _endpoint(self, places: Mapping[str, Place]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            asked = Asked(request, await request.body())
            place = places["GET" if request.method == "HEAD" else request.method]
            response = await self.gate.answer(asked, place)
            headers, query = dict(request.headers), dict(request.query_params)
            seen = Seen(place.operation, request.url.path, headers, query, asked.json, response.status_code)
            self.seen.append(seen)
            return response

        return endpoint


async def _no_page(_request: Request, _error: Exception) -> Response:
    """Recall's own 404 for a path that it does not have is a page for people."""
    return HTMLResponse("<h1>Not Found</h1>", 404)
