"""Calls to Recall's API: the key, the limits, a capped answer, and what may be repeated.

`attempt` is one call; `ask` repeats it while that is safe and there is time. Nothing of an answer, of a request's body
or of the key is ever logged: only statuses and Recall's machine-readable codes.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal
from urllib.parse import quote

import anyio
import httpx

from ctxhost.clock import Clock
from ctxhost.errors import ProviderBusy, ProviderError, ProviderTimeout, Refusal
from ctxhost_recall.limits import Deadline, Limiter, TooFast

log = logging.getLogger("ctxhost.recall")

MAX_ANSWER_BYTES = 8 * 1024 * 1024
ATTEMPT_TIMEOUT_S = 12
BACK_OFF_S = (0.5, 1, 2, 4)
BUSY_RETRY_AFTER_S = 10
MAX_RETRY_AFTER_S = 3_600

OUR_ACCOUNT = (401, 402, 403)
OVERLOADED = (500, 502, 503, 504)

_SECONDS = re.compile(r"[0-9]{1,9}")
_SLUG = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Method = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. `body` is None when it is not JSON, or more of it than is read."""

    status: int
    body: Any
    retry_after_s: int | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """Recall's slug for an error, or empty."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return code if isinstance(code, str) and _SLUG.fullmatch(code) else ""


@dataclass(frozen=True, slots=True)
class Later:
    """No answer yet: ask again after a wait, or say `otherwise` when there is no time for that."""

    wait_s: float
    otherwise: Refusal


class Unreachable(Exception):
    """Nothing was sent."""


class Silent(Exception):
    """Something was sent, and no complete answer came: it may have been carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One thing to ask of the API. It bears repetition, if only by its key."""

    method: Method
    path: str
    """Below `/api/v1`, with its slash at the end."""
    scope: str
    query: Mapping[str, str] | None = None
    body: Any = None
    key: str | None = None


class Api:
    """One region's API, with one key."""

    def __init__(self, http: httpx.AsyncClient, clock: Clock, limiter: Limiter, *, base_url: str, key: str) -> None:
        self._http = http
        self._clock = clock
        self._limiter = limiter
        self._base_url = base_url
        self._key = key

    async def attempt(self, call: Call, deadline: Deadline) -> Reply:
        """One call, whatever its status. Raises `TooFast`, `Unreachable` or `Silent`."""
        await self._limiter.enter(call.scope, deadline)
        timeout_s = min(ATTEMPT_TIMEOUT_S, deadline.left_s)
        request = self._http.build_request(
            call.method,
            f"{self._base_url}/api/v1{call.path}",
            params=call.query,
            # A GET with any body at all is blocked by Recall.
            content=None if call.body is None else json.dumps(call.body).encode(),
            headers=self._headers(call),
            timeout=timeout_s,
        )
        reply = await self._send(request, timeout_s=timeout_s)
        if reply.status == 429:
            self._limiter.hold(call.scope, seconds=reply.retry_after_s or BUSY_RETRY_AFTER_S)
        if reply.status in OUR_ACCOUNT:
            self._alarm(reply)
        return reply

    async def ask(self, call: Call, deadline: Deadline) -> Reply:
        """The call's answer, other than that there was none to be had.

        Raises:
            ProviderBusy: too many calls, here or at Recall, and waiting would take too long.
            ProviderTimeout: silence until the deadline.
            ProviderError: not reachable, overloaded until the deadline, or it refuses the operator's account.
        """
        for pause_s in back_off():
            answer = await self._answer(call, deadline, pause_s)
            if isinstance(answer, Reply):
                return answer
            if not deadline.allows(answer.wait_s):
                raise answer.otherwise
            await deadline.wait(answer.wait_s)
        raise AssertionError("unreachable: the back-off has no end")

    async def _answer(self, call: Call, deadline: Deadline, pause_s: float) -> Reply | Later:
        try:
            reply = await self.attempt(call, deadline)
        except TooFast as error:
            return Later(error.wait_s, busy(error.wait_s))
        except Unreachable:
            return Later(pause_s, ProviderError("Recall cannot be reached."))
        except Silent:
            return Later(pause_s, ProviderTimeout("Recall does not answer in time."))
        if reply.status in OUR_ACCOUNT:
            raise account_refused()
        if reply.status == 429:
            wait_s = reply.retry_after_s or BUSY_RETRY_AFTER_S
            return Later(wait_s, busy(wait_s))
        if reply.status in OVERLOADED:
            overloaded = ProviderError(f"Recall is overloaded: it answers {reply.status}.")
            return Later(max(pause_s, reply.retry_after_s or 0), overloaded)
        return reply

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"authorization": f"Token {self._key}", "accept": "application/json", "accept-encoding": "identity"}
        if call.body is not None:
            headers["content-type"] = "application/json"
        if call.key is not None:
            headers["idempotency-key"] = call.key
        return headers

    async def _send(self, request: httpx.Request, *, timeout_s: float) -> Reply:
        try:
            with anyio.fail_after(timeout_s):
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    content = await _capped(response)
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise Unreachable(type(error).__name__) from error
        except (httpx.TransportError, TimeoutError) as error:
            raise Silent(type(error).__name__) from error
        return Reply(response.status_code, _json(content), _retry_after_s(response))

    def _alarm(self, reply: Reply) -> None:
        hints = {
            401: "check MEETINGS_API_KEY, and that MEETINGS_BASE_URL is the region it belongs to",
            402: "the Recall account is out of credit",
            403: "Recall's firewall blocks this host or something in the request",
        }
        log.error("Recall refuses this deployment (%d %s): %s", reply.status, reply.code, hints[reply.status])


def segment(value: str) -> str:
    """An id as one segment of a path."""
    return quote(value, safe="")


def busy(wait_s: float) -> ProviderBusy:
    return ProviderBusy("Recall has no room right now.", retry_after_s=max(int(-(-wait_s // 1)), 1))


def account_refused() -> ProviderError:
    return ProviderError(
        "The meeting provider refuses this deployment's account.",
        remediation="Ask the operator to look at the log: the provider's key, region or balance needs attention.",
    )


def nonsense(what: str) -> ProviderError:
    """Recall's answer is not what it should be."""
    log.warning("an answer of Recall cannot be used: %s", what)
    return ProviderError(f"The meeting provider's answer cannot be used: {what}.")


def back_off() -> Iterator[float]:
    """Growing waits in seconds, without end."""
    return chain(BACK_OFF_S, repeat(BACK_OFF_S[-1]))


async def _capped(response: httpx.Response) -> bytes:
    """The body as it came, or nothing of one that is compressed (none was asked for) or too large."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return b""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return bytes(body)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _retry_after_s(response: httpx.Response) -> int | None:
    """Whole seconds within bounds; a date or junk counts as none."""
    told = response.headers.get("retry-after", "").strip()
    return min(max(int(told), 1), MAX_RETRY_AFTER_S) if _SECONDS.fullmatch(told) else None
