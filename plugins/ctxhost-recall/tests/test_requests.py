"""The body of a new bot, in the shapes of version 1.11. The emulator's strict reading is the judge of every one."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from ctxhost.clock import rfc3339
from ctxhost.meetings.provider import BotRequest
from ctxhost_recall.emulator.checks import bot_in, transcript_in
from ctxhost_recall.requests import create_body, transcription
from ctxhost_recall.settings import read_settings

Ask = Callable[..., BotRequest]

NOW_MS = 1_793_631_510_410
STREAMING = {"mode": "prioritize_accuracy", "language_code": "auto"}


def body_of(request: BotRequest, **settings: Any) -> dict[str, Any]:
    body = create_body(request, read_settings({"api_key": "key", **settings}), now_ms=NOW_MS)
    bot_in(body)
    return body


def test_a_recorded_bot(asked: Ask) -> None:
    """Everything that is sent, key by key."""
    assert {
        "meeting_url": "https://meet.google.com/qwe-rtyu-iop",
        "bot_name": "Notetaker",
        "metadata": {
            "meeting": "m-9001",
            "bb_bot_id": asked().bot,
            "bb_app_id": "app_1",
            "bb_recording": "mp4",
            "bb_transcribe": "recallai_async",
        },
        "recording_config": {
            "video_mixed_mp4": {},
            "audio_mixed_mp3": None,
            "participant_events": {},
            "meeting_metadata": {},
            "transcript": None,
            "retention": {"type": "timed", "hours": 168},
        },
        "automatic_leave": {
            "waiting_room_timeout": 1_200,
            "noone_joined_timeout": 1_200,
            "in_call_not_recording_timeout": 3_600,
            "everyone_left_timeout": {"timeout": 30},
        },
    } == body_of(asked())


@pytest.mark.parametrize(
    ("recording", "video", "audio", "events"),
    [("mp4", {}, None, {}), ("audio_only", None, {}, {}), ("off", None, None, None)],
)
def test_what_is_captured(asked: Ask, recording: str, video: Any, audio: Any, events: Any) -> None:
    """What was not asked for is switched off by name, because Recall's default may be on."""
    config = body_of(asked(recording=recording))["recording_config"]

    assert (video, audio) == (config["video_mixed_mp4"], config["audio_mixed_mp3"])
    assert (events, events) == (config["participant_events"], config["meeting_metadata"])


@pytest.mark.parametrize(
    ("recording", "setting", "provider", "afterwards"),
    [
        pytest.param("mp4", "recallai_async", None, True, id="afterwards"),
        pytest.param("audio_only", "recallai_async", None, True, id="afterwards-sound"),
        pytest.param("off", "recallai_async", {"recallai_streaming": STREAMING}, False, id="off"),
        pytest.param("mp4", "recallai_streaming", {"recallai_streaming": STREAMING}, False, id="streaming"),
        pytest.param("mp4", "meeting_captions", {"meeting_captions": {}}, False, id="captions"),
        pytest.param("off", "deepgram_streaming", {"deepgram_streaming": {}}, False, id="off-streaming"),
    ],
)
def test_how_it_is_transcribed(asked: Ask, recording: str, setting: str, provider: Any, afterwards: bool) -> None:
    """While it runs, or afterwards and then noted in the metadata; never both."""
    body = body_of(asked(recording=recording), transcription=setting)
    transcript = body["recording_config"]["transcript"]

    assert provider == (transcript and transcript["provider"])
    assert afterwards == (transcript is None) == (body["metadata"]["bb_transcribe"] == "recallai_async")


def test_no_transcript_is_asked_for(asked: Ask) -> None:
    """Where none is wanted none is made, now or later."""
    body = body_of(asked(transcript=False))

    assert body["recording_config"]["transcript"] is None
    assert "bb_transcribe" not in body["metadata"]


@pytest.mark.parametrize(("ahead_ms", "is_sent"), [(-1, False), (0, False), (1, True), (3_600_000, True)])
def test_when_it_joins(asked: Ask, ahead_ms: int, is_sent: bool) -> None:
    """A time that has passed means now, and Recall is not told a time of the past."""
    body = body_of(asked(join_at_ms=NOW_MS + ahead_ms))

    assert (rfc3339(NOW_MS + ahead_ms) if is_sent else None) == body.get("join_at")


def test_the_callers_timeouts(asked: Ask) -> None:
    """Each in its place and shape."""
    timeouts_s = {"waiting_room_timeout_s": 31, "no_one_joined_timeout_s": 32, "everyone_left_timeout_s": 33}
    leave = body_of(asked(automatic_leave={**timeouts_s, "in_call_not_recording_timeout_s": 34}))["automatic_leave"]

    assert (31, 32, {"timeout": 33}, 34) == (
        leave["waiting_room_timeout"],
        leave["noone_joined_timeout"],
        leave["everyone_left_timeout"],
        leave["in_call_not_recording_timeout"],
    )


def test_a_bot_that_records_nothing_may_stay(asked: Ask) -> None:
    """It is never recording, so that timeout is out of the way."""
    leave = body_of(asked(recording="off", transcript=False))["automatic_leave"]

    assert 86_400 == leave["in_call_not_recording_timeout"]


def test_our_metadata_wins(asked: Ask) -> None:
    """A caller cannot make a bot look like another one."""
    body = body_of(asked(metadata={"bb_bot_id": "another", "bb_app_id": "another"}))

    assert (asked().bot, "app_1") == (body["metadata"]["bb_bot_id"], body["metadata"]["bb_app_id"])


def test_every_combination_is_understood(asked: Ask) -> None:
    """All wishes under all settings pass the strict reading."""
    settings = ("recallai_async", "recallai_streaming", "meeting_captions", "deepgram_streaming")
    for recording, transcript, setting in itertools.product(("mp4", "audio_only", "off"), (True, False), settings):
        body_of(asked(recording=recording, transcript=transcript, bot_name="n" * 200), transcription=setting)
    transcript_in(transcription("recallai_async", read_settings({})))
