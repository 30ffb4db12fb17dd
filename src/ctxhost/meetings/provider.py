"""What a meeting provider is: the protocol that an adapter implements, and the facts it reports.

The host owns the bot, its id, its tenancy and its state machine. An adapter only translates: it creates a bot at its
provider, reads the provider's whole record of it, tells it to leave, and verifies the provider's webhooks.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

from starlette.types import ASGIApp

API_VERSION = 1
"""The version of this protocol; an adapter names the one it was written for."""

RecordingKind = Literal["mp4", "audio_only", "off"]
ArtifactState = Literal["processing", "done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BotRequest:
    """What to create. `bot` and `app` must be findable at the provider afterwards (see `find`)."""

    bot: str
    app: str
    attempt: int
    """n of the idempotency key (bot, n): the same n must never make a second bot."""
    meeting_url: str
    platform: str
    bot_name: str
    transcript: bool
    recording: RecordingKind
    join_at_ms: int | None
    automatic_leave: Mapping[str, int]
    """waiting_room_timeout_s, no_one_joined_timeout_s, everyone_left_timeout_s, in_call_not_recording_timeout_s."""
    metadata: Mapping[str, str]


class Phase(StrEnum):
    """A step of a bot's life, in the host's words."""

    JOINING = "joining"
    WAITING_ROOM = "waiting_room"
    IN_CALL = "in_call"
    RECORDING = "recording"
    ENDED = "ended"
    """It has left the call, or will never be in it. `Step.end` says how."""
    DONE = "done"
    """The provider has finished everything that it will do."""


class End(StrEnum):
    """How a bot's call ended. It decides the status that users see and who pays."""

    OVER = "over"
    """By itself: the call ended, everyone left, a timeout in the call."""
    ALONE = "alone"
    """By itself, because nobody else came into the call."""
    LEFT = "left"
    """It was told to leave, by the host's `leave`."""
    NOT_ADMITTED = "not_admitted"
    """Never let in, denied, or removed from the waiting room."""
    KICKED = "kicked"
    """Removed from the call."""
    FAILED = "failed"
    """It could not join, or broke down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of the provider's history."""

    phase: Phase
    at_ms: int
    end: End | None = None
    """Set exactly when `phase` is ENDED."""
    reason: str = ""
    """The provider's own machine-readable reason, shown as `statusReason`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A thing to download."""

    id: str
    state: ArtifactState
    url: str = ""
    """Fetched by a plain GET without credentials; empty unless `done`."""
    updated_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFact:
    """One recording session. Its own times are what is billed."""

    id: str
    started_ms: int
    completed_ms: int
    """0 while it runs."""
    media: Artifact
    transcript: Artifact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BotRecord:
    """Everything that the provider knows of a bot, as of one reading."""

    steps: Sequence[Step]
    recordings: Sequence[RecordingFact] = ()
    transcript: Artifact | None = None
    """A transcript that belongs to no recording (recording is off)."""
    urls_expire_ms: int = 0
    cost_seconds: int = 0
    """What the provider bills the operator for, so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """A verified webhook. It only says "look": nothing in it is booked."""

    id: str
    """The provider's id of the event, the same at every retry."""
    kind: str
    provider_id: str
    """The provider's bot id, or empty when the event is about something else."""
    bot: str = ""
    """Our bot id, as found in the event's metadata, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingPrices:
    """List prices and what the operator pays, in nano-dollars per hour, before markup."""

    recording_nano_usd_per_hour: int
    transcription_nano_usd_per_hour: int
    cost_nano_usd_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that an operator should mend, for `ctxhost doctor`."""

    what: str
    mend: str
    """The command or the setting that mends it."""


@runtime_checkable
class Examined(Protocol):
    """What a provider may have besides: it knows what is wrong with its settings."""

    def problems(self) -> Sequence[Problem]:
        """What keeps it from working as it could, without asking the network; never with a secret in it."""
        ...


@runtime_checkable
class Probed(Protocol):
    """What a provider may have besides: it can ask its service whether it takes these settings."""

    async def probe(self) -> Sequence[Problem]:
        """What its service has to say against them, asked over the network; never with a secret in it."""
        ...


@runtime_checkable
class Persistent(Protocol):
    """What a provider may have besides: it says for how long a `create` goes on by itself."""

    create_deadline_s: float


@runtime_checkable
class DeletesMedia(Protocol):
    """What a provider may have besides: it can delete what a bot has recorded."""

    async def delete_media(self, provider_id: str) -> None:
        """Delete every recording and transcript of a bot whose call is over, for good.

        The record stays as it was, but for the artifacts: those that were `done` are `failed`, `deleted`, and their
        links lead nowhere. Returns quietly when they are deleted already, or never were. Raises `UnknownBot`.
        """
        ...


class BadWebhook(Exception):
    """A webhook that is not the provider's: no, a wrong or a stale signature."""


class UnreadableWebhook(Exception):
    """A correctly signed webhook whose body is not the JSON that it should be."""


class UnknownBot(Exception):
    """The provider has no such bot (any more)."""

    outcome = "unknown_bot"
    """How observers hear of it."""


class MeetingProvider(Protocol):
    """An adapter. Subclass it and write what is abstract; the rest has a default that fits a simple provider.

    Errors of `create`: a `ctxhost.errors.Refusal` other than `ProviderTimeout` says that the provider answered in full
    and made no bot (`InvalidRequest` for a request it will never take, `ProviderBusy` when it is full, `ProviderError`
    for the rest). `ProviderTimeout`, and any other exception, says that the outcome is unknown. The other methods raise
    `ProviderError`, `ProviderBusy` or `ProviderTimeout`, and `UnknownBot` where it says so.
    """

    name: str
    """Lower case, unique among the installed adapters: it is in URLs and in ids."""
    prices: MeetingPrices
    api_version: int = API_VERSION
    platforms: Mapping[str, str] = MappingProxyType({})
    """Hosts beyond the four well-known platforms that its bots can join: host → platform name."""
    idempotency_window_s: int = 0
    """How long the same (bot, attempt) gives the same answer; 0: a silent `create` is never repeated."""
    minimum_timeouts_s: Mapping[str, int] = MappingProxyType({})
    """The smallest `automatic_leave` values it takes; smaller wishes are raised to them."""
    mount: ASGIApp | None = None
    """Served below `/plugins/{name}`, or None."""

    @abstractmethod
    async def create(self, request: BotRequest) -> str:
        """Send a bot; returns the provider's id of it. Repeating (bot, attempt) within the window makes no second."""

    @abstractmethod
    async def find(self, bot: str) -> Sequence[str]:
        """The provider's ids of every bot that was made for our bot id."""

    @abstractmethod
    async def read(self, provider_id: str) -> BotRecord:
        """The whole record, with fresh artifact URLs. Raises `UnknownBot`."""

    @abstractmethod
    async def leave(self, provider_id: str) -> None:
        """Make the bot leave, or never come. Returns quietly when it is gone already. Raises `UnknownBot`."""

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        """Check a webhook over its raw bytes. Raises `BadWebhook` or `UnreadableWebhook`, nothing else.

        A provider without webhooks need not write it: its bots are read at intervals.
        """
        raise BadWebhook

    async def run(self) -> None:
        """Work of its own while the host runs; it is cancelled at the end."""
        return None  # noqa: RET501 - a body, so that a type checker sees a default and not something to write

    async def aclose(self) -> None:
        """Let go of what is held."""
        return None  # noqa: RET501 - as above
