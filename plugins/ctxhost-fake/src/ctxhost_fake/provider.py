"""The adapter: a meeting provider of scripted lives."""

from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import (
    API_VERSION,
    BotRecord,
    BotRequest,
    MeetingPrices,
    Phase,
    ProviderEvent,
    UnknownBot,
)
from ctxhost.webhooks.signing import decode_secret
from ctxhost_fake.artifacts import Artifacts
from ctxhost_fake.life import Birth, Life, id_of, plan, record, visible_ms
from ctxhost_fake.scripts import LIVES, Cast, UnknownScript, read_cast
from ctxhost_fake.settings import FakeSettings
from ctxhost_fake.state import State, keep_secret
from ctxhost_fake.webhooks import Courier, read_event

NAME = "fake"
SCRIPT_KEY = "fake_script"
WEBHOOKS_KEY = "fake_webhooks"
BUSY_RETRY_AFTER_S = 30


class FakeProvider:
    """Implements `ctxhost.meetings.provider.MeetingProvider`."""

    def __init__(self, services: Services, settings: FakeSettings) -> None:
        folder = services.data_dir / NAME
        self.name = NAME
        self.api_version = API_VERSION
        self.prices = MeetingPrices(
            recording_nano_usd_per_hour=500_000_000,
            transcription_nano_usd_per_hour=150_000_000,
            cost_nano_usd_per_hour=500_000_000,
        )
        self.platforms: Mapping[str, str] = {}
        self.idempotency_window_s = 3_600
        self.minimum_timeouts_s: Mapping[str, int] = {"waiting_room_timeout_s": 30, "no_one_joined_timeout_s": 30}
        self._clock = services.clock
        self._settings = settings
        self._key = decode_secret(keep_secret(folder))
        self._state = State(folder)
        self._artifacts = Artifacts(
            clock=services.clock,
            url=f"{services.base_url}/plugins/{NAME}",
            key=self._key,
            folder=folder / "transcripts",
            state=self._state,
        )
        self.mount: ASGIApp | None = self._artifacts.app
        self._courier = Courier(
            clock=services.clock,
            http=services.http,
            url=f"{services.base_url}/v1/ai/meetings/_webhooks/{NAME}",
            key=self._key,
            state=self._state,
        )
        for life in self._state.lives():
            self._courier.plan(life)

    async def create(self, request: BotRequest) -> str:
        for life in self._state.of_bot(request.bot):
            if life.birth.attempt == request.attempt:
                return life.birth.id
        cast = self._cast(request)
        creation = LIVES[cast.script].creation
        if creation == "refused":
            raise ProviderError("The fake provider refuses this bot, as its script says.")
        if creation == "bad_url":
            raise InvalidRequest.of("meetingUrl", "The provider cannot join this meeting", "meeting_link_invalid")
        if creation == "full" or self._is_full():
            raise ProviderBusy("The fake provider has no bot to spare.", retry_after_s=BUSY_RETRY_AFTER_S)
        if creation == "lost":
            raise ProviderTimeout("The fake provider is silent, as this bot's script says.")
        life = self._state.add(self._birth(request, cast))
        self._courier.plan(life)
        if creation == "times_out":
            raise ProviderTimeout("The fake provider is silent, as this bot's script says.")
        return life.birth.id

    async def find(self, bot: str) -> Sequence[str]:
        return [life.birth.id for life in self._state.of_bot(bot)]

    async def read(self, provider_id: str) -> BotRecord:
        life = self._life(provider_id)
        now_ms = self._clock.now_ms()
        expires_s = now_ms // 1_000 + self._settings.artifact_url_ttl_s

        def link(file: str) -> str:
            return self._artifacts.url(provider_id, file, expires_s=expires_s)

        return record(life, now_ms, link=link, urls_expire_ms=expires_s * 1_000)

    async def leave(self, provider_id: str) -> None:
        life = self._life(provider_id)
        if life.leave_at_ms is None:  # in a life that is over the wish changes nothing
            self._courier.plan(self._state.leave(provider_id, self._clock.now_ms()))

    async def delete_media(self, provider_id: str) -> None:
        life = self._life(provider_id)
        self._state.erase(provider_id, self._clock.now_ms())
        self._artifacts.erase(life.birth.id)

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        return read_event(headers, body, key=self._key, now_ms=now_ms)

    def next_event_ms(self) -> int | None:
        """When the next webhook is due to be sent; None: there is none to come. For a clock that is moved by hand."""
        return self._courier.next_due_ms()

    async def deliver_due(self) -> int:
        """Send every webhook that is due now; returns how many arrived. For a clock that is moved by hand."""
        return await self._courier.deliver_due()

    async def run(self) -> None:
        await self._courier.run()

    async def aclose(self) -> None:
        self._state.close()

    def _life(self, provider_id: str) -> Life:
        life = self._state.life(provider_id)
        if life is None:
            raise UnknownBot(provider_id)
        return life

    def _cast(self, request: BotRequest) -> Cast:
        default, metadata = self._settings.script, request.metadata
        try:
            return read_cast(metadata.get(SCRIPT_KEY, default), webhooks=metadata.get(WEBHOOKS_KEY), default=default)
        except UnknownScript as error:
            raise InvalidRequest.of("metadata", f"{SCRIPT_KEY}, {WEBHOOKS_KEY}: {error}", "unknown_script") from None

    def _birth(self, request: BotRequest, cast: Cast) -> Birth:
        return Birth(
            id=id_of(self._settings.seed, request.bot, request.attempt),
            bot=request.bot,
            app=request.app,
            attempt=request.attempt,
            born_ms=self._clock.now_ms(),
            join_at_ms=request.join_at_ms,
            script=cast.script,
            webhooks=cast.webhooks,
            seed=self._settings.seed,
            speed=self._settings.speed,
            recording=request.recording,
            transcript=request.transcript,
            timeouts_s=dict(request.automatic_leave),
            metadata=dict(request.metadata),
        )

    def _is_full(self) -> bool:
        capacity, now_ms = self._settings.capacity, self._clock.now_ms()
        return capacity is not None and sum(not _is_over(life, now_ms) for life in self._state.lives()) >= capacity


def _is_over(life: Life, now_ms: int) -> bool:
    """Whether it has left the call, or never will be in it."""
    return any(act.phase is Phase.ENDED and visible_ms(life.birth, act.offset_ms) <= now_ms for act in plan(life).acts)
