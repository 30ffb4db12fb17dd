"""Each test of the contract runs once for every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.engines import ENGINES, Engine

from ctxhost.clock import ManualClock
from ctxhost.store import Store


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
async def store(engine: Engine, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with engine.open(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
async def other(engine: Engine, tmp_path: Path, clock: ManualClock, store: Store) -> AsyncIterator[Store]:
    """A second host on the same database."""
    async with engine.open(tmp_path, clock) as opened:
        yield opened
