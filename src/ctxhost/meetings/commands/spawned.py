"""The second half of the start: what the provider made of the bot, whenever that becomes known."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost import jobs
from ctxhost.ledger.commands import Release
from ctxhost.meetings.commands.shared import (
    LEAVE,
    READ,
    RENEW,
    SPAWN,
    answered,
    ask,
    ask_leave,
    bot_reads,
    get_bot,
    job_reads,
    save,
    tell,
    telling_reads,
)
from ctxhost.meetings.lifecycle import LOOK_JOINING_MS, Happening
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, Handle
from ctxhost.webhooks import outbox

OPEN_SPAWNS = ("calling", "unknown")
"""The provider may have made the bot, or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnCreated:
    """The provider has a bot for ours. The first one becomes the bot's; any other, or one too late, is unwanted."""

    account: str
    bot: str
    handle: str
    """provider/provider id"""
    answers: bool = True
    """Whether the call that made the bot is answered with this; a webhook may know of the bot before."""

    def reads(self) -> Iterable[Key]:
        return [
            *bot_reads(self.bot, self.account),
            (Handle, self.handle),
            *job_reads(self.handle, LEAVE),
            *job_reads(self.bot, LEAVE, SPAWN, READ, outbox.DELIVER),
        ]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        provider_id = self.handle.partition("/")[2]
        is_first = bot.spawn in OPEN_SPAWNS and not bot.provider_id
        self._note_handle(view, bot, is_wanted=is_first or bot.provider_id == provider_id)
        if is_first:
            bot = bot._replace(spawn="created", provider_id=provider_id)
            ask(view, READ, bot, due_ms=max(view.now_ms, bot.join_at_ms) + LOOK_JOINING_MS)
            if bot.stop_reason:
                ask_leave(view, bot)
        if bot.spawn == "created" and self.answers:
            jobs.cancel(view, kind=SPAWN, ref=bot.id)
            bot = answered(view, bot)
        save(view, bot)
        return bot

    def _note_handle(self, view: View, bot: Bot, *, is_wanted: bool) -> None:
        if view.get(Handle, self.handle) is not None:
            return
        view.put(Handle(id=self.handle, account=self.account, bot=self.bot, wanted=int(is_wanted)))
        if not is_wanted:
            ask_leave(view, bot, handle=self.handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRefused:
    """The provider answered that it made no bot: the hold returns, nobody is told but the caller."""

    account: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [*bot_reads(self.bot, self.account), *job_reads(self.bot, SPAWN, RENEW)]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.spawn not in OPEN_SPAWNS:
            return bot
        return _end(view, bot, spawn="refused", status="fatal", reason="spawn_refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnUnknown:
    """The provider was silent: the caller is answered, the hold stays, and the search goes on."""

    account: str
    bot: str
    retry_in_ms: int

    def reads(self) -> Iterable[Key]:
        return [*bot_reads(self.bot, self.account), *job_reads(self.bot, SPAWN, outbox.DELIVER)]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.spawn == "calling":
            bot = bot._replace(spawn="unknown")
            ask(view, SPAWN, bot, due_ms=view.now_ms + self.retry_in_ms)
        bot = answered(view, bot)
        save(view, bot)
        return bot


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnGivenUp:
    """No bot was found for as long as one may be looked for: it ends, and the hold returns."""

    account: str
    app: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [
            *bot_reads(self.bot, self.account),
            *telling_reads(self.bot, self.app),
            *job_reads(self.bot, SPAWN, RENEW),
        ]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.spawn not in OPEN_SPAWNS:
            return bot
        status, reason = ("done", "cancelled") if bot.stop_reason else ("fatal", "spawn_failed")
        bot = _end(view, bot, spawn="given_up", status=status, reason=reason)
        sub_code = reason if status == "fatal" else ""
        tell(view, bot, Happening(event=f"bot.{status}", code=status, sub_code=sub_code, at_ms=view.now_ms))
        return bot


def _end(view: View, bot: Bot, *, spawn: str, status: str, reason: str) -> Bot:
    """There is no bot at the provider: the hold returns and the work on it stops."""
    Release(account=bot.account, lease=bot.id).apply(view)
    for kind in (SPAWN, RENEW):
        jobs.cancel(view, kind=kind, ref=bot.id)
    bot = bot._replace(
        spawn=spawn,
        status=status,
        status_reason=reason,
        answered_ms=bot.answered_ms or view.now_ms,
        completed_ms=view.now_ms,
    )
    save(view, bot)
    return bot
