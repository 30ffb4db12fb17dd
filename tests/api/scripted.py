"""A meeting provider that does what a test tells it: records and errors are set by hand, what it is asked is kept."""

import json
from collections.abc import Callable, Mapping, Sequence

import anyio
from tests.simulation.scripted import PRICES

from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import (
    Artifact,
    BadWebhook,
    BotRecord,
    BotRequest,
    End,
    MeetingProvider,
    Phase,
    ProviderEvent,
    RecordingFact,
    Step,
    UnknownBot,
    UnreadableWebhook,
)

SIGNATURE = {"x-scripted-signature": "right"}


class ScriptedProvider(MeetingProvider):
    """Its bots are `p1`, `p2`, … and join at once, or as `records` says."""

    def __init__(self, name: str = "scripted") -> None:
        self.name = name
        self.prices = PRICES
        self.platforms: Mapping[str, str] = {"calls.example": "example"}
        self.idempotency_window_s = 3_600
        self.minimum_timeouts_s: Mapping[str, int] = {"waiting_room_timeout_s": 30}
        self.created: list[BotRequest] = []
        self.left: list[str] = []
        self.reads = 0
        self.records: dict[str, BotRecord] = {}
        self.create_error: Exception | None = None
        self.read_error: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()

    async def create(self, request: BotRequest) -> str:
        await self.gate.wait()
        if self.create_error is not None:
            raise self.create_error
        self.created.append(request)
        return f"p{len(self.created)}"

    async def find(self, bot: str) -> Sequence[str]:
        return [f"p{n}" for n, made in enumerate(self.created, start=1) if made.bot == bot]

    async def read(self, provider_id: str) -> BotRecord:
        self.reads += 1
        if self.read_error is not None:
            raise self.read_error
        if provider_id not in self.records:
            raise UnknownBot(provider_id)
        return self.records[provider_id]

    async def leave(self, provider_id: str) -> None:
        self.left.append(provider_id)

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        if headers.get("x-scripted-signature") != "right":
            raise BadWebhook("signature")
        try:
            told = json.loads(body)
            return ProviderEvent(id=told["id"], kind=told["kind"], provider_id=told["bot"])
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableWebhook(str(error)) from None


class DeletingProvider(ScriptedProvider):
    """Can delete media, too."""

    def __init__(self, name: str = "scripted") -> None:
        super().__init__(name)
        self.deleted: list[str] = []
        self.delete_error: Exception | None = None

    async def delete_media(self, provider_id: str) -> None:
        if self.delete_error is not None:
            raise self.delete_error
        self.deleted.append(provider_id)


class Offering:
    """A plugin that offers the given providers."""

    def __init__(self, *providers: MeetingProvider) -> None:
        self._providers = providers

    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        for provider in self._providers:
            register(provider)


def life(started_ms: int, *, seconds: int = 44, url: str = "https://media.example", expire_ms: int = 0) -> BotRecord:
    """The record of a call that went well: admitted and recorded from `started_ms` on, everything delivered."""
    ended_ms = started_ms + seconds * 1_000
    return BotRecord(
        steps=[
            Step(phase=Phase.JOINING, at_ms=started_ms - 10_000),
            Step(phase=Phase.IN_CALL, at_ms=started_ms),
            Step(phase=Phase.RECORDING, at_ms=started_ms),
            Step(phase=Phase.ENDED, at_ms=ended_ms, end=End.OVER, reason="call_ended_by_host"),
            Step(phase=Phase.DONE, at_ms=ended_ms),
        ],
        recordings=[
            RecordingFact(
                id="r1",
                started_ms=started_ms,
                completed_ms=ended_ms,
                media=Artifact(id="m1", state="done", url=f"{url}/recording.mp4", updated_ms=ended_ms),
                transcript=Artifact(id="t1", state="done", url=f"{url}/transcript.json", updated_ms=ended_ms),
            )
        ],
        urls_expire_ms=expire_ms or ended_ms + 3_600_000,
        cost_seconds=seconds,
    )
