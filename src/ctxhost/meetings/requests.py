"""What callers may ask of meetings, over HTTP and through `ctx.ai.meetings`: the same strict models, the same refusals.

Names are the wire's own (`meetingUrl`, `durationMinutes`, `forward_url`); the Python side reads them in snake_case.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from ctxhost.errors import InvalidRequest
from ctxhost.meetings.transcript import Format
from ctxhost.wire import (
    LEFT_OUT,
    NO_NUL,
    QUERY_INT,
    CamelWire,
    HttpUrl,
    QueryBool,
    Wire,
    read,
    read_query,
    split_http_url,
)

BotStatus = Literal["joining", "waiting_room", "in_call", "recording", "ended", "done", "fatal"]
STATUSES: tuple[BotStatus, ...] = get_args(BotStatus)
"""In the order in which a bot passes through them; the last two are final."""

PLATFORMS: Mapping[str, str] = {
    "zoom.us": "zoom",
    "zoom.com": "zoom",
    "zoomgov.com": "zoom",
    "meet.google.com": "google_meet",
    "teams.microsoft.com": "microsoft_teams",
    "teams.live.com": "microsoft_teams",
    "webex.com": "webex",
}
"""The hosts whose links are meetings, each with all its subdomains."""

MAX_METADATA_BYTES = 16 * 1024
MAX_JOIN_AHEAD_MS = 30 * 24 * 3_600 * 1_000

_NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def platform_of(url: str, extra_hosts: Mapping[str, str] | None = None) -> str | None:
    """The platform a meeting link belongs to, by its host alone; None for any other URL.

    `extra_hosts` maps further hosts, with their subdomains, to a platform; what a provider declares for itself.
    A host with a trailing dot is not recognised: no platform hands out such links.
    """
    parts = split_http_url(url)
    labels = parts.hostname.split(".") if parts and parts.hostname else []
    for start in range(len(labels)):
        suffix = ".".join(labels[start:])
        platform = (extra_hosts or {}).get(suffix) or PLATFORMS.get(suffix)
        if platform is not None:
            return platform
    return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the validators of a start need to know of the moment."""

    now_ms: int
    extra_hosts: Mapping[str, str] = field(default_factory=dict)


def _asked(info: ValidationInfo) -> _Asked:
    assert isinstance(info.context, _Asked), "a StartBot is read by parse_start"
    return info.context


def _meeting_url(url: str, info: ValidationInfo) -> str:
    if platform_of(url, _asked(info).extra_hosts) is None:
        raise PydanticCustomError(
            "unsupported_meeting_url", "This is not a link to a Zoom, Google Meet, Microsoft Teams or Webex meeting"
        )
    return url


def _recording(value: Any) -> Any:
    # By type first: to Python, and so to a Literal, 0 equals False.
    if value is False or (type(value) is str and value in ("mp4", "audio_only")):
        return value
    raise PydanticCustomError("invalid_value", 'Must be "mp4", "audio_only" or false')


def _metadata_key(key: str) -> str:
    if key.startswith("bb_"):
        raise PydanticCustomError("reserved_key", "Keys that start with bb_ are reserved")
    return key


def _metadata(value: dict[str, str]) -> dict[str, str]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_big", "The whole map is at most 16 KiB as JSON in UTF-8")
    return value


def _join_at_ms(value: Any, info: ValidationInfo) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("invalid_type", "Must be a string")
    try:
        if not _RFC3339.fullmatch(value):
            raise ValueError(value)
        at_ms = (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "invalid_value", "Must be an RFC 3339 time with an offset, like 2026-06-11T19:18:53Z"
        ) from None
    now_ms = _asked(info).now_ms
    if at_ms > now_ms + MAX_JOIN_AHEAD_MS:
        raise PydanticCustomError("too_big", "Must be at most 30 days ahead")
    return at_ms


Seconds = Annotated[int, Field(ge=1, le=86_400)]
MetadataKey = Annotated[str, Field(pattern=NO_NUL), AfterValidator(_metadata_key)]
MetadataValue = Annotated[str, Field(max_length=500, pattern=NO_NUL)]
BotName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=_NOT_BLANK)]
JoinAt = Annotated[int, BeforeValidator(_join_at_ms), WithJsonSchema({"type": "string", "format": "date-time"})]
ProviderName = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]


class AutomaticLeave(CamelWire):
    """When the bot gives up by itself, in seconds; what is left out is the provider's default."""

    waiting_room_timeout_sec: Annotated[Seconds | None, LEFT_OUT] = Field(
        default=None, description="Leave after this long in the waiting room."
    )
    no_one_joined_timeout_sec: Annotated[Seconds | None, LEFT_OUT] = Field(
        default=None, description="Leave when nobody else has joined for this long."
    )
    everyone_left_timeout_sec: Annotated[Seconds | None, LEFT_OUT] = Field(
        default=None, description="Leave this long after everyone else has left."
    )
    in_call_not_recording_timeout_sec: Annotated[Seconds | None, LEFT_OUT] = Field(
        default=None, description="Leave after this long in the call without recording."
    )


class StartBot(CamelWire):
    """A bot to send into a meeting."""

    meeting_url: Annotated[HttpUrl, AfterValidator(_meeting_url)] = Field(
        description="A Zoom, Google Meet, Microsoft Teams or Webex link, recognised by its host."
    )
    transcript: bool = Field(default=True, description="Transcribe the call.")
    recording: Annotated[Literal["mp4", "audio_only", False], BeforeValidator(_recording)] = Field(
        default="mp4", description="What to record; `false` skips recording."
    )
    bot_name: Annotated[BotName | None, LEFT_OUT] = Field(
        default=None, description="The name shown in the call, trimmed; left out, the operator's default."
    )
    metadata: Annotated[dict[MetadataKey, MetadataValue], AfterValidator(_metadata)] = Field(
        default_factory=dict,
        description="Your own strings, echoed as sent; at most 16 KiB in all. Keys starting with `bb_` are reserved.",
        json_schema_extra={"propertyNames": {"pattern": r"^(?!bb_)[^\x00]*$"}},
    )
    automatic_leave: Annotated[AutomaticLeave | None, LEFT_OUT] = Field(
        default=None, description="When the bot gives up by itself; raised to the provider's minimum."
    )
    join_at_ms: Annotated[JoinAt | None, LEFT_OUT] = Field(
        default=None, alias="joinAt", description="When to join, at most 30 days ahead; left out or past, now."
    )
    provider: Annotated[ProviderName | None, LEFT_OUT] = Field(
        default=None, description="Which of the installed providers to use; left out, the operator's choice."
    )
    _platform: str = PrivateAttr(default="")

    def model_post_init(self, context: _Asked, /) -> None:
        self._platform = platform_of(self.meeting_url, context.extra_hosts) or ""

    @property
    def platform(self) -> str:
        """The platform that the link belongs to: `zoom`, `google_meet`, …"""
        return self._platform


class Estimate(CamelWire):
    """What a session of some length would cost."""

    duration_minutes: Annotated[int, Field(ge=1, le=1_440), QUERY_INT] = Field(
        description="The length of the call.", examples=[30]
    )
    transcript: QueryBool = Field(default=True, description="Include the cost of transcription.")


class ListBots(Wire):
    """One page of an app's bots, newest first."""

    status: Annotated[BotStatus | None, LEFT_OUT] = Field(default=None, description="Only bots in this status.")
    limit: Annotated[int, Field(ge=1, le=100), QUERY_INT] = Field(default=20, description="How many bots at most.")
    cursor: Annotated[Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)] | None, LEFT_OUT] = Field(
        default=None, description="`nextCursor` of the page before."
    )


class GetTranscript(Wire):
    """How a transcript is to be written."""

    format: Format = Field(default="json", description="`json` is what `transcriptUrl` gives.")


def parse_start(data: Any, *, now_ms: int, extra_hosts: Mapping[str, str] | None = None) -> StartBot:
    """A bot to start, from decoded JSON or an equal Python value. Raises `InvalidRequest`."""
    return read(StartBot, data, context=_Asked(now_ms, extra_hosts or {}))


def parse_idempotency_key(key: str) -> str:
    """A caller's own name for a call that must happen once. Raises `InvalidRequest`."""
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest.of("Idempotency-Key", "Must be 1-255 printable ASCII characters", "invalid_value")
    return key


def parse_estimate(query: Sequence[tuple[str, str]]) -> Estimate:
    """A cost to estimate, from the pairs of a query string. Raises `InvalidRequest`."""
    return read_query(Estimate, query)


def parse_list(query: Sequence[tuple[str, str]]) -> ListBots:
    """A page of bots, from the pairs of a query string. Raises `InvalidRequest`."""
    return read_query(ListBots, query)


def parse_transcript(query: Sequence[tuple[str, str]]) -> GetTranscript:
    """The form of a transcript, from the pairs of a query string. Raises `InvalidRequest`."""
    return read_query(GetTranscript, query)
