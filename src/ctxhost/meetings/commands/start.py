"""The first half of the start: reserve, and write the bot down."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctxhost.errors import IdempotencyConflict, RateLimited
from ctxhost.ledger.commands import Reserve
from ctxhost.meetings.commands.renewal import RENEW_BEFORE_MS
from ctxhost.meetings.commands.shared import RENEW, SPAWN, ask, bot_reads, is_scheduled, job_reads, save
from ctxhost.meetings.model import FIRST_HOLD_S, PURPOSE, cost_of
from ctxhost.store import Key, View
from ctxhost.store.rows import Answer, Bot, BotTally

ANSWER_KEPT_MS = 86_400_000


class Replay(Exception):
    """Not a fault: the Idempotency-Key was used for this same request before, and made this bot."""

    outcome = "replayed"
    """How observers hear of it."""

    def __init__(self, bot: str) -> None:
        super().__init__(bot)
        self.bot = bot


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The operator's limits on one account's bots."""

    unadmitted: int
    live: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBot:
    """Reserve and write the bot; the provider is called only after this is durable. Again has no effect.

    Raises:
        InsufficientCredits: the first hold does not fit.
        RateLimited: the account has as many bots as it may have.
        IdempotencyConflict: the key was used for another request.
        Replay: the key was used for this request.
    """

    bot: Bot
    rate_card: Mapping[str, int]
    hold_s: int
    spawn_due_in_ms: int
    caps: Caps
    answer: str = ""
    """The id of the idempotency row, or empty."""
    request: str = ""
    supersedes: str = ""
    """A bot that the provider refused: the key that it was asked for with may be used again."""

    @property
    def account(self) -> str:
        return self.bot.account

    def reads(self) -> Iterable[Key]:
        keys = [
            *bot_reads(self.bot.id, self.account),
            *self._reserve().reads(),
            *job_reads(self.bot.id, SPAWN, RENEW),
        ]
        return [*keys, (Answer, self.answer)] if self.answer else keys

    def apply(self, view: View) -> Bot:
        stored = view.get(Bot, self.bot.id)
        if stored is not None:
            return stored
        if self.answer:
            self._check_first_use(view)
        bot = self.bot._replace(created_ms=view.now_ms)
        self._check_caps(bot, view.get(BotTally, self.account))
        self._reserve().apply(view)
        save(view, bot)
        self._ask_jobs(view, bot)
        if self.answer:
            view.put(
                Answer(id=self.answer, account=self.account, request=self.request, bot=bot.id, created_ms=view.now_ms)
            )
        return bot

    def _reserve(self) -> Reserve:
        return Reserve(
            account=self.account,
            app=self.bot.app,
            lease=self.bot.id,
            purpose=PURPOSE,
            amount=cost_of(self.rate_card, FIRST_HOLD_S),
            dimensions=tuple(self.rate_card),
            rate_card=json.dumps(dict(self.rate_card), separators=(",", ":")),
            paid_for_s=FIRST_HOLD_S,
            hold_s=self.hold_s,
        )

    def _check_first_use(self, view: View) -> None:
        stored = view.get(Answer, self.answer)
        if stored is None or view.now_ms >= stored.created_ms + ANSWER_KEPT_MS:
            return
        if stored.request != self.request:
            raise IdempotencyConflict("This Idempotency-Key was used for a different request.")
        if stored.bot != self.supersedes:
            raise Replay(stored.bot)

    def _check_caps(self, bot: Bot, tally: BotTally | None) -> None:
        if tally is None:
            return
        if tally.waiting >= self.caps.unadmitted and not is_scheduled(bot):
            raise RateLimited(
                f"{tally.waiting} bots of this account wait to be admitted; that is the limit.", retry_after_s=30
            )
        if tally.live >= self.caps.live:
            raise RateLimited(f"{tally.live} bots of this account are live; that is the limit.", retry_after_s=60)

    def _ask_jobs(self, view: View, bot: Bot) -> None:
        joins_ms = max(view.now_ms, bot.join_at_ms)
        ask(view, SPAWN, bot, due_ms=view.now_ms + self.spawn_due_in_ms)
        ask(view, RENEW, bot, due_ms=joins_ms + FIRST_HOLD_S * 1_000 - RENEW_BEFORE_MS)
