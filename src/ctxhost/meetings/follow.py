"""The jobs that follow a bot through its life: read its record, pay for its time, make it leave."""

import logging
from collections.abc import Mapping

import anyio

from ctxhost.errors import ProviderError
from ctxhost.jobs import LastWrite, Run
from ctxhost.meetings.commands import HandleGone, LookNow, NoteRecord, Renew
from ctxhost.meetings.lifecycle import OVER
from ctxhost.meetings.provider import BotRecord, End, MeetingProvider, Phase, Step, UnknownBot
from ctxhost.settings import MeetingSettings
from ctxhost.store import Store, queries
from ctxhost.store.rows import Bot, Handle, Job, Lease

log = logging.getLogger("ctxhost.meetings")

PROVIDER_TIMEOUT_S = 20
PROVIDER_GONE_MS = 300_000
UNKNOWN_FOR_MS = 600_000
"""A bot that its provider does not know is looked for this long after its making, then taken for lost."""
UNKNOWN_TIMES = 8
"""And so often in a row: one wrong answer in the middle of a call must not end it."""
LEAVE_AGAIN_MS = (2_000, 60_000)


class Follower:
    """Job handlers. Each reads what is there now, so that running twice does nothing twice."""

    def __init__(self, store: Store, settings: MeetingSettings, providers: Mapping[str, MeetingProvider]) -> None:
        self._store = store
        self._settings = settings
        self._providers = providers

    async def read(self, job: Job) -> int | Run | None:
        """Read the provider's record of a bot and take over what it says."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None or not bot.provider_id:
            return None
        provider = self._providers.get(bot.provider)
        read_ms = self._store.now_ms()
        record = await self._record_or_none(provider, bot, job, read_ms)
        if record is None:
            return read_ms + PROVIDER_GONE_MS
        command = NoteRecord(
            account=bot.account,
            app=bot.app,
            bot=bot.id,
            record=record,
            read_ms=read_ms,
            artifact_wait_ms=self._settings.artifact_wait_s * 1_000,
            cost_nano_usd_per_hour=provider.prices.cost_nano_usd_per_hour if provider else 0,
        )
        await self._store.write(LastWrite(job=job, command=command, due_ms=lambda verdict: verdict.look_at_ms))
        return Run.ENDED

    async def _record_or_none(
        self, provider: MeetingProvider | None, bot: Bot, job: Job, now_ms: int
    ) -> BotRecord | None:
        """What the provider knows, or, when no fact can come any more, that there is none. None: its plugin is gone."""
        if provider is None:
            is_given_up = await self._is_given_up(bot.id, now_ms)
            return _abandoned(bot, now_ms, "provider_gone") if is_given_up else None
        try:
            return await self._record(provider, bot, job, now_ms)
        except Exception:
            if not await self._is_given_up(bot.id, now_ms):
                raise
            log.exception("%s could not be asked about bot %s until it was given up", provider.name, bot.id)
            return _abandoned(bot, now_ms, "provider_unreachable")

    async def _is_given_up(self, bot: str, now_ms: int) -> bool:
        """Whether the bot's hold was returned by the clock: no fact can come any more."""
        lease = await self._store.read(queries.by_id(Lease, bot))
        return lease is not None and now_ms >= lease.give_up_at_ms

    async def _record(self, provider: MeetingProvider, bot: Bot, job: Job, now_ms: int) -> BotRecord:
        """What the provider knows. Raises `ProviderError` while it may be that it only does not know the bot now."""
        try:
            with anyio.fail_after(PROVIDER_TIMEOUT_S):
                return await provider.read(bot.provider_id)
        except UnknownBot:
            comes_ms = bot.created_ms if bot.stop_reason else max(bot.created_ms, bot.join_at_ms)
            if now_ms < comes_ms + UNKNOWN_FOR_MS or job.attempts < UNKNOWN_TIMES:
                raise ProviderError(f"{provider.name} does not know bot {bot.id}") from None
            log.warning("%s has lost bot %s", provider.name, bot.id)
            return _lost(bot, now_ms)

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
        if job.lane.partition("/")[2] not in self._providers:
            return now_ms + PROVIDER_GONE_MS
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
        is_beyond_reach = name not in self._providers and await self._is_given_up(handle.bot, self._store.now_ms())
        if has_left or never_was or is_beyond_reach:
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


def _abandoned(bot: Bot, now_ms: int, reason: str) -> BotRecord:
    """The record of a bot that nothing was heard of until it was given up: nobody pays for what nobody knows.

    One whose call had ended in good order is done without what was awaited; any other broke down.
    """
    admitted = [Step(phase=Phase.IN_CALL, at_ms=bot.started_ms)] if bot.started_ms else []
    ended_ms = bot.ended_ms or now_ms
    end, why = (End.OVER, bot.status_reason) if bot.status == "ended" else (End.FAILED, reason)
    if bot.stop_reason and not admitted:
        end = End.LEFT
    ended = Step(phase=Phase.ENDED, at_ms=ended_ms, end=end, reason=why)
    return BotRecord(steps=[*admitted, ended, Step(phase=Phase.DONE, at_ms=ended_ms)])
