"""`ctxhost serve` as a real process."""

import json
import logging
import signal
import socket
from pathlib import Path

import httpx
import pytest
from tests.cli.conftest import Cli, Refused
from tests.cli.processes import Running

from ctxhost.cli.logs import set_up_logs
from ctxhost.errors import SettingsError

READY = "ctxhost serves "
KEY = "bb_sk_ThisMustNotBeSeen"


def _serving(cli: Cli, *args: str) -> Running:
    return Running("serve", "--port", "0", *args, cwd=cli.folder, env=cli.env)


def _url(running: Running) -> str:
    return running.line_with(READY).removeprefix(READY).partition(" ")[0]


def test_it_serves_what_the_other_commands_write_and_survives_a_kill(cli: Cli, account: str, tmp_path: Path) -> None:
    """Commands are safe beside a running host; killed and started again, it has everything."""
    key = cli.facts("keys", "create", account)["key"]
    headers = {"authorization": f"Bearer {key}"}
    with _serving(cli) as first:
        url = _url(first)
        app = cli.facts("apps", "create", account, "notes")["app"]
        cli.ok("credits", "grant", account, "5", "--key", "beside")
        before = httpx.get(f"{url}/v1/{app}/credits", headers=headers).raise_for_status().json()
        assert {"status": "ok"} == httpx.get(f"{url}/health/live").json()
        first.signal(signal.SIGKILL)
        assert -signal.SIGKILL == first.ends()
    with _serving(cli) as second:
        after = httpx.get(f"{_url(second)}/v1/{app}/credits", headers=headers).raise_for_status().json()

    assert 5 == before["balance_usd"]
    assert before == after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_it_stops_when_it_is_told_to(cli: Cli, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end it cleanly: exit code 0, no traceback."""
    with _serving(cli) as running:
        url = _url(running)
        with httpx.Client() as client:
            client.get(f"{url}/health/live").raise_for_status()
            running.signal(number)
            assert 0 == running.ends()

    assert f"{number.name}: stopping" in running.output
    assert "Traceback" not in running.output


def test_what_has_started_is_not_looked_through_for_garbage(cli: Cli, account: str, tmp_path: Path) -> None:
    """A full collection would stop the host for tens of milliseconds again and again; what comes later is collected."""
    folder = tmp_path / "app"
    handler = folder / "functions" / "count.py"
    handler.parent.mkdir(parents=True)
    (folder / "ctxhost.toml").write_text('[app]\nname = "count"\n[functions.count]\n')
    handler.write_text(
        "import gc\nasync def handler(request, ctx):\n    return [gc.get_freeze_count(), len(gc.get_objects())]\n"
    )
    app = cli.facts("apps", "create", account, "count")["app"]
    cli.ok("apps", "deploy", app, str(folder))
    with _serving(cli) as running:
        frozen, looked_through = httpx.post(f"{_url(running)}/v1/{app}/fn/count").raise_for_status().json()

    assert frozen > 5 * looked_through > 0


def test_a_deployed_folder_is_served_after_sighup(cli: Cli, account: str, tmp_path: Path) -> None:
    """`apps deploy` and SIGHUP change what a running host serves; a broken folder changes nothing."""
    folder = tmp_path / "app"
    handler = folder / "functions" / "hello.py"
    handler.parent.mkdir(parents=True)
    (folder / "ctxhost.toml").write_text('[app]\nname = "notes"\n[functions.hello]\n')
    handler.write_text("async def handler(request, ctx):\n    return {'says': 'hello'}\n")
    app = cli.facts("apps", "create", account, "notes")["app"]
    with _serving(cli) as running:
        url = f"{_url(running)}/v1/{app}/fn/hello"
        assert 404 == httpx.post(url).status_code
        cli.ok("apps", "deploy", app, str(folder))
        running.signal(signal.SIGHUP)
        running.line_with("is deployed again: hello")
        assert {"says": "hello"} == httpx.post(url).json()
        handler.write_text("x = (\n")
        running.signal(signal.SIGHUP)
        assert "hello.py:1: SyntaxError" in running.line_with("the old code goes on")
        assert {"says": "hello"} == httpx.post(url).json()


def test_without_an_encryption_key_it_says_how_to_make_one(refused: Refused) -> None:
    """It does not start, and the line can be pasted."""
    told = refused("serve", "--port", "0", CTXHOST_ENCRYPTION_KEYS=None)

    assert 'export CTXHOST_ENCRYPTION_KEYS="k1:$(openssl rand -base64 32)"' in told


def test_a_taken_port_is_said_in_one_line(refused: Refused) -> None:
    """Before anything else is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert f"127.0.0.1:{port} is taken" in refused("serve", "--port", str(port))


def test_an_address_that_is_not_ours_is_said_in_one_line(refused: Refused) -> None:
    """192.0.2.1 is for documentation and is nobody's."""
    assert "192.0.2.1:8787 cannot be listened on" in refused("serve", "--host", "192.0.2.1")


def test_a_folder_that_cannot_be_used_is_said_in_one_line(refused: Refused, tmp_path: Path) -> None:
    """A path in the settings that is wrong is the operator's to mend, not a crash."""
    (tmp_path / "file").touch()
    told = refused("serve", "--port", "0", CTXHOST_DATA_DIR=str(tmp_path / "file"))

    assert f"Error: {tmp_path}/file cannot be used: " in told


@pytest.mark.parametrize("form", ["plain", "json"])
def test_logs_carry_no_secret(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A key that strays into a message or a traceback is cut; an error that explains itself needs no traceback."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logs(form="json" if form == "json" else "plain")
        log = logging.getLogger("ctxhost.test")
        log.info("key %s, Authorization: Bearer abc.def", KEY, extra={"app": "app_1"})
        try:
            raise ValueError(f"wsec_{KEY}")
        except ValueError:
            log.exception("failed")
        try:
            raise SettingsError("set it")
        except SettingsError:
            log.exception("not served")
    finally:
        root.handlers, level_after = before, level
        root.setLevel(level_after)
    told = capsys.readouterr().err

    assert "ThisMustNotBeSeen" not in told
    assert "abc.def" not in told
    assert "app_1" in told
    assert 1 == told.count("Traceback")
    assert "set it" in told
    if form == "json":
        assert ["info", "error", "error"] == [json.loads(line)["level"] for line in told.splitlines()]
