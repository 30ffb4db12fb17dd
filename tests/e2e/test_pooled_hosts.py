"""Hosts behind a pooler in transaction mode: everything they do, on connections that are anybody's."""

import asyncio
from pathlib import Path

import pytest
from tests.e2e.crowd import calling, check_books, is_told_of_all, until, works
from tests.e2e.pair import quick_lives, two_hosts
from tests.pooler import POOLERS, pooling
from tests.postgres import server


@pytest.mark.parametrize("pooler", POOLERS)
async def test_two_hosts(pooler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bots live to their ends, are paid for and told of, once; every call is answered as if no pooler were there."""
    quick_lives(monkeypatch)
    running = await asyncio.to_thread(server)
    database = running.create(name := f"pooled_{pooler}")
    pooled = {"CTXHOST_DATABASE_POOLED": "true"}
    try:
        async with (
            pooling(pooler, running) as url,
            two_hosts(tmp_path, database, reached_at=url(name), env=pooled) as pair,
        ):
            async with calling(pair, within_s=20) as crowd:
                await until(lambda: works(crowd, 0), within_s=30, what="the hosts do not serve")
            await until(lambda: is_told_of_all(pair, crowd), within_s=60, what="not all is told")
            await check_books(database, pair, crowd)
    finally:
        running.drop(name)

    assert {200} == {told.status for told in crowd.answers}
