"""What a run has seen, as plain values: gathered by `drive`, judged by `checks`, shown by `report`."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ctxhost.webhooks.signing import BadSignature, verify

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver an event, as it arrived at the app's function."""

    event: str
    webhook_id: str
    bot: str
    status: int
    body_signed: bool
    """`x-bb-signature` is right for these bytes."""
    message_signed: bool
    """The Standard Webhooks signature is right for this id, time and these bytes."""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def verified(self) -> bool:
        return self.body_signed and self.message_signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part that a bot plays in the run."""

    name: str
    function: str
    """The app's function that sends it."""
    script: str
    """The life that the fake provider gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One bot from its spawn to its end."""

    part: Part
    answer_status: int
    answer: Json
    bot: Json
    """As the API shows it at the end."""
    events: Sequence[Json]
    """Its history."""
    seen_s: Mapping[str, float]
    """Status → seconds after the spawn at which it was first seen."""
    deliveries: Sequence[Delivery]
    row_before: Json
    row_after: Json
    charges: Sequence[Json]
    """Its lines in the journal."""

    @property
    def delivered(self) -> list[str]:
        """The events that the app's function accepted, in the order of their arrival."""
        return [delivery.event for delivery in self.deliveries if delivery.accepted]

    @property
    def charged_usd(self) -> Decimal:
        return -sum((line["amount_usd"] for line in self.charges), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """An artifact, fetched without credentials."""

    status: int
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run has seen."""

    stories: Sequence[Story]
    """The happy bot first."""
    recording: Download | None
    transcript: Download | None
    talk: str
    """The transcript as text."""
    credits_before: Json
    credits_held: Json
    """Right after the first spawn, before any other."""
    credits_after: Json
    usage: Sequence[Json]
    estimate_usd: Sequence[Any]
    """Of 30 minutes, with and without a transcript."""
    forged_status: int
    findings: Sequence[str]
    """What does not add up in the books."""
    settled: bool
    """Whether every bot came to its end before the deadline."""
    took_s: float

    @property
    def happy(self) -> Story:
        return self.stories[0]


def signed_body(secret: str, body: bytes) -> str:
    """The worked example's own formula, written once more, so that the platform is not checked with itself."""
    return "v1," + base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def is_signed_message(secret: str, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> bool:
    """Whether the Standard Webhooks headers are right; the key is the bytes of the whole secret."""
    try:
        verify(headers=headers, body=body, secrets=[secret.encode()], now_ms=now_ms)
    except BadSignature:
        return False
    return True
