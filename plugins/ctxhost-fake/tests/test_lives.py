"""Lives as pure functions: what each script comes to, and what holds for all of them at every moment."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.meetings.provider import BotRecord, End, Phase, RecordingFact
from ctxhost_fake.life import Birth, Life, elapsed_ms, plan, record, visible_ms
from ctxhost_fake.scripts import LIVES, WEBHOOKS, Cast, UnknownScript, read_cast

BORN_MS = 1_780_000_000_000
MADE = sorted(name for name, script in LIVES.items() if script.creation in ("made", "times_out"))
J, W, C, R, E, D = Phase.JOINING, Phase.WAITING_ROOM, Phase.IN_CALL, Phase.RECORDING, Phase.ENDED, Phase.DONE


def birth(script: str = "happy", **facts: Any) -> Birth:
    defaults: dict[str, Any] = {
        "id": "p-1",
        "bot": "bot-1",
        "app": "app-1",
        "attempt": 1,
        "born_ms": BORN_MS,
        "join_at_ms": None,
        "webhooks": (),
        "seed": 0,
        "speed": 1,
        "recording": "mp4",
        "transcript": True,
        "timeouts_s": {},
        "metadata": {},
    }
    return Birth(script=script, **{**defaults, **facts})


def read(life: Life, at_s: float | None = None, *, now_ms: int | None = None) -> BotRecord:
    """The record `at_s` seconds after the birth, or at the very end."""
    if now_ms is None:
        now_ms = last_ms(life) if at_s is None else BORN_MS + int(at_s * 1_000)
    return record(life, now_ms, link=lambda file: f"url:{file}", urls_expire_ms=now_ms + 1)


def last_ms(life: Life) -> int:
    planned = plan(life)
    outcomes = [outcome.offset_ms for outcome in (planned.media, planned.transcript) if outcome]
    return visible_ms(life.birth, max([planned.acts[-1].offset_ms, *outcomes]))


def end_of(seen: BotRecord) -> tuple[End | None, str]:
    ended = next(step for step in seen.steps if step.phase is E)
    return ended.end, ended.reason


@pytest.mark.parametrize(
    ("script", "phases", "end", "reason", "recorded_s", "media", "transcript"),
    [
        ("happy", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 44, "done", "done"),
        ("waiting_room_admitted", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 44, "done", "done"),
        ("never_admitted", [J, W, E, D], End.NOT_ADMITTED, "timeout_exceeded_waiting_room", None, "", ""),
        ("denied", [J, W, E, D], End.NOT_ADMITTED, "bot_kicked_from_waiting_room", None, "", ""),
        ("kicked_while_recording", [J, W, C, R, E, D], End.KICKED, "bot_kicked_from_call", 22, "done", "done"),
        ("fatal_on_join", [J, E, D], End.FAILED, "meeting_not_found", None, "", ""),
        ("transcript_failed", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 44, "done", "failed"),
        ("recording_failed", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 44, "failed", "failed"),
        ("nobody_came", [J, W, C, E, D], End.ALONE, "timeout_exceeded_noone_joined", None, "", ""),
        ("three_hours", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 10_800, "done", "done"),
        ("create_times_out", [J, W, C, R, E, D], End.OVER, "timeout_exceeded_everyone_left", 44, "done", "done"),
    ],
)
def test_each_life_ends_as_its_script_says(
    script: str,
    phases: list[Phase],
    end: End,
    reason: str,
    recorded_s: int | None,
    media: str,
    transcript: str,
) -> None:
    """Phases, end, recorded time and the fate of both artifacts are those of the script."""
    seen = read(Life(birth(script)))

    assert phases == [step.phase for step in seen.steps]
    assert (end, reason) == end_of(seen)
    if recorded_s is None:
        assert () == seen.recordings
        return
    (fact,) = seen.recordings
    assert recorded_s * 1_000 == fact.completed_ms - fact.started_ms
    assert fact.transcript is not None
    assert (media, transcript) == (fact.media.state, fact.transcript.state)


def test_every_life_that_begins_is_in_the_table_above() -> None:
    """A new script cannot be forgotten in the table."""
    marks = test_each_life_ends_as_its_script_says.pytestmark  # type: ignore[attr-defined]
    rows = next(mark for mark in marks if mark.name == "parametrize").args[1]

    assert MADE == sorted(row[0] for row in rows)


def test_a_happy_life_at_twelve_times_the_speed_is_short_and_reports_its_own_times() -> None:
    """Over in under 15 s on the clock; the call still took 44 s, and was billed from joining to done."""
    life = Life(birth(speed=12))
    seen = read(life)
    (fact,) = seen.recordings

    assert last_ms(life) - BORN_MS < 15_000
    assert 44_000 == fact.completed_ms - fact.started_ms
    assert BORN_MS + 13_000 == fact.started_ms
    assert 67 == seen.cost_seconds


def test_a_recording_grows_into_its_artifacts() -> None:
    """Running, over, media ready, transcript ready: each at its time and not before."""
    life = Life(birth())

    def facts(at_s: float) -> tuple[bool, str, str]:
        (fact,) = read(life, at_s).recordings
        assert fact.transcript is not None
        return fact.completed_ms != 0, fact.media.state, fact.transcript.state

    assert () == read(life, 12.999).recordings
    assert (False, "processing", "processing") == facts(13)
    assert (True, "processing", "processing") == facts(57)
    assert (True, "done", "processing") == facts(60)
    assert (True, "done", "done") == facts(65)


def test_links_stand_only_at_what_is_ready() -> None:
    """A URL and its date of expiry come with `done`, and with nothing else."""
    running, over = read(Life(birth()), 30), read(Life(birth()))

    assert ("", 0) == (running.recordings[0].media.url, running.urls_expire_ms)
    assert "url:recording.mp4" == over.recordings[0].media.url
    assert 0 < over.urls_expire_ms
    failed = read(Life(birth("recording_failed"))).recordings[0].media
    assert ("", "internal_error") == (failed.url, failed.reason)
    assert "url:recording.mp3" == read(Life(birth(recording="audio_only"))).recordings[0].media.url


def test_without_recording_the_transcript_stands_alone() -> None:
    """No recording session; 44 s in the call; the transcript is the bot's own."""
    seen = read(Life(birth(recording="off")))
    times = {step.phase: step.at_ms for step in seen.steps}

    assert () == seen.recordings
    assert 44_000 == times[E] - times[C]
    assert seen.transcript is not None
    assert ("done", "url:transcript.json") == (seen.transcript.state, seen.transcript.url)


@pytest.mark.parametrize("recording", ["mp4", "audio_only", "off"])
def test_a_transcript_is_made_only_when_asked_for(recording: str) -> None:
    """Not asked for: none, anywhere."""
    seen = read(Life(birth(recording=recording, transcript=False)))

    assert seen.transcript is None
    assert all(fact.transcript is None for fact in seen.recordings)


@pytest.mark.parametrize(
    ("script", "timeouts_s", "ends_s"),
    [
        pytest.param("never_admitted", {"waiting_room_timeout_s": 30}, 4 + 30, id="never-admitted"),
        pytest.param("never_admitted", {}, 4 + 120, id="never-admitted-by-default"),
        pytest.param("waiting_room_admitted", {"waiting_room_timeout_s": 29}, 4 + 29, id="too-impatient"),
        pytest.param("nobody_came", {"no_one_joined_timeout_s": 300}, 10 + 300, id="nobody-came"),
        pytest.param("nobody_came", {}, 10 + 60, id="nobody-came-by-default"),
    ],
)
def test_timeouts_are_the_requests(script: str, timeouts_s: Mapping[str, int], ends_s: int) -> None:
    """A bot leaves when the request's own patience ends."""
    seen = read(Life(birth(script, timeouts_s=timeouts_s)))

    assert [BORN_MS + ends_s * 1_000] == [step.at_ms for step in seen.steps if step.phase is E]


@pytest.mark.parametrize(
    ("at_s", "phases", "recorded_s"),
    [
        pytest.param(0, [J, E, D], None, id="joining"),
        pytest.param(5, [J, W, E, D], None, id="waiting"),
        pytest.param(11, [J, W, C, E, D], None, id="in-call"),
        pytest.param(13, [J, W, C, R, E, D], 0, id="recording-begins"),
        pytest.param(33.5, [J, W, C, R, E, D], 20.5, id="recording"),
        pytest.param(56.999, [J, W, C, R, E, D], 43.999, id="recording-ends"),
    ],
)
def test_leaving_cuts_the_life_there(at_s: float, phases: list[Phase], recorded_s: float | None) -> None:
    """The history up to then stands, the end is LEFT at that moment, what was recorded is kept and delivered."""
    life = Life(birth(), BORN_MS + int(at_s * 1_000))
    seen = read(life)

    assert phases == [step.phase for step in seen.steps]
    assert (End.LEFT, "bot_received_leave_call") == end_of(seen)
    assert [BORN_MS + int(at_s * 1_000)] == [step.at_ms for step in seen.steps if step.phase is E]
    spans = [(fact.completed_ms - fact.started_ms, fact.media.state) for fact in seen.recordings]
    assert ([] if recorded_s is None else [(int(recorded_s * 1_000), "done")]) == spans


def test_leaving_a_call_that_is_over_changes_nothing() -> None:
    """The end that came first stands."""
    life = Life(birth("kicked_while_recording"))

    assert read(life) == read(replace(life, leave_at_ms=BORN_MS + 35_000), now_ms=last_ms(life))


def test_a_wish_to_leave_counts_from_its_own_moment() -> None:
    """However coarse a slow script's time is: before the wish nothing of it can be read."""
    life = Life(birth(speed=0.01), BORN_MS + 99)

    assert [J] == [step.phase for step in read(life, now_ms=BORN_MS + 98).steps]
    assert [J, E] == [step.phase for step in read(life, now_ms=BORN_MS + 99).steps]


def test_a_fatal_bot_is_done_with_its_end() -> None:
    """Breaking down is the last thing it does: nothing more has to be waited for."""
    _, ended, done = read(Life(birth("fatal_on_join"))).steps

    assert (E, D, ended.at_ms) == (ended.phase, done.phase, done.at_ms)


def test_leaving_at_speed_counts_the_scripts_time() -> None:
    """Told to leave 2 s after the birth at speed 12: 24 s into the script, 11 s into the recording."""
    (fact,) = read(Life(birth(speed=12), BORN_MS + 2_000)).recordings

    assert 11_000 == fact.completed_ms - fact.started_ms


def test_a_scheduled_life_begins_at_its_time_and_can_be_cancelled_before() -> None:
    """Before `join_at` there is no history; told to leave then, it never joins, and costs nothing."""
    planned = birth(join_at_ms=BORN_MS + 600_000, speed=12)

    assert () == read(Life(planned), 599.999).steps
    assert [J] == [step.phase for step in read(Life(planned), 600).steps]
    cancelled = read(Life(planned, BORN_MS + 60_000))
    assert [E, D] == [step.phase for step in cancelled.steps]
    assert BORN_MS + 60_000 == cancelled.steps[0].at_ms
    assert (0, ()) == (cancelled.cost_seconds, cancelled.recordings)


births = st.builds(
    birth,
    script=st.sampled_from(MADE),
    recording=st.sampled_from(["mp4", "audio_only", "off"]),
    transcript=st.booleans(),
    speed=st.sampled_from([0.3, 1, 1.7, 12, 100]) | st.floats(0.01, 1_000),
    join_at_ms=st.none() | st.integers(BORN_MS - 1_000, BORN_MS + 60_000),
    timeouts_s=st.dictionaries(
        st.sampled_from(["waiting_room_timeout_s", "no_one_joined_timeout_s"]), st.integers(1, 600)
    ),
)


@given(born=births, leave=st.none() | st.floats(0, 1.2), moments=st.lists(st.floats(0, 1.1), min_size=2, max_size=12))
def test_facts_only_move_forward(born: Birth, leave: float | None, moments: list[float]) -> None:
    """At later moments a history only gets longer, in order, and no fact about a recording is taken back."""
    span_ms = last_ms(Life(born)) - BORN_MS
    life = Life(born, None if leave is None else BORN_MS + int(leave * span_ms))
    readings = [read(life, now_ms=BORN_MS + int(moment * span_ms)) for moment in sorted(moments)]
    readings.append(read(life))

    for seen in readings:
        times = [step.at_ms for step in seen.steps]
        assert sorted(times) == times
        assert all((step.end is not None) == (step.phase is E) for step in seen.steps)
    for before, after in pairwise(readings):
        assert after.steps[: len(before.steps)] == before.steps
        assert before.cost_seconds <= after.cost_seconds
        check_forward(before.recordings, after.recordings)
    assert D is readings[-1].steps[-1].phase


def check_forward(before: Any, after: Any) -> None:
    """The later facts keep what the earlier ones said."""
    fates = {"processing": ("processing", "done", "failed"), "done": ("done",), "failed": ("failed",)}
    earlier: RecordingFact
    for earlier, later in zip(before, after, strict=False):
        assert (earlier.id, earlier.started_ms) == (later.id, later.started_ms)
        assert earlier.completed_ms in (0, later.completed_ms)
        assert later.completed_ms == 0 or later.completed_ms >= later.started_ms
        assert later.media.state in fates[earlier.media.state]
        if earlier.transcript is not None:
            assert later.transcript.state in fates[earlier.transcript.state]
    assert len(before) <= len(after)


@given(born=births, now=st.integers(0, 200_000), offset=st.integers(0, 200_000))
def test_both_directions_of_time_agree(born: Birth, now: int, offset: int) -> None:
    """An offset is visible at a moment exactly when it is not beyond what has elapsed then."""
    now_ms = born.start_ms + now

    assert (offset <= elapsed_ms(born, now_ms)) == (visible_ms(born, offset) <= now_ms)


@given(born=births, leave=st.floats(0, 1))
def test_a_later_wish_to_leave_unsays_nothing(born: Birth, leave: float) -> None:
    """What could be read at the moment of leaving is still there afterwards."""
    at_ms = BORN_MS + int(leave * (last_ms(Life(born)) - BORN_MS))
    before = read(Life(born), now_ms=at_ms)
    after = read(Life(born, at_ms), now_ms=at_ms)

    assert after.steps[: len(before.steps)] == before.steps
    check_forward(before.recordings, after.recordings)


@pytest.mark.parametrize(
    ("name", "webhooks", "default", "expected"),
    [
        pytest.param("denied", None, "happy", Cast("denied"), id="a-life"),
        pytest.param("happy+late+duplicated", None, "denied", Cast("happy", ("duplicated", "late")), id="combined"),
        pytest.param("lost", None, "denied", Cast("denied", ("lost",)), id="accident-of-the-default-life"),
        pytest.param("denied", None, "happy+lost", Cast("denied", ("lost",)), id="default-accidents"),
        pytest.param("happy+lost", "late", "happy", Cast("happy", ("late",)), id="the-second-key-wins"),
        pytest.param("happy+lost", "ok", "happy", Cast("happy"), id="ok-is-none"),
        pytest.param("happy", "lost+reordered", "happy", Cast("happy", ("lost", "reordered")), id="two-by-key"),
    ],
)
def test_a_part_is_read_from_its_names(name: str, webhooks: str | None, default: str, expected: Cast) -> None:
    """Lives and accidents combine with `+`; what is left open comes from the default."""
    assert expected == read_cast(name, webhooks=webhooks, default=default)


@pytest.mark.parametrize(
    ("name", "webhooks"),
    [("", None), ("hapy", None), ("happy+", None), ("happy+denied", None), ("happy", "denied"), ("happy", "")],
)
def test_an_unknown_part_is_refused(name: str, webhooks: str | None) -> None:
    """No name is guessed at."""
    with pytest.raises(UnknownScript):
        read_cast(name, webhooks=webhooks)


def test_no_name_is_both_a_life_and_an_accident() -> None:
    """So that a combination reads one way only."""
    assert set() == set(LIVES) & set(WEBHOOKS)
