"""The outermost layer: names every response, turns every exception into an answer, refuses paths nobody means."""

import logging
import re
from typing import Final

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctxhost.api.problems import problem, refusal_for
from ctxhost.api.watched import watched_call
from ctxhost.errors import NotFound, PayloadTooLarge, Refusal
from ctxhost.ids import new_id
from ctxhost.logs import carrying
from ctxhost.observe import Watch

log = logging.getLogger(__name__)
access = logging.getLogger("ctxhost.access")
"""A line per call, once its level is INFO; a program with a server of its own has such lines already."""
access.setLevel(logging.WARNING)

LINGER_BYTES: Final = 32 * 1024 * 1024
LINGER_S: Final = 5
"""How long a sender of too much is listened to after the answer; nothing of it is kept."""

_REQUEST_ID: Final = b"x-request-id"
_PROBES: Final = ("/health/", "/metrics")
_PATH_CHARS: Final = 200
# Control characters, and what stands where a percent-escape was not UTF-8.
_ABSURD: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\N{REPLACEMENT CHARACTER}]")


class Edge:
    """An ASGI app around another: `x-request-id` on every response, our shape for every failure.

    The id is always our own, never the caller's; a handler finds it as `request.state.request_id`, and every line that
    is logged while the request is handled carries it.
    """

    def __init__(self, app: ASGIApp, watch: Watch | None = None) -> None:
        self._app = app
        self._watch = watch or Watch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        exchange = _Exchange(receive, send, request_id)
        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        with carrying(request_id=request_id, app="", function=""):  # a call from within a handler is one of its own
            started_s = anyio.current_time()
            try:
                with watched_call(self._watch, scope, exchange):
                    await self._answer(scope, exchange)
            finally:
                _log_call(scope, exchange, took_ms=round((anyio.current_time() - started_s) * 1_000))

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        request_id = scope["state"]["request_id"]
        try:
            if _ABSURD.search(scope["path"]):
                raise NotFound("This path has characters that no path here has.")
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            log.debug("the client of %s went away", request_id)
        except Exception as error:
            if not isinstance(error, Refusal):
                log.exception("%s %s failed (request %s)", scope["method"], scope["path"], request_id)
            refusal = refusal_for(error)
            exchange.code = refusal.code
            if exchange.started:
                raise  # half an answer is out: only the server can break the connection off
            await _refuse(refusal, scope, exchange)


class _Exchange:
    """The two channels of one request; remembers how far each has come."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self._request_id = request_id.encode()
        self.started = False
        self.status = 0
        self.code = ""
        self.body_ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            kept = [header for header in message.get("headers", ()) if header[0].lower() != _REQUEST_ID]
            message = {**message, "headers": [*kept, (_REQUEST_ID, self._request_id)]}
        await self._send(message)


def _log_call(scope: Scope, exchange: _Exchange, *, took_ms: int) -> None:
    """A line of who was asked for what and how it ended; never the query. Probes that end well make no line."""
    route = getattr(scope.get("endpoint"), "path", "") or scope["path"][:_PATH_CHARS]
    if not access.isEnabledFor(logging.INFO) or (exchange.status == 200 and route.startswith(_PROBES)):
        return
    facts = {"method": scope["method"], "route": route, "status": exchange.status, "took_ms": took_ms}
    access.info("%s %s %s, %s ms", *facts.values(), extra=facts)


async def _refuse(refusal: Refusal, scope: Scope, exchange: _Exchange) -> None:
    waits_to_send = any(name == b"expect" for name, _ in scope["headers"])
    if not isinstance(refusal, PayloadTooLarge) or waits_to_send:
        await problem(refusal)(scope, exchange.receive, exchange.send)
        return

    async def send_and_stay(message: Message) -> None:
        await exchange.send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    await problem(refusal)(scope, exchange.receive, send_and_stay)
    await _let_the_sender_finish(exchange)
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _let_the_sender_finish(exchange: _Exchange) -> None:
    """Drop what still comes, within bounds: closing on unread bytes resets the connection, and the answer is lost."""
    left = LINGER_BYTES
    with anyio.move_on_after(LINGER_S):
        while left > 0 and not exchange.body_ended:
            left -= max(1, len((await exchange.receive()).get("body", b"")))
