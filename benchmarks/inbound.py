"""Signed webhooks of the fake provider, accepted through the API by a host at work.

The baseline is a Starlette route on a server of the same kind that verifies each and commits it by itself, to a
database of the same engine and durability; it does not know what an event is about.
"""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Protocol

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import Bench, Figure
from benchmarks.load import Ask, Connection, Side, compare, http_request
from benchmarks.servers import Served, host_server, running, served
from benchmarks.spawn import spawn_request
from benchmarks.textbook import Psycopg, pool
from ctxhost.settings import is_url
from ctxhost.webhooks.signing import decode_secret
from ctxhost_fake.life import id_of
from ctxhost_fake.webhooks import read_event, signed_headers

TITLE = "Inbound: signed webhooks, accepted a second"
SENDERS = (1, 32)
BOTS = 200
TABLE = "create table event (id text primary key not null, kind text, body text)"
Event = tuple[str, str, str]
PATH = "/v1/ai/meetings/_webhooks/fake"


class Kept(Protocol):
    """Where the baseline keeps what it has verified: one commit an event."""

    async def keep(self, event: Event) -> None: ...


class InFile:
    """SQLite, with the durability of ours."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute(TABLE)

    async def keep(self, event: Event) -> None:
        self._db.execute("insert into event (id, kind, body) values (?, ?, ?)", event)

    def close(self) -> None:
        self._db.close()


class InServer:
    """PostgreSQL, by a pool of connections that prepare their statement."""

    def __init__(self, free: "asyncio.LifoQueue[Psycopg]") -> None:
        self._free = free

    async def keep(self, event: Event) -> None:
        connection = await self._free.get()
        try:
            await connection.execute("insert into event (id, kind, body) values (%s, %s, %s)", event)
        finally:
            self._free.put_nowait(connection)


@contextlib.asynccontextmanager
async def opened(database: str) -> AsyncIterator[Kept]:
    """The baseline's table in an empty database."""
    if not is_url(database):
        with contextlib.closing(InFile(database)) as file:
            yield file
        return
    async with pool(database) as free:
        connection = await free.get()
        await connection.execute(TABLE)
        free.put_nowait(connection)
        yield InServer(free)


@contextlib.asynccontextmanager
async def bare_route(database: str, key: bytes) -> AsyncIterator[int]:
    """The baseline as a server; its port."""
    async with opened(database) as kept:

        async def receive(request: Request) -> Response:
            body = await request.body()
            now_ms = time.time_ns() // 1_000_000
            event = read_event(dict(request.headers), body, key=key, now_ms=now_ms)
            await kept.keep((event.id, event.kind, body.decode()))
            return Response(b'{"ok":true}', media_type="application/json")

        async with served(Starlette(routes=[Route(PATH, receive, methods=["POST"])])) as port:
            yield port


def measure(bench: Bench) -> Iterable[Figure]:
    """For one sender and for many, next to each baseline."""
    for engine in bench.engines:
        with (
            tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder,
            engine.database() as database,
            engine.database() as other,
            running(host_server, Path(folder), database) as host,
        ):
            key = decode_secret((Path(folder) / "data" / "fake" / "secret").read_text())
            with running(bare_route, other, key) as bare:
                yield from _measure(bench, engine.name, host, bare, key)


def _measure(bench: Bench, engine: str, host: Served, bare: int, key: bytes) -> Iterable[Figure]:
    rounds, round_s = bench.pick(full=(6, 1.5), quick=(2, 0.5), tiny=(1, 0.01))
    bots = uvloop.run(_spawned(host, bench.pick(full=BOTS, quick=BOTS, tiny=2)))
    sides = [Side(host.port, events(bots, key)), Side(bare, events(bots, key))]
    for senders in bench.pick(full=SENDERS, quick=SENDERS, tiny=SENDERS[:1]):
        ours, base = uvloop.run(compare(sides, callers=senders, rounds=rounds, round_s=round_s))
        who = "1 sender" if senders == 1 else f"{senders} senders"
        yield Figure(name=f"{engine}, {who}", value=round(ours.per_s), unit="/s", baseline=round(base.per_s))


async def _spawned(host: Served, bots: int) -> list[str]:
    """Bots that wait for tomorrow, and that the events are about."""
    connection = await Connection.to(host.port)
    request = spawn_request(host)
    made = [json.loads(await connection.ask(request))["id"] for _ in range(bots)]
    connection.close()
    return made


def events(bots: Sequence[str], key: bytes) -> Ask:
    """Gives another event at every call, of one bot after the other."""
    turns, numbers = cycle(bots), count()

    def ask() -> bytes:
        bot, now_ms = next(turns), time.time_ns() // 1_000_000
        about = {"id": id_of(0, bot, 1), "metadata": {"bb_bot_id": bot}}
        data = {"code": "joining_call", "sub_code": None, "updated_at": "2026-01-01T00:00:00.000Z"}
        body = json.dumps({"event": "bot.joining_call", "data": {"bot": about, "data": data}}).encode()
        headers = signed_headers(key=key, message_id=f"bench-{next(numbers)}", now_ms=now_ms, body=body)
        return http_request("POST", PATH, headers=headers, body=body)

    return ask
