"""The stand of one run: a served host, an app with the worked example's functions, $5, and a tap on its webhook."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from ctxhost.cli.sandbox.breakage import Breakage
from ctxhost.cli.sandbox.tap import Tap
from ctxhost.cli.server import listen, serving, url_of
from ctxhost.cli.stand import (
    START_CREDIT_NANO_USD,
    WEBHOOK_FUNCTION,
    WEBHOOK_SECRET,
    SetUpFailed,
    StandFolder,
    Tenant,
    api_client,
    make_tenant,
    point_webhook,
    require_fake,
    set_env,
    stand_settings,
)
from ctxhost.errors import SettingsError
from ctxhost.host import Host
from ctxhost.webhooks.requests import DEFAULT_EVENTS

LOOPBACK_HOST = "127.0.0.1"
MARKUP_PERCENT = 20
BROKEN_MARKUP_PERCENT = 25
DROPPED_EVENT = "transcript.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Where a run keeps its books and its app's tables, in place of files: postgresql:// URLs."""

    books: Path | str | None = None
    apps: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a run works with. `api` calls with the service key, `anyone` without."""

    host: Host
    folder: StandFolder
    source: Path
    tenant: Tenant
    speed: float
    webhook_secret: str
    tap: Tap
    api: httpx.AsyncClient
    anyone: httpx.AsyncClient


@contextlib.asynccontextmanager
async def open_stand(
    folder: StandFolder, source: Path, *, databases: Databases, speed: float, breakage: Breakage | None
) -> AsyncIterator[Stand]:
    """Start everything; stop everything when the block is left.

    Raises:
        CtxhostError: something of it cannot be started; the message says what.
    """
    with listen(LOOPBACK_HOST, 0) as listening:
        settings = stand_settings(
            folder,
            base_url=url_of(LOOPBACK_HOST, listening),
            default_app="app_sandbox",
            speed=speed,
            database=databases.books,
            apps_database=databases.apps,
            markup_percent=BROKEN_MARKUP_PERCENT if breakage is Breakage.PRICE else MARKUP_PERCENT,
        )
        async with Host(settings, served=True) as host:
            require_fake(host)
            await _require_empty(host)
            tap = Tap(host.asgi, path_end=f"/fn/{WEBHOOK_FUNCTION}")
            async with serving(tap, listening):
                tenant = await make_tenant(
                    host, "sandbox", owner="Sandbox", credit_nano_usd=START_CREDIT_NANO_USD, folder=source
                )
                await host.deploy(tenant.app)
                async with (
                    api_client(host.base_url, tenant.key) as api,
                    httpx.AsyncClient(base_url=host.base_url, timeout=30, trust_env=False) as anyone,
                ):
                    secret = await _connect(host, tenant, api, breakage)
                    yield Stand(
                        host=host,
                        folder=folder,
                        source=source,
                        tenant=tenant,
                        speed=speed,
                        webhook_secret=secret,
                        tap=tap,
                        api=api,
                        anyone=anyone,
                    )


async def _require_empty(host: Host) -> None:
    """The figures of a run are those of a database that nobody has used."""
    if await host.tenants.apps():
        raise SettingsError("The database is in use: name an empty one, which the run may fill.")


async def _connect(host: Host, tenant: Tenant, api: httpx.AsyncClient, breakage: Breakage | None) -> str:
    """Send the app's events to its own function, and give that its secrets. Returns the one that signs."""
    wanted = [event for event in DEFAULT_EVENTS if event != DROPPED_EVENT]
    secret = await point_webhook(
        api,
        tenant.app.id,
        url=f"{host.base_url}/v1/{tenant.app.id}/fn/{WEBHOOK_FUNCTION}",
        rotate=True,
        events=wanted if breakage is Breakage.EVENT else None,
    )
    if secret is None:
        raise SetUpFailed("The webhook was set, but no secret was answered.")
    given = "wsec_of-somebody-else" if breakage is Breakage.SECRET else secret
    await set_env(host, tenant.app, {WEBHOOK_SECRET: given, "BUTTERBASE_API_KEY": tenant.key})
    return secret
