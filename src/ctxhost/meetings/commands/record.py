"""The one road by which facts come in: the provider's whole record, taken over in one transaction."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctxhost import jobs
from ctxhost.ledger import rules
from ctxhost.ledger.commands import Charge, Trim, Waive, charge_id
from ctxhost.meetings import lifecycle
from ctxhost.meetings.commands.shared import (
    READ,
    RENEW,
    ask,
    bot_reads,
    get_bot,
    job_reads,
    save,
    tell,
    telling_reads,
)
from ctxhost.meetings.lifecycle import OVER, Verdict
from ctxhost.meetings.model import cost_of
from ctxhost.meetings.provider import BotRecord
from ctxhost.money import price_of_seconds
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, Entry, Lease, ProviderCost

_LINES = ("recording", "transcription")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecord:
    """What the provider's record says becomes ours: status, charges, messages, at once."""

    account: str
    app: str
    bot: str
    record: BotRecord
    read_ms: int
    """When the provider was asked for it: what it does not show may have come since."""
    artifact_wait_ms: int
    cost_nano_usd_per_hour: int

    def reads(self) -> Iterable[Key]:
        return [
            *bot_reads(self.bot, self.account),
            *telling_reads(self.bot, self.app),
            (ProviderCost, self.bot),
            *((Entry, charge_id(self.bot, line)) for line in _LINES),
            *job_reads(self.bot, READ, RENEW),
        ]

    def apply(self, view: View) -> Verdict:
        bot = get_bot(view, self.bot)
        read_ms = min(self.read_ms, view.now_ms)
        verdict = lifecycle.judge(bot, self.record, now_ms=read_ms, artifact_wait_ms=self.artifact_wait_ms)
        save(view, verdict.bot)
        self._note_cost(view, verdict.bot)
        if bot.completed_ms:
            return verdict
        for happening in verdict.happenings:
            tell(view, verdict.bot, happening)
        self._settle(view, verdict)
        if verdict.bot.status in OVER:
            jobs.cancel(view, kind=RENEW, ref=bot.id)
        return verdict

    def _settle(self, view: View, verdict: Verdict) -> None:
        lease = view.get(Lease, self.bot)
        if lease is None:
            return
        card = json.loads(lease.rate_card)
        open_lines = rules.names(lease.open)
        for line in open_lines:
            if line in verdict.charges:
                self._charge(view, line, verdict.charges[line], card[line])
            elif line in verdict.waived:
                Waive(account=self.account, lease=self.bot, dimension=line).apply(view)
        left = {line: card[line] for line in open_lines if line not in verdict.charges and line not in verdict.waived}
        if verdict.billable_s is not None and left:
            Trim(account=self.account, lease=self.bot, target=cost_of(left, verdict.billable_s)).apply(view)

    def _charge(self, view: View, line: str, seconds: int, nano_usd_per_hour: int) -> None:
        amount = price_of_seconds(seconds, nano_usd_per_hour)
        Charge(account=self.account, lease=self.bot, dimension=line, quantity=seconds, amount=amount).apply(view)

    def _note_cost(self, view: View, bot: Bot) -> None:
        stored = view.get(ProviderCost, bot.id)
        if stored is not None and self.record.cost_seconds <= stored.seconds:
            return
        seconds = self.record.cost_seconds
        view.put(
            ProviderCost(
                id=bot.id,
                account=self.account,
                provider=bot.provider,
                seconds=seconds,
                amount=price_of_seconds(seconds, self.cost_nano_usd_per_hour),
                at_ms=view.now_ms,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookNow:
    """Read the bot's record at once."""

    account: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [(Bot, self.bot), *job_reads(self.bot, READ)]

    def apply(self, view: View) -> None:
        ask(view, READ, get_bot(view, self.bot), due_ms=view.now_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteUrls:
    """Fresh links to artifacts that are ready already. What a record does not show, and is fresh, has come since."""

    account: str
    bot: str
    recording_urls: Mapping[str, str]
    """By the recording's id."""
    transcript_urls: Mapping[str, str]
    """By the transcript's id."""
    urls_expire_ms: int

    def reads(self) -> Iterable[Key]:
        return [(Bot, self.bot)]

    def apply(self, view: View) -> Bot:
        bot = get_bot(view, self.bot)
        if bot.media_unwanted_ms:
            return bot
        recording_url = self.recording_urls.get(bot.recording_id, "")
        transcript_url = self.transcript_urls.get(bot.transcript_id, "")
        if bot.urls_expire_ms > view.now_ms:
            recording_url, transcript_url = recording_url or bot.recording_url, transcript_url or bot.transcript_url
        bot = bot._replace(
            recording_url=recording_url, transcript_url=transcript_url, urls_expire_ms=self.urls_expire_ms
        )
        view.put(bot)
        return bot
