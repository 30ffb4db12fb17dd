"""Two real hosts on one PostgreSQL, with an emulated Recall and a receiver that stay while the hosts are tried."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
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

from ctxhost.ledger.ledger import Ledger
from ctxhost.store.open import open_store
from ctxhost.tenants.secrets import KeyRing
from ctxhost.tenants.service import Tenants
from ctxhost_recall.emulator import Emulator, Story, life, serve, webhooks

ACCOUNT, APP = "acct_pair", "app_pair"
RING = "k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
READY = "ctxhost serves "
INBOUND = "/v1/ai/meetings/_webhooks/recall"
QUICK = Story(about="Over in a few seconds.", waits_s=1, recordings_s=(2,), transcript_after_s=1)
QUICK_TIMES = {"JOINING_S": 1, "SETUP_S": 1, "MEDIA_AFTER_S": 1, "DONE_AFTER_S": 2}
TOML = """
[app]
name = "notes"

[functions.keep]
timeout_s = 5
"""
SCHEMA = {"tables": {"kept": {"columns": {"n": {"type": "integer", "primaryKey": True}}}}}
HANDLER = """
async def handler(request, ctx):
    n = (await request.json())["n"]
    await ctx.db.query("INSERT INTO kept (n) VALUES ($1)", [n])
    return {"n": n}
"""


@dataclass
class Receiver:
    """Where the app's events go, and what has come."""

    url: str = ""
    got: dict[str, list[str]] = field(default_factory=dict)
    """webhook-id → the events that came under it, one for each time."""
    lateness_s: list[float] = field(default_factory=list)
    """How long ago each was sent, as its sender tells."""

    async def take(self, request: Request) -> Response:
        self.lateness_s.append(time.time() - int(request.headers["webhook-timestamp"]))
        self.got.setdefault(request.headers["webhook-id"], []).append(request.headers["x-bb-event"])
        return Response()


@dataclass
class Pair:
    """The hosts are up; `urls` leads to them."""

    urls: Sequence[str]
    key: str
    emulator: Emulator
    receiver: Receiver
    hosts: Sequence[Running]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@asynccontextmanager
async def outside() -> AsyncIterator[tuple[Emulator, str, Receiver]]:
    """Recall, with bots whose lives are short, and a receiver of what the hosts forward."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    emulator = Emulator()
    emulator.gate.enforces_rates = False
    emulator.world.story = QUICK
    async with (
        serve(emulator.app) as recall,
        serve(app) as url,
        aclosing(emulator),
        anyio.create_task_group() as tasks,
    ):
        receiver.url = f"{url}/hook"
        tasks.start_soon(emulator.run)
        yield emulator, recall, receiver
        tasks.cancel_scope.cancel()


def make_app(folder: Path) -> Path:
    """An app with one function, which keeps a number in its own database."""
    (folder / "functions").mkdir(parents=True)
    (folder / "ctxhost.toml").write_text(TOML)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "functions" / "keep.py").write_text(HANDLER)
    return folder


async def furnish(database: str, folder: Path) -> str:
    """The tenant of the tests; its service key."""
    store = await open_store(database)
    try:
        await Ledger(store).open_account("pair", account=ACCOUNT)
        await Ledger(store).grant(ACCOUNT, 1_000 * 10**9, key="first")
        tenants = Tenants(store, KeyRing.parse(RING))
        await tenants.create_app(ACCOUNT, "notes", app=APP, folder=make_app(folder))
        return (await tenants.create_key(ACCOUNT))[0]
    finally:
        await store.aclose()


def settings(database: str, folder: Path, *, emulator: Emulator, recall: str, apps: str | None) -> dict[str, str]:
    """A host's environment."""
    env = {
        "CTXHOST_DATABASE": database,
        "CTXHOST_DATA_DIR": str(folder),
        "CTXHOST_ENCRYPTION_KEYS": RING,
        "CTXHOST_RATE_LIMITS": "false",
        "CTXHOST_EGRESS__ALLOW_HTTP": "true",
        "CTXHOST_EGRESS__ALLOW_NETWORKS": '["127.0.0.0/8"]',
        "CTXHOST_MEETINGS__UNADMITTED_LIMIT": "10000",
        "CTXHOST_MEETINGS__LIVE_LIMIT": "10000",
        "CTXHOST_MEETINGS__CREATE_TIMEOUT_S": "1",
        "CTXHOST_PLUGINS__RECALL__RATE_LIMIT_PERCENT": "1000",
        "MEETINGS_API_KEY": emulator.api_key,
        "MEETINGS_BASE_URL": recall,
        "MEETINGS_WEBHOOK_SECRET": emulator.webhook_secret,
    }
    return env if apps is None else {**env, "CTXHOST_APPS_DATABASE": apps}


@asynccontextmanager
async def two_hosts(
    folder: Path,
    database: str,
    *,
    reached_at: str | None = None,
    apps: str | None = None,
    programs: Sequence[Sequence[str]] = ((), ()),
    env: dict[str, str] | None = None,
) -> AsyncIterator[Pair]:
    """Both serve when this is entered.

    `reached_at`: what they are told of the database, when it is something else than its URL. `programs` are run in
    place of `python -m ctxhost`.
    """
    key = await furnish(database, folder / "app")
    async with outside() as (emulator, recall, receiver), AsyncExitStack() as stack:
        hosts = []
        for n, program in enumerate(programs):
            own = settings(reached_at or database, folder / f"host{n}", emulator=emulator, recall=recall, apps=apps)
            start = partial(
                Running, "serve", "--port", "0", "--log-level", "warning",
                cwd=folder, env={**own, **(env or {})}, program=program,
            )  # fmt: skip
            hosts.append(stack.enter_context(await anyio.to_thread.run_sync(start)))
        lines = await asyncio.gather(*[anyio.to_thread.run_sync(host.line_with, READY) for host in hosts])
        urls = [line.removeprefix(READY).partition(" ")[0] for line in lines]
        emulator.send_webhooks_to(urls[0] + INBOUND)
        pair = Pair(urls, key, emulator, receiver, hosts)
        async with httpx.AsyncClient(headers=pair.headers, trust_env=False, verify=False) as client:
            path = f"{urls[0]}/v1/{APP}/ai/meetings/webhook"
            (await client.put(path, json={"forward_url": receiver.url})).raise_for_status()
        yield pair


def quick_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits in the emulated Recall, and webhooks that are tried again every second."""
    for name, seconds in QUICK_TIMES.items():
        monkeypatch.setattr(life, name, seconds)
    monkeypatch.setattr(webhooks, "RETRY_AFTER_S", (1,) * 60)
