"""`ctxhost plugins`: what is installed is shown as it is, and a new plugin says what is left to write."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Cli, Refused

import ctxhost
from ctxhost.testing.provider_suite import PROMISES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ctxhost-hallway"


def run_pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The tests of a distribution, as its author runs them."""
    paths = os.pathsep.join([str(Path(ctxhost.__file__).parents[1]), str(folder / "src")])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CTXHOST_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    env = {**clean, "PYTHONPATH": paths, "COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_list_tells_name_version_hooks_and_health(cli: Cli) -> None:
    """An enabled plugin is ok and shows what it offers; one without its key is silent, which is no fault."""
    cli.env["CTXHOST_PLUGINS__FAKE__ENABLED"] = "true"
    shown = {row["name"]: row for row in cli.rows("plugins", "list")}

    assert {
        "name": "fake",
        "distribution": "ctxhost-fake",
        "version": "0.1.0",
        "hooks": ["register_meeting_providers"],
        "providers": ["fake"],
        "health": "ok",
    } == shown["fake"]
    assert shown["recall"]["health"].startswith("silent")
    assert [] == shown["recall"]["providers"]


def test_a_broken_plugin_is_shown_with_the_reason(cli: Cli) -> None:
    """Settings that a plugin refuses are in its line; the command itself does not fail, and leaves no file behind."""
    cli.env["CTXHOST_PLUGINS__FAKE__ENABELD"] = "true"
    (fake,) = [row for row in cli.rows("plugins", "list") if row["name"] == "fake"]

    assert fake["health"].startswith("broken: SettingsError: plugins.fake.enabeld")
    assert not (cli.folder / "data").exists()


def test_without_a_subcommand_it_is_the_list(cli: Cli) -> None:
    """`ctxhost plugins` is short for the list."""
    assert cli.ok("plugins", "list") == cli.ok("plugins")


def test_a_new_plugin_fails_where_its_author_must_write(cli: Cli, tmp_path: Path) -> None:
    """Its tests run the suite at once; a failure names the method that is not written, and says what belongs there."""
    cli.ok("plugins", "new", "acme_bots", "--dir", str(tmp_path))
    folder = tmp_path / "ctxhost-acme-bots"
    told = run_pytest(folder)

    assert 1 == told.returncode, told.stdout + told.stderr
    assert "`AcmeBotsHarness.prepare` is not written yet" in told.stdout
    assert "To mend it: write it: remember that the bot of this request shall live `life`" in told.stdout
    assert "error" not in told.stdout.splitlines()[-1]

    test = folder / "tests" / "test_provider.py"
    written = test.read_text().replace('raise NotImplementedError("remember', 'return request\n        str("remember')
    test.write_text(written)
    assert "`AcmeBotsProvider.create` is not written yet" in run_pytest(folder).stdout


def test_a_new_plugin_is_one_that_a_host_can_load(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook of a new plugin registers its provider as soon as there is a key, and nothing before."""
    cli.ok("plugins", "new", "acme", "--dir", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path / "ctxhost-acme" / "src")
    plugin: Any = __import__("ctxhost_acme")
    offered: list[Any] = []

    class Lent:
        http = None
        plugin_settings: dict[str, dict[str, str]]

    hook: Callable[..., None] = plugin.register_meeting_providers
    for settings in ({}, {"acme": {"api_key": "k"}}):
        lent = Lent()
        lent.plugin_settings = settings
        hook(register=offered.append, services=lent)

    assert ["acme"] == [provider.name for provider in offered]
    assert ["CTXHOST_PLUGINS__ACME__WEBHOOK_SECRET" in p.mend for p in offered[0].problems()] == [True]


def test_a_new_plugin_overwrites_nothing(refused: Refused, tmp_path: Path) -> None:
    """A folder that is there is left as it is."""
    (tmp_path / "ctxhost-acme").mkdir()

    assert "is there already" in refused("plugins", "new", "acme", "--dir", str(tmp_path))
    assert [] == list((tmp_path / "ctxhost-acme").iterdir())


@pytest.mark.parametrize("name", ["Acme", "1st", "a b", "../x", "", "a-b", "x" * 41])
def test_a_name_that_cannot_be_one_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    """The name is in URLs and in a module's name."""
    result = cli("plugins", "new", name, "--dir", str(tmp_path))

    assert 2 == result.exit_code
    assert [] == list(tmp_path.glob("ctxhost-*"))


def test_a_provider_is_tried_without_a_test_file() -> None:
    """`pytest --meeting-provider` runs the suite on a harness that is named; the plugin itself imports no ctxhost."""
    named = run_pytest(EXAMPLE, "-p", "ctxhost_pytest", "--meeting-provider", "test_hallway:HallwayHarness")
    assert f"{len(PROMISES)} passed" in named.stdout, named.stdout + named.stderr

    code = "import sys, ctxhost_pytest; print([name for name in sys.modules if name.partition('.')[0] == 'ctxhost'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "[]" == told.stdout.strip()


def test_the_example_passes_the_suite() -> None:
    """A provider that was written from the template and the documentation keeps every promise; none is skipped."""
    told = run_pytest(EXAMPLE)

    assert 0 == told.returncode, told.stdout + told.stderr
    assert f"{len(PROMISES)} passed" in told.stdout
    assert "skipped" not in told.stdout
