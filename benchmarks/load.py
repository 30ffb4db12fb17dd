"""Callers: keep-alive connections that ask for the same thing again and again, and remember how long each took.

They cost far less than any server that they ask, so that it is the server which is measured.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

import httptools

Ask = Callable[[], bytes]
"""The next request, as it goes over the wire."""


@dataclass(slots=True)
class Taken:
    """What rounds of asking came to."""

    asked_s: list[float] = field(default_factory=list)
    """How long each answer took."""
    lasted_s: float = 0

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.asked_s) * 1_000

    @property
    def per_s(self) -> float:
        return len(self.asked_s) / self.lasted_s


class Unexpected(Exception):
    """A server answered something else than 200."""


def http_request(method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """One request in HTTP/1.1."""
    told = {"host": "bench", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    _answer: asyncio.Future[None]
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    @classmethod
    async def to(cls, port: int) -> Self:
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises `Unexpected` for any status but 200."""
        self._answer, self._body = asyncio.get_running_loop().create_future(), b""
        self._transport.write(request)
        await self._answer
        if self._parser.get_status_code() != 200:
            raise Unexpected(f"{self._parser.get_status_code()}: {self._body.decode()}")
        return self._body

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._answer.set_result(None)


@dataclass(frozen=True, slots=True)
class Side:
    """One of those compared: where to ask, and what."""

    port: int
    ask: Ask


async def compare(sides: Sequence[Side], *, callers: int, rounds: int, round_s: float) -> list[Taken]:
    """What each side comes to, over rounds that take turns; the first of each only warms up."""
    crowds = [await asyncio.gather(*[Connection.to(side.port) for _ in range(callers)]) for side in sides]
    taken = [Taken() for _ in sides]
    for number in range(rounds + 1):
        for side, crowd, into in zip(sides, crowds, taken, strict=True):
            asked, lasted_s = await _round(crowd, side.ask, round_s=round_s)
            if number:
                into.asked_s += asked
                into.lasted_s += lasted_s
    for crowd in crowds:
        for connection in crowd:
            connection.close()
    return taken


async def alternate(sides: Sequence[Side], *, times: int) -> list[Taken]:
    """What one caller waits for each side, who asks them in turn; the first tenth only warms up."""
    callers = [await Connection.to(side.port) for side in sides]
    taken = [Taken() for _ in sides]
    for number in range(times + times // 10):
        for side, caller, into in zip(sides, callers, taken, strict=True):
            request, started = side.ask(), time.perf_counter()
            await caller.ask(request)
            if number >= times // 10:
                into.asked_s.append(time.perf_counter() - started)
    for caller in callers:
        caller.close()
    return taken


async def _round(crowd: Sequence[Connection], ask: Ask, *, round_s: float) -> tuple[list[float], float]:
    started = time.perf_counter()
    asked = await asyncio.gather(*[_keep_asking(one, ask, until=started + round_s) for one in crowd])
    return [took for of_one in asked for took in of_one], time.perf_counter() - started


async def _keep_asking(connection: Connection, ask: Ask, *, until: float) -> list[float]:
    asked = []
    while (started := time.perf_counter()) < until:
        await connection.ask(ask())
        asked.append(time.perf_counter() - started)
    return asked
