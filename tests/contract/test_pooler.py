"""Behind a pooler in transaction mode: the store's contract, and what is told by a connection that is not one's own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.contract import test_jobs as of_jobs
from tests.contract import test_last_write as of_last_writes
from tests.contract import test_store as of_stores
from tests.contract.commands import Add
from tests.contract.engines import POSTGRES, Engine, database_of, postgres_url
from tests.pooler import POOLERS, Pooler, needs_pgbouncer, pooling
from tests.postgres import server

from ctxhost.clock import Clock
from ctxhost.errors import Overloaded, StoreError
from ctxhost.store import Query, Store, postgres_wire, queries
from ctxhost.store.open import open_store
from ctxhost.store.postgres_wire import Statement, Wire
from ctxhost.store.rows import App

OF_LIVING_HOSTS = {"test_the_jobs_of_a_dead_host_come_back_at_once"}
"""Who lives cannot be known here: claims end at their deadline."""
for _tests in (of_stores, of_jobs, of_last_writes):
    globals().update({n: t for n, t in vars(_tests).items() if n.startswith("test_") and n not in OF_LIVING_HOSTS})


@pytest.fixture(params=POOLERS)
async def pooled(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], str]]:
    """From the name of a database to its URL behind the pooler."""
    running = await asyncio.to_thread(server)
    async with pooling(request.param, running) as url:
        yield url


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Pooler]:
    """Our own, before the database of the folder."""
    await asyncio.to_thread(postgres_url, tmp_path)
    pooler = Pooler(await asyncio.to_thread(server))
    await pooler.start()
    yield pooler
    await pooler.aclose()
    POSTGRES.discard(tmp_path)


@pytest.fixture
def engine(pooled: Callable[[str], str], tmp_path: Path) -> Iterator[Engine]:
    """PostgreSQL as every test of the contract knows it, opened through the pooler."""

    @contextlib.asynccontextmanager
    async def through(folder: Path, clock: Clock) -> AsyncIterator[Store]:
        await asyncio.to_thread(postgres_url, folder)
        store = await open_store(pooled(database_of(folder)), clock=clock, is_pooled=True)
        try:
            yield store
        finally:
            await store.aclose()

    yield replace(POSTGRES, open=through)
    POSTGRES.discard(tmp_path)


@needs_pgbouncer
def test_the_real_pgbouncer_is_among_them() -> None:
    """Everything here also runs behind PgBouncer itself, where it is installed."""
    assert "pgbouncer" in POOLERS


async def in_turns(wires: Sequence[Wire], statement: Statement) -> None:
    for wire in [*wires] * 10:
        await wire.trip([statement])


async def written(store: Store, command: Add) -> int:
    """A write that is repeated until it is done."""
    while True:
        with contextlib.suppress(Overloaded):
            return await store.write(command)
        await asyncio.sleep(0.05)


async def test_connections_are_shared(own: Pooler, tmp_path: Path) -> None:
    """What is tested here is a pooler: many clients on few connections, whose prepared statements are not theirs."""
    url = own.url(database_of(tmp_path))
    wires = [await Wire.connect(url, options="", prepares=n > 5, timeout_s=10) for n in range(8)]
    asked = Statement("select pg_backend_pid() from pg_sleep(0.05)")
    answers = await asyncio.gather(*[wire.trip([asked]) for wire in wires[:6]])
    with pytest.raises(psycopg.Error, match=r"prepared statement .* (already exists|does not exist)"):
        await in_turns(wires[6:], Statement("select 1::bigint"))
    for wire in wires:
        await wire.close()

    assert 8 == own.clients
    assert own.most_servers == len({result.rows[0] for (result,) in answers}) == 3


async def test_a_new_database_is_furnished_through_it(pooled: Callable[[str], str]) -> None:
    """The schema is made there too, by hosts that start together."""
    server().create(name := "furnished")
    try:
        stores = await asyncio.gather(*[open_store(pooled(name), is_pooled=True) for _ in range(3)])
        written = await asyncio.gather(*[store.write(Add("sum", 1)) for store in stores for _ in range(10)])
        for store in stores:
            await store.aclose()
    finally:
        server().drop(name)

    assert list(range(1, 31)) == sorted(written)


async def test_what_must_not_be_forgotten_is_told(own: Pooler, tmp_path: Path) -> None:
    """Without the setting that says that there is a pooler, nothing starts, and the reason is the pooler's own."""
    with pytest.raises(StoreError, match="unsupported startup parameter"):
        await open_store(own.url(database_of(tmp_path)))


async def test_more_callers_than_connections(store: Store, other: Store) -> None:
    """Hundreds of writes and reads at once through three connections; none is lost."""
    hosts = (store, other)
    writing = asyncio.gather(*[hosts[n % 2].write(Add("sum", 1)) for n in range(200)])
    await asyncio.gather(*[hosts[n % 2].read(queries.by_id(App, "sum")) for n in range(200)])

    assert list(range(1, 201)) == sorted(await writing)


async def test_a_server_that_falls_silent(own: Pooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs without a word is noticed by looking whether it still lets anybody in; nobody waits for long."""
    monkeypatch.setattr(postgres_wire, "QUIET_S", 0.2)
    store = await open_store(f"{own.url(database_of(tmp_path))}?connect_timeout=2", is_pooled=True)
    try:
        assert 1 == await store.write(Add("sum", 1))
        assert await store.read(queries.by_id(App, "sum")) is not None
        own.is_silent = True
        began_s = time.monotonic()
        reads = [store.read(queries.by_id(App, "sum")) for _ in range(20)]
        answers = await asyncio.gather(*reads, store.write(Add("sum", 9)), return_exceptions=True)
        took_s = time.monotonic() - began_s
        own.is_silent = False
        async with asyncio.timeout(10):
            total = await written(store, Add("sum", 1))
    finally:
        await store.aclose()

    assert {Overloaded} == {type(answer) for answer in answers}
    assert took_s < 10
    assert 2 == total


async def test_a_slow_answer_is_waited_for(own: Pooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets others in is only slow."""
    monkeypatch.setattr(postgres_wire, "QUIET_S", 0.1)
    store = await open_store(own.url(database_of(tmp_path)), is_pooled=True)
    try:
        before = own.clients
        assert [(1,)] == await store.read(Query("select cast(1 as bigint) from pg_sleep(0.5)", list))
        assert before < own.clients  # it was looked
    finally:
        await store.aclose()
