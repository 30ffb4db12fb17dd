"""From single commands to transactions: a queue, the batch it becomes, the decisions, and what each caller hears.

One batch is at the engine while the next one collects; there is no timer. So a lone command pays for one plain
transaction, and a crowd shares one.
"""

import asyncio
import gc
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

from ctxhost.errors import Overloaded
from ctxhost.store import Command, Key, R, Row
from ctxhost.store.rows import TABLE_OF, Account

T = TypeVar("T")

BATCH_LIMIT = 512
QUEUE_LIMIT = 8_192
CLOSING = "The host is shutting down; nothing was written."


class Outcome(NamedTuple):
    """What one command came to: exactly one of the two counts."""

    value: object
    error: BaseException | None


class Batch:
    """The rows that a batch loaded, overlaid with what its commands put; the `View` of each command in turn."""

    def __init__(self, now_ms: int) -> None:
        self._batch_now_ms = now_ms
        self.latest_ms = now_ms
        """The furthest clock of the batch's accounts: nothing that falls due later can matter to it."""
        self.loaded: dict[Key, Row] = {}
        """What the engine found, as it was."""
        self._rows: dict[Key, Row | None] = {}
        self._due: dict[tuple[type[Row], str], list[Key]] = {}
        self.changed: dict[Key, Row | None] = {}
        """What to save: the last version of each row, None for a deleted one."""
        self._account_id = ""
        self.now_ms = now_ms
        self._mine: dict[Key, Any] = {}  # what the running command may see, as it sees it
        self._puts: dict[Key, Row | None] = {}

    def load(self, table: type[Row], wanted: Iterable[str], found: Iterable[Row]) -> None:
        """Take in the rows that an engine found among those wanted."""
        rows = {(table, row.id): row for row in found}
        self.loaded.update(rows)
        self._rows.update(dict.fromkeys([(table, row_id) for row_id in wanted]))
        self._rows.update(rows)
        if table is Account:
            clocks = [cast("Account", row).clock_ms for row in rows.values()]
            self.latest_ms = max([self.latest_ms, *clocks])

    def load_due(self, table: type[Row], found: Iterable[Row]) -> None:
        """Take in rows that fall due, asked for by nobody."""
        for row in found:
            self.loaded[table, row.id] = self._rows[table, row.id] = row
            self._due.setdefault((table, row.account), []).append((table, row.id))

    def begin(self, account_id: str, keys: Iterable[Key]) -> None:
        """Show the next command its rows. Its clock is the account's last if the computer's went back."""
        account_key = (Account, account_id)
        rows = self._rows
        self._mine = mine = {key: rows[key] for key in keys}
        account = mine[account_key] = cast("Account | None", rows[account_key])
        self._account_id = account_id
        self._puts = {}
        now_ms = self._batch_now_ms
        self.now_ms = now_ms if account is None or account.clock_ms < now_ms else account.clock_ms

    def keep(self) -> None:
        """The command returned: what it put is there for the next one, and will be saved."""
        self._rows.update(self._puts)
        self.changed.update(self._puts)

    def get(self, table: type[R], row_id: str) -> R | None:
        try:
            row: R | None = self._mine[table, row_id]
        except KeyError:
            raise _not_read(table, row_id) from None
        return row

    def put(self, row: Row) -> None:
        key = (type(row), row.id)
        if key not in self._mine:
            raise _not_read(*key)
        if row.account != self._account_id:
            raise LookupError(f"{key[0].__name__} {row.id!r} is of another account than the command")
        self._mine[key] = self._puts[key] = row

    def append(self, row: Row) -> None:
        key = (type(row), row.id)
        if self._rows.get(key) is not None or self._mine.get(key) is not None:
            raise ValueError(f"{key[0].__name__} {row.id!r} is appended but there already")
        self._mine.setdefault(key, None)
        self.put(row)

    def delete(self, table: type[R], row_id: str) -> None:
        if self.get(table, row_id) is not None:
            self._mine[table, row_id] = self._puts[table, row_id] = None

    def due(self, table: type[R], account: str) -> Sequence[R]:
        keys = self._due.get((table, account))
        if keys is None:
            return ()
        for key in keys:
            if key not in self._mine:
                self._mine[key] = self._rows[key]
        column = TABLE_OF[table].due
        rows = [cast("R | None", self._mine[key]) for key in keys]
        return [row for row in rows if row is not None and is_due(row, column, self.now_ms)]


def _not_read(table: type[Row], row_id: str) -> LookupError:
    return LookupError(f"{table.__name__} {row_id!r} is used but not among the command's reads")


def is_due(row: Any, column: str, now_ms: int) -> bool:
    """An open row whose time has come."""
    return bool(row.state == "open" and getattr(row, column) <= now_ms)


def wanted_rows(commands: Sequence[Command[Any]], reads: Sequence[Sequence[Key]]) -> dict[type[Row], dict[str, None]]:
    """What a batch must load, by table; every command's account is among it."""
    wanted: dict[type[Row], dict[str, None]] = {Account: {command.account: None for command in commands}}
    for keys in reads:
        for table, row_id in keys:
            wanted.setdefault(table, {})[row_id] = None
    return wanted


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from a batch: it would look through thousands of rows and find no garbage.

    For a block without `await`. With 256 commands it took a fifth of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def decide(batch: Batch, commands: Sequence[Command[Any]], reads: Sequence[Sequence[Key]]) -> list[Outcome]:
    """Run each command in order on what the ones before it left; a refused one leaves nothing."""
    outcomes = []
    for command, keys in zip(commands, reads, strict=True):
        batch.begin(command.account, keys)
        try:
            value = command.apply(batch)
        except Exception as error:  # noqa: BLE001 - a refusal or a bug: either is that caller's answer alone
            outcomes.append(Outcome(None, error))
        else:
            batch.keep()
            outcomes.append(Outcome(value, None))
    return outcomes


RunBatch = Callable[[Sequence[Command[Any]]], Awaitable[Sequence[Outcome]]]
"""One transaction: lock, load, decide, save, commit. Raises when the database refused the whole."""

_Waiting = tuple[Command[Any], "asyncio.Future[Any]"]


class Queue:
    """The commands that wait, and the one flusher that turns them into batches."""

    def __init__(self, run: RunBatch, *, batch_limit: int = BATCH_LIMIT, queue_limit: int = QUEUE_LIMIT) -> None:
        self._run = run
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._waiting: deque[_Waiting] = deque()
        self._per_account: defaultdict[str, int] = defaultdict(int)
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, command: Command[T]) -> Awaitable[T]:
        """Queue a command; the awaitable gives its answer after the commit.

        Awaiting may be cancelled at any time: before its batch begins the command is then dropped, after that it is
        written. Raises `Overloaded` when the queue, or the account's quarter of it, is full.
        """
        if self._closed:
            raise Overloaded(CLOSING)
        account_id = command.account
        if len(self._waiting) >= self._queue_limit or self._per_account[account_id] >= self._queue_limit // 4:
            raise Overloaded("Too many writes are waiting; nothing was written.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting.append((command, answer))
        self._per_account[account_id] += 1
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush())
        return answer

    def waiting(self) -> int:
        """How many commands wait for a batch."""
        return len(self._waiting)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                taken = self._take()
                outcomes = await self._outcomes([command for command, _ in taken])
                for (_, answer), outcome in zip(taken, outcomes, strict=True):
                    _tell(answer, outcome)
                # Those just answered may have more to write: one round of the loop lets them join the next batch.
                await asyncio.sleep(0)
        finally:
            self._flusher = None

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < self._batch_limit:
            command, answer = self._waiting.popleft()
            self._per_account[command.account] -= 1
            if not answer.done():
                taken.append((command, answer))
        if not self._waiting:
            self._per_account.clear()
        return taken

    async def _outcomes(self, commands: Sequence[Command[Any]]) -> Sequence[Outcome]:
        if not commands:
            return ()
        try:
            return await self._run(commands)
        except Overloaded as busy:  # no room or no lock: there will be none for each alone either
            return [Outcome(None, _again(busy)) for _ in commands]
        except Exception as error:  # noqa: BLE001 - the database refused: every waiter must hear of it
            return [Outcome(None, error)] if len(commands) == 1 else await self._replay(commands)

    async def _replay(self, commands: Sequence[Command[Any]]) -> Sequence[Outcome]:
        """One by one, so that what the database refuses is refused alone. Row keys make a lost commit harmless."""
        outcomes: list[Outcome] = []
        for command in commands:
            outcomes.extend(await self._outcomes([command]))
        return outcomes

    async def aclose(self, *, drain_s: float) -> None:
        """Close the intake, let the queue drain; the rest hear that nothing was written."""
        self._closed = True
        await self.idle(timeout_s=drain_s)
        for _, answer in self._waiting:
            _tell(answer, Outcome(None, Overloaded(CLOSING)))
        self._waiting.clear()

    async def idle(self, *, timeout_s: float | None = None) -> None:
        """Wait until nothing is at the engine and nothing waits, at most `timeout_s`."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=timeout_s)


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
