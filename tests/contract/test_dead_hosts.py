"""Several hosts on one PostgreSQL, and one dies: its jobs come back soon. What the living have claimed stays theirs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from tests.contract.commands import Put, job
from tests.contract.engines import POSTGRES
from tests.postgres import Server

from ctxhost.errors import Overloaded
from ctxhost.jobs import FinishJob
from ctxhost.store import postgres, postgres_hosts, queries
from ctxhost.store.postgres import PostgresStore
from ctxhost.store.postgres_hosts import Hosts
from ctxhost.store.postgres_session import manner
from ctxhost.store.postgres_sql import HOST_LOCKS
from ctxhost.store.rows import Job

BY_HAND_S = 3_600
SOON_S = 0.02
WITHIN_S = 10


class OpenHost(Protocol):
    """Opens one that has joined the others, and closes it after the test."""

    async def __call__(self, *, is_pooled: bool = False) -> PostgresStore: ...


@pytest.fixture(autouse=True)
def looks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts look when they join, and then when the test says so."""
    monkeypatch.setattr(postgres_hosts, "LOOK_AGAIN_S", BY_HAND_S)


@pytest.fixture
async def open_host(url: str) -> AsyncIterator[OpenHost]:
    async with AsyncExitStack() as stack:

        async def opened(*, is_pooled: bool = False) -> PostgresStore:
            store = await PostgresStore.open(url, is_pooled=is_pooled)
            stack.push_async_callback(store.aclose)
            await store.recover()
            return store

        yield opened


async def look(store: PostgresStore, *, times: int = 1) -> None:
    for _ in range(times):
        await store._hosts.look()


async def claim(store: PostgresStore) -> Sequence[Job]:
    jobs, _ = await store.claim(["work"], limit=9, per_lane=9, hold_s=60)
    return jobs


async def put(store: PostgresStore, ref: str) -> None:
    await store.write(Put(job(ref, due_ms=0)))


async def die(store: PostgresStore) -> None:
    """As the database sees it: the host's connection ends, and its claims stay."""
    number = store._hosts.number
    await store._hosts.aclose()
    await until_missing(store, number)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """A connection that breaks or heals tells nobody."""
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110 - nor does a server
            await asyncio.sleep(0.005)


def lock_of(number: int) -> str:
    return f"locktype = 'advisory' and classid = {HOST_LOCKS} and objid = {number}"


async def until_missing(store: PostgresStore, number: int) -> None:
    held = queries.ids(f"select mode from pg_locks where {lock_of(number)}")

    async def is_missing() -> bool:
        return not await store.read(held)

    await until(is_missing)


async def until_seen(store: PostgresStore, *, is_seen: bool = True) -> None:
    async def is_there() -> bool:
        return is_seen == (store._hosts.number != 0)

    await until(is_there)


@pytest.fixture
def may_connect(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Unless it is set, no host makes a broken connection again."""
    connect, gate = Hosts._connect, asyncio.Event()
    gate.set()

    async def gated(hosts: Hosts) -> "psycopg.AsyncConnection[object]":
        await gate.wait()
        return await connect(hosts)

    monkeypatch.setattr(Hosts, "_connect", gated)
    monkeypatch.setattr(postgres_hosts, "RECONNECT_S", 0)
    return gate


async def cut(store: PostgresStore, folder: Path) -> None:
    """Have the server end the connection by which the others know that the host lives."""
    number = store._hosts.number
    end = f"select pg_terminate_backend(pid) from pg_locks where {lock_of(number)}"
    assert 1 == await asyncio.to_thread(POSTGRES.execute, folder, end)
    await until_seen(store, is_seen=False)
    await until_missing(store, number)


async def test_the_jobs_of_the_dead_come_back_at_the_second_look(open_host: OpenHost) -> None:
    """Not at the first, for a connection may break; and the host that finds it out claims at once."""
    living, dying = await open_host(), await open_host()
    calls: list[str] = []
    await put(living, "a")
    assert ["a"] == [taken.ref for taken in await claim(dying)]
    living.on_jobs(lambda: calls.append("woken"))
    await die(dying)

    await look(living)
    assert [] == await claim(living)
    await look(living)
    await asyncio.sleep(0)
    assert ["woken"] == calls
    assert [("a", 2)] == [(taken.ref, taken.attempts) for taken in await claim(living)]


async def test_a_host_that_starts_beside_another_looks_at_once(open_host: OpenHost) -> None:
    """So that its next look already brings back what the dead had claimed."""
    living, dying = await open_host(), await open_host()
    await put(living, "a")
    await claim(dying)
    await die(dying)

    late = await open_host()
    assert [] == await claim(late)
    await look(late)
    assert ["a"] == [taken.ref for taken in await claim(late)]


async def test_a_connection_that_breaks_and_heals_costs_nothing(
    open_host: OpenHost, may_connect: asyncio.Event, tmp_path: Path
) -> None:
    """The host keeps what it had claimed, and is missed anew if it breaks again."""
    living, healing = await open_host(), await open_host()
    await put(living, "a")
    (claimed,) = await claim(healing)

    for _ in range(2):
        may_connect.clear()
        await cut(healing, tmp_path)
        await look(living)
        may_connect.set()
        await until_seen(healing)
        await look(living)
    await look(living, times=2)
    assert claimed == await living.read(queries.by_id(Job, "work/a"))
    await healing.write(FinishJob(job=claimed, due_ms=None))
    assert await living.read(queries.by_id(Job, "work/a")) is None


async def test_a_host_that_was_cut_off_itself_begins_anew(
    open_host: OpenHost, may_connect: asyncio.Event, tmp_path: Path
) -> None:
    """What broke its own connection may have broken the other's too, which is given time to make it again."""
    living, dying = await open_host(), await open_host()
    await put(living, "a")
    await claim(dying)
    await die(dying)
    await look(living)
    may_connect.clear()
    await cut(living, tmp_path)
    may_connect.set()
    await until_seen(living)
    await look(living)
    assert [] == await claim(living)
    await look(living)
    assert ["a"] == [taken.ref for taken in await claim(living)]


async def test_what_a_host_claims_while_it_cannot_be_seen_waits_for_its_deadline(
    open_host: OpenHost, may_connect: asyncio.Event, tmp_path: Path
) -> None:
    """A host that cannot make that connection again loses what it had claimed before, once, and goes on."""
    living, cut_off = await open_host(), await open_host()
    await put(living, "before")
    await claim(cut_off)
    may_connect.clear()
    await cut(cut_off, tmp_path)
    await put(living, "after")
    assert ["after"] == [taken.ref for taken in await claim(cut_off)]

    await look(living, times=3)
    assert ["before"] == [taken.ref for taken in await claim(living)]


async def test_the_claims_of_the_living_stay(open_host: OpenHost) -> None:
    """However often is looked, and whoever comes and goes; also those of a host behind a pooler, which none can see."""
    hosts = [await open_host(), await open_host(), await open_host(is_pooled=True)]
    claimed: list[Job] = []
    for number, host in enumerate(hosts):
        await put(host, f"{number}")
        claimed += await claim(host)
    await die(await open_host())

    for host in (*hosts[:2], await open_host()):
        await look(host, times=3)
    assert ["0", "1", "2"] == [taken.ref for taken in claimed]
    assert claimed == [await hosts[0].read(queries.by_id(Job, taken.id)) for taken in claimed]


async def test_who_was_taken_for_dead_cannot_end_what_came_back(open_host: OpenHost) -> None:
    """Neither before another host claims it nor after; that one's run decides."""
    living, missed = await open_host(), await open_host()
    await put(living, "a")
    (old,) = await claim(missed)
    await die(missed)
    await look(living, times=2)

    await missed.write(FinishJob(job=old, due_ms=None))
    (new,) = await claim(living)
    await missed.write(FinishJob(job=old, due_ms=None))
    assert new == await living.read(queries.by_id(Job, "work/a"))
    await living.write(FinishJob(job=new, due_ms=None))
    assert await living.read(queries.by_id(Job, "work/a")) is None


def woken(store: PostgresStore) -> asyncio.Event:
    """Set when jobs come back, at a host that looks by itself."""
    came = asyncio.Event()
    store.on_jobs(came.set)
    return came


async def test_a_look_that_fails_is_not_the_last(
    open_host: OpenHost, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host looks by itself, also after the database had no time for it."""
    impatient = manner(lock_timeout_ms=20, statement_timeout_s=30)
    monkeypatch.setattr(postgres, "CHORES", impatient)
    monkeypatch.setattr(postgres_hosts, "LOOK_AGAIN_S", SOON_S)
    refused, look = asyncio.Event(), Hosts.look

    async def watched(hosts: Hosts) -> None:
        try:
            await look(hosts)
        except Overloaded:
            refused.set()
            raise

    monkeypatch.setattr(Hosts, "look", watched)
    living, dying = await open_host(), await open_host()
    await put(living, "a")
    await claim(dying)
    async with await psycopg.AsyncConnection.connect(url) as other, asyncio.timeout(WITHIN_S):
        await other.execute("lock table job")
        await die(dying)
        await refused.wait()
        came = woken(living)
        await other.rollback()
        await came.wait()
    assert ["a"] == [taken.ref for taken in await claim(living)]


async def test_looks_go_on_after_an_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Who died while the server was away is found missing when it is back; there is no traceback."""
    monkeypatch.setattr(postgres_hosts, "LOOK_AGAIN_S", SOON_S)
    monkeypatch.setattr(postgres_hosts, "RECONNECT_S", SOON_S)
    server = await asyncio.to_thread(Server)
    try:
        url = server.create("away")
        living, dying = await PostgresStore.open(url), await PostgresStore.open(url)
        async with AsyncExitStack() as stack:
            for store in (living, dying):
                stack.push_async_callback(store.aclose)
                await store.recover()
            await put(living, "a")
            await claim(dying)
            await asyncio.to_thread(server.stop)
            await dying._hosts.aclose()
            await until_seen(living, is_seen=False)
            came = woken(living)
            await asyncio.to_thread(server.start)
            await asyncio.wait_for(came.wait(), WITHIN_S)
            assert ["a"] == [taken.ref for taken in await claim(living)]
    finally:
        await asyncio.to_thread(server.close)
    assert [] == [record for record in caplog.records if record.exc_info]
