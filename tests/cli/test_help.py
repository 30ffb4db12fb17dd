"""Every command explains itself."""

from collections.abc import Iterator

import click
import pytest
from tests.cli.conftest import Cli

from ctxhost.cli import main


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))


COMMANDS = list(_commands(main))


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
    } == {" ".join(path) for path in COMMANDS} - {"", "apps", "apps env", "keys", "credits", "ledger", "plugins"}


def test_version_is_that_of_the_package(cli: Cli) -> None:
    """`--version` names program and version."""
    assert cli.ok("--version").startswith("ctxhost 0.")


@pytest.mark.parametrize("args", [["credits", "grant", "acct"], ["credits", "sho"], ["serve", "--port", "x"]])
def test_a_command_that_is_written_wrongly_exits_2(cli: Cli, args: list[str]) -> None:
    """A usage error shows the usage on stderr and is told apart from a refusal."""
    result = cli(*args)

    assert 2 == result.exit_code
    assert "Usage: ctxhost" in result.stderr
