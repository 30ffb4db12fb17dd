"""What becomes of a bot's recording and transcript, and who pays for them. Pure.

Each line is settled once its fate is known. An artifact counts when it was ready before the deadline, by the provider's
own time, however late its news are read: so a host that was down decides as one that was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ctxhost.meetings.facts import Facts, whole_seconds
from ctxhost.meetings.provider import Artifact, BotRecord, RecordingFact
from ctxhost.store.rows import Bot

TIMEOUT = "timeout"
NOT_MADE = "not_made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was asked for: whether its fate is known, and who pays."""

    settled: bool
    shown: Artifact | None = None
    """What was delivered in time."""
    recording_id: str = ""
    seconds: int | None = None
    charge: dict[str, int] = field(default_factory=dict)
    waive: Sequence[str] = ()
    failed_reason: str | None = None
    at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When artifacts are no longer awaited, and whether that has come."""

    at_ms: int
    passed: bool

    def is_met_by(self, artifact: Artifact) -> bool:
        return artifact.updated_ms <= self.at_ms


_PENDING = Line(settled=False)


def judge_recording(bot: Bot, facts: Facts, deadline: Deadline) -> Line:
    """The line that pays for the bot's time."""
    if facts.end is None:
        return _PENDING
    if facts.admitted_ms is None:
        return Line(settled=True, waive=["recording"])
    if bot.recording == "off":
        return _bot_time_alone(facts)
    media = [recording.media for recording in facts.recordings]
    if not deadline.passed and (_is_awaited(media, deadline) or not (media or facts.finished)):
        return _PENDING
    delivered = _delivered(facts, deadline)
    if not delivered:
        return _no_recording(facts, deadline)
    shown = longest(delivered)
    seconds = whole_seconds(sum(max(_length_ms(recording), 0) for recording in delivered))
    return Line(
        settled=True,
        shown=shown.media,
        recording_id=shown.id,
        seconds=seconds,
        charge={"recording": seconds},
        at_ms=shown.media.updated_ms or shown.completed_ms,
    )


def judge_transcript(bot: Bot, facts: Facts, record: BotRecord, recording: Line, deadline: Deadline) -> Line:
    """The line that pays for the transcript; decided after the recording, whose seconds it takes."""
    if not bot.transcript:
        return Line(settled=True)
    if not recording.settled:
        return _PENDING
    has_nothing_to_say = recording.shown is None if bot.recording != "off" else facts.was_alone
    if facts.admitted_ms is None or has_nothing_to_say:
        return Line(settled=True, waive=["transcription"])
    own = [r.transcript for r in _delivered(facts, deadline)] if bot.recording != "off" else [record.transcript]
    made = [artifact for artifact in own if artifact is not None]
    is_missing = len(made) < len(own) and not facts.finished
    if not deadline.passed and (is_missing or _is_awaited(made, deadline)):
        return _PENDING
    delivered = [artifact for artifact in made if artifact.state == "done" and deadline.is_met_by(artifact)]
    if not delivered:
        return _no_transcript(made, facts, deadline)
    shown = next((a for a in delivered if a == transcript_of(facts, recording.recording_id)), delivered[0])
    return Line(
        settled=True,
        shown=shown,
        charge={"transcription": recording.seconds or 0},
        at_ms=shown.updated_ms or recording.at_ms,
    )


def longest(recordings: Sequence[RecordingFact]) -> RecordingFact:
    """The one that is shown when there are several."""
    return max(recordings, key=_length_ms)


def transcript_of(facts: Facts, recording_id: str) -> Artifact | None:
    return next((r.transcript for r in facts.recordings if r.id == recording_id), None)


def _length_ms(recording: RecordingFact) -> int:
    return recording.completed_ms - recording.started_ms


def _delivered(facts: Facts, deadline: Deadline) -> list[RecordingFact]:
    return [r for r in facts.recordings if r.media.state == "done" and deadline.is_met_by(r.media)]


def _is_awaited(artifacts: Sequence[Artifact], deadline: Deadline) -> bool:
    return any(artifact.state == "processing" and deadline.is_met_by(artifact) for artifact in artifacts)


def _bot_time_alone(facts: Facts) -> Line:
    """Recording is off: a session is charged for its time in the call, one that broke or that nobody came to is not."""
    if facts.was_alone:
        return Line(settled=True, seconds=0, waive=["recording"])
    if facts.is_fatal:
        return Line(settled=True, seconds=facts.in_call_s, waive=["recording"])
    return Line(settled=True, seconds=facts.in_call_s, charge={"recording": facts.in_call_s})


def _no_recording(facts: Facts, deadline: Deadline) -> Line:
    if not facts.recordings:
        return Line(settled=True, seconds=0, waive=["recording"])
    reason, at_ms = _why_failed([recording.media for recording in facts.recordings], facts, deadline)
    return Line(
        settled=True,
        seconds=0,
        waive=["recording"],
        recording_id=facts.recordings[0].id,
        failed_reason=reason,
        at_ms=at_ms,
    )


def _no_transcript(made: Sequence[Artifact], facts: Facts, deadline: Deadline) -> Line:
    reason, at_ms = _why_failed(made, facts, deadline)
    return Line(
        settled=True, shown=made[0] if made else None, waive=["transcription"], failed_reason=reason, at_ms=at_ms
    )


def _why_failed(artifacts: Sequence[Artifact], facts: Facts, deadline: Deadline) -> tuple[str, int]:
    """The provider's own word if it gave one in time, else that it did not come, or not in time."""
    assert facts.end is not None
    for artifact in artifacts:
        if artifact.state == "failed" and deadline.is_met_by(artifact):
            return artifact.reason, artifact.updated_ms or facts.end.at_ms
    if not artifacts and facts.finished:
        return NOT_MADE, facts.end.at_ms
    return TIMEOUT, deadline.at_ms
