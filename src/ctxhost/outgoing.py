"""The ways out of a host: deliveries, `ctx.http`, downloads. What leads back to the host itself stays in process."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import anyio
import httpx
from starlette.types import ASGIApp

from ctxhost.egress import (
    Answer,
    Egress,
    EgressFailed,
    EgressPolicy,
    EgressTimeout,
    Router,
    UrlRefused,
    check_url,
    new_client,
    read_capped,
)
from ctxhost.errors import ProviderError, ProviderTimeout


class Outgoing:
    """Whatever a host sends. `asgi` is the host at its `base_url`; `served`: it is reached there over the network."""

    def __init__(
        self,
        egress: Egress,
        policy: EgressPolicy,
        asgi: ASGIApp,
        *,
        base_url: str,
        served: bool,
        is_draining: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._egress = egress
        self._asgi = asgi
        self._base_url = base_url
        self._is_reachable = served and _is_allowed(base_url, policy)
        self._is_draining = is_draining
        self._now_ms = now_ms

    def client(self) -> httpx.AsyncClient:
        """A client to whom the host's own base URL is in process; as `ctx.http` is."""
        return new_client(Router({self._base_url: self._asgi}, elsewhere=self._egress.transport))

    def shared_client(self) -> httpx.AsyncClient:
        """The client that plugins are lent. It reaches the host over the network where it can be reached so."""
        return self._egress.client if self._is_reachable else self.client()

    def own_address(self, url: str) -> bool | None:
        """Whether a URL is this host's own: True for its function paths, False for its other paths, None elsewhere."""
        return _own_address(self._base_url, url)

    async def send(
        self, url: str, *, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer:
        """The way out for deliveries; the host's own functions are reached in process where the network does not.

        That is also so while it closes: its socket does not listen any more.
        """
        if self.own_address(url) and (self._is_draining() or not self._is_reachable):
            return await self._send_inside(url, content, headers, timeout_s, max_answer_bytes)
        return await self._egress.post(
            url, content=content, headers=headers, timeout_s=timeout_s, max_answer_bytes=max_answer_bytes
        )

    async def _send_inside(
        self, url: str, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer:
        started_ms = self._now_ms()
        try:
            with anyio.fail_after(timeout_s):
                async with self.client() as client:
                    response = await client.post(url, content=content, headers=dict(headers))
        except TimeoutError:
            raise EgressTimeout from None
        except httpx.HTTPError as error:
            raise EgressFailed("protocol", str(error)) from error
        took_ms = self._now_ms() - started_ms
        return Answer(response.status_code, dict(response.headers), response.content[:max_answer_bytes], took_ms)

    async def download(self, url: str, *, limit_bytes: int, timeout_s: float = 30) -> bytes:
        """What a provider's link to an artifact gives; the host's own links are answered in process.

        Raises:
            ProviderTimeout: not all of it came in time.
            ProviderError: it cannot be reached, is refused, or is larger than `limit_bytes`.
        """
        try:
            with anyio.fail_after(timeout_s):
                async with self.client() as client, client.stream("GET", url) as response:
                    if response.status_code != 200:
                        raise ProviderError(f"The provider's link answered {response.status_code}.")
                    return await read_capped(response, limit_bytes=limit_bytes)
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderTimeout("The provider's link did not answer in time.") from None
        except (EgressFailed, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderError(f"The provider's link cannot be downloaded: {error}") from error


def _is_allowed(url: str, policy: EgressPolicy) -> bool:
    try:
        check_url(url, policy)
    except UrlRefused:
        return False
    return True


@lru_cache(maxsize=1_024)  # asked at every delivery, and parsing costs more than signing
def _own_address(base_url: str, url: str) -> bool | None:
    own, other = httpx.URL(base_url), httpx.URL(url)
    if (own.scheme, own.host, own.port) != (other.scheme, other.host, other.port):
        return None
    parts = other.path.removeprefix(own.path.rstrip("/")).split("/")
    return parts[1:2] == ["fn"] or (parts[1:2] == ["v1"] and parts[3:4] == ["fn"])
