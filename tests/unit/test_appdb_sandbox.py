"""The sandbox's functions, against a real database of either engine and a hand-written platform."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.appdbs import ENGINES, app_names, open_apps

from ctxhost.clock import ManualClock
from ctxhost.errors import InsufficientCredits
from ctxhost.functions.appdb import AppDatabase
from ctxhost.functions.loader import Handler, load_handler
from ctxhost.functions.schema import load_schema

SANDBOX = Path(__file__).parents[2] / "sandbox"
SECRET = "wsec_test"
URL = "https://zoom.us/j/1"
ENV = {
    "BUTTERBASE_API_URL": "http://platform.test",
    "BUTTERBASE_APP_ID": "app_1",
    "BUTTERBASE_API_KEY": "bb_sk_1",
    "MEETINGS_WEBHOOK_SECRET": SECRET,
}


@dataclass
class Platform:
    """What the functions call: remembers each call, and answers with what a test put in."""

    started: list[dict[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    answer: httpx.Response = field(default_factory=lambda: httpx.Response(200, json={"id": "b1", "status": "joining"}))
    refusal: Exception | None = None

    async def start(self, **asked: Any) -> SimpleNamespace:
        if self.refusal is not None:
            raise self.refusal
        self.started.append(asked)
        return SimpleNamespace(id="b1", status="joining")

    def http(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer


@dataclass
class Ctx:
    db: AppDatabase
    ai: Any
    http: httpx.AsyncClient
    env: Mapping[str, str]


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture(params=ENGINES)
async def ctx(request: pytest.FixtureRequest, tmp_path: Path, platform: Platform) -> AsyncIterator[Ctx]:
    with app_names() as (name,):
        async with open_apps(request.param, tmp_path, ManualClock()) as databases:
            db = databases.open(name)
            await db.apply_schema(load_schema(SANDBOX / "schema.json"))
            async with httpx.AsyncClient(transport=httpx.MockTransport(platform.http)) as client:
                yield Ctx(db, SimpleNamespace(meetings=platform), client, ENV)


def function(name: str) -> Handler:
    return load_handler(SANDBOX / f"functions/{name}.py", name)


def request(body: bytes, **headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def spawn(**fields: Any) -> Request:
    return request(json.dumps({"meetingUrl": URL, **fields}).encode())


def event(name: str, *, secret: str = SECRET, body: bytes = b'{"data": {"bot": {"id": "b1"}}}') -> Request:
    mac = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return request(body, x_bb_event=name, x_bb_signature=f"v1,{mac}")


async def only_row(ctx: Ctx) -> dict[str, Any]:
    (row,) = (await ctx.db.query("SELECT * FROM meetings")).rows
    return row


@pytest.mark.parametrize("name", ["spawn_bot", "spawn_bot_http"])
async def test_a_spawn_answers_and_is_remembered(ctx: Ctx, name: str) -> None:
    """Both forms give the bot's id and status and write the same row."""
    answer = await function(name)(spawn(), ctx)

    assert {"bot_id": "b1", "status": "joining"} == answer
    row = await only_row(ctx)
    assert ("b1", URL, "joining", "spawn", 0, None) == tuple(
        row[key] for key in ("bot_id", "meeting_url", "status", "last_event", "events_count", "recording_url")
    )


async def test_what_a_spawn_asks_of_the_platform(ctx: Ctx, platform: Platform) -> None:
    """Name and metadata go along when they came, and only then."""
    extras = {"botName": "Ann", "metadata": {"fake_script": "fatal"}}
    for name in ("spawn_bot", "spawn_bot_http"):
        await function(name)(spawn(**extras), ctx)
        await ctx.db.query("DELETE FROM meetings")
    await function("spawn_bot")(spawn(), ctx)

    plain = {"meeting_url": URL, "transcript": True, "recording": "mp4", "bot_name": None, "metadata": None}
    assert [{**plain, "bot_name": "Ann", "metadata": extras["metadata"]}, plain] == platform.started
    (sent,) = platform.requests
    assert "http://platform.test/v1/app_1/ai/meetings" == str(sent.url)
    assert "Bearer bb_sk_1" == sent.headers["authorization"]
    assert {"meetingUrl": URL, "transcript": True, "recording": "mp4", **extras} == json.loads(sent.content)


@pytest.mark.parametrize("name", ["spawn_bot", "spawn_bot_http"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b"{}", b'{"meetingUrl": 3}', b'{"meetingUrl": "u", "metadata": "m"}', b"[" * 100_000],
)
async def test_a_spawn_without_a_url_is_the_callers_mistake(ctx: Ctx, name: str, body: bytes) -> None:
    """Malformed JSON and a missing field are 400, and nothing is written."""
    answer = await function(name)(request(body), ctx)

    assert isinstance(answer, Response)
    assert 400 == answer.status_code
    assert 0 == (await ctx.db.query("SELECT * FROM meetings")).row_count


@pytest.mark.parametrize("name", ["spawn_bot", "spawn_bot_http"])
async def test_a_refused_spawn_is_passed_on(ctx: Ctx, platform: Platform, name: str) -> None:
    """The caller hears 502 with the platform's reason."""
    platform.refusal = InsufficientCredits(required_nano_usd=65_000_000, available_nano_usd=0)
    platform.answer = httpx.Response(402, json={"error": {"code": "insufficient_credits"}})

    answer = await function(name)(spawn(), ctx)

    assert isinstance(answer, Response)
    assert 502 == answer.status_code
    assert "insufficient_credits" == json.loads(bytes(answer.body))["error"]["code"]


async def test_events_keep_the_row_current(ctx: Ctx, platform: Platform) -> None:
    """Each event is counted; the status moves with the events that move it; URLs stay once they are known."""
    webhook = function("meetings_webhook")
    await function("spawn_bot")(spawn(), ctx)
    platform.answer = httpx.Response(200, json={"recordingUrl": "http://r", "transcriptUrl": None})

    assert {"ok": True} == await webhook(event("bot.in_call_recording"), ctx)
    assert ("recording", None) == ((row := await only_row(ctx))["status"], row["recording_url"])
    await webhook(event("recording.done"), ctx)
    platform.answer = httpx.Response(503, json={})
    await webhook(event("transcript.done"), ctx)
    platform.answer = httpx.Response(200, json={"recordingUrl": "http://r2", "transcriptUrl": "http://t"})
    await webhook(event("bot.done"), ctx)

    row = await only_row(ctx)
    assert ("done", "bot.done", 4, "http://r2", "http://t") == tuple(
        row[key] for key in ("status", "last_event", "events_count", "recording_url", "transcript_url")
    )
    assert "http://platform.test/v1/app_1/ai/meetings/b1" == str(platform.requests[-1].url)


@pytest.mark.parametrize(
    ("incoming", "status"),
    [
        pytest.param(event("bot.done", secret="wsec_other"), 401, id="other-secret"),
        pytest.param(request(b"{}", x_bb_event="bot.done"), 401, id="unsigned"),
        pytest.param(request(b"{}", x_bb_signature="v1,\xe9"), 401, id="not-ascii"),
        pytest.param(event("bot.done", body=b"{"), 400, id="not-json"),
        pytest.param(event("credits.low", body=b'{"data": {}}'), 200, id="about-no-bot"),
        pytest.param(event("credits.low", body=b"[1]"), 200, id="a-list"),
    ],
)
async def test_a_delivery_that_changes_nothing(ctx: Ctx, platform: Platform, incoming: Request, status: int) -> None:
    """A forged, broken or foreign event is answered as such; no row moves and the platform is not called."""
    await function("spawn_bot")(spawn(), ctx)
    before = await only_row(ctx)

    answer = await function("meetings_webhook")(incoming, ctx)

    assert isinstance(answer, Response)
    assert (status, before, []) == (answer.status_code, await only_row(ctx), platform.requests)


async def test_the_rows_can_be_read(ctx: Ctx) -> None:
    """The read function lists what was written."""
    assert [] == await function("meetings")(request(b""), ctx)
    await function("spawn_bot")(spawn(), ctx)

    assert [await only_row(ctx)] == await function("meetings")(request(b""), ctx)
