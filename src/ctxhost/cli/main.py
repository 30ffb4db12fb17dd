"""`ctxhost`: the commands put together. A command is imported when it is called, so that help comes at once."""

from importlib import import_module

import click

COMMANDS = {
    "apps": ("ctxhost.cli.apps:apps", "Apps: what functions run for, and who pays."),
    "backup": (
        "ctxhost.cli.backup:backup",
        "Write the books, the apps' SQLite databases and the plugins' files to FILE.",
    ),
    "credits": ("ctxhost.cli.credits:credits_group", "Accounts, top-ups and corrections."),
    "dev": ("ctxhost.cli.dev:dev", "Keep the local sandbox running, to play with."),
    "doctor": ("ctxhost.cli.doctor:doctor", "Look for what is misconfigured, and name what mends it."),
    "keys": ("ctxhost.cli.keys:keys", "Service keys: who may call the API, for which account."),
    "ledger": ("ctxhost.cli.ledger:ledger", "The books: prove that they are right."),
    "plugins": ("ctxhost.cli.plugins:plugins", "Plugins: which are installed and whether they work."),
    "restore": ("ctxhost.cli.backup:restore", "Put a backup into a database and a data folder that hold nothing."),
    "sandbox": ("ctxhost.cli.sandbox:sandbox", "Run the worked example once, offline, and check all of it."),
    "serve": ("ctxhost.cli.serve:serve", "Run the host until SIGTERM or Ctrl-C."),
}
"""Where each command is, and what it says first of itself."""


class _OnDemand(click.Group):
    """Its commands are those of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])


@click.group(cls=_OnDemand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ctxhost", message="%(prog)s %(version)s")
def main() -> None:
    """Run handler functions that send bots into meetings, paid from one prepaid ledger.

    New here? Watch the worked example run, offline, in half a minute:

    \b
    Example:
      ctxhost sandbox     # everything once, checked, with a report
      ctxhost dev         # the same, kept running to play with
    """
