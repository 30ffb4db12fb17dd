"""A request, read once; and the answers that every place gives alike."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxhost_recall.emulator.checks import BadFields
from ctxhost_recall.emulator.faults import Operation

Answer = tuple[int, Any]
"""Status and JSON."""


@dataclass(slots=True)
class Asked:
    """A request and what it carries."""

    request: Request
    content: bytes
    json: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        try:
            self.json = json.loads(self.content) if self.content else None
        except ValueError:
            self.json = None

    @property
    def base_url(self) -> str:
        return str(self.request.base_url).rstrip("/")

    @property
    def id(self) -> str:
        """The id in the path."""
        return str(self.request.path_params["id"])

    @property
    def collection(self) -> str:
        """The first segment below the API: `bot`, `transcript`, …"""
        return self.request.url.path.split("/")[3]

    def query(self, *known: str, prefix: str = "\n") -> dict[str, str]:
        """The query, if it has nothing but what is known. Raises `BadFields`."""
        found = dict(self.request.query_params)
        unknown = [name for name in found if name not in known and not name.startswith(prefix)]
        if unknown:
            raise BadFields({name: ["unknown parameter"] for name in unknown})
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that the API does."""

    operation: Operation
    scope: str
    carry_out: Callable[[Asked], Answer]


def response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, or bytes as they are."""
    if isinstance(body, bytes):
        return Response(body, status, headers=headers)
    return Response(status_code=status) if status == 204 else JSONResponse(body, status, headers=headers)


def refusal(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error by its slug."""
    return JSONResponse({"code": code, "detail": "refused"}, status, headers=headers)
