"""An app's webhook over HTTP: how it is set, what reaches a real receiver, and what can be looked up and sent again."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from tests.api.receiver import Got, Receiver, listening
from tests.api.scripted import life
from tests.api.stand import BASE_URL, OpenStand, Stand, error_of, refusal

from ctxhost.settings import EgressSettings
from ctxhost.webhooks.requests import DEFAULT_EVENTS

SOMEWHERE = "https://8.8.8.8/recall/events"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as opened:
        yield opened


@pytest.fixture
async def now(stand: Stand) -> Stand:
    """A stand whose clock shows the real time: receivers' libraries compare stamps with their own clocks."""
    stand.clock.set(int(time.time() * 1_000))
    return stand


async def put(stand: Stand, url: str, **more: Any) -> dict[str, Any]:
    response = await stand.call("PUT", stand.webhook, json={"forward_url": url, **more})
    assert 200 == response.status_code, response.text
    body: dict[str, Any] = response.json()
    return body


async def deliveries(stand: Stand) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stand.call("GET", f"{stand.webhook}/deliveries")).json()["deliveries"]
    return found


def verify(got: Got, secret: str) -> None:
    """What a receiver does: the public library for one signature, the documented recipe for the other."""
    Webhook(base64.b64encode(secret.encode()).decode()).verify(got.body, got.headers)
    mac = hmac.digest(secret.encode(), got.body, hashlib.sha256)
    assert f"v1,{base64.b64encode(mac).decode()}" == got.headers["x-bb-signature"]


async def test_put_answers_as_documented(stand: Stand) -> None:
    """Exactly four fields; the URL byte for byte; a secret the first time."""
    url = "https://8.8.8.8/Recall/%7Eevents?a=b&c="
    body = await put(stand, url)

    assert ["ok", "app_id", "forward_url", "secret"] == list(body)
    assert (True, stand.app.id, url) == (body["ok"], body["app_id"], body["forward_url"])
    assert body["secret"].startswith("wsec_")
    assert 32 == len(base64.urlsafe_b64decode(body["secret"].removeprefix("wsec_") + "="))


async def test_a_secret_is_shown_once(stand: Stand) -> None:
    """Null afterwards, a new one when it is rotated, and in no other answer."""
    first = await put(stand, SOMEWHERE)
    again = await put(stand, SOMEWHERE, rotate_secret=False)
    rotated = await put(stand, SOMEWHERE, rotate_secret=True)
    shown = await stand.call("GET", stand.webhook)

    assert again["secret"] is None
    assert rotated["secret"] not in (None, first["secret"])
    assert "wsec_" not in shown.text


async def test_get_tells_where_events_go(stand: Stand) -> None:
    """The default six until others are chosen; a later PUT that names none keeps the choice."""
    assert (404, "webhook_not_found") == refusal(await stand.call("GET", stand.webhook))
    await put(stand, SOMEWHERE)
    default = (await stand.call("GET", stand.webhook)).json()
    await put(stand, SOMEWHERE, events=["bot.done", "credits.low"])
    await put(stand, SOMEWHERE)
    chosen = (await stand.call("GET", stand.webhook)).json()

    assert {
        "app_id": stand.app.id,
        "forward_url": SOMEWHERE,
        "events": list(DEFAULT_EVENTS),
        "status": "active",
        "failing_since": None,
        "disabled_at": None,
        "updated_at": "2026-05-28T20:26:40.000Z",
    } == default
    assert ["bot.done", "credits.low"] == chosen["events"]


async def test_delete_ends_it(stand: Stand) -> None:
    """204 now and again; afterwards there is nothing to test or to read, and a new PUT mints a new secret."""
    first = await put(stand, SOMEWHERE)

    assert [204, 204] == [(await stand.call("DELETE", stand.webhook)).status_code for _ in range(2)]
    assert (404, "webhook_not_found") == refusal(await stand.call("GET", stand.webhook))
    assert (404, "webhook_not_found") == refusal(await stand.call("POST", f"{stand.webhook}/test"))
    assert (await put(stand, SOMEWHERE))["secret"] not in (None, first["secret"])


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({}, ["forward_url"], "missing"),
        ({"forward_url": "ftp://8.8.8.8/"}, ["forward_url"], "invalid_url"),
        ({"forward_url": "https://u:p@8.8.8.8/"}, ["forward_url"], "invalid_url"),
        ({"forward_url": "https://8.8.8.8/" + "x" * 2_048}, ["forward_url"], "too_big"),
        ({"forward_url": SOMEWHERE, "rotate_secret": 1}, ["rotate_secret"], "invalid_type"),
        ({"forward_url": SOMEWHERE, "events": []}, ["events"], "too_small"),
        ({"forward_url": SOMEWHERE, "events": ["bot.done", "bot.done"]}, ["events"], "duplicate"),
        ({"forward_url": SOMEWHERE, "events": ["bot.dnoe"]}, ["events", 0], "invalid_value"),
        ({"forward_url": SOMEWHERE, "secret": "mine"}, ["secret"], "unknown_field"),
    ],
)
async def test_put_is_strict(stand: Stand, body: dict[str, Any], path: list[str | int], code: str) -> None:
    """Refused by the name of the field, and nothing is set."""
    details = error_of(await stand.call("PUT", stand.webhook, json=body))["details"]

    assert [(path, code)] == [(detail["path"], detail["code"]) for detail in details]
    assert 404 == (await stand.call("GET", stand.webhook)).status_code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://8.8.8.8/", "https_required"),
        ("https://127.0.0.1/", "address"),
        ("https://[::1]/", "address"),
        ("https://10.0.0.1/", "address"),
        ("https://169.254.169.254/latest/meta-data", "address"),
        ("https://[::ffff:10.0.0.1]/", "address"),
        ("https://localhost/", "address"),
        ("https://8.8.8.8:22/", "port"),
        (f"{BASE_URL}/v1/app_x/ai/meetings", "own_address"),
        (f"{BASE_URL}/", "own_address"),
    ],
)
async def test_a_place_that_is_not_public_is_refused(open_stand: OpenStand, url: str, code: str) -> None:
    """Neither a private address nor the host itself becomes a target, unless the operator opens it."""
    stand = await open_stand(egress=EgressSettings())
    error = error_of(await stand.call("PUT", stand.webhook, json={"forward_url": url}))

    assert ("forward_url", code) == (error["details"][0]["path"][0], error["details"][0]["code"])


async def test_the_hosts_own_functions_may_be_told(open_stand: OpenStand) -> None:
    """Also over plain http: the delivery never leaves the host."""
    stand = await open_stand(egress=EgressSettings())
    for path in (f"/v1/{stand.app.id}/fn/hook", "/fn/hook"):
        await put(stand, f"{BASE_URL}{path}")

    assert f"{BASE_URL}/fn/hook" == (await stand.call("GET", stand.webhook)).json()["forward_url"]


async def test_a_name_that_does_not_resolve_yet_is_accepted(stand: Stand) -> None:
    """It fails when something is delivered, and says so there."""
    await put(stand, "https://nowhere.invalid/hook")
    owed = await stand.call("POST", f"{stand.webhook}/test")
    await stand.host.jobs.run_due()
    [delivery] = await deliveries(stand)

    assert (202, "queued") == (owed.status_code, delivery["state"])
    assert [("dns", None)] == [(attempt["outcome"], attempt["status"]) for attempt in delivery["attempts"]]


async def test_a_test_event_arrives_signed(now: Stand, receiver: Receiver) -> None:
    """The answer names the message; the receiver verifies it with the public library; the list tells of it."""
    secret = (await put(now, receiver.url, events=["credits.low"]))["secret"]
    response = await now.call("POST", f"{now.webhook}/test")
    owed = response.json()
    await now.host.jobs.run_due()
    [got] = receiver.got
    [delivery] = await deliveries(now)

    verify(got, secret)
    assert (202, ["id", "event", "state"]) == (response.status_code, list(owed))
    assert (owed["id"], "webhook.test") == (got.headers["webhook-id"], got.headers["x-bb-event"])
    assert (owed["id"], "delivered", None) == (delivery["id"], delivery["state"], delivery["bot_id"])
    assert [(200, "delivered", "thanks", receiver.url)] == [
        (attempt["status"], attempt["outcome"], attempt["answer"], attempt["url"]) for attempt in delivery["attempts"]
    ]


async def test_a_whole_call_is_told_in_order_and_can_be_sent_again(now: Stand, receiver: Receiver) -> None:
    """The four events of a good call, each verified; one of them is sent again under its own id."""
    secret = (await put(now, receiver.url))["secret"]
    bot = (await now.start(metadata={"session_id": "abc123"}))["id"]
    now.provider.records["p1"] = life(now.clock.now_ms() + 1_000)
    await now.work(seconds=100)
    for got in receiver.got:
        verify(got, secret)
    events = [got.headers["x-bb-event"] for got in receiver.got]
    listed = await deliveries(now)

    assert ["bot.in_call_recording", "recording.done", "transcript.done", "bot.done"] == events
    assert set(events) == {delivery["event"] for delivery in listed}
    assert {bot} == {delivery["bot_id"] for delivery in listed}
    for got in receiver.got:
        body = json.loads(got.body)
        assert ["event", "data"] == list(body)
        assert {"id": bot, "metadata": {"session_id": "abc123"}} == body["data"]["bot"]
        assert ["code", "sub_code", "updated_at"] == list(body["data"]["data"])
        assert b"media.example" not in got.body

    first = receiver.got[0].headers["webhook-id"]
    again = await now.call("POST", f"{now.webhook}/deliveries/{first}/resend")
    await now.host.jobs.run_due()

    assert (202, "queued") == (again.status_code, again.json()["state"])
    assert (5, first, receiver.got[0].body) == (
        len(receiver.got),
        receiver.got[4].headers["webhook-id"],
        receiver.got[4].body,
    )
    verify(receiver.got[4], secret)
    resent = next(delivery for delivery in await deliveries(now) if delivery["id"] == first)
    assert ("delivered", 2) == (resent["state"], len(resent["attempts"]))


async def test_after_a_rotation_both_secrets_verify_for_a_day(now: Stand, receiver: Receiver) -> None:
    """A receiver may change over in its own time; after a day the old secret signs nothing."""
    old = (await put(now, receiver.url))["secret"]
    new = (await put(now, receiver.url, rotate_secret=True))["secret"]
    await now.call("POST", f"{now.webhook}/test")
    await now.host.jobs.run_due()
    now.clock.advance(seconds=86_400)
    await now.call("POST", f"{now.webhook}/test")
    await now.host.jobs.run_due()
    both, alone = receiver.got

    verify(both, new)
    Webhook(base64.b64encode(old.encode()).decode()).verify(both.body, both.headers)
    assert (2, 1) == tuple(len(got.headers["webhook-signature"].split()) for got in (both, alone))
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(old.encode()).decode()).verify(alone.body, {**alone.headers, "webhook-timestamp": "1"})


async def test_a_failed_delivery_is_tried_again_and_shown(stand: Stand, receiver: Receiver) -> None:
    """What the receiver said is kept with each attempt, and the endpoint shows that it fails."""
    receiver.statuses = [500, 302]
    await put(stand, receiver.url)
    await stand.call("POST", f"{stand.webhook}/test")
    await stand.host.jobs.run_due()
    failing = (await stand.call("GET", stand.webhook)).json()
    await stand.work(seconds=7)
    stand.clock.advance(seconds=400)
    await stand.host.jobs.run_due()
    [delivery] = await deliveries(stand)

    assert ("failing", "2026-05-28T20:26:40.000Z") == (failing["status"], failing["failing_since"])
    assert ["http_500", "redirect", "delivered"] == [attempt["outcome"] for attempt in delivery["attempts"]]
    assert "active" == (await stand.call("GET", stand.webhook)).json()["status"]


async def test_a_receiver_that_is_gone_ends_it(stand: Stand, receiver: Receiver) -> None:
    """410 disables the endpoint at once; setting it again opens it."""
    receiver.statuses = [410]
    await put(stand, receiver.url)
    await stand.call("POST", f"{stand.webhook}/test")
    await stand.host.jobs.run_due()
    gone = (await stand.call("GET", stand.webhook)).json()
    await put(stand, receiver.url)

    assert "disabled" == gone["status"]
    assert ["dead"] == [delivery["state"] for delivery in await deliveries(stand)]
    assert "active" == (await stand.call("GET", stand.webhook)).json()["status"]


async def test_deliveries_come_in_pages(stand: Stand) -> None:
    """Newest first, each once, however many are added meanwhile."""
    await put(stand, SOMEWHERE)
    made = []
    for _ in range(5):
        stand.clock.advance(ms=3)
        made.append((await stand.call("POST", f"{stand.webhook}/test")).json()["id"])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"&cursor={cursor}" if cursor else ""
        page = (await stand.call("GET", f"{stand.webhook}/deliveries?limit=2{query}")).json()
        seen += [delivery["id"] for delivery in page["deliveries"]]
        cursor = page["nextCursor"]
        stand.clock.advance(ms=3)
        await stand.call("POST", f"{stand.webhook}/test")

    assert made[::-1] == seen


async def test_another_apps_delivery_is_not_there(stand: Stand) -> None:
    """An id of another app, also of the same owner, is as unknown as any other."""
    await put(stand, SOMEWHERE)
    message = (await stand.call("POST", f"{stand.webhook}/test")).json()["id"]
    sister = f"/v1/{stand.sister.id}/ai/meetings/webhook/deliveries"

    for delivery in (message, "msg_nobody"):
        assert (404, "delivery_not_found") == refusal(await stand.call("POST", f"{sister}/{delivery}/resend"))
    assert [] == (await stand.call("GET", sister)).json()["deliveries"]
