"""What every test may ask for: the loop, a clock that is moved by hand, a real store of its own, a ledger.

A test that asks for a store runs once on every engine.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.engines import ENGINES, Engine
from tests.postgres import server

from ctxhost.clock import ManualClock
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: some tests wait, for a server that is away or a call that must end."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Async tests run on the loop that the host runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = ENGINES[request.param]
    yield engine
    engine.discard(tmp_path)


@pytest.fixture
async def store(engine: Engine, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with engine.open(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


@pytest.fixture(scope="session", autouse=True)
def own_postgres() -> Iterator[None]:
    """What a test has started ends with the session."""
    yield
    if server.cache_info().currsize:
        server().close()
