"""What both spawn functions read from a request."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse


async def read_spawn(request: Request) -> dict[str, Any] | None:
    """The body when it is `{"meetingUrl": text, "botName"?: text, "metadata"?: object}`, or None."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
    well_formed = (
        isinstance(body, dict)
        and isinstance(body.get("meetingUrl"), str)
        and isinstance(body.get("botName", ""), str)
        and isinstance(body.get("metadata", {}), dict)
    )
    return body if well_formed else None


def bad_request() -> JSONResponse:
    wanted = 'send {"meetingUrl": "https://…"}, and if you like "botName" (text) and "metadata" (an object)'
    return JSONResponse({"error": {"message": wanted, "code": "invalid_request"}}, status_code=400)
