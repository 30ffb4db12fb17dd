"""The emulator, as the published provider suite sees it. Needs pytest; nothing else here imports it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx

from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest
from ctxhost.testing.provider_suite import Life, ProviderHarness
from ctxhost_recall.emulator.app import Emulator
from ctxhost_recall.emulator.faults import Fault, depleted, refused
from ctxhost_recall.emulator.webhooks import Event, signed_headers
from ctxhost_recall.emulator.world import STORY_KEY
from ctxhost_recall.provider import RecallProvider
from ctxhost_recall.requests import BOT_KEY
from ctxhost_recall.settings import NAME, read_settings

RECALL_URL = "https://recall.test"

STORY_OF: Mapping[Life, str] = {
    Life.NOT_ADMITTED: "never_admitted",
    Life.KICKED: "kicked",
    Life.FAILED: "fatal",
    Life.NOBODY_CAME: "nobody_came",
    Life.TRANSCRIPT_FAILED: "transcript_failed",
    Life.RECORDING_FAILED: "recording_failed",
}
"""Every other life is a happy one, once there is a bot."""
FAULT_OF: Mapping[Life, Fault] = {
    Life.REFUSED: refused(403, "forbidden"),
    Life.BAD_URL: Fault(status=400, body={"meeting_url": ["This is not a meeting that a bot can join."]}),
    Life.FULL: depleted(),
}
"""How the making of a bot is answered instead, every time. The emulator's own faults meet whoever comes next."""


class RecallHarness(ProviderHarness):
    """The world is the emulator, called in this process: a story in the metadata, a fault before it is reached."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.emulator = Emulator(clock=self.clock, http=self.http)
        self.emulator.send_webhooks_to(f"{self.services.base_url}/v1/ai/meetings/_webhooks/{NAME}")
        self.secrets = (self.emulator.api_key, self.emulator.webhook_secret)
        self._api = httpx.ASGITransport(self.emulator.app)
        self._lives: dict[str, Life] = {}

    def make(self, services: Services) -> RecallProvider:
        given = {
            "api_key": self.emulator.api_key,
            "webhook_secret": self.emulator.webhook_secret,
            "base_url": RECALL_URL,
        }
        return RecallProvider(services, read_settings(given))

    async def prepare(self, request: BotRequest, life: Life) -> BotRequest:
        self._lives[request.bot] = life
        return replace(request, metadata={**request.metadata, STORY_KEY: STORY_OF.get(life, "happy")})

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """The emulator's answer, unless the life of the bot that is to be made says otherwise."""
        bot = _bot_to_make(request)
        life = self._lives.get(bot, Life.HAPPY)
        if life in FAULT_OF:
            fault = FAULT_OF[life]
            return httpx.Response(fault.status, headers=fault.headers, json=fault.body)
        if life is Life.SILENT_LOST:
            raise httpx.ReadTimeout("no answer", request=request)
        response = await self._api.handle_async_request(request)
        if life is Life.SILENT_MADE:
            self._lives[bot] = Life.HAPPY
            raise httpx.ReadTimeout("no answer", request=request)
        return response

    async def sign(self, body: bytes, *, event_id: str, now_ms: int) -> Mapping[str, str]:
        event = Event(event_id, now_ms, "", body)
        return signed_headers(event, secrets=[self.emulator.webhook_secret], now_ms=now_ms)

    async def advance(self, *, seconds: int) -> None:
        end_ms = self.clock.now_ms() + seconds * 1_000
        while (due_ms := self.emulator.next_event_ms()) is not None and due_ms <= end_ms:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await self.emulator.deliver_due()
        self.clock.set(end_ms)

    async def aclose(self) -> None:
        await self.emulator.aclose()
        await super().aclose()


def _bot_to_make(request: httpx.Request) -> str:
    """Our id of the bot that this call would make; empty for every other call."""
    if request.method != "POST" or request.url.path != "/api/v1/bot/":
        return ""
    return str(json.loads(request.content)["metadata"][BOT_KEY])
