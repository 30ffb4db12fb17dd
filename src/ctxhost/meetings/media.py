"""The job that has a bot's media deleted, again and again until its provider has obeyed."""

import logging
from collections.abc import Mapping

import anyio

from ctxhost.errors import ProviderError
from ctxhost.jobs import LastWrite, Run, job_id
from ctxhost.meetings.commands import READ, ForgetEvents, MediaDeleted
from ctxhost.meetings.follow import PROVIDER_GONE_MS, PROVIDER_TIMEOUT_S, UNKNOWN_TIMES
from ctxhost.meetings.provider import DeletesMedia, UnknownBot
from ctxhost.store import Store, queries
from ctxhost.store.rows import Bot, Job

log = logging.getLogger("ctxhost.meetings")

BOOKS_AGAIN_MS = 15_000
"""How often a bot is looked at whose books are still open: what is deleted earlier could not be billed."""
EVENTS_AT_ONCE = 200


class Eraser:
    """A job handler. What it does bears repetition; it never gives up."""

    def __init__(self, store: Store, providers: Mapping[str, object]) -> None:
        self._store = store
        self._providers = providers

    async def delete(self, job: Job) -> int | Run | None:
        """Delete what is kept of a bot's webhooks, and its media at its provider once its books are closed."""
        bot = await self._store.read(queries.by_id(Bot, job.ref))
        if bot is None:
            return None
        await self._forget_events(bot)
        now_ms = self._store.now_ms()
        if not bot.completed_ms:
            return now_ms + BOOKS_AGAIN_MS
        if bot.provider_id:
            again_ms = await self._ask_provider(bot, job, now_ms)
            if again_ms is not None:
                return again_ms
        command = MediaDeleted(account=bot.account, bot=bot.id)
        await self._store.write(LastWrite(job=job, command=command, due_ms=lambda _: None))
        return Run.ENDED

    async def _ask_provider(self, bot: Bot, job: Job, now_ms: int) -> int | None:
        """None when there is nothing at the provider any more, nor will be; else when to ask again."""
        provider = self._providers.get(bot.provider)
        if not isinstance(provider, DeletesMedia):
            log.warning("the media of bot %s wait for a provider %s that can delete them", bot.id, bot.provider)
            return now_ms + PROVIDER_GONE_MS
        try:
            with anyio.fail_after(PROVIDER_TIMEOUT_S):
                await provider.delete_media(bot.provider_id)
        except UnknownBot:
            if job.attempts < UNKNOWN_TIMES:
                raise ProviderError(f"{bot.provider} does not know bot {bot.id}") from None
            return None
        reading = await self._store.read(queries.by_id(Job, job_id(READ, bot.id)))
        # What is still looked for may come, and is to be deleted too.
        return None if reading is None else max(reading.due_ms, now_ms) + BOOKS_AGAIN_MS

    async def _forget_events(self, bot: Bot) -> None:
        """A provider's webhooks may carry links, or words."""
        told = queries.events_told(bot.id, limit=EVENTS_AT_ONCE)
        while events := await self._store.read(told):
            await self._store.write(ForgetEvents(account=bot.account, events=events))
