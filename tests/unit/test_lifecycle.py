"""The state machine of a bot: what a provider's record means, line by line."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.simulation.scripted import admitted, artifact, ended, recording, step

from ctxhost.meetings.lifecycle import RANK_OF_EVENT, STATUSES, Verdict, judge
from ctxhost.meetings.provider import BotRecord, End, Phase, RecordingFact, Step
from ctxhost.store.rows import Bot

T0 = 1_780_000_000_000
S = 1_000
WAIT_MS = 1_800_000
LONG_AFTER = T0 + 10 * 3_600 * S


def bot(**facts: Any) -> Bot:
    """A bot that asked for everything and is joining."""
    empty: dict[str, Any] = {name: 0 if kind is int else "" for name, kind in Bot.__annotations__.items()}
    common = {"id": "bot", "spawn": "created", "status": "joining", "transcript": 1, "recording": "mp4"}
    return Bot(**{**empty, "metadata": "{}", "duration_s": -1, "created_ms": T0, "answered_ms": T0, **common, **facts})


def look(of: Bot, record: BotRecord, *, now_ms: int = LONG_AFTER) -> Verdict:
    return judge(of, record, now_ms=now_ms, artifact_wait_ms=WAIT_MS)


def heard(steps: Sequence[Step], *recordings: RecordingFact, **more: Any) -> BotRecord:
    return BotRecord(steps=steps, recordings=recordings, **more)


def events(verdict: Verdict) -> list[str]:
    return [happening.event for happening in verdict.happenings]


IN_CALL = admitted(T0)
DELIVERED = recording(T0, T0 + 44 * S, artifact("m"), artifact("t"))
OVER = ended(T0 + 47 * S)

WHO_PAYS = [
    pytest.param([*IN_CALL, *OVER], [DELIVERED], {}, "done", {"recording": 44, "transcription": 44}, [], id="ended"),
    pytest.param(
        [*IN_CALL, *ended(T0 + 47 * S, End.LEFT)],
        [DELIVERED],
        {"stop_reason": "stopped"},
        "done",
        {"recording": 44, "transcription": 44},
        [],
        id="stopped-by-delete",
    ),
    pytest.param(
        [*IN_CALL, *ended(T0 + 47 * S, End.LEFT)],
        [DELIVERED],
        {"stop_reason": "insufficient_credits"},
        "done",
        {"recording": 44, "transcription": 44},
        [],
        id="out-of-credits",
    ),
    pytest.param(
        [*admitted(T0, recording=False), *ended(T0 + 60 * S, reason="noone_joined")],
        [],
        {},
        "done",
        {},
        ["recording", "transcription"],
        id="nobody-came",
    ),
    pytest.param(
        [*admitted(T0, recording=False), *ended(T0 + 60 * S, reason="recording_permission_denied")],
        [],
        {},
        "done",
        {},
        ["recording", "transcription"],
        id="permission-denied",
    ),
    pytest.param(
        [step(Phase.JOINING, T0), step(Phase.WAITING_ROOM, T0), *ended(T0 + S, End.NOT_ADMITTED)],
        [],
        {},
        "fatal",
        {},
        ["recording", "transcription"],
        id="never-admitted-denied-or-removed-from-the-waiting-room",
    ),
    pytest.param(
        [step(Phase.JOINING, T0), *ended(T0 + S, End.OVER)],
        [],
        {},
        "fatal",
        {},
        ["recording", "transcription"],
        id="the-call-was-over-before-it-was-admitted",
    ),
    pytest.param(
        [step(Phase.JOINING, T0), *ended(T0 + S, End.LEFT)],
        [],
        {"stop_reason": "stopped"},
        "done",
        {},
        ["recording", "transcription"],
        id="stopped-before-admission",
    ),
    pytest.param(
        [*IN_CALL, *ended(T0 + 47 * S, End.KICKED)],
        [DELIVERED],
        {},
        "fatal",
        {"recording": 44, "transcription": 44},
        [],
        id="kicked-both-delivered",
    ),
    pytest.param(
        [*IN_CALL, *ended(T0 + 47 * S, End.KICKED)],
        [],
        {},
        "fatal",
        {},
        ["recording", "transcription"],
        id="kicked-nothing-delivered",
    ),
    pytest.param(
        [*IN_CALL, *ended(T0 + 47 * S, End.FAILED)],
        [recording(T0, T0 + 44 * S, artifact("m"), artifact("t", "failed"))],
        {},
        "fatal",
        {"recording": 44},
        ["transcription"],
        id="fatal-in-the-call-transcript-failed",
    ),
    pytest.param(
        [*IN_CALL, *OVER],
        [recording(T0, T0 + 44 * S, artifact("m"), artifact("t", "failed"))],
        {},
        "done",
        {"recording": 44},
        ["transcription"],
        id="transcript-failed",
    ),
    pytest.param(
        [*IN_CALL, *OVER],
        [recording(T0, T0 + 44 * S, artifact("m"), artifact("t", "processing"))],
        {},
        "done",
        {"recording": 44},
        ["transcription"],
        id="transcript-not-in-time",
    ),
    pytest.param(
        [*IN_CALL, *OVER],
        [recording(T0, T0 + 44 * S, artifact("m", "failed"), artifact("t", "failed"))],
        {},
        "done",
        {},
        ["recording", "transcription"],
        id="recording-failed",
    ),
    pytest.param(
        [*IN_CALL, *OVER],
        [recording(T0, T0 + 44 * S, artifact("m", "processing"))],
        {},
        "done",
        {},
        ["recording", "transcription"],
        id="recording-not-in-time",
    ),
    pytest.param(
        [*admitted(T0, recording=False), *OVER],
        [],
        {"recording": "off", "transcript": 0},
        "done",
        {"recording": 47},
        [],
        id="recording-off-is-the-time-in-the-call",
    ),
    pytest.param(
        [*admitted(T0, recording=False), *ended(T0 + 47 * S, End.KICKED)],
        [],
        {"recording": "off", "transcript": 0},
        "fatal",
        {},
        ["recording"],
        id="recording-off-and-kicked",
    ),
    pytest.param(
        [*admitted(T0, recording=False), *ended(T0 + 47 * S, End.ALONE)],
        [],
        {"recording": "off"},
        "done",
        {},
        ["recording", "transcription"],
        id="recording-off-and-nobody-came",
    ),
]


@pytest.mark.parametrize(("steps", "recordings", "facts", "status", "charges", "waived"), WHO_PAYS)
def test_who_pays(
    steps: list[Step],
    recordings: list[RecordingFact],
    facts: dict[str, Any],
    status: str,
    charges: dict[str, int],
    waived: list[str],
) -> None:
    """Each end has one status, and each line is either charged for its seconds or waived."""
    verdict = look(bot(**facts), heard(steps, *recordings))

    assert status == verdict.bot.status
    assert charges == verdict.charges
    assert waived == list(verdict.waived)
    assert verdict.bot.completed_ms == LONG_AFTER


@pytest.mark.parametrize(
    ("end", "stop_reason", "was_admitted", "reason"),
    [
        pytest.param(End.OVER, "", True, "why", id="the-provider's-word"),
        pytest.param(End.OVER, "stopped", True, "why", id="ended-before-it-was-told"),
        pytest.param(End.LEFT, "stopped", True, "stopped", id="stopped"),
        pytest.param(End.LEFT, "stopped", False, "cancelled", id="cancelled-before-admission"),
        pytest.param(End.LEFT, "insufficient_credits", True, "insufficient_credits", id="credits"),
        pytest.param(End.LEFT, "call_limit", True, "call_limit", id="call-limit"),
        pytest.param(End.KICKED, "stopped", True, "why", id="kicked-all-the-same"),
        pytest.param(End.NOT_ADMITTED, "", False, "why", id="denied"),
    ],
)
def test_why_it_ended(end: End, stop_reason: str, was_admitted: bool, reason: str) -> None:
    """The reason is the provider's, unless the bot left because it was told to: then it is why it was told."""
    steps = admitted(T0) if was_admitted else [step(Phase.JOINING, T0)]

    verdict = look(bot(stop_reason=stop_reason), heard([*steps, *ended(T0 + S, end, "why")]))

    assert reason == verdict.bot.status_reason


def test_a_status_only_moves_forward() -> None:
    """A record that was read before a newer one and comes after it takes nothing back."""
    newest = look(bot(), heard([*IN_CALL, *OVER], DELIVERED)).bot
    older = [heard([step(Phase.JOINING, T0)]), heard(IN_CALL), heard([*IN_CALL, *ended(T0 + 47 * S, finished=False)])]

    assert [newest] * 3 == [look(newest, record, now_ms=T0 + 50 * S).bot for record in older]


@pytest.mark.parametrize("phase", [Phase.JOINING, Phase.WAITING_ROOM, Phase.IN_CALL, Phase.RECORDING])
def test_each_phase_is_a_status(phase: Phase) -> None:
    """What the provider's history shows last is the status, whatever was seen of it before."""
    known = [Phase.JOINING, Phase.WAITING_ROOM, Phase.IN_CALL, Phase.RECORDING]
    steps = [step(one, T0) for one in known[: known.index(phase) + 1]]

    assert phase.value == look(bot(), heard(steps)).bot.status
    assert phase.value in STATUSES


def test_the_end_of_the_call_is_not_yet_the_end() -> None:
    """While artifacts are finalised the bot is `ended`: its reason is known, and no line is decided."""
    verdict = look(bot(), heard([*IN_CALL, *ended(T0 + 47 * S, finished=False)], DELIVERED_LATER), now_ms=T0 + 50 * S)

    assert ("ended", "everyone_left") == (verdict.bot.status, verdict.bot.status_reason)
    assert 0 == verdict.bot.completed_ms
    assert ({}, []) == (verdict.charges, list(verdict.waived))
    assert 47 == verdict.billable_s
    assert T0 + 65 * S == verdict.look_at_ms


DELIVERED_LATER = recording(T0, T0 + 44 * S, artifact("m", "processing"), artifact("t", "processing"))


def test_a_kick_is_fatal_at_once_and_its_artifacts_come_later() -> None:
    """Whoever waits for the end of a bot hears of a kick without waiting for what was recorded before it."""
    steps = [*IN_CALL, *ended(T0 + 47 * S, End.KICKED, "kicked", finished=False)]

    at_once = look(bot(), heard(steps, DELIVERED_LATER), now_ms=T0 + 48 * S)
    later = look(at_once.bot, heard(steps, DELIVERED), now_ms=T0 + 60 * S)

    assert ("fatal", 0) == (at_once.bot.status, at_once.bot.completed_ms)
    assert "bot.fatal" == events(at_once)[-1]
    assert ({"recording": 44, "transcription": 44}, "fatal") == (later.charges, later.bot.status)
    assert ["bot.fatal", "recording.done", "transcript.done"] == events(later)[-3:]


def test_a_late_artifact_is_shown_and_not_charged() -> None:
    """What was not there within the wait fills its URL when it comes, and sends nothing."""
    slow = recording(T0, T0 + 44 * S, artifact("m"), artifact("t", "processing"))
    done = look(bot(), heard([*IN_CALL, *OVER], slow))
    late = look(done.bot, heard([*IN_CALL, *OVER], DELIVERED))

    assert ("done", "failed", "") == (done.bot.status, done.bot.transcript_state, done.bot.transcript_url)
    assert ("done", "https://media.example/t", 44) == (
        late.bot.status,
        late.bot.transcript_url,
        late.bot.duration_s,
    )
    assert done.bot.completed_ms == late.bot.completed_ms


@pytest.mark.parametrize("late_by_ms", [0, 1])
def test_in_time_is_by_the_provider_s_clock(late_by_ms: int) -> None:
    """A host that was down when an artifact came decides as one that was not: by when it was ready, not when read."""
    ready_ms = T0 + 47 * S + WAIT_MS + late_by_ms
    verdict = look(
        bot(),
        heard([*IN_CALL, *OVER], recording(T0, T0 + 44 * S, artifact("m"), artifact("t", updated_ms=ready_ms))),
    )

    assert (["transcription"] if late_by_ms else []) == list(verdict.waived)
    assert ("transcript.failed" if late_by_ms else "transcript.done") in events(verdict)
    assert "https://media.example/t" == verdict.bot.transcript_url


def test_several_recordings_are_one_line() -> None:
    """Their durations are added exactly and rounded up once; the longest is the one that is shown."""
    first = recording(T0, T0 + 10_400, artifact("m1"), artifact("t1"), name="r1")
    second = recording(T0 + 20_000, T0 + 31_500, artifact("m2"), artifact("t2"), name="r2")
    broken = recording(T0 + 40_000, T0 + 90_000, artifact("m3", "failed"), name="r3")

    verdict = look(bot(), heard([*IN_CALL, *ended(T0 + 95 * S)], first, second, broken))

    assert {"recording": 22, "transcription": 22} == verdict.charges
    assert ("r2", "https://media.example/m2", "https://media.example/t2", 22) == (
        verdict.bot.recording_id,
        verdict.bot.recording_url,
        verdict.bot.transcript_url,
        verdict.bot.duration_s,
    )


def test_an_older_record_takes_nothing_back() -> None:
    """A reading that is written after a newer one leaves the recording and transcript that the newer one brought."""
    short = recording(T0, T0 + 10 * S, artifact("m1"), artifact("t1"), name="r1")
    long = recording(T0 + 10 * S, T0 + 40 * S, artifact("m2"), artifact("t2"), name="r2")
    newer = look(bot(), heard([*IN_CALL, *OVER], short, long)).bot
    older = look(newer, heard([*IN_CALL, *OVER], short)).bot

    assert ("done", "done") == (newer.recording_state, newer.transcript_state)
    assert newer == older._replace(completed_ms=newer.completed_ms)


def test_a_transcript_without_a_recording() -> None:
    """`recording: false` still transcribes: both lines are the seconds in the call."""
    record = heard([*admitted(T0, recording=False), *OVER], transcript=artifact("t"))

    verdict = look(bot(recording="off"), record)

    assert {"recording": 47, "transcription": 47} == verdict.charges
    assert ("", "https://media.example/t") == (verdict.bot.recording_url, verdict.bot.transcript_url)
    assert ["transcript.done", "bot.done"] == events(verdict)[-2:]


def test_a_transcript_that_was_never_made_is_not_waited_for() -> None:
    """When the provider says that it has finished, what is not there will not come."""
    record = heard([*admitted(T0, recording=False), *OVER])

    verdict = look(bot(recording="off"), record, now_ms=T0 + 50 * S)

    assert ("done", ["transcription"]) == (verdict.bot.status, list(verdict.waived))
    assert "transcript.failed" in events(verdict)


def test_nothing_is_asked_for_twice() -> None:
    """A bot without a transcript has no such line, and no such message."""
    verdict = look(bot(transcript=0), heard([*IN_CALL, *OVER], DELIVERED))

    assert ({"recording": 44}, []) == (verdict.charges, list(verdict.waived))
    assert "transcript.done" not in events(verdict)


def test_messages_are_told_in_the_order_in_which_they_leave() -> None:
    """The recording's start, its artifacts, and the end last."""
    told = events(look(bot(), heard([*OVER, *IN_CALL], DELIVERED)))

    assert sorted(told, key=RANK_OF_EVENT.__getitem__) == told
    assert ["bot.in_call_recording", "bot.call_ended", "recording.done", "transcript.done", "bot.done"] == told[3:]


@pytest.mark.parametrize(
    ("steps", "now_ms", "facts", "again_ms"),
    [
        pytest.param([], T0, {}, 60 * S, id="joining"),
        pytest.param([], T0, {"join_at_ms": T0 + 90 * S}, 150 * S, id="scheduled"),
        pytest.param(IN_CALL, T0, {}, 300 * S, id="in-call"),
        pytest.param([*IN_CALL, *ended(T0, finished=False)], T0 + S, {}, 16 * S, id="ended"),
        pytest.param([*IN_CALL, *ended(T0)], T0 + S, {}, None, id="done"),
        pytest.param([step(Phase.JOINING, T0), *ended(T0, finished=False)], T0, {}, 15 * S, id="cost-is-not-final"),
    ],
)
def test_when_to_look_again(steps: list[Step], now_ms: int, facts: dict[str, Any], again_ms: int | None) -> None:
    """A bot whose webhooks are all lost is looked at all the same, the sooner the more there is to come."""
    again = look(bot(**facts), heard(steps), now_ms=now_ms).look_at_ms

    assert again_ms == (None if again is None else again - T0)


def test_late_artifacts_are_looked_for_until_hope_is_gone() -> None:
    """An artifact that missed its time is looked for every hour, for a day and a half."""
    record = heard([*IN_CALL, *OVER], recording(T0, T0 + 44 * S, artifact("m"), artifact("t", "processing")))

    soon, never = look(bot(), record), look(bot(), record, now_ms=T0 + 47 * S + 36 * 3_600 * S)

    assert LONG_AFTER + 3_600 * S == soon.look_at_ms
    assert never.look_at_ms is None
