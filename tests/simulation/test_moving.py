"""A host is backed up in the middle of a call, thrown away, and restored on the other engine: the call goes on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
from tests.contract.engines import POSTGRES, SQLITE, Engine
from tests.simulation.conftest import FAKE
from tests.simulation.outages import RING

import ctxhost_fake
from ctxhost.clock import ManualClock
from ctxhost.ledger.verify import verify
from ctxhost.store import queries
from ctxhost.testing import Simulation, Tenant
from ctxhost.webhooks.outbox import message_id
from ctxhost.webhooks.requests import DEFAULT_EVENTS

EVENTS = ["bot.in_call_recording", "recording.done", "transcript.done", "bot.done"]


def ctxhost(*args: str, database: Path | str, data_dir: Path) -> str:
    """The command, as a process of its own beside the host; what it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CTXHOST_")}
    ours = {"CTXHOST_DATABASE": str(database), "CTXHOST_DATA_DIR": str(data_dir), "CTXHOST_ENCRYPTION_KEYS": RING}
    command = [sys.executable, "-m", "ctxhost", *args]
    done = subprocess.run(command, env={**clean, **ours}, capture_output=True, text=True, check=False, timeout=60)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def simulation(folder: Path, database: Path | str, clock: ManualClock) -> Simulation:
    plugins = [ctxhost_fake]
    return Simulation(
        folder, plugins=plugins, plugin_settings=FAKE, clock=clock, database=database, encryption_keys=RING
    )


async def _refuse(headers: Mapping[str, str], body: bytes) -> int:
    return 503


@pytest.mark.parametrize(("before", "after"), [(SQLITE, POSTGRES), (POSTGRES, SQLITE)], ids=lambda e: e.name)
async def test_a_call_goes_on_where_it_is_restored(
    tmp_path: Path, clock: ManualClock, before: Engine, after: Engine
) -> None:
    """It ends as undisturbed: money closed, books right, every event delivered under the id that it had before."""
    old, new, archive = tmp_path / "old", tmp_path / "new", tmp_path / "b.tar.gz"
    for folder in (old, new):
        folder.mkdir()
    try:
        tenant, bot, tried = await _half_a_call(old, before, archive, clock)
        target = await anyio.to_thread.run_sync(after.database, new)
        restored = await anyio.to_thread.run_sync(
            lambda: ctxhost("restore", str(archive), database=target, data_dir=new / "data")
        )
        async with simulation(new, target, clock) as sim:
            inbox = await sim.receive(tenant)
            await sim.run()
            ended = await sim.get(tenant, bot)
            entries = await sim.host.ledger.entries(tenant.account, limit=100)
            balance = (await sim.host.ledger.balance(tenant.account)).account
            findings, jobs = await verify(sim.host.store), await sim.host.store.read(queries.jobs())
    finally:
        before.discard(old)
        after.discard(new)

    assert "The books are right." in restored
    assert ("done", "fake") == (ended.status, ended.provider)
    assert ended.duration_seconds
    assert EVENTS == inbox.events(bot)
    assert [message_id(bot, event) for event in EVENTS] == [received.id for received in inbox.accepted]
    assert tried == {inbox.accepted[0].id}
    assert {"recording", "transcription"} == {entry.dimension for entry in entries if entry.kind == "charge"}
    assert (0, [], []) == (balance.held, findings, jobs)


async def _half_a_call(folder: Path, engine: Engine, archive: Path, clock: ManualClock) -> tuple[Tenant, str, set[str]]:
    """A bot that records, its first message tried in vain; backed up while the host runs, and thrown away after."""
    database = await anyio.to_thread.run_sync(engine.database, folder)
    async with simulation(folder, database, clock) as sim:
        tenant = await sim.open_tenant()
        inbox = await sim.receive(tenant, events=DEFAULT_EVENTS)
        inbox.behaviour = _refuse
        bot = (await sim.start(tenant)).id
        await sim.run(lambda: bool(inbox.attempts))
        assert "recording" == (await sim.get(tenant, bot)).status
        await anyio.to_thread.run_sync(
            lambda: ctxhost("backup", str(archive), database=database, data_dir=folder / "data")
        )
        tried = {received.id for received in inbox.attempts}
    await anyio.to_thread.run_sync(shutil.rmtree, folder / "data")
    return tenant, bot, tried
