"""From single commands to batches: who waits, which batch they become, and what each caller hears.

While a batch is at the engine the next one collects; there is no timer. So a lone command pays for one plain
transaction, and a crowd shares one.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from ctxhost.errors import Overloaded
from ctxhost.store import Command
from ctxhost.store.batch import Outcome

T = TypeVar("T")

BATCH_LIMIT = 512
QUEUE_LIMIT = 8_192
SPLIT_AT = 192
"""Commands in hand from which on every way is used. Fewer are faster together: each transaction has its own cost."""
CLOSING = "The host is shutting down; nothing was written."

RunBatch = Callable[[Sequence[Command[Any]]], Awaitable[Sequence[Outcome | None]]]
"""One transaction: lock, load, decide, save, commit. None for what is to be tried again in the next one.

Raises when the database refused the whole.
"""


class _Waiting(NamedTuple):
    command: Command[Any]
    answer: "asyncio.Future[Any]"


class Queue:
    """The commands that wait, and the batches that they become.

    Each of the `ways` to the engine runs one batch at a time. The commands of an account all go the same way, so they
    are decided in their order; what goes another way is decided here while that one is at the engine.
    """

    def __init__(
        self,
        ways: Sequence[RunBatch],
        *,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
        split_at: int = SPLIT_AT,
    ) -> None:
        self._ways = ways
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._split_at = split_at
        self._lines: list[deque[_Waiting]] = [deque() for _ in ways]
        self._per_account: defaultdict[str, int] = defaultdict(int)
        self._waiting = 0
        self._at_engine = 0
        self._busy: set[int] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._will_begin = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, command: Command[T]) -> Awaitable[T]:
        """Queue a command; the awaitable gives its answer after the commit.

        Awaiting may be cancelled at any time: before its batch begins the command is then dropped, after that it is
        written. Raises `Overloaded` when the queue, or the account's quarter of it, is full.
        """
        if self._closed:
            raise Overloaded(CLOSING)
        account_id = command.account
        if self._waiting >= self._queue_limit or self._per_account[account_id] >= self._queue_limit // 4:
            raise Overloaded("Too many writes are waiting; nothing was written.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._lines[self._way_of(account_id)].append(_Waiting(command, answer))
        self._per_account[account_id] += 1
        self._waiting += 1
        self._idle.clear()
        if not self._will_begin and len(self._busy) < len(self._ways):
            self._will_begin = True
            loop.call_soon(self._begin)
        return answer

    def waiting(self) -> int:
        """How many commands wait for a batch."""
        return self._waiting

    def _way_of(self, account_id: str) -> int:
        return hash(account_id) % len(self._ways)

    def _begin(self) -> None:
        """Begin each batch that can begin now: one on every free way, or a single one while there is no crowd."""
        self._will_begin = False
        ways = range(len(self._ways))
        if self._waiting + self._at_engine >= self._split_at:
            for way in ways:
                if way not in self._busy:
                    self._begin_one([way])
        elif not self._busy:
            self._begin_one(ways)

    def _begin_one(self, ways: Sequence[int]) -> None:
        """Begin a batch of what waits for these ways; it goes by the first of them, and the others wait with it."""
        taken = self._take(ways)
        if taken:
            self._busy.update(ways)
            self._at_engine += len(taken)
            batch = asyncio.get_running_loop().create_task(self._run(ways, taken))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)
        else:
            self._rest()

    def _take(self, ways: Sequence[int]) -> list[_Waiting]:
        taken: list[_Waiting] = []
        for way in ways:
            line = self._lines[way]
            while line and len(taken) < self._batch_limit:
                waiting = line.popleft()
                self._waiting -= 1
                self._per_account[waiting.command.account] -= 1
                if not waiting.answer.done():
                    taken.append(waiting)
        if not self._waiting:
            self._per_account.clear()
        return taken

    async def _run(self, ways: Sequence[int], taken: Sequence[_Waiting]) -> None:
        outcomes = await self._outcomes(self._ways[ways[0]], [waiting.command for waiting in taken])
        self._busy.difference_update(ways)
        self._at_engine -= len(taken)
        again = []
        for waiting, outcome in zip(taken, outcomes, strict=True):
            if outcome is None:
                again.append(waiting)
            else:
                _tell(waiting.answer, outcome)
        self._put_back(again)
        # Those just answered may have more to write: after one round of the loop they are in the next batch.
        self._will_begin = True
        asyncio.get_running_loop().call_soon(self._begin)

    def _put_back(self, again: Sequence[_Waiting]) -> None:
        """To the head of the line, so that nobody overtakes."""
        for waiting in reversed(again):
            account_id = waiting.command.account
            self._lines[self._way_of(account_id)].appendleft(waiting)
            self._per_account[account_id] += 1
            self._waiting += 1

    def _rest(self) -> None:
        if not self._waiting and not self._at_engine:
            self._idle.set()

    async def _outcomes(self, run: RunBatch, commands: Sequence[Command[Any]]) -> Sequence[Outcome | None]:
        try:
            return await run(commands)
        except Overloaded as busy:  # no room or no lock: there will be none for each alone either
            return [Outcome(None, _again(busy)) for _ in commands]
        except Exception as error:  # noqa: BLE001 - the database refused: every waiter must hear of it
            return [Outcome(None, error)] if len(commands) == 1 else await self._replay(run, commands)

    async def _replay(self, run: RunBatch, commands: Sequence[Command[Any]]) -> Sequence[Outcome | None]:
        """One by one, so that what the database refuses is refused alone. Row keys make a lost commit harmless."""
        outcomes: list[Outcome | None] = []
        for command in commands:
            outcomes.extend(await self._outcomes(run, [command]))
        return outcomes

    async def aclose(self, *, drain_s: float) -> None:
        """Close the intake, let the queue drain; the rest hear that nothing was written."""
        self._closed = True
        await self.idle(timeout_s=drain_s)
        for line in self._lines:
            for waiting in line:
                _tell(waiting.answer, Outcome(None, Overloaded(CLOSING)))
            line.clear()
        self._waiting = 0
        self._rest()

    async def idle(self, *, timeout_s: float | None = None) -> None:
        """Wait until nothing is at the engine and nothing waits, at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()


def _again(busy: Overloaded) -> Overloaded:
    """The same answer for one more caller: an exception is raised in one place only."""
    return Overloaded(busy.message, retry_after_s=busy.retry_after_s or 1)


def _tell(answer: "asyncio.Future[Any]", outcome: Outcome) -> None:
    if answer.done():
        return
    if outcome.error is None:
        answer.set_result(outcome.value)
    elif isinstance(outcome.error, StopIteration):  # a future cannot carry it
        answer.set_exception(RuntimeError("a command raised StopIteration"))
    else:
        answer.set_exception(outcome.error)
