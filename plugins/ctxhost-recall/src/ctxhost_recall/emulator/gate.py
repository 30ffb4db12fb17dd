"""What every call passes: the key, the firewall, the rates, the Idempotency-Key, and the fault that is due."""

from collections import deque
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ctxhost.clock import Clock
from ctxhost_recall.emulator.asked import Answer, Asked, Place, refusal, response
from ctxhost_recall.emulator.checks import BadFields
from ctxhost_recall.emulator.faults import Fault, Faults
from ctxhost_recall.emulator.world import Refused, Unknown
from ctxhost_recall.limits import PER_MINUTE, WINDOW_MS

KEY_KEPT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Kept:
    at_ms: int
    answer: Answer


class Gate:
    """Lets calls through, or answers them itself."""

    def __init__(self, clock: Clock, faults: Faults, *, api_key: str) -> None:
        self.enforces_rates = True
        self._clock = clock
        self._faults = faults
        self._api_key = api_key
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._in_flight: set[tuple[str, str]] = set()
        self._calls: dict[str, deque[int]] = {}

    async def answer(self, asked: Asked, place: Place) -> Response:
        """The answer to a call, carried out or not."""
        early = self._turned_away(asked, place.scope)
        if early is not None:
            return early
        key = (asked.request.headers.get("idempotency-key", ""), asked.request.url.path)
        if not key[0]:
            return await self._carry_out(asked, place, key)
        kept = self._kept.get(key)
        if kept is not None and self._clock.now_ms() < kept.at_ms + KEY_KEPT_MS:
            return JSONResponse(kept.answer[1], kept.answer[0])
        if key in self._in_flight:
            return refusal(409, "conflict")
        self._in_flight.add(key)
        try:
            return await self._carry_out(asked, place, key)
        finally:
            self._in_flight.discard(key)

    async def _carry_out(self, asked: Asked, place: Place, key: tuple[str, str]) -> Response:
        fault = self._faults.take(place.operation)
        if fault is None or fault.takes_effect:
            answer = _effect(asked, place)
            self._keep(key, answer)
            if fault is None:
                return response(*answer)
        elif fault.kept:
            self._keep(key, (fault.status, fault.body))
        return await _instead(asked.request, fault)

    def _keep(self, key: tuple[str, str], answer: Answer) -> None:
        if key[0]:
            self._kept[key] = _Kept(self._clock.now_ms(), answer)

    def _turned_away(self, asked: Asked, scope: str) -> Response | None:
        request = asked.request
        given = request.headers.get("authorization")
        if given is None:
            return refusal(401, "not_authenticated", {"www-authenticate": "Token"})
        if given.removeprefix("Token ") != self._api_key:
            return refusal(401, "authentication_failed", {"www-authenticate": "Token"})
        if (request.method == "GET" and asked.content) or b"localhost" in asked.content:
            return refusal(403, "request_blocked")
        if self.enforces_rates and (wait_s := self._wait_s(scope, asked)):
            return refusal(429, "throttled", {"retry-after": str(wait_s)})
        return None

    def _wait_s(self, scope: str, asked: Asked) -> int:
        """Seconds until the next call of its kind may come; 0: now, and it is counted."""
        name = f"{scope}/{asked.id}" if scope == "transcribe" else scope
        calls = self._calls.setdefault(name, deque(maxlen=PER_MINUTE[scope]))
        now_ms = self._clock.now_ms()
        if len(calls) == calls.maxlen and now_ms < calls[0] + WINDOW_MS:
            return -(-(calls[0] + WINDOW_MS - now_ms) // 1_000)
        calls.append(now_ms)
        return 0


def _effect(asked: Asked, place: Place) -> Answer:
    try:
        return place.carry_out(asked)
    except Unknown:
        return 404, {"detail": "Not found."}
    except BadFields as error:
        return 400, error.faults
    except Refused as error:
        return error.status, {"code": error.code, "detail": "refused"}


async def _instead(request: Request, fault: Fault) -> Response:
    if fault.manner == "silent":
        while (await request.receive())["type"] != "http.disconnect":
            await anyio.lowlevel.checkpoint()
    return (
        _Cut(status_code=fault.status) if fault.manner == "cut" else response(fault.status, fault.body, fault.headers)
    )


class _Cut(Response):
    """Promises more than it sends; the server then breaks the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": [(b"content-length", b"99")]})
        await send({"type": "http.response.body", "body": b'{"id": "', "more_body": True})
