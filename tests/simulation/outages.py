"""Pulling the plug: a process that stops between any two of its steps, and another one on the same files."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
from tests.simulation.scripted import Scripted

from ctxhost.clock import ManualClock
from ctxhost.testing import Simulation

T = TypeVar("T")
RING = "k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


class Plug:
    """Counts the steps of a process; at step `pulled_at` it stops, and with it everything that would come after."""

    def __init__(self, pulled_at: int | None = None) -> None:
        self.steps = 0
        self.pulled = anyio.Event()
        self._pulled_at = pulled_at

    async def step(self) -> None:
        self.steps += 1
        if self.steps == self._pulled_at:
            self.pulled.set()
        if self.pulled.is_set():
            await anyio.sleep_forever()

    def around(self, work: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """The same work, with a step before it and one after it."""

        async def stepped(*args: Any, **options: Any) -> T:
            await self.step()
            done = await work(*args, **options)
            await self.step()
            return done

        return stepped


async def process(
    folder: Path,
    clock: ManualClock,
    provider: Scripted,
    plug: Plug,
    body: Callable[[Simulation], Awaitable[None]],
    **settings: Any,
) -> None:
    """One life of a host on the files of a folder: `body`, until it has returned or the plug is pulled."""
    async with Simulation(folder, plugins=[provider], clock=clock, encryption_keys=RING, **settings) as sim:
        store: Any = sim.host.store
        await store.recover()
        store.write = plug.around(store.write)
        store.claim = plug.around(store.claim)
        unplugged: Any = provider
        create, unplugged.create = provider.create, plug.around(provider.create)
        try:
            async with anyio.create_task_group() as tasks:

                async def play() -> None:
                    await body(sim)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(play)
                await plug.pulled.wait()
                tasks.cancel_scope.cancel()
        finally:
            unplugged.create = create
