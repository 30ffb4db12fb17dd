"""Meeting bots over HTTP: the documented bodies to the letter, one bot per key, and nothing of anybody else."""

from typing import Any

import anyio
import httpx
import pytest
from tests.api.scripted import life
from tests.api.stand import GOOD, USD, Stand, error_of, refusal

from ctxhost.errors import ProviderError
from ctxhost.meetings.provider import BotRecord, Phase, Step

WITHIN_S = 30
BOT_KEYS = [
    "id", "status", "statusReason", "startedAt", "completedAt", "durationSeconds", "recordingUrl", "transcriptUrl",
    "botName", "metadata", "meetingUrl", "platform", "provider", "createdAt",
]  # fmt: skip


async def finish(stand: Stand, bot: str, *, provider_id: str = "p1", seconds: int = 44) -> None:
    """Let a call of so many seconds have happened, and the host have read of it."""
    started_ms = stand.clock.now_ms() + 10_000
    stand.provider.records[provider_id] = life(started_ms, seconds=seconds)
    stand.clock.advance(seconds=100 + seconds)
    await stand.host.jobs.run_due()
    assert "done" == (await stand.get(bot))["status"]


async def test_a_bot_is_answered_as_documented(stand: Stand) -> None:
    """Every field is there from the start, the ones that are not known yet as null."""
    asked = {
        "meetingUrl": "https://zoom.us/j/12345",
        "transcript": True,
        "recording": "mp4",
        "botName": "  Acme Notetaker ",
        "metadata": {"session_id": "abc123", "a": ""},
    }
    response = await stand.call("POST", stand.bots, json=asked)
    bot = response.json()

    assert (200, "application/json") == (response.status_code, response.headers["content-type"])
    assert BOT_KEYS == list(bot)
    assert {
        "status": "joining",
        "statusReason": None,
        "startedAt": None,
        "completedAt": None,
        "durationSeconds": None,
        "recordingUrl": None,
        "transcriptUrl": None,
        "botName": "Acme Notetaker",
        "metadata": {"session_id": "abc123", "a": ""},
        "meetingUrl": "https://zoom.us/j/12345",
        "platform": "zoom",
        "provider": "scripted",
        "createdAt": "2026-05-28T20:26:40.000Z",
    } == {name: value for name, value in bot.items() if name != "id"}
    assert ["session_id", "a"] == list(bot["metadata"])
    assert bot == await stand.get(bot["id"])


async def test_the_default_name_is_the_operators(stand: Stand) -> None:
    """Left out, the name is the documented one."""
    assert "Butterbase Notetaker" == (await stand.start())["botName"]


async def test_a_whole_call_in_documented_figures(stand: Stand) -> None:
    """44 seconds: 0.065 held at first, then the two charges of the documents, and the rest is back."""
    bot = await stand.start()
    assert 65_000_000 == await stand.held()
    await finish(stand, bot["id"])
    rows = (await stand.call("GET", f"{stand.bots}/usage")).json()["rows"]
    account = (await stand.call("GET", f"/v1/{stand.app.id}/credits")).json()
    done = await stand.get(bot["id"])

    assert {"recording": "0.007333", "transcription": "0.002200"} == {r["dimension"]: r["usd_charged"] for r in rows}
    assert [["id", "dimension", "seconds", "usd_charged", "created_at"]] * 2 == [list(row) for row in rows]
    assert [44, 44] == [row["seconds"] for row in rows]
    assert all(isinstance(row["id"], str) for row in rows)
    assert (0, 4.990466667) == (account["held_usd"], account["balance_usd"])
    assert (44, "https://media.example/transcript.json") == (done["durationSeconds"], done["transcriptUrl"])
    assert ("2026-05-28T20:26:50.000Z", "2026-05-28T20:27:34.000Z") == (done["startedAt"], done["completedAt"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("durationMinutes=30", b'{"usd":0.39}'),
        ("durationMinutes=30&transcript=false", b'{"usd":0.3}'),
        ("durationMinutes=30&transcript=0", b'{"usd":0.3}'),
        ("durationMinutes=1", b'{"usd":0.013}'),
        ("durationMinutes=1440&transcript=true", b'{"usd":18.72}'),
    ],
)
async def test_an_estimate_is_a_number_and_nothing_else(stand: Stand, query: str, expected: bytes) -> None:
    """Exactly the documented body."""
    assert expected == (await stand.call("GET", f"{stand.bots}/_estimate?{query}")).content


@pytest.mark.parametrize(
    "query",
    ["", "durationMinutes=0", "durationMinutes=1441", "durationMinutes=1.5", "durationMinutes=30&transcript=yes"],
)
async def test_a_bad_estimate_is_refused_by_name(stand: Stand, query: str) -> None:
    """The detail names the field of the query."""
    error = error_of(await stand.call("GET", f"{stand.bots}/_estimate?{query}"))

    assert ["transcript" if "yes" in query else "durationMinutes"] == error["details"][0]["path"]


async def test_the_status_is_public(stand: Stand) -> None:
    """No key, one boolean."""
    assert b'{"available":true}' == (await stand.client.get("/v1/ai/meetings/_status")).content


async def test_without_a_provider_the_rest_still_answers(bare: Stand) -> None:
    """Open-source mode: meetings are 501; usage, webhook and credits are there."""
    bot = f"{bare.bots}/0197a3a4-6f1e-7c44-b8d8-3a363f2cd9f4"
    refused = [
        await bare.call("POST", bare.bots, json=GOOD),
        await bare.call("GET", bare.bots),
        await bare.call("GET", bot),
        await bare.call("DELETE", bot),
        await bare.call("GET", f"{bot}/transcript"),
        await bare.call("GET", f"{bot}/events"),
        await bare.call("GET", f"{bare.bots}/_estimate?durationMinutes=30"),
    ]

    assert [(501, "provider_unavailable")] * 7 == [refusal(response) for response in refused]
    assert b'{"available":false}' == (await bare.client.get("/v1/ai/meetings/_status")).content
    assert b'{"rows":[]}' == (await bare.call("GET", f"{bare.bots}/usage")).content
    assert 200 == (await bare.call("PUT", bare.webhook, json={"forward_url": "https://8.8.8.8/"})).status_code
    assert 5 == (await bare.call("GET", f"/v1/{bare.app.id}/credits")).json()["available_usd"]


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        pytest.param({}, ["meetingUrl"], "missing", id="missing"),
        pytest.param({**GOOD, "x": 1}, ["x"], "unknown_field", id="unknown"),
        pytest.param({**GOOD, "transcript": 1}, ["transcript"], "invalid_type", id="1-is-not-true"),
        pytest.param({**GOOD, "transcript": "true"}, ["transcript"], "invalid_type", id="text-is-not-true"),
        pytest.param({**GOOD, "transcript": None}, ["transcript"], "invalid_type", id="null-is-not-left-out"),
        pytest.param({**GOOD, "recording": 0}, ["recording"], "invalid_value", id="0-is-not-false"),
        pytest.param({**GOOD, "recording": True}, ["recording"], "invalid_value", id="true-is-no-recording"),
        pytest.param({**GOOD, "botName": " "}, ["botName"], "too_small", id="blank-name"),
        pytest.param({**GOOD, "botName": "x" * 65}, ["botName"], "too_big", id="long-name"),
        pytest.param({**GOOD, "metadata": {"bb_x": "y"}}, ["metadata", "bb_x"], "reserved_key", id="reserved"),
        pytest.param({**GOOD, "metadata": {"k": 1}}, ["metadata", "k"], "invalid_type", id="metadata-number"),
        pytest.param({**GOOD, "provider": "nobody"}, ["provider"], "unknown_provider", id="unknown-provider"),
        pytest.param({"meetingUrl": "https://zoom.us.evil.example/j/1"}, ["meetingUrl"], "unsupported_meeting_url",
                     id="by-host-only"),
        pytest.param([], [], "invalid_type", id="not-an-object"),
    ],
)  # fmt: skip
async def test_types_are_strict(stand: Stand, body: Any, path: list[str], code: str) -> None:
    """What is nearly right is refused by the name of its field, and nothing is started."""
    response = await stand.call("POST", stand.bots, json=body)
    details = error_of(response)["details"]

    assert 400 == response.status_code
    assert [(path, code)] == [(detail["path"], detail["code"]) for detail in details]
    assert [] == stand.provider.created


async def test_what_the_provider_declares_is_a_meeting_too(stand: Stand) -> None:
    """A host of the installed provider's own is recognised."""
    assert "example" == (await stand.start(meetingUrl="https://eu.calls.example/x"))["platform"]


async def test_the_body_of_a_read_is_ignored(stand: Stand) -> None:
    """With a content-type or with bytes: a GET or DELETE does not look at what it carries."""
    bot = await stand.start()
    headers = {"content-type": "application/json"}

    assert 200 == (await stand.call("GET", stand.bots, headers=headers, content=b"{")).status_code
    assert 204 == (await stand.call("DELETE", f"{stand.bots}/{bot['id']}", headers=headers, content=b"{")).status_code
    assert 200 == (await stand.call("GET", stand.bots, headers=headers)).status_code


async def test_recording_may_be_off_while_a_transcript_is_made(stand: Stand) -> None:
    """The provider hears of it in its own words."""
    await stand.start(recording=False, transcript=True)

    assert [("off", True)] == [(asked.recording, asked.transcript) for asked in stand.provider.created]


async def test_pages_are_stable_while_bots_are_inserted(stand: Stand) -> None:
    """Page by page every bot that was there at the start comes once, newest first; newer ones do not push in."""
    made = []
    for _ in range(5):
        stand.clock.advance(ms=7)
        made.append((await stand.start())["id"])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"&cursor={cursor}" if cursor else ""
        page = (await stand.call("GET", f"{stand.bots}?limit=2{query}")).json()
        assert ["bots", "nextCursor"] == list(page)
        seen += [bot["id"] for bot in page["bots"]]
        cursor = page["nextCursor"]
        stand.clock.advance(ms=7)
        await stand.start()

    assert made[::-1] == seen


async def test_pages_can_be_of_one_status(stand: Stand) -> None:
    """The filter holds across pages."""
    first = await stand.start()
    await finish(stand, first["id"])
    second = await stand.start()

    async def ids(status: str) -> list[str]:
        page = await stand.call("GET", f"{stand.bots}?status={status}")
        return [bot["id"] for bot in page.json()["bots"]]

    assert ([first["id"]], [second["id"]], []) == (await ids("done"), await ids("joining"), await ids("fatal"))


@pytest.mark.parametrize("cursor", ["x", "%2F", "MTox", "a" * 600, "%F0%9F%98%80", "MTo6Og", "bm90OmE"])
async def test_a_cursor_of_nobodys_is_refused(stand: Stand, cursor: str) -> None:
    """Only what a page gave is a cursor."""
    for path in (stand.bots, f"{stand.webhook}/deliveries", f"/v1/{stand.app.id}/credits/entries"):
        response = await stand.call("GET", f"{path}?cursor={cursor}")
        assert (400, ["cursor"]) == (response.status_code, error_of(response)["details"][0]["path"])


async def test_listing_never_asks_the_provider(stand: Stand) -> None:
    """Not even for links that have expired."""
    bot = await stand.start()
    await finish(stand, bot["id"])
    stand.clock.advance(seconds=86_400)
    reads = stand.provider.reads
    await stand.call("GET", stand.bots)

    assert reads == stand.provider.reads


async def test_links_are_minted_again(stand: Stand) -> None:
    """A bot that is asked for after its links have expired comes with fresh ones, or with none if nobody answers."""
    bot = (await stand.start())["id"]
    await finish(stand, bot)
    started_ms = stand.clock.now_ms() - 144_000
    stand.clock.advance(seconds=86_400)
    stand.provider.read_error = ProviderError("down")
    without = await stand.get(bot)
    stand.provider.read_error = None
    stand.provider.records["p1"] = life(
        started_ms, url="https://fresh.example", expire_ms=stand.clock.now_ms() + 900_000
    )
    fresh = await stand.get(bot)

    assert (None, None) == (without["recordingUrl"], without["transcriptUrl"])
    assert "https://fresh.example/recording.mp4" == fresh["recordingUrl"]
    assert "https://fresh.example/transcript.json" == fresh["transcriptUrl"]


async def test_stopping_is_idempotent_and_carried_out(stand: Stand) -> None:
    """204 without a body, now and again, also when the bot has ended; the provider is told until it obeys."""
    bot = (await stand.start())["id"]
    now_ms = stand.clock.now_ms()
    stand.provider.records["p1"] = BotRecord(steps=[Step(phase=Phase.IN_CALL, at_ms=now_ms)])
    first = await stand.call("DELETE", f"{stand.bots}/{bot}")
    await stand.host.jobs.run_due()
    assert (204, b"") == (first.status_code, first.content)
    assert ["p1"] == stand.provider.left
    await finish(stand, bot)

    assert 204 == (await stand.call("DELETE", f"{stand.bots}/{bot}")).status_code
    assert (404, "bot_not_found") == refusal(
        await stand.call("DELETE", f"{stand.bots}/{bot[:-1]}{'1' if bot.endswith('0') else '0'}")
    )


async def test_the_history_is_told_oldest_first(stand: Stand) -> None:
    """What happened, and when, under the names that webhooks use."""
    bot = (await stand.start())["id"]
    await finish(stand, bot)
    body = (await stand.call("GET", f"{stand.bots}/{bot}/events")).json()

    assert ["events"] == list(body)
    assert {"event": "bot.call_ended", "subCode": "call_ended_by_host", "at": "2026-05-28T20:27:34.000Z"} in body[
        "events"
    ]
    assert sorted(event["at"] for event in body["events"]) == [event["at"] for event in body["events"]]
    assert {"bot.joining_call", "bot.in_call_recording", "recording.done", "transcript.done", "bot.done"} <= {
        event["event"] for event in body["events"]
    }


async def test_tenants_cannot_see_each_other(stand: Stand) -> None:
    """Another owner's key is refused; another app of the same owner finds nothing, in the words of a bot never made."""
    bot = (await stand.start())["id"]
    strangers = {"authorization": f"Bearer {stand.stranger_key}"}
    nobody = "0197a3a4-6f1e-7c44-b8d8-3a363f2cd9f4"

    async def answers(app: str, bot_id: str) -> list[dict[str, Any]]:
        told = []
        for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/transcript"), ("GET", "/events")):
            response = await stand.call(method, f"/v1/{app}/ai/meetings/{bot_id}{tail}")
            assert (404, "bot_not_found") == refusal(response)
            told.append(response.json())
        return told

    for tail in ("", f"/{bot}", f"/{bot}/transcript", f"/{bot}/events", "/usage", "/webhook", "/webhook/deliveries"):
        assert (403, "not_authorized") == refusal(await stand.client.get(f"{stand.bots}{tail}", headers=strangers))
    assert await answers(stand.sister.id, nobody) == await answers(stand.sister.id, bot)
    assert await answers(stand.sister.id, "not-a-uuid") == await answers(stand.sister.id, bot)
    assert [] == (await stand.call("GET", f"/v1/{stand.sister.id}/ai/meetings")).json()["bots"]
    assert [] == stand.provider.left


async def test_a_repeated_call_starts_once(stand: Stand) -> None:
    """The same key and body give the first answer again, marked as such, and hold once."""
    headers = {"idempotency-key": "order 66"}
    first = await stand.call("POST", stand.bots, json=GOOD, headers=headers)
    await finish(stand, first.json()["id"])
    again = await stand.call("POST", stand.bots, json=GOOD, headers=headers)

    assert first.json() == again.json()
    assert (None, "true") == tuple(r.headers.get("idempotent-replayed") for r in (first, again))
    assert 1 == len(stand.provider.created)
    assert 0 == await stand.held()


async def test_a_repeated_call_with_a_time_that_has_passed_is_the_same_call(stand: Stand) -> None:
    """A `joinAt` in the past means now, whenever now is."""
    asked = {**GOOD, "joinAt": "2026-05-28T20:26:45Z"}
    headers = {"idempotency-key": "k"}
    first = await stand.call("POST", stand.bots, json=asked, headers=headers)
    stand.clock.advance(seconds=60)
    again = await stand.call("POST", stand.bots, json=asked, headers=headers)

    assert (200, first.json()) == (again.status_code, again.json())


async def test_a_key_names_one_request(stand: Stand) -> None:
    """With another body it is refused; in another app it is another key; after a day it is free."""
    headers = {"idempotency-key": "k"}
    await stand.call("POST", stand.bots, json=GOOD, headers=headers)
    other = {**GOOD, "botName": "Other"}

    assert (409, "idempotency_conflict") == refusal(await stand.call("POST", stand.bots, json=other, headers=headers))
    sister = await stand.call("POST", f"/v1/{stand.sister.id}/ai/meetings", json=other, headers=headers)
    assert (200, "Other") == (sister.status_code, sister.json()["botName"])
    stand.clock.advance(seconds=86_400)
    assert 200 == (await stand.call("POST", stand.bots, json=other, headers=headers)).status_code


async def until_held(stand: Stand) -> None:
    """A start has been written down; the provider is called next."""
    with anyio.fail_after(WITHIN_S):
        while not await stand.held():
            await anyio.lowlevel.checkpoint()


async def test_while_the_first_call_runs_the_second_is_refused(stand: Stand) -> None:
    """Two at once with one key: one bot, and the later caller is told to wait."""
    stand.provider.gate = anyio.Event()
    answers = {}

    async def first() -> None:
        answers["first"] = await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await until_held(stand)
        second = await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"})
        stand.provider.gate.set()
    third = await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"})

    assert (409, "idempotency_conflict") == refusal(second)
    assert answers["first"].json() == third.json()
    assert 1 == len(stand.provider.created)


async def test_a_crowd_with_one_key_makes_one_bot(stand: Stand) -> None:
    """Whoever comes too early is told so; whoever is answered has the same bot."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    made = {answer.json()["id"] for answer in answers if answer.status_code == 200}

    assert {200, 409} >= {answer.status_code for answer in answers}
    assert (1, 1) == (len(made), len(stand.provider.created))
    assert 65_000_000 == await stand.held()


async def test_a_refused_first_call_may_be_repeated(stand: Stand) -> None:
    """What made no bot is not remembered: the same key may try again."""
    stand.provider.create_error = ProviderError("no")
    headers = {"idempotency-key": "k"}
    assert (502, "provider_error") == refusal(await stand.call("POST", stand.bots, json=GOOD, headers=headers))
    stand.provider.create_error = None

    assert 200 == (await stand.call("POST", stand.bots, json=GOOD, headers=headers)).status_code


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"caf\xc3\xa9", b"tab\there"])
async def test_a_key_is_printable(stand: Stand, key: bytes) -> None:
    """1 to 255 printable ASCII characters."""
    response = await stand.client.post(
        stand.bots, json=GOOD, headers=[(b"authorization", f"Bearer {stand.key}".encode()), (b"idempotency-key", key)]
    )

    assert (400, ["Idempotency-Key"]) == (response.status_code, error_of(response)["details"][0]["path"])


async def test_a_silent_provider_is_answered_joining(stand: Stand) -> None:
    """When nobody knows whether there is a bot, the caller has one that is joining, and the hold stays."""
    stand.provider.create_error = RuntimeError("connection lost")
    bot = await stand.start()

    assert "joining" == bot["status"]
    assert 65_000_000 == await stand.held()


async def test_who_hangs_up_cancels_nothing(stand: Stand) -> None:
    """The start goes on in the host when its caller has gone: one bot, made and owned."""
    stand.provider.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stand.start)
        await until_held(stand)
        tasks.cancel_scope.cancel()
    stand.provider.gate.set()
    with anyio.fail_after(WITHIN_S):
        while not stand.provider.created:
            await anyio.lowlevel.checkpoint()
    bots = (await stand.call("GET", stand.bots)).json()["bots"]

    assert [bots[0]["id"]] == [asked.bot for asked in stand.provider.created]
    assert 5 * USD - 65_000_000 == (await stand.host.ledger.balance(stand.app.account)).account.available
