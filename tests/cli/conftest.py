"""A command line on a database of its own."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from ctxhost.cli import main
from ctxhost.tenants.secrets import new_key_text


class Cli:
    """`cli("credits", "list")` runs a command in this process; its settings come from `env` alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "ctxhost.db"
        self.env = {
            "CTXHOST_DATABASE": str(self.database),
            "CTXHOST_DATA_DIR": str(folder / "data"),
            "CTXHOST_ENCRYPTION_KEYS": new_key_text(),
        }

    def __call__(self, *args: str, stdin: str | None = None, **env: str | None) -> click.testing.Result:
        runner = click.testing.CliRunner(env={**self.env, **env})
        return runner.invoke(main, args, input=stdin, prog_name="ctxhost")

    def ok(self, *args: str, stdin: str | None = None) -> str:
        """The output of a command that must succeed."""
        result = self(*args, stdin=stdin)
        assert 0 == result.exit_code, result.output
        return result.stdout

    def rows(self, *args: str) -> Any:
        """What a command prints with `--json`."""
        return json.loads(self.ok(*args, "--json"))

    def facts(self, *args: str) -> dict[str, str]:
        """What a command prints, a fact a line."""
        pairs = (line.partition("  ") for line in self.ok(*args).splitlines() if line)
        return {name: value.strip() for name, _, value in pairs}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in list(os.environ):
        if name.startswith("CTXHOST_"):
            monkeypatch.delenv(name)
    return Cli(tmp_path)


@pytest.fixture
def account(cli: Cli) -> str:
    """An account without money."""
    cli.ok("credits", "open-account", "Acme Inc", "--account", "acct_acme")
    return "acct_acme"


Refused = Callable[..., str]


@pytest.fixture
def refused(cli: Cli) -> Refused:
    """Runs a command that must fail by the operator's mistake; returns the one line that says so."""

    def run(*args: str, **env: str | None) -> str:
        result = cli(*args, **env)
        assert 1 == result.exit_code, result.output
        assert "" == result.stdout
        (line,) = result.stderr.splitlines()
        return line

    return run
