"""`ctxhost`: the commands put together."""

import click

from ctxhost.cli.apps import apps
from ctxhost.cli.backup import backup, restore
from ctxhost.cli.credits import credits_group
from ctxhost.cli.dev import dev
from ctxhost.cli.doctor import doctor
from ctxhost.cli.keys import keys
from ctxhost.cli.ledger import ledger
from ctxhost.cli.plugins import plugins
from ctxhost.cli.sandbox import sandbox
from ctxhost.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ctxhost", message="%(prog)s %(version)s")
def main() -> None:
    """Run handler functions that send bots into meetings, paid from one prepaid ledger.

    New here? Watch the worked example run, offline, in half a minute:

    \b
    Example:
      ctxhost sandbox     # everything once, checked, with a report
      ctxhost dev         # the same, kept running to play with
    """


for command in (serve, dev, sandbox, apps, keys, credits_group, ledger, plugins, doctor, backup, restore):
    main.add_command(command)
