"""Work that survives a restart: one table, one loop. Commands put jobs; any host claims them with a deadline.

A handler does its work and says when to run again, or never. It may run twice (the claim of a host that died is given
back, at its deadline at the latest), so what it does must bear repetition.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from ctxhost.clock import Clock
from ctxhost.errors import Overloaded, Refusal
from ctxhost.logs import carrying
from ctxhost.observe import Watch
from ctxhost.observe.wrappers import watched_handler
from ctxhost.store import LOOK_AGAIN_MS, Command, Key, Store, View
from ctxhost.store.rows import Job

T = TypeVar("T")

log = logging.getLogger("ctxhost.jobs")

AT_ONCE = 128
"""Jobs of one kind that this host does at the same time: a crowd of one kind takes no other's place."""
PER_LANE = 16
"""Jobs of one lane that all hosts do at the same time."""
HOLD_S = 60
"""How long a claim lasts, and so a run."""
RETRY_AFTER_S = (2, 5, 15, 60, 300)
FINISH_AGAIN_MS = 1_000
GIVE_BACK_S = 2
"""How long a host that ends, however it does, may take to give back its claims."""


class Run(Enum):
    """What a handler says whose own last command was a `LastWrite`."""

    ENDED = "ended"


Handler = Callable[[Job], Awaitable[int | Run | None]]
"""Does a job. Returns the time in ms at which to do it again, None when it is done, or that it has ended it itself."""


def job_id(kind: str, ref: str) -> str:
    """There is at most one job of a kind for a thing."""
    return f"{kind}/{ref}"


def job_key(kind: str, ref: str) -> Key:
    """What a command must read to `ask` for the job or to `cancel` it."""
    return (Job, job_id(kind, ref))


def ask(view: View, *, kind: str, ref: str, account: str, lane: str, due_ms: int) -> None:
    """Have a job done at `due_ms`, or earlier if it was asked for earlier. Asked for while it runs, it runs again."""
    stored = view.get(Job, job_id(kind, ref))
    if stored is None:
        view.put(
            Job(
                id=job_id(kind, ref),
                account=account,
                kind=kind,
                lane=lane,
                ref=ref,
                generation=0,
                due_ms=due_ms,
                claimed_until_ms=0,
                attempts=0,
                created_ms=view.now_ms,
            )
        )
    else:
        view.put(stored._replace(due_ms=min(stored.due_ms, due_ms), generation=stored.generation + 1))


def cancel(view: View, *, kind: str, ref: str) -> None:
    """Drop the job if there is one."""
    view.delete(Job, job_id(kind, ref))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishJob:
    """A run is over: the job goes, or waits until `due_ms`; a wish that came meanwhile stays.

    A run whose claim has ended says nothing about a job that somebody else has taken since.
    """

    job: Job
    due_ms: int | None
    failed: bool = False

    @property
    def account(self) -> str:
        return self.job.account

    def reads(self) -> Iterable[Key]:
        return [(Job, self.job.id)]

    def apply(self, view: View) -> None:
        stored = view.get(Job, self.job.id)
        if stored is None or stored.claimed_until_ms != self.job.claimed_until_ms:
            return
        attempts = stored.attempts if self.failed else 0
        if stored.generation != self.job.generation:
            view.put(stored._replace(claimed_until_ms=0, attempts=attempts))
        elif self.due_ms is None:
            view.delete(Job, stored.id)
        else:
            view.put(stored._replace(claimed_until_ms=0, attempts=attempts, due_ms=self.due_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """A run was cut off, or never begun: the job is for whoever claims next, and this was no attempt at it."""

    job: Job

    @property
    def account(self) -> str:
        return self.job.account

    def reads(self) -> Iterable[Key]:
        return [(Job, self.job.id)]

    def apply(self, view: View) -> None:
        stored = view.get(Job, self.job.id)
        if stored is not None and stored.claimed_until_ms == self.job.claimed_until_ms:
            view.put(stored._replace(claimed_until_ms=0, attempts=stored.attempts - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWrite(Generic[T]):
    """The last command of a run and the end of its job, in one transaction: one wait for the disk instead of two."""

    job: Job
    command: Command[T]
    due_ms: Callable[[T], int | None]
    """From what the command answered to the time at which to do the job again, or None when it is done."""

    @property
    def account(self) -> str:
        return self.job.account

    def reads(self) -> Iterable[Key]:
        return [*self.command.reads(), (Job, self.job.id)]

    def apply(self, view: View) -> T:
        answer = self.command.apply(view)
        FinishJob(job=self.job, due_ms=self.due_ms(answer)).apply(view)
        return answer


class Jobs:
    """The loop. `run` lives as long as the host; `run_due` is one round of it, for a clock that is moved by hand."""

    def __init__(self, store: Store, clock: Clock, watch: Watch | None = None) -> None:
        self._watch = watch or Watch()
        self._store = store
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._running: Counter[str] = Counter()
        self._claimed: set[Job] = set()
        self._ended: anyio.Event | None = None
        self._is_stopped = False
        self._is_waiting = False
        self._wake = anyio.Event()
        store.on_jobs(self.wake)

    def register(self, kind: str, handler: Handler) -> None:
        """Let `handler` do the jobs of a kind. It is cut off when its claim ends."""
        self._handlers[kind] = watched_handler(handler, self._watch, now_ms=self._store.now_ms)

    def wake(self) -> None:
        """Look at once: something may be due."""
        self._wake.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called: a run that could go on for long should come to its end."""
        return self._is_stopped

    def stop(self) -> None:
        """Claim no more. The runs under way go on."""
        self._is_stopped = True
        self.wake()

    async def idle(self) -> None:
        """After `stop`: wait until the last run has ended."""
        if self._ended is not None:
            await self._ended.wait()

    async def run(self) -> None:
        """Claim and do what is due, until `stop` and the end of the runs under way. Cancelled, it cuts those off.

        What it had claimed and not done is given back: the next host that looks takes it.
        """
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                while not self._is_stopped:
                    await self._look(tasks)
        finally:
            with anyio.move_on_after(GIVE_BACK_S, shield=True):
                if self._claimed:
                    log.warning("runs that were cut off: %s; their jobs go back to all hosts", len(self._claimed))
                await self._give_back(list(self._claimed))
            self._ended.set()

    async def _look(self, tasks: TaskGroup) -> None:
        """Start what is due, and rest until it is worth looking again."""
        self._wake = anyio.Event()
        next_ms = None
        try:
            next_ms = await self._claim(tasks)
        except Overloaded as error:
            if not self._is_waiting:  # said once, not every second
                log.warning("jobs wait: %s", error)
            self._is_waiting = True
        except Exception:
            log.exception("jobs could not be claimed; it is tried again")
        else:
            self._is_waiting = False
        await self._rest(next_ms)

    async def run_due(self) -> int:
        """Do everything that is due now, and what that makes due, until nothing is. Returns how many runs it took."""
        done = 0
        while not self._is_stopped:
            jobs, _ = await self._store.claim(list(self._handlers), limit=AT_ONCE, per_lane=PER_LANE, hold_s=HOLD_S)
            if not jobs:
                break
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(self._do, job)
            done += len(jobs)
        return done

    async def _claim(self, tasks: TaskGroup) -> int | None:
        """Start what is due and has room; returns when the next falls due."""
        room = {kind: AT_ONCE - self._running[kind] for kind in self._handlers if self._running[kind] < AT_ONCE}
        if not room:
            return None
        jobs, next_ms = await self._store.claim(list(room), limit=min(room.values()), per_lane=PER_LANE, hold_s=HOLD_S)
        self._claimed.update(jobs)
        if self._is_stopped:  # meanwhile
            await self._give_back(jobs)
            return None
        for job in jobs:
            self._running[job.kind] += 1
            tasks.start_soon(self._do_and_wake, job)
        return next_ms

    async def _rest(self, next_ms: int | None) -> None:
        """Until something is due, was put, or was done; and never longer than other hosts' jobs may wait."""
        now_ms = self._store.now_ms()  # the clock that `next_ms` is of; the host's own may differ from it
        wait_ms = min(LOOK_AGAIN_MS, LOOK_AGAIN_MS if next_ms is None else next_ms - now_ms)
        if wait_ms <= 0:
            await anyio.lowlevel.checkpoint()
            return
        async with anyio.create_task_group() as tasks:

            async def alarm() -> None:
                await self._clock.sleep_until(self._clock.now_ms() + wait_ms)
                tasks.cancel_scope.cancel()

            tasks.start_soon(alarm)
            await self._wake.wait()
            tasks.cancel_scope.cancel()

    async def _do_and_wake(self, job: Job) -> None:
        try:
            await self._do(job)
            self._claimed.discard(job)
        finally:
            self._running[job.kind] -= 1
            self.wake()

    async def _do(self, job: Job) -> None:
        with carrying(job=job.kind, ref=job.ref):
            await self._do_once(job)

    async def _do_once(self, job: Job) -> None:
        failed = False
        try:
            with anyio.fail_after(HOLD_S):
                due_ms = await self._handlers[job.kind](job)
        except Exception as error:  # noqa: BLE001 - reported, and tried again
            failed = True
            wait_s = RETRY_AFTER_S[min(job.attempts, len(RETRY_AFTER_S)) - 1]
            _report(job, error, wait_s)
            due_ms = self._store.now_ms() + wait_s * 1_000
        if due_ms is Run.ENDED:
            return
        await self._finish(FinishJob(job=job, due_ms=due_ms, failed=failed))

    async def _finish(self, finish: FinishJob) -> None:
        """Mark a run as over. The loop says it again while the store is away, for the claim keeps every host out."""
        job = finish.job
        while True:
            try:
                await self._store.write(finish)
            except Overloaded as error:
                if self._ended is None or self._store.now_ms() + FINISH_AGAIN_MS >= job.claimed_until_ms:
                    log.warning("job %s is done but could not be marked so, and will run again: %s", job.id, error)
                    return
            except Exception:
                log.exception("job %s is done but could not be marked so, and will run again", job.id)
                return
            else:
                return
            await self._clock.sleep_until(self._clock.now_ms() + FINISH_AGAIN_MS)

    async def _give_back(self, jobs: Iterable[Job]) -> None:
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(self._give_back_one, job)

    async def _give_back_one(self, job: Job) -> None:
        try:
            await self._store.write(GiveBack(job=job))
        except Exception as error:  # noqa: BLE001 - there is a deadline
            log.warning("job %s could not be given back, and is taken when its claim ends: %s", job.id, error)
        self._claimed.discard(job)


def _report(job: Job, error: Exception, wait_s: int) -> None:
    """What is known to happen takes a line; what is not takes a traceback."""
    if isinstance(error, Refusal | TimeoutError):
        log.warning("job %s failed: %s; again in %s s", job.id, error or type(error).__name__, wait_s)
    else:
        log.error("job %s failed; again in %s s", job.id, wait_s, exc_info=error)
