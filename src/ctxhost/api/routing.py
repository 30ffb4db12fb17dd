"""Operations: each is declared once, and both the routes and the API's description come from that declaration.

The order in which a call is refused lies here: who is calling, then the size of the body, then its content.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ctxhost.api.strict_json import parse
from ctxhost.api.watched import OPERATION, ROUTE
from ctxhost.errors import (
    AppNotFound,
    InsufficientScope,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    MissingCredentials,
    NotAuthorized,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    Refusal,
)

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_QUERY_FIELDS: Final = 100
ANY: Final = "*"
"""The method of an operation that takes whatever no other operation at its path takes."""

HostT = TypeVar("HostT")
CallerT = TypeVar("CallerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A good response, as the API's description tells it; `media_type` None means that it has no body.

    `more_media_types` are those that the caller can choose; the model and the example are of the first alone.
    """

    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    media_type: str | None = "application/json"
    more_media_types: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderParam:
    """A request header that an operation reads."""

    name: str
    description: str
    schema: Mapping[str, Any]


class Call(Generic[HostT, CallerT]):
    """One request to one operation, as its handler gets it."""

    def __init__(self, request: Request, operation: "Operation[HostT, CallerT]", host: HostT) -> None:
        self.request = request
        self.operation = operation
        self.host = host
        self._caller: CallerT | None = None
        self._body: bytes | None = None

    @property
    def caller(self) -> CallerT:
        """Who is calling. Raises `LookupError` where the operation asks for no key."""
        if self._caller is None:
            raise LookupError(f"{self.operation.name} is open to all: its calls have no caller")
        return self._caller

    def admit(self, caller: CallerT) -> None:
        """Say who is calling, once that is proven."""
        self._caller = caller

    def path(self, name: str) -> str:
        """A path parameter, decoded."""
        return str(self.request.path_params[name])

    def query(self) -> list[tuple[str, str]]:
        """The query string as decoded pairs, in order.

        Raises:
            InvalidRequest: it is not UTF-8, or has absurdly many fields.
        """
        try:
            text = self.request.scope["query_string"].decode("utf-8")
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:  # a UnicodeDecodeError is one
            raise InvalidRequest.of("query", "Must be UTF-8, with at most 100 fields", "invalid_encoding") from None

    async def body(self) -> bytes:
        """The raw body; the same bytes each time.

        Raises:
            PayloadTooLarge: longer than the operation takes. The rest is not read.
            ClientDisconnect: the client went away while sending it.
        """
        if self._body is None:
            self._body = await _read_body(self.request, limit_bytes=self.operation.max_body_bytes or MAX_BODY_BYTES)
        return self._body

    async def json(self) -> Any:
        """The body as strict JSON, whatever its content-type. Raises what `body` raises, and `InvalidRequest`."""
        body = await self.body()
        if self.request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise InvalidRequest.of(
                "content-encoding", "Must be left out: bodies are read as they are", "invalid_value"
            )
        return parse(body)


Handler = Callable[[Call[HostT, CallerT]], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[HostT, CallerT]):
    """One method of one path.

    `name` is the operation's id, in camelCase and unique. `path` is Starlette's (`/v1/{app_id}/files/{name:path}`).
    `body` and `query` are the models of what is sent; the handler reads them. `refusals` are those of the handler:
    what the declaration implies (`implied_refusals`) need not be listed. `max_body_bytes` None is `MAX_BODY_BYTES`.
    """

    method: str
    path: str
    name: str
    handler: Handler[HostT, CallerT]
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    description: str = ""
    body: type[BaseModel] | None = None
    body_example: Any = None
    query: type[BaseModel] | None = None
    headers: Sequence[HeaderParam] = ()
    refusals: Sequence[type[Refusal]] = ()
    auth: Literal["key", "none"] = "key"
    scope: str | None = None
    max_body_bytes: int | None = None
    listed: bool = True

    @property
    def path_format(self) -> str:
        """The path as OpenAPI writes it, without convertors."""
        return re.sub(r":[a-z]+}", "}", self.path)

    def path_names(self) -> list[str]:
        return re.findall(r"{([a-z_]+)", self.path)

    def implied_refusals(self) -> list[type[Refusal]]:
        """What this operation can refuse by what it declares."""
        app_scoped = self.auth == "key" and "app_id" in self.path_names()
        told: list[tuple[bool, list[type[Refusal]]]] = [
            (self.auth == "key", [RateLimited, MissingCredentials, InvalidApiKey]),
            (app_scoped, [AppNotFound, NotAuthorized]),
            (self.scope is not None, [InsufficientScope]),
            (self.body is not None, [PayloadTooLarge]),
            (self.body is not None or self.query is not None, [InvalidRequest]),
            (True, [Overloaded, InternalError]),
        ]
        return [refusal for holds, refusals in told if holds for refusal in refusals]


Authorize = Callable[[Request, Operation[HostT, CallerT]], Awaitable[CallerT]]
"""Proves who is calling, or raises the refusal. Runs before anything of the body is read."""


def build_router(
    operations: Sequence[Operation[HostT, CallerT]], *, host: HostT, authorize: Authorize[HostT, CallerT]
) -> Router:
    """The ASGI app of these operations; unknown paths and methods raise `NotFound` and `MethodNotAllowed`.

    Wrap it in `Edge`, which answers what is raised.
    """
    routes = build_routes(operations, host=host, authorize=authorize)
    return Router(routes, redirect_slashes=False, default=no_such_path)


def build_routes(
    operations: Sequence[Operation[HostT, CallerT]], *, host: HostT, authorize: Authorize[HostT, CallerT]
) -> list[BaseRoute]:
    """One route per path, fixed segments before parameters, whatever the order of declaration.

    Raises:
        ValueError: two operations share a name, or a method and path.
    """
    by_path: dict[str, dict[str, Operation[HostT, CallerT]]] = {}
    names: set[str] = set()
    for operation in operations:
        methods = by_path.setdefault(operation.path, {})
        if operation.name in names or operation.method in methods:
            raise ValueError(f"declared twice: {operation.name}, {operation.method} {operation.path}")
        names.add(operation.name)
        methods[operation.method] = operation
    return [Route(path, _Resource(by_path[path], host, authorize)) for path in sorted(by_path, key=_specificity)]


async def no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    """The app behind every path that no route has. Raises `NotFound`."""
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    raise NotFound(f"There is nothing at {scope['path'][:200]}.")


class _Resource(Generic[HostT, CallerT]):
    """All operations at one path."""

    def __init__(
        self,
        operations: Mapping[str, Operation[HostT, CallerT]],
        host: HostT,
        authorize: Authorize[HostT, CallerT],
    ) -> None:
        self._operations = operations
        self._host = host
        self._authorize = authorize

    @property
    def path(self) -> str:
        """As it was declared, for the log."""
        return next(operation.path for operation in self._operations.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        operation = self._operation(request.method)
        scope.setdefault("state", {}).update({OPERATION: operation.name, ROUTE: operation.path_format})
        call = Call(request, operation, self._host)
        if operation.auth == "key":
            call.admit(await self._authorize(request, operation))
        response = await operation.handler(call)
        await response(scope, receive, send)

    def _operation(self, method: str) -> Operation[HostT, CallerT]:
        wanted = "GET" if method == "HEAD" else method  # servers drop the body of the answer to a HEAD
        found = self._operations.get(wanted) or self._operations.get(ANY)
        if found is None:
            allow = sorted({*self._operations, "HEAD"} if "GET" in self._operations else self._operations)
            raise MethodNotAllowed(f"{method[:20]} is not a method of this path.", allow=allow)
        return found


def _specificity(path: str) -> list[tuple[int, str]]:
    """Sorts a fixed segment before a parameter, and a parameter before a rest-of-path."""
    return [(2 if ":path}" in part else 1 if "{" in part else 0, part) for part in path.split("/")]


async def _read_body(request: Request, *, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit_bytes):
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit_bytes:,} bytes.")
