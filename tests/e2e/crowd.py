"""Callers of all kinds who go on calling whatever happens to the hosts, and what each of them was answered."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from tests.e2e.pair import ACCOUNT, APP, INBOUND, Pair

from ctxhost.ledger.verify import verify
from ctxhost.store import Store, queries
from ctxhost.store.open import open_store
from ctxhost.webhooks.requests import DEFAULT_EVENTS
from ctxhost_recall.emulator import Event, signed_headers

KINDS = ("spawn", "read", "event", "function")
OF_A_HAPPY_LIFE = set(DEFAULT_EVENTS) - {"bot.fatal", "transcript.failed"}
AGAIN_S = 0.5
APART_S = 0.1
BOTS = f"/v1/{APP}/ai/meetings"
READS = (BOTS, f"/v1/{APP}/credits", f"{BOTS}/usage", f"{BOTS}/webhook/deliveries", f"/v1/{APP}/credits/entries")


@dataclass(frozen=True, slots=True)
class Answered:
    """One call and its answer."""

    kind: str
    host: int
    began_s: float
    took_s: float
    status: int
    body: Any
    retry_after: str | None
    request_id: str | None

    @property
    def ended_s(self) -> float:
        return self.began_s + self.took_s

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"]) if self.status >= 400 else ""


@dataclass
class Crowd:
    """What was answered, and what was acknowledged by it."""

    pair: Pair
    client: httpx.AsyncClient
    answers: list[Answered] = field(default_factory=list)
    bots: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key → the bot's id."""
    events: set[str] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    is_over: bool = False
    spawns: bool = True

    async def call(self, kind: str, host: int, method: str, path: str, **more: Any) -> Answered:
        """One call. A connection that breaks, or an answer that does not come, fails the test."""
        began_s = time.monotonic()
        answer = await self.client.request(method, self.pair.urls[host] + path, **more)
        told = Answered(
            kind,
            host,
            began_s,
            time.monotonic() - began_s,
            answer.status_code,
            answer.json(),
            answer.headers.get("retry-after"),
            answer.headers.get("x-request-id"),
        )
        self.answers.append(told)
        return told

    async def spawn(self, name: str, hosts: Iterator[int]) -> None:
        """Bots, each asked for under its key until it is there, now here, now there."""
        for n in itertools.count():
            if not self.spawns:
                return
            key = f"{name}-{n}"
            body = {"meetingUrl": "https://zoom.us/j/1", "metadata": {"key": key}}
            while key not in self.bots:
                told = await self.call("spawn", next(hosts), "POST", BOTS, json=body, headers={"idempotency-key": key})
                if told.status == 200:
                    self.bots[key] = told.body["id"]
                await anyio.sleep(AGAIN_S)

    async def read(self, hosts: Iterator[int]) -> None:
        for path in itertools.cycle(READS):
            if self.is_over:
                return
            await self.call("read", next(hosts), "GET", path)
            await anyio.sleep(APART_S)

    async def tell(self, name: str, hosts: Iterator[int]) -> None:
        """A provider's webhooks, each sent once."""
        for n in itertools.count():
            if self.is_over:
                return
            now_ms = time.time_ns() // 1_000_000
            body = json.dumps({"event": "sent.by_a_test", "data": {}}).encode()
            event = Event(f"{name}-{n}", now_ms, "sent.by_a_test", body)
            headers = signed_headers(event, secrets=[self.pair.emulator.webhook_secret], now_ms=now_ms)
            told = await self.call("event", next(hosts), "POST", INBOUND, content=body, headers=headers)
            if told.status == 200:
                self.events.add(f"recall/{event.id}")
            await anyio.sleep(APART_S)

    async def keep(self, numbers: Iterator[int], hosts: Iterator[int]) -> None:
        """Calls of a function that writes to its app's database."""
        for n in numbers:
            if self.is_over:
                return
            told = await self.call("function", next(hosts), "POST", f"/v1/{APP}/fn/keep", json={"n": n})
            if told.status == 200:
                self.kept.add(n)
            await anyio.sleep(APART_S)

    def since(self, from_s: float, to_s: float = float("inf")) -> Sequence[Answered]:
        """What was asked in a time."""
        return [told for told in self.answers if from_s <= told.began_s < to_s]


@asynccontextmanager
async def calling(pair: Pair, *, within_s: float) -> AsyncIterator[Crowd]:
    """The crowd calls until the block is left; every call is answered `within_s`."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        headers=pair.headers, timeout=within_s, limits=limits, trust_env=False, verify=False
    ) as client:
        crowd = Crowd(pair, client)
        numbers = itertools.count(1)
        async with anyio.create_task_group() as tasks:
            for n in range(2):
                hosts = itertools.cycle([n % 2, (n + 1) % 2])
                tasks.start_soon(crowd.spawn, f"bot{n}", hosts)
                tasks.start_soon(crowd.read, hosts)
                tasks.start_soon(crowd.tell, f"event{n}", hosts)
                tasks.start_soon(crowd.keep, numbers, hosts)
            try:
                yield crowd
            finally:
                crowd.is_over, crowd.spawns = True, False


async def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Look at the real processes until it holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.05)


EVERYTHING = tuple((kind, host) for kind in KINDS for host in (0, 1))


def works(crowd: Crowd, since_s: float, what: Sequence[tuple[str, int]] = EVERYTHING) -> bool:
    """Every kind of call has succeeded at every host since."""
    return set(what) <= {(told.kind, told.host) for told in crowd.since(since_s) if told.status == 200}


def is_told_of_all(pair: Pair, crowd: Crowd) -> bool:
    """The receiver has heard everything that there is to say of every bot."""
    told = Counter(event for events in pair.receiver.got.values() for event in set(events))
    return told == dict.fromkeys(OF_A_HAPPY_LIFE, len(crowd.bots))


async def check_books(database: str, pair: Pair, crowd: Crowd) -> None:
    """Everything that was acknowledged is there, once."""
    async with aclosing(await open_store(database)) as store:
        await _check_books(store, pair, crowd)


async def _check_books(store: Store, pair: Pair, crowd: Crowd) -> None:
    bots = await store.read(queries.bots_page(APP, status=None, before=None, limit=1_000))
    assert crowd.bots == {json.loads(bot.metadata)["key"]: bot.id for bot in bots}
    assert len(crowd.bots) == len(bots) == len(pair.emulator.bots)
    assert {("done", 2)} == {(bot.status, bot.duration_s) for bot in bots}
    assert set() == crowd.events - {*await store.read(queries.ids("select id from inbound_event"))}
    entries = await store.read(queries.entries(ACCOUNT, before_seq=2**62, limit=1_000))
    charged = Counter((entry.lease, entry.dimension) for entry in entries if entry.kind == "charge")
    assert {(bot.id, line): 1 for bot in bots for line in ("recording", "transcription")} == charged
    messages = await store.read(queries.messages_page(APP, before=None, limit=1_000))
    assert {"delivered"} == {message.state for message in messages}
    assert set(pair.receiver.got) == {message.id for message in messages}
    assert [] == await verify(store)
