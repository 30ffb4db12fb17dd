"""HTTP calls as observers and traces see them: what answered, for which app, how it went."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from starlette.types import Scope

from ctxhost.logs import carried
from ctxhost.observe.records import CallRecord
from ctxhost.observe.watch import Watch

OPERATION: Final = "operation"
ROUTE: Final = "route"
"""Where a request's state says what answers it."""

_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_TRACE_HEADERS: Final = (b"traceparent", b"tracestate")


class Answered(Protocol):
    """How far the answer has come."""

    status: int
    """0: not begun."""
    code: str
    """Of the error that it tells."""


@contextmanager
def watched_call(watch: Watch, scope: Scope, answered: Answered) -> Iterator[None]:
    """Watch a call from its first byte to its last. It must run where the call's log lines carry its facts."""
    if not watch.is_on:
        yield
        return
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"

    def record(*, outcome: str, took_s: float) -> CallRecord:  # how it went is in the status and the code
        return _record(scope, answered, method=method, took_s=took_s)

    told = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
    headers = _trace_headers(scope)
    with watch.during(method, "", record, kind="server", attributes=told, came_with=headers) as seen:
        yield
        seen.outcome = answered.code or str(answered.status)
        seen.is_failure = answered.status >= 500


def _record(scope: Scope, answered: Answered, *, method: str, took_s: float) -> CallRecord:
    facts, state = carried(), scope["state"]
    return CallRecord(
        operation=state.get(OPERATION, ""),
        route=state.get(ROUTE, ""),
        function=facts.get("function", ""),
        app=facts.get("app", ""),
        method=method,
        status=answered.status,
        code=answered.code,
        took_s=took_s,
        request_id=facts.get("request_id", ""),
    )


def _trace_headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS}
