"""From Recall's bot object to the host's facts, pure.

What cannot be understood is `Malformed`; what is merely new is passed over. Recall's codes are no closed sets, its
lists have no promised order, and most fields may be null or missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxhost.meetings.provider import Artifact, ArtifactState, BotRecord, End, Phase, RecordingFact, RecordingKind, Step
from ctxhost_recall.fields import Malformed, identifier, items, link, mapping, moment, optional, text
from ctxhost_recall.reasons import end_of_call
from ctxhost_recall.requests import BOT_KEY, RECORDING_KEY, TRANSCRIBE_KEY, WHILE_IT_RUNS

URL_LIFE_MS = 6 * 3_600_000
URL_MARGIN_MS = 5 * 60_000
BARE_DONE_MS = 60_000
"""How long a `done` without a `call_ended` is not believed."""
_KINDS: Mapping[str, RecordingKind] = {"mp4": "mp4", "audio_only": "audio_only", "off": "off"}

PHASE_OF: Mapping[str, Phase] = {
    "joining_call": Phase.JOINING,
    "in_waiting_room": Phase.WAITING_ROOM,
    "in_call_not_recording": Phase.IN_CALL,
    "recording_permission_allowed": Phase.IN_CALL,
    "recording_permission_denied": Phase.IN_CALL,
    "in_call_recording": Phase.RECORDING,
    "call_ended": Phase.ENDED,
    "done": Phase.DONE,
    "fatal": Phase.DONE,
}
"""Statuses that are steps of a life. Others (`ready`, `recording_done`, `media_expired`, breakout rooms) are not."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history."""

    at_ms: int
    code: str
    sub_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A recording as Recall keeps it; `transcript` is the one that it already lists."""

    id: str
    state: ArtifactState
    started_ms: int
    completed_ms: int
    updated_ms: int
    reason: str
    media: Artifact | None
    transcript: Artifact | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BotFacts:
    """A bot as of one reading."""

    id: str
    recording: RecordingKind
    transcribe: str
    """How it is transcribed, or empty."""
    steps: Sequence[Step]
    sessions: Sequence[Session]
    cost_seconds: int


def read_bot(body: Any, *, now_ms: int) -> BotFacts:
    """Everything in a bot object that the host wants to know. Raises `Malformed`."""
    bot = mapping(body, "bot")
    changes = sorted((_change(entry) for entry in items(bot, "status_changes")), key=lambda change: change.at_ms)
    recording = _kind(bot)
    steps = _steps(_settled(changes, now_ms), records=recording != "off")
    ended_ms = next((step.at_ms for step in steps if step.phase is Phase.ENDED), 0)
    return BotFacts(
        id=identifier(bot, "id"),
        recording=recording,
        transcribe=_transcribe(bot),
        steps=steps,
        sessions=[_session(entry, recording, ended_ms) for entry in items(bot, "recordings")],
        cost_seconds=_cost_s(changes, now_ms),
    )


def to_record(facts: BotFacts, transcripts: Mapping[str, Artifact], *, now_ms: int) -> BotRecord:
    """The host's record; `transcripts` are those by recording id that were found or asked for.

    Where recording is off, Recall's sessions are only where the transcript hangs: the longest one's is the bot's.
    """
    if facts.recording == "off":
        by_length = sorted(facts.sessions, key=lambda s: s.completed_ms - s.started_ms, reverse=True)
        made = [transcripts[session.id] for session in by_length if session.id in transcripts]
        alone = next(iter([*made, *(_awaited(facts, session) for session in by_length)]), None)
        return BotRecord(
            steps=facts.steps,
            transcript=alone,
            urls_expire_ms=_expiry([alone], now_ms),
            cost_seconds=facts.cost_seconds,
        )
    recordings = [
        RecordingFact(
            id=session.id,
            started_ms=session.started_ms,
            completed_ms=session.completed_ms,
            media=_media(session),
            transcript=transcripts.get(session.id) or _awaited(facts, session),
        )
        for session in facts.sessions
    ]
    found = [artifact for fact in recordings for artifact in (fact.media, fact.transcript)]
    return BotRecord(
        steps=facts.steps,
        recordings=recordings,
        urls_expire_ms=_expiry(found, now_ms),
        cost_seconds=facts.cost_seconds,
    )


def read_artifact(value: Any) -> Artifact:
    """A media shortcut, or the same thing from its own endpoint. Raises `Malformed`.

    It is `done` only with its link: Recall may say so a moment before there is one.
    """
    found = mapping(value, "artifact")
    status = optional(found, "status")
    url = link(optional(found, "data"), "download_url")
    code = text(status, "code") or ("done" if url else "processing")
    state: ArtifactState = "processing"
    if code in ("failed", "deleted"):
        state = "failed"
    elif code == "done" and url:
        state = "done"
    return Artifact(
        id=identifier(found, "id"),
        state=state,
        url=url if state == "done" else "",
        updated_ms=moment(status, "updated_at") or moment(found, "created_at"),
        reason=_why(code, text(status, "sub_code")) if state == "failed" else "",
    )


def bot_of(bot: Any) -> tuple[str, str]:
    """Recall's id of a bot object and ours in its metadata (empty when there is none). Raises `Malformed`."""
    found = mapping(bot, "bot")
    return identifier(found, "id"), text(optional(found, "metadata"), BOT_KEY)


def _change(entry: Any) -> Change:
    found = mapping(entry, "status_changes")
    at_ms = moment(found, "created_at")
    if not at_ms:
        raise Malformed("status_changes.created_at is missing")
    return Change(at_ms, text(found, "code"), text(found, "sub_code"))


def _settled(changes: Sequence[Change], now_ms: int) -> Sequence[Change]:
    """The history without a `done` that came before its `call_ended`: that has the reason, and may be on its way."""
    if any(change.code in ("call_ended", "fatal") for change in changes):
        return changes
    return [c for c in changes if c.code != "done" or now_ms >= c.at_ms + BARE_DONE_MS]


def _steps(changes: Sequence[Change], *, records: bool) -> list[Step]:
    """The history in the host's words. A bot that records nothing is in the call, whatever Recall calls it."""
    admitted = any(PHASE_OF.get(change.code) in (Phase.IN_CALL, Phase.RECORDING) for change in changes)
    steps: list[Step] = []
    for change in changes:
        phase = PHASE_OF.get(change.code)
        if phase is None:
            continue
        if phase is Phase.RECORDING and not records:
            phase = Phase.IN_CALL
        if phase is Phase.DONE and not any(step.phase is Phase.ENDED for step in steps):
            steps.append(_end(change, admitted=admitted))
        if phase is Phase.ENDED:
            steps.append(_end(change, admitted=admitted))
        else:
            steps.append(Step(phase=phase, at_ms=change.at_ms, reason=change.sub_code))
    return steps


def _end(change: Change, *, admitted: bool) -> Step:
    """The reason stands on `call_ended`, or on `fatal` where the bot broke down; `done` alone has none."""
    end = End.FAILED if change.code == "fatal" else end_of_call(change.sub_code, admitted=admitted)
    return Step(phase=Phase.ENDED, at_ms=change.at_ms, end=end, reason=change.sub_code)


def _cost_s(changes: Sequence[Change], now_ms: int) -> int:
    """Recall bills from joining until done, the waiting room included; a bot that broke down is free."""
    joined_ms = next((change.at_ms for change in changes if change.code == "joining_call"), None)
    if joined_ms is None or any(change.code == "fatal" for change in changes):
        return 0
    until_ms = next((change.at_ms for change in changes if change.code == "done"), now_ms)
    return max(until_ms - joined_ms, 0) // 1_000


def _kind(bot: Mapping[str, Any]) -> RecordingKind:
    """What the bot was asked to record: our own note, else the configuration that Recall echoes."""
    noted = _KINDS.get(text(optional(bot, "metadata"), RECORDING_KEY))
    if noted is not None:
        return noted
    config = bot.get("recording_config")
    if not isinstance(config, dict) or config.get("video_mixed_mp4") is not None:
        return "mp4"
    return "audio_only" if config.get("audio_mixed_mp3") is not None else "off"


def _transcribe(bot: Mapping[str, Any]) -> str:
    noted = text(optional(bot, "metadata"), TRANSCRIBE_KEY)
    is_streamed = optional(bot, "recording_config").get("transcript") is not None
    return noted or (WHILE_IT_RUNS if is_streamed else "")


def _session(entry: Any, recording: RecordingKind, ended_ms: int) -> Session:
    found = mapping(entry, "recordings")
    status, shortcuts = optional(found, "status"), optional(found, "media_shortcuts")
    completed_ms = moment(found, "completed_at")
    code = text(status, "code") or ("done" if completed_ms else "processing")
    state: ArtifactState = "done" if code == "done" else "failed" if code in ("failed", "deleted") else "processing"
    media = shortcuts.get("audio_mixed" if recording == "audio_only" else "video_mixed")
    transcript = shortcuts.get("transcript")
    started_ms = moment(found, "started_at") or moment(found, "created_at")
    if completed_ms and not started_ms:
        raise Malformed("recordings.started_at is missing")
    return Session(
        id=identifier(found, "id"),
        state=state,
        started_ms=started_ms,
        # A recording that is over ended with the call at the latest.
        completed_ms=completed_ms or (max(ended_ms, started_ms) if state != "processing" and ended_ms else 0),
        updated_ms=moment(status, "updated_at"),
        reason=_why(code, text(status, "sub_code")) if state == "failed" else "",
        media=None if media is None or recording == "off" else read_artifact(media),
        transcript=None if transcript is None else read_artifact(transcript),
    )


def _media(session: Session) -> Artifact:
    """The session's file. Where the recording itself has failed there will be none."""
    if session.state == "failed":
        id_ = session.media.id if session.media else session.id
        return Artifact(id=id_, state="failed", updated_ms=session.updated_ms, reason=session.reason)
    if session.media is None:
        return Artifact(id=session.id, state="processing", updated_ms=session.updated_ms)
    if session.media.state == "done" and not session.completed_ms:
        # Its length is what is billed, so it is not finished before that is known.
        return Artifact(id=session.media.id, state="processing", updated_ms=session.media.updated_ms)
    return session.media


def _awaited(facts: BotFacts, session: Session) -> Artifact | None:
    """A transcript that Recall does not list yet. `done` of the bot is not the end of it: it may come minutes later."""
    if not facts.transcribe or session.state == "failed":
        return None
    return Artifact(id="", state="processing", updated_ms=session.updated_ms or session.started_ms)


def _why(code: str, sub_code: str) -> str:
    return sub_code or code


def _expiry(artifacts: Sequence[Artifact | None], now_ms: int) -> int:
    has_urls = any(artifact is not None and artifact.url for artifact in artifacts)
    return now_ms + URL_LIFE_MS - URL_MARGIN_MS if has_urls else 0
