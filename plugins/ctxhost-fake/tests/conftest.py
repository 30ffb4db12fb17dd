"""A stand for the provider: a clock that is moved by hand and, behind a real HTTP client, a host that takes notes."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from ctxhost.clock import ManualClock
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest
from ctxhost.rates import LocalRates
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import FakeSettings

BASE_URL = "http://host.test"


def make_request(**facts: Any) -> BotRequest:
    """A request for a bot; `script` and `webhooks` go into its metadata."""
    chosen = {"fake_script": facts.pop("script", None), "fake_webhooks": facts.pop("webhooks", None)}
    metadata = {**facts.pop("metadata", {}), **{key: value for key, value in chosen.items() if value is not None}}
    defaults: dict[str, Any] = {
        "bot": "bot-1",
        "app": "app-1",
        "attempt": 1,
        "meeting_url": "https://zoom.us/j/1",
        "platform": "zoom",
        "bot_name": "Notetaker",
        "transcript": True,
        "recording": "mp4",
        "join_at_ms": None,
        "automatic_leave": {},
    }
    return BotRequest(**{**defaults, **facts}, metadata=metadata)


@dataclass
class Got:
    """A webhook that the host received."""

    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return str(json.loads(self.body)["event"])

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Stand:
    """One host's folder and address; `open` starts the provider on it, as often as wanted."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    got: list[Got] = field(default_factory=list)
    answers: list[int | Exception] = field(default_factory=list)
    """What the host does with the next webhooks; 200 when there is nothing more."""
    attempts: list[tuple[str, int]] = field(default_factory=list)
    """The `webhook-id` and the clock of every attempt, taken or not."""
    opened: list[FakeProvider] = field(default_factory=list)

    def __post_init__(self) -> None:
        routes = [
            Route("/v1/ai/meetings/_webhooks/fake", self._receive, methods=["POST"]),
            Mount("/plugins/fake", app=self._mounted),
        ]
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)))

    @property
    def services(self) -> Services:
        return Services(
            clock=self.clock,
            base_url=BASE_URL,
            data_dir=self.folder,
            http=self.http,
            plugin_settings={},
            rate=LocalRates(self.clock).open,
        )

    def open(self, **settings: Any) -> FakeProvider:
        provider = FakeProvider(self.services, FakeSettings(enabled=True, **settings))
        self.opened.append(provider)
        return provider

    async def play(self, provider: FakeProvider) -> None:
        """Move the clock from one webhook to the next until there is none to come."""
        while (due_ms := provider.next_event_ms()) is not None:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await provider.deliver_due()

    def kinds(self) -> list[str]:
        return [got.kind for got in self.got]

    async def _receive(self, request: Request) -> Response:
        self.attempts.append((request.headers["webhook-id"], self.clock.now_ms()))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        if answer == 200:
            self.got.append(Got(dict(request.headers), await request.body()))
        return Response(status_code=answer)

    async def _mounted(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.opened[-1].mount
        assert app is not None
        await app(scope, receive, send)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path)
    async with stand.http:
        yield stand
    for provider in stand.opened:
        await provider.aclose()


@pytest.fixture
def asked() -> Callable[..., BotRequest]:
    return make_request
