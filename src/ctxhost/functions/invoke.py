"""Running one handler for one request: its ctx, its time, and an answer whatever it does."""

import json
import logging
from collections.abc import Awaitable

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ctxhost.errors import HandlerFailed, HandlerTimeout, Overloaded
from ctxhost.functions.context import Context
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.registry import Function

log = logging.getLogger("ctxhost.functions")


async def invoke(function: Function, request: Request, ctx: Context) -> Response:
    """Call the handler and make a response of what it returns.

    Raises:
        HandlerFailed: it raised, or returned what is not a response; the traceback is in the log.
        Overloaded: it let pass that the host, or its own database, cannot serve it now.
        HandlerTimeout: it did not answer in time.
    """
    try:
        with anyio.move_on_after(function.timeout_s) as scope:
            result = await _guarded(function, function.handler(request, ctx))
        if scope.cancelled_caught:
            log.error("%s did not answer within %s s", function, function.timeout_s)
            raise HandlerTimeout(f"The function {function.name} did not answer within {function.timeout_s} seconds.")
        return _response(function, result)
    finally:
        with anyio.CancelScope(shield=True):
            await ctx.aclose()


async def _guarded(function: Function, answer: Awaitable[object]) -> object:
    try:
        return await answer
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, Overloaded):
            raise
        if isinstance(error, QueryError) and error.code == "unavailable":
            log.warning("%s could not go on: %s", function, error)
            raise Overloaded(f"The database of the function {function.name} cannot be reached now.") from error
        log.exception("%s failed", function)
        raise HandlerFailed(f"The function {function.name} failed.") from error


def _response(function: Function, result: object) -> Response:
    if isinstance(result, Response):
        return _checked(function, result)
    if isinstance(result, str):
        return PlainTextResponse(result)
    if isinstance(result, dict | list):
        try:
            text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError) as error:
            log.exception("%s returned what is not JSON", function)
            raise HandlerFailed(f"The function {function.name} returned what is not JSON.") from error
        return Response(text, media_type="application/json")
    log.error("%s returned %s instead of a Response, a dict, a list or a str", function, type(result).__name__)
    raise HandlerFailed(f"The function {function.name} returned no response.")


def _checked(function: Function, response: Response) -> Response:
    """A header with a line break would let a handler's input write headers of its own."""
    if any(byte in name + value for name, value in response.raw_headers for byte in (b"\r", b"\n", b"\x00")):
        log.error("%s returned an invalid header", function)
        raise HandlerFailed(f"The function {function.name} returned an invalid header.")
    return response
