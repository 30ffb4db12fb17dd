"""Signed webhooks of the fake provider, accepted through the API by a host at work.

The baseline is a Starlette route on a server of the same kind that verifies each and commits it by itself, to a file
with the same settings; it does not know what an event is about.
"""

import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import count, cycle
from pathlib import Path

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import Figure
from benchmarks.load import Ask, Connection, Side, compare, http_request
from benchmarks.servers import Served, host_server, running, served
from benchmarks.spawn import spawn_request
from ctxhost.webhooks.signing import decode_secret
from ctxhost_fake.life import id_of
from ctxhost_fake.webhooks import read_event, signed_headers

TITLE = "Inbound: signed webhooks, accepted a second"
SENDERS = (1, 32)
BOTS = 200
PATH = "/v1/ai/meetings/_webhooks/fake"


class Plain:
    """Verify, insert, commit: nothing else, and one by one."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = key
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute("create table if not exists event (id text primary key not null, kind text, body text) strict")

    def accept(self, headers: dict[str, str], body: bytes) -> None:
        event = read_event(headers, body, key=self._key, now_ms=time.time_ns() // 1_000_000)
        self._db.execute("begin immediate")
        self._db.execute("insert into event (id, kind, body) values (?, ?, ?)", (event.id, event.kind, body.decode()))
        self._db.execute("commit")

    def close(self) -> None:
        self._db.close()


@contextlib.asynccontextmanager
async def bare_route(path: Path, key: bytes) -> AsyncIterator[int]:
    """The baseline as a server; its port."""
    with contextlib.closing(Plain(path, key)) as plain:

        async def receive(request: Request) -> Response:
            plain.accept(dict(request.headers), await request.body())
            return Response(b'{"ok":true}', media_type="application/json")

        async with served(Starlette(routes=[Route(PATH, receive, methods=["POST"])])) as port:
            yield port


def measure(*, quick: bool) -> Iterable[Figure]:
    """For one sender and for many, next to each baseline."""
    rounds, round_s = (2, 0.5) if quick else (6, 1.5)
    with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as told:
        folder = Path(told)
        with running(host_server, folder / "host") as host:
            key = decode_secret((folder / "host" / "data" / "fake" / "secret").read_text())
            bots = uvloop.run(_spawned(host))
            with running(bare_route, folder / "bare.db", key) as bare:
                sides = [Side(host.port, events(bots, key)), Side(bare, events(bots, key))]
                for senders in SENDERS:
                    ours, base = uvloop.run(compare(sides, callers=senders, rounds=rounds, round_s=round_s))
                    who = "1 sender" if senders == 1 else f"{senders} senders"
                    yield Figure(name=who, value=round(ours.per_s), unit="/s", baseline=round(base.per_s))


async def _spawned(host: Served) -> list[str]:
    """Bots that wait for tomorrow, and that the events are about."""
    connection = await Connection.to(host.port)
    request = spawn_request(host)
    bots = [json.loads(await connection.ask(request))["id"] for _ in range(BOTS)]
    connection.close()
    return bots


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
