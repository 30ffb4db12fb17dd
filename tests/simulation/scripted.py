"""A provider whose records a test writes, and the words to write them with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ctxhost.clock import ManualClock
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import (
    Artifact,
    BadWebhook,
    BotRecord,
    BotRequest,
    End,
    MeetingPrices,
    MeetingProvider,
    Phase,
    ProviderEvent,
    RecordingFact,
    Step,
    UnknownBot,
)

State = Literal["processing", "done", "failed"]


def step(phase: Phase, at_ms: int, *, end: End | None = None, reason: str = "") -> Step:
    return Step(phase=phase, at_ms=at_ms, end=end, reason=reason)


def admitted(at_ms: int, *, recording: bool = True) -> list[Step]:
    """From joining into the call, in no time."""
    phases = [Phase.JOINING, Phase.WAITING_ROOM, Phase.IN_CALL, *([Phase.RECORDING] if recording else [])]
    return [step(phase, at_ms) for phase in phases]


def ended(at_ms: int, end: End = End.OVER, reason: str = "everyone_left", *, finished: bool = True) -> list[Step]:
    steps = [step(Phase.ENDED, at_ms, end=end, reason=reason)]
    return [*steps, step(Phase.DONE, at_ms)] if finished else steps


def artifact(name: str, state: State = "done", *, updated_ms: int = 0, reason: str = "") -> Artifact:
    url = f"https://media.example/{name}" if state == "done" else ""
    return Artifact(id=name, state=state, url=url, updated_ms=updated_ms, reason=reason)


def recording(
    started_ms: int, stopped_ms: int, media: Artifact, transcript: Artifact | None = None, *, name: str = "rec"
) -> RecordingFact:
    return RecordingFact(id=name, started_ms=started_ms, completed_ms=stopped_ms, media=media, transcript=transcript)


PRICES = MeetingPrices(
    recording_nano_usd_per_hour=500_000_000,
    transcription_nano_usd_per_hour=150_000_000,
    cost_nano_usd_per_hour=500_000_000,
)


class Scripted(MeetingProvider):
    """Bots are joining until a test writes their record; told to leave, they leave.

    `before_create` and `after_create` run around the making of a bot; what they raise is what `create` raises.
    """

    def __init__(self, clock: ManualClock, name: str = "scripted") -> None:
        self.name = name
        self.prices = PRICES
        self.idempotency_window_s = 3_600
        self.clock = clock
        self.records: dict[str, BotRecord] = {}
        self.asked: list[BotRequest] = []
        self.made: dict[tuple[str, int], str] = {}
        self.told_to_leave: list[str] = []
        self.deleted: list[str] = []
        """The bots whose media were deleted, as often as they were."""
        self.is_obedient = True
        self.before_create: Callable[[BotRequest], None] = lambda request: None
        self.after_create: Callable[[BotRequest], None] = lambda request: None
        self.on_read: Callable[[str], None] = lambda provider_id: None
        self.before_delete: Callable[[str], None] = lambda provider_id: None

    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        register(self)

    async def create(self, request: BotRequest) -> str:
        self.asked.append(request)
        self.before_create(request)
        key = (request.bot, request.attempt)
        if key not in self.made:
            self.made[key] = self.add(request.bot)
        self.after_create(request)
        return self.made[key]

    def add(self, bot: str) -> str:
        """Make one more bot at the provider, whoever asked for it."""
        provider_id = f"p{len(self.records) + 1}.{bot}"
        self.records[provider_id] = BotRecord(steps=[step(Phase.JOINING, self.clock.now_ms())])
        return provider_id

    async def find(self, bot: str) -> Sequence[str]:
        return [provider_id for provider_id in self.records if provider_id.partition(".")[2] == bot]

    async def read(self, provider_id: str) -> BotRecord:
        self.on_read(provider_id)
        if provider_id not in self.records:
            raise UnknownBot(provider_id)
        return self.records[provider_id]

    async def leave(self, provider_id: str) -> None:
        self.told_to_leave.append(provider_id)
        if provider_id not in self.records:
            raise UnknownBot(provider_id)
        if self.is_obedient:
            self.leave_now(provider_id)

    def leave_now(self, provider_id: str) -> None:
        """It leaves; what it was recording is delivered at once."""
        record, now_ms = self.records[provider_id], self.clock.now_ms()
        if self.is_live(provider_id):
            finished = [
                replace(fact, completed_ms=now_ms, media=artifact("media"), transcript=artifact("speech"))
                for fact in record.recordings
            ]
            steps = [*record.steps, *ended(now_ms, End.LEFT, "told_to_leave")]
            self.records[provider_id] = replace(record, steps=steps, recordings=finished)

    async def delete_media(self, provider_id: str) -> None:
        self.before_delete(provider_id)
        if provider_id not in self.records:
            raise UnknownBot(provider_id)
        self.deleted.append(provider_id)

    def twin(self) -> "Scripted":
        """Another one that knows the same bots."""
        twin = Scripted(self.clock, self.name)
        twin.records, twin.made = dict(self.records), dict(self.made)
        return twin

    def is_live(self, provider_id: str) -> bool:
        return not any(step.phase is Phase.ENDED for step in self.records[provider_id].steps)

    @property
    def live(self) -> list[str]:
        """The bots that are in a call, or on their way into one."""
        return [provider_id for provider_id in self.records if self.is_live(provider_id)]

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        if headers.get("signature") != "right":
            raise BadWebhook
        event_id, kind, provider_id, bot = body.decode().split("|")
        return ProviderEvent(id=event_id, kind=kind, provider_id=provider_id, bot=bot)


SIGNED: Mapping[str, str] = {"signature": "right"}


def event(event_id: str, *, provider_id: str = "", bot: str = "", kind: str = "bot.changed") -> bytes:
    """A webhook of the scripted provider; `SIGNED` are its headers."""
    return f"{event_id}|{kind}|{provider_id}|{bot}".encode()
