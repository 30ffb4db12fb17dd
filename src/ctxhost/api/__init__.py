"""The REST API: one ASGI app over a host, made of operations that also make its description."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.routing import Mount, Router
from starlette.types import ASGIApp

from ctxhost.api import credits as credit
from ctxhost.api import health, inbound, meetings, metrics, service, webhook
from ctxhost.api.auth import Door, HostOperation
from ctxhost.api.docs_page import documentation
from ctxhost.api.functions import FunctionCalls
from ctxhost.api.middleware import Edge
from ctxhost.api.openapi import openapi_document
from ctxhost.api.routing import build_routes, no_such_path

if TYPE_CHECKING:
    from ctxhost.host import Host

__all__ = ["create_app", "describe"]

_DESCRIPTION = """Send bots into Zoom, Meet, Teams and Webex calls, and get recordings and transcripts back.

Every call below `/v1/{app_id}` carries a service key of the app's owner: `Authorization: Bearer bb_sk_…`. An app's own
functions answer at `/v1/{app_id}/fn/{path}`, and at `/fn/{path}` of the host name that belongs to the app."""
_PATH_PARAMETERS = {
    "app_id": "The app.",
    "bot_id": "The bot, as `id` in the answer that made it.",
    "delivery_id": "The delivery, as `id` in the list of deliveries.",
}
_TAGS = {
    "meetings": "Bots that join a call, record it and bring back what was said.",
    "webhook": "Where an app's events go. Each is signed, and repeated until it is accepted.",
    "credits": "The prepaid account, and every line of its journal.",
    "service": "The host itself.",
}


def create_app(host: "Host") -> ASGIApp:
    """The whole HTTP face of a host. It may be made before the host has opened; it answers from then on."""
    door = Door(host)
    operations = [*_operations(), *FunctionCalls(door).operations()]
    limit_bytes = host.settings.max_body_bytes
    limited = [replace(operation, max_body_bytes=operation.max_body_bytes or limit_bytes) for operation in operations]
    routes = build_routes([*limited, *_documentation()], host=host, authorize=door.authorize)
    plugins = Mount("/plugins/{name}", app=service.plugin_pages(host))
    return Edge(Router([*routes, plugins], redirect_slashes=False, default=no_such_path), host.watch)


def describe() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi_document(
        _operations(),
        title="ctxhost",
        version=version("ctxhost"),
        description=_DESCRIPTION,
        path_parameters=_PATH_PARAMETERS,
        tags=_TAGS,
    )


@cache
def _documentation() -> Sequence[HostOperation]:
    """Made once in a process: it takes longer than the rest of an app."""
    return documentation(describe())


def _operations() -> list[HostOperation]:
    """What does not depend on the host."""
    return [
        *meetings.OPERATIONS,
        *webhook.OPERATIONS,
        *credit.OPERATIONS,
        *health.operations(),
        *metrics.OPERATIONS,
        *service.OPERATIONS,
        *inbound.OPERATIONS,
    ]
