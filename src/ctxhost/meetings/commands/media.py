"""Deleting what a bot recorded: the wish, what we keep that could lead to it, and the end. No money is touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxhost.errors import Refusal
from ctxhost.meetings.commands.shared import DELETE_MEDIA, ask, get_bot, history_id, job_reads
from ctxhost.meetings.lifecycle import MEDIA_DELETED, OVER, without_links
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, History, InboundEvent


class BotNotEnded(Refusal):
    """What the bot records cannot be deleted while it may still record."""

    status, type, code = 409, "invalid_request_error", "bot_not_ended"
    remediation = "Make the bot leave with DELETE /v1/{app_id}/ai/meetings/{bot_id}, and delete its media once it has."


@dataclass(frozen=True, slots=True, kw_only=True)
class WantMediaDeleted:
    """The wish that a bot's recordings and transcripts are deleted, carried out by a job until the provider obeys.

    Our own links to them go at once. Again has no effect. Raises `BotNotEnded`.
    """

    account: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [(Bot, self.bot), *job_reads(self.bot, DELETE_MEDIA)]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.status not in OVER:
            raise BotNotEnded(f"The bot is {bot.status}: it may still record.")
        if bot.media_unwanted_ms:
            return bot
        bot = without_links(bot)._replace(media_unwanted_ms=view.now_ms)
        view.put(bot)
        ask(view, DELETE_MEDIA, bot, due_ms=view.now_ms)
        return bot


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetEvents:
    """Keep of a provider's webhooks that they came, and not what they said."""

    account: str
    events: Sequence[str]

    def reads(self) -> Iterable[Key]:
        return [(InboundEvent, event) for event in self.events]

    def apply(self, view: View) -> None:
        for event in self.events:
            stored = view.get(InboundEvent, event)
            if stored is not None:
                view.put(stored._replace(body=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaDeleted:
    """The provider has nothing of it any more: a line of the bot's history."""

    account: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [(History, history_id(self.bot, MEDIA_DELETED))]

    def apply(self, view: View) -> None:
        row_id = history_id(self.bot, MEDIA_DELETED)
        if view.get(History, row_id) is None:
            view.put(
                History(
                    id=row_id,
                    account=self.account,
                    bot=self.bot,
                    code=MEDIA_DELETED,
                    sub_code="",
                    at_ms=view.now_ms,
                )
            )
