"""What need not be kept goes: page by page until nothing is left to go, so that a busy host keeps up.

Each page is a small transaction of its own; other writers go in between.
"""

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from ctxhost.clock import Clock
from ctxhost.errors import Overloaded
from ctxhost.meetings.commands import ForgetBot
from ctxhost.settings import RetentionSettings
from ctxhost.store import Store, queries
from ctxhost.store.rows import Bot

log = logging.getLogger("ctxhost.retention")

AGAIN_MS: Final = 30_000
PAGE: Final = 500
BOTS_AT_ONCE: Final = 50
_DAY_S: Final = 86_400


class Retention:
    """Keeps the tables that are not the books from growing without bound."""

    def __init__(self, store: Store, settings: RetentionSettings, clock: Clock) -> None:
        self._store = store
        self._bot_days = settings.bot_days
        self._clock = clock
        self._keep_s: Mapping[str, int] = {
            "message": settings.message_days * _DAY_S,
            "attempt": settings.attempt_days * _DAY_S,
            "inbound_event": settings.inbound_event_days * _DAY_S,
        }

    async def run(self) -> None:
        """Do it again and again; never returns."""
        while True:
            try:
                await self.catch_up()
            except Overloaded as error:
                log.warning("what need not be kept is not deleted yet: %s", error)
            except Exception:
                log.exception("what need not be kept could not be deleted; it is tried again")
            await self._clock.sleep_until(self._clock.now_ms() + AGAIN_MS)

    async def catch_up(self) -> int:
        """Delete everything that has been kept long enough; how many rows and bots that were."""
        deleted = 0
        while went := await self._store.prune(keep_s=self._keep_s, limit=PAGE):
            deleted += went
        if self._bot_days is not None:
            deleted += await self._forget_bots(self._store.now_ms() - self._bot_days * _DAY_S * 1_000)
        return deleted

    async def _forget_bots(self, before_ms: int) -> int:
        """Oldest first. One that has to stay yet is passed over, and does not keep the others."""
        forgotten, after = 0, (0, "")
        while bots := await self._store.read(queries.finished_bots(before_ms, after=after, limit=BOTS_AT_ONCE)):
            went: list[bool] = []
            async with anyio.create_task_group() as tasks:  # together, so that they share a transaction
                for bot in bots:
                    tasks.start_soon(self._forget, bot, went)
            forgotten += sum(went)
            after = bots[-1].completed_ms, bots[-1].id
        return forgotten

    async def _forget(self, bot: Bot, went: list[bool]) -> None:
        handles = await self._store.read(queries.handles(bot.id))
        history = await self._store.read(queries.history(bot.id))
        command = ForgetBot(
            account=bot.account,
            bot=bot.id,
            handles=[handle.id for handle in handles],
            history=[step.id for step in history],
        )
        went.append(await self._store.write(command))
