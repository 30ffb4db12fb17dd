"""The two probes: whether the host lives, and whether work may be sent to it."""

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from tests.api.stand import BASE_URL, Stand, error_of, refusal, settings_in
from tests.postgres import Server

from ctxhost.api import create_app
from ctxhost.errors import Overloaded
from ctxhost.host import Host
from ctxhost.store import Query

WITHIN_S = 20
OURS = "select pid from pg_stat_activity where application_name = 'ctxhost'"


class SilentStore:
    """A database that answers nothing until it is let."""

    def __init__(self) -> None:
        self.reads = 0
        self.may_answer = anyio.Event()
        self.error: Exception | None = None

    async def read(self, query: Query[Any]) -> Any:
        self.reads += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return query.shape([(1,)])


@pytest.fixture
def silent(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentStore]:
    """In place of the stand's store while the test runs: the probes only read."""
    with monkeypatch.context() as patched:
        store = SilentStore()
        patched.setattr(stand.host, "store", store)
        yield store


async def _ready(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get("/health/ready")


async def _many(client: httpx.AsyncClient, count: int) -> list[httpx.Response]:
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await _ready(client))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(ask)
    return answers


async def test_an_open_host_is_ready_and_says_what_it_looked_at(stand: Stand) -> None:
    """Each check is listed with its time."""
    answer = (await _ready(stand.client)).raise_for_status().json()

    assert "ready" == answer["status"]
    assert ["open", "serving", "database"] == [check["name"] for check in answer["checks"]]
    assert all(check["ok"] and check["took_ms"] >= 0 for check in answer["checks"])
    assert {"status": "ok"} == (await stand.client.get("/health/live")).json()


async def test_a_host_that_has_not_opened_lives_and_is_not_ready(tmp_path: Path) -> None:
    """Its app may be mounted before; the database is not asked for."""
    transport = httpx.ASGITransport(create_app(Host(settings_in(tmp_path))))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        answer = await _ready(client)

        assert 200 == (await client.get("/health/live")).status_code
    assert (503, "not_ready") == refusal(answer)
    assert "2" == answer.headers["retry-after"]
    assert [{"name": "open", "ok": False, "took_ms": 0}] == error_of(answer)["checks"]


async def test_a_host_that_stops_is_not_ready(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """From the moment on at which it begins to let out what is under way; the log says so once."""
    stand.host.is_draining = True
    with caplog.at_level(logging.INFO, "ctxhost.health"):
        answers = [await _ready(stand.client) for _ in range(3)]

    assert [(503, "not_ready")] * 3 == [refusal(answer) for answer in answers]
    assert "The host is stopping." == error_of(answers[0])["message"]
    assert 200 == (await stand.client.get("/health/live")).status_code
    assert 1 == len(caplog.records)


async def test_a_database_that_hangs_is_asked_once_however_many_probe(stand: Stand, silent: SilentStore) -> None:
    """Every prober hears so in about a second, later ones at once; when it answers again the host is ready again."""
    started_s = time.monotonic()
    first = await _many(stand.client, 40)
    took_s = time.monotonic() - started_s
    started_s = time.monotonic()
    later = await _many(stand.client, 40)

    assert {(503, "not_ready")} == {refusal(answer) for answer in (*first, *later)}
    assert 1 == silent.reads
    assert 0.9 < took_s < 5
    assert time.monotonic() - started_s < 0.9
    silent.may_answer.set()
    await _until(stand.client, 200)
    assert 2 == silent.reads  # the answer that came too late counts as none


async def test_an_answer_is_fresh_for_a_second(stand: Stand, silent: SilentStore) -> None:
    """A crowd of probers costs the database one read a second."""
    silent.may_answer.set()
    answers = [*(await _many(stand.client, 20)), *(await _many(stand.client, 20))]

    assert {200} == {answer.status_code for answer in answers}
    assert 1 == silent.reads


async def test_the_log_hears_why_and_the_caller_nothing_secret(
    stand: Stand, silent: SilentStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database said may name it."""
    silent.may_answer.set()
    silent.error = Overloaded("postgresql://ctxhost@db.internal/ctxhost cannot be reached")
    with caplog.at_level(logging.WARNING, "ctxhost.health"):
        answer = await _ready(stand.client)

    assert (503, "not_ready") == refusal(answer)
    assert "db.internal" not in answer.text
    assert "db.internal" in caplog.text


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
async def far(tmp_path: Path, postgres: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A host on a PostgreSQL that the test may stop."""
    name = f"health_{tmp_path.name}"
    url = await anyio.to_thread.run_sync(postgres.create, name)
    settings = settings_in(tmp_path, database=url)
    async with (
        Host(settings, plugins=[], work=False) as host,
        httpx.AsyncClient(transport=httpx.ASGITransport(host.asgi), base_url=BASE_URL) as client,
    ):
        yield client
    await anyio.to_thread.run_sync(postgres.drop, name)


async def _until(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask until the answer has this status."""
    with anyio.fail_after(WITHIN_S):
        while (answer := await _ready(client)).status_code != status:  # noqa: ASYNC110 - a server's state has no event
            await anyio.sleep(0.05)
    return answer


async def test_a_stopped_postgresql_is_told_and_its_return_too(
    far: httpx.AsyncClient, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """503 while it is away, without its address; 200 once it is back, by itself."""
    await _until(far, 200)
    with caplog.at_level(logging.INFO, "ctxhost.health"):
        await anyio.to_thread.run_sync(postgres.stop)
        away = await _until(far, 503)
        await anyio.to_thread.run_sync(postgres.start)
        await _until(far, 200)

    assert (503, "not_ready") == refusal(away)
    assert "socket" not in away.text
    assert "postgres" not in away.text
    assert ["WARNING", "INFO"] == [line.levelname for line in caplog.records if line.name == "ctxhost.health"]


async def test_probes_of_a_postgresql_that_hangs_use_up_no_connections(
    far: httpx.AsyncClient, postgres: Server
) -> None:
    """Its processes stand still; hundreds of probes later there are as many connections as before."""
    await _until(far, 200)
    held = {pid for (pid,) in await anyio.to_thread.run_sync(postgres.execute, OURS)}
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        await _until(far, 503)
        answers = [answer for _ in range(3) for answer in await _many(far, 100)]
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)

    assert {(503, "not_ready")} == {refusal(answer) for answer in answers}
    await _until(far, 200)
    now = {pid for (pid,) in await anyio.to_thread.run_sync(postgres.execute, OURS)}
    assert len(now) <= len(held) + 1  # the probe took one reader, and made its connection if it had none
