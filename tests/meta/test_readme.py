"""Every block of the README does what it says: a reader who types it off sees what was promised."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from tests.cli.processes import Running

from ctxhost import Host, Settings, new_key_text

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
PYTHON = {name: text for language, name, text in BLOCKS if language == "python"}
CONSOLE = [text for language, _, text in BLOCKS if language == "console"]


def _commands() -> Iterator[str]:
    for text in CONSOLE:
        for line in text.splitlines():
            assert line.startswith("$ "), line
            yield line.removeprefix("$ ").partition("  #")[0].strip()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder that holds each Python block as a file."""
    for name, text in PYTHON.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_every_block_is_of_a_kind_that_is_tried_here() -> None:
    """No block is left out of this file by being of a new kind."""
    assert ({"handler", "embedding", "provider"}, {"python", "console"}) == (
        set(PYTHON),
        {language for language, _, _ in BLOCKS},
    )


async def test_the_handler_answers(written: Path) -> None:
    """The handler spawns a bot when it is served as a function."""
    (written / "ctxhost.toml").write_text('[app]\nname = "notes"\n[functions.handler]\nfile = "handler.py"\n')
    settings = Settings(
        database=written / "db",
        data_dir=written / "data",
        encryption_keys=new_key_text(),
        plugins={"fake": {"enabled": True}},
    )
    async with Host(settings) as host:
        account = await host.credits.open_account("ada")
        await host.credits.grant(account.id, 10**9, key="first")
        app = await host.tenants.create_app(account.id, "notes", folder=written)
        await host.functions.deploy(app)
        answer = await host.invoke(app.id, "handler", _post(b'{"meetingUrl": "https://zoom.us/j/1"}'))

    assert b'"status":"joining"' in answer.body


def test_the_embedding_runs(written: Path) -> None:
    """The embedding program runs as it stands and prints a bot that is joining."""
    command = [sys.executable, "embedding.py"]
    done = subprocess.run(command, cwd=written, capture_output=True, text=True, timeout=60, check=False)

    assert (0, "joining") == (done.returncode, done.stdout.split()[-1]), done.stderr


async def test_the_provider_is_a_provider(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is accepted by a host, and a bot of its ends at once."""
    monkeypatch.syspath_prepend(written)
    plugin = importlib.import_module("provider")
    settings = Settings(database=written / "db", data_dir=written / "data", encryption_keys=new_key_text())
    async with Host(settings, plugins=[plugin], work=False) as host:
        account = await host.credits.open_account("ada")
        await host.credits.grant(account.id, 10**9, key="first")
        app = await host.tenants.create_app(account.id, "notes")
        async with await host.context(app.id) as ctx:
            bot = await ctx.ai.meetings.start("https://zoom.us/j/1")
            record = await host.providers["nowhere"].read(f"nowhere-{bot.id}")

    assert ("nowhere", "no_meeting") == (bot.provider, record.steps[0].reason)


def test_the_commands_work_in_their_order(tmp_path: Path) -> None:
    """The make targets exist; the lines about serving lead, in their order, to a host that listens."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTXHOST_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "CTXHOST_DATABASE": str(tmp_path / "ctxhost.db"),
        "CTXHOST_DATA_DIR": str(tmp_path / "data"),
    }
    makefile = (ROOT / "Makefile").read_text()
    for command in _commands():
        if command.startswith("make "):
            assert f"\n{command.removeprefix('make ')}:" in makefile, command
        elif command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            environment[name] = subprocess.check_output(["bash", "-c", f"echo {value}"], text=True).strip()
        elif command == "ctxhost serve":
            with Running("serve", "--port", "0", cwd=ROOT, env=environment) as served:
                assert served.line_with("http://127.0.0.1:")
        else:
            subprocess.run(shlex.split(command), cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)


def _post(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    return Request(scope, receive)
