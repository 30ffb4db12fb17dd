"""One pool of connections for everything that leaves the host; each of them goes to an address that the policy permits.

The check sits where a connection's socket is made, on the very address it will connect to, so that a name cannot be
resolved once for the check and once more for the use. Redirects are never followed, cookies never kept, proxies of the
environment ignored.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from ctxhost.egress.errors import EgressFailed, EgressRefused, egress_errors, httpx_errors
from ctxhost.egress.guard import EgressPolicy, Lookup, UrlRefused, check_url, resolve

DELIVERY_TIMEOUT_S = 15
MAX_ANSWER_BYTES = 16_384
# Below the five seconds after which many servers hang up, so that a request rarely meets a closing connection.
KEEP_ALIVE_S = 4
USER_AGENT = "ctxhost"
_HEADERS = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
_READABLE_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said. `body` holds at most the first bytes that were asked for; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: int


class Egress:
    """The guarded way out. `async with Egress(policy) as egress:` once per host, then share it."""

    def __init__(
        self, policy: EgressPolicy, *, lookup: Lookup = resolve, max_connections: int = 512, max_per_host: int = 64
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        self._max_connections = max_connections
        self._max_per_host = max_per_host
        self._checked = lru_cache(maxsize=1_024)(self._check)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_GuardedResolver(self._policy, self._lookup),
            socket_factory=self._make_socket,
            keepalive_timeout=KEEP_ALIVE_S,
            ssl=_tls(),
            limit=self._max_connections,
            limit_per_host=self._max_per_host,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
        self.transport: httpx.AsyncBaseTransport = GuardedTransport(
            AiohttpTransport(client=self._session, verify=_tls())
        )
        """The guarded pool behind httpx's interface. Closing a client made on it leaves the pool open."""
        self.client = new_client(self.transport)
        """A shared client on it, for the host itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.client.aclose()
            await self._session.close()

    async def post(
        self,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        timeout_s: float = DELIVERY_TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send `content` byte for byte and read the beginning of the answer, whatever its status.

        `timeout_s` covers everything, from the wait for a connection to the answer's last byte that is read.

        Raises:
            EgressRefused: the policy forbids the URL (`reason` is the reason_code of `check_url`) or its address.
            EgressTimeout: no complete answer in time.
            EgressFailed: not reachable, or not HTTP.
        """
        started = anyio.current_time()
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        with egress_errors():
            async with self._session.post(
                self._checked(url), data=content, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                # What is left of a longer body is not read: leaving the block drops that connection.
                body = await _first_bytes(response.content, max_answer_bytes)
        took_ms = round((anyio.current_time() - started) * 1_000)
        return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, body, took_ms)

    def _check(self, url: str) -> URL:
        try:
            check_url(url, self._policy)
        except UrlRefused as exc:
            raise EgressRefused(exc.reason_code, exc.message) from exc
        return URL(url, encoded=True)

    def _make_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The socket of a new connection, if the address that it is for is permitted."""
        family, kind, protocol, _, (host, port, *_) = info
        if not self._policy.permits(ip_address(host), port=port):
            raise _not_permitted()
        return socket.socket(family, kind, protocol)


@cache
def _tls() -> ssl.SSLContext:
    """Which certificates are believed. Read once in a process: that takes a hundred times as long as all else here."""
    return httpx.create_ssl_context()


class _GuardedResolver(AbstractResolver):
    """Leaves out the addresses that the policy forbids, so that a name with a good one among bad ones still works."""

    def __init__(self, policy: EgressPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._lookup(host, port)
        permitted = [address for address in found if self._policy.permits(address, port=port)]
        if not permitted:
            raise _not_permitted() if found else OSError("the name has no address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in permitted
        ]

    async def close(self) -> None:
        """Nothing is kept open."""


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's interface to the guarded pool. Raises httpx's own errors; a forbidden address is a `ConnectError`."""

    def __init__(self, inner: AiohttpTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("The URL must start with https:// or http://.", request=request)
        with httpx_errors(request):
            response = await self._inner.handle_async_request(request)
        response.stream = _Body(response.stream, request)
        return response

    async def aclose(self) -> None:
        """Leave the pool open: it belongs to `Egress`, and other clients use it."""


class _Body(httpx.AsyncByteStream):
    """A response's body whose failures are httpx's own too."""

    def __init__(self, stream: Any, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with httpx_errors(self._request):
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def new_client(transport: httpx.AsyncBaseTransport, *, timeout_s: float = DELIVERY_TIMEOUT_S) -> httpx.AsyncClient:
    """A client that keeps nothing between calls and follows no redirects. Cheap: make one for each who may change it.

    `timeout_s` is httpx's: for each of connecting, a read and a write. Bound the whole with `anyio.fail_after`.
    """
    return httpx.AsyncClient(
        transport=transport,
        headers=_HEADERS,
        timeout=timeout_s,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


async def read_capped(response: httpx.Response, *, limit_bytes: int) -> bytes:
    """The whole decoded body of a streamed response, if it has at most `limit_bytes`.

    Raises:
        EgressFailed: `too_large`, or `encoding` for a compression that could hide a far larger body.
        httpx.TransportError: the body broke off.
    """
    if response.headers.get("content-encoding", "").strip().lower() not in _READABLE_ENCODINGS:
        raise EgressFailed("encoding", "The answer's content-encoding is not one that is read.")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit_bytes:
            raise EgressFailed("too_large", f"The answer has more than {limit_bytes} bytes.")
    return bytes(body)


async def _first_bytes(stream: aiohttp.StreamReader, limit_bytes: int) -> bytes:
    body = b""
    while len(body) < limit_bytes and (chunk := await stream.read(limit_bytes - len(body))):
        body += chunk
    return body


def _not_permitted() -> EgressRefused:
    return EgressRefused("address", "The host is not at a public address.")
