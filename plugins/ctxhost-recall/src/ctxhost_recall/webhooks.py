"""Recall's webhooks: verified over their raw bytes, read for nothing but whom they are about."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ctxhost.meetings.provider import BadWebhook, ProviderEvent, UnreadableWebhook
from ctxhost.webhooks.signing import BadSignature
from ctxhost.webhooks.signing import verify as verify_signature
from ctxhost_recall.fields import is_id
from ctxhost_recall.requests import BOT_KEY

MAX_KIND_CHARS = 100

_BOT = (
    "joining_call",
    "in_waiting_room",
    "in_call_not_recording",
    "recording_permission_allowed",
    "recording_permission_denied",
    "in_call_recording",
    "call_ended",
    "done",
    "fatal",
    "breakout_room_entered",
    "breakout_room_left",
    "breakout_room_opened",
    "breakout_room_closed",
    # Workspaces of version 1.10 and before.
    "status_change",
    "log",
    "output_log",
)
_ARTIFACTS = (
    "transcript",
    "audio_mixed",
    "audio_separate",
    "video_mixed",
    "video_separate",
    "participant_events",
    "meeting_metadata",
)
KINDS = frozenset(
    {f"bot.{code}" for code in _BOT}
    | {f"recording.{code}" for code in ("processing", "paused", "done", "failed", "deleted")}
    | {f"{artifact}.{code}" for artifact in _ARTIFACTS for code in ("processing", "done", "failed", "deleted")}
    | {f"realtime_endpoint.{code}" for code in ("running", "done", "failed")}
    | {f"sdk_upload.{code}" for code in ("uploading", "complete", "failed", "recording_started", "recording_ended")}
    | {"calendar.update", "calendar.sync_events", "slack.huddle_state"}
    | {f"slack_team.{code}" for code in ("invited", "active", "access_revoked")}
)
"""The kinds that Recall has published. An event of any other is kept, and nothing follows from it."""


def read_event(headers: Mapping[str, str], body: bytes, *, keys: Sequence[bytes], now_ms: int) -> ProviderEvent:
    """Whom a webhook is about. Both header families count, and any of the keys.

    Raises:
        BadWebhook: it is not signed with a key of ours, or not now.
        UnreadableWebhook: it is, but is not an event.
    """
    try:
        verified = verify_signature(headers=headers, body=body, secrets=keys, now_ms=now_ms)
    except BadSignature:
        raise BadWebhook from None
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableWebhook("it is not JSON") from None
    kind = _member(event, "event")
    if not isinstance(kind, str) or not kind.isprintable() or not 0 < len(kind) <= MAX_KIND_CHARS:
        raise UnreadableWebhook("it names no event")
    if kind not in KINDS:
        return ProviderEvent(id=verified.id, kind=kind, provider_id="")
    data = _member(event, "data")
    bot = _member(data, "bot")
    return ProviderEvent(
        id=verified.id,
        kind=kind,
        provider_id=_id(bot, "id") or _id(data, "bot_id"),
        bot=_id(_member(bot, "metadata"), BOT_KEY),
    )


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _id(value: Any, name: str) -> str:
    found = _member(value, name)
    return found if isinstance(found, str) and is_id(found) else ""
