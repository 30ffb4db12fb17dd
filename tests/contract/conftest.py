"""The contract also speaks of two hosts on one database."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.contract.engines import POSTGRES, Engine, postgres_url

from ctxhost.clock import ManualClock
from ctxhost.store import Store


@pytest.fixture
async def other(engine: Engine, tmp_path: Path, clock: ManualClock, store: Store) -> AsyncIterator[Store]:
    """A second host on the same database."""
    async with engine.open(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL database of the test's own, for what is said of that engine alone."""
    yield postgres_url(tmp_path)
    POSTGRES.discard(tmp_path)
