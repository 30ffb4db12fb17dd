"""A bot as its owner sees it, and what a session costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxhost.clock import rfc3339
from ctxhost.meetings.provider import MeetingPrices
from ctxhost.money import price_of_seconds
from ctxhost.store.rows import Bot

PURPOSE = "meetings"
FIRST_HOLD_S = 300
"""The first hold covers this much of every line; a renewal covers as much again from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingBot:
    """A meeting bot. Times are RFC 3339 in UTC with milliseconds; a field that is not known yet is None."""

    id: str
    status: str
    """joining, waiting_room, in_call, recording, ended, done or fatal."""
    status_reason: str | None
    """Why it ended, machine-readable."""
    started_at: str | None
    """When it was admitted."""
    completed_at: str | None
    """When it left the call."""
    duration_seconds: int | None
    """The billed seconds."""
    recording_url: str | None
    transcript_url: str | None
    bot_name: str
    metadata: Mapping[str, str]
    meeting_url: str
    platform: str
    provider: str
    created_at: str

    def to_wire(self) -> dict[str, Any]:
        """The JSON object of the REST API."""
        return {
            "id": self.id,
            "status": self.status,
            "statusReason": self.status_reason,
            "startedAt": self.started_at,
            "completedAt": self.completed_at,
            "durationSeconds": self.duration_seconds,
            "recordingUrl": self.recording_url,
            "transcriptUrl": self.transcript_url,
            "botName": self.bot_name,
            "metadata": dict(self.metadata),
            "meetingUrl": self.meeting_url,
            "platform": self.platform,
            "provider": self.provider,
            "createdAt": self.created_at,
        }


def shown(bot: Bot) -> MeetingBot:
    """A bot's row as its owner sees it."""
    return MeetingBot(
        id=bot.id,
        status=bot.status,
        status_reason=bot.status_reason or None,
        started_at=rfc3339(bot.started_ms) if bot.started_ms else None,
        completed_at=rfc3339(bot.ended_ms) if bot.ended_ms else None,
        duration_seconds=bot.duration_s if bot.duration_s >= 0 else None,
        recording_url=bot.recording_url or None,
        transcript_url=bot.transcript_url or None,
        bot_name=bot.bot_name,
        metadata=json.loads(bot.metadata),
        meeting_url=bot.meeting_url,
        platform=bot.platform,
        provider=bot.provider,
        created_at=rfc3339(bot.created_ms),
    )


def as_new(bot: Bot) -> Bot:
    """The bot as the call that made it answered: nothing of what has happened since."""
    return bot._replace(
        status="joining",
        status_reason="",
        started_ms=0,
        ended_ms=0,
        duration_s=-1,
        recording_url="",
        transcript_url="",
    )


def rate_card(prices: MeetingPrices, *, transcript: bool, markup_percent: int) -> dict[str, int]:
    """Nano-dollars per hour of each line that a bot may be charged for, after markup."""
    listed = {"recording": prices.recording_nano_usd_per_hour}
    if transcript:
        listed["transcription"] = prices.transcription_nano_usd_per_hour
    return {name: (price * (100 + markup_percent) + 50) // 100 for name, price in listed.items()}


def cost_of(card: Mapping[str, int], seconds: int) -> int:
    """What so many seconds of every line cost, in nano-dollars; each line is rounded by itself."""
    return sum(price_of_seconds(seconds, rate) for rate in card.values())
