"""Fixtures for the API: stands, opened as a test wants them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.api.stand import OpenStand, Stand, opened_stand
from tests.contract.engines import Engine

from ctxhost.clock import ManualClock


@pytest.fixture
async def open_stand(engine: Engine, tmp_path: Path, clock: ManualClock) -> AsyncIterator[OpenStand]:
    """Opens stands on one folder and one database; settings by name."""
    database = await anyio.to_thread.run_sync(engine.database, tmp_path)
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Stand:
            return await stack.enter_async_context(opened_stand(tmp_path, clock, database=database, **settings))

        yield opened


@pytest.fixture
async def stand(open_stand: OpenStand) -> Stand:
    """A host with the scripted provider."""
    return await open_stand()


@pytest.fixture
async def bare(open_stand: OpenStand) -> Stand:
    """A host without any provider."""
    return await open_stand(offered=[])
