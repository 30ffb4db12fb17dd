"""POST /fn/spawn-bot {"meetingUrl": "https://…"}: send a bot, through `ctx.ai`, and remember it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxhost.errors import Refusal
from ctxhost.functions.context import Context

from .body import bad_request, read_spawn


async def handler(request: Request, ctx: Context) -> dict[str, Any] | Response:
    body = await read_spawn(request)
    if body is None:
        return bad_request()

    try:
        bot = await ctx.ai.meetings.start(
            meeting_url=body["meetingUrl"],
            transcript=True,
            recording="mp4",
            bot_name=body.get("botName"),
            metadata=body.get("metadata"),
        )
    except Refusal as refusal:
        return JSONResponse({"error": {"message": refusal.message, "code": refusal.code}}, status_code=502)

    await ctx.db.query(
        "INSERT INTO meetings (bot_id, meeting_url, status, last_event) VALUES ($1, $2, $3, $4)",
        [bot.id, body["meetingUrl"], bot.status, "spawn"],
    )
    return {"bot_id": bot.id, "status": bot.status}
