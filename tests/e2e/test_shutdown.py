"""SIGTERM to a real `ctxhost serve` in the middle of its work."""

import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.cli.processes import Running
from tests.e2e.books import opened
from tests.e2e.host_process import RING

from ctxhost.cli.server import listen, serving, url_of
from ctxhost.egress.guard import LOOPBACK
from ctxhost.host import Host
from ctxhost.settings import EgressSettings, Settings
from ctxhost.store import queries
from ctxhost.store.rows import Job, Message
from ctxhost.webhooks.requests import PutWebhook

ACCOUNT, APP = "acct_stopped", "app_stopped"
WITHIN_S = 20
FAR_LESS_THAN_A_CLAIM_S = 15
READY = "ctxhost serves "
HANDLERS = {
    "call": """
async def handler(request, ctx):
    return (await ctx.http.post(ctx.env["OUTSIDE"] + "/call")).text
""",
    "later": """
async def handler(request, ctx):
    ctx.wait_until(tell(ctx))
    return "answered"


async def tell(ctx):
    await ctx.http.post(ctx.env["OUTSIDE"] + "/later")
    ctx.log.warning("what was left for later has ended")
""",
}


class Outside:
    """A server that takes everything and answers nothing before it is told to."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.came: list[tuple[str, str]] = []
        """Path and webhook-id."""
        self.url = ""
        self._more = anyio.Event()

    async def take(self, request: Request) -> Response:
        self.came.append((request.url.path, request.headers.get("webhook-id", "")))
        self._more.set()
        await self.go.wait()
        return Response("taken")

    async def until(self, count: int, *, within_s: float = WITHIN_S) -> None:
        with anyio.fail_after(within_s):
            while len(self.came) < count:
                self._more = anyio.Event()
                await self._more.wait()


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made = Outside()
    app = Starlette(routes=[Route("/{path:path}", made.take, methods=["POST"])])
    with listen("127.0.0.1", 0) as listening:
        made.url = url_of("127.0.0.1", listening)
        async with serving(app, listening, drain_s=0):
            yield made


@dataclass(frozen=True)
class Stage:
    """One tenant on a database, and how a host is started on it."""

    database: str
    folder: Path
    key: str

    @asynccontextmanager
    async def host(self, name: str, *, drain_s: float) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
        """A running host, and a client of it with the tenant's key."""
        env = {
            "CTXHOST_DATABASE": self.database,
            "CTXHOST_DATA_DIR": str(self.folder / name),
            "CTXHOST_ENCRYPTION_KEYS": RING,
            "CTXHOST_EGRESS__ALLOW_HTTP": "true",
            "CTXHOST_EGRESS__ALLOW_NETWORKS": '["127.0.0.0/8"]',
            "CTXHOST_DRAIN_S": str(drain_s),
        }
        start = partial(Running, "serve", "--port", "0", cwd=self.folder, env=env)
        with ExitStack() as stack:
            running = stack.enter_context(await anyio.to_thread.run_sync(start))
            line = await anyio.to_thread.run_sync(running.line_with, READY)
            headers = {"authorization": f"Bearer {self.key}"}
            url = line.removeprefix(READY).partition(" ")[0]
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=WITHIN_S, trust_env=False) as client:
                yield running, client


async def furnished(database: str, folder: Path, outside: Outside) -> Stage:
    functions = folder / "app" / "functions"
    functions.mkdir(parents=True)
    lines = ["[app]", 'name = "notes"', "[env]", f'OUTSIDE = "{outside.url}"']
    for name, code in HANDLERS.items():
        (functions / f"{name}.py").write_text(code)
        lines.append(f"[functions.{name}]")
    (folder / "app" / "ctxhost.toml").write_text("\n".join(lines) + "\n")
    settings = Settings(
        database=database,
        data_dir=folder / "furnishing",
        encryption_keys=RING,
        egress=EgressSettings(allow_http=True, allow_networks=LOOPBACK),
    )
    async with Host(settings, plugins=[], work=False) as host:
        await host.ledger.open_account("me", account=ACCOUNT)
        app = await host.tenants.create_app(ACCOUNT, "notes", app=APP, folder=folder / "app")
        await host.webhooks.put(app, PutWebhook(forward_url=f"{outside.url}/hook"))
        key, _ = await host.tenants.create_key(ACCOUNT)
    return Stage(database, folder, key)


async def told_to_stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    await anyio.to_thread.run_sync(running.line_with, "SIGTERM: stopping")


async def ended(running: Running) -> int:
    return await anyio.to_thread.run_sync(running.ends)


async def message_of(database: str) -> Message:
    async with opened(database) as store:
        (message,) = await store.read(queries.messages_page(APP, before=None, limit=9))
        return message


async def test_what_is_under_way_ends(tmp_path: Path, outside: Outside) -> None:
    """The caller gets its answer, a delivery is made once and noted, and what was left for later comes to its end."""
    stage = await furnished(str(tmp_path / "ctxhost.db"), tmp_path, outside)
    answers: list[httpx.Response] = []
    async with stage.host("only", drain_s=WITHIN_S) as (running, client):

        async def call() -> None:
            answers.append(await client.post(f"/v1/{APP}/fn/call"))

        (await client.post(f"/v1/{APP}/ai/meetings/webhook/test")).raise_for_status()
        (await client.post(f"/v1/{APP}/fn/later")).raise_for_status()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await outside.until(3)
            await told_to_stop(running)
            outside.go.set()
        assert 0 == await ended(running)

    assert [(200, "taken")] == [(answer.status_code, answer.text) for answer in answers]
    assert "what was left for later has ended" in running.output
    delivered = await message_of(stage.database)
    assert ("delivered", 1) == (delivered.state, delivered.attempts)
    assert sorted([("/call", ""), ("/hook", delivered.id), ("/later", "")]) == sorted(outside.came)


async def test_what_does_not_end_goes_to_another_host(tmp_path: Path, outside: Outside, database: str) -> None:
    """A delivery that was cut off is made by the other host at once, not when the claim ends."""
    stage = await furnished(database, tmp_path, outside)
    async with stage.host("first", drain_s=0.2) as (first, client):
        (await client.post(f"/v1/{APP}/ai/meetings/webhook/test")).raise_for_status()
        await outside.until(1)
        async with stage.host("second", drain_s=WITHIN_S) as (second, _):
            await told_to_stop(first)
            assert 0 == await ended(first)
            await outside.until(2, within_s=FAR_LESS_THAN_A_CLAIM_S)
            outside.go.set()
            second.signal(signal.SIGTERM)
            assert 0 == await ended(second)

    delivered = await message_of(database)
    assert [("/hook", delivered.id)] * 2 == outside.came
    assert ("delivered", 1) == (delivered.state, delivered.attempts)


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, outside: Outside) -> None:
    """However long it was told to wait; and what it was doing is everybody's again."""
    stage = await furnished(str(tmp_path / "ctxhost.db"), tmp_path, outside)
    async with stage.host("only", drain_s=3_600) as (running, client):
        (await client.post(f"/v1/{APP}/ai/meetings/webhook/test")).raise_for_status()
        (await client.post(f"/v1/{APP}/fn/later")).raise_for_status()
        await outside.until(2)
        await told_to_stop(running)
        running.signal(signal.SIGTERM)
        assert 0 == await ended(running)

    assert "SIGTERM again: ending at once" in running.output
    assert "Traceback" not in running.output
    left = await message_of(stage.database)
    async with opened(stage.database) as store:
        job = await store.read(queries.by_id(Job, f"deliver/{left.bot}"))
    assert job is not None
    assert ("queued", 0, 0) == (left.state, left.attempts, job.claimed_until_ms)
