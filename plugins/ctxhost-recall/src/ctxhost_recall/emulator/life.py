"""The life of an emulated bot, pure: its story, its birth and when it was told to leave give all that happens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID, uuid5

JOINING_S = 20
"""From taking up the job to standing at the meeting's door."""
SETUP_S = 6
"""From being let in to recording."""
MEDIA_AFTER_S = 3
DONE_AFTER_S = 5

_IDS = UUID("6f0c8f0a-3e0b-4f0f-9a43-0d3b8f2f6b7e")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a bot meets. Seconds are the clock's."""

    about: str = ""
    fatal_on_join: str = ""
    """The sub_code of a bot that cannot join."""
    waits_s: int = 10
    """In the waiting room until it is let in, if it is."""
    admitted: bool = True
    turned_away: bool = False
    permission_denied: str = ""
    """The sub_code of a host that does not allow recording."""
    recordings_s: Sequence[int] = (44,)
    """The recordings, one after the other; none: nobody comes."""
    pause_s: int = 20
    """Between two recordings."""
    end: str = "timeout_exceeded_everyone_left"
    fatal_in_call: str = ""
    recording_fails: bool = False
    transcript_fails: bool = False
    transcript_after_s: int = 60


STORIES: Mapping[str, Story] = MappingProxyType(
    {
        "happy": Story(about="Is let in after 10 s, records 44 s until everyone has left."),
        "never_admitted": Story(about="Nobody lets it in; it leaves at its waiting-room timeout.", admitted=False),
        "denied": Story(about="Is turned away from the waiting room.", admitted=False, turned_away=True),
        "kicked": Story(about="Is removed from the call after 22 s.", recordings_s=(22,), end="bot_kicked_from_call"),
        "fatal": Story(about="Cannot join.", fatal_on_join="google_meet_knocking_disabled"),
        "broken": Story(about="Breaks down after 22 s of recording.", recordings_s=(22,), fatal_in_call="bot_errored"),
        "nobody_came": Story(about="Is let in, and leaves at its no-one-joined timeout.", recordings_s=()),
        "not_permitted": Story(
            about="Is let in, but may not record.", permission_denied="zoom_local_recording_request_denied_by_host"
        ),
        "two_recordings": Story(about="Records 44 s, and 30 s after a pause.", recordings_s=(44, 30)),
        "recording_failed": Story(about="As happy, but the recording fails.", recording_fails=True),
        "transcript_failed": Story(about="As happy, but the transcript fails.", transcript_fails=True),
        "three_hours": Story(about="As happy, with 10,800 s of recording.", recordings_s=(10_800,)),
        "host_ended": Story(about="As happy, but the host ends the call.", end="call_ended_by_host"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a bot was made with; it never changes."""

    id: str
    created_ms: int
    join_at_ms: int | None
    story: Story
    timeouts_s: Mapping[str, int]
    """waiting_room, noone_joined, in_call_not_recording, recording_permission_denied."""
    records: bool
    """Whether anything at all is captured."""

    @property
    def start_ms(self) -> int:
        return max(self.created_ms, self.join_at_ms or 0)


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the history."""

    at_ms: int
    code: str
    sub_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One recording."""

    id: str
    started_ms: int
    completed_ms: int
    ready_ms: int
    fails: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will happen if nobody interferes (any more)."""

    changes: Sequence[Change]
    captures: Sequence[Capture]


def id_of(*parts: object) -> str:
    """The one id that belongs to these parts, in the form of a UUID."""
    return str(uuid5(_IDS, "/".join(map(str, parts))))


def plan(birth: Birth, *, leave_ms: int | None = None) -> Plan:
    """Everything that has happened and will happen to a bot that was told to leave at `leave_ms`, if it was."""
    told = _Teller(birth)
    told.live()
    return told.cut(leave_ms) if leave_ms is not None else told.plan()


@dataclass(slots=True)
class _Teller:
    birth: Birth
    changes: list[Change] = field(default_factory=list)
    sessions: list[tuple[int, int]] = field(default_factory=list)
    at_ms: int = 0

    def live(self) -> None:
        """From the first entry of the history to the last one in the call."""
        birth, story = self.birth, self.birth.story
        self.at_ms = birth.created_ms
        self._note("ready")
        self.at_ms = birth.start_ms
        self._note("joining_call")
        self.at_ms += JOINING_S * 1_000
        if story.fatal_on_join:
            self._note("fatal", story.fatal_on_join)
            return
        self._note("in_waiting_room")
        patience_s = birth.timeouts_s["waiting_room"]
        if story.turned_away:
            self._end("bot_kicked_from_waiting_room", after_s=story.waits_s)
        elif not story.admitted or story.waits_s > patience_s:
            self._end("timeout_exceeded_waiting_room", after_s=patience_s)
        else:
            self.at_ms += story.waits_s * 1_000
            self._note("in_call_not_recording")
            self._in_call()

    def _in_call(self) -> None:
        story, timeouts_s = self.birth.story, self.birth.timeouts_s
        if not story.recordings_s:
            self._end("timeout_exceeded_noone_joined", after_s=timeouts_s["noone_joined"])
        elif not self.birth.records:
            self._sit_out()
        elif story.permission_denied:
            self._note("recording_permission_denied", story.permission_denied)
            after_s = timeouts_s["recording_permission_denied"]
            self._end("timeout_exceeded_recording_permission_denied", after_s=after_s)
        else:
            self._record()

    def _sit_out(self) -> None:
        """In the call for as long as it would have recorded, unless that is too long for a bot that does not."""
        story = self.birth.story
        stays_s = SETUP_S + sum(story.recordings_s) + story.pause_s * (len(story.recordings_s) - 1)
        patience_s = self.birth.timeouts_s["in_call_not_recording"]
        if stays_s > patience_s:
            self._end("timeout_exceeded_in_call_not_recording", after_s=patience_s)
        else:
            self.at_ms += stays_s * 1_000
            self._leave_call()

    def _record(self) -> None:
        story = self.birth.story
        self.at_ms += SETUP_S * 1_000
        for n, seconds in enumerate(story.recordings_s):
            if n:
                self._note("in_call_not_recording")
                self.at_ms += story.pause_s * 1_000
            self._note("in_call_recording")
            started_ms = self.at_ms
            self.at_ms += seconds * 1_000
            self.sessions.append((started_ms, self.at_ms))
        self._leave_call()

    def _leave_call(self) -> None:
        story = self.birth.story
        if story.fatal_in_call:
            self._note("fatal", story.fatal_in_call)
        else:
            self._end(story.end)

    def _note(self, code: str, sub_code: str | None = None) -> None:
        self.changes.append(Change(self.at_ms, code, sub_code))

    def _end(self, sub_code: str, *, after_s: int = 0) -> None:
        self.at_ms += after_s * 1_000
        self._note("call_ended", sub_code)

    def cut(self, leave_ms: int) -> Plan:
        """The same life, up to the moment at which it was told to leave."""
        if leave_ms < self.changes[-1].at_ms:
            self.changes = [change for change in self.changes if change.at_ms <= leave_ms]
            self.sessions = [(start, min(stop, leave_ms)) for start, stop in self.sessions if start <= leave_ms]
            self.at_ms = leave_ms
            self._end("bot_received_leave_call")
        return self.plan()

    def plan(self) -> Plan:
        """With what the call leaves behind."""
        last = self.changes[-1]
        captures = [
            Capture(
                id=id_of(self.birth.id, "recording", n),
                started_ms=start,
                completed_ms=stop,
                ready_ms=max(stop, last.at_ms) + MEDIA_AFTER_S * 1_000,
                fails=self.birth.story.recording_fails,
            )
            for n, (start, stop) in enumerate(self.sessions)
        ]
        if last.code == "call_ended":
            if captures:
                self.changes.append(Change(last.at_ms + MEDIA_AFTER_S * 1_000, "recording_done"))
            self.changes.append(Change(last.at_ms + DONE_AFTER_S * 1_000, "done"))
        return Plan(tuple(self.changes), tuple(captures))
