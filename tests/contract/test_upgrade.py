"""A newer host brings the database up to date while older ones work on it."""

import time
from collections.abc import Iterator
from contextlib import closing

import anyio
import psycopg
import pytest
from tests.postgres import server

from ctxhost.store import postgres_schema
from ctxhost.store.migrations import STEPS
from ctxhost.store.postgres_schema import migrate


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database."""
    yield server().create("upgraded")
    server().drop("upgraded")


async def test_others_read_and_write_while_a_step_waits_for_a_backup(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup holds every table as it is for as long as it takes; to change one makes nobody queue."""
    monkeypatch.setattr(postgres_schema, "LOCK_PATIENCE", "100ms")
    monkeypatch.setattr(postgres_schema, "LOCK_AGAIN_S", 0.2)
    await migrate(url, steps=STEPS[:3])
    tried = anyio.Event()

    def work() -> float:
        """The longest that anybody waits, over several tries of the step."""
        longest = 0.0
        with closing(psycopg.connect(url, autocommit=True)) as other:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                began = time.monotonic()
                other.execute("update bot set status = status where id = 'none'")
                longest = max(longest, time.monotonic() - began)
        return longest

    async def upgrade() -> None:
        await migrate(url)
        tried.set()

    with closing(psycopg.connect(url)) as backup:
        backup.execute("select count(*) from bot")
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(upgrade)
                longest = await anyio.to_thread.run_sync(work)
                assert not tried.is_set()
                backup.rollback()

    assert longest < 1
    with closing(psycopg.connect(url)) as db:
        assert db.execute("select count(*) from ctxhost_migration").fetchone() == (len(STEPS),)
