"""The patient lane at its end: what its last callers hear. The engine does as the test says."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from tests.contract.commands import Put, app

from ctxhost.errors import Overloaded
from ctxhost.store.batch import Outcome
from ctxhost.store.postgres_batch import Batches, Ran
from ctxhost.store.postgres_lanes import Lanes


class Elsewhere:
    """A quick lane for which every account is locked elsewhere."""

    async def run(self, commands: Sequence[Any], *, wait_for: str | None = None) -> Ran:
        return Ran([None for _ in commands], {command.account for command in commands}, has_jobs=False)


class Slow:
    """A patient lane whose batch ends when the gate is opened, with this outcome for each command."""

    def __init__(self) -> None:
        self.entered, self.gate = asyncio.Event(), asyncio.Event()
        self.outcome: Outcome | None = None

    async def run(self, commands: Sequence[Any], *, wait_for: str | None = None) -> Ran:
        self.entered.set()
        await self.gate.wait()
        return Ran([self.outcome for _ in commands], set(), has_jobs=False)


@pytest.mark.parametrize("outcome", [Outcome("written", None), None], ids=["committed", "still locked"])
async def test_what_is_at_the_engine_at_the_end_hears_what_became_of_it(outcome: Outcome | None) -> None:
    """Nobody is told that nothing was written before that is known; what came after it is told at once."""
    slow = Slow()
    slow.outcome = outcome
    lanes = Lanes([cast("Batches", Elsewhere())], cast("Batches", slow), wake=lambda: None)
    first = asyncio.ensure_future(lanes.write(Put(app("first", account="held"), account="held")))
    await slow.entered.wait()
    second = asyncio.ensure_future(lanes.write(Put(app("second", account="held"), account="held")))
    closing = asyncio.ensure_future(lanes.aclose(drain_s=0.01))
    with pytest.raises(Overloaded, match="nothing was written"):
        await second
    assert not first.done()

    slow.gate.set()
    await closing
    (answer,) = await asyncio.gather(first, return_exceptions=True)
    assert answer == "written" if outcome else isinstance(answer, Overloaded)
