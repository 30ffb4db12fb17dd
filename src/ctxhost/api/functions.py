"""The functions of apps over HTTP: by the app's id in the path, or by the name in `Host`."""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from ctxhost.api.auth import Door, HostCall, HostOperation, bearer_key, check_owner
from ctxhost.api.routing import ANY, Answer, Operation
from ctxhost.errors import AppNotFound, HandlerFailed, HandlerTimeout
from ctxhost.functions.registry import Function, FunctionNotFound
from ctxhost.logs import note
from ctxhost.store.rows import App, ServiceKey

if TYPE_CHECKING:
    from ctxhost.host import Host

_ANSWERS: Final = {200: Answer(description="Whatever the function answers.", media_type="*/*")}


class FunctionCalls:
    """Calls of functions. The trigger of a function says who may call it; one without a trigger is open to all."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def operations(self) -> list[HostOperation]:
        told: dict[str, Any] = {
            "method": ANY,
            "summary": "Call a function",
            "tag": "functions",
            "answers": _ANSWERS,
            "refusals": [FunctionNotFound, HandlerFailed, HandlerTimeout],
            "auth": "none",
            "listed": False,
        }
        return [
            Operation(path="/v1/{app_id}/fn/{path:path}", name="callFunction", handler=self._by_id, **told),
            Operation(path="/fn/{path:path}", name="callFunctionOfHost", handler=self._by_host, **told),
        ]

    async def _by_id(self, call: HostCall) -> Response:
        return await self._call(call, await call.host.tenants.app(call.path("app_id")))

    async def _by_host(self, call: HostCall) -> Response:
        return await self._call(call, await app_of(call.host, call.request.headers.get("host", "")))

    async def _call(self, call: HostCall, app: App) -> Response:
        request, functions = call.request, call.host.functions
        note(app=app.id)
        function = functions.registry.routed(app.id, request.method, "/" + call.path("path"))
        note(function=function.name)
        caller = await self._caller(request, function, app)
        body = await call.body()
        return await functions.call(app, function, _with_body(request, body), caller=caller)

    async def _caller(self, request: Request, function: Function, app: App) -> ServiceKey | None:
        """Who calls, as far as the trigger asks. `optional` takes no key for an answer, but no wrong one."""
        auth = function.route.auth
        if auth == "none" or (auth == "optional" and bearer_key(request) is None):
            return None
        key = await self._door.key(request)
        check_owner(key, app)
        return key


async def app_of(host: "Host", authority: str) -> App:
    """The app that the first label of a host name leads to, by its subdomain or id; else the host's default one.

    Raises:
        AppNotFound: there is neither.
    """
    label = _label(host, authority)
    found = await host.tenants.app_of_subdomain(label) if label else None
    if found is not None:
        return found
    if label.startswith("app_"):
        return await host.tenants.app(label)
    if host.settings.default_app is None:
        raise AppNotFound("No app has this host name.")
    return await host.tenants.app(host.settings.default_app)


def _label(host: "Host", authority: str) -> str:
    """What names an app in a `Host` header, or nothing when it is an address or the host's own name."""
    try:
        name = (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""
    label, dot, _ = name.partition(".")
    return "" if not dot or _is_address(name) or name == urlsplit(host.base_url).hostname else label


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _with_body(request: Request, body: bytes) -> Request:
    """The same request, its body read and ready to be read again."""
    return Request(request.scope, _replay(body, request.receive))


def _replay(body: bytes, then: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive
