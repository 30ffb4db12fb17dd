"""`ctxhost keys`: service keys, the bearer tokens of the API."""

from pathlib import Path

import click

from ctxhost.cli.common import database_option, json_option, with_tenants
from ctxhost.cli.output import moment, print_facts, print_rows
from ctxhost.clock import WallClock
from ctxhost.store.rows import ServiceKey
from ctxhost.tenants.service import SCOPE_ALL, SCOPES

DAY_MS = 86_400_000


@click.group()
def keys() -> None:
    """Service keys: who may call the API, for which account.

    \b
    Example:
      ctxhost keys create acct_acme --name laptop
      ctxhost keys list acct_acme
    """


@keys.command("create")
@click.argument("account")
@click.option("--name", default="", help="To tell it from others.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=(SCOPE_ALL,),
    type=click.Choice(SCOPES),
    help="What it may do; may be given several times.  [default: *]",
)
@click.option("--app", default="", help="Bind it to one app of the account.")
@click.option("--expires-in-days", type=click.IntRange(1, 3_650), help="Left out, it does not expire.")
@database_option
def create(
    account: str,
    name: str,
    scopes: tuple[str, ...],
    app: str,
    expires_in_days: int | None,
    database: Path | str | None,
) -> None:
    """Make a service key of ACCOUNT. It is shown this once; the host keeps only its hash.

    \b
    Example:
      ctxhost keys create acct_acme --name ci --scope ai:gateway --expires-in-days 90
    """
    expires_ms = WallClock().now_ms() + expires_in_days * DAY_MS if expires_in_days else 0
    text, row = with_tenants(
        database,
        lambda tenants: tenants.create_key(account, name=name, scopes=scopes, app=app, expires_ms=expires_ms),
    )
    print_facts({"key": text, "scopes": row.scopes, "app": row.app or "every app of the account"})
    click.echo("Keep it now: it is not shown again.", err=True)


@keys.command("list")
@click.argument("account")
@json_option
@database_option
def list_keys(account: str, as_json: bool, database: Path | str | None) -> None:
    """The keys of ACCOUNT, oldest first; only how each begins.

    \b
    Example:
      ctxhost keys list acct_acme
    """
    now_ms = WallClock().now_ms()
    rows = with_tenants(database, lambda tenants: tenants.keys(account))
    print_rows(
        [
            {
                "begins_with": row.hint,
                "name": row.name or None,
                "state": _state(row, now_ms),
                "scopes": row.scopes.split(),
                "app": row.app or None,
                "created": moment(row.created_ms),
                "expires": moment(row.expires_ms),
            }
            for row in rows
        ],
        as_json=as_json,
        nothing="This account has no key; make one with `ctxhost keys create`.",
    )


@keys.command("revoke")
@click.argument("account")
@click.argument("key")
@database_option
def revoke(account: str, key: str, database: Path | str | None) -> None:
    """End a key of ACCOUNT at once. KEY is the key itself, or how it begins as `list` shows it.

    \b
    Example:
      ctxhost keys revoke acct_acme bb_sk_9f3a
    """
    row = with_tenants(database, lambda tenants: tenants.revoke_key(account, key))
    click.echo(f"{row.hint}… is revoked since {moment(row.revoked_ms)}.")


def _state(row: ServiceKey, now_ms: int) -> str:
    if row.revoked_ms:
        return "revoked"
    return "expired" if row.expires_ms and row.expires_ms <= now_ms else "valid"
