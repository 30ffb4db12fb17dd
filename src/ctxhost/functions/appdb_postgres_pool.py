"""The connections of apps: a few for each, so many altogether, the longest unused closed first."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio

from ctxhost.functions.appdb_postgres_wire import AppWire
from ctxhost.functions.queryerror import QueryError

_IDLE_S: Final = 60.0


@dataclass(slots=True, eq=False)
class _App:
    turns: anyio.Semaphore
    users: int = 0
    idle: list[tuple[AppWire, float]] = field(default_factory=list)


class Pool:
    """Gives out connections that `connect` makes by an app's name. A caller that waits too long hears `busy`."""

    def __init__(
        self, connect: Callable[[str], Awaitable[AppWire]], *, per_app: int, total: int, max_wait_s: float
    ) -> None:
        self._connect = connect
        self._per_app = per_app
        self._total = total
        self._max_wait_s = max_wait_s
        self._places = anyio.Semaphore(total, max_value=total)
        self._open = 0
        self._apps: OrderedDict[str, _App] = OrderedDict()  # the last used at the end
        self._closed = False

    @asynccontextmanager
    async def take(self, name: str) -> AsyncIterator[AppWire]:
        """A connection for one call. Raises `QueryError` when there is none to be had."""
        app = self._apps.setdefault(name, _App(anyio.Semaphore(self._per_app)))
        app.users += 1
        try:
            async with self._turn(app.turns), self._turn(self._places):
                self._apps.move_to_end(name)
                wire = await self._wire(name, app)
                try:
                    yield wire
                finally:
                    await self._put_back(app, wire)
        finally:
            app.users -= 1
            self._drop(name, app)

    async def forget(self, name: str) -> None:
        """Close an app's unused connections."""
        app = self._apps.get(name)
        while app is not None and app.idle:
            await self._close(app.idle.pop()[0])

    async def aclose(self) -> None:
        """Close every connection, those in use after their call."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(2 * self._max_wait_s):
                for _ in range(self._total):
                    await self._places.acquire()
            for name in list(self._apps):
                await self.forget(name)

    @asynccontextmanager
    async def _turn(self, semaphore: anyio.Semaphore) -> AsyncIterator[None]:
        if self._closed:
            raise QueryError("closed", "the host is shutting down")
        try:
            with anyio.fail_after(self._max_wait_s):
                await semaphore.acquire()
        except TimeoutError:
            raise QueryError("busy", "every connection that the app may use is taken") from None
        try:
            yield
        finally:
            semaphore.release()

    async def _wire(self, name: str, app: _App) -> AppWire:
        if app.idle:
            return app.idle.pop()[0]
        # Whoever is here has a place, so when all that may be open are open, one of them is unused.
        with anyio.CancelScope(shield=True):
            if self._open >= self._total:
                await self._close_oldest()
            self._open += 1
            try:
                wire = await self._connect(name)
            except BaseException:
                self._open -= 1
                raise
        return wire

    async def _put_back(self, app: _App, wire: AppWire) -> None:
        now_s = time.monotonic()
        if wire.is_usable and not self._closed:
            app.idle.append((wire, now_s))
        else:
            await self._close(wire)
        await self._close_unused(now_s - _IDLE_S)

    async def _close_unused(self, since_s: float) -> None:
        for name, app in list(self._apps.items()):
            while app.idle and app.idle[0][1] < since_s:
                await self._close(app.idle.pop(0)[0])
            self._drop(name, app)

    def _drop(self, name: str, app: _App) -> None:
        if not app.users and not app.idle and self._apps.get(name) is app:
            del self._apps[name]

    async def _close_oldest(self) -> None:
        for app in self._apps.values():
            if app.idle:
                await self._close(app.idle.pop(0)[0])
                return

    async def _close(self, wire: AppWire) -> None:
        self._open -= 1
        with anyio.CancelScope(shield=True):
            await wire.close()
