"""What every test may ask for: the loop, a clock that is moved by hand, a real store on a file of its own, a ledger."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ctxhost.clock import ManualClock
from ctxhost.ledger.ledger import Ledger
from ctxhost.store.sqlite import SqliteStore


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Async tests run on the loop that the host runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "ctxhost.db", clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
def ledger(store: SqliteStore) -> Ledger:
    return Ledger(store)
