"""Two hosts whose clocks are wrong in opposite directions: the database's clock decides, so nothing comes of it."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest
from tests.e2e import wrong_clock
from tests.e2e.crowd import BOTS, Crowd, calling, check_books, is_told_of_all, until, works
from tests.e2e.pair import ACCOUNT, quick_lives, two_hosts
from tests.postgres import server

from ctxhost.clock import rfc3339
from ctxhost.store import queries
from ctxhost.store.open import open_store

SOON_S, MONTH_S = 4, 30 * 86_400
NEAR_S = 2
"""From the right time. Everything in between is decided otherwise by a clock that is 5 s wrong."""


async def schedule(crowd: Crowd) -> None:
    """Bots that join in a moment, asked for at each host: to a clock that is ahead that moment has passed."""
    for host in (0, 1):
        at = rfc3339(time.time_ns() // 1_000_000 + SOON_S * 1_000)
        body = {"meetingUrl": "https://zoom.us/j/1", "joinAt": at, "metadata": {"key": f"later-{host}"}}
        told = await crowd.call("scheduled", host, "POST", BOTS, json=body)
        assert 200 == told.status
        crowd.bots[f"later-{host}"] = told.body["id"]


async def check_the_latest_time(crowd: Crowd) -> None:
    """30 days ahead is the most: a second less is taken and a second more is refused, wherever it is asked for."""
    for host, (seconds, status) in itertools.product((0, 1), ((-NEAR_S, 200), (NEAR_S, 400))):
        at = rfc3339(time.time_ns() // 1_000_000 + (MONTH_S + seconds) * 1_000)
        told = await crowd.call("month", host, "POST", BOTS, json={"meetingUrl": "https://zoom.us/j/1", "joinAt": at})
        assert status == told.status, told.body


@pytest.mark.parametrize("wrong_s", [5, 600])
async def test_two_hosts_that_do_not_know_the_time(
    wrong_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same charges, ends and messages as ever, each once; signatures hold both ways; nothing is early or late."""
    quick_lives(monkeypatch)
    running = await asyncio.to_thread(server)
    database = running.create(name := f"clocks_{wrong_s}")
    programs = [(wrong_clock.__file__, str(seconds)) for seconds in (wrong_s, -wrong_s)]
    try:
        async with two_hosts(tmp_path, database, programs=programs) as pair:
            async with calling(pair, within_s=20) as crowd:
                await schedule(crowd)
                await until(lambda: works(crowd, 0), within_s=30, what="the hosts do not serve")
            joined = [bot.birth.join_at_ms for bot in pair.emulator.bots.values()]
            await until(lambda: is_told_of_all(pair, crowd), within_s=60, what="not all is told")
            await check_books(database, pair, crowd)
            store = await open_store(database)
            entries = await store.read(queries.entries(ACCOUNT, before_seq=2**62, limit=1_000))
            await store.aclose()
            async with calling(pair, within_s=20) as after:
                after.is_over, after.spawns = True, False
                await check_the_latest_time(after)
    finally:
        running.drop(name)

    assert 2 == sum(at_ms is not None for at_ms in joined)
    assert {200} == {told.status for told in crowd.answers}
    assert {""} == {entry.mark for entry in entries if entry.kind == "charge"}
    assert len(crowd.bots) == len(pair.emulator.calls("create")) - 2 == len(pair.emulator.world.ordered)
    assert {1} == {len(events) for events in pair.receiver.got.values()}
    assert all(abs(late_s) < 3 for late_s in pair.receiver.lateness_s)
