"""The host's own address, answered in process."""

from collections.abc import Mapping

import httpx
from starlette.types import ASGIApp

IN_PROCESS = "in-process"
"""The client address of requests that never left the host."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Router(httpx.AsyncBaseTransport):
    """Sends requests for some origins straight to an ASGI app, and all others through another transport.

    An app's crash is a 500. Its answer is handed over when it is complete.
    """

    def __init__(self, apps: Mapping[str, ASGIApp], *, elsewhere: httpx.AsyncBaseTransport) -> None:
        """`apps` is ASGI apps by base URL, such as `http://127.0.0.1:8000`; its path is where the app is mounted."""
        self._inside = {_origin(httpx.URL(base_url)): _transport(base_url, app) for base_url, app in apps.items()}
        self._elsewhere = elsewhere

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._inside.get(_origin(request.url), self._elsewhere)
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._elsewhere.aclose()


def _transport(base_url: str, app: ASGIApp) -> httpx.ASGITransport:
    mounted_at = httpx.URL(base_url).path.rstrip("/")
    return httpx.ASGITransport(app, raise_app_exceptions=False, root_path=mounted_at, client=(IN_PROCESS, 0))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)
