"""Several hosts on one PostgreSQL: one of them stands still, loses its connection, or loses the server."""

import asyncio
import contextlib
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.contract import paused_child
from tests.contract.commands import Add, Append, Do, Put, app, job
from tests.contract.engines import POSTGRES
from tests.postgres import Server

from ctxhost.clock import WallClock
from ctxhost.errors import Overloaded
from ctxhost.ledger.commands import OpenAccount, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Command, Query, Store, postgres_batch, postgres_hosts, queries
from ctxhost.store.open import open_store
from ctxhost.store.postgres import READERS
from ctxhost.store.postgres_batch import Batches, Ran
from ctxhost.store.postgres_sql import HOSTS_LOCK, NOW
from ctxhost.store.postgres_wire import Result, Statement, Wire
from ctxhost.store.rows import Account, App, Lease

ROOT = Path(__file__).parents[2]
DELAY_S = 0.05  # what another host's pause may add
SOON_S = 0.5  # what must not wait takes a few milliseconds; a busy machine is given more
KILL = Statement("select pg_terminate_backend(pg_backend_pid())")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A host whose clock is the database's."""
    opened = await open_store(url)
    for account in ("held", "free"):
        await opened.write(OpenAccount(account=account, owner="me"))
    yield opened
    await opened.aclose()


@contextlib.asynccontextmanager
async def standing_still(url: str, account: str) -> AsyncIterator[None]:
    """Another host that has locked an account and does nothing more."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("select 1 from account where id = %s for update", (account,))
        yield
        await connection.rollback()


async def timed(store: Store, account: str, n: int) -> float:
    started = time.monotonic()
    await store.write(Put(app(f"{account}{n}", account=account), account=account))
    return time.monotonic() - started


async def timed_rounds(store: Store, accounts: Sequence[str], *, first: int, rounds: int) -> list[float]:
    """How long writes take, in rounds of one to each account at once."""
    took_s: list[float] = []
    for n in range(first, first + rounds):
        took_s += await asyncio.gather(*[timed(store, account, n) for account in accounts])
    return took_s


def check_no_slower(before_s: list[float], during_s: list[float]) -> None:
    """Less than 50 ms is added, as far as that can be told on a machine that does other things too."""
    assert statistics.median(during_s) < statistics.median(before_s) + DELAY_S
    assert max(during_s) < max(before_s) + SOON_S


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """The accounts of every transaction that has waited for a lock."""
    seen: list[frozenset[str]] = []
    run = Batches.run

    async def watched(batches: Batches, commands: Sequence[Command[Any]], *, wait_for: str | None = None) -> Ran:
        if wait_for is not None:
            seen.append(frozenset(command.account for command in commands))
        return await run(batches, commands, wait_for=wait_for)

    monkeypatch.setattr(Batches, "run", watched)
    return seen


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("haste_s", [0, 60])
async def test_a_locked_account_delays_no_other(
    store: Store,
    url: str,
    waits: list[frozenset[str]],
    monkeypatch: pytest.MonkeyPatch,
    haste_s: float,
    is_known: bool,
) -> None:
    """While another host stands still with an account, all others are served; its own writes come in their order.

    That is so when they wait for it in the patient lane, and as long as they are only tried again with each batch;
    whether this host has ever had the account or not.
    """
    monkeypatch.setattr("ctxhost.store.postgres_lanes.HASTE_S", haste_s)
    seen: list[int] = []

    def note(n: int) -> Do:
        return Do(lambda _: seen.append(n), account="held")

    before_s = await timed_rounds(store, ["free", "held"] if is_known else ["free"], first=0, rounds=40)
    async with standing_still(url, "held"):
        waiting = [asyncio.ensure_future(store.write(note(n))) for n in range(5)]
        during_s = []
        for n in range(40):
            during_s.append(await timed(store, "free", 40 + n))
            waiting.append(asyncio.ensure_future(store.write(note(5 + n))))
        assert [] == seen
        assert (haste_s == 0) == bool(waits)
    await asyncio.gather(*waiting)

    check_no_slower(before_s, during_s)
    assert {frozenset({"held"})} >= set(waits)
    assert list(range(45)) == seen
    assert await timed(store, "held", 40) < SOON_S


async def test_an_account_that_stays_locked_is_told(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for an account hears when to come again, and nothing was written."""
    monkeypatch.setattr("ctxhost.store.postgres_lanes.PATIENCE_S", 0.1)
    async with standing_still(url, "held"):
        with pytest.raises(Overloaded, match="nothing was written") as caught:
            await store.write(Add("a", 1, account="held"))
    assert "retry-after" in caught.value.headers()
    assert await store.read(queries.by_id(App, "a")) is None


async def test_a_row_that_stays_locked_is_told(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is when something else than its account is locked, and nobody else's write waits for it."""
    monkeypatch.setattr("ctxhost.store.postgres_lanes.PATIENCE_S", 0.1)
    await store.write(Put(job("a", due_ms=0)))
    async with await psycopg.AsyncConnection.connect(url) as elsewhere:
        await elsewhere.execute("select 1 from job for update")
        with pytest.raises(Overloaded, match="nothing was written"):
            await store.write(Put(job("a", due_ms=1)))
        assert await timed(store, "free", 1) < SOON_S


async def test_a_caller_that_goes_away_while_it_waits_is_dropped(
    store: Store, url: str, waits: list[frozenset[str]]
) -> None:
    """A cancelled write that still waits for its account does not happen, and stands in nobody's way."""

    async def rounds_of_waiting(count: int) -> None:
        """Waiting comes in rounds of a few milliseconds each, so that this many are soon over."""
        end = len(waits) + count
        while len(waits) < end:  # noqa: ASYNC110 - each turn of the loop is a look at what it did
            await asyncio.sleep(0)

    async with standing_still(url, "held"):
        gone = asyncio.ensure_future(store.write(Add("a", 1, account="held")))
        stays = asyncio.ensure_future(store.write(Add("a", 10, account="held")))
        await rounds_of_waiting(1)
        gone.cancel()
        await rounds_of_waiting(2)
    assert 10 == await stays


async def test_a_batch_knows_of_everything_that_is_due_by_its_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold whose time comes while a batch asks after an account that it did not find is due to it, or not yet."""
    ledger = Ledger(store)
    await ledger.open_account("me", account="a")
    await ledger.grant("a", 100, key="funds")
    reserve = Reserve(
        account="a", app="app", lease="held", purpose="chat", amount=50, dimensions=("line",), rate_card="{}",
        paid_for_s=1, hold_s=1,
    )  # fmt: skip
    due_ms = (await store.write(reserve)).created_ms + 1_000
    trip = Wire.trip

    async def late(wire: Wire, statements: Sequence[Statement]) -> list[Result]:
        while any(statement.sql.startswith("select id from account") for statement in statements):
            if (await trip(wire, [NOW]))[0].rows[0][0] > due_ms:
                break
        return await trip(wire, statements)

    monkeypatch.setattr(Wire, "trip", late)
    look = Do(lambda view: (view.now_ms >= due_ms, len(view.due(Lease, "a"))), account="a")
    seen, _ = await asyncio.gather(store.write(look), ledger.open_account("me", account="new"))

    assert seen in {(False, 0), (True, 1)}


@contextlib.asynccontextmanager
async def stopped_host(url: str, accounts: Sequence[str]) -> AsyncIterator[list[bytes]]:
    """A process that has locked accounts and is then stopped, as by a debugger or a machine that is put aside.

    It goes on at the end of the block, and has written what is then in the list.
    """
    command = [sys.executable, str(Path(paused_child.__file__)), url, *accounts]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    output: list[bytes] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=env) as child:  # noqa: ASYNC220 - it is waited for
        try:
            await asyncio.to_thread(os.waitpid, child.pid, os.WUNTRACED)
            yield output
        finally:
            child.send_signal(signal.SIGCONT)
            output += (await asyncio.to_thread(child.communicate))[0].split()


@pytest.mark.parametrize("count", [1, 20])
async def test_a_host_stopped_in_mid_batch(
    store: Store, url: str, count: int, waits: list[frozenset[str]], record_property: Callable[[str, object], None]
) -> None:
    """A process that is stopped while it holds accounts delays these for seconds and no other; when it goes on, its
    own writes are still done, once."""
    held = [f"held-{n}" for n in range(count)]
    free = [f"free-{n}" for n in range(8)]
    for account in (*held, *free):
        await store.write(OpenAccount(account=account, owner="me"))
    before_s = await timed_rounds(store, free, first=0, rounds=100)
    async with stopped_host(url, held) as output:
        waiting = [asyncio.ensure_future(store.write(Add(f"sum/{account}", 1, account=account))) for account in held]
        during_s = await timed_rounds(store, free, first=100, rounds=100)
        assert not any(write.done() for write in waiting)
        await asyncio.gather(*waiting)

    for name, took_s in (("before", before_s), ("during", during_s)):
        record_property(name, sorted(took_s))
    check_no_slower(before_s, during_s)
    assert waits
    assert set() == frozenset().union(*waits) & set(free)
    assert [b"written", *[b"11"] * count] == output
    sums = [await store.read(queries.by_id(App, f"sum/{account}")) for account in held]
    assert [11] * count == [row.created_ms for row in sums if row is not None]


def killing(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Have the server end a batch's connection before its statement `at`; tells how many statements a batch has."""
    trip = Wire.trip
    sent: list[Statement] = []
    sizes: list[int] = []

    async def killed(wire: Wire, statements: list[Statement]) -> list[Result]:
        first = len(sent)
        sent.extend(statements)
        is_last = statements[-1].sql == "commit"
        if is_last and not sizes:
            sizes.append(len(sent) - max(n for n, one in enumerate(sent) if one.sql.startswith("begin")))
        place = at - first
        if 0 <= place < len(statements) or (place == len(statements) and is_last):
            statements = [*statements[:place], KILL, *statements[place:]]
        return await trip(wire, statements)

    monkeypatch.setattr(Wire, "trip", killed)
    return sizes


@pytest.mark.parametrize("at", range(10))
async def test_a_connection_that_breaks_at_any_statement(
    store: Store, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The caller does not notice: the write is done, once, whether its commit was lost before or after it."""
    await store.write(Add("sum", 1, account="free"))
    statements = killing(monkeypatch, at)
    commands: list[Any] = [Add("sum", 10, account="free"), Put(job("j", due_ms=0, account="free"), account="free")]
    answers = await asyncio.gather(*[store.write(command) for command in commands])
    monkeypatch.undo()

    assert [11, "work/j"] == answers
    assert 9 == statements[0]  # so that the last of the numbers tried is after the commit
    row = await store.read(queries.by_id(App, "sum"))
    assert row is not None
    assert 11 == row.created_ms


async def test_reads_and_claims_survive_a_broken_connection(store: Store, url: str, tmp_path: Path) -> None:
    """Every connection of a host is ended under it; what it does next works."""
    await store.write(Put(job("j", due_ms=0, account="free"), account="free"))
    ended = (
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname is not null"
    )
    await asyncio.to_thread(POSTGRES.execute, tmp_path, f"{ended} and datname = current_database()")

    assert await store.read(queries.by_id(Account, "free")) is not None
    jobs, _ = await store.claim(["work"], limit=5, per_lane=5, hold_s=60)
    assert ["j"] == [claimed.ref for claimed in jobs]
    assert 0 == await store.prune()
    await store.write(Add("a", 1, account="free"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
async def test_a_server_that_is_away_for_a_while(
    how: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load: callers hear 503 with Retry-After, no acknowledged write is lost, none is doubled, all recovers.

    Why it is away is said once, and to the operator alone.
    """
    monkeypatch.setattr(postgres_batch, "FATE_KNOWN_AFTER_S", 0.2)
    server = await asyncio.to_thread(Server)
    store = await open_store(server.create("away"))
    await store.write(OpenAccount(account="acct", owner="me"))
    acknowledged: set[str] = set()
    refused: list[Overloaded] = []
    done = asyncio.Event()
    told = asyncio.Condition()

    async def write_for_ever(name: str) -> None:
        n = 0
        while not done.is_set():
            n += 1
            try:
                await store.write(Append(app(f"{name}-{n}", account="acct"), account="acct"))
                acknowledged.add(f"{name}-{n}")
            except Overloaded as error:
                refused.append(error)
                await asyncio.sleep(0.02)
            async with told:
                told.notify_all()

    async def reach(count: int, of: Collection[object]) -> None:
        async with asyncio.timeout(20), told:
            await told.wait_for(lambda: len(of) >= count)

    try:
        writers = [asyncio.ensure_future(write_for_ever(f"w{n}")) for n in range(16)]
        await reach(100, acknowledged)
        await asyncio.to_thread(server.stop, how)
        await reach(len(refused) + 100, refused)
        with pytest.raises(Overloaded):
            await store.read(queries.by_id(Account, "acct"))
        away = len(acknowledged)
        await asyncio.to_thread(server.start)
        await reach(away + 100, acknowledged)
        done.set()
        await asyncio.gather(*writers)
        rows = {row.id for row in await store.read(queries.apps("acct"))}
    finally:
        done.set()
        await store.aclose()
        await asyncio.to_thread(server.close)

    assert set() == acknowledged - rows
    assert all("retry-after" in error.headers() for error in refused)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    gone, back = said
    assert gone.startswith("the database cannot be reached; it is tried again and again: conn")
    assert back.startswith("the database is reached again, after ")
    assert not any("socket" in error.message for error in refused)
    unknown = sum("not known" in error.message for error in refused)
    assert len(rows - acknowledged) <= unknown


async def test_another_host_is_told_of_new_jobs(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that have joined wake each other, soon; one's own word is no news to it."""
    monkeypatch.setattr(postgres_hosts, "HINT_PAUSE_S", 0)
    other = await open_store(url)
    try:
        await store.recover()
        await other.recover()
        woken = asyncio.Event()
        other.on_jobs(woken.set)
        async with asyncio.timeout(10):
            for n in range(100):  # until the other one listens
                await store.write(Put(job(f"{n}", due_ms=0, account="free"), account="free"))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), 0.1)
                    break
        assert woken.is_set()
    finally:
        await other.aclose()


async def test_a_host_that_stands_still_while_it_joins(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one that starts does not wait for it: it begins without knowing who lives."""
    monkeypatch.setattr(postgres_hosts, "ANSWER_WITHIN_S", 0.2)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        await other.execute("select pg_advisory_lock(%s)", (HOSTS_LOCK,))
        await store.recover()

    assert "claims end at their deadline" in caplog.text
    caplog.clear()
    await store.recover()
    assert "" == caplog.text


async def test_reads_do_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all connections are taken by slow ones, the next hears when to come again."""
    monkeypatch.setattr("ctxhost.store.postgres_session.READ_PATIENCE_S", 0.1)
    slow = Query("select cast(1 as bigint) from pg_sleep(1)", list)
    reads = [store.read(slow) for _ in range(READERS + 1)]
    *answers, last = await asyncio.gather(*reads, return_exceptions=True)

    assert [[(1,)]] * READERS == answers
    assert isinstance(last, Overloaded)
    assert "retry-after" in last.headers()
    assert await store.read(queries.by_id(Account, "free")) is not None


@pytest.mark.parametrize("wrong_ms", [-5_000, 5_000])
async def test_the_databases_clock_decides(store: Store, monkeypatch: pytest.MonkeyPatch, wrong_ms: int) -> None:
    """A host whose own clock is wrong writes the same times as any other, and says the same time."""
    right_ms = WallClock().now_ms()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + wrong_ms * 1_000_000)
    account = await Ledger(store).open_account("me", account="new")

    assert abs(account.created_ms - right_ms) < 2_000
    assert abs(store.now_ms() - right_ms) < 2_000


async def test_behind_a_pooler(store: Store, url: str, tmp_path: Path) -> None:
    """Where a connection keeps no state, everything but the hints and the roll call works alike."""
    pooled = await open_store(url, is_pooled=True)
    try:
        answers = await asyncio.gather(
            *[host.write(Add("sum", 1, account="free")) for _ in range(20) for host in (store, pooled)]
        )
        assert list(range(1, 41)) == sorted(answers)
        await pooled.write(Put(job("j", due_ms=0, account="free"), account="free"))
        await pooled.recover()
        jobs, _ = await pooled.claim(["work"], limit=5, per_lane=5, hold_s=60)
        assert ["j"] == [claimed.ref for claimed in jobs]
        assert [] == await pooled.read(queries.ids("select name from pg_prepared_statements"))
        async with standing_still(url, "held"):
            assert await timed(pooled, "free", 1) < SOON_S
    finally:
        await pooled.aclose()
