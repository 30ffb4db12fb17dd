"""A provider's webhook, kept once."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.meetings.commands.shared import READ, ask, job_reads
from ctxhost.meetings.commands.spawned import SpawnCreated
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, InboundEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteEvent:
    """Keep a verified webhook, and look at its bot if it has one. The same id twice has no second effect."""

    account: str
    """The bot's account, or the platform's."""
    id: str
    provider: str
    bot: str
    kind: str
    body: str
    adopt: str = ""
    """The handle that this event shows to belong to the bot, when the bot has none yet."""

    def reads(self) -> Iterable[Key]:
        keys: list[Key] = [(InboundEvent, self.id)]
        if self.bot:
            keys += [(Bot, self.bot), *job_reads(self.bot, READ)]
        if self.adopt:
            keys += self._adoption().reads()
        return keys

    def apply(self, view: View) -> bool:
        """False when the event was known already."""
        if view.get(InboundEvent, self.id) is not None:
            return False
        bot = view.get(Bot, self.bot) if self.bot else None
        view.put(
            InboundEvent(
                id=self.id,
                account=self.account,
                provider=self.provider,
                bot=self.bot if bot is not None else "",
                kind=self.kind,
                body="" if bot is not None and bot.media_unwanted_ms else self.body,
                received_ms=view.now_ms,
            )
        )
        if bot is None:  # nobody's, or forgotten since it was looked for
            return True
        if self.adopt:
            bot = self._adoption().apply(view)
        if bot.provider_id:
            ask(view, READ, bot, due_ms=view.now_ms)
        return True

    def _adoption(self) -> SpawnCreated:
        return SpawnCreated(account=self.account, bot=self.bot, handle=self.adopt, answers=False)
