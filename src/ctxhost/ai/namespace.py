"""`ctx.ai`: the primitives of one app, as its handlers see them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from ctxhost.clock import rfc3339
from ctxhost.meetings.model import MeetingBot
from ctxhost.meetings.requests import parse_estimate, parse_idempotency_key, parse_list, parse_start
from ctxhost.meetings.service import Meetings, Page
from ctxhost.money import NANO_PER_USD, usd_string
from ctxhost.store.rows import App, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One charge: a dimension of a completed session."""

    id: str
    dimension: str
    seconds: int
    usd_charged: str
    """A decimal with six places."""
    created_at: str

    def to_wire(self) -> dict[str, Any]:
        """The JSON object of the REST API."""
        return {
            "id": self.id,
            "dimension": self.dimension,
            "seconds": self.seconds,
            "usd_charged": self.usd_charged,
            "created_at": self.created_at,
        }


def usage_row(entry: Entry) -> UsageRow:
    """A charge of the journal as its app sees it."""
    return UsageRow(
        id=str(entry.seq),
        dimension=entry.dimension,
        seconds=entry.quantity,
        usd_charged=usd_string(-(entry.allowance + entry.credits)),
        created_at=rfc3339(entry.at_ms),
    )


class MeetingsNamespace:
    """`ctx.ai.meetings`. Every call raises `ProviderUnavailable` where no meeting provider is configured."""

    def __init__(self, meetings: Meetings, app: App, now_ms: Callable[[], int]) -> None:
        self._meetings = meetings
        self._app = app
        self._now_ms = now_ms

    async def start(
        self,
        meeting_url: str,
        *,
        transcript: bool = True,
        recording: Literal["mp4", "audio_only", False] = "mp4",
        bot_name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        automatic_leave: Mapping[str, int] | None = None,
        join_at: datetime | str | None = None,
        provider: str | None = None,
        idempotency_key: str | None = None,
    ) -> MeetingBot:
        """Send a bot into a Zoom, Meet, Teams or Webex call; it is `joining` when this returns.

        `automatic_leave` has the REST API's keys, such as `waitingRoomTimeoutSec`; `join_at` is at most 30 days ahead.

        Raises:
            InvalidRequest: an argument is not valid; its `details` name it.
            InsufficientCredits: the first hold does not fit.
            ProviderError, ProviderBusy: the provider made no bot; nothing is held.
        """
        self._meetings.require_provider()
        asked = {
            "meetingUrl": meeting_url,
            "transcript": transcript,
            "recording": recording,
            "botName": bot_name,
            "metadata": _plain(metadata),
            "automaticLeave": _plain(automatic_leave),
            "joinAt": join_at.isoformat() if isinstance(join_at, datetime) else join_at,
            "provider": provider,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        request = parse_start(given, now_ms=self._now_ms(), extra_hosts=self._meetings.extra_hosts)
        key = parse_idempotency_key(idempotency_key) if idempotency_key is not None else None
        return (await self._meetings.start(self._app, request, idempotency_key=key)).bot

    async def get(self, bot_id: str) -> MeetingBot:
        """One bot of this app, its links fresh. Raises `BotNotFound`."""
        return await self._meetings.get(self._app.id, bot_id)

    async def list(self, *, status: str | None = None, limit: int = 20, cursor: str | None = None) -> Page:
        """A page of this app's bots, newest first. Raises `InvalidRequest`."""
        self._meetings.require_provider()
        asked = {"status": status, "limit": str(limit), "cursor": cursor}
        request = parse_list([(name, value) for name, value in asked.items() if value is not None])
        return await self._meetings.list(self._app.id, request)

    async def stop(self, bot_id: str) -> None:
        """Make a bot leave; a bot that has ended stays as it is. Raises `BotNotFound`."""
        await self._meetings.stop(self._app.id, bot_id)

    async def delete_media(self, bot_id: str) -> None:
        """Delete what a bot recorded, for good; its links are gone at once. Again has no effect, nothing is refunded.

        Raises:
            BotNotFound: there is no such bot in this app.
            BotNotEnded: it has not left yet.
            ProviderUnavailable: its provider cannot delete.
        """
        await self._meetings.delete_media(self._app.id, bot_id)

    async def estimate(self, duration_minutes: int, *, transcript: bool = True) -> Decimal:
        """US dollars that a session of this length costs. Raises `InvalidRequest`."""
        self._meetings.require_provider()
        asked = [("durationMinutes", str(duration_minutes)), ("transcript", "true" if transcript else "false")]
        return Decimal(self._meetings.estimate(parse_estimate(asked), app=self._app.id)) / NANO_PER_USD

    async def usage(self) -> Sequence[UsageRow]:
        """The last 100 charges of this app's bots, newest first."""
        return [usage_row(entry) for entry in await self._meetings.usage(self._app.id)]


def _plain(value: object) -> object:
    """A mapping as the dict that the models take; anything else is theirs to refuse."""
    return dict(value) if isinstance(value, Mapping) else value


class AI:
    """The primitives that an app can use."""

    def __init__(self, meetings: MeetingsNamespace) -> None:
        self._meetings = meetings

    @property
    def meetings(self) -> MeetingsNamespace:
        """Meeting bots, recordings and transcripts."""
        return self._meetings
