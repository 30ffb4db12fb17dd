"""What can go wrong with a request that leaves the host, and the one place where aiohttp's errors are translated.

EgressError
├── EgressRefused    the guard forbids it; nothing was sent
├── EgressTimeout    no complete answer within the time allowed
└── EgressFailed     `reason` is one of dns, connect, tls, request, disconnected, protocol, encoding, too_large
"""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import httpx

from ctxhost.errors import CtxhostError


class EgressError(CtxhostError):
    """A request of ours came to nothing; `reason` is short and for machines."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class EgressRefused(EgressError):
    """The guard forbids this URL or the address behind it; nothing was sent there."""


class EgressTimeout(EgressError):
    """The time allowed ran out. The receiver may have got the request."""

    def __init__(self, message: str = "No complete answer in time.", *, while_connecting: bool = False) -> None:
        super().__init__("timeout", message)
        self.while_connecting = while_connecting


class EgressFailed(EgressError):
    """The receiver could not be reached, or its answer is not HTTP that we read."""


# In this order: the first kind that an error is of decides.
_FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "The host name has no address."),
    (aiohttp.ClientSSLError, "tls", "The receiver's TLS certificate or handshake is not valid."),
    (aiohttp.ClientConnectorError, "connect", "The receiver does not accept connections."),
    (aiohttp.ClientPayloadError, "protocol", "The answer's body is incomplete or malformed."),
    (aiohttp.ClientConnectionError, "disconnected", "The receiver closed the connection without a complete answer."),
    (aiohttp.ClientError, "protocol", "The answer is not valid HTTP."),
    (OSError, "disconnected", "The connection broke."),
    (ValueError, "request", "The request cannot be written as HTTP."),
)


def as_egress_error(exc: Exception) -> EgressError | None:
    """The same failure in our words; None for an error that is no failure of a request."""
    if isinstance(exc, EgressError):
        return exc
    if isinstance(exc, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return EgressRefused("url", "The URL is not one that may be requested.")
    if isinstance(exc, TimeoutError):
        return EgressTimeout(while_connecting=isinstance(exc, aiohttp.ConnectionTimeoutError))
    for kind, reason, message in _FAILURES:
        if isinstance(exc, kind):
            return EgressFailed(reason, message)
    return None


def as_httpx_error(error: EgressError, request: httpx.Request) -> httpx.TransportError:
    """The same failure as httpx's own transport would report it.

    A connect error says that nothing was sent; only failures of which that is true become one.
    """
    if isinstance(error, EgressTimeout):
        return (httpx.ConnectTimeout if error.while_connecting else httpx.ReadTimeout)(error.message, request=request)
    kind: type[httpx.TransportError] = httpx.RemoteProtocolError
    if isinstance(error, EgressRefused):
        kind = httpx.UnsupportedProtocol if error.reason == "url" else httpx.ConnectError
    elif error.reason in ("dns", "connect", "tls"):
        kind = httpx.ConnectError
    elif error.reason == "request":
        kind = httpx.LocalProtocolError
    return kind(error.message, request=request)


@contextmanager
def egress_errors() -> Iterator[None]:
    """Turn whatever a request of aiohttp's raises into an `EgressError`."""
    try:
        yield
    except Exception as exc:
        error = as_egress_error(exc)
        if error is None or error is exc:
            raise
        raise error from exc


@contextmanager
def httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Turn whatever a request of httpx-aiohttp's raises into httpx's own error for it."""
    try:
        yield
    except Exception as exc:
        # httpx-aiohttp reports a refused and a dropped connection as connect *timeouts*: go by what it was raised from.
        cause = exc.__cause__ if isinstance(exc, httpx.TransportError) and isinstance(exc.__cause__, Exception) else exc
        error = as_egress_error(cause)
        if error is None:
            raise
        raise as_httpx_error(error, request) from error
