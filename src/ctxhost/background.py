"""Work that belongs to the host, not to the request that asked for it: a client that hangs up cancels nothing."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from ctxhost.errors import Overloaded

T = TypeVar("T")

_CLOSING = "The host is shutting down."


class _Pending(Generic[T]):
    def __init__(self) -> None:
        self._done = anyio.Event()
        self._value: list[T] = []
        self._error: Exception | None = None

    async def fill(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self._value.append(await work())
        except Exception as error:  # noqa: BLE001 - the one who waits hears of it
            self._error = error
        finally:
            self._done.set()

    async def wait(self) -> T:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        if not self._value:
            raise Overloaded(_CLOSING)
        return self._value[0]


class Background:
    """The host's own task group."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._under_way = 0
        self._ended = anyio.Event()

    async def finish(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` to its end in the host; the caller only waits, and may stop waiting.

        Raises:
            Overloaded: the host is closing.
        """
        pending: _Pending[T] = _Pending()
        try:
            self.start(partial(pending.fill, work))
        except RuntimeError as error:  # the group has ended
            raise Overloaded(_CLOSING) from error
        return await pending.wait()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`; nobody waits. It must handle its own errors."""
        self._tasks.start_soon(self._counted, work)
        self._under_way += 1

    async def idle(self) -> None:
        """Wait until no work is under way, nor any that it has started."""
        while self._under_way:
            self._ended = anyio.Event()
            await self._ended.wait()

    async def _counted(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        finally:
            self._under_way -= 1
            self._ended.set()
