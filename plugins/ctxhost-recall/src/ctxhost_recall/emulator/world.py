"""What the emulated Recall knows: bots, their recordings, transcripts that were asked for. Facts follow the plans."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ctxhost.clock import Clock
from ctxhost_recall.emulator.checks import AutomaticLeave, BotIn, RecordingConfig, TranscriptIn
from ctxhost_recall.emulator.life import STORIES, Birth, Capture, Change, Plan, Story, id_of, plan

STORY_KEY = "emulator_story"
"""In a bot's metadata: which of `STORIES` it lives."""
SCHEDULED_S = 600
"""A bot that is due later than this has a machine of its own, and can still be deleted."""
STREAMED_AFTER_MS = 1_500
MAX_TRANSCRIPTS = 10

ArtifactKind = Literal["video_mixed", "audio_mixed", "participant_events", "meeting_metadata", "transcript"]


class Refused(Exception):
    """A 400 with a slug, or another status."""

    def __init__(self, code: str, *, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


class Unknown(Exception):
    """There is no such thing: a 404."""


@dataclass(slots=True)
class Bot:
    """A bot, and what was done to it."""

    birth: Birth
    wish: BotIn
    leave_ms: int | None = None
    media_deleted_ms: int | None = None

    @property
    def id(self) -> str:
        return self.birth.id

    @property
    def config(self) -> RecordingConfig:
        return self.wish.recording_config or RecordingConfig()

    @property
    def plan(self) -> Plan:
        return plan(self.birth, leave_ms=self.leave_ms)

    def history(self, now_ms: int) -> list[Change]:
        return [change for change in self.plan.changes if change.at_ms <= now_ms]

    def captures(self, now_ms: int) -> list[Capture]:
        return [capture for capture in self.plan.captures if capture.started_ms <= now_ms]

    def deleted_ms(self, capture: Capture) -> int | None:
        """When its media go: by retention, or by a call."""
        retention = self.config.retention
        hours = retention.hours if retention is not None and retention.type == "timed" else None
        ends = [self.media_deleted_ms, None if hours is None else capture.ready_ms + hours * 3_600_000]
        return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One thing that a recording leaves."""

    id: str
    kind: ArtifactKind
    bot: Bot
    capture: Capture
    created_ms: int
    ready_ms: int
    fails: bool
    wish: Any = None
    """A transcript's own configuration."""

    def state(self, now_ms: int) -> tuple[str, str | None, int]:
        """Code, sub_code and when that became so."""
        deleted_ms = self.bot.deleted_ms(self.capture)
        if deleted_ms is not None and deleted_ms <= now_ms:
            return "deleted", None, deleted_ms
        if now_ms < self.ready_ms:
            return "processing", None, self.created_ms
        return ("failed", "internal_error", self.ready_ms) if self.fails else ("done", None, self.ready_ms)


@dataclass(slots=True)
class World:
    """All of it. The knobs say what Recall leaves open."""

    clock: Clock
    story: Story = STORIES["happy"]
    """The life of a bot that nothing else is said about."""
    next_stories: deque[Story] = field(default_factory=deque)
    """The lives of the next bots, before `story`."""
    bots: dict[str, Bot] = field(default_factory=dict)
    ordered: list[Artifact] = field(default_factory=list)
    """Transcripts that were asked for."""

    def create(self, wish: BotIn) -> Bot:
        now_ms = self.clock.now_ms()
        config = wish.recording_config or RecordingConfig()
        birth = Birth(
            id=id_of("bot", len(self.bots), now_ms),
            created_ms=now_ms,
            join_at_ms=None if wish.join_at is None else int(wish.join_at.timestamp() * 1_000),
            story=self._story(wish),
            timeouts_s=_timeouts(wish.automatic_leave or AutomaticLeave()),
            records=_captures_anything(config),
        )
        bot = self.bots[birth.id] = Bot(birth, wish)
        return bot

    def _story(self, wish: BotIn) -> Story:
        named = STORIES.get(wish.metadata.get(STORY_KEY) or "")
        if named is not None:
            return named
        return self.next_stories.popleft() if self.next_stories else self.story

    def bot(self, bot_id: str) -> Bot:
        """Raises `Unknown`."""
        if bot_id not in self.bots:
            raise Unknown(bot_id)
        return self.bots[bot_id]

    def delete(self, bot: Bot) -> None:
        """Only what is scheduled can be deleted. Raises `Refused`."""
        if self._code(bot) != "ready" or bot.birth.start_ms - bot.birth.created_ms <= SCHEDULED_S * 1_000:
            raise Refused("cannot_delete_bot", status=405)
        del self.bots[bot.id]

    def leave(self, bot: Bot) -> None:
        """Raises `Refused` before it has started and after it has gone."""
        code = self._code(bot)
        if code == "ready":
            raise Refused("cannot_command_unstarted_bot")
        if code in ("call_ended", "recording_done", "done", "fatal"):
            raise Refused("cannot_command_completed_bot")
        bot.leave_ms = self.clock.now_ms()

    def delete_media(self, bot: Bot) -> None:
        """Whatever there is by now goes."""
        bot.media_deleted_ms = self.clock.now_ms()

    def order(self, recording: str, wish: TranscriptIn) -> Artifact:
        """A transcript of a finished recording. Raises `Unknown`, `Refused`."""
        bot, capture = self.capture(recording)
        now_ms = self.clock.now_ms()
        if now_ms < capture.ready_ms or capture.fails or (bot.deleted_ms(capture) or now_ms + 1) <= now_ms:
            raise Refused("recording_not_ready")
        earlier = [artifact for artifact in self.ordered if artifact.capture.id == recording]
        if len(earlier) >= MAX_TRANSCRIPTS:
            raise Refused("too_many_transcripts")
        artifact = Artifact(
            id=id_of(recording, "ordered", len(earlier)),
            kind="transcript",
            bot=bot,
            capture=capture,
            created_ms=now_ms,
            ready_ms=now_ms + bot.birth.story.transcript_after_s * 1_000,
            fails=bot.birth.story.transcript_fails,
            wish=wish,
        )
        self.ordered.append(artifact)
        return artifact

    def capture(self, recording: str) -> tuple[Bot, Capture]:
        """Raises `Unknown`."""
        for bot in self.bots.values():
            for capture in bot.captures(self.clock.now_ms()):
                if capture.id == recording:
                    return bot, capture
        raise Unknown(recording)

    def artifacts(self, bot: Bot, capture: Capture) -> Iterator[Artifact]:
        """Everything that a recording leaves: what was configured, then the transcripts that were asked for."""
        config = bot.config
        wanted: Sequence[tuple[ArtifactKind, Any]] = (
            ("video_mixed", config.video_mixed_mp4),
            ("audio_mixed", config.audio_mixed_mp3),
            ("participant_events", config.participant_events),
            ("meeting_metadata", config.meeting_metadata),
            ("transcript", config.transcript),
        )
        for kind, wish in wanted:
            if wish is not None:
                is_transcript = kind == "transcript"
                yield Artifact(
                    id=id_of(capture.id, kind),
                    kind=kind,
                    bot=bot,
                    capture=capture,
                    created_ms=capture.started_ms,
                    ready_ms=capture.ready_ms + (STREAMED_AFTER_MS if is_transcript else 0),
                    fails=capture.fails or (is_transcript and bot.birth.story.transcript_fails),
                    wish=wish,
                )
        yield from (artifact for artifact in self.ordered if artifact.capture.id == capture.id)

    def artifact(self, artifact_id: str) -> Artifact:
        """Raises `Unknown`."""
        for bot in self.bots.values():
            for capture in bot.captures(self.clock.now_ms()):
                for artifact in self.artifacts(bot, capture):
                    if artifact.id == artifact_id:
                        return artifact
        raise Unknown(artifact_id)

    def _code(self, bot: Bot) -> str:
        return bot.history(self.clock.now_ms())[-1].code


def _captures_anything(config: RecordingConfig) -> bool:
    names = RecordingConfig.model_fields
    artifacts = [name for name in names if name.startswith(("video_mixed_m", "video_mixed_f", "video_s", "audio_"))]
    return any(getattr(config, name) is not None for name in [*artifacts, "participant_events", "transcript"])


def _timeouts(leave: AutomaticLeave) -> dict[str, int]:
    return {
        "waiting_room": leave.waiting_room_timeout,
        "noone_joined": leave.noone_joined_timeout,
        "in_call_not_recording": leave.in_call_not_recording_timeout,
        "recording_permission_denied": leave.recording_permission_denied_timeout,
    }
