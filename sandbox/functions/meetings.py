"""GET /fn/meetings: the newest meetings, with the app owner's service key."""

from typing import Any

from starlette.requests import Request

from ctxhost.functions.context import Context


async def handler(request: Request, ctx: Context) -> list[dict[str, Any]]:
    result = await ctx.db.query("SELECT * FROM meetings ORDER BY created_at DESC, id LIMIT $1", [100])
    return result.rows
