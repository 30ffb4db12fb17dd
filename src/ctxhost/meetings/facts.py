"""A provider's record of a bot, read once into what is asked of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ctxhost.meetings.provider import BotRecord, End, Phase, RecordingFact, Step


@dataclass(frozen=True, slots=True)
class Facts:
    """What a record says, in order of time."""

    steps: Sequence[Step]
    admitted_ms: int | None
    end: Step | None
    """How it left the call, or that it will never be in it."""
    finished: bool
    """The provider will do nothing more."""
    recordings: Sequence[RecordingFact]

    @property
    def in_call_s(self) -> int:
        """Whole seconds between admission and end; 0 unless both are known."""
        if self.admitted_ms is None or self.end is None:
            return 0
        return whole_seconds(self.end.at_ms - self.admitted_ms)

    @property
    def is_fatal(self) -> bool:
        """Whether the end is one that users see as `fatal`."""
        end = self.end.end if self.end else None
        return end not in ((End.LEFT,) if self.admitted_ms is None else (End.OVER, End.ALONE, End.LEFT))

    @property
    def was_alone(self) -> bool:
        """Whether it left because nobody else came."""
        return self.end is not None and self.end.end is End.ALONE


def read_facts(record: BotRecord) -> Facts:
    """Sort a record's steps and recordings, and find what matters in them."""
    order = list(Phase)
    steps = sorted(record.steps, key=lambda step: (step.at_ms, order.index(step.phase)))
    admitted = [step.at_ms for step in steps if step.phase in (Phase.IN_CALL, Phase.RECORDING)]
    ends = [step for step in steps if step.phase is Phase.ENDED]
    return Facts(
        steps=steps,
        admitted_ms=admitted[0] if admitted else None,
        end=ends[0] if ends else None,
        finished=any(step.phase is Phase.DONE for step in steps),
        recordings=sorted(record.recordings, key=lambda recording: (recording.started_ms, recording.id)),
    )


def whole_seconds(ms: int) -> int:
    """Rounded up; 0 for a negative span."""
    return -(-max(ms, 0) // 1_000)
