"""Quick lanes and a patient one, so that an account that is locked elsewhere delays no other one.

The quick lanes take the locks that are free. The commands of an account whose lock is not are tried again with the next
batches for a moment: most locks are held for one transaction. What is still locked then goes over to the patient lane,
which waits; until it has done with the account, all its commands follow there, so that their order is kept.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import psycopg

from ctxhost.errors import Overloaded
from ctxhost.store import Command
from ctxhost.store.batch import Outcome
from ctxhost.store.postgres_batch import LOCKED, Batches, Commands
from ctxhost.store.postgres_wire import sqlstate
from ctxhost.store.queue import BATCH_LIMIT, CLOSING, QUEUE_LIMIT, Queue

T = TypeVar("T")

HASTE_S = 0.1
"""How long an account that is locked elsewhere is tried again with each batch, before its commands wait for it."""
PATIENCE_S = 8
"""How long a command waits for an account that is locked elsewhere; longer than a host that stands still keeps it."""
TOO_LONG = "Another host has been busy with this account for long; nothing was written."


class HandedOver(NamedTuple):
    """In place of an answer: where it will be."""

    answer: "asyncio.Future[Any]"


class _Waiting(NamedTuple):
    command: Command[Any]
    answer: "asyncio.Future[Any]"
    until: float


class Lanes:
    """The way into the engine. `wake` is called after each commit that put jobs."""

    def __init__(self, quick: Sequence[Batches], patient: Batches, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._queue = Queue([partial(self._run, batches) for batches in quick])
        self._patient = _PatientLane(patient, wake)
        self._missed: dict[str, float] = {}
        """Since when accounts have been locked elsewhere each time that they were tried."""

    async def write(self, command: Command[T]) -> T:
        answer: Any = await self._queue.submit(command)
        return cast("T", await answer.answer if isinstance(answer, HandedOver) else answer)

    def waiting(self) -> int:
        """How many commands wait for a batch, or for an account that is locked elsewhere."""
        return self._queue.waiting() + self._patient.waiting()

    async def _run(self, quick: Batches, commands: Commands) -> Sequence[Outcome | None]:
        """A batch of a quick lane. None for what is to be tried again; the rest is answered or has been handed over."""
        here = [n for n, command in enumerate(commands) if not self._patient.has(command.account)]
        outcomes: list[Outcome | None] = [None] * len(commands)
        elsewhere: AbstractSet[str] = set()
        try:
            ran = await quick.run([commands[n] for n in here]) if here else None
        except psycopg.Error as error:
            if sqlstate(error) != LOCKED or len(commands) > 1:
                raise
            ran = None
        if ran is not None:
            elsewhere = ran.elsewhere
            for n, outcome in zip(here, ran.outcomes, strict=True):
                outcomes[n] = outcome
            if ran.has_jobs:
                self._wake()
        if ran is None or elsewhere or self._missed or len(here) < len(commands):
            self._sort(commands, outcomes, elsewhere)
        return outcomes

    def _sort(self, commands: Commands, outcomes: list[Outcome | None], elsewhere: AbstractSet[str]) -> None:
        """Hand over what does not stay for another try: accounts that have been locked for long, all if nothing ran."""
        now = asyncio.get_running_loop().time()
        ran = {command.account for command in commands} - elsewhere
        again = {account: since for account in elsewhere if now - (since := self._missed.get(account, now)) < HASTE_S}
        if not ran:
            again.clear()
        tried = ran | elsewhere
        others = {account: since for account, since in self._missed.items() if account not in tried}
        self._missed = {account: since for account, since in others.items() if now - since < PATIENCE_S} | again
        for n, (command, outcome) in enumerate(zip(commands, outcomes, strict=True)):
            if outcome is None and command.account not in again:
                outcomes[n] = self._hand_over(command)

    def _hand_over(self, command: Command[Any]) -> Outcome:
        try:
            return Outcome(HandedOver(self._patient.submit(command)), None)
        except Overloaded as error:
            return Outcome(None, error)

    async def aclose(self, *, drain_s: float) -> None:
        """Close the intake and drain both lanes; the rest hear that nothing was written."""
        started = time.monotonic()
        await self._queue.aclose(drain_s=drain_s)
        await self._queue.idle()
        await self._patient.aclose(drain_s=max(drain_s - (time.monotonic() - started), 0))


class _PatientLane:
    """Waits for one account at a time, the one that has waited longest, and takes along whatever is free."""

    def __init__(self, batches: Batches, wake: Callable[[], None]) -> None:
        self._batches = batches
        self._wake = wake
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._count: Counter[str] = Counter()
        self._flusher: asyncio.Task[None] | None = None
        self._at_engine: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._is_over = False
        """Closed, and what is not at the engine by now is not written."""

    def has(self, account: str) -> bool:
        """Whether a command of the account is here, and not yet answered."""
        return self._count[account] > 0

    def waiting(self) -> int:
        return self._count.total()

    def submit(self, command: Command[Any]) -> "asyncio.Future[Any]":
        """Raises `Overloaded` when the lane is closed, or the account's share of it is full."""
        account = command.account
        if self._closed:
            raise Overloaded(CLOSING)
        if self._count[account] >= QUEUE_LIMIT // 4:
            raise Overloaded(TOO_LONG)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._count[account] += 1
        answer.add_done_callback(lambda _: self._answered(account, answer))
        self._waiting.setdefault(account, deque()).append(_Waiting(command, answer, loop.time() + PATIENCE_S))
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush())
        return answer

    def _answered(self, account: str, answer: "asyncio.Future[Any]") -> None:
        self._count[account] -= 1
        if not self._count[account]:
            del self._count[account]
        if not answer.cancelled():
            answer.exception()  # its caller may have gone: then nobody else looks

    async def _flush(self) -> None:
        try:
            while self._waiting:
                taken = self._take()
                if taken:
                    commands = [waiting.command for waiting in taken]
                    self._at_engine = {waiting.answer for waiting in taken}
                    self._tell(taken, await self._outcomes(commands, wait_for=commands[0].account))
                    self._at_engine = set()
                await asyncio.sleep(0)
        finally:
            self._flusher = None

    def _take(self) -> list[_Waiting]:
        """The commands of every account that waits, in their order, up to a batch; the account first in line first."""
        now = asyncio.get_running_loop().time()
        taken: list[_Waiting] = []
        for account in list(self._waiting):
            line = deque(waiting for waiting in self._waiting[account] if not waiting.answer.done())
            while line and line[0].until <= now:
                line.popleft().answer.set_exception(Overloaded(TOO_LONG))
            if line:
                self._waiting[account] = line
                taken += [line[n] for n in range(min(len(line), BATCH_LIMIT - len(taken)))]
            else:
                del self._waiting[account]
        return taken

    def _tell(self, taken: Sequence[_Waiting], outcomes: Sequence[Outcome | None]) -> None:
        """Answer what was decided. The account first in line goes to the end if it is still locked."""
        for waiting, outcome in zip(taken, outcomes, strict=True):
            if outcome is None:
                if self._is_over and not waiting.answer.done():
                    waiting.answer.set_exception(Overloaded(CLOSING))
                continue
            self._waiting[waiting.command.account].remove(waiting)
            if waiting.answer.done():
                continue
            if outcome.error is None:
                waiting.answer.set_result(outcome.value)
            else:
                waiting.answer.set_exception(_tellable(outcome.error))
        first = taken[0].command.account
        line = self._waiting.pop(first)
        if line:
            self._waiting[first] = line

    async def _outcomes(self, commands: Commands, *, wait_for: str | None) -> Sequence[Outcome | None]:
        try:
            ran = await self._batches.run(commands, wait_for=wait_for)
        except Overloaded as busy:
            return [Outcome(None, Overloaded(busy.message, retry_after_s=busy.retry_after_s or 1)) for _ in commands]
        except Exception as error:  # noqa: BLE001 - the database refused: every waiter must hear of it
            if sqlstate(error) == LOCKED:
                return await self._without(commands, wait_for)
            return [Outcome(None, error)] if len(commands) == 1 else await self._one_by_one(commands)
        if ran.has_jobs:
            self._wake()
        return ran.outcomes

    async def _without(self, commands: Commands, account: str | None) -> Sequence[Outcome | None]:
        """The account is still locked, or something else is: go on with the others."""
        others = [command for command in commands if command.account != account]
        if account is None:
            return [None] if len(commands) == 1 else await self._one_by_one(commands)
        outcomes = iter(await self._outcomes(others, wait_for=None) if others else ())
        return [None if command.account == account else next(outcomes) for command in commands]

    async def _one_by_one(self, commands: Commands) -> Sequence[Outcome | None]:
        """Alone, so that what the database refuses is refused alone; none overtakes one of its account that waits."""
        outcomes: list[Outcome | None] = []
        held: set[str] = set()
        for command in commands:
            alone = None if command.account in held else (await self._outcomes([command], wait_for=None))[0]
            outcomes.append(alone)
            if alone is None:
                held.add(command.account)
        return outcomes

    async def aclose(self, *, drain_s: float) -> None:
        self._closed = True
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=drain_s)
        self._is_over = True
        for line in self._waiting.values():
            for waiting in line:
                if not waiting.answer.done() and waiting.answer not in self._at_engine:
                    waiting.answer.set_exception(Overloaded(CLOSING))
        if self._flusher is not None:
            await asyncio.wait([self._flusher])


def _tellable(error: BaseException) -> BaseException:
    return RuntimeError("a command raised StopIteration") if isinstance(error, StopIteration) else error
