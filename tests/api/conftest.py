"""Fixtures for the API: stands, opened as a test wants them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.api.stand import OpenStand, Stand, opened_stand

from ctxhost.clock import ManualClock


@pytest.fixture
async def open_stand(tmp_path: Path, clock: ManualClock) -> AsyncIterator[OpenStand]:
    """Opens stands on one folder; settings by name."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Stand:
            return await stack.enter_async_context(opened_stand(tmp_path, clock, **settings))

        yield opened


@pytest.fixture
async def stand(open_stand: OpenStand) -> Stand:
    """A host with the scripted provider."""
    return await open_stand()


@pytest.fixture
async def bare(open_stand: OpenStand) -> Stand:
    """A host without any provider."""
    return await open_stand(offered=[])
