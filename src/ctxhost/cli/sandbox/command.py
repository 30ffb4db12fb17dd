"""The command: set up, drive, check, report."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from ctxhost.cli.apps import FOLDER
from ctxhost.cli.common import DatabaseName, run
from ctxhost.cli.logs import set_up_logs
from ctxhost.cli.output import page
from ctxhost.cli.sandbox.breakage import Breakage
from ctxhost.cli.sandbox.checks import check_all
from ctxhost.cli.sandbox.drive import drive
from ctxhost.cli.sandbox.report import print_opening, print_report
from ctxhost.cli.sandbox.stand import Databases, open_stand
from ctxhost.cli.stand import DEFAULT_SPEED, StandFolder, app_folder


@click.command()
@click.option("--keep", is_flag=True, help="Leave the folder with database, keys and artifacts behind.")
@click.option(
    "--break",
    "broken",
    type=click.Choice([breakage.value for breakage in Breakage]),
    help="Break something on purpose, to see the checks fail.",
)
@click.option("--app", type=FOLDER, help="The folder of the worked example.  [default: sandbox/]")
@click.option("--database", type=DatabaseName(), help="Keep the books there: an empty database.  [default: a new file]")
@click.option("--apps-database", help="Keep the app's tables at this postgresql:// server.  [default: a new file]")
@click.option("--speed", type=click.FloatRange(1, 1_000), default=DEFAULT_SPEED, show_default=True,
              help="How many times faster than life the fake bots live.")  # fmt: skip
@click.option("--deadline", "deadline_s", type=click.FloatRange(1, 3_600), default=50, show_default=True,
              help="Seconds after which it is given up.")  # fmt: skip
@click.pass_context
def sandbox(
    ctx: click.Context,
    keep: bool,
    broken: str | None,
    app: Path | None,
    database: Path | str | None,
    apps_database: str | None,
    speed: float,
    deadline_s: float,
) -> None:
    """Run the worked example once, offline, and check all of it. Exit code 0 only if everything is as promised.

    A host starts on a free port with a database of its own; a handler sends bots into (fake) meetings; credit is held;
    signed webhooks arrive and are verified by a second handler; recordings download; the exact charge is booked.

    \b
    Example:
      ctxhost sandbox
      ctxhost sandbox --break price     # and see it fail
      ctxhost sandbox --database postgresql://me@db.example/empty
    """
    breakage = Breakage(broken) if broken else None
    set_up_logs(level="critical" if breakage else "error")
    databases = Databases(books=database, apps=apps_database)
    once = partial(_run_once, keep=keep, databases=databases, breakage=breakage, app=app, speed=speed)
    holds = run(partial(once, deadline_s=deadline_s))
    ctx.exit(0 if holds else 1)


async def _run_once(
    *, keep: bool, databases: Databases, breakage: Breakage | None, app: Path | None, speed: float, deadline_s: float
) -> bool:
    out = page()
    source = app_folder(app)
    with _fresh_folder(keep=keep) as folder:
        async with open_stand(folder, source, databases=databases, speed=speed, breakage=breakage) as stand:
            print_opening(out, stand, keep=keep)
            with _progress(out) as tell:
                evidence = await drive(stand, deadline_s=deadline_s, tell=tell)
        checks = check_all(evidence)
        print_report(out, evidence, checks, breakage)
    return all(check.holds for check in checks)


@contextlib.contextmanager
def _progress(out: Console) -> Iterator[Callable[[str], None]]:
    """A line that says where the bots are now; nothing where nobody watches."""
    if not out.is_terminal:
        yield lambda _: None
        return
    with out.status("The bots are sent …") as status:
        yield status.update


@contextlib.contextmanager
def _fresh_folder(*, keep: bool) -> Iterator[StandFolder]:
    path = Path(tempfile.mkdtemp(prefix="ctxhost-sandbox-"))
    try:
        yield StandFolder(path)
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
