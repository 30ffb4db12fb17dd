"""POST /fn/meetings-webhook: check the signature of a forwarded event and keep the meeting's row current."""

import base64
import hashlib
import hmac
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ctxhost.functions.context import Context

STATUS_AFTER = {"bot.in_call_recording": "recording", "bot.done": "done", "bot.fatal": "fatal"}
BRINGS_URLS = {"recording.done", "transcript.done", "bot.done"}


def signature(secret: str, raw_body: bytes) -> bytes:
    mac = hmac.new(secret.encode(), raw_body, hashlib.sha256)
    return b"v1," + base64.b64encode(mac.digest())


async def handler(request: Request, ctx: Context) -> dict[str, Any] | Response:
    raw_body = await request.body()
    given = request.headers.get("x-bb-signature", "").encode()
    event = request.headers.get("x-bb-event", "")
    if not hmac.compare_digest(signature(ctx.env["MEETINGS_WEBHOOK_SECRET"], raw_body), given):
        return PlainTextResponse("invalid signature", status_code=401)

    try:
        payload = json.loads(raw_body)
    except ValueError:
        return PlainTextResponse("not JSON", status_code=400)
    bot_id = bot_of(payload)
    if bot_id is None:
        return PlainTextResponse("ok")

    recording_url = transcript_url = None
    if event in BRINGS_URLS:
        recording_url, transcript_url = await artifact_urls(ctx, bot_id)

    await ctx.db.query(
        """UPDATE meetings
              SET status = COALESCE($2, status), last_event = $3,
                  recording_url = COALESCE($4, recording_url), transcript_url = COALESCE($5, transcript_url),
                  events_count = events_count + 1
            WHERE bot_id = $1""",
        [bot_id, STATUS_AFTER.get(event), event, recording_url, transcript_url],
    )
    return {"ok": True}


def bot_of(payload: Any) -> str | None:
    """The id in `{"data": {"bot": {"id": …}}}`; None for an event about something else."""
    try:
        bot_id = payload["data"]["bot"]["id"]
    except (KeyError, TypeError):
        return None
    return bot_id if isinstance(bot_id, str) else None


async def artifact_urls(ctx: Context, bot_id: str) -> tuple[str | None, str | None]:
    """An event carries no URL: ask for the bot. Both are None when it cannot be had now."""
    answer = await ctx.http.get(
        f"{ctx.env['BUTTERBASE_API_URL']}/v1/{ctx.env['BUTTERBASE_APP_ID']}/ai/meetings/{bot_id}",
        headers={"authorization": f"Bearer {ctx.env['BUTTERBASE_API_KEY']}"},
    )
    if not answer.is_success:
        return None, None
    bot = answer.json()
    return bot.get("recordingUrl"), bot.get("transcriptUrl")
