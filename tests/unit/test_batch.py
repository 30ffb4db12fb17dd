"""The queue in front of an engine: who waits, who is dropped, who hears what. The engine does as the test says."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.contract.commands import Add, Do, Put, app

from ctxhost.errors import NotAuthorized, Overloaded
from ctxhost.store.batch import Batch, Outcome, Queue, decide, wanted_rows
from ctxhost.store.rows import PLATFORM, Account, App

ACCOUNT = Account(
    id=PLATFORM, owner="platform", allowance=0, credits=0, held=0, floor=0, monthly_allowance=0, period="", seq=0,
    clock_ms=0, created_ms=0,
)  # fmt: skip


class Engine:
    """Runs batches when the gate is open, and fails as told; remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.poison: set[str] = set()
        self.busy = False

    async def run(self, commands: Sequence[Any]) -> Sequence[Outcome]:
        self.batches.append([command.row.id for command in commands])
        self.entered.set()
        await self.gate.wait()
        if self.busy:
            raise Overloaded("no room", retry_after_s=7)
        if self.poison & {command.row.id for command in commands}:
            raise ConnectionError("the database refused")
        return [Outcome(command.row.id, None) for command in commands]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def queue(engine: Engine) -> Queue:
    return Queue(engine.run, batch_limit=4, queue_limit=8)


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


def test_a_command_sees_only_what_it_read() -> None:
    """A row that another command of the batch read is not there for one that did not."""
    seen: list[object] = []
    commands: list[Any] = [Add("a", 1), Do(lambda view: seen.append(view.get(App, "a")))]
    reads = [tuple(command.reads()) for command in commands]
    batch = Batch(1)
    for table, ids in wanted_rows(commands, reads).items():
        batch.load(table, ids, [ACCOUNT] if table is Account else [])
    first, second = decide(batch, commands, reads)

    assert 1 == first.value
    assert isinstance(second.error, LookupError)
    assert [] == seen


def test_a_refusal_leaves_nothing_staged() -> None:
    """Rows that a refused command put, appended or deleted are neither saved nor seen by the next command."""

    def mess(view: Any) -> None:
        view.put(app("a", name="changed"))
        view.append(app("new"))
        view.delete(App, "b")
        raise NotAuthorized("no")

    keys = ((App, "a"), (App, "b"))
    commands = [Do(mess, keys), Do(lambda view: [view.get(*key) for key in keys], keys)]
    reads = [tuple(command.reads()) for command in commands]
    batch = Batch(1)
    for table, ids in wanted_rows(commands, reads).items():
        batch.load(table, ids, [ACCOUNT] if table is Account else [app("a"), app("b")])
    refused, after = decide(batch, commands, reads)

    assert isinstance(refused.error, NotAuthorized)
    assert [app("a"), app("b")] == after.value
    assert {} == batch.changed
