"""Hallway's API over HTTP, its troubles told in the words that the host knows."""

from typing import Any

import httpx

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout
from ctxhost.meetings.provider import UnknownBot

TIMEOUT_S = 8
MAX_BODY_BYTES = 4 * 2**20


class Api:
    """Calls with the operator's key."""

    def __init__(self, http: httpx.AsyncClient, *, base_url: str, key: str) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._key = key

    def __repr__(self) -> str:
        return f"<Api {self._base_url}>"

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """The JSON of an answer that is a success.

        Raises:
            UnknownBot: 404.
            InvalidRequest: 422, about the meeting URL.
            ProviderBusy: 429.
            ProviderTimeout: no whole answer.
            ProviderError: any other trouble.
        """
        try:
            answer = await self._http.request(
                method,
                f"{self._base_url}{path}",
                headers={"authorization": f"Bearer {self._key}", **more.pop("headers", {})},
                timeout=TIMEOUT_S,
                **more,
            )
        except httpx.ConnectError:
            raise ProviderError("Hallway cannot be reached.") from None
        except httpx.HTTPError:
            raise ProviderTimeout("Hallway gave no whole answer.") from None
        return _read(answer)


def _read(answer: httpx.Response) -> Any:
    try:
        told = answer.json() if len(answer.content) <= MAX_BODY_BYTES else None
    except ValueError:
        told = None
    status = answer.status_code
    if not isinstance(told, dict):
        raise _nonsense(status)
    if answer.is_success:
        return told
    if status == 404:
        raise UnknownBot
    if status == 422 and told.get("field") == "meeting_url":
        raise InvalidRequest.of("meetingUrl", "Hallway cannot join this meeting", "meeting_link_invalid")
    if status == 429:
        raise ProviderBusy("Hallway is full.", retry_after_s=_seconds(answer.headers.get("retry-after", "")))
    if status >= 500:
        raise _nonsense(status)
    raise ProviderError(f"Hallway answered {status}; 401 and 403 are about the operator's key.")


def _nonsense(status: int) -> ProviderError | ProviderTimeout:
    """Whether it did what it was asked to cannot be known from a 5xx or a page of another server."""
    return ProviderTimeout(f"Hallway answered {status}, and not as it should.")


def _seconds(text: str) -> int:
    return min(int(text), 3_600) if text.isascii() and text.isdigit() and 0 < len(text) < 6 and int(text) else 30
