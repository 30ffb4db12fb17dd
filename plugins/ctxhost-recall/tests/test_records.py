"""From Recall's documents to the host's facts."""

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxhost.meetings import lifecycle
from ctxhost.meetings.provider import Artifact, BotRecord, End, Phase
from ctxhost.store.rows import Bot
from ctxhost_recall.fields import Malformed, moment
from ctxhost_recall.reasons import END_OF, end_of_call
from ctxhost_recall.records import URL_LIFE_MS, read_bot, to_record

Fixture = Callable[[str], Any]

JOINED_MS = 1_793_631_510_410
ENDED_MS = 1_793_634_069_700
DONE_MS = 1_793_634_072_104
NOW_MS = 1_793_640_000_000


def record_of(body: Any, *, now_ms: int = NOW_MS) -> BotRecord:
    facts = read_bot(body, now_ms=now_ms)
    transcripts = {s.id: s.transcript for s in facts.sessions if s.transcript is not None}
    return to_record(facts, transcripts, now_ms=now_ms)


def with_history(*entries: tuple[str, str | None], recordings: Any = ()) -> dict[str, Any]:
    """A bot with a history of one entry a minute."""
    changes = [
        {"code": code, "sub_code": sub_code, "message": None, "created_at": f"2026-11-02T10:{n:02}:00Z"}
        for n, (code, sub_code) in enumerate(entries)
    ]
    config: dict[str, Any] = {"video_mixed_mp4": {"metadata": {}}}
    return {"id": "b-1", "status_changes": changes, "recordings": list(recordings), "recording_config": config}


def test_a_finished_bot(fixture: Fixture) -> None:
    """The steps, the reason that stands on call_ended, the recording's own times, and what Recall bills."""
    record = record_of(fixture("03"))

    assert [
        Phase.JOINING,
        Phase.WAITING_ROOM,
        Phase.IN_CALL,
        Phase.RECORDING,
        Phase.ENDED,
        Phase.DONE,
    ] == [step.phase for step in record.steps]
    (end,) = [step for step in record.steps if step.phase is Phase.ENDED]
    assert (ENDED_MS, End.OVER, "timeout_exceeded_everyone_left") == (end.at_ms, end.end, end.reason)
    (recording,) = record.recordings
    assert (1_793_631_603_551, 1_793_634_069_870) == (recording.started_ms, recording.completed_ms)
    assert (DONE_MS - JOINED_MS) // 1_000 == record.cost_seconds


def test_the_artifacts_of_a_finished_bot(fixture: Fixture) -> None:
    """A recording of sound alone is its MP3; the links are fresh for less than the six hours that they live."""
    record = record_of(fixture("03"))
    (recording,) = record.recordings

    assert "http://127.0.0.1:8787/_media/audio.mp3?X-Amz-Expires=21600" == recording.media.url
    assert recording.transcript is not None
    assert ("done", 1_793_634_160_338) == (recording.transcript.state, recording.transcript.updated_ms)
    assert "http://127.0.0.1:8787/_media/transcript.json?X-Amz-Expires=21600" == recording.transcript.url
    assert NOW_MS < record.urls_expire_ms < NOW_MS + URL_LIFE_MS


def test_a_bot_that_could_not_join(fixture: Fixture) -> None:
    """Fatal is the end and the last thing; Recall does not bill it."""
    record = record_of(fixture("04"))

    assert [Phase.JOINING, Phase.ENDED, Phase.DONE] == [step.phase for step in record.steps]
    assert (End.FAILED, "google_meet_knocking_disabled") == (record.steps[1].end, record.steps[1].reason)
    assert (0, 0, ()) == (record.cost_seconds, record.urls_expire_ms, tuple(record.recordings))


def test_a_new_bot(fixture: Fixture) -> None:
    """Right after its making there is nothing to say, with an empty history or with its `ready` entry."""
    body = fixture("02")["body"]

    assert BotRecord(steps=[], recordings=[]) == record_of(body)
    body["status_changes"] = [{"code": "ready", "created_at": "2026-11-02T09:10:00.120000Z", "sub_code": None}]
    assert BotRecord(steps=[], recordings=[]) == record_of(body)


def test_the_history_may_come_in_any_order(fixture: Fixture) -> None:
    """Newest first or oldest first is the same life."""
    straight, turned = fixture("03"), fixture("03")
    turned["status_changes"].reverse()

    assert record_of(straight) == record_of(turned)


@pytest.mark.parametrize(
    ("sub_code", "admitted", "end"),
    [
        *((code, end is not End.NOT_ADMITTED, end) for code, end in END_OF.items()),
        pytest.param("a_code_of_next_year", True, End.OVER, id="unknown-in-call"),
        pytest.param("a_code_of_next_year", False, End.NOT_ADMITTED, id="unknown-outside"),
        pytest.param("", True, End.OVER, id="none-in-call"),
        pytest.param("timeout_exceeded_waiting_room", True, End.OVER, id="waiting-room-after-the-call"),
        pytest.param("bot_kicked_from_waiting_room", True, End.KICKED, id="kicked-after-the-call"),
        pytest.param("bot_received_leave_call", False, End.LEFT, id="told-to-leave-outside"),
    ],
)
def test_how_a_call_ended(sub_code: str, admitted: bool, end: End) -> None:
    """Every published sub_code has its end; an unknown one is neutral."""
    assert end is end_of_call(sub_code, admitted=admitted)


@pytest.mark.parametrize(
    "code", ["recording_done", "media_expired", "analysis_done", "breakout_room_entered", "new_2027"]
)
def test_statuses_that_are_no_step(code: str) -> None:
    """What is not about the call, or not known, changes nothing."""
    assert record_of(with_history(("joining_call", None))) == record_of(
        with_history(("joining_call", None), (code, "x")), now_ms=NOW_MS
    )


def test_an_end_without_call_ended() -> None:
    """`done` alone is believed when nothing better has come for a minute: the bot does not live for ever."""
    body = with_history(("joining_call", None), ("in_call_recording", None), ("done", None))
    at_ms = moment(body["status_changes"][2], "created_at")

    assert [Phase.JOINING, Phase.RECORDING] == [s.phase for s in record_of(body, now_ms=at_ms + 59_999).steps]
    late = record_of(body, now_ms=at_ms + 60_000)
    assert [(Phase.ENDED, End.OVER), (Phase.DONE, None)] == [(s.phase, s.end) for s in late.steps[2:]]


def test_the_first_end_counts() -> None:
    """A bot that breaks down while it finishes has left the call before, with that reason."""
    body = with_history(
        ("joining_call", None), ("in_call_recording", None), ("call_ended", "call_ended_by_host"), ("fatal", "x")
    )
    ends = [step for step in record_of(body).steps if step.phase is Phase.ENDED]

    assert [(End.OVER, "call_ended_by_host")] == [(step.end, step.reason) for step in ends]


def test_recall_bills_a_bot_that_is_still_there() -> None:
    """So far: from joining until now, the waiting room included."""
    body = with_history(("joining_call", None), ("in_waiting_room", None))
    at_ms = moment(body["status_changes"][0], "created_at")

    assert 100 == record_of(body, now_ms=at_ms + 100_999).cost_seconds


def session(
    n: int, *, state: str = "done", media: Any = "done", link: str | None = "https://s3.test/x"
) -> dict[str, Any]:
    """A recording of n minutes, with its video."""
    status = {"code": state, "sub_code": None, "updated_at": "2026-11-02T12:00:00Z"}
    video = {"id": f"v-{n}", "created_at": None, "status": {**status, "code": media}, "data": {"download_url": link}}
    return {
        "id": f"r-{n}",
        "created_at": "2026-11-02T10:00:00Z",
        "started_at": "2026-11-02T10:00:00Z",
        "completed_at": f"2026-11-02T10:{n:02}:00Z",
        "status": status,
        "media_shortcuts": {"video_mixed": video if media else None},
    }


@pytest.mark.parametrize(
    ("recording", "state", "reason"),
    [
        pytest.param(session(5), "done", "", id="done"),
        pytest.param(session(5, link=None), "processing", "", id="done-without-a-link"),
        pytest.param(session(5, media="processing"), "processing", "", id="media-processing"),
        pytest.param(session(5, media=None), "processing", "", id="no-media-yet"),
        pytest.param(session(5, media="failed"), "failed", "failed", id="media-failed"),
        pytest.param(session(5, media="deleted"), "failed", "deleted", id="media-deleted"),
        pytest.param(session(5, media="archived"), "processing", "", id="media-in-a-new-state"),
        pytest.param(session(5, state="failed"), "failed", "failed", id="recording-failed"),
        pytest.param(session(5, state="deleted"), "failed", "deleted", id="recording-deleted"),
        pytest.param({**session(5), "completed_at": None}, "done", "", id="ended-with-the-call"),
        pytest.param({**session(5), "media_shortcuts": None}, "processing", "", id="no-shortcuts"),
        pytest.param({**session(5), "status": None}, "done", "", id="no-status"),
    ],
)
def test_the_state_of_a_recording(recording: Any, state: str, reason: str) -> None:
    """It is done with its link and its length, and not before."""
    body = with_history(("in_call_recording", None), ("call_ended", "call_ended_by_host"), recordings=[recording])
    (fact,) = record_of(body).recordings

    assert (state, reason) == (fact.media.state, fact.media.reason)
    assert bool(fact.media.url) == (state == "done")


def test_two_recordings() -> None:
    """Each with its own times and file."""
    body = with_history(("in_call_recording", None), ("call_ended", None), recordings=[session(5), session(7)])

    assert [("r-5", 300_000, "v-5"), ("r-7", 420_000, "v-7")] == [
        (fact.id, fact.completed_ms - fact.started_ms, fact.media.id) for fact in record_of(body).recordings
    ]


@pytest.mark.parametrize(
    ("noted", "config", "is_recorded"),
    [
        pytest.param("mp4", None, True, id="noted-without-an-echo"),
        pytest.param("off", {"video_mixed_mp4": {}}, False, id="noted-against-the-echo"),
        pytest.param(None, {"video_mixed_mp4": {}}, True, id="echoed"),
        pytest.param(None, {"video_mixed_mp4": None}, False, id="echoed-off"),
        pytest.param(None, None, True, id="neither"),
    ],
)
def test_what_the_bot_was_to_record(noted: str | None, config: Any, is_recorded: bool) -> None:
    """Our own note counts, then Recall's echo; without either it is taken for recorded, so that nothing is waived."""
    body = with_history(("in_call_recording", None), recordings=[session(5)])
    body |= {"recording_config": config, "metadata": None if noted is None else {"bb_recording": noted}}

    assert is_recorded == bool(record_of(body).recordings)


def test_a_recording_that_never_began() -> None:
    """Its length would be billed: without a beginning there is none."""
    broken = {**session(5), "started_at": None, "created_at": None}

    with pytest.raises(Malformed):
        record_of(with_history(("in_call_recording", None), recordings=[broken]))


def test_recording_off(fixture: Fixture) -> None:
    """The host sees no recording, only the call and the bot's own transcript."""
    body = fixture("03")
    body["recording_config"]["audio_mixed_mp3"] = None
    record = record_of(body)

    assert () == tuple(record.recordings)
    assert Phase.RECORDING not in [step.phase for step in record.steps]
    assert record.transcript is not None
    assert "done" == record.transcript.state
    assert record.urls_expire_ms


def _bot_row(**facts: Any) -> Bot:
    values: dict[str, Any] = dict.fromkeys(Bot._fields, "")
    numbers = [name for name, kind in Bot.__annotations__.items() if kind in (int, "int")]
    values |= dict.fromkeys(numbers, 0)
    return Bot(
        **{**values, "id": "b", "status": "recording", "recording": "mp4", "transcript": 1, "duration_s": -1, **facts}
    )


def _grown(fixture: Any, known: set[str]) -> Any:
    """The finished bot as it stands when only these four things are on record yet."""
    body = copy.deepcopy(fixture)
    body["recording_config"]["video_mixed_mp4"] = {}
    body["status_changes"] = [
        c
        for c in body["status_changes"]
        if c["code"] not in ("call_ended", "recording_done", "done") or c["code"] in known
    ]
    (recording,) = body["recordings"]
    shortcuts = recording["media_shortcuts"]
    shortcuts["video_mixed"] = copy.deepcopy(shortcuts["audio_mixed"])
    if "recording.done" not in known:
        recording["status"]["code"] = "processing"
        recording["completed_at"] = None
        shortcuts["video_mixed"]["status"]["code"] = "processing"
        shortcuts["video_mixed"]["data"]["download_url"] = None
    if "transcript.done" not in known:
        shortcuts["transcript"] = None
    return body


ORDERS = list(itertools.permutations(("call_ended", "recording.done", "done", "transcript.done")))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_every_order_ends_in_the_same_verdict(order: tuple[str, ...], fixture: Fixture) -> None:
    """However the four last facts arrive, and however often they are read: one status, one reason, one bill."""
    finished = fixture("03")

    def judge(bot: Bot, known: set[str]) -> lifecycle.Verdict:
        record = record_of(_grown(finished, known), now_ms=DONE_MS + 30_000)
        return lifecycle.judge(bot, record, now_ms=DONE_MS + 30_000, artifact_wait_ms=1_800_000)

    bot = _bot_row()
    charges: dict[str, int] = {}
    told: set[str] = set()
    for n in range(1, 5):
        for _ in range(2):
            verdict = judge(bot, set(order[:n]))
            bot = verdict.bot
            charges |= verdict.charges
            told |= {happening.event for happening in verdict.happenings}

    straight = judge(_bot_row(), set(order))
    assert ("done", "timeout_exceeded_everyone_left") == (bot.status, bot.status_reason)
    assert straight.charges == charges == {"recording": 2_467, "transcription": 2_467}
    assert {happening.event for happening in straight.happenings} == told
    assert straight.bot == bot


@pytest.mark.parametrize(
    "told",
    [
        "2026-11-02T15:41:12.104233Z",
        "2026-11-02T15:41:12.104233+00:00",
        "2026-11-02T16:41:12.104+01:00",
        "2026-11-02T15:41:12.104233",
    ],
)
def test_times(told: str) -> None:
    """REST's form, the webhooks' form, another zone, and none: all the same moment."""
    assert DONE_MS == moment({"at": told}, "at")


@pytest.mark.parametrize(
    "told", ["", "soon", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 17, "2026-11-02T25:00:00Z"]
)
def test_times_that_are_none(told: Any) -> None:
    """A time that would be billed is a sane one."""
    with pytest.raises(Malformed):
        moment({"at": told}, "at")


_FINISHED = json.loads((Path(__file__).parent / "fixtures" / "03-bot-finished.json").read_text())

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["done", "\ud800", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found += _paths(inner, (*path, key))
    return found


@settings(max_examples=300, deadline=None)
@given(data=st.data(), junk=JUNK)
def test_junk_anywhere_is_malformed_or_harmless(data: st.DataObject, junk: Any) -> None:
    """Whatever stands in the place of anything, the record is read or refused; nothing else is raised."""
    body = json.loads(json.dumps(_FINISHED))
    path = data.draw(st.sampled_from(_PATHS))
    if path:
        place = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = junk
    else:
        body = junk
    try:
        record = record_of(body)
    except Malformed:
        return
    for text in _texts(record):
        assert "\x00" not in text
        text.encode()


def _texts(record: BotRecord) -> list[str]:
    artifacts = [a for r in record.recordings for a in (r.media, r.transcript)] + [record.transcript]
    shown = [getattr(a, name) for a in artifacts if isinstance(a, Artifact) for name in ("id", "url", "reason")]
    return [*shown, *(step.reason for step in record.steps), *(r.id for r in record.recordings)]


_PATHS = _paths(_FINISHED)
