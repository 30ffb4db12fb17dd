"""Hallway's adapter keeps what every meeting provider must keep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from ctxhost_hallway.provider import HallwayProvider
from ctxhost_hallway.settings import read_settings
from world import KEY, SECRET, Hallway, signed

from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest
from ctxhost.testing.provider_suite import Life, ProviderHarness, ProviderSuite


class HallwayHarness(ProviderHarness):
    secrets = (KEY, SECRET)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hallway = Hallway()

    @property
    def plugin_settings(self) -> Mapping[str, Mapping[str, Any]]:
        return {"hallway": {"api_key": KEY, "webhook_secret": SECRET}}

    def make(self, services: Services) -> HallwayProvider:
        return HallwayProvider(services, read_settings(services.plugin_settings["hallway"]))

    async def prepare(self, request: BotRequest, life: Life) -> BotRequest:
        self.hallway.lives[request.bot] = life
        return request

    async def sign(self, body: bytes, *, event_id: str, now_ms: int) -> Mapping[str, str]:
        return signed(body, event_id=event_id, now_ms=now_ms)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        return self.hallway.answer(request, self.clock.now_ms())

    async def advance(self, *, seconds: int) -> None:
        self.clock.advance(seconds=seconds)
        for event_id, body in self.hallway.due(self.clock.now_ms()):
            headers = signed(body, event_id=event_id, now_ms=self.clock.now_ms())
            url = f"{self.services.base_url}/v1/ai/meetings/_webhooks/hallway"
            await self.http.post(url, content=body, headers=headers)


class TestHallway(ProviderSuite):
    def make_harness(self, folder: Path) -> HallwayHarness:
        return HallwayHarness(folder)
