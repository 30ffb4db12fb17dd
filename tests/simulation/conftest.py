"""A host with the fake provider and a scripted one, on a clock that is moved by hand."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.contract.engines import Engine
from tests.simulation.scripted import Scripted

import ctxhost_fake
from ctxhost.clock import ManualClock
from ctxhost.ledger.verify import verify
from ctxhost.store import queries
from ctxhost.testing import Inbox, Simulation, Tenant
from ctxhost.webhooks.requests import DEFAULT_EVENTS

FAKE: dict[str, dict[str, Any]] = {"fake": {"enabled": True}}


@dataclass(repr=False)  # its inbox grows without bound: a failure is told by the plan that led to it
class World:
    """One tenant with five dollars and an endpoint, and what there is to look at afterwards."""

    sim: Simulation
    scripted: Scripted
    tenant: Tenant
    inbox: Inbox

    async def charged(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(bot, dimension) → seconds and nano-dollars, of every charge of the tenant."""
        entries = await self.sim.host.ledger.entries(self.tenant.account, limit=1_000)
        charges = [entry for entry in entries if entry.kind == "charge"]
        assert len({entry.id for entry in charges}) == len(charges)
        return {(e.lease, e.dimension): (e.quantity, -(e.allowance + e.credits)) for e in charges}

    async def held(self) -> int:
        return (await self.sim.host.ledger.balance(self.tenant.account)).account.held

    async def credits(self) -> int:
        return (await self.sim.host.ledger.balance(self.tenant.account)).account.credits

    async def check_quiet(self) -> None:
        """Nothing is held, nothing is left to do, and the books are right."""
        assert 0 == await self.held()
        assert [] == await self.sim.host.store.read(queries.jobs())
        assert [] == await verify(self.sim.host.store)


@pytest.fixture
def scripted(clock: ManualClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
async def world(engine: Engine, tmp_path: Path, clock: ManualClock, scripted: Scripted) -> AsyncIterator[World]:
    plugins = [ctxhost_fake, scripted]
    database = await anyio.to_thread.run_sync(engine.database, tmp_path)
    async with Simulation(tmp_path, plugins=plugins, plugin_settings=FAKE, clock=clock, database=database) as sim:
        tenant = await sim.open_tenant()
        inbox = await sim.receive(tenant, events=[*DEFAULT_EVENTS, "recording.failed", "credits.low"])
        yield World(sim, scripted, tenant, inbox)
