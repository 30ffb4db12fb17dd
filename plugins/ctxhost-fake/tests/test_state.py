"""What outlives the process, and what happens when the disk fails."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from ctxhost.meetings.provider import BotRequest
from ctxhost_fake.state import State

Asked = Callable[..., BotRequest]

MAKES_BOTS_UNTIL_KILLED = """
import sys
from pathlib import Path
import anyio
from ctxhost_fake.life import Birth
from ctxhost_fake.state import State

async def main():
    state = State(Path(sys.argv[1]))
    for n in range(100_000):
        state.add(Birth(id=f"p-{n}", bot=f"b-{n}", app="a", attempt=1, born_ms=n, join_at_ms=None, script="happy",
            webhooks=(), seed=0, speed=1, recording="mp4", transcript=True, timeouts_s={}, metadata={}))
        print(f"p-{n}", flush=True)

anyio.run(main)
"""


def test_a_killed_process_has_kept_every_bot_that_it_told_of(tmp_path: Path) -> None:
    """`kill -9` in the middle of making bots: each id that was handed out is there at the next start."""
    command = [sys.executable, "-c", MAKES_BOTS_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(50)]
        process.kill()
        told += process.stdout.read().split("\n")[:-1]

    state = State(tmp_path)
    kept = {life.birth.id for life in state.lives()}
    state.close()
    assert 50 <= len(told)
    assert set() == set(told) - kept
    assert len(kept) <= len(told) + 1


async def test_a_disk_that_fails_makes_no_bot_and_everyone_hears_it(stand: Any, asked: Asked) -> None:
    """Callers that share the transaction all get the error; nothing is remembered that is not on disk."""
    provider = stand.open()
    provider._state._db.execute("alter table life rename to gone")
    failures: list[str] = []

    async def create(bot: str) -> None:
        with pytest.raises(sqlite3.Error):
            await provider.create(asked(bot=bot))
        failures.append(bot)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(create, f"bot-{number}")

    assert 5 == len(failures)
    assert [] == [found for number in range(5) for found in await provider.find(f"bot-{number}")]
    provider._state._db.execute("alter table gone rename to life")
    made = await provider.create(asked(bot="bot-0"))
    assert [made] == await stand.open().find("bot-0")
