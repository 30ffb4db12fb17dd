"""A finished bot goes, with what is only about it. Its lease, its charges and its messages are not only about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxhost.meetings.commands.shared import DELETE_MEDIA, LEAVE, READ, RENEW, SPAWN, job_reads
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, Handle, History, Job, Lease
from ctxhost.webhooks.outbox import DELIVER


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetBot:
    """Delete a bot's row, handles and history.

    One that is not finished stays, or that work is left for; or that may yet turn up at its provider, although it was
    given up: then it must be known for ours, and told to leave.
    """

    account: str
    bot: str
    handles: Sequence[str]
    history: Sequence[str]

    def reads(self) -> Iterable[Key]:
        return [
            (Bot, self.bot),
            (Lease, self.bot),
            *((Handle, handle) for handle in self.handles),
            *((History, step) for step in self.history),
            *self._jobs(),
        ]

    def _jobs(self) -> Iterable[Key]:
        yield from job_reads(self.bot, SPAWN, READ, RENEW, LEAVE, DELETE_MEDIA, DELIVER)
        for handle in self.handles:
            yield from job_reads(handle, LEAVE)

    def apply(self, view: View) -> bool:
        """Whether it went."""
        bot, lease = view.get(Bot, self.bot), view.get(Lease, self.bot)
        if lease is not None and view.now_ms < lease.give_up_at_ms:
            return False
        if bot is None or not bot.completed_ms or any(view.get(Job, row_id) for _, row_id in self._jobs()):
            return False
        for handle in self.handles:
            view.delete(Handle, handle)
        for step in self.history:
            view.delete(History, step)
        view.delete(Bot, self.bot)
        return True
