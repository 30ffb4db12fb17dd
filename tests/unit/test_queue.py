"""The queue in front of an engine: who waits, who is dropped, who hears what. The engine does as the test says."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.contract.commands import Put, app

from ctxhost.errors import Overloaded
from ctxhost.store.batch import Outcome
from ctxhost.store.queue import Queue
from ctxhost.store.rows import PLATFORM


class Engine:
    """Runs batches when the gate is open, and fails as told; remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.poison: set[str] = set()
        self.busy = False
        self.locked: set[str] = set()

    async def run(self, commands: Sequence[Any]) -> Sequence[Outcome | None]:
        self.batches.append([command.row.id for command in commands])
        self.entered.set()
        await self.gate.wait()
        if self.busy:
            raise Overloaded("no room", retry_after_s=7)
        if self.poison & {command.row.id for command in commands}:
            raise ConnectionError("the database refused")
        return [None if command.account in self.locked else Outcome(command.row.id, None) for command in commands]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def queue(engine: Engine) -> Queue:
    return Queue([engine.run], batch_limit=4, queue_limit=8)


def put(name: str, account: str = PLATFORM) -> Put:
    return Put(app(name, account=account), account=account)


async def submit(queue: Queue, command: Put) -> str:
    return await queue.submit(command)


async def test_a_lone_command_does_not_wait(queue: Queue, engine: Engine) -> None:
    """There is no timer: one command is one batch, at once."""
    assert "a" == await queue.submit(put("a"))
    assert [["a"]] == engine.batches


async def test_those_who_come_during_a_commit_share_the_next(queue: Queue, engine: Engine) -> None:
    """While one batch is at the engine the next collects, in the order of arrival, up to the limit."""
    engine.gate.clear()
    first = asyncio.ensure_future(submit(queue, put("a")))
    await engine.entered.wait()
    others = [asyncio.ensure_future(submit(queue, put(name, account=name))) for name in "bcdefg"]
    await asyncio.sleep(0)
    engine.gate.set()

    assert list("abcdefg") == [await one for one in (first, *others)]
    assert [["a"], ["b", "c", "d", "e"], ["f", "g"]] == engine.batches


async def test_those_just_answered_join_the_next_batch(queue: Queue, engine: Engine) -> None:
    """Two callers that write one command after the other keep sharing batches, though one began a little later."""

    async def write_three(name: str) -> None:
        for n in range(3):
            await queue.submit(put(f"{name}{n}"))

    engine.gate.clear()
    early = asyncio.ensure_future(write_three("a"))
    await engine.entered.wait()
    late = asyncio.ensure_future(write_three("b"))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(early, late)

    assert [1, 2, 2, 1] == [len(batch) for batch in engine.batches]


async def test_a_waiter_that_is_gone_before_its_batch_is_dropped(queue: Queue, engine: Engine) -> None:
    """Cancelled while it waits, a command is never run."""
    engine.gate.clear()
    running = asyncio.ensure_future(submit(queue, put("running")))
    await engine.entered.wait()
    gone, stays = [asyncio.ensure_future(submit(queue, put(name))) for name in ("gone", "stays")]
    await asyncio.sleep(0)
    gone.cancel()
    engine.gate.set()

    assert ["running", "stays"] == [await running, await stays]
    assert [["running"], ["stays"]] == engine.batches


async def test_a_batch_of_the_gone_is_not_run(queue: Queue, engine: Engine) -> None:
    """When all who waited are gone, nothing is run, and the queue goes on afterwards."""
    gone = asyncio.ensure_future(submit(queue, put("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)

    assert "b" == await queue.submit(put("b"))
    assert ["b"] in engine.batches
    assert ["gone"] not in engine.batches


async def test_a_waiter_that_goes_during_its_batch_is_written(queue: Queue, engine: Engine) -> None:
    """Once its batch has begun, a command is carried out; only nobody is told."""
    engine.gate.clear()
    gone = asyncio.ensure_future(submit(queue, put("gone")))
    await engine.entered.wait()
    gone.cancel()
    engine.gate.set()

    assert "next" == await queue.submit(put("next"))
    assert [["gone"], ["next"]] == engine.batches


async def test_a_refused_batch_is_run_again_one_by_one(queue: Queue, engine: Engine) -> None:
    """Only the command that the database refuses hears of it."""
    engine.poison = {"b"}
    answers = await asyncio.gather(*[submit(queue, put(name, account=name)) for name in "abc"], return_exceptions=True)

    assert ["a", "c"] == [answers[0], answers[2]]
    assert isinstance(answers[1], ConnectionError)
    assert [["a", "b", "c"], ["a"], ["b"], ["c"]] == engine.batches


async def test_a_database_without_room_is_asked_once(queue: Queue, engine: Engine) -> None:
    """When it is full or locked, trying each alone would only make everybody wait: all hear when to come again."""
    engine.busy = True
    answers = await asyncio.gather(*[submit(queue, put(name, account=name)) for name in "abc"], return_exceptions=True)

    assert [7, 7, 7] == [answer.retry_after_s for answer in answers if isinstance(answer, Overloaded)]
    assert 1 == len(engine.batches)
    assert 3 == len({id(answer) for answer in answers})
    engine.busy = False
    assert "d" == await queue.submit(put("d"))


async def test_a_full_queue_refuses(queue: Queue) -> None:
    """An account gets a quarter of the places, all together get all; who is refused was not queued."""
    waiting = [queue.submit(put(f"{account}{n}", account=account)) for account in "abcd" for n in range(2)]
    for account in ("a", "e"):
        with pytest.raises(Overloaded) as caught:
            queue.submit(put("more", account=account))
        assert {"retry-after": "1"} == caught.value.headers()

    assert 8 == len(await asyncio.gather(*waiting))
    assert "again" == await queue.submit(put("again", account="a"))


async def test_closing_drains(queue: Queue, engine: Engine) -> None:
    """What waits is written before the queue ends; what comes later is refused."""
    waiting = [asyncio.ensure_future(submit(queue, put(name, account=name))) for name in "abcdef"]
    await asyncio.sleep(0)
    await queue.aclose(drain_s=5)

    assert list("abcdef") == await asyncio.gather(*waiting)
    with pytest.raises(Overloaded):
        queue.submit(put("late"))


async def test_closing_in_time_tells_the_rest(queue: Queue, engine: Engine) -> None:
    """What does not fit hears that it was not written; what is at the engine still gets its answer."""
    engine.gate.clear()
    running = asyncio.ensure_future(submit(queue, put("running")))
    await engine.entered.wait()
    waiting = asyncio.ensure_future(submit(queue, put("waiting")))
    await asyncio.sleep(0)
    await queue.aclose(drain_s=0)

    with pytest.raises(Overloaded, match="nothing was written"):
        await waiting
    engine.gate.set()
    assert "running" == await running
    await queue.idle()
    assert [["running"]] == engine.batches


async def test_what_is_to_be_tried_again_keeps_its_place(queue: Queue, engine: Engine) -> None:
    """A command that could not be decided is in the next batch, before those of its account that came later."""
    engine.locked = {"a"}
    engine.gate.clear()
    first = [asyncio.ensure_future(submit(queue, put(name, account=name[0]))) for name in ("a1", "b1", "a2")]
    await engine.entered.wait()
    second = [asyncio.ensure_future(submit(queue, put(name, account=name[0]))) for name in ("a3", "b2")]
    await asyncio.sleep(0)
    engine.gate.set()
    assert "b1" == await first[1]
    engine.locked = set()

    assert ["a1", "a2", "a3", "b2"] == await asyncio.gather(first[0], first[2], *second)
    assert [["a1", "b1", "a2"], ["a1", "a2", "a3", "b2"]] == engine.batches


async def test_what_is_tried_again_is_drained(queue: Queue, engine: Engine) -> None:
    """Closing waits for a command that could not be decided yet."""
    engine.locked = {"a"}
    waiting = asyncio.ensure_future(submit(queue, put("a", account="a")))
    await engine.entered.wait()
    closing = asyncio.ensure_future(queue.aclose(drain_s=5))
    await asyncio.sleep(0)
    assert not closing.done()

    engine.locked = set()
    await closing
    assert "a" == await waiting


class TwoWays:
    """A queue with two ways, used both from four commands on, and an engine at the end of each."""

    def __init__(self) -> None:
        self.engines = [Engine(), Engine()]
        self.queue = Queue([engine.run for engine in self.engines], split_at=4)
        names = [f"account-{n}" for n in range(100)]
        self.accounts = [[name for name in names if hash(name) % 2 == way] for way in range(2)]


@pytest.fixture
def two_ways() -> TwoWays:
    return TwoWays()


async def test_a_crowd_goes_both_ways_at_once(two_ways: TwoWays) -> None:
    """Of many commands some are at the engine while others are decided; those of an account stay together."""
    for engine in two_ways.engines:
        engine.gate.clear()
    accounts = [two_ways.accounts[n % 2][n // 4] for n in range(8)]
    waiting = [
        asyncio.ensure_future(submit(two_ways.queue, put(f"{n}", account=account)))
        for n, account in enumerate(accounts)
    ]
    for engine in two_ways.engines:
        await engine.entered.wait()
    for engine in two_ways.engines:
        engine.gate.set()

    assert [f"{n}" for n in range(8)] == await asyncio.gather(*waiting)
    assert [[list("0246")], [list("1357")]] == [engine.batches for engine in two_ways.engines]


async def test_a_few_share_one_batch(two_ways: TwoWays) -> None:
    """Commands that are no crowd are one transaction, whichever way their accounts would go."""
    first = [submit(two_ways.queue, put(f"{way}", account=two_ways.accounts[way][0])) for way in (0, 1)]
    assert ["0", "1"] == await asyncio.gather(*first)
    assert [[list("01")], []] == [engine.batches for engine in two_ways.engines]


async def test_a_crowd_that_thins_out_shares_batches_again(two_ways: TwoWays) -> None:
    """What waits when there is no crowd any more goes with one batch, and waits for what is still at the engine."""
    quick, slow = two_ways.engines
    slow.gate.clear()
    crowd = [
        asyncio.ensure_future(submit(two_ways.queue, put(f"{way}{n}", account=two_ways.accounts[way][n])))
        for n in range(2)
        for way in (0, 1)
    ]
    await asyncio.gather(*crowd[::2])
    late = asyncio.ensure_future(submit(two_ways.queue, put("late", account=two_ways.accounts[0][0])))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [["00", "01"]] == quick.batches

    slow.gate.set()
    await asyncio.gather(*crowd, late)
    assert [["00", "01"], ["late"]] == quick.batches


async def test_both_ways_are_drained(two_ways: TwoWays) -> None:
    """Closing waits for what is at the engine, whichever way it went."""
    waiting = [
        asyncio.ensure_future(submit(two_ways.queue, put(f"{n}", account=two_ways.accounts[n % 2][n])))
        for n in range(12)
    ]
    await asyncio.sleep(0)
    await two_ways.queue.aclose(drain_s=5)
    assert 12 == len(await asyncio.gather(*waiting))
    assert 0 == two_ways.queue.waiting()
