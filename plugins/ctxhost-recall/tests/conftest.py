"""A stand for the adapter: the emulator behind real HTTP on loopback, on a clock that jumps over every wait."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from ctxhost.clock import ManualClock
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest
from ctxhost.rates import LocalRates
from ctxhost_recall.emulator import Emulator, serve
from ctxhost_recall.provider import RecallProvider
from ctxhost_recall.settings import read_settings

FIXTURES = Path(__file__).parent / "fixtures"


class LeapingClock(ManualClock):
    """Whoever waits on it has waited already."""

    waited_ms: int = 0

    async def sleep_until(self, due_ms: int) -> None:
        self.waited_ms += max(due_ms - self.now_ms(), 0)
        self.set(max(due_ms, self.now_ms()))


class Bytes(httpx.AsyncByteStream):
    """A body that was not read yet."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


def make_request(**facts: Any) -> BotRequest:
    """A request for a bot."""
    defaults: dict[str, Any] = {
        "bot": "5f9c2a54-0000-4000-8000-000000000001",
        "app": "app_1",
        "attempt": 1,
        "meeting_url": "https://meet.google.com/qwe-rtyu-iop",
        "platform": "google_meet",
        "bot_name": "Notetaker",
        "transcript": True,
        "recording": "mp4",
        "join_at_ms": None,
        "automatic_leave": {
            "waiting_room_timeout_s": 1_200,
            "no_one_joined_timeout_s": 1_200,
            "everyone_left_timeout_s": 30,
            "in_call_not_recording_timeout_s": 3_600,
        },
        "metadata": {"meeting": "m-9001"},
    }
    return BotRequest(**{**defaults, **facts})


@dataclass
class Stand:
    """One emulator, and providers that talk to it."""

    emulator: Emulator
    clock: LeapingClock
    url: str
    folder: Path
    http: httpx.AsyncClient
    opened: list[RecallProvider] = field(default_factory=list)

    def services(self, http: httpx.AsyncClient | None = None) -> Services:
        return Services(
            clock=self.clock,
            base_url="http://127.0.0.1:1",
            data_dir=self.folder,
            http=http or self.http,
            plugin_settings={},
            rate=LocalRates(self.clock).open,
        )

    def open(self, *, http: httpx.AsyncClient | None = None, **settings: Any) -> RecallProvider:
        given = {
            "api_key": self.emulator.api_key,
            "base_url": self.url,
            "webhook_secret": self.emulator.webhook_secret,
            **settings,
        }
        return RecallProvider(self.services(http), read_settings(given))

    def answering(self, *answers: httpx.Response | Exception, **settings: Any) -> RecallProvider:
        """A provider whose network gives just these answers, one for each call."""
        left = list(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return httpx.Response(answer.status_code, headers=answer.headers, stream=Bytes(answer.content))

        return self.open(http=httpx.AsyncClient(transport=httpx.MockTransport(handle)), **settings)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    clock = LeapingClock()
    emulator = Emulator(clock=clock)
    async with serve(emulator.app) as url, httpx.AsyncClient(trust_env=False, verify=False) as http:
        yield Stand(emulator, clock, url, tmp_path, http)
    await emulator.aclose()


@pytest.fixture
def asked() -> Callable[..., BotRequest]:
    return make_request


@pytest.fixture
def fixture() -> Callable[[str], Any]:
    """A document of Recall's by the number in its name."""

    def load(number: str) -> Any:
        (path,) = FIXTURES.glob(f"{number}-*.json")
        return json.loads(path.read_text())

    return load
