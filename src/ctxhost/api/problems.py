"""From an exception to the one shape of an error: `{"error": {message, type, code, remediation, …}}`."""

from typing import Any

from starlette.responses import Response

from ctxhost.api.strict_json import dump
from ctxhost.errors import InternalError, InvalidApiKey, MissingCredentials, PayloadTooLarge, Refusal


def json_response(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as compact JSON. Raises `ValueError` for a number that is not finite."""
    return Response(dump(value), status_code=status, headers=headers, media_type="application/json")


def refusal_for(error: Exception) -> Refusal:
    """The refusal that a caller sees: the error itself when it is one, else `InternalError`, which tells nothing."""
    return error if isinstance(error, Refusal) else InternalError("The host failed to answer this request.")


def error_body(refusal: Refusal) -> dict[str, Any]:
    """The body of an error answer."""
    error = {
        "message": refusal.message,
        "type": refusal.type,
        "code": refusal.code,
        "remediation": refusal.remediation,
    }
    return {"error": {**error, **refusal.facts()}}


def problem(refusal: Refusal) -> Response:
    """The response that says this refusal."""
    headers = dict(refusal.headers())
    if isinstance(refusal, PayloadTooLarge):
        headers["connection"] = "close"  # what is left of the body makes the connection useless
    if isinstance(refusal, MissingCredentials | InvalidApiKey):
        headers["www-authenticate"] = "Bearer"
    return json_response(error_body(refusal), status=refusal.status, headers=headers)
