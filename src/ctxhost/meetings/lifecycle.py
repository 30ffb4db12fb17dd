"""The state machine of a bot, pure: what the provider's record says about it, and what follows.

Facts come by one road: the whole record is judged as it is, so that any order, number and loss of webhooks ends in the
same row, books and messages. Nothing here reads a clock, a database or the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ctxhost.meetings import artifacts
from ctxhost.meetings.artifacts import Deadline, Line
from ctxhost.meetings.facts import Facts, read_facts
from ctxhost.meetings.provider import Artifact, BotRecord, End, Phase
from ctxhost.store.rows import Bot

STATUSES = ("joining", "waiting_room", "in_call", "recording", "ended", "done", "fatal")
UNADMITTED = ("joining", "waiting_room")
OVER = ("ended", "done", "fatal")
TERMINAL = ("done", "fatal")

LOOK_JOINING_MS = 60_000
LOOK_IN_CALL_MS = 300_000
LOOK_ENDED_MS = (15_000, 120_000)
"""Soon after the call often, then the less often the longer it takes."""
LOOK_LATE_MS = 3_600_000
LATE_FOR_MS = 36 * 3_600_000
"""How long after a call an artifact that was not there in time is still looked for, to be shown."""

_RANK_OF_STATUS = {status: rank for rank, status in enumerate(STATUSES)}
_STATUS_OF_PHASE = {
    Phase.JOINING: "joining",
    Phase.WAITING_ROOM: "waiting_room",
    Phase.IN_CALL: "in_call",
    Phase.RECORDING: "recording",
    Phase.ENDED: "ended",
}
_CODE_OF_PHASE = {
    Phase.JOINING: "joining_call",
    Phase.WAITING_ROOM: "in_waiting_room",
    Phase.IN_CALL: "in_call_not_recording",
    Phase.RECORDING: "in_call_recording",
    Phase.ENDED: "call_ended",
}
RANK_OF_EVENT = {
    "bot.joining_call": 10,
    "bot.in_waiting_room": 20,
    "bot.in_call_not_recording": 30,
    "bot.in_call_recording": 40,
    "credits.low": 45,
    "bot.call_ended": 50,
    "bot.fatal": 55,
    "recording.done": 60,
    "recording.failed": 60,
    "transcript.done": 70,
    "transcript.failed": 70,
    "bot.done": 80,
}
"""The order in which a bot's messages leave. A fatal end is told at once; what was recorded before it comes after."""
MEDIA_DELETED = "media.deleted"
RANK_OF_STEP = {**RANK_OF_EVENT, MEDIA_DELETED: 90}
"""The order of a history's lines of one moment. Some are no messages."""
UNKNOWN_RANK = 99
"""Of a line that a newer host wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to a bot: a line of its history, and a message to whoever asked for it."""

    event: str
    code: str
    sub_code: str
    at_ms: int
    recording: str = ""
    transcript: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a record means. Charges and waivers hold for the lines that are still open."""

    bot: Bot
    happenings: Sequence[Happening]
    charges: dict[str, int]
    """Dimension → seconds."""
    waived: Sequence[str]
    billable_s: int | None
    """The most that can still be billed, once the call is over."""
    look_at_ms: int | None
    """When to read the record again; None: nothing more is awaited."""


def judge(bot: Bot, record: BotRecord, *, now_ms: int, artifact_wait_ms: int) -> Verdict:
    """What follows from a provider's record of a bot that was read at `now_ms`."""
    facts = read_facts(record)
    deadline = _deadline(facts, now_ms, artifact_wait_ms)
    media = artifacts.judge_recording(bot, facts, deadline)
    speech = artifacts.judge_transcript(bot, facts, record, media, deadline)
    is_settled = media.settled and speech.settled
    status, reason = _status(bot, facts, is_settled=is_settled)
    judged = _row(bot, record, facts, media, speech)._replace(status=status, status_reason=reason)
    is_final = status in TERMINAL and is_settled
    judged = judged._replace(completed_ms=bot.completed_ms or (now_ms if is_final else 0))
    if bot.media_unwanted_ms:
        judged = without_links(judged)
    return Verdict(
        bot=judged,
        happenings=_happenings(judged, facts, media, speech),
        charges={**media.charge, **speech.charge},
        waived=[*media.waive, *speech.waive],
        billable_s=None if facts.end is None else facts.in_call_s,
        look_at_ms=_look_again(judged, record, facts, deadline, now_ms, is_final=is_final),
    )


def without_links(bot: Bot) -> Bot:
    """The bot's row without a link to anything that was recorded."""
    return bot._replace(recording_url="", transcript_url="", urls_expire_ms=0)


def _deadline(facts: Facts, now_ms: int, artifact_wait_ms: int) -> Deadline:
    at_ms = facts.end.at_ms + artifact_wait_ms if facts.end else now_ms + artifact_wait_ms
    return Deadline(at_ms=at_ms, passed=now_ms >= at_ms)


def _status(bot: Bot, facts: Facts, *, is_settled: bool) -> tuple[str, str]:
    if bot.status in TERMINAL:
        return bot.status, bot.status_reason
    if facts.end is None:
        seen = [_STATUS_OF_PHASE[step.phase] for step in facts.steps if step.phase in _STATUS_OF_PHASE]
        return max([bot.status, *seen], key=_RANK_OF_STATUS.__getitem__), bot.status_reason
    reason = _reason(bot, facts)
    if facts.is_fatal:
        return "fatal", reason
    return ("done" if is_settled else "ended"), reason


def _reason(bot: Bot, facts: Facts) -> str:
    assert facts.end is not None
    if facts.end.end is End.LEFT and bot.stop_reason:
        return "cancelled" if facts.admitted_ms is None and bot.stop_reason == "stopped" else bot.stop_reason
    return facts.end.reason


def _row(bot: Bot, record: BotRecord, facts: Facts, media: Line, speech: Line) -> Bot:
    """The columns that facts fill in; what was known before is never unlearnt from an older record.

    An artifact that comes too late to be charged still fills its URL.
    """
    duration_s = bot.duration_s
    if not bot.completed_ms and duration_s < 0 and media.seconds is not None:
        duration_s = media.seconds
    bot = bot._replace(
        started_ms=bot.started_ms or facts.admitted_ms or 0,
        ended_ms=bot.ended_ms or (facts.end.at_ms if facts.end else 0),
        duration_s=duration_s,
    )
    return _with_transcript(_with_recording(bot, record, facts, media), record, facts, speech)


def _with_recording(bot: Bot, record: BotRecord, facts: Facts, line: Line) -> Bot:
    ready = [recording for recording in facts.recordings if recording.media.state == "done"]
    if bot.recording_state == "done" and bot.recording_id not in {recording.id for recording in ready}:
        return bot
    if ready:
        shown = artifacts.longest(ready)
        return bot._replace(
            recording_id=shown.id,
            recording_state="done",
            recording_url=shown.media.url,
            urls_expire_ms=record.urls_expire_ms,
        )
    if bot.recording_state == "failed":
        return bot
    return bot._replace(recording_id=line.recording_id or bot.recording_id, recording_state=_state_of(line))


def _with_transcript(bot: Bot, record: BotRecord, facts: Facts, line: Line) -> Bot:
    """The transcript of the recording that is shown, else any."""
    of_recordings = [r.transcript for r in facts.recordings if r.media.state == "done"]
    made = [record.transcript] if bot.recording == "off" else of_recordings
    ready = [artifact for artifact in made if artifact is not None and artifact.state == "done"]
    if bot.transcript_state == "done" and bot.transcript_id not in {artifact.id for artifact in ready}:
        return bot
    if ready:
        shown = next((a for a in ready if a == artifacts.transcript_of(facts, bot.recording_id)), ready[0])
        return bot._replace(
            transcript_id=shown.id,
            transcript_state="done",
            transcript_url=shown.url,
            urls_expire_ms=record.urls_expire_ms,
        )
    if bot.transcript_state == "failed":
        return bot
    known_id = line.shown.id if line.shown else bot.transcript_id
    return bot._replace(transcript_id=known_id, transcript_state=_state_of(line))


def _state_of(line: Line) -> str:
    if line.failed_reason is not None:
        return "failed"
    return "" if line.settled else "processing"


def _happenings(bot: Bot, facts: Facts, media: Line, speech: Line) -> list[Happening]:
    found: dict[str, Happening] = {}
    for step in facts.steps:
        if code := _CODE_OF_PHASE.get(step.phase):
            happened = Happening(event=f"bot.{code}", code=code, sub_code=step.reason, at_ms=step.at_ms)
            found.setdefault(happened.event, happened)
    if bot.status == "fatal" and facts.end is not None:
        happened = Happening(event="bot.fatal", code="fatal", sub_code=bot.status_reason, at_ms=facts.end.at_ms)
        found[happened.event] = happened
    for happened_to in (_of_artifact("recording", media, media.recording_id), _of_artifact("transcript", speech)):
        if happened_to is not None:
            found[happened_to.event] = happened_to
    if bot.status == "done" and facts.end is not None:
        at_ms = max(facts.end.at_ms, media.at_ms, speech.at_ms)
        found["bot.done"] = Happening(event="bot.done", code="done", sub_code="", at_ms=at_ms)
    return sorted(found.values(), key=lambda happening: RANK_OF_EVENT[happening.event])


def _of_artifact(name: str, line: Line, artifact_id: str = "") -> Happening | None:
    if not line.settled or (line.failed_reason is None and line.shown is None):
        return None
    ids = {name: artifact_id or (line.shown.id if line.shown else "")}
    if line.failed_reason is not None:
        return Happening(event=f"{name}.failed", code="failed", sub_code=line.failed_reason, at_ms=line.at_ms, **ids)
    return Happening(event=f"{name}.done", code="done", sub_code="", at_ms=line.at_ms, **ids)


def _look_again(
    bot: Bot, record: BotRecord, facts: Facts, deadline: Deadline, now_ms: int, *, is_final: bool
) -> int | None:
    if facts.end is None:
        is_waiting = bot.status in UNADMITTED
        return max(now_ms, bot.join_at_ms) + LOOK_JOINING_MS if is_waiting else now_ms + LOOK_IN_CALL_MS
    if deadline.passed:
        return _look_late(record, facts, now_ms)
    if is_final and facts.finished:
        return None
    soonest_ms, latest_ms = LOOK_ENDED_MS
    wait_ms = min(max((now_ms - facts.end.at_ms) // 8, soonest_ms), latest_ms)
    return min(now_ms + wait_ms, deadline.at_ms)


def _look_late(record: BotRecord, facts: Facts, now_ms: int) -> int | None:
    """All is decided: only what is late may still come, to be shown."""
    made: list[Artifact | None] = [record.transcript]
    for recording in facts.recordings:
        made += [recording.media, recording.transcript]
    is_late = any(artifact is not None and artifact.state == "processing" for artifact in made)
    is_hopeful = facts.end is not None and now_ms < facts.end.at_ms + LATE_FOR_MS
    return now_ms + LOOK_LATE_MS if is_late and is_hopeful else None
