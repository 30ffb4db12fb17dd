"""`ctxhost ledger`: proof and housekeeping of the books."""

from pathlib import Path

import click

from ctxhost.cli.common import database_option, json_option, load_settings, open_store, run, with_ledger
from ctxhost.cli.output import print_rows
from ctxhost.ledger.verify import Finding
from ctxhost.ledger.verify import verify as verify_books


@click.group()
def ledger() -> None:
    """The books: prove that they are right.

    \b
    Example:
      ctxhost ledger verify
    """


@ledger.command("verify")
@json_option
@database_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool, database: Path | str | None) -> None:
    """Compute every balance again from the journal. Exit code 1 when anything does not add up.

    \b
    Example:
      ctxhost ledger verify && echo "the books are right"
    """

    async def work() -> list[Finding]:
        async with open_store(load_settings(database=database).database) as store:
            return await verify_books(store)

    findings = run(work)
    print_rows(
        [{"account": finding.account, "finding": finding.what} for finding in findings],
        as_json=as_json,
        nothing="The books are right.",
    )
    ctx.exit(1 if findings else 0)


@ledger.command("sweep")
@database_option
def sweep(database: Path | str | None) -> None:
    """Return the holds whose time is over. A running host does it by itself; this is for one that does not run.

    \b
    Example:
      ctxhost ledger sweep
    """
    count = with_ledger(database, lambda books: books.sweep())
    click.echo(f"{count} account{'' if count == 1 else 's'} had holds to return.")
