"""A process that is killed in mid-load loses nothing that it had acknowledged."""

import random
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import anyio
from tests.contract import crash_child
from tests.contract.engines import Engine

from ctxhost.clock import WallClock
from ctxhost.ledger.commands import charge_id, entry_id
from ctxhost.ledger.verify import verify
from ctxhost.store import queries

ROUNDS = 4
ROOT = Path(__file__).parents[2]


def run_and_kill(folder: Path, engine: str, round_number: int, after_lines: int) -> list[str]:
    """What the process said before it was killed, a line cut in two by the kill not counted."""
    command = [sys.executable, str(Path(crash_child.__file__)), str(folder), engine, str(round_number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(after_lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert -signal.SIGKILL == child.returncode
    return [line.decode().strip() for line in said if line.endswith(b"\n")]


async def test_nothing_acknowledged_is_lost(engine: Engine, tmp_path: Path) -> None:
    """After each of several kills every acknowledged write is there, and the books add up."""
    chance = random.Random(20)
    said: list[str] = []
    await anyio.to_thread.run_sync(engine.database, tmp_path)  # not the child's to make, and to take along
    for n in range(ROUNDS):
        lines = chance.randrange(20, 400)
        said += await anyio.to_thread.run_sync(run_and_kill, tmp_path, engine.name, n, lines)
        async with engine.open(tmp_path, WallClock()) as store:
            assert [] == await verify(store)
            entries = await store.read(queries.ids("select id from entry"))
            leases = await store.read(queries.ids("select id from lease"))
        entry_set, lease_set = set(entries), set(leases)
        lost = [line for line in said if not is_there(line, entry_set, lease_set)]
        assert [] == lost
    assert len(said) > ROUNDS * 20


def is_there(line: str, entries: Collection[str], leases: Collection[str]) -> bool:
    kind, account, key = line.split()
    if kind == "lease":
        return key in leases
    return (entry_id(account, key) if kind == "grant" else charge_id(key, "recording")) in entries
