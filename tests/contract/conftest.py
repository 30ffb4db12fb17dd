"""The contract also speaks of two hosts on one database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.engines import Engine

from ctxhost.clock import ManualClock
from ctxhost.store import Store


@pytest.fixture
async def other(engine: Engine, tmp_path: Path, clock: ManualClock, store: Store) -> AsyncIterator[Store]:
    """A second host on the same database."""
    async with engine.open(tmp_path, clock) as opened:
        yield opened
