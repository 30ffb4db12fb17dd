"""A plugin for the hosts of tests: the fake provider, far away. What it knows of calls is not lost with a host.

The other end is `outside.provider`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from ctxhost.errors import ProviderTimeout
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import BotRecord, BotRequest, MeetingProvider, UnknownBot
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import FakeSettings

REQUEST = TypeAdapter(BotRequest)
RECORD = TypeAdapter(BotRecord)
UNKNOWN, SILENT = 404, 504


class FarProvider(FakeProvider):
    """Prices, names and the webhooks' secret are the fake's; its calls are elsewhere."""

    def __init__(self, services: Services, url: str) -> None:
        super().__init__(services, FakeSettings(enabled=True))
        self._http = services.http
        self._url = url

    async def create(self, request: BotRequest) -> str:
        return str(await self._ask("create", REQUEST.dump_python(request, mode="json")))

    async def find(self, bot: str) -> Sequence[str]:
        return [str(provider_id) for provider_id in await self._ask("find", bot)]

    async def read(self, provider_id: str) -> BotRecord:
        return RECORD.validate_python(await self._ask("read", provider_id))

    async def leave(self, provider_id: str) -> None:
        await self._ask("leave", provider_id)

    async def _ask(self, what: str, about: object) -> Any:
        answer = await self._http.post(f"{self._url}/{what}", json=about)
        if answer.status_code == UNKNOWN:
            raise UnknownBot(about)
        if answer.status_code == SILENT:
            raise ProviderTimeout("The provider is silent.")
        return answer.raise_for_status().json()


@dataclass(frozen=True)
class Far:
    """The plugin."""

    url: str

    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        register(FarProvider(services, self.url))
