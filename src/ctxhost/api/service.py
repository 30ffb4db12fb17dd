"""The host itself: where to read on, and what plugins serve."""

from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.routing import Answer, Operation, no_such_path
from ctxhost.api.watched import OPERATION, ROUTE

if TYPE_CHECKING:
    from ctxhost.host import Host

_WELCOME: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>ctxhost</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}</style></head>
<body><h1>ctxhost</h1>
<p>This host answers. What it can do is on the page <a href="docs">docs</a>, and for machines in
<a href="openapi.json">openapi.json</a>.</p></body>
</html>
"""
_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


async def welcome(_: HostCall) -> Response:
    return Response(_WELCOME, media_type="text/html", headers={"content-security-policy": _CSP})


def plugin_pages(host: "Host") -> ASGIApp:
    """What providers serve, each below its own name."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update({OPERATION: "pluginPage", ROUTE: "/plugins/{name}"})
        provider = host.providers.get(scope["path_params"]["name"]) if scope["type"] == "http" else None
        app = provider.mount if provider is not None else None
        await (app or no_such_path)(scope, receive, send)

    return serve


OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="GET",
        path="/",
        name="welcomePage",
        handler=welcome,
        summary="Where to read on",
        tag="service",
        answers={200: Answer(description="The page.", media_type="text/html")},
        auth="none",
        listed=False,
    ),
]
