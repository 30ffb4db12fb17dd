"""`ctxhost doctor`: what is wrong with this host, and what mends it."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
import httpx

from ctxhost.cli.common import database_option, json_option, load_settings, run
from ctxhost.cli.output import print_json
from ctxhost.doctor import Finding, examine
from ctxhost.errors import SettingsError


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the log to itself: what it would say is what the command says."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


@click.command()
@click.option("--offline", is_flag=True, help="Do not ask whether the host answers at its base URL.")
@json_option
@database_option
@click.pass_context
def doctor(ctx: click.Context, offline: bool, as_json: bool, database: Path | str | None) -> None:
    """Look for what is misconfigured, and name what mends it. Exit code 1 when anything is wrong.

    Settings are those of the environment, as for `ctxhost serve`: run it where the host runs.

    \b
    Example:
      ctxhost doctor
      ctxhost doctor --offline --json
    """

    async def work() -> list[Finding]:
        try:
            settings = load_settings(database=database)
        except SettingsError as error:
            return [Finding(about="settings", what=str(error), mend="mend or unset the variable that it names")]
        if offline:
            return await examine(settings)
        async with httpx.AsyncClient(trust_env=False) as client:
            return await examine(settings, http=client)

    with quietly():
        findings = run(work)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    ctx.exit(1 if findings else 0)


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        click.echo(f"{finding.about}: {finding.what}")
        click.echo(f"    to mend it: {finding.mend}")
    count = len(findings)
    click.echo(f"{count} thing{' is' if count == 1 else 's are'} wrong." if findings else "Nothing is wrong.")
