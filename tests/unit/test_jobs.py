"""The job loop: what is due is done, again when asked for meanwhile, later when it fails, and by no crowd's leave."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import anyio
import pytest

from ctxhost import jobs
from ctxhost.clock import ManualClock
from ctxhost.errors import Overloaded, ProviderError
from ctxhost.jobs import AT_ONCE, HOLD_S, PER_LANE, RETRY_AFTER_S, FinishJob, GiveBack, Jobs
from ctxhost.store import Key, Store, View, queries
from ctxhost.store.rows import PLATFORM, Job


@dataclass(frozen=True)
class Ask:
    """Have a job done."""

    ref: str
    due_ms: int
    kind: str = "work"
    lane: str = "lane"
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [jobs.job_key(self.kind, self.ref)]

    def apply(self, view: View) -> None:
        jobs.ask(view, kind=self.kind, ref=self.ref, account=self.account, lane=self.lane, due_ms=self.due_ms)


@dataclass(frozen=True)
class Cancel:
    """Have it done no more."""

    ref: str
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [jobs.job_key("work", self.ref)]

    def apply(self, view: View) -> None:
        jobs.cancel(view, kind="work", ref=self.ref)


class Worker:
    """A handler that notes its runs and does as it is told."""

    def __init__(self, clock: ManualClock) -> None:
        self.runs: list[tuple[str, int]] = []
        self.then: Callable[[Job], Any] = lambda job: None
        self._clock = clock

    async def __call__(self, job: Job) -> int | None:
        self.runs.append((job.ref, self._clock.now_ms()))
        answer = self.then(job)
        if hasattr(answer, "__await__"):
            answer = await answer
        return answer  # type: ignore[no-any-return]


@pytest.fixture
def worker(clock: ManualClock) -> Worker:
    return Worker(clock)


@pytest.fixture
def loop(store: Store, clock: ManualClock, worker: Worker) -> Jobs:
    made = Jobs(store, clock)
    made.register("work", worker)
    return made


async def job(store: Store, ref: str) -> Job | None:
    return await store.read(queries.by_id(Job, f"work/{ref}"))


@asynccontextmanager
async def running(loop: Jobs) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.run)
        with anyio.fail_after(10):
            yield
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()


async def test_a_job_is_done_when_it_is_due_and_then_gone(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """Not before its time, once, and nothing of it stays."""
    due_ms = clock.now_ms() + 1_000
    await store.write(Ask("a", due_ms))
    assert 0 == await loop.run_due()
    clock.set(due_ms)

    assert 1 == await loop.run_due()
    assert [("a", due_ms)] == worker.runs
    assert await job(store, "a") is None


async def test_a_job_that_names_a_time_is_done_again_then(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """What a handler returns is when to come again."""
    start_ms = clock.now_ms()
    worker.then = lambda job: start_ms + 5_000 if clock.now_ms() == start_ms else None
    await store.write(Ask("a", start_ms))
    await loop.run_due()
    clock.advance(seconds=5)
    await loop.run_due()

    assert [start_ms, start_ms + 5_000] == [at_ms for _, at_ms in worker.runs]
    assert await job(store, "a") is None


async def test_asked_for_twice_it_is_one_job_at_the_earlier_time(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """There is one job of a kind for a thing."""
    now_ms = clock.now_ms()
    for due_ms in (now_ms + 9_000, now_ms + 2_000, now_ms + 5_000):
        await store.write(Ask("a", due_ms))
    clock.advance(seconds=2)
    await loop.run_due()
    clock.advance(seconds=10)
    await loop.run_due()

    assert [("a", now_ms + 2_000)] == worker.runs


@pytest.mark.parametrize("answer_s", [None, 3_600])
async def test_asked_for_while_it_runs_it_runs_again(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker, answer_s: int | None
) -> None:
    """A run under way may have looked too early: the new wish is not lost with its end, nor put off by its answer."""

    async def ask_meanwhile(job: Job) -> int | None:
        if 1 == len(worker.runs):
            await store.write(Ask("a", clock.now_ms()))
            return None if answer_s is None else clock.now_ms() + answer_s * 1_000
        return None

    worker.then = ask_meanwhile
    await store.write(Ask("a", clock.now_ms()))

    assert 2 == await loop.run_due()
    assert await job(store, "a") is None


async def test_a_job_cancelled_while_it_runs_stays_cancelled(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """Its end does not bring it back."""

    async def cancel_meanwhile(job: Job) -> int:
        await store.write(Cancel("a"))
        return clock.now_ms()

    worker.then = cancel_meanwhile
    await store.write(Ask("a", clock.now_ms()))

    assert 1 == await loop.run_due()
    assert await job(store, "a") is None


async def test_failures_wait_longer_and_longer(store: Store, clock: ManualClock, loop: Jobs, worker: Worker) -> None:
    """A failing job is tried at growing intervals; a success starts them anew."""

    def fail(job: Job) -> None:
        raise ProviderError("down")

    worker.then = fail
    await store.write(Ask("a", clock.now_ms()))
    waits = []
    for _ in range(len(RETRY_AFTER_S) + 2):
        await loop.run_due()
        failed = await job(store, "a")
        assert failed is not None
        waits.append((failed.due_ms - clock.now_ms()) // 1_000)
        clock.set(failed.due_ms)
    assert [*RETRY_AFTER_S, RETRY_AFTER_S[-1], RETRY_AFTER_S[-1]] == waits

    worker.then = lambda job: clock.now_ms() + 1
    await loop.run_due()
    recovered = await job(store, "a")
    assert recovered is not None
    assert 0 == recovered.attempts


async def test_a_run_that_outlived_its_claim_says_nothing(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """A claim ends with its time; the slow run must not end, or put off, the run of whoever took it since."""
    await store.write(Ask("a", clock.now_ms()))
    (slow,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    clock.advance(seconds=HOLD_S)
    (taken,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)

    await store.write(FinishJob(job=slow, due_ms=None))
    assert taken == await job(store, "a")
    await store.write(FinishJob(job=slow, due_ms=clock.now_ms() + 1, failed=True))
    assert taken == await job(store, "a")
    await store.write(FinishJob(job=taken, due_ms=None))
    assert await job(store, "a") is None


async def test_a_claim_that_nobody_took_over_may_still_be_ended(store: Store, clock: ManualClock) -> None:
    """A late end of the only run counts."""
    await store.write(Ask("a", clock.now_ms()))
    (slow,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    clock.advance(seconds=HOLD_S * 2)
    await store.write(FinishJob(job=slow, due_ms=None))

    assert await job(store, "a") is None


async def test_the_loop_lives_through_a_store_that_fails(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """Whatever claiming or ending a job meets, the loop goes on, and the job is done again when its claim is over."""
    claim, write = store.claim, store.write
    failures: list[Exception] = [Overloaded(), RuntimeError("disk")]
    endings: list[Exception] = [RuntimeError("disk"), RuntimeError("disk")]

    async def claiming(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await claim(*args, **options)

    async def writing(command: Any) -> Any:
        if isinstance(command, FinishJob) and endings:
            raise endings.pop()
        return await write(command)

    claims: list[int] = []
    worker.then = lambda job: claims.append(job.claimed_until_ms)
    await write(Ask("a", clock.now_ms()))
    vars(store).update(claim=claiming, write=writing)
    async with running(loop):
        for runs in (1, 2, 3):
            while len(worker.runs) < runs:
                clock.advance(seconds=1)
                await anyio.lowlevel.checkpoint()
    assert [] == failures == endings
    assert all(later - sooner >= HOLD_S * 1_000 for sooner, later in pairwise(claims))


async def test_a_store_that_is_away_is_told_when_it_is_back(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """The end of a run is said again every second, so that the job has not to wait until its claim is over."""
    write = store.write
    answers: list[Exception] = [Overloaded() for _ in range(5)]

    async def writing(command: Any) -> Any:
        if isinstance(command, FinishJob) and answers:
            raise answers.pop()
        return await write(command)

    began_ms = clock.now_ms()
    await write(Ask("a", began_ms))
    vars(store).update(write=writing)
    async with running(loop):
        await until(lambda: bool(worker.runs))
        while answers:
            clock.advance(ms=200)
            await anyio.lowlevel.checkpoint()
        clock.advance(seconds=1)
        while await job(store, "a") is not None:
            await anyio.lowlevel.checkpoint()
    assert 1 == len(worker.runs)
    assert clock.now_ms() - began_ms < HOLD_S * 1_000


async def test_the_loop_wakes_for_what_is_put(store: Store, clock: ManualClock, loop: Jobs, worker: Worker) -> None:
    """A job that is due when it is put waits for no clock."""
    async with running(loop):
        await until(lambda: not worker.runs)
        await store.write(Ask("a", clock.now_ms()))
        await until(lambda: bool(worker.runs))


async def test_the_loop_wakes_when_the_clock_gets_there(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """It sleeps until the next job is due, and no longer."""
    await store.write(Ask("a", clock.now_ms() + 700))
    async with running(loop):
        await anyio.wait_all_tasks_blocked()
        assert [] == worker.runs
        clock.advance(ms=700)
        await until(lambda: bool(worker.runs))


async def test_a_lane_takes_no_more_than_its_share(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """However many jobs of one lane hang, those of another are done."""
    hang = anyio.Event()
    active: Counter[str] = Counter()

    async def hangs(job: Job) -> None:
        active[job.lane] += 1
        if job.lane == "dead":
            await hang.wait()

    worker.then = hangs
    for n in range(PER_LANE * 3):
        await store.write(Ask(f"dead{n}", clock.now_ms(), lane="dead"))
    async with running(loop):
        await until(lambda: active["dead"] == PER_LANE)
        await store.write(Ask("other", clock.now_ms(), lane="alive"))
        await until(lambda: bool(active["alive"]))
        assert PER_LANE == active["dead"]
        hang.set()
        await until(lambda: active["dead"] == PER_LANE * 3)


async def test_a_kind_takes_no_other_kind_s_place(store: Store, clock: ManualClock, loop: Jobs, worker: Worker) -> None:
    """When deliveries to many dead endpoints hang, bots are still paid for and told to leave."""
    hang = anyio.Event()
    active: Counter[str] = Counter()

    async def hangs(job: Job) -> int | None:
        active[job.kind] += 1
        await hang.wait()
        return None

    async def quick(job: Job) -> int | None:
        active[job.kind] += 1
        return None

    loop.register("deliver", hangs)
    loop.register("renew", quick)
    for n in range(AT_ONCE + 20):
        await store.write(Ask(f"d{n}", clock.now_ms(), kind="deliver", lane=f"app{n}"))
    async with running(loop):
        await until(lambda: active["deliver"] == AT_ONCE)
        await store.write(Ask("r", clock.now_ms(), kind="renew", lane="money"))
        await until(lambda: bool(active["renew"]))
        assert AT_ONCE == active["deliver"]
        hang.set()
        await until(lambda: active["deliver"] == AT_ONCE + 20)


async def test_what_a_cancelled_host_cut_off_is_taken_at_once(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """A run that was cut off is neither done nor failed: whoever claims next has the job, as its first attempt."""

    async def hangs(job: Job) -> None:
        await anyio.sleep_forever()

    worker.then = hangs
    await store.write(Ask("a", clock.now_ms()))
    async with running(loop):
        await until(lambda: bool(worker.runs))

    (again,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    assert ("a", 1) == (again.ref, again.attempts)


async def test_a_stopped_loop_lets_its_runs_end_and_begins_none(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """What is under way is done and noted; what falls due meanwhile is for others."""
    go = anyio.Event()

    async def waits(job: Job) -> None:
        await go.wait()

    worker.then = waits
    await store.write(Ask("a", clock.now_ms()))
    async with running(loop):
        await until(lambda: bool(worker.runs))
        loop.stop()
        await store.write(Ask("b", clock.now_ms()))
        await anyio.wait_all_tasks_blocked()
        go.set()
        await loop.idle()

    assert ["a"] == [ref for ref, _ in worker.runs]
    assert await job(store, "a") is None
    (other,), _ = await store.claim(["work"], limit=9, per_lane=9, hold_s=HOLD_S)
    assert "b" == other.ref


async def test_what_was_claimed_while_the_loop_was_stopped_is_given_back(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """A claim that was under way is not kept from others by a host that begins nothing any more."""
    claim, asked, go = store.claim, anyio.Event(), anyio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        claimed = await claim(*args, **options)
        asked.set()
        await go.wait()
        return claimed

    vars(store).update(claim=slow)
    await store.write(Ask("a", clock.now_ms()))
    async with running(loop):
        await asked.wait()
        loop.stop()
        go.set()
        await loop.idle()
    vars(store).update(claim=claim)

    assert [] == worker.runs
    (again,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    assert ("a", 1) == (again.ref, again.attempts)


async def test_a_claim_that_somebody_took_over_is_not_given_back(store: Store, clock: ManualClock) -> None:
    """A host that was away for longer than its claim takes nothing from the one that has the job now."""
    await store.write(Ask("a", clock.now_ms()))
    (slow,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    clock.advance(seconds=HOLD_S)
    (taken,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)

    await store.write(GiveBack(job=slow))
    assert taken == await job(store, "a")


async def test_a_store_that_fails_does_not_keep_the_loop_from_ending(
    store: Store, clock: ManualClock, loop: Jobs, worker: Worker
) -> None:
    """What cannot be given back comes back when its claim ends."""
    write = store.write

    async def hangs(job: Job) -> None:
        await anyio.sleep_forever()

    async def refusing(command: Any) -> Any:
        if isinstance(command, GiveBack):
            raise Overloaded("away")
        return await write(command)

    worker.then = hangs
    await write(Ask("a", clock.now_ms()))
    vars(store).update(write=refusing)
    async with running(loop):
        await until(lambda: bool(worker.runs))
    clock.advance(seconds=HOLD_S)
    worker.then = lambda job: None

    (again,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=HOLD_S)
    assert "a" == again.ref
