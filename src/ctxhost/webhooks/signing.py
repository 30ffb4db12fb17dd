"""Webhook signatures, in and out: pure functions over the raw bytes, the time passed in.

Outgoing messages carry two forms: `x-bb-signature` (over the body alone) and Standard Webhooks (over
`id.timestamp.body`). Incoming ones are Standard Webhooks, under its own header names or under Svix's.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxhost.errors import CtxhostError, SettingsError

TOLERANCE_S = 300
MAX_HEADER_CHARS = 8_192
MAX_SIGNATURES = 10
MIN_KEY_BYTES = 24

_FAMILIES = tuple(
    tuple(f"{prefix}-{part}" for part in ("id", "timestamp", "signature")) for prefix in ("webhook", "svix")
)
_NAMES = frozenset(name for family in _FAMILIES for name in family)
# A dot would let one signed text be cut into another id and body.
_ID = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class BadSignature(CtxhostError):
    """A webhook is not from who it says, or not from now. Never says which part failed."""

    def __init__(self) -> None:
        super().__init__("The webhook's signature could not be verified.")


@dataclass(frozen=True, slots=True)
class Verified:
    """The signed facts beside the body; `timestamp_s` is Unix time in seconds."""

    id: str
    timestamp_s: int


def sign_body(secret: str, body: bytes) -> str:
    """The `x-bb-signature` of a body: `v1,<base64 HMAC-SHA256>`, keyed with the secret's UTF-8 bytes."""
    return _v1(secret.encode(), body)


def signed_headers(*, secrets: Sequence[str], message_id: str, now_ms: int, event: str, body: bytes) -> dict[str, str]:
    """All headers of one attempt to deliver `body`, in both signature forms.

    Args:
        secrets: newest first. `x-bb-signature` uses the newest alone; `webhook-signature` has one signature for each,
            so that a receiver may switch at its own time after a rotation. A key is the UTF-8 bytes of a whole secret.
        message_id: the same for every attempt; without a dot.
    """
    timestamp = str(now_ms // 1_000)
    content = _signed_content(message_id, timestamp, body)
    return {
        "content-type": "application/json",
        "x-bb-event": event,
        "x-bb-signature": sign_body(secrets[0], body),
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_v1(secret.encode(), content) for secret in secrets),
    }


def decode_secret(secret: str) -> bytes:
    """The key bytes of a Standard Webhooks secret, `whsec_<base64>`.

    Raises:
        SettingsError: not of that form, or shorter than 24 bytes.
    """
    if not secret.startswith("whsec_"):
        raise SettingsError("A webhook secret starts with `whsec_`; copy the signing secret, not another kind of key.")
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError("What follows `whsec_` in a webhook secret is base64; copy the secret again.") from None
    if len(key) < MIN_KEY_BYTES:
        raise SettingsError(f"A webhook secret has at least {MIN_KEY_BYTES} bytes; this one has {len(key)}.")
    return key


def verify(
    *, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now_ms: int, tolerance_s: int = TOLERANCE_S
) -> Verified:
    """Check a Standard Webhooks message against any of the keys; names of headers in any case.

    Uses the `webhook-*` headers when all three are there, else the `svix-*` ones; the two are never mixed.

    Raises:
        BadSignature: for everything that can be wrong with it.
    """
    message_id, timestamp, signatures = _coherent_set(headers)
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature
    if abs(now_ms - int(timestamp) * 1_000) > tolerance_s * 1_000:
        raise BadSignature
    content = _signed_content(message_id, timestamp, body)
    if not _any_matches([_v1(secret, content) for secret in secrets], signatures.split(" ")):
        raise BadSignature
    return Verified(message_id, int(timestamp))


def _coherent_set(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Id, timestamp and signatures of one family, each header there once and of a sane size."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered not in _NAMES:
            continue
        if lowered in found or len(value) > MAX_HEADER_CHARS:
            raise BadSignature
        found[lowered] = value
    for message_id, timestamp, signatures in _FAMILIES:
        if message_id in found and timestamp in found and signatures in found:
            return found[message_id], found[timestamp], found[signatures]
    raise BadSignature


def _any_matches(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Whether a given signature is an expected one, taking the same time whichever it is."""
    if len(given) > MAX_SIGNATURES:
        raise BadSignature
    matched = False
    for signature in given:
        # Compared as text: whatever is not our own base64, letter for letter, is wrong.
        candidate = signature.encode("utf-8", "replace")
        for right in expected:
            matched |= hmac.compare_digest(right.encode(), candidate)
    return matched


def _signed_content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)


def _v1(key: bytes, content: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
