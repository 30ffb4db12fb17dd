"""The host's own address is answered in process; everything else goes elsewhere."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ctxhost.egress import Router, new_client


async def echo(request: Request) -> PlainTextResponse:
    body = (await request.body()).decode()
    return PlainTextResponse(f"{request.method} {request.url} {request.headers['x-key']} {body}", status_code=201)


async def crash(request: Request) -> PlainTextResponse:
    raise RuntimeError("a bug")


APP = Starlette(routes=[Route("/v1/echo", echo, methods=["POST"]), Route("/crash", crash)])


class Elsewhere(httpx.MockTransport):
    """Remembers what was sent out and whether it was closed."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.urls: list[str] = []
        self.closed = False

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        return httpx.Response(200, text="elsewhere")

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/echo?a=b"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/echo?a=b"),
        ("https://host.example", "https://host.example:443/v1/echo?a=b"),
        ("https://host.example:443", "https://host.example/v1/echo?a=b"),
        ("http://Host.example:80", "http://host.EXAMPLE/v1/echo?a=b"),
        ("https://host.example/mounted/", "https://host.example/mounted/v1/echo?a=b"),
    ],
)
async def test_own_address_is_answered_in_process(base_url: str, url: str) -> None:
    """A call of the API at its own URL reaches the app whole, and nothing goes out."""
    elsewhere = Elsewhere()
    async with new_client(Router({base_url: APP}, elsewhere=elsewhere)) as client:
        response = await client.post(url, headers={"x-key": "k"}, content="hi")

    assert (201, []) == (response.status_code, elsewhere.urls)
    assert response.text.startswith("POST http")
    assert response.text.endswith("/v1/echo?a=b k hi")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001/v1/echo",
        "https://127.0.0.1:8000/v1/echo",
        "http://127.0.0.2:8000/v1/echo",
        "http://127.0.0.1/v1/echo",
        "http://example.com:8000/v1/echo",
    ],
)
async def test_every_other_origin_goes_elsewhere(url: str) -> None:
    """Another scheme, host or port is another origin; a Host header changes nothing."""
    elsewhere = Elsewhere()
    async with new_client(Router({"http://127.0.0.1:8000": APP}, elsewhere=elsewhere)) as client:
        response = await client.post(url, headers={"x-key": "k", "host": "127.0.0.1:8000"})

    assert ("elsewhere", [url]) == (response.text, elsewhere.urls)


async def test_a_crash_of_the_app_is_a_500() -> None:
    """The caller sees what a caller over the network would see."""
    async with new_client(Router({"http://127.0.0.1:8000": APP}, elsewhere=Elsewhere())) as client:
        assert 500 == (await client.get("http://127.0.0.1:8000/crash")).status_code


async def test_closing_closes_what_is_behind() -> None:
    """Whether the other transport stays open is its own decision."""
    elsewhere = Elsewhere()
    await Router({}, elsewhere=elsewhere).aclose()

    assert elsewhere.closed
