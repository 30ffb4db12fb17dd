"""The host's clock over one call to an app's database, and the call's own caller: either may end it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ctxhost.functions.queryerror import QueryError

GRACE_S = 2.0  # for a server that was asked to stop
END_S = 10.0  # for a commit or a rollback, which nobody may interrupt


class Watch:
    """Set over a call by `watched`. `complaint`: why its statement was asked to stop."""

    def __init__(self, ask_to_stop: Callable[[], Awaitable[None]], timeout_s: float) -> None:
        self.complaint: QueryError | None = None
        self._ask_to_stop = ask_to_stop
        self._timeout_s = timeout_s
        self._scope = anyio.CancelScope(shield=True)
        self._answered = anyio.Event()
        self._ended = anyio.Event()

    def rest(self) -> None:
        """The statement was answered in time: let the call end, whatever the time and whoever is gone."""
        if self.complaint is not None:
            raise self.complaint
        self._answered.set()

    async def run(self) -> None:
        try:
            with anyio.move_on_after(self._timeout_s):
                await self._answered.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._end(QueryError("cancelled", "the caller is gone"))
            raise
        with anyio.CancelScope(shield=True):
            await self._end(QueryError("timeout", "the query took too long"))

    async def _end(self, complaint: QueryError) -> None:
        if self._ended.is_set():
            return
        allowed_s = END_S
        if not self._answered.is_set():
            self.complaint, allowed_s = complaint, GRACE_S
            await self._ask_to_stop()
        with anyio.move_on_after(allowed_s):
            await self._ended.wait()
        if not self._ended.is_set():
            self._scope.cancel()

    @asynccontextmanager
    async def over(self) -> AsyncIterator[None]:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        try:
            tasks.start_soon(self.run)
            with self._scope:
                yield
        finally:
            self._ended.set()
            tasks.cancel_scope.cancel()
            # Not given what the body raised: it leaves as it is, not wrapped in a group.
            await tasks.__aexit__(None, None, None)
            await checkpoint_if_cancelled()


async def watched(
    work: Callable[[Watch], Awaitable[None]], *, ask_to_stop: Callable[[], Awaitable[None]], timeout_s: float
) -> None:
    """Do the work shielded, until it ends by itself or is ended.

    After `timeout_s`, or when the caller is cancelled, the server is asked to stop; work that does not come back from
    it within a moment is cut off. Raises what the work raises, or else why it was stopped.
    """
    watch = Watch(ask_to_stop, timeout_s)
    async with watch.over():
        await work(watch)
    if watch.complaint is not None:
        raise watch.complaint
