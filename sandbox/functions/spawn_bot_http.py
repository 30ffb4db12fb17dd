"""POST /fn/spawn-bot-http {"meetingUrl": "https://…"}: send a bot, over the HTTP API, and remember it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxhost.functions.context import Context

from .body import bad_request, read_spawn

OPTIONS = ("botName", "metadata")
"""Fields of the request that are passed on when they are there."""


async def handler(request: Request, ctx: Context) -> dict[str, Any] | Response:
    body = await read_spawn(request)
    if body is None:
        return bad_request()

    options = {field: body[field] for field in OPTIONS if field in body}
    answer = await ctx.http.post(
        f"{ctx.env['BUTTERBASE_API_URL']}/v1/{ctx.env['BUTTERBASE_APP_ID']}/ai/meetings",
        headers={"authorization": f"Bearer {ctx.env['BUTTERBASE_API_KEY']}"},
        json={"meetingUrl": body["meetingUrl"], "transcript": True, "recording": "mp4", **options},
    )
    bot = answer.json()
    if not answer.is_success:
        return JSONResponse(bot, status_code=502)

    await ctx.db.query(
        "INSERT INTO meetings (bot_id, meeting_url, status, last_event) VALUES ($1, $2, $3, $4)",
        [bot["id"], body["meetingUrl"], bot["status"], "spawn"],
    )
    return {"bot_id": bot["id"], "status": bot["status"]}
