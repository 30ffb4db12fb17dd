"""From a wish to a bot at the provider: exactly one, or none and the hold returned, whatever fails in between."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from ctxhost.errors import IdempotencyConflict, ProviderBusy, ProviderTimeout, Refusal
from ctxhost.ids import new_uuid
from ctxhost.meetings.commands import (
    OPEN_SPAWNS,
    Caps,
    Replay,
    SpawnCreated,
    SpawnGivenUp,
    SpawnRefused,
    SpawnUnknown,
    StartBot,
    handle_id,
)
from ctxhost.meetings.model import as_new, rate_card
from ctxhost.meetings.provider import BotRequest, MeetingProvider, RecordingKind
from ctxhost.meetings.requests import AutomaticLeave
from ctxhost.meetings.requests import StartBot as StartRequest
from ctxhost.settings import MeetingSettings
from ctxhost.store import Store, queries
from ctxhost.store.rows import App, Bot, Job

log = logging.getLogger("ctxhost.meetings")

SETTLE_MARGIN_S = 5
"""After the caller's wait is over, this much later the search for the bot begins, if the process died."""
FIND_TIMEOUT_S = 10
REPEAT_TIMEOUT_S = 30
SEARCH_AFTER_S = (5, 15, 60, 300, 900, 3_600)
SEARCH_FOR_S = 86_400
ARTIFACTS_MAY_COME_S = 36 * 3_600
DEFAULT_TIMEOUTS_S: Mapping[str, int] = {
    "waiting_room_timeout_s": 1_200,
    "no_one_joined_timeout_s": 1_200,
    "everyone_left_timeout_s": 30,
    "in_call_not_recording_timeout_s": 3_600,
}


@dataclass(frozen=True, slots=True)
class Spawned:
    """The bot's row as its maker is answered; `replayed` when an earlier call with the same key made it."""

    bot: Bot
    replayed: bool


class Spawner:
    """The start protocol. See `start` for the caller's side and `search` for what a restart or a silence leaves."""

    def __init__(self, store: Store, settings: MeetingSettings, providers: Mapping[str, MeetingProvider]) -> None:
        self._store = store
        self._settings = settings
        self._providers = providers

    async def start(
        self, app: App, provider: MeetingProvider, request: StartRequest, *, idempotency_key: str | None
    ) -> Spawned:
        """Reserve, write, then call the provider. Must run in the host, where no client can cancel it.

        Raises:
            InsufficientCredits, RateLimited, IdempotencyConflict: nothing was written.
            Refusal: whatever the provider refused with (`InvalidRequest`, `ProviderError`, `ProviderBusy`); the hold
                has returned.
        """
        bot = await self._written(app, provider, request, idempotency_key)
        if bot.spawn != "calling":
            return Spawned(as_new(bot), replayed=True)
        return Spawned(await self._call(provider, bot), replayed=False)

    async def _written(
        self, app: App, provider: MeetingProvider, request: StartRequest, idempotency_key: str | None
    ) -> Bot:
        """A new bot, `calling`; or the one that an earlier call with the same key made. A refused one is made anew."""
        refused = ""
        while True:
            command = self._command(app, provider, request, idempotency_key, supersedes=refused)
            try:
                return await self._store.write(command)
            except Replay as replay:
                stored = await self._store.read(queries.by_id(Bot, replay.bot))
            if stored is None or stored.spawn == "calling":
                raise IdempotencyConflict("The first call with this Idempotency-Key still runs.")
            if stored.spawn != "refused":
                return stored
            refused = stored.id

    def _command(
        self,
        app: App,
        provider: MeetingProvider,
        request: StartRequest,
        idempotency_key: str | None,
        *,
        supersedes: str = "",
    ) -> StartBot:
        settings = self._settings
        now_ms = self._store.now_ms()
        bot = _new_bot(app, provider, request, settings, now_ms=now_ms)
        ahead_s = max(bot.join_at_ms - now_ms, 0) // 1_000
        latest_s = ahead_s + settings.waiting_room_limit_s + settings.call_limit_s + ARTIFACTS_MAY_COME_S
        key = f"{app.id}/{_digest(idempotency_key)}" if idempotency_key else ""
        return StartBot(
            bot=bot,
            rate_card=rate_card(provider.prices, transcript=request.transcript, markup_percent=settings.markup_percent),
            hold_s=latest_s,
            spawn_due_in_ms=int((settings.create_timeout_s + SETTLE_MARGIN_S) * 1_000),
            caps=Caps(unadmitted=settings.unadmitted_limit, live=settings.live_limit),
            answer=key,
            request=_digest(request.model_dump_json(by_alias=True, exclude_unset=True)) if key else "",
            supersedes=supersedes,
        )

    async def _call(self, provider: MeetingProvider, bot: Bot) -> Bot:
        """Ask the provider once, and write down what came of it. Raises its refusal."""
        try:
            provider_id = await self._create(provider, bot, timeout_s=self._settings.create_timeout_s)
        except Refusal as refusal:
            await self._store.write(SpawnRefused(account=bot.account, bot=bot.id))
            log.warning("%s refused bot %s: %s", provider.name, bot.id, refusal)
            raise
        return await (self._created(bot, provider_id) if provider_id else self._unknown(bot))

    async def _create(self, provider: MeetingProvider, bot: Bot, *, timeout_s: float) -> str | None:
        """The provider's id of the bot, or None when the outcome is unknown. Raises its refusal."""
        try:
            with anyio.fail_after(timeout_s):
                return await provider.create(_request(bot))
        except (TimeoutError, ProviderTimeout):
            log.warning("%s was silent about bot %s; it will be looked for", provider.name, bot.id)
        except Refusal:
            raise
        except Exception:
            log.exception("%s failed while bot %s was made; it will be looked for", provider.name, bot.id)
        return None

    async def _created(self, bot: Bot, provider_id: str) -> Bot:
        handle = handle_id(bot.provider, provider_id)
        return await self._store.write(SpawnCreated(account=bot.account, bot=bot.id, handle=handle))

    async def _unknown(self, bot: Bot) -> Bot:
        retry_in_ms = SEARCH_AFTER_S[0] * 1_000
        return await self._store.write(SpawnUnknown(account=bot.account, bot=bot.id, retry_in_ms=retry_in_ms))

    async def search(self, job: Job) -> int | None:
        """The outcome is unknown: find the bot, or make it under the same key while that is safe, or give up."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None or (bot.spawn not in OPEN_SPAWNS and bot.answered_ms):
            return None
        if bot.provider_id:  # a webhook told of it, and the call that made it died before it was answered
            await self._created(bot, bot.provider_id)
            return None
        age_s = (self._store.now_ms() - bot.created_ms) // 1_000
        provider = self._providers.get(bot.provider)
        if provider is not None and await self._found_or_made(provider, bot, age_s):
            return None
        if age_s >= SEARCH_FOR_S:
            await self._give_up(bot)
            return None
        return self._store.now_ms() + _wait_s(age_s) * 1_000

    async def _found_or_made(self, provider: MeetingProvider, bot: Bot, age_s: int) -> bool:
        """Whether the search is over."""
        if await self._found(provider, bot):
            return True
        if age_s >= provider.idempotency_window_s or bot.stop_reason:  # a bot that is not wanted is not made now
            return False
        try:
            provider_id = await self._create(provider, bot, timeout_s=REPEAT_TIMEOUT_S)
        except ProviderBusy:
            provider_id = None
        except Refusal as refusal:
            # It made none now. Whether it made one the first time, when it was silent, is for it to say.
            log.warning("%s refused bot %s when asked again: %s", provider.name, bot.id, refusal)
            if not await self._found(provider, bot):
                await self._give_up(bot)
            return True
        await (self._created(bot, provider_id) if provider_id else self._unknown(bot))
        return provider_id is not None

    async def _found(self, provider: MeetingProvider, bot: Bot) -> bool:
        with anyio.fail_after(FIND_TIMEOUT_S):
            found = await provider.find(bot.id)
        for provider_id in found:
            await self._created(bot, provider_id)
        return bool(found)

    async def _give_up(self, bot: Bot) -> None:
        await self._store.write(SpawnGivenUp(account=bot.account, app=bot.app, bot=bot.id))


def _wait_s(age_s: int) -> int:
    """Growing intervals: soon at first, hourly at last."""
    return next((wait_s for wait_s in SEARCH_AFTER_S if age_s < wait_s * 4), SEARCH_AFTER_S[-1])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _new_bot(
    app: App, provider: MeetingProvider, request: StartRequest, settings: MeetingSettings, *, now_ms: int
) -> Bot:
    join_at_ms = request.join_at_ms or 0
    return Bot(
        id=new_uuid(),
        account=app.account,
        app=app.id,
        provider=provider.name,
        provider_id="",
        spawn="calling",
        spawn_attempt=1,
        status="joining",
        status_reason="",
        stop_reason="",
        platform=request.platform,
        meeting_url=request.meeting_url,
        bot_name=request.bot_name or settings.default_bot_name,
        metadata=json.dumps(request.metadata, ensure_ascii=False),
        transcript=int(request.transcript),
        recording=request.recording or "off",
        automatic_leave=json.dumps(_timeouts(request.automatic_leave, provider, settings)),
        join_at_ms=join_at_ms if join_at_ms > now_ms else 0,
        created_ms=0,
        answered_ms=0,
        started_ms=0,
        ended_ms=0,
        completed_ms=0,
        duration_s=-1,
        recording_id="",
        recording_state="",
        recording_url="",
        transcript_id="",
        transcript_state="",
        transcript_url="",
        urls_expire_ms=0,
        low_credit_ms=0,
    )


def _timeouts(asked: AutomaticLeave | None, provider: MeetingProvider, settings: MeetingSettings) -> dict[str, int]:
    """What was asked for, raised to what the provider takes and held below the operator's limit on waiting."""
    wishes = {
        "waiting_room_timeout_s": asked and asked.waiting_room_timeout_sec,
        "no_one_joined_timeout_s": asked and asked.no_one_joined_timeout_sec,
        "everyone_left_timeout_s": asked and asked.everyone_left_timeout_sec,
        "in_call_not_recording_timeout_s": asked and asked.in_call_not_recording_timeout_sec,
    }
    timeouts = {
        name: max(wishes[name] or default_s, provider.minimum_timeouts_s.get(name, 1))
        for name, default_s in DEFAULT_TIMEOUTS_S.items()
    }
    timeouts["waiting_room_timeout_s"] = min(timeouts["waiting_room_timeout_s"], settings.waiting_room_limit_s)
    return timeouts


def _request(bot: Bot) -> BotRequest:
    recording: dict[str, RecordingKind] = {"mp4": "mp4", "audio_only": "audio_only"}
    return BotRequest(
        bot=bot.id,
        app=bot.app,
        attempt=bot.spawn_attempt,
        meeting_url=bot.meeting_url,
        platform=bot.platform,
        bot_name=bot.bot_name,
        transcript=bool(bot.transcript),
        recording=recording.get(bot.recording, "off"),
        join_at_ms=bot.join_at_ms or None,
        automatic_leave=json.loads(bot.automatic_leave),
        metadata=json.loads(bot.metadata),
    )
