"""`ctx` end to end: an app folder with the documented schema, called over HTTP, that calls back."""

import textwrap
from pathlib import Path

import anyio
import pytest
from starlette.requests import Request
from tests.api.scripted import life
from tests.api.stand import Stand, refusal

from ctxhost.errors import BotNotFound, InvalidRequest, ProviderUnavailable
from ctxhost.functions.context import Context

MANIFEST = """
[app]
name = "meeting-notes"
[env]
GREETING = "hi"
BUTTERBASE_API_KEY = "from the manifest"
[functions.spawn-bot]
[functions.meetings-webhook.trigger]
type = "http"
[functions.meetings-webhook.trigger.config]
method = "POST"
path = "/meetings-webhook"
auth = "none"
[functions.notes.trigger]
type = "http"
[functions.notes.trigger.config]
method = "GET"
path = "/notes"
"""
SCHEMA = """
{ "tables": { "meetings": { "columns": {
  "id": { "type": "uuid", "primaryKey": true, "default": "gen_random_uuid()" },
  "bot_id": { "type": "text", "nullable": false, "unique": true },
  "meeting_url": { "type": "text", "nullable": false },
  "status": { "type": "text", "nullable": false, "default": "'pending'" },
  "last_event": { "type": "text" },
  "events_count": { "type": "integer", "nullable": false, "default": "0" },
  "recording_url": { "type": "text" },
  "transcript_url": { "type": "text" },
  "created_at": { "type": "timestamptz", "nullable": false, "default": "now()" }
}, "indexes": { "meetings_bot_id_idx": { "columns": ["bot_id"], "unique": true } } } } }
"""
SPAWN = """
    async def handler(request, ctx):
        asked = await request.json()
        bot = await ctx.ai.meetings.start(asked["meetingUrl"], metadata={"greeting": ctx.env["GREETING"]})
        await ctx.db.query(
            "INSERT INTO meetings (bot_id, meeting_url, status, last_event) VALUES ($1, $2, $3, $4)",
            [bot.id, asked["meetingUrl"], bot.status, "spawn"],
        )
        base, app = ctx.env["BUTTERBASE_API_URL"], ctx.env["BUTTERBASE_APP_ID"]
        seen = await ctx.http.get(
            f"{base}/v1/{app}/ai/meetings/{bot.id}",
            headers={"authorization": f"Bearer {ctx.env['BUTTERBASE_API_KEY']}"},
        )

        async def later():
            await ctx.db.query("UPDATE meetings SET last_event = $2 WHERE bot_id = $1", [bot.id, "later"])

        ctx.wait_until(later())
        return {"bot_id": bot.id, "status": bot.status, "seen": seen.status_code, "same": seen.json()["id"] == bot.id}
"""
WEBHOOK = """
    import base64
    import hashlib
    import hmac
    import json

    from starlette.responses import Response

    async def handler(request, ctx):
        body = await request.body()
        mac = hmac.digest(ctx.env["MEETINGS_WEBHOOK_SECRET"].encode(), body, hashlib.sha256)
        expected = f"v1,{base64.b64encode(mac).decode()}"
        if not hmac.compare_digest(expected, request.headers.get("x-bb-signature", "")):
            return Response("invalid signature", 401)
        event, bot_id = request.headers["x-bb-event"], json.loads(body)["data"]["bot"]["id"]
        bot = await ctx.ai.meetings.get(bot_id)
        await ctx.db.query(
            "UPDATE meetings SET status = COALESCE($2, status), last_event = $3,"
            " recording_url = COALESCE($4, recording_url), transcript_url = COALESCE($5, transcript_url),"
            " events_count = events_count + 1 WHERE bot_id = $1",
            [bot_id, bot.status, event, bot.recording_url, bot.transcript_url],
        )
        return {"ok": True}
"""
NOTES = """
    async def handler(request, ctx):
        found = await ctx.db.query("SELECT * FROM meetings ORDER BY created_at")
        return {"rows": found.rows, "row_count": found.row_count, "caller": ctx.caller.key_name}
"""


@pytest.fixture
async def app(stand: Stand, tmp_path: Path) -> Stand:
    """The stand, its app served from a folder."""
    folder = tmp_path / "app"
    (folder / "functions").mkdir(parents=True)
    (folder / "ctxhost.toml").write_text(MANIFEST)
    (folder / "schema.json").write_text(SCHEMA)
    for name, source in (("spawn_bot", SPAWN), ("meetings_webhook", WEBHOOK), ("notes", NOTES)):
        (folder / "functions" / f"{name}.py").write_text(textwrap.dedent(source))
    await stand.host.tenants.set_env(stand.app, "BUTTERBASE_API_KEY", stand.key)
    await stand.host.deploy(await stand.host.tenants.set_folder(stand.app, folder))
    return stand


async def test_a_handler_spawns_stores_calls_back_and_works_on(app: Stand) -> None:
    """Database, meetings, the host's own API over HTTP and work after the answer, in one call without credentials."""
    response = await app.client.post(
        "/fn/spawn-bot", json={"meetingUrl": "https://zoom.us/j/1"}, headers={"host": "notes.host.test"}
    )
    bot = (await app.call("GET", app.bots)).json()["bots"][0]
    notes = f"/v1/{app.app.id}/fn/notes"
    with anyio.fail_after(5):
        while (found := (await app.call("GET", notes)).json())["rows"][0]["last_event"] != "later":
            await anyio.lowlevel.checkpoint()

    assert {"bot_id": bot["id"], "status": "joining", "seen": 200, "same": True} == response.json()
    assert {"greeting": "hi"} == bot["metadata"]
    assert ("main", 1) == (found["caller"], found["row_count"])
    assert {
        "bot_id": bot["id"],
        "meeting_url": "https://zoom.us/j/1",
        "status": "joining",
        "events_count": 0,
    }.items() <= (found["rows"][0].items())
    assert (401, "missing_credentials") == refusal(await app.client.get(notes))


async def test_the_apps_own_function_receives_its_events(app: Stand) -> None:
    """Delivered inside the host, verified by the handler, which asks for the bot from inside the delivery."""
    url = f"{app.host.base_url}/v1/{app.app.id}/fn/meetings-webhook"
    secret = (await app.call("PUT", app.webhook, json={"forward_url": url})).json()["secret"]
    await app.host.tenants.set_env(app.app, "MEETINGS_WEBHOOK_SECRET", secret, function="meetings-webhook")
    spawned = await app.client.post(f"/v1/{app.app.id}/fn/spawn-bot", json={"meetingUrl": "https://zoom.us/j/1"})
    app.provider.records["p1"] = life(app.clock.now_ms() + 1_000)
    await app.work(seconds=70)
    [row] = (await app.call("GET", f"/v1/{app.app.id}/fn/notes")).json()["rows"]
    sent = (await app.call("GET", f"{app.webhook}/deliveries")).json()["deliveries"]
    forged = await app.client.post(url, content=b"{}", headers={"x-bb-signature": "v1,x", "x-bb-event": "bot.done"})

    assert ["delivered"] * 4 == [delivery["state"] for delivery in sent]
    assert {
        "bot_id": spawned.json()["bot_id"],
        "status": "done",
        "last_event": "bot.done",
        "events_count": 4,
        "recording_url": "https://media.example/recording.mp4",
        "transcript_url": "https://media.example/transcript.json",
    }.items() <= row.items()
    assert (401, "invalid signature") == (forged.status_code, forged.text)


async def test_a_ctx_outside_any_handler_is_the_same(app: Stand) -> None:
    """Refused alike, spelt in Python; bots of other apps are not there."""
    ctx: Context
    async with await app.host.context(app.app.id) as ctx:
        bot = await ctx.ai.meetings.start("https://zoom.us/j/1", recording=False, join_at="1999-01-01T00:00:00Z")
        with pytest.raises(InvalidRequest):
            await ctx.ai.meetings.start("https://example.com/")
        with pytest.raises(InvalidRequest):
            await ctx.ai.meetings.start("https://zoom.us/j/1", idempotency_key="")
        assert bot == await ctx.ai.meetings.get(bot.id)
        assert [bot] == list((await ctx.ai.meetings.list()).bots)
        assert "0.39" == str((await ctx.ai.meetings.estimate(30)).normalize())
        assert (None, None) == (ctx.caller, ctx.request)
    async with await app.host.context(app.sister.id) as other:
        with pytest.raises(BotNotFound):
            await other.ai.meetings.stop(bot.id)


async def test_a_function_can_be_called_by_its_name(app: Stand) -> None:
    """By the embedding program, whatever the trigger says."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b'{"meetingUrl": "https://zoom.us/j/1"}', "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "server": ("x", 80)}
    response = await app.host.invoke(app.app.id, "spawn-bot", Request(scope, receive))

    assert b'"status":"joining"' in bytes(response.body)


async def test_without_a_provider_ctx_says_so(bare: Stand) -> None:
    """Every call of `ctx.ai.meetings` raises the one error."""
    meetings = (await bare.host.context(bare.app.id)).ai.meetings
    for call in (
        meetings.start("https://zoom.us/j/1"),
        meetings.get("x"),
        meetings.list(),
        meetings.stop("x"),
        meetings.estimate(30),
    ):
        with pytest.raises(ProviderUnavailable):
            await call
