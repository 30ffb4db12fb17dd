"""A tap before the app: what arrives at one function, byte for byte, and how it was answered."""

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One POST as it came in."""

    at_s: float
    """On a clock that only goes forward."""
    headers: dict[str, str]
    body: bytes
    status: int


class Tap:
    """An ASGI app around another; it changes nothing."""

    def __init__(self, app: ASGIApp, *, path_end: str) -> None:
        self._app = app
        self._path_end = path_end
        self.arrivals: list[Arrival] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(self._path_end):
            await self._app(scope, receive, send)
            return
        at_s, body, status = time.monotonic(), bytearray(), 0

        async def listen() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def speak(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, listen, speak)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.arrivals.append(Arrival(at_s=at_s, headers=headers, body=bytes(body), status=status))
