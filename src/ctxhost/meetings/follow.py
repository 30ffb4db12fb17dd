"""The jobs that follow a bot through its life: read its record, pay for its time, make it leave."""

import logging
from collections.abc import Mapping

import anyio

from ctxhost.meetings.commands import HandleGone, LookNow, NoteRecord, Renew
from ctxhost.meetings.lifecycle import OVER
from ctxhost.meetings.provider import BotRecord, End, MeetingProvider, Phase, Step, UnknownBot
from ctxhost.settings import MeetingSettings
from ctxhost.store import Store, queries
from ctxhost.store.rows import Bot, Handle, Job

log = logging.getLogger("ctxhost.meetings")

PROVIDER_TIMEOUT_S = 20
PROVIDER_GONE_MS = 300_000
UNKNOWN_FOR_MS = 600_000
"""A bot that its provider does not know is looked for this long after its making, then taken for lost."""
UNKNOWN_AGAIN_MS = 15_000
LEAVE_AGAIN_MS = (2_000, 60_000)


class Follower:
    """Job handlers. Each reads what is there now, so that running twice does nothing twice."""

    def __init__(self, store: Store, settings: MeetingSettings, providers: Mapping[str, MeetingProvider]) -> None:
        self._store = store
        self._settings = settings
        self._providers = providers

    async def read(self, job: Job) -> int | None:
        """Read the provider's record of a bot and take over what it says."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None or not bot.provider_id:
            return None
        provider = self._providers.get(bot.provider)
        if provider is None:
            return self._store.now_ms() + PROVIDER_GONE_MS
        read_ms = self._store.now_ms()
        record = await self._record(provider, bot, read_ms)
        if record is None:
            return self._store.now_ms() + UNKNOWN_AGAIN_MS
        verdict = await self._store.write(
            NoteRecord(
                account=bot.account,
                app=bot.app,
                bot=bot.id,
                record=record,
                read_ms=read_ms,
                artifact_wait_ms=self._settings.artifact_wait_s * 1_000,
                cost_nano_usd_per_hour=provider.prices.cost_nano_usd_per_hour,
            )
        )
        return verdict.look_at_ms

    async def _record(self, provider: MeetingProvider, bot: Bot, now_ms: int) -> BotRecord | None:
        """What the provider knows; None while it may be that it does not know the bot yet."""
        try:
            with anyio.fail_after(PROVIDER_TIMEOUT_S):
                return await provider.read(bot.provider_id)
        except UnknownBot:
            comes_ms = bot.created_ms if bot.stop_reason else max(bot.created_ms, bot.join_at_ms)
            log.warning("%s does not know bot %s", provider.name, bot.id)
            return _lost(bot, now_ms) if now_ms >= comes_ms + UNKNOWN_FOR_MS else None

    async def renew(self, job: Job) -> int | None:
        """Pay for a bot's next slice, or make it leave when the credit does not reach."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None:
            return None
        return await self._store.write(
            Renew(account=bot.account, app=bot.app, bot=bot.id, call_limit_s=self._settings.call_limit_s)
        )

    async def leave(self, job: Job) -> int | None:
        """Tell a bot to leave, again and again until the provider says that it has."""
        is_over = await (self._expel(job) if "/" in job.ref else self._dismiss(job))
        if is_over:
            return None
        now_ms = self._store.now_ms()
        soonest_ms, latest_ms = LEAVE_AGAIN_MS
        return now_ms + min(max((now_ms - job.created_ms) // 2, soonest_ms), latest_ms)

    async def _dismiss(self, job: Job) -> bool:
        """A bot of ours. Its end comes in by the one road that facts take."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None or bot.status in OVER or not bot.provider_id:
            return True
        if await self._has_left(bot.provider, bot.provider_id):
            await self._store.write(LookNow(account=bot.account, bot=bot.id))
            return True
        return False

    async def _expel(self, job: Job) -> bool:
        """A bot at the provider that nobody wants."""
        handle = await self._store.read(queries.by_id(Handle, job.ref))
        if handle is None:
            return True
        name, _, provider_id = handle.id.partition("/")
        has_left = await self._has_left(name, provider_id)
        never_was = has_left is None and self._store.now_ms() >= job.created_ms + UNKNOWN_FOR_MS
        if has_left or never_was:
            await self._store.write(HandleGone(account=handle.account, handle=handle.id))
            return True
        return False

    async def _has_left(self, provider_name: str, provider_id: str) -> bool | None:
        """Told first and asked then, so that no trouble with reading keeps it in the call. None: it is not known."""
        provider = self._providers.get(provider_name)
        if provider is None:
            return False
        try:
            with anyio.fail_after(PROVIDER_TIMEOUT_S):
                await provider.leave(provider_id)
                record = await provider.read(provider_id)
        except UnknownBot:
            return None
        return any(step.phase is Phase.ENDED for step in record.steps)


def _lost(bot: Bot, now_ms: int) -> BotRecord:
    """The record of a bot that its provider knows nothing of: as far as we had seen it, then gone."""
    admitted = [Step(phase=Phase.IN_CALL, at_ms=bot.started_ms)] if bot.started_ms else []
    ended_ms = bot.ended_ms or now_ms
    end = End.LEFT if bot.stop_reason else End.FAILED
    return BotRecord(
        steps=[
            *admitted,
            Step(phase=Phase.ENDED, at_ms=ended_ms, end=end, reason="lost_by_provider"),
            Step(phase=Phase.DONE, at_ms=ended_ms),
        ]
    )
