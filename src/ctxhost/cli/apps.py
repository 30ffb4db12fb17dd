"""`ctxhost apps`: apps, the folders that they are deployed from, and the values that their functions see."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import click

from ctxhost.cli.common import database_option, json_option, key_ring, load_settings, open_store, run, with_tenants
from ctxhost.cli.output import moment, print_facts, print_rows
from ctxhost.clock import WallClock
from ctxhost.functions.appdb import open_databases
from ctxhost.functions.manifest import PLATFORM_ENV, load_manifest
from ctxhost.functions.registry import Deployment, read_folder
from ctxhost.settings import Settings
from ctxhost.store.rows import App
from ctxhost.tenants.service import Tenants

T = TypeVar("T")

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def apps() -> None:
    """Apps: what functions run for, and who pays.

    \b
    Example:
      ctxhost apps create acct_acme meeting-notes --folder ./meeting-notes
      ctxhost apps deploy app_4f2c… ./meeting-notes
    """


@apps.command("create")
@click.argument("account")
@click.argument("name")
@click.option("--id", "app_id", help="Left out, one is made and printed.")
@click.option("--subdomain", help="The host name's first label that leads to it.  [default: the manifest's]")
@click.option("--folder", type=FOLDER, help="Deploy this folder at once.")
@database_option
def create(
    account: str, name: str, app_id: str | None, subdomain: str | None, folder: Path | None, database: Path | str | None
) -> None:
    """Make the app NAME, which ACCOUNT owns and pays for.

    \b
    Example:
      ctxhost apps create acct_acme meeting-notes --folder ./meeting-notes
    """

    async def work(settings: Settings, tenants: Tenants) -> tuple[App, Deployment | None]:
        label = subdomain
        if folder is not None and label is None:
            label = (await anyio.to_thread.run_sync(load_manifest, folder)).subdomain
        app = await tenants.create_app(account, name, app=app_id, subdomain=label or "")
        return app, (await _deploy(settings, tenants, app, folder) if folder else None)

    app, deployment = _with_apps(database, work)
    print_facts({"app": app.id, "name": app.name, "account": app.account, "subdomain": app.subdomain or None})
    if deployment is not None:
        _print_deployment(deployment)


@apps.command("list")
@click.option("--account", help="Only those of one account.")
@json_option
@database_option
def list_apps(account: str | None, as_json: bool, database: Path | str | None) -> None:
    """Every app, oldest first.

    \b
    Example:
      ctxhost apps list --account acct_acme
    """
    rows = with_tenants(database, lambda tenants: tenants.apps(account))
    print_rows(
        [
            {
                "app": row.id,
                "name": row.name,
                "account": row.account,
                "subdomain": row.subdomain or None,
                "folder": row.folder or None,
                "created": moment(row.created_ms),
            }
            for row in rows
        ],
        as_json=as_json,
        nothing="There is no app yet; make one with `ctxhost apps create`.",
    )


@apps.command("deploy")
@click.argument("app")
@click.argument("folder", type=FOLDER)
@database_option
def deploy(app: str, folder: Path, database: Path | str | None) -> None:
    """Serve APP from FOLDER: its ctxhost.toml, schema.json and functions are checked, its database is brought along.

    A host that is running serves it after `kill -HUP <its pid>`, or after a restart.

    \b
    Example:
      ctxhost apps deploy app_4f2c… ./meeting-notes
    """

    async def work(settings: Settings, tenants: Tenants) -> Deployment:
        return await _deploy(settings, tenants, await tenants.app(app), folder)

    _print_deployment(_with_apps(database, work))


@apps.group("env")
def env() -> None:
    """Values that only an app's functions see, as `ctx.env`; encrypted at rest, never shown again.

    \b
    Example:
      ctxhost apps env set app_4f2c… OPENAI_API_KEY < key.txt
    """


@env.command("set")
@click.argument("app")
@click.argument("name")
@click.argument("value", required=False)
@click.option("--function", default="", help="Only for this function.")
@database_option
def env_set(app: str, name: str, value: str | None, function: str, database: Path | str | None) -> None:
    """Give the functions of APP a value. VALUE left out is asked for, or read from a pipe.

    \b
    Example:
      ctxhost apps env set app_4f2c… MEETINGS_WEBHOOK_SECRET < secret.txt
    """
    if name in PLATFORM_ENV:
        raise click.BadParameter("is set by the host and cannot be given", param_hint="NAME")
    text = value if value is not None else _asked_for(name)

    async def work(tenants: Tenants) -> None:
        await tenants.set_env(await tenants.app(app), name, text, function=function)

    with_tenants(database, work)
    click.echo(f"{_place(name, function)} is set; calls from now on see it.")


@env.command("list")
@click.argument("app")
@json_option
@database_option
def env_list(app: str, as_json: bool, database: Path | str | None) -> None:
    """The names of the values of APP; never the values.

    \b
    Example:
      ctxhost apps env list app_4f2c…
    """

    async def work(tenants: Tenants) -> list[str]:
        return list(await tenants.env_names((await tenants.app(app)).id))

    rows = []
    for place in with_tenants(database, work):
        function, _, name = place.rpartition("/")
        rows.append({"name": name, "function": function or None})
    print_rows(rows, as_json=as_json, nothing="No value is set.")


@env.command("delete")
@click.argument("app")
@click.argument("name")
@click.option("--function", default="", help="The one that was set for this function.")
@database_option
def env_delete(app: str, name: str, function: str, database: Path | str | None) -> None:
    """Forget a value of APP.

    \b
    Example:
      ctxhost apps env delete app_4f2c… OPENAI_API_KEY
    """

    async def work(tenants: Tenants) -> bool:
        found = await tenants.app(app)
        known = _place(name, function) in await tenants.env_names(app)
        await tenants.delete_env(found, name, function=function)
        return known

    if not with_tenants(database, work):
        raise click.ClickException(f"{_place(name, function)} was not set.")
    click.echo(f"{_place(name, function)} is forgotten.")


def _with_apps(database: Path | str | None, work: Callable[[Settings, Tenants], Awaitable[T]]) -> T:
    async def opened() -> T:
        settings = load_settings(database=database)
        ring = key_ring(settings)
        async with open_store(settings.database) as store:
            return await work(settings, Tenants(store, ring))

    return run(opened)


async def _deploy(settings: Settings, tenants: Tenants, app: App, folder: Path) -> Deployment:
    """Check everything first; the folder is noted only when it can be served."""
    deployment = await read_folder(app.id, folder)
    if deployment.schema is not None:
        databases = await open_databases(
            settings.apps_database, settings.data_dir / "apps", clock=WallClock(), ledger=settings.database
        )
        try:
            await databases.open(await tenants.database_name(app)).apply_schema(deployment.schema)
        finally:
            await databases.aclose()
    await tenants.set_folder(app, folder)
    return deployment


def _print_deployment(deployment: Deployment) -> None:
    rows = [
        {
            "function": function.name,
            "answers": f"{function.route.method} /fn{function.route.path}",
            "auth": function.route.auth,
            "timeout": f"{function.timeout_s} s",
        }
        for function in deployment.functions
    ]
    click.echo()
    print_rows(rows, as_json=False, nothing="The manifest has no function.")
    for warning in deployment.manifest.warnings():
        click.echo(f"Warning: {warning}", err=True)


def _asked_for(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True))
    return sys.stdin.read().removesuffix("\n")


def _place(name: str, function: str) -> str:
    return f"{function}/{name}" if function else name
