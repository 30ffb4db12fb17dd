"""Webhooks: only Recall's own are taken, and nothing that comes can do worse than be refused."""

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import svix

from ctxhost.meetings.provider import BadWebhook, UnreadableWebhook
from ctxhost.webhooks.signing import decode_secret
from ctxhost_recall.emulator import Event, signed_headers
from ctxhost_recall.webhooks import KINDS, read_event

Fixture = Callable[[str], Any]

NOW_MS = 1_793_634_073_000
SECRET = "whsec_uVjstrRSKq+hmqhhKSFEt979xzBqccxU"
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes, yes.").decode()
BOT = "7c1e0a52-4b0f-4c3e-9f0a-2d6a51b8e001"


def signed(body: Any, *, secrets: tuple[str, ...] = (SECRET,), family: Any = "webhook", now_ms: int = NOW_MS) -> Any:
    """Headers and bytes as Recall would send them."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return signed_headers(Event("msg_1", now_ms, "", content), secrets=secrets, now_ms=now_ms, family=family), content


def read(headers: Any, body: bytes, *secrets: str, now_ms: int = NOW_MS) -> Any:
    return read_event(headers, body, keys=[decode_secret(s) for s in secrets or (SECRET,)], now_ms=now_ms)


@pytest.mark.parametrize("family", ["current_headers", "legacy_headers"])
def test_the_published_vector(fixture: Fixture, family: str) -> None:
    """The values of both header families are taken as they are."""
    vector = fixture("15")

    event = read(vector[family], vector["raw_body"].encode())

    assert ("msg_2fixture000000000000000001", "bot.done", BOT) == (event.id, event.kind, event.provider_id)


def test_the_vector_of_a_rotation(fixture: Fixture) -> None:
    """One right signature among several is enough."""
    vector = fixture("15")
    headers = {**vector["current_headers"], "webhook-signature": vector["rotation_header"]}

    assert "bot.done" == read(headers, vector["raw_body"].encode()).kind


def test_the_vector_is_what_the_emulator_signs(fixture: Fixture) -> None:
    """The emulator's signatures are Recall's, not merely ours."""
    vector = fixture("15")
    event = Event(vector["id"], 0, "bot.done", vector["raw_body"].encode())

    for family, name in (("webhook", "current_headers"), ("svix", "legacy_headers")):
        headers = signed_headers(event, secrets=[SECRET], now_ms=NOW_MS, family=family)  # type: ignore[arg-type]
        assert {"content-type": "application/json", **vector[name]} == headers


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
def test_the_official_packages_sign_and_we_verify(library: Any) -> None:
    """What Standard Webhooks and Svix sign is taken."""
    body = json.dumps({"event": "bot.done", "data": {"bot": {"id": BOT}}})
    at = datetime.fromtimestamp(NOW_MS / 1_000, UTC)
    headers = {
        "webhook-id": "msg_x",
        "webhook-timestamp": str(NOW_MS // 1_000),
        "webhook-signature": library(SECRET).sign("msg_x", at, body),
    }

    assert BOT == read(headers, body.encode()).provider_id


@pytest.mark.parametrize(
    ("library", "family"), [(standardwebhooks.Webhook, "webhook"), (svix.Webhook, "webhook"), (svix.Webhook, "svix")]
)
def test_the_emulator_signs_and_the_official_packages_verify(library: Any, family: str) -> None:
    """What the emulator signs is taken by the packages that Recall's users verify with."""
    now_ms = int(datetime.now(UTC).timestamp() * 1_000)
    headers, content = signed({"event": "bot.done"}, secrets=(OTHER, SECRET), family=family, now_ms=now_ms)

    library(SECRET).verify(content, headers)
    with pytest.raises((standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError)):
        library(SECRET).verify(content + b" ", headers)


def test_several_secrets() -> None:
    """Each of them counts: the workspace's and every endpoint's own."""
    headers, content = signed({"event": "bot.done"}, secrets=(OTHER,))

    assert "bot.done" == read(headers, content, SECRET, OTHER).kind
    with pytest.raises(BadWebhook):
        read(headers, content, SECRET)


async def test_without_a_secret_nothing_is_taken(stand: Any) -> None:
    """An operator who has set none gets no webhooks; never unsigned ones."""
    provider = stand.open(webhook_secret=None)
    headers, content = signed({"event": "bot.done"}, secrets=(stand.emulator.webhook_secret,))

    none: dict[str, str] = {}
    for given in (headers, none):
        with pytest.raises(BadWebhook):
            provider.verify(given, content, now_ms=NOW_MS)


@pytest.mark.parametrize("skew_ms", [-301_000, 301_000])
def test_a_stale_webhook_is_not_taken(skew_ms: int) -> None:
    """Five minutes, both ways."""
    headers, content = signed({"event": "bot.done"}, now_ms=NOW_MS + skew_ms)

    with pytest.raises(BadWebhook):
        read(headers, content)


@pytest.mark.parametrize("number", ["05", "06", "07", "08", "09"])
def test_every_published_webhook_is_known(fixture: Fixture, number: str) -> None:
    """Every kind in the documents says which bot to look at, also the legacy ones."""
    for body in fixture(number):
        event = read(*signed(body))
        assert event.kind in KINDS
        assert event.provider_id in (BOT, "9a0b1c2d-3e4f-4a5b-8c6d-7e8f9a0b1009")


def test_the_catalogue_is_complete() -> None:
    """The 57 kinds of the published catalogue, and the later ones."""
    assert 57 <= len(KINDS)
    assert {"bot.fatal", "recording.deleted", "meeting_metadata.failed", "slack.huddle_state", "bot.log"} <= KINDS


def test_our_bot_is_named_by_the_metadata() -> None:
    """A bot whose making was not answered is found by what we wrote into its metadata."""
    ours = "5f9c2a54-0000-4000-8000-000000000001"
    event = read(*signed({"event": "bot.joining_call", "data": {"bot": {"id": BOT, "metadata": {"bb_bot_id": ours}}}}))

    assert (BOT, ours) == (event.provider_id, event.bot)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"event": "bot.danced", "data": {"bot": {"id": BOT}}}, id="unknown-kind"),
        pytest.param({"event": "recording.done", "data": {"bot": None}}, id="no-bot"),
        pytest.param({"event": "bot.done", "data": [BOT]}, id="data-is-a-list"),
        pytest.param({"event": "bot.done", "data": {"bot": {"id": "\ud800"}}}, id="surrogate"),
        pytest.param({"event": "bot.done", "data": {"bot": {"id": "a/b"}}}, id="path"),
        pytest.param({"event": "bot.done", "data": {"bot": {"id": "x" * 65}}}, id="long"),
        pytest.param({"event": "bot.done", "data": {"bot": {"metadata": {"bb_bot_id": ["x"]}}}}, id="list"),
    ],
)
def test_an_event_about_nothing_of_ours(body: Any) -> None:
    """It is taken, and points at no bot."""
    event = read(*signed(body))

    assert (body["event"], "", "") == (event.kind, event.provider_id, event.bot)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="broken"),
        pytest.param(b"[" * 200_000, id="deep"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"event": 7}', id="no-kind"),
        pytest.param(b'{"event": "\\ud800"}', id="surrogate"),
        pytest.param(b'{"event": "a\\u0000b"}', id="nul"),
        pytest.param(json.dumps({"event": "x" * 101}).encode(), id="long-kind"),
        pytest.param(b"9" * 5_000, id="huge-number"),
    ],
)
def test_signed_nonsense_is_unreadable(content: bytes) -> None:
    """Correctly signed, but not an event."""
    with pytest.raises(UnreadableWebhook):
        read(*signed(content))


def _mutated(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    junk = chance.choice(["", "\x00", "\ud800", ",", " ", "é", "v1,", "0", "9" * 20, "A", "=", '"', "{", "[", "null"])
    return text[:at] + junk + text[at + chance.randrange(4) :]


def test_a_hundred_thousand_mutations(fixture: Fixture) -> None:
    """Whatever is changed in a header or the body, the webhook is refused; nothing else ever happens.

    In every fourth the changed body is signed anew, as by a Recall that has lost its mind.
    """
    vector, chance, keys = fixture("15"), random.Random(15), [decode_secret(SECRET)]
    right, refused, taken = vector["current_headers"], 0, 0
    for n in range(100_000):
        headers, body = dict(right), vector["raw_body"]
        name = chance.choice([*right, "body", "body"])
        if name == "body" or n % 4 == 0:
            body = _mutated(chance, body)
        else:
            headers[name] = _mutated(chance, headers[name])
        content = body.encode("utf-8", "surrogatepass")
        if n % 4 == 0:
            headers = signed(content)[0]
        elif (headers, body) == (right, vector["raw_body"]):
            continue
        try:
            event = read_event(headers, content, keys=keys, now_ms=NOW_MS)
        except (BadWebhook, UnreadableWebhook):
            refused += 1
        else:
            taken += 1
            assert n % 4 == 0 or (
                body == vector["raw_body"] and right["webhook-signature"] in headers["webhook-signature"]
            )
            assert (event.kind + event.provider_id + event.bot).isprintable()
    assert 70_000 < refused
    assert 5_000 < taken
