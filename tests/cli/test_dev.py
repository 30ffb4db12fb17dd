"""`ctxhost dev` as a real process."""

import shutil
import signal
import stat
from pathlib import Path

import httpx
import pytest
from tests.cli.processes import Running

from ctxhost.cli.devfiles import read_env, write_env

SANDBOX = Path(__file__).parents[2] / "sandbox"
READY = "Ctrl-C stops."
MEETING = {"meetingUrl": "https://zoom.us/j/1234567890"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A copy of the worked example, to edit."""
    return Path(shutil.copytree(SANDBOX, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__")))


def _dev(tmp_path: Path, *args: str) -> Running:
    return Running("dev", "--port", "0", "--app", str(tmp_path / "app"), "--speed", "60", *args, cwd=tmp_path)


def test_it_reloads_keeps_and_guards(tmp_path: Path, app: Path) -> None:
    """One start: the env file works, a second start is refused, edits are served, mistakes are not.

    The next start has the same ids and keys.
    """
    with _dev(tmp_path) as running:
        running.line_with(READY)
        env = read_env(tmp_path / ".sandbox" / "env")
        _check_env(tmp_path / ".sandbox" / "env", env)
        _check_tenants(env)
        _check_second_start(tmp_path)
        _check_reload(running, app, env)
        running.signal(signal.SIGTERM)
        assert 0 == running.ends()
    assert "Traceback" not in running.output
    with _dev(tmp_path) as again:
        again.line_with(READY)
        env_again = read_env(tmp_path / ".sandbox" / "env")
        assert {**env, "BASE_URL": ""} == {**env_again, "BASE_URL": ""}
        assert 1 <= len(_bots(env_again))


def _check_env(path: Path, env: dict[str, str]) -> None:
    assert {
        "BASE_URL", "APP_ID", "API_KEY", "OTHER_API_KEY", "POOR_APP_ID", "POOR_API_KEY", "FRESH_APP_ID",
    } == set(env)  # fmt: skip
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o600 == stat.S_IMODE((path.parent / "key").stat().st_mode)


def _check_tenants(env: dict[str, str]) -> None:
    """Each of the other tenants is refused as it was made for."""
    bots = f"{env['BASE_URL']}/v1/{{}}/ai/meetings"
    poor = {"authorization": f"Bearer {env['POOR_API_KEY']}"}

    assert 403 == httpx.get(bots.format(env["APP_ID"]), headers=_as(env["OTHER_API_KEY"])).status_code
    assert 402 == httpx.post(bots.format(env["POOR_APP_ID"]), headers=poor, json=MEETING).status_code
    fresh = httpx.get(bots.format(env["FRESH_APP_ID"]), headers=_as(env["API_KEY"])).raise_for_status()
    assert {"bots": [], "nextCursor": None} == fresh.json()


def _check_second_start(tmp_path: Path) -> None:
    with _dev(tmp_path) as second:
        assert "Another `ctxhost dev`" in second.line_with("Error: ")
        assert 1 == second.ends()


def _check_reload(running: Running, app: Path, env: dict[str, str]) -> None:
    spawn, handler = f"{env['BASE_URL']}/fn/spawn-bot", app / "functions" / "spawn_bot.py"
    good = handler.read_text()
    assert "joining" == httpx.post(spawn, json=MEETING).json()["status"]

    handler.write_text(good + "x = (\n")
    running.line_with("not reloaded")
    assert "functions/spawn_bot.py:" in running.line_with("SyntaxError")
    assert "x = (" in running.line_with("→")
    assert "joining" == httpx.post(spawn, json=MEETING).json()["status"]

    handler.write_text("async def handler(request, ctx):\n    return {'new': True}\n")
    running.line_with("reloaded functions/spawn_bot.py")
    assert {"new": True} == httpx.post(spawn).json()

    schema = app / "schema.json"
    schema.write_text(schema.read_text().replace('"integer"', '"intger"'))
    running.line_with("not reloaded schema.json")
    running.line_with("unknown type 'intger'")
    schema.write_text(schema.read_text().replace('"intger"', '"integer"'))
    running.line_with("reloaded schema.json")

    manifest = app / "ctxhost.toml"
    manifest.write_text(manifest.read_text() + "[functions.hello]\nfile = 'functions/spawn_bot.py'\n")
    running.line_with("reloaded ctxhost.toml")
    assert {"new": True} == httpx.post(f"{env['BASE_URL']}/fn/hello").json()


def _bots(env: dict[str, str]) -> list[object]:
    answer = httpx.get(f"{env['BASE_URL']}/v1/{env['APP_ID']}/ai/meetings", headers=_as(env["API_KEY"]))
    found: list[object] = answer.raise_for_status().json()["bots"]
    return found


def _as(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_a_provider_it_is_open_source_mode(tmp_path: Path, app: Path) -> None:
    """The host runs, the primitive says that it is not available, the account still answers."""
    with _dev(tmp_path, "--no-provider") as running:
        running.line_with(READY)
        env = read_env(tmp_path / ".sandbox" / "env")
        url, key = f"{env['BASE_URL']}/v1/{env['APP_ID']}", _as(env["API_KEY"])

        assert {"available": False} == httpx.get(f"{env['BASE_URL']}/v1/ai/meetings/_status").json()
        assert 501 == httpx.post(f"{url}/ai/meetings", headers=key, json=MEETING).status_code
        assert 5 == httpx.get(f"{url}/credits", headers=key).json()["balance_usd"]


def test_it_starts_on_a_broken_folder_and_waits_for_the_mending(tmp_path: Path, app: Path) -> None:
    """A mistake that is there at the start is shown like any other."""
    handler = app / "functions" / "meetings.py"
    good = handler.read_text()
    handler.write_text("x = (\n")
    with _dev(tmp_path) as running:
        running.line_with("SyntaxError")
        running.line_with(READY)
        handler.write_text(good)
        running.line_with("reloaded functions/meetings.py")


def test_an_app_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    """In one line that says how to name another."""
    (tmp_path / "app").mkdir()
    with _dev(tmp_path) as running:
        assert "name an app folder with --app" in running.line_with("Error: ")
        assert 1 == running.ends()


def test_an_env_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Also what a shell would take apart."""
    values = {"PLAIN": "abc", "ODD": "a b'c\"d $HOME `x` \\"}
    write_env(tmp_path / "env", values)

    assert values == read_env(tmp_path / "env")
    assert {} == read_env(tmp_path / "nothing")
