"""What is true of any record, and of two records of the same bot, one read after the other. Pure."""

import re
from collections.abc import Sequence
from itertools import pairwise

from ctxhost.meetings.provider import Artifact, End, Phase, RecordingFact, Step
from ctxhost.testing.provider_suite.trial import Reading, demand

SLACK_MS = 60_000
"""How far a provider's clock may be from ours."""
_REASON = re.compile(r"[A-Za-z0-9_.:-]{0,200}")
_STATES = ("processing", "done", "failed")
_IN_MS = "times are milliseconds since 1970 UTC, taken from the provider's own history."
_CALL = (Phase.JOINING, Phase.WAITING_ROOM, Phase.IN_CALL, Phase.RECORDING)


def check_history(readings: Sequence[Reading], *, since_ms: int) -> None:
    """Each record by itself, and that none takes back what an earlier one said."""
    for reading in readings:
        check_steps(reading, since_ms=since_ms)
        check_artifacts(reading, since_ms=since_ms)
    for before, after in pairwise(readings):
        _check_growth(before, after)


def check_steps(reading: Reading, *, since_ms: int) -> None:
    """One history: sane times, one end, DONE last."""
    steps = reading.record.steps
    for step in steps:
        _check_step(step, since_ms=since_ms, now_ms=reading.at_ms)
    for phase in (Phase.ENDED, Phase.DONE):
        demand(
            sum(step.phase is phase for step in steps) <= 1,
            f"the history has {phase.name} more than once: {_shown(steps)}",
            mend=f"a life has one {phase.name}; when the provider tells of it twice, keep the first.",
        )
    ended = _at(steps, Phase.ENDED)
    if ended is not None:
        late = [step for step in steps if step.phase in _CALL and step.at_ms > ended]
        demand(
            not late,
            f"after ENDED the bot is in the call again: {_shown(steps)}",
            mend="give ENDED the time at which the bot has left for good.",
        )
    done = _at(steps, Phase.DONE)
    if done is not None:
        demand(
            ended is not None and done >= max(step.at_ms for step in steps),
            f"DONE is not what comes last, after ENDED: {_shown(steps)}",
            mend="DONE says that the provider has finished everything; it follows ENDED, also where nothing worked.",
        )


def check_artifacts(reading: Reading, *, since_ms: int) -> None:
    """Times of recordings, states and URLs of artifacts."""
    record = reading.record
    ids = [recording.id for recording in record.recordings]
    demand(len(set(ids)) == len(ids), f"two recordings have one id: {ids}", mend="give each its own.")
    for recording in record.recordings:
        _check_recording(recording, since_ms=since_ms, now_ms=reading.at_ms)
    found = reading.artifacts
    for artifact in found:
        _check_artifact(artifact, since_ms=since_ms, now_ms=reading.at_ms)
    if any(artifact.url for artifact in found):
        demand(
            isinstance(record.urls_expire_ms, int) and record.urls_expire_ms > reading.at_ms,
            f"there are URLs, but `urls_expire_ms` is {record.urls_expire_ms} at {reading.at_ms}",
            mend="say when the first of the URLs stops working, in ms; the host asks for new ones then.",
        )
    demand(
        type(record.cost_seconds) is int and 0 <= record.cost_seconds <= (reading.at_ms - since_ms + SLACK_MS) // 1_000,
        f"`cost_seconds` is {record.cost_seconds!r}, {(reading.at_ms - since_ms) // 1_000} s after the bot was made",
        mend="whole seconds that the provider bills so far, an int: not milliseconds, not minutes.",
    )


def end_of(reading: Reading) -> Step:
    """How it ended. Raises `BrokenPromise` while it has not."""
    found = [step for step in reading.record.steps if step.phase is Phase.ENDED]
    demand(found, f"there is no ENDED: {_shown(reading.record.steps)}", mend="every life has an end; report it.")
    return found[0]


def was_admitted(reading: Reading) -> bool:
    return reading.has(Phase.IN_CALL) or reading.has(Phase.RECORDING)


def _check_step(step: Step, *, since_ms: int, now_ms: int) -> None:
    demand(
        isinstance(step, Step) and isinstance(step.phase, Phase),
        f"a step of the history is {step!r}",
        mend="make steps of `ctxhost.meetings.provider.Step` and `Phase`.",
    )
    _check_time(step.at_ms, f"the step {step.phase.name}", since_ms=since_ms, now_ms=now_ms)
    demand(
        isinstance(step.end, End) if step.phase is Phase.ENDED else step.end is None,
        f"the step {step.phase.name} has end={step.end!r}",
        mend="`end` is set on ENDED, and on nothing else.",
    )
    demand(
        isinstance(step.reason, str) and _REASON.fullmatch(step.reason),
        f"the step {step.phase.name} has reason={step.reason!r:.100}",
        mend="`reason` is the provider's machine-readable code, such as `waiting_room_timeout`, or empty.",
    )
    if step.end not in (None, End.OVER, End.ALONE, End.LEFT):
        demand(step.reason, f"the end {step.end} has no reason", mend="say why: users see it as `statusReason`.")


def _check_time(at_ms: object, what: str, *, since_ms: int, now_ms: int) -> None:
    demand(type(at_ms) is int, f"{what} has the time {at_ms!r}", mend=_IN_MS)
    assert isinstance(at_ms, int)
    demand(
        since_ms - SLACK_MS <= at_ms <= now_ms + SLACK_MS,
        f"{what} is at {at_ms}, but the bot was made at {since_ms} and it is {now_ms} now",
        mend=_IN_MS,
    )


def _check_recording(recording: RecordingFact, *, since_ms: int, now_ms: int) -> None:
    what = f"recording {recording.id!r}"
    demand(recording.id, "a recording has no id", mend="give it the provider's.")
    _check_time(recording.started_ms, f"the start of {what}", since_ms=since_ms, now_ms=now_ms)
    if recording.completed_ms != 0:
        _check_time(recording.completed_ms, f"the end of {what}", since_ms=since_ms, now_ms=now_ms)
        demand(
            recording.completed_ms >= recording.started_ms,
            f"{what} ends before it starts: {recording.started_ms} to {recording.completed_ms}",
            mend="these two times are what is billed; take the provider's own.",
        )
    demand(
        recording.media.state != "done" or recording.completed_ms,
        f"{what} is done, but has no `completed_ms`",
        mend="set it as soon as the provider says when the recording ended: it is what is billed.",
    )


def _check_artifact(artifact: Artifact, *, since_ms: int, now_ms: int) -> None:
    what = f"artifact {artifact.id!r}"
    demand(artifact.state in _STATES, f"{what} is {artifact.state!r}", mend=f"a state is one of {', '.join(_STATES)}.")
    demand(
        isinstance(artifact.id, str) and (artifact.id or artifact.state == "processing"),
        f"an artifact that is {artifact.state} has the id {artifact.id!r}",
        mend="give it the provider's; '' only until the provider has begun with it.",
    )
    demand(
        bool(artifact.url) == (artifact.state == "done"),
        f"{what} is {artifact.state} and its URL is {artifact.url[:80]!r}",
        mend="an artifact has a URL exactly while it is `done`; an older one is not shown before.",
    )
    if artifact.url:
        demand(
            re.match(r"https?://[^/@\s]+/", artifact.url),
            f"{what} has the URL {artifact.url[:80]!r}",
            mend="give an absolute http(s) URL that needs no credentials.",
        )
    if artifact.state != "processing":
        _check_time(artifact.updated_ms, f"`updated_ms` of {what}", since_ms=since_ms, now_ms=now_ms)


def _check_growth(before: Reading, after: Reading) -> None:
    lost = [step for step in before.record.steps if step not in after.record.steps]
    demand(
        not lost,
        f"{_shown(lost)} was in the history, and is not any more: {_shown(after.record.steps)}",
        mend="a history only grows: report what the provider has told, with the times that it gave first.",
    )
    is_free = after.record.cost_seconds == 0 and any(step.end is End.FAILED for step in after.record.steps)
    demand(
        after.record.cost_seconds >= before.record.cost_seconds or is_free,
        f"`cost_seconds` went from {before.record.cost_seconds} to {after.record.cost_seconds}",
        mend="it is what is billed so far, and never shrinks; it may be 0 in the end for a bot that broke down.",
    )
    recordings = {recording.id: recording for recording in after.record.recordings}
    for recording in before.record.recordings:
        _check_same(recording, recordings.get(recording.id))
    states = {artifact.id: artifact.state for artifact in after.artifacts}
    for artifact in before.artifacts:
        demand(
            artifact.state == "processing" or states.get(artifact.id) == artifact.state,
            f"artifact {artifact.id!r} was {artifact.state} and is {states.get(artifact.id, 'gone')}",
            mend="`done` and `failed` are final.",
        )


def _check_same(before: RecordingFact, after: RecordingFact | None) -> None:
    demand(after is not None, f"recording {before.id!r} is gone", mend="what was recorded stays in the record.")
    assert after is not None
    demand(
        after.started_ms == before.started_ms and before.completed_ms in (0, after.completed_ms),
        f"recording {before.id!r} was {before.started_ms} to {before.completed_ms}, and is {after.started_ms} to"
        f" {after.completed_ms} now",
        mend="once known, the times of a recording do not change: they are what is billed. 0 while it runs.",
    )


def _at(steps: Sequence[Step], phase: Phase) -> int | None:
    return next((step.at_ms for step in steps if step.phase is phase), None)


def _shown(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.phase.name} at {step.at_ms}" for step in steps) or "nothing"
