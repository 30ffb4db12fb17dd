"""Paying for a bot's time while it is in the call."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.ledger import rules
from ctxhost.ledger.commands import Extend, settle_clock
from ctxhost.meetings.commands.shared import LEAVE, bot_reads, get_bot, job_reads, tell, telling_reads, want_stop
from ctxhost.meetings.lifecycle import OVER, Happening
from ctxhost.meetings.model import FIRST_HOLD_S, cost_of
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, Lease

RENEW_BEFORE_MS = 90_000
LEAVE_BEFORE_MS = 30_000
LOW_AGAIN_MS = 10_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Pay for the next slice, or say that the credit runs out, or make the bot leave in time.

    Returns when to come again, or None when nothing is to be paid any more.
    """

    account: str
    app: str
    bot: str
    call_limit_s: int

    def reads(self) -> Iterable[Key]:
        return [*bot_reads(self.bot, self.account), *telling_reads(self.bot, self.app), *job_reads(self.bot, LEAVE)]

    def apply(self, view: View) -> int | None:
        bot = get_bot(view, self.bot)
        settle_clock(view, self.account)
        lease = view.get(Lease, self.bot)
        if bot.status in OVER or bot.stop_reason or lease is None or lease.state != "open":
            return None
        limit_ms = bot.started_ms + self.call_limit_s * 1_000 if bot.started_ms else 2**62
        if view.now_ms >= limit_ms:
            want_stop(view, bot, "call_limit")
            return None
        accrued_s = max(view.now_ms - bot.started_ms, 0) // 1_000 if bot.started_ms else 0
        again_ms = self._pay(view, bot, lease, accrued_s)
        return None if again_ms is None else min(again_ms, limit_ms)

    def _pay(self, view: View, bot: Bot, lease: Lease, accrued_s: int) -> int | None:
        target = cost_of(_open_rates(lease), accrued_s + FIRST_HOLD_S)
        more = target - lease.held
        if more > 0 and more > settle_clock(view, self.account).available:
            return self._run_out(view, bot, lease)
        paid_until_ms = view.now_ms + FIRST_HOLD_S * 1_000
        Extend(account=self.account, lease=self.bot, target=target, paid_until_ms=paid_until_ms).apply(view)
        return paid_until_ms - RENEW_BEFORE_MS

    def _run_out(self, view: View, bot: Bot, lease: Lease) -> int | None:
        if not bot.low_credit_ms:
            bot = bot._replace(low_credit_ms=view.now_ms)
            view.put(bot)
            tell(view, bot, Happening(event="credits.low", code="credits_low", sub_code="", at_ms=view.now_ms))
        leave_at_ms = _covered_until_ms(bot, lease) - LEAVE_BEFORE_MS
        if view.now_ms >= leave_at_ms:
            want_stop(view, bot, "insufficient_credits")
            return None
        return min(view.now_ms + LOW_AGAIN_MS, leave_at_ms)


def _open_rates(lease: Lease) -> dict[str, int]:
    card = json.loads(lease.rate_card)
    return {line: card[line] for line in rules.names(lease.open)}


def _covered_until_ms(bot: Bot, lease: Lease) -> int:
    """How far what is held reaches; waiting costs nothing, so it counts from the admission."""
    rate = sum(_open_rates(lease).values())
    return bot.started_ms + lease.held * _HOUR_MS // rate if bot.started_ms and rate else lease.paid_until_ms
