"""Every command explains itself."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from tests.cli.conftest import Cli

from ctxhost.cli import main
from ctxhost.cli.main import COMMANDS as LISTED


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(child, (*path, name))


COMMANDS = dict(_commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(cli: Cli, path: tuple[str, ...]) -> None:
    """`--help` says what a command is for and shows a line to type, for every command there is."""
    shown = cli.ok(*path, "--help")
    lines = [line.strip() for line in shown.splitlines()]

    assert "Example:" in lines
    assert any(line.startswith(" ".join(["ctxhost", *path])) for line in lines[lines.index("Example:") :])


def test_the_commands_are_those_that_are_promised() -> None:
    """A command that goes away breaks somebody's script."""
    assert {
        "serve",
        "dev",
        "sandbox",
        *(f"apps {name}" for name in ("create", "list", "deploy", "env set", "env list", "env delete")),
        *(f"keys {name}" for name in ("create", "list", "revoke")),
        *(
            f"credits {name}"
            for name in (
                "open-account",
                "list",
                "show",
                "grant",
                "adjust",
                "refund",
                "allowance",
                "terms",
                "entries",
            )
        ),
        *(f"ledger {name}" for name in ("verify", "sweep")),
        *(f"plugins {name}" for name in ("list", "new")),
        "doctor",
        "backup",
        "restore",
    } == set(map(" ".join, COMMANDS)) - {"", "apps", "apps env", "keys", "credits", "ledger", "plugins"}


def test_the_list_says_what_each_command_says_of_itself(cli: Cli) -> None:
    """`ctxhost --help` lists every command with the beginning of its own help."""
    shown = cli.ok("--help").partition("\nCommands:\n")[2]

    assert [path[0] for path in COMMANDS if len(path) == 1] == re.findall(r"^  (\w+)", shown, re.MULTILINE)
    for name, (_, purpose) in LISTED.items():
        told = COMMANDS[name,].help or ""
        assert " ".join(told.split()).startswith(purpose.removesuffix("."))


def test_help_loads_no_host() -> None:
    """What a command needs is loaded when it is called: help, a typing error and the version come at once."""
    code = "import sys; from ctxhost.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert set() == {"ctxhost.host", "aiohttp", "pydantic", "sqlite_utils", "starlette"} & set(told.stdout.split())


def test_version_is_that_of_the_package(cli: Cli) -> None:
    """`--version` names program and version."""
    assert cli.ok("--version").startswith("ctxhost 0.")


@pytest.mark.parametrize("args", [["credits", "grant", "acct"], ["credits", "sho"], ["serve", "--port", "x"]])
def test_a_command_that_is_written_wrongly_exits_2(cli: Cli, args: list[str]) -> None:
    """A usage error shows the usage on stderr and is told apart from a refusal."""
    result = cli(*args)

    assert 2 == result.exit_code
    assert "Usage: ctxhost" in result.stderr
