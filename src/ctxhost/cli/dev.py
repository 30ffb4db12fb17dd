"""`ctxhost dev`: the worked example, or an app of one's own, kept running to play with."""

import logging
from functools import partial
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.text import Text

from ctxhost.cli.apps import FOLDER
from ctxhost.cli.common import run
from ctxhost.cli.devfiles import alone_in, read_env, write_env
from ctxhost.cli.logs import set_up_logs
from ctxhost.cli.output import page
from ctxhost.cli.reloads import show_reload
from ctxhost.cli.serve import HOST, PORT
from ctxhost.cli.server import listen, serving, until_stopped, url_of
from ctxhost.cli.stand import (
    DEFAULT_SPEED,
    START_CREDIT_NANO_USD,
    WEBHOOK_FUNCTION,
    WEBHOOK_SECRET,
    StandFolder,
    Tenant,
    api_client,
    app_folder,
    make_key,
    make_tenant,
    point_webhook,
    require_fake,
    set_env,
    stand_settings,
)
from ctxhost.functions.registry import Function
from ctxhost.functions.reload import Reload, reload, watch
from ctxhost.host import Host
from ctxhost.money import usd_text
from ctxhost.webhooks.commands import EndpointNotFound

MEETING = "https://zoom.us/j/1234567890"


@click.command()
@click.option("--no-provider", is_flag=True, help="Open-source mode: no meeting provider at all.")
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".sandbox"),
    show_default=True,
    help="Where keys, database and artifacts are kept.",
)
@click.option("--app", type=FOLDER, help="The app folder to serve.  [default: the worked example, sandbox/]")
@click.option("--speed", type=click.FloatRange(0.01, 100_000), default=DEFAULT_SPEED, show_default=True,
              help="How many times faster than life the fake bots live.")  # fmt: skip
def dev(*, no_provider: bool, port: int, folder: Path, app: Path | None, speed: float) -> None:
    """Keep the local sandbox running, to play with.

    A host, a fake meeting provider, and an app that is served anew as you edit it.

    Everything is kept in --dir, and is there again after a restart. `source .sandbox/env` in another shell gives
    BASE_URL, APP_ID and API_KEY; OTHER_API_KEY, POOR_APP_ID, POOR_API_KEY and FRESH_APP_ID are for trying refusals.

    \b
    Example:
      ctxhost dev
      ctxhost dev --app ./my-app --port 9000
    """
    set_up_logs()
    logging.getLogger("ctxhost.functions").addFilter(_Once())
    run(partial(_work, StandFolder(folder), no_provider=no_provider, port=port, app=app, speed=speed))


class _Once(logging.Filter):
    """Lets a warning through once: those of a manifest come again with every reload."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message in self._told:
            return False
        self._told.add(message)
        return True


async def _work(folder: StandFolder, *, no_provider: bool, port: int, app: Path | None, speed: float) -> None:
    source = app_folder(app)
    with alone_in(folder), listen(HOST, port) as listening:
        settings = stand_settings(folder, base_url=url_of(HOST, listening), default_app="app_sandbox", speed=speed)
        opened = Host(settings, served=True, plugins=[] if no_provider else None)
        async with until_stopped() as signals, opened as host:
            if not no_provider:
                require_fake(host)
            async with serving(host.asgi, listening), anyio.create_task_group() as tasks:
                tenant = await _set_up(host, folder, source)
                tell = partial(_tell, host, tenant, source)
                # The watch stands before the folder is first read, so that no edit falls between the two.
                tasks.start_soon(watch, host.functions, tenant.app, tell)
                await tell(await reload(host.functions, tenant.app))
                await _welcome(host, folder, source, tenant)
                await signals.first()
                host.start_draining()
                tasks.cancel_scope.cancel()
    click.echo(f"Stopped. {folder.path} keeps everything; start again to go on.")


async def _tell(host: Host, tenant: Tenant, source: Path, outcome: Reload) -> None:
    if outcome.changed or not outcome.succeeded:
        show_reload(page(), source, outcome)
    if outcome.succeeded:
        await _connect(host, tenant)


async def _set_up(host: Host, folder: StandFolder, source: Path) -> Tenant:
    """Everything that is there after the first start and found again at the next."""
    stored = read_env(folder.env_file)
    tenant = await make_tenant(
        host,
        "sandbox",
        owner="Sandbox",
        credit_nano_usd=START_CREDIT_NANO_USD,
        folder=source,
        stored_key=stored.get("API_KEY", ""),
    )
    poor = await make_tenant(host, "poor", owner="Poor", credit_nano_usd=0, stored_key=stored.get("POOR_API_KEY", ""))
    other = await host.ledger.open_account("Other", account="acct_other")
    fresh = await host.tenants.create_app(tenant.account, "Fresh", app="app_fresh")
    write_env(
        folder.env_file,
        {
            "BASE_URL": host.base_url,
            "APP_ID": tenant.app.id,
            "API_KEY": tenant.key,
            "OTHER_API_KEY": await make_key(host, other.id, stored=stored.get("OTHER_API_KEY", "")),
            "POOR_APP_ID": poor.app.id,
            "POOR_API_KEY": poor.key,
            "FRESH_APP_ID": fresh.id,
        },
    )
    await set_env(host, tenant.app, {"BUTTERBASE_API_KEY": tenant.key})
    return tenant


async def _connect(host: Host, tenant: Tenant) -> None:
    """Send the app's events to its own function, if it has one for them and nobody has sent them elsewhere."""
    path = f"/v1/{tenant.app.id}/fn/{WEBHOOK_FUNCTION}"
    current = await _webhook_url(host, tenant)
    if WEBHOOK_FUNCTION not in _functions(host, tenant) or (current and not current.endswith(path)):
        return
    is_known = WEBHOOK_SECRET in await host.tenants.env_names(tenant.app.id)
    if is_known and current == host.base_url + path:
        return
    async with api_client(host.base_url, tenant.key) as client:
        secret = await point_webhook(client, tenant.app.id, url=host.base_url + path, rotate=not is_known)
    if secret is not None:
        await set_env(host, tenant.app, {WEBHOOK_SECRET: secret})


async def _webhook_url(host: Host, tenant: Tenant) -> str:
    try:
        return (await host.webhooks.get(tenant.app.id)).url
    except EndpointNotFound:
        return ""


def _functions(host: Host, tenant: Tenant) -> dict[str, Function]:
    return {function.name: function for function in host.functions.registry.functions(tenant.app.id)}


async def _welcome(host: Host, folder: StandFolder, source: Path, tenant: Tenant) -> None:
    out = page()
    facts = {
        "URL": host.base_url,
        "API docs": f"{host.base_url}/docs",
        "app": f"{tenant.app.id}, from {_short(source)}",
        "API key": tenant.key,
        "credit": usd_text((await host.ledger.balance(tenant.account)).account.available),
        "meetings": "fake bots" if host.meetings.available else "none (open-source mode)",
    }
    out.print("[bold]ctxhost is running.[/]\n")
    for name, value in facts.items():
        _print_line(out, f"  {name:<9} {value}")
    out.print("\n[bold]Try it[/]\n")
    for line in _curls(host, tenant):
        _print_line(out, f"  {line}")
    out.print(f"\nIn another shell, `source {folder.env_file}` gives the names used here, and more.", style="dim")
    out.print(f"A change in {_short(source)} is served at once. Ctrl-C stops.\n", style="dim")


def _print_line(out: Console, line: str) -> None:
    """Never cut or folded, so that it can be copied."""
    out.print(Text(line), soft_wrap=True)


def _curls(host: Host, tenant: Tenant) -> list[str]:
    functions = _functions(host, tenant)
    own = ['curl -H "authorization: Bearer $API_KEY" $BASE_URL/v1/$APP_ID/ai/meetings']
    if "spawn-bot" in functions:
        body = f'{{"meetingUrl": "{MEETING}"}}'
        return [
            f"curl -X POST {host.base_url}/fn/spawn-bot \\",
            f"  -H 'content-type: application/json' -d '{body}'",
            *own,
        ]
    return [f"curl -X {f.route.method} {host.base_url}/fn{f.route.path}" for f in list(functions.values())[:1]] + own


def _short(path: Path) -> str:
    """Relative when it is below the working directory."""
    here = Path.cwd()
    return f"{path.relative_to(here)}/" if path.is_relative_to(here) else str(path)
