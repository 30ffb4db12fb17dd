"""The life of a bot, pure: what it was made with, when it was told to leave and what time it is give its whole record.

Facts carry the times of the script: the moment the life begins plus the script's own seconds. They become visible that
many seconds divided by the speed after it begins. So a quick life still reports the durations of its script.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID, uuid5

from ctxhost.meetings.provider import (
    Artifact,
    BotRecord,
    End,
    Phase,
    RecordingFact,
    RecordingKind,
    Step,
)
from ctxhost_fake.scripts import JOINING_S, LIVES, SETUP_S, Script

Link = Callable[[str], str]
"""From the name of an artifact's file to a URL that downloads it."""

WAITING_ROOM_TIMEOUT_S = 120
NO_ONE_JOINED_TIMEOUT_S = 60
"""What a bot does that was not told its timeouts."""
LEAVING_S = 1
"""From the end of a call that leaves nothing behind until all is done."""
TRANSCRIPT_FILE = "transcript.json"
MEDIA_FILES: Mapping[RecordingKind, str] = {"mp4": "recording.mp4", "audio_only": "recording.mp3"}

_IDS = UUID("0d4a1c52-6b35-4b0e-8f8e-9b1d6f6d2c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a bot was made with; it never changes."""

    id: str
    bot: str
    app: str
    attempt: int
    born_ms: int
    join_at_ms: int | None
    script: str
    webhooks: tuple[str, ...]
    seed: int
    speed: float
    recording: RecordingKind
    transcript: bool
    timeouts_s: Mapping[str, int]
    metadata: Mapping[str, str]

    @property
    def start_ms(self) -> int:
        return max(self.born_ms, self.join_at_ms or 0)


@dataclass(frozen=True, slots=True)
class Life:
    """A birth and, once it was told to leave or its media were deleted, when that was."""

    birth: Birth
    leave_at_ms: int | None = None
    erased_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A step of the history, at milliseconds of the script since the life began."""

    offset_ms: int
    phase: Phase
    end: End | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of an artifact, and when. It covers the script's time from `start_ms` to `stop_ms`."""

    id: str
    start_ms: int
    stop_ms: int
    offset_ms: int
    state: Literal["done", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that will happen, in order. Offsets are milliseconds of the script."""

    acts: Sequence[Act]
    recording: str = ""
    """The id of the recording session, or empty."""
    media: Outcome | None = None
    transcript: Outcome | None = None


def id_of(*parts: object) -> str:
    """The one id that belongs to these parts, in the form of a UUID."""
    return str(uuid5(_IDS, "/".join(map(str, parts))))


def visible_ms(birth: Birth, offset_ms: int) -> int:
    """When an offset is reached; before the life begins, the script's time is the clock's."""
    over, under = birth.speed.as_integer_ratio()
    return birth.start_ms + (offset_ms if offset_ms < 0 else -(-offset_ms * under // over))


def elapsed_ms(birth: Birth, at_ms: int) -> int:
    """The offset that has been reached at a time: exactly those up to it are visible then."""
    over, under = birth.speed.as_integer_ratio()
    waited_ms = at_ms - birth.start_ms
    return waited_ms if waited_ms < 0 else waited_ms * over // under


def plan(life: Life) -> Plan:
    """Everything that has happened and will happen if nobody interferes (any more)."""
    birth = life.birth
    script = LIVES[birth.script]
    acts = _call(script, birth)
    if life.leave_at_ms is not None:
        cut_ms = elapsed_ms(birth, max(life.leave_at_ms, birth.born_ms))
        if cut_ms < acts[-1].offset_ms:
            left = Act(offset_ms=cut_ms, phase=Phase.ENDED, end=End.LEFT, reason="bot_received_leave_call")
            acts = [*(act for act in acts if act.offset_ms <= cut_ms), left]
    return _aftermath(script, birth, acts)


def record(life: Life, now_ms: int, *, link: Link, urls_expire_ms: int) -> BotRecord:
    """What can be read of it at a time. `urls_expire_ms` is when the links expire that `link` makes."""
    if life.leave_at_ms is not None and life.leave_at_ms > now_ms:
        life = replace(life, leave_at_ms=None)
    return _Reading(life.birth, life.erased_ms, plan(life), now_ms, link, urls_expire_ms).record()


def _call(script: Script, birth: Birth) -> list[Act]:
    """From joining to the end of the call."""
    acts = [Act(offset_ms=0, phase=Phase.JOINING)]
    at_s = JOINING_S

    def ends(end: End, reason: str) -> list[Act]:
        return [*acts, Act(offset_ms=at_s * 1_000, phase=Phase.ENDED, end=end, reason=reason)]

    if script.welcome == "no_meeting":
        return ends(End.FAILED, "meeting_not_found")
    acts.append(Act(offset_ms=at_s * 1_000, phase=Phase.WAITING_ROOM))
    patience_s = birth.timeouts_s.get("waiting_room_timeout_s", WAITING_ROOM_TIMEOUT_S)
    if script.welcome == "ignored" or script.waits_s > patience_s:
        at_s += patience_s
        return ends(End.NOT_ADMITTED, "timeout_exceeded_waiting_room")
    at_s += script.waits_s
    if script.welcome == "denied":
        return ends(End.NOT_ADMITTED, "bot_kicked_from_waiting_room")
    acts.append(Act(offset_ms=at_s * 1_000, phase=Phase.IN_CALL))
    if script.records_s is None:
        at_s += birth.timeouts_s.get("no_one_joined_timeout_s", NO_ONE_JOINED_TIMEOUT_S)
        return ends(End.ALONE, "timeout_exceeded_noone_joined")
    if birth.recording != "off":
        at_s += SETUP_S
        acts.append(Act(offset_ms=at_s * 1_000, phase=Phase.RECORDING))
    at_s += script.records_s
    return ends(script.end, script.reason)


def _aftermath(script: Script, birth: Birth, acts: list[Act]) -> Plan:
    """What the call leaves behind, and when the provider has finished."""
    ended = acts[-1]
    source = Phase.IN_CALL if birth.recording == "off" and script.records_s is not None else Phase.RECORDING
    started = next((act for act in acts if act.phase is source), None)

    def outcome(name: str, after_s: int, *, fails: bool) -> Outcome | None:
        if started is None:
            return None
        return Outcome(
            id=id_of(birth.id, name),
            start_ms=started.offset_ms,
            stop_ms=ended.offset_ms,
            offset_ms=ended.offset_ms + after_s * 1_000,
            state="failed" if fails else "done",
            reason="internal_error" if fails else "",
        )

    records = birth.recording != "off" and started is not None
    media = outcome("media", script.media_after_s, fails=script.media_fails) if records else None
    transcript = None
    if birth.transcript:
        # Where nothing is recorded no recording can fail, and drag the transcript along.
        fails = script.transcript_fails and (records or not script.media_fails)
        transcript = outcome("transcript", script.transcript_after_s, fails=fails)
    after_s = script.done_after_s if media or transcript else LEAVING_S
    if ended.end is End.FAILED:  # breaking down is the last thing that it does
        after_s = 0
    done = Act(offset_ms=ended.offset_ms + after_s * 1_000, phase=Phase.DONE)
    recording = id_of(birth.id, "recording") if records else ""
    return Plan(acts=(*acts, done), recording=recording, media=media, transcript=transcript)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A plan, read at a time."""

    birth: Birth
    erased_ms: int | None
    plan: Plan
    now_ms: int
    link: Link
    urls_expire_ms: int

    def record(self) -> BotRecord:
        seen = [act for act in self.plan.acts if self._is_visible(act.offset_ms)]
        recordings = self._recordings()
        alone = None if self.plan.recording else self._artifact(self.plan.transcript, TRANSCRIPT_FILE)
        found = [alone, *(artifact for fact in recordings for artifact in (fact.media, fact.transcript))]
        return BotRecord(
            steps=tuple(
                Step(phase=act.phase, at_ms=self._at_ms(act.offset_ms), end=act.end, reason=act.reason) for act in seen
            ),
            recordings=recordings,
            transcript=alone,
            urls_expire_ms=self.urls_expire_ms if any(a is not None and a.url for a in found) else 0,
            cost_seconds=self._cost_s(seen),
        )

    def _recordings(self) -> tuple[RecordingFact, ...]:
        outcome = self.plan.media
        media = self._artifact(outcome, MEDIA_FILES.get(self.birth.recording, ""))
        if outcome is None or media is None:
            return ()
        fact = RecordingFact(
            id=self.plan.recording,
            started_ms=self._at_ms(outcome.start_ms),
            completed_ms=self._at_ms(outcome.stop_ms) if self._is_visible(outcome.stop_ms) else 0,
            media=media,
            transcript=self._artifact(self.plan.transcript, TRANSCRIPT_FILE),
        )
        return (fact,)

    def _artifact(self, outcome: Outcome | None, file: str) -> Artifact | None:
        if outcome is None or not self._is_visible(outcome.start_ms):
            return None
        if not self._is_visible(outcome.offset_ms):
            return Artifact(id=outcome.id, state="processing", updated_ms=self._at_ms(outcome.start_ms))
        if self.erased_ms is not None and outcome.state == "done":
            erased_ms = max(self.erased_ms, self._at_ms(outcome.offset_ms))
            return Artifact(id=outcome.id, state="failed", updated_ms=erased_ms, reason="deleted")
        return Artifact(
            id=outcome.id,
            state=outcome.state,
            url=self.link(file) if outcome.state == "done" else "",
            updated_ms=self._at_ms(outcome.offset_ms),
            reason=outcome.reason,
        )

    def _cost_s(self, seen: Sequence[Act]) -> int:
        """The seconds from joining until now, at most until it is done; a bot that never joined costs nothing."""
        if not seen or seen[0].phase is not Phase.JOINING:
            return 0
        return min(elapsed_ms(self.birth, self.now_ms), self.plan.acts[-1].offset_ms) // 1_000

    def _at_ms(self, offset_ms: int) -> int:
        return self.birth.start_ms + offset_ms

    def _is_visible(self, offset_ms: int) -> bool:
        return visible_ms(self.birth, offset_ms) <= self.now_ms
