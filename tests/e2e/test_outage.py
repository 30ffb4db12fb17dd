"""PostgreSQL goes away under load and comes back: what callers hear, what is kept, and that nobody has to help."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.cli.processes import Running
from tests.e2e.crowd import EVERYTHING, Answered, calling, check_books, is_told_of_all, until, works
from tests.e2e.pair import RING, quick_lives, two_hosts
from tests.postgres import Server

BEFORE_S, AWAY_S = 1.5, 10
ANSWERED_WITHIN_S = 10
"""A commit whose fate is not known is asked after for 5 s; everything else is answered at once."""
BACK_WITHIN_S = 6
"""The hosts need a second or so; a busy machine is given more."""
SETTLED_WITHIN_S = 75
"""A few seconds, unless a claim was lost with its answer: that job is free again after a minute."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A PostgreSQL that may be stopped."""
    started = await asyncio.to_thread(Server)
    yield started
    await asyncio.to_thread(started.close)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bots whose lives are short, and no word of the emulator's about webhooks that were answered 503."""
    quick_lives(monkeypatch)
    caplog.set_level(logging.ERROR, "ctxhost.recall.emulator")


def check_refusals(answers: Sequence[Answered]) -> None:
    """Whatever was refused was refused as the API says, and without a word about the database's address."""
    for told in answers:
        assert told.took_s < ANSWERED_WITHIN_S
        assert told.request_id
        if told.status == 200:
            continue
        if told.status == 409:  # the first call of this key is not decided yet
            assert ("spawn", "idempotency_conflict") == (told.kind, told.code)
            continue
        assert (503, "overloaded", "api_error") == (told.status, told.code, told.body["error"]["type"]), told.body
        assert {"message", "type", "code", "remediation"} == set(told.body["error"])
        assert int(told.retry_after or 0) > 0
        assert "socket" not in told.body["error"]["message"]


def kept_numbers(server: Server) -> list[int]:
    """What the app's database holds."""
    ((place,),) = server.execute("select datname from pg_database where datname like 'ctxhost_app_%'")
    return [n for (n,) in server.execute("select n from app.kept", database=place)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
async def test_postgres_is_away_for_ten_seconds(server: Server, tmp_path: Path, how: signal.Signals) -> None:
    """Meanwhile callers hear 503 with Retry-After, soon, and nothing else; afterwards both hosts serve again by
    themselves and go on with what was under way; no acknowledged write is lost, none is done twice."""
    database, apps = server.create("host"), server.create("apps")
    async with two_hosts(tmp_path, database, apps=apps) as pair:
        async with calling(pair, within_s=2 * ANSWERED_WITHIN_S) as crowd:
            await until(lambda: works(crowd, 0), within_s=30, what="the hosts do not serve")
            await asyncio.sleep(BEFORE_S)
            gone_s = time.monotonic()
            await asyncio.to_thread(server.stop, how)
            await asyncio.sleep(AWAY_S)
            back_s = time.monotonic()
            await asyncio.to_thread(server.start)
            await until(lambda: works(crowd, back_s), within_s=BACK_WITHIN_S, what="a host does not recover")
        told = [one for one in crowd.since(gone_s + 1) if one.ended_s < back_s]
        await until(lambda: is_told_of_all(pair, crowd), within_s=SETTLED_WITHIN_S, what="not all is told")
        await check_books(database, pair, crowd)

    assert {200} == {one.status for one in crowd.answers if one.ended_s < gone_s}
    assert set(EVERYTHING) == {(one.kind, one.host) for one in told}
    assert set() == {one.status for one in told} - {503, 409}
    check_refusals(crowd.answers)
    kept = kept_numbers(server)
    assert set() == crowd.kept - set(kept)
    assert len(kept) == len(set(kept))


@pytest.fixture
async def apps_server() -> AsyncIterator[Server]:
    """Another one, for the apps' databases."""
    started = await asyncio.to_thread(Server)
    yield started
    await asyncio.to_thread(started.close)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
async def test_the_apps_databases_are_away(
    server: Server, apps_server: Server, tmp_path: Path, how: signal.Signals
) -> None:
    """What needs them is answered 503, whatever else the hosts do goes on, and they are found again."""
    others = [(kind, host) for kind, host in EVERYTHING if kind != "function"]
    async with (
        two_hosts(tmp_path, server.create("host"), apps=apps_server.create("apps")) as pair,
        calling(pair, within_s=2 * ANSWERED_WITHIN_S) as crowd,
    ):
        await until(lambda: works(crowd, 0), within_s=30, what="the hosts do not serve")
        gone_s = time.monotonic()
        await asyncio.to_thread(apps_server.stop, how)
        await until(lambda: works(crowd, gone_s + 1, others), within_s=30, what="the rest does not go on")
        back_s = time.monotonic()
        await asyncio.to_thread(apps_server.start)
        await until(lambda: works(crowd, back_s), within_s=BACK_WITHIN_S, what="they are not found again")
        acknowledged = set(crowd.kept)
        kept = set(kept_numbers(apps_server))

    away = [told for told in crowd.since(gone_s + 0.5) if told.ended_s < back_s]
    assert {503} == {told.status for told in away if told.kind == "function"}
    assert {200} == {told.status for told in away if told.kind != "function"}
    check_refusals(crowd.answers)
    assert set() == acknowledged - kept


def starting(folder: Path, database: str) -> Running:
    """A host that is told of a database."""
    env = {"CTXHOST_DATABASE": database, "CTXHOST_DATA_DIR": str(folder / "data"), "CTXHOST_ENCRYPTION_KEYS": RING}
    return Running("serve", "--port", "0", cwd=folder, env=env)


def test_a_host_that_starts_without_its_database(tmp_path: Path) -> None:
    """One line that says what is wrong with what, and exit code 1."""
    with starting(tmp_path, f"postgresql:///host?host={tmp_path}") as host:
        assert 1 == host.ends()

    (line,) = host.output.splitlines()
    assert line.startswith("Error: The database cannot be used: ")
    assert str(tmp_path) in line


def test_a_host_that_starts_on_a_database_that_says_nothing(tmp_path: Path) -> None:
    """What takes connections and never answers is given up after a few seconds, with the same line."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        with starting(tmp_path, f"postgresql://ctxhost@127.0.0.1:{silent.getsockname()[1]}/host") as host:
            assert 1 == host.ends()

    (line,) = host.output.splitlines()
    assert line.startswith("Error: The database cannot be used: ")
    assert "timeout" in line
    assert time.monotonic() - began_s < 20
