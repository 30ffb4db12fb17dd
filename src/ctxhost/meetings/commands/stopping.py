"""Wishes that a bot leaves, and their end."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.meetings.commands.shared import LEAVE, get_bot, job_reads, want_stop
from ctxhost.meetings.lifecycle import OVER
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class WantStop:
    """The wish that a bot leaves, carried out by a job until the provider obeys. The first reason stands."""

    account: str
    bot: str
    reason: str = "stopped"

    def reads(self) -> Iterable[Key]:
        return [(Bot, self.bot), *job_reads(self.bot, LEAVE)]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.status in OVER or bot.stop_reason:
            return bot
        return want_stop(view, bot, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleGone:
    """An unwanted bot has left, or never was."""

    account: str
    handle: str

    def reads(self) -> Iterable[Key]:
        return [(Handle, self.handle)]

    def apply(self, view: View) -> None:
        stored = view.get(Handle, self.handle)
        if stored is not None and not stored.wanted:
            view.delete(Handle, self.handle)
