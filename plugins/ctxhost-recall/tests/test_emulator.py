"""The emulator answers as the documents say; and refuses what they do not know."""

import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ctxhost_recall.emulator import STORIES, STORY_KEY, depleted, events_of, overloaded, serve, silent
from ctxhost_recall.emulator.checks import BadFields, bot_in, transcript_in

Fixture = Callable[[str], Any]

MINIMAL = {"meeting_url": "https://zoom.us/j/1"}


async def call(stand: Any, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """A call as a client would make it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"authorization": f"Token {stand.emulator.api_key}", **named}
    return await stand.http.request(method, f"{stand.url}/api/v1{path}", json=body, headers=named)


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all objects whose keys are Recall's."""
    free = ("metadata", "participant_events", "meeting_metadata", "audio_mixed_mp3")
    if isinstance(value, dict) and not (path and path[-1] in free):
        yield path
        for key, inner in value.items():
            yield from _objects(inner, (*path, key))


def test_the_published_request_is_taken(fixture: Fixture) -> None:
    """All of it, as it stands."""
    wish = bot_in(fixture("01")["body"])

    assert ("Acme Notetaker", 900) == (
        wish.bot_name,
        wish.automatic_leave and wish.automatic_leave.waiting_room_timeout,
    )


def test_an_unknown_key_anywhere_is_refused(fixture: Fixture) -> None:
    """In every object of the request, however deep."""
    body = fixture("01")["body"]
    places = list(_objects(body))
    for path in places:
        changed = copy.deepcopy(body)
        place = changed
        for key in path:
            place = place[key]
        place["audio_mixed"] = {}
        with pytest.raises(BadFields):
            bot_in(changed)
    assert 12 <= len(places)


@pytest.mark.parametrize(
    "changes",
    [
        {"meeting_url": None},
        {"bot_name": "n" * 101},
        {"join_at": "tomorrow"},
        {"metadata": {"n": 1}},
        {"automatic_leave": {"waiting_room_timeout": 29}},
        {"automatic_leave": {"everyone_left_timeout": 30}},
        {"automatic_leave": {"bot_detection": {"using_participant_names": {"matches": ["x"]}}}},
        {"recording_config": {"transcript": {"provider": {"recallai_async": {}}}}},
        {"recording_config": {"transcript": {"provider": {}}}},
        {"recording_config": {"transcript": {"provider": {"meeting_captions": {}, "rev_streaming": {}}}}},
        {"recording_config": {"retention": {"type": "timed", "hours": 0}}},
        {"recording_config": {"video_mixed_mp4": True}},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(changes: Any) -> None:
    """With Recall's field map."""
    with pytest.raises(BadFields) as error:
        bot_in({**MINIMAL, **changes})

    assert list(changes) == list(error.value.faults)


def test_a_transcript_after_the_recording(fixture: Fixture) -> None:
    """`create_transcript` takes its own providers, and no streaming one."""
    transcript_in(fixture("14")["request"]["body"])
    with pytest.raises(BadFields):
        transcript_in({"provider": {"recallai_streaming": {}}})


async def test_a_new_bot_looks_like_the_published_one(stand: Any, fixture: Fixture) -> None:
    """The published request gives the published answer, but for its id."""
    request, expected = fixture("01")["body"], fixture("02")
    stand.clock.set(1_793_600_000_000)
    stand.emulator.shapes.starts_with_ready = False
    answer = await call(stand, "POST", "/bot/", request)
    body = answer.json()

    assert expected["status"] == answer.status_code
    for name, value in expected["body"].items():
        if name not in ("id", "join_at", "recording_config", "automatic_leave"):
            assert value == body[name], name
    assert set(expected["body"]) == set(body)
    assert set(expected["body"]["recording_config"]) == set(body["recording_config"])
    assert "2026-11-02T14:58:30.000000Z" == body["join_at"]


async def test_a_finished_bot_looks_like_the_published_one(stand: Any, fixture: Fixture) -> None:
    """The same keys on every level, the same order of statuses, times in the same form."""
    expected = fixture("03")
    request = fixture("01")["body"]
    del request["join_at"]
    made = (await call(stand, "POST", "/bot/", request)).json()
    stand.clock.advance(seconds=200)
    body = (await call(stand, "GET", f"/bot/{made['id']}/")).json()

    assert [c["code"] for c in expected["status_changes"]] == [c["code"] for c in body["status_changes"]]
    assert set(expected["status_changes"][0]) == set(body["status_changes"][0])
    (theirs,), (ours,) = expected["recordings"], body["recordings"]
    assert set(theirs) == set(ours)
    for name, shortcut in theirs["media_shortcuts"].items():
        found = ours["media_shortcuts"][name]
        assert (None if shortcut is None else set(shortcut)) == (None if found is None else set(found))
        if shortcut is not None:
            assert set(shortcut["data"]) == set(found["data"])
    assert len(theirs["started_at"]) == len(ours["started_at"])
    assert ours["started_at"].endswith("Z")


async def test_a_fatal_bot_looks_like_the_published_one(stand: Any, fixture: Fixture) -> None:
    """ready, joining_call, fatal; no recordings."""
    stand.emulator.tell(STORIES["fatal"])
    made = (await call(stand, "POST", "/bot/", MINIMAL)).json()
    stand.clock.advance(seconds=60)
    body = (await call(stand, "GET", f"/bot/{made['id']}/")).json()
    expected = fixture("04")

    for name in ("code", "sub_code"):
        assert [c[name] for c in expected["status_changes"]] == [c[name] for c in body["status_changes"]]
    assert expected["recordings"] == body["recordings"]


async def test_a_transcript_looks_like_the_published_one(stand: Any, fixture: Fixture) -> None:
    """The published wish gives the published answer's keys."""
    made = (await call(stand, "POST", "/bot/", MINIMAL)).json()
    stand.clock.advance(seconds=100)
    (recording,) = (await call(stand, "GET", f"/bot/{made['id']}/")).json()["recordings"]
    published = fixture("14")
    answer = await call(stand, "POST", f"/recording/{recording['id']}/create_transcript/", published["request"]["body"])
    body = answer.json()

    assert published["response"]["status"] == answer.status_code
    assert set(published["response"]["body"]) == set(body)
    for name in ("provider", "diarization", "metadata", "data"):
        assert set(published["response"]["body"][name]) == set(body[name])
    listed = (await call(stand, "GET", f"/transcript/?recording_id={recording['id']}")).json()
    assert [body["id"]] == [entry["id"] for entry in listed["results"]]


def _shape(value: Any) -> Any:
    if not isinstance(value, dict):
        return type(value)
    return {key: _shape(inner) for key, inner in value.items() if key != "metadata"}


@pytest.mark.parametrize("number", ["05", "06", "07"])
async def test_webhooks_look_like_the_published_ones(stand: Any, fixture: Fixture, number: str) -> None:
    """Every kind that both know has the same shape, and the same form of times."""
    stories = ("happy", "fatal", "not_permitted", "recording_failed", "transcript_failed")
    stand.emulator.tell(*(STORIES[name] for name in stories))
    config: dict[str, Any] = {"transcript": {"provider": {"meeting_captions": {}}}}
    for _ in stories:
        await call(stand, "POST", "/bot/", {**MINIMAL, "recording_config": config})
    ours = {}
    for bot in stand.emulator.bots.values():
        for event in events_of(stand.emulator.world, bot):
            ours[event.kind] = json.loads(event.body)
    published = {body["event"]: body for body in fixture(number)}
    both = set(ours) & set(published)

    assert 2 <= len(both)
    for kind in both:
        assert _shape(published[kind]) == _shape(ours[kind]), kind
        told = ours[kind]["data"]["data"]["updated_at"]
        assert told.endswith("+00:00")
        assert len(told) == len("2026-11-02T14:58:30.410222+00:00")


@pytest.mark.parametrize(
    ("when", "status", "code"),
    [
        ("no credential", 401, "not_authenticated"),
        ("bad key", 401, "authentication_failed"),
        ("unknown bot id", 404, None),
        ("leave_call on a scheduled bot", 400, "cannot_command_unstarted_bot"),
        ("leave_call on a finished bot", 400, "cannot_command_completed_bot"),
        ("DELETE on a dispatched bot", 405, "cannot_delete_bot"),
        ("WAF: localhost url", 403, "request_blocked"),
        ("WAF: GET with a body", 403, "request_blocked"),
        ("body field", 400, None),
        ("ad-hoc pool empty", 507, "adhoc_pool_depleted"),
    ],
)
async def test_the_published_errors(stand: Any, fixture: Fixture, when: str, status: int, code: str | None) -> None:
    """Status and slug are those of the documents."""
    scheduled = (await call(stand, "POST", "/bot/", {**MINIMAL, "join_at": "2027-01-01T00:00:00Z"})).json()["id"]
    running = (await call(stand, "POST", "/bot/", MINIMAL)).json()["id"]
    if when == "leave_call on a finished bot":
        stand.clock.advance(seconds=3_600)
    if when == "ad-hoc pool empty":
        stand.emulator.fail("create", depleted())
    ask: dict[str, Callable[[], Any]] = {
        "no credential": lambda: stand.http.get(f"{stand.url}/api/v1/bot/"),
        "bad key": lambda: call(stand, "GET", "/bot/", authorization="Token other"),
        "unknown bot id": lambda: call(stand, "GET", "/bot/none/"),
        "leave_call on a scheduled bot": lambda: call(stand, "POST", f"/bot/{scheduled}/leave_call/"),
        "leave_call on a finished bot": lambda: call(stand, "POST", f"/bot/{running}/leave_call/"),
        "DELETE on a dispatched bot": lambda: call(stand, "DELETE", f"/bot/{running}/"),
        "WAF: localhost url": lambda: call(stand, "POST", "/bot/", {**MINIMAL, "metadata": {"u": "http://localhost"}}),
        "WAF: GET with a body": lambda: call(stand, "GET", "/bot/", {}),
        "body field": lambda: call(stand, "POST", "/bot/", {}),
        "ad-hoc pool empty": lambda: call(stand, "POST", "/bot/", MINIMAL),
    }
    answer = await ask[when]()

    assert (status, code) == (answer.status_code, answer.json().get("code"))
    published = [error for error in fixture("12") if error["status"] == status and error["body"].get("code") == code]
    assert published


async def test_an_unknown_path_is_a_page(stand: Any) -> None:
    """404 in HTML, also for a path without its slash."""
    for path in ("/nothing/", "/bot"):
        answer = await call(stand, "GET", path)
        assert (404, "text/html") == (answer.status_code, answer.headers["content-type"].partition(";")[0])


async def test_an_unknown_query_parameter_is_refused(stand: Any) -> None:
    """`status__in` is nobody's filter."""
    assert 400 == (await call(stand, "GET", "/bot/?status__in=done")).status_code


async def test_a_key_gives_its_answer_again_for_an_hour(stand: Any) -> None:
    """Whatever the body is then; afterwards it is new."""
    first = await call(stand, "POST", "/bot/", MINIMAL, idempotency_key="k")
    stand.clock.advance(seconds=3_599)
    again = await call(stand, "POST", "/bot/", {}, idempotency_key="k")
    stand.clock.advance(seconds=1)
    anew = await call(stand, "POST", "/bot/", MINIMAL, idempotency_key="k")

    assert first.json() == again.json()
    assert first.json()["id"] != anew.json()["id"]


async def test_a_507_is_kept_under_its_key(stand: Any) -> None:
    """So that a client which repeats it unchanged never gets a bot."""
    stand.emulator.fail("create", depleted())
    answers = [await call(stand, "POST", "/bot/", MINIMAL, idempotency_key=key) for key in ("k", "k", "k2")]

    assert [507, 507, 201] == [answer.status_code for answer in answers]


async def test_a_5xx_that_took_effect(stand: Any) -> None:
    """The bot is there; its key says so."""
    stand.emulator.fail("create", overloaded(502, takes_effect=True))
    answers = [await call(stand, "POST", "/bot/", MINIMAL, idempotency_key="k") for _ in range(2)]

    assert [502, 201] == [answer.status_code for answer in answers]
    assert 1 == len(stand.emulator.bots)


async def test_a_key_in_flight_is_409(stand: Any) -> None:
    """While the first call with it still runs."""
    stand.emulator.fail("create", silent())

    async def hang() -> None:
        await call(stand, "POST", "/bot/", MINIMAL, idempotency_key="k")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        while not stand.emulator.gate._in_flight:
            await anyio.lowlevel.checkpoint()
        answer = await call(stand, "POST", "/bot/", MINIMAL, idempotency_key="k")
        tasks.cancel_scope.cancel()

    assert 409 == answer.status_code


async def test_the_published_rates(stand: Any) -> None:
    """60 new bots a minute, and then 429 with the seconds to wait."""
    answers = [await call(stand, "POST", "/bot/", MINIMAL) for _ in range(61)]
    stand.clock.advance(seconds=60)

    assert [201] * 60 + [429] == [answer.status_code for answer in answers]
    assert "60" == answers[-1].headers["retry-after"]
    assert 201 == (await call(stand, "POST", "/bot/", MINIMAL)).status_code


async def test_a_story_by_metadata(stand: Any) -> None:
    """A bot can choose its own life."""
    made = (await call(stand, "POST", "/bot/", {**MINIMAL, "metadata": {STORY_KEY: "denied"}})).json()
    stand.clock.advance(seconds=60)
    body = (await call(stand, "GET", f"/bot/{made['id']}/")).json()

    assert "bot_kicked_from_waiting_room" == body["status_changes"][-2]["sub_code"]


@pytest.mark.parametrize("name", sorted(STORIES))
async def test_every_story_ends(stand: Any, name: str) -> None:
    """In `done` or `fatal`, once, and in order of time."""
    stand.emulator.tell(STORIES[name])
    made = (await call(stand, "POST", "/bot/", MINIMAL)).json()
    changes = stand.emulator.bots[made["id"]].plan.changes

    assert sorted(change.at_ms for change in changes) == [change.at_ms for change in changes]
    assert 1 == len([change for change in changes if change.code in ("done", "fatal")])
    assert changes[-1].code in ("done", "fatal")


class Host:
    """Notes the webhooks that arrive, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str]]] = []
        self.status = 200

    async def take(self, request: Request) -> Response:
        self.got.append((json.loads(await request.body())["event"], dict(request.headers)))
        return Response(status_code=self.status)


@pytest.fixture
async def host(stand: Any) -> AsyncIterator[Host]:
    host = Host()
    async with serve(Starlette(routes=[Route("/hook", host.take, methods=["POST"])])) as url:
        stand.emulator.send_webhooks_to(f"{url}/hook")
        yield host
        await stand.emulator.aclose()


async def _tell_all(stand: Any) -> None:
    while (due_ms := stand.emulator.next_event_ms()) is not None:
        stand.clock.set(max(due_ms, stand.clock.now_ms()))
        await stand.emulator.deliver_due()


async def test_every_webhook_of_a_life(stand: Any, host: Host) -> None:
    """Once each, in order of time, with what the recording leaves."""
    await call(stand, "POST", "/bot/", MINIMAL)
    await _tell_all(stand)
    kinds = [kind for kind, _ in host.got]

    steps = ["joining_call", "in_waiting_room", "in_call_not_recording", "in_call_recording", "call_ended", "done"]
    assert [f"bot.{step}" for step in steps] == [kind for kind in kinds if kind.startswith("bot.")]
    assert kinds.index("bot.call_ended") < kinds.index("recording.done") < kinds.index("bot.done")
    assert {"video_mixed.done", "participant_events.done", "meeting_metadata.done"} <= set(kinds)
    assert len(kinds) == len(set(kinds))


async def test_a_webhook_is_repeated_until_it_is_taken(stand: Any, host: Host) -> None:
    """After 5 s, 5 and 30 minutes and so on, under the same id, and then no more."""
    await call(stand, "POST", "/bot/", MINIMAL)
    host.status = 500
    started_ms = stand.clock.now_ms()
    await stand.emulator.deliver_due()
    while (due_ms := stand.emulator.next_event_ms()) is not None:
        stand.clock.set(due_ms)
        await stand.emulator.deliver_due()

    joining = [headers for kind, headers in host.got if kind == "bot.joining_call"]
    assert 8 == len(joining)
    assert 1 == len({headers["webhook-id"] for headers in joining})
    after_s = [int(headers["webhook-timestamp"]) - started_ms // 1_000 for headers in joining]
    assert [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 99_305] == after_s


async def test_accidents_on_the_way(stand: Any, host: Host) -> None:
    """Lost, doubled, turned around, and under Svix's names with two signatures."""
    knobs = stand.emulator.webhooks
    knobs.copies, knobs.order, knobs.family = 2, "newest first", "svix"
    knobs.old_secrets = ["whsec_" + "A" * 40]
    await call(stand, "POST", "/bot/", MINIMAL)
    stand.clock.advance(seconds=40)
    await stand.emulator.deliver_due()

    steps = ["in_call_recording", "in_call_not_recording", "in_waiting_room", "joining_call"]
    assert [f"bot.{step}" for step in steps for _ in range(2)] == [k for k, _ in host.got if k.startswith("bot.")]
    assert 2 == len(host.got[0][1]["svix-signature"].split(" "))
    knobs.lost = True
    before = len(host.got)
    await _tell_all(stand)
    assert before == len(host.got)
