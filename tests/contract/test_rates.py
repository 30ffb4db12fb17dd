"""What all hosts of one store promise together about a rate, on every engine."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.contract.engines import Engine

import ctxhost_recall
from ctxhost.clock import ManualClock
from ctxhost.errors import Overloaded, ProviderBusy, RateExceeded
from ctxhost.hookspecs import Rate
from ctxhost.host import Host
from ctxhost.meetings.provider import BotRequest, MeetingProvider
from ctxhost.rates import AWAY_MS, SharedRates, TakePermits
from ctxhost.settings import Settings
from ctxhost.store import Command, Store, queries
from ctxhost.store.rows import RateTaken
from ctxhost.tenants.secrets import new_key_text
from ctxhost_recall.emulator import Emulator, serve

WINDOW_S = 60
HELD_S = 2


class LeapingClock(ManualClock):
    """Whoever waits on it has waited already."""

    async def sleep_until(self, due_ms: int) -> None:
        self.set(max(due_ms, self.now_ms()))


class Away:
    """A store that can be taken away, and counts what is written."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_away = False
        self.writes = 0

    async def write(self, command: Command[Any]) -> Any:
        self.writes += 1
        if self.is_away:
            raise Overloaded("the database is away")
        return await self.store.write(command)


def rates(store: Store | Away, clock: ManualClock) -> SharedRates:
    return SharedRates(store, clock)  # type: ignore[arg-type]


def most_in_a_window(times_ms: Sequence[int]) -> int:
    """The calls of the fullest window: it begins with one of them."""
    return max(sum(start <= at < start + WINDOW_S * 1_000 for at in times_ms) for start in times_ms)


async def used(rate: Any, clock: ManualClock, times: int) -> list[int]:
    """When so many permits were had, without waiting for any."""
    found = []
    for _ in range(times):
        try:
            await rate.acquire(timeout_s=0)
        except RateExceeded:
            break
        found.append(clock.now_ms())
    return found


async def test_no_window_has_more_than_the_limit(store: Store, other: Store, clock: ManualClock) -> None:
    """Whoever asks, whenever: three hosts, in bursts and alone, also when a call is late to arrive."""
    chance = random.Random(7)
    hosts = [rates(host, clock).open("acme/create", limit=20, window_s=WINDOW_S) for host in (store, other, store)]
    arrived: list[int] = []
    for _ in range(500):
        found = await used(chance.choice(hosts), clock, chance.choice([1, 1, 1, 2, 9]))
        arrived += [at_ms + chance.choice([0, HELD_S * 1_000]) for at_ms in found]
        clock.advance(ms=chance.choice([10, 500, 1_900]))

    assert 20 >= most_in_a_window(sorted(arrived))
    busy_s = (max(arrived) - min(arrived)) / 1_000
    assert len(arrived) > 0.6 * 20 * busy_s / WINDOW_S  # and what is allowed can be had


async def test_all_that_is_allowed_can_be_had(store: Store, other: Store, clock: ManualClock) -> None:
    """One host that asks has the whole of it; when it has used it up, the other hears when there is more."""
    one, two = (rates(host, clock).open("acme/one", limit=30, window_s=WINDOW_S) for host in (store, other))

    assert 30 == len(await used(one, clock, 40))
    with pytest.raises(RateExceeded) as refusal:
        await two.acquire(timeout_s=30)
    assert WINDOW_S <= refusal.value.wait_s <= WINDOW_S + 3 * HELD_S
    clock.advance(seconds=refusal.value.wait_s)
    assert 30 == len(await used(two, clock, 40))


async def test_rates_of_other_names_do_not_count(store: Store, clock: ManualClock) -> None:
    """What was taken of one is not missing at another."""
    opened = rates(store, clock)
    assert 3 == len(await used(opened.open("acme/one", limit=3, window_s=WINDOW_S), clock, 9))
    assert 3 == len(await used(opened.open("acme/two", limit=3, window_s=WINDOW_S), clock, 9))


async def test_a_crowd_does_not_pay_a_write_each(store: Store, clock: ManualClock) -> None:
    """Permits are taken in blocks as large as what is used, so that a hundred calls cost a tenth of the writes."""
    counted = Away(store)
    rate = rates(counted, clock).open("acme/one", limit=300, window_s=WINDOW_S)
    assert 100 == len(await used(rate, clock, 100))

    assert counted.writes <= 12


async def test_permits_that_are_not_used_lapse(store: Store, clock: ManualClock) -> None:
    """A host that has kept some from a burst does not use them a minute later, when they count no more."""
    counted = Away(store)
    rate = rates(counted, clock).open("acme/one", limit=300, window_s=WINDOW_S)
    await used(rate, clock, 20)
    asked = counted.writes
    await used(rate, clock, 1)
    assert asked == counted.writes  # there are some left
    clock.advance(seconds=HELD_S)
    await used(rate, clock, 1)

    assert asked + 1 == counted.writes


async def test_who_waits_gets_the_next(engine: Engine, tmp_path: Path) -> None:
    """Calls that may wait do, and all are made."""
    clock = LeapingClock()
    done: list[int] = []

    async def call(rate: Rate) -> None:
        await rate.acquire(timeout_s=86_400)
        done.append(clock.now_ms())

    async with engine.open(tmp_path, clock) as one, engine.open(tmp_path, clock) as two:
        opened = [rates(store, clock).open("acme/one", limit=10, window_s=WINDOW_S) for store in (one, two)]
        async with anyio.create_task_group() as tasks:
            for n in range(35):
                tasks.start_soon(call, opened[n % 2])

    assert 35 == len(done)
    assert 10 >= most_in_a_window(done)


async def test_calls_go_on_while_the_store_is_away(store: Store, other: Store, clock: ManualClock) -> None:
    """Each host goes on with its share of what two hosts may use, and no more."""
    away = Away(store)
    rate = rates(away, clock).open("acme/one", limit=20, window_s=WINDOW_S)
    await used(rates(other, clock).open("acme/one", limit=20, window_s=WINDOW_S), clock, 1)
    await used(rate, clock, 1)
    clock.advance(seconds=HELD_S)
    away.is_away = True

    assert 9 == len(await used(rate, clock, 40))  # ten are its share, and one was used
    assert 2 == away.writes  # the store that is away is not asked at every call
    clock.advance(seconds=WINDOW_S)
    assert 10 == len(await used(rate, clock, 40))


async def test_what_was_used_meanwhile_is_booked_when_the_store_is_back(store: Store, clock: ManualClock) -> None:
    """The first answer after an outage counts it, so that other hosts leave it out."""
    away = Away(store)
    rate = rates(away, clock).open("acme/one", limit=20, window_s=WINDOW_S)
    away.is_away = True
    assert 20 == len(await used(rate, clock, 40))
    away.is_away = False
    clock.advance(ms=AWAY_MS)
    await used(rate, clock, 1)

    assert [] == await used(rates(store, clock).open("acme/one", limit=20, window_s=WINDOW_S), clock, 1)


async def test_a_store_that_does_not_answer_is_not_waited_for(clock: ManualClock, monkeypatch: Any) -> None:
    """A host that stands still with the row of the rate does not stop the calls of all others."""
    monkeypatch.setattr("ctxhost.rates.STORE_PATIENCE_S", 0.01)

    class Still:
        async def write(self, command: Command[Any]) -> Any:
            await anyio.sleep_forever()

    rate = SharedRates(Still(), clock).open("acme/one", limit=5, window_s=WINDOW_S)  # type: ignore[arg-type]

    assert 5 == len(await used(rate, clock, 9))


async def test_the_row_stays_small_and_is_forgotten(store: Store, clock: ManualClock) -> None:
    """It keeps what still counts, summed up by moments; a rate that nobody uses leaves nothing."""
    for host in range(3):
        for _ in range(60):
            take = TakePermits(
                rate="r", host=f"h{host}", wanted=1, owed=0, limit=10_000, held_ms=2_000, counts_ms=64_000
            )
            await store.write(take)
            clock.advance(ms=300)
    row = await store.read(queries.by_id(RateTaken, "r"))
    assert row is not None
    assert len(row.taken) < 4_000
    clock.advance(seconds=86_500)
    await store.prune()

    assert await store.read(queries.by_id(RateTaken, "r")) is None


@pytest.mark.parametrize(("limit", "window_s"), [(0, 60), (5, 0), (5, 43_201)])
async def test_a_rate_of_nothing_is_refused(store: Store, clock: ManualClock, limit: int, window_s: int) -> None:
    """It would be waited for in vain; and so is one that is longer than what was taken of it is remembered."""
    with pytest.raises(ValueError, match="limit of 1 or more"):
        rates(store, clock).open("acme/one", limit=limit, window_s=window_s)


@asynccontextmanager
async def two_hosts(engine: Engine, folder: Path, clock: ManualClock, **recall: Any) -> AsyncIterator[list[Host]]:
    """Two whole hosts on one database and one Recall."""
    database = await anyio.to_thread.run_sync(engine.database, folder)
    key = new_key_text()
    async with AsyncExitStack() as stack:
        hosts = []
        for n in range(2):
            settings = Settings(
                database=database,
                data_dir=folder / f"host{n}",
                encryption_keys=key,
                egress={"allow_http": True, "allow_networks": ["127.0.0.0/8"]},
                plugins={"recall": {"webhook_secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", **recall}},
            )
            host = Host(settings, clock=clock, work=False, plugins=[ctxhost_recall])
            hosts.append(await stack.enter_async_context(host))
        yield hosts


async def test_two_hosts_never_meet_a_429(engine: Engine, tmp_path: Path) -> None:
    """Recall, which counts both hosts' calls together, has never to say that they are too many."""
    clock = LeapingClock()
    emulator = Emulator(clock=clock)
    async with serve(emulator.app) as url:
        recall = {"api_key": emulator.api_key, "base_url": url, "create_deadline_s": 600}
        async with two_hosts(engine, tmp_path, clock, **recall) as hosts, anyio.create_task_group() as tasks:
            for n, host in enumerate(hosts):
                tasks.start_soon(make_bots, host.providers["recall"], f"host{n}", 70)
    await emulator.aclose()

    assert [201] * 140 == [seen.status for seen in emulator.calls("create")]


async def make_bots(provider: MeetingProvider, name: str, count: int) -> None:
    for n in range(count):
        await provider.create(request(f"{name}-{n}"))


async def test_what_would_wait_too_long_is_busy_at_every_host(engine: Engine, tmp_path: Path) -> None:
    """When one host has used up the minute, the other says so at once, and when there is room; nothing is sent."""
    clock = LeapingClock()
    emulator = Emulator(clock=clock)
    async with serve(emulator.app) as url:
        recall = {"api_key": emulator.api_key, "base_url": url}
        async with two_hosts(engine, tmp_path, clock, **recall) as (one, two):
            await make_bots(one.providers["recall"], "one", 54)
            with pytest.raises(ProviderBusy) as refusal:
                await two.providers["recall"].create(request("one-too-many"))
    await emulator.aclose()

    assert WINDOW_S <= (refusal.value.retry_after_s or 0) <= WINDOW_S + 3 * HELD_S
    assert 54 == len(emulator.bots)


def request(bot: str) -> BotRequest:
    return BotRequest(
        bot=bot,
        app="app_1",
        attempt=1,
        meeting_url="https://meet.google.com/qwe-rtyu-iop",
        platform="google_meet",
        bot_name="Notetaker",
        transcript=True,
        recording="mp4",
        join_at_ms=None,
        automatic_leave={},
        metadata={},
    )


async def test_a_host_that_stood_still_uses_no_old_permit(store: Store, clock: ManualClock) -> None:
    """What it was given before it was stopped has lapsed when it goes on: others count on that."""

    class Slow(Away):
        async def write(self, command: Command[Any]) -> Any:
            taken = await super().write(command)
            if self.writes == 1:
                clock.advance(seconds=WINDOW_S + 3 * HELD_S)
            return taken

    slow = Slow(store)
    rate = rates(slow, clock).open("acme/one", limit=3, window_s=WINDOW_S)
    with pytest.raises(RateExceeded):
        await rate.acquire(timeout_s=0)
    assert 3 == len(await used(rate, clock, 9))
