"""What an author tells the suite about the provider: how it is made, and how its world is moved."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ctxhost.clock import ManualClock
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest, MeetingProvider, RecordingKind
from ctxhost.rates import LocalRates

BASE_URL = "http://host.test"
_WEBHOOKS = f"{BASE_URL}/v1/ai/meetings/_webhooks/"
_PLUGINS = f"{BASE_URL}/plugins/"


class Life(StrEnum):
    """What your world is asked to let happen to a bot that is about to be created."""

    HAPPY = "happy"
    """It is admitted, records for a while, and the call ends by itself; everything that was asked for is delivered."""
    NOT_ADMITTED = "not_admitted"
    """It is never let in."""
    KICKED = "kicked"
    """It is removed from the call while it records; what it recorded is delivered."""
    FAILED = "failed"
    """It cannot join, or breaks down before it is in the call."""
    NOBODY_CAME = "nobody_came"
    """It is let in and leaves by itself with nothing recorded."""
    TRANSCRIPT_FAILED = "transcript_failed"
    """As HAPPY, but the transcript fails."""
    RECORDING_FAILED = "recording_failed"
    """As HAPPY, but the recording fails."""
    REFUSED = "refused"
    """`create` is answered in full: there is no bot."""
    BAD_URL = "bad_url"
    """`create` is answered in full: this meeting URL is not one that can be joined."""
    FULL = "full"
    """`create` is answered in full: there is no room now."""
    SILENT_MADE = "silent_made"
    """`create` is not answered the first time, although the bot is made; it goes on as HAPPY."""
    SILENT_LOST = "silent_lost"
    """`create` is not answered, and no bot is made."""


class Outage(StrEnum):
    """What every request to your provider's API meets for a while."""

    DOWN = "down"
    """Status 503."""
    SILENT = "silent"
    """No answer in time."""
    UNREACHABLE = "unreachable"
    """No connection."""
    NONSENSE = "nonsense"
    """Status 200 and a page of HTML."""
    UNAUTHORIZED = "unauthorized"
    """Status 401: the operator's key is wrong."""
    BUSY = "busy"
    """Status 429 with `Retry-After: 7`."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as the host would receive it."""

    headers: Mapping[str, str]
    body: bytes
    at_ms: int
    """When it was received."""


class JumpingClock(ManualClock):
    """A clock that is moved by hand; whoever waits on it has waited already."""

    async def sleep_until(self, due_ms: int) -> None:
        self.set(max(due_ms, self.now_ms()))


class ProviderHarness(ABC):
    """Subclass it, write `make`, `prepare` and `sign`, and whatever else is not as the defaults say.

    The provider's HTTP client (`services.http`) leads to `answer`, which plays your provider's API; outages are made
    there. Webhooks that are posted to the host through it are kept in `webhooks`.
    """

    lives: Collection[Life] = frozenset(Life)
    """What your world can play. A promise about any other is skipped, and shown as skipped."""
    outages: Collection[Outage] = frozenset(Outage)
    """Leave it as it is unless `answer` is not what the provider talks to."""
    recordings: Collection[RecordingKind] = ("mp4", "audio_only", "off")
    """What a bot can be asked to record."""
    sends_webhooks: bool = True
    """False for a provider that is only polled, and leaves `verify` as it is."""
    secrets: Sequence[str] = ()
    """Keys and secrets that the provider was given: they must show nowhere."""
    life_s: int = 900
    """No life that your world plays takes longer, to the last artifact."""
    step_s: int = 5
    """How far the clock moves between two looks."""
    meeting_url: str = "https://zoom.us/j/1234567890"

    def __init__(self, folder: Path) -> None:
        """`folder` is empty and belongs to this test alone."""
        self.folder = folder
        self.clock: ManualClock = JumpingClock()
        self.webhooks: list[Webhook] = []
        """All that were sent so far, oldest first. Append those that do not come through `services.http`."""
        self.outage: Outage | None = None
        self.http = httpx.AsyncClient(transport=_Network(self))
        self._provider: MeetingProvider | None = None

    @property
    def services(self) -> Services:
        """What the provider is lent. `data_dir` outlives the provider, as it outlives a restart of the host."""
        return Services(
            clock=self.clock,
            base_url=BASE_URL,
            data_dir=self.folder,
            http=self.http,
            plugin_settings=self.plugin_settings,
            rate=LocalRates(self.clock).open,
        )

    @property
    def plugin_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings by plugin name, as an operator writes them."""
        return {}

    @abstractmethod
    def make(self, services: Services) -> MeetingProvider:
        """Your provider, as your hook would register it. Called again it is the provider after a restart."""

    @abstractmethod
    async def prepare(self, request: BotRequest, life: Life) -> BotRequest:
        """Have the bot that `request` will make live `life`. Return the request, with other metadata or URL if need be.

        Only `life` of this bot (`request.bot`) is concerned: others live on as they were told.
        """

    async def sign(self, body: bytes, *, event_id: str, now_ms: int) -> Mapping[str, str]:
        """The headers of a webhook with this body that is truly your provider's, sent at `now_ms`."""
        raise NotImplementedError("return the headers that your provider would send with this body")

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Play your provider's API. Its body has been read: `request.content`."""
        raise httpx.ConnectError("this world has no API", request=request)

    async def advance(self, *, seconds: int) -> None:
        """Let time pass in your world, and send the webhooks that fall due."""
        self.clock.advance(seconds=seconds)

    async def aclose(self) -> None:
        """Let go of what your world holds; call this one too."""
        await self.http.aclose()

    @property
    def provider(self) -> MeetingProvider:
        """The provider that was opened last."""
        assert self._provider is not None, "no provider was opened yet"
        return self._provider

    def open(self) -> MeetingProvider:
        """The provider of a host that starts now."""
        self._provider = self.make(self.services)
        return self._provider

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._provider is not None:
            await self._provider.aclose()
        await self.aclose()


class _Network(httpx.AsyncBaseTransport):
    """What is behind `services.http`: the host, the provider's own pages, and the provider's API."""

    def __init__(self, harness: ProviderHarness) -> None:
        self._harness = harness

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        url = str(request.url)
        if url.startswith(_WEBHOOKS):
            headers = {name.lower(): value for name, value in request.headers.items()}
            self._harness.webhooks.append(Webhook(headers, request.content, self._harness.clock.now_ms()))
            return httpx.Response(200, json={})
        if url.startswith(_PLUGINS):
            return await self._page(request)
        if self._harness.outage is not None:
            return _unread(_broken(self._harness.outage, request))
        return _unread(await self._harness.answer(request))

    async def _page(self, request: httpx.Request) -> httpx.Response:
        """What the host serves for the provider below `/plugins/{name}`."""
        provider = self._harness.provider
        prefix = f"/plugins/{provider.name}"
        path = request.url.path.removeprefix(prefix)
        if provider.mount is None or path == request.url.path:
            return httpx.Response(404)
        within = httpx.Request(
            request.method, request.url.copy_with(path=path), headers=request.headers, content=request.content
        )
        return await httpx.ASGITransport(provider.mount).handle_async_request(within)


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


def _unread(response: httpx.Response) -> httpx.Response:
    """As it comes over a network: a client that reads its answers piece by piece finds them unread."""
    if not response.is_closed:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=_Bytes(response.content))


def _broken(outage: Outage, request: httpx.Request) -> httpx.Response:
    match outage:
        case Outage.SILENT:
            raise httpx.ReadTimeout("no answer", request=request)
        case Outage.UNREACHABLE:
            raise httpx.ConnectError("no connection", request=request)
        case Outage.DOWN:
            return httpx.Response(503, text="Service Unavailable")
        case Outage.UNAUTHORIZED:
            return httpx.Response(401, json={"detail": "the key is not valid"})
        case Outage.BUSY:
            return httpx.Response(429, headers={"retry-after": "7"}, json={"detail": "slow down"})
        case Outage.NONSENSE:
            return httpx.Response(200, headers={"content-type": "text/html"}, text="<html><body>Hello</body></html>")
