"""From our wish for a bot to the body of Recall's `POST /bot/`, version 1.11."""

from typing import Any

from ctxhost.clock import rfc3339
from ctxhost.meetings.provider import BotRequest
from ctxhost_recall.settings import RecallSettings

BOT_KEY = "bb_bot_id"
APP_KEY = "bb_app_id"
RECORDING_KEY = "bb_recording"
TRANSCRIBE_KEY = "bb_transcribe"
"""In the bot's metadata, beside the user's: whose it is, what it records, and how it is transcribed (absent: not)."""

AFTER_THE_RECORDING = "recallai_async"
"""The one transcription that Recall takes only once there is a recording."""
WHILE_IT_RUNS = "recallai_streaming"

MAX_BOT_NAME_CHARS = 100
NEVER_S = 86_400


def create_body(request: BotRequest, settings: RecallSettings, *, now_ms: int) -> dict[str, Any]:
    """The JSON body. A `join_at` that has passed is left out: it means now."""
    body: dict[str, Any] = {
        "meeting_url": request.meeting_url,
        "bot_name": request.bot_name[:MAX_BOT_NAME_CHARS],
        "metadata": {**request.metadata, **_ours(request, settings)},
        "recording_config": _recording_config(request, settings),
        "automatic_leave": _automatic_leave(request),
    }
    if request.join_at_ms is not None and request.join_at_ms > now_ms:
        body["join_at"] = rfc3339(request.join_at_ms)
    return body


def transcription(provider: str, settings: RecallSettings) -> dict[str, Any]:
    """`provider` and `diarization`, as both a bot's configuration and `create_transcript` take them."""
    options: dict[str, Any] = {}
    if provider in (AFTER_THE_RECORDING, WHILE_IT_RUNS):
        options["language_code"] = settings.transcription_language
    if provider == WHILE_IT_RUNS:
        options["mode"] = "prioritize_accuracy"
    return {"provider": {provider: options}, "diarization": {"use_separate_streams_when_available": True}}


def _ours(request: BotRequest, settings: RecallSettings) -> dict[str, str]:
    ours = {BOT_KEY: request.bot, APP_KEY: request.app, RECORDING_KEY: request.recording}
    if request.transcript:
        ours[TRANSCRIBE_KEY] = _transcribed_by(request, settings)
    return ours


def _transcribed_by(request: BotRequest, settings: RecallSettings) -> str:
    """The operator's choice; where nothing is recorded only one that listens can do it."""
    if request.recording == "off" and settings.transcription == AFTER_THE_RECORDING:
        return WHILE_IT_RUNS
    return settings.transcription


def _recording_config(request: BotRequest, settings: RecallSettings) -> dict[str, Any]:
    """What is not wanted is null: a key that is left out would keep Recall's default, which may be on."""
    seen: dict[str, Any] | None = {} if request.recording != "off" else None
    return {
        "video_mixed_mp4": {} if request.recording == "mp4" else None,
        "audio_mixed_mp3": {} if request.recording == "audio_only" else None,
        "participant_events": seen,
        "meeting_metadata": seen,
        "transcript": _streamed_transcript(request, settings),
        "retention": {"type": "timed", "hours": settings.retention_hours},
    }


def _streamed_transcript(request: BotRequest, settings: RecallSettings) -> dict[str, Any] | None:
    chosen = _transcribed_by(request, settings)
    return transcription(chosen, settings) if request.transcript and chosen != AFTER_THE_RECORDING else None


def _automatic_leave(request: BotRequest) -> dict[str, Any]:
    timeouts_s = dict(request.automatic_leave)
    if request.recording == "off" and not request.transcript:
        # It never records, so the time that it may spend without recording would cut every long call short.
        timeouts_s["in_call_not_recording_timeout_s"] = NEVER_S
    body: dict[str, Any] = {
        theirs: timeouts_s[ours]
        for ours, theirs in (
            ("waiting_room_timeout_s", "waiting_room_timeout"),
            ("no_one_joined_timeout_s", "noone_joined_timeout"),
            ("in_call_not_recording_timeout_s", "in_call_not_recording_timeout"),
        )
        if ours in timeouts_s
    }
    body["everyone_left_timeout"] = {"timeout": timeouts_s.get("everyone_left_timeout_s", 30)}
    return body
