"""Requests, field by field, against Recall's published API, version 1.11.

Recall passes unknown keys over; this does not.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

OnOff = dict[Literal["metadata"], dict[str, str]]
Metadata = dict[str, str | None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _one(provider: dict[str, Any]) -> dict[str, Any]:
    if len(provider) != 1:
        raise ValueError("exactly one provider")
    return provider


class _RecallStreaming(_Strict):
    mode: Literal["prioritize_accuracy", "prioritize_low_latency"] = "prioritize_accuracy"
    language_code: str = "auto"
    spelling: list[Any] = []
    key_terms: list[str] = []
    filter_profanity: bool = False


class _RecallAsync(_Strict):
    language_code: str = "auto"
    spelling: list[Any] = []
    key_terms: list[str] = []
    filter_profanity: bool = False


class _StreamingProvider(_Strict):
    recallai_streaming: _RecallStreaming | None = None
    meeting_captions: dict[str, Any] | None = None
    assembly_ai_async_chunked: dict[str, Any] | None = None
    assembly_ai_v3_streaming: dict[str, Any] | None = None
    aws_transcribe_streaming: dict[str, Any] | None = None
    deepgram_streaming: dict[str, Any] | None = None
    gladia_v2_streaming: dict[str, Any] | None = None
    rev_streaming: dict[str, Any] | None = None
    speechmatics_streaming: dict[str, Any] | None = None


class _AsyncProvider(_Strict):
    recallai_async: _RecallAsync | None = None
    assembly_ai_async: dict[str, Any] | None = None
    deepgram_async: dict[str, Any] | None = None
    gladia_v2_async: dict[str, Any] | None = None
    rev_async: dict[str, Any] | None = None
    speechmatics_async: dict[str, Any] | None = None


def _exactly_one(provider: BaseModel) -> BaseModel:
    _one({name: getattr(provider, name) for name in provider.model_fields_set})
    return provider


class _Diarization(_Strict):
    use_separate_streams_when_available: bool = False


class _Transcript(_Strict):
    provider: Annotated[_StreamingProvider, AfterValidator(_exactly_one)]
    diarization: _Diarization | None = None
    metadata: Metadata = {}


class TranscriptIn(_Strict):
    """The body of `create_transcript`."""

    provider: Annotated[_AsyncProvider, AfterValidator(_exactly_one)]
    diarization: _Diarization | None = None
    metadata: Metadata = {}


class _Timed(_Strict):
    type: Literal["timed"]
    hours: int = Field(168, ge=1)


class _Forever(_Strict):
    type: Literal["forever"]


class _Endpoint(_Strict):
    type: Literal["webhook", "websocket", "rtmp", "desktop_sdk_callback"]
    url: str
    events: list[str] = []
    metadata: Metadata = {}


class _IncludeBot(_Strict):
    audio: bool = False


class RecordingConfig(_Strict):
    """What a bot captures; a null switches an artifact off."""

    transcript: _Transcript | None = None
    realtime_endpoints: list[_Endpoint] = []
    retention: Annotated[_Timed | _Forever, Field(discriminator="type")] | None = _Forever(type="forever")
    video_mixed_layout: Literal["speaker_view", "gallery_view", "gallery_view_v2", "audio_only"] = "speaker_view"
    video_mixed_participant_video_when_screenshare: Literal["overlap", "beside", "hide"] = "overlap"
    start_recording_on: Literal["participant_join", "call_join", "participant_speak", "manual"] = "participant_join"
    include_bot_in_recording: _IncludeBot = _IncludeBot()
    video_mixed_mp4: OnOff | None = {}
    participant_events: OnOff | None = {}
    meeting_metadata: OnOff | None = {}
    audio_mixed_mp3: OnOff | None = None
    audio_mixed_raw: OnOff | None = None
    audio_separate_raw: OnOff | None = None
    audio_separate_mp3: OnOff | None = None
    video_separate_mp4: OnOff | None = None
    video_separate_png: OnOff | None = None
    video_separate_h264: OnOff | None = None
    video_mixed_flv: OnOff | None = None
    metadata: Metadata = {}


class _EveryoneLeft(_Strict):
    timeout: int = Field(2, ge=1)
    activate_after: int | None = Field(None, ge=0)


class _After(_Strict):
    timeout: int = Field(ge=10)
    activate_after: int = Field(ge=1)


class _Silence(_After):
    timeout: int = Field(3_600, ge=10)
    activate_after: int = Field(1_200, ge=1)


class _BotsByEvents(_After):
    timeout: int = Field(600, ge=10)
    activate_after: int = Field(1_200, ge=1)


class _BotsByNames(_After):
    matches: list[str]


class _BotDetection(_Strict):
    using_participant_events: _BotsByEvents = _BotsByEvents()
    using_participant_names: _BotsByNames | None = None


class AutomaticLeave(_Strict):
    """When a bot goes by itself, in seconds."""

    waiting_room_timeout: int = Field(1_200, ge=30)
    noone_joined_timeout: int = Field(1_200, ge=30)
    everyone_left_timeout: _EveryoneLeft = _EveryoneLeft()
    in_call_not_recording_timeout: int = Field(3_600, ge=1)
    in_call_recording_timeout: int | None = Field(None, ge=1)
    recording_permission_denied_timeout: int = Field(30, ge=1)
    silence_detection: _Silence = _Silence()
    bot_detection: _BotDetection = _BotDetection()


class BotIn(_Strict):
    """The body of `POST /bot/`, as far as this emulator knows it."""

    meeting_url: Annotated[str, Field(min_length=1)]
    bot_name: str = Field("Meeting Notetaker", max_length=100)
    join_at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    metadata: Metadata = {}
    recording_config: RecordingConfig | None = RecordingConfig()
    automatic_leave: AutomaticLeave | None = AutomaticLeave()


class BadFields(Exception):
    """A 400: `faults` is Recall's field map."""

    def __init__(self, faults: dict[str, list[str]]) -> None:
        super().__init__(str(faults))
        self.faults = faults


def bot_in(body: Any) -> BotIn:
    """A bot's wish. Raises `BadFields`."""
    try:
        return BotIn.model_validate(body)
    except ValidationError as error:
        raise _bad(error) from None


def transcript_in(body: Any) -> TranscriptIn:
    """A transcript's wish. Raises `BadFields`."""
    try:
        return TranscriptIn.model_validate(body)
    except ValidationError as error:
        raise _bad(error) from None


def _bad(error: ValidationError) -> BadFields:
    faults: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        path = [str(part) for part in fault["loc"]] or ["non_field_errors"]
        faults.setdefault(path[0], []).append(" ".join([".".join(path[1:]), fault["msg"]]).strip())
    return BadFields(faults)
