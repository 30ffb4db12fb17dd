"""What `ctxhost serve --log-format json` writes, as a real process."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Cli
from tests.cli.processes import Running

READY = "ctxhost serves "
HANDLER = """
import logging

async def handler(request, ctx):
    ctx.log.info("asked with %s", request.headers["authorization"])
    logging.getLogger("a.library").warning("seen from a library")
    async def later():
        logging.getLogger("a.library").warning("later")
    ctx.wait_until(later())
    if request.query_params:
        raise ValueError("two\\nlines")
    return {}
"""


def _serving(cli: Cli, *args: str, **env: str) -> Running:
    return Running("serve", "--port", "0", "--log-format", "json", *args, cwd=cli.folder, env={**cli.env, **env})


def _url(running: Running) -> str:
    line = json.loads(running.line_with(READY))
    return str(line["message"]).removeprefix(READY).partition(" ")[0]


def _lines(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.output.splitlines()]


@pytest.fixture
def app(cli: Cli, account: str, tmp_path: Path) -> str:
    handler = tmp_path / "app" / "functions" / "hello.py"
    handler.parent.mkdir(parents=True)
    (tmp_path / "app" / "ctxhost.toml").write_text('[app]\nname = "notes"\n[functions.hello]\n')
    handler.write_text(HANDLER)
    app = cli.facts("apps", "create", account, "notes", "--folder", str(tmp_path / "app"))["app"]
    return str(app)


def test_every_line_is_json_and_belongs_to_its_request(cli: Cli, app: str) -> None:
    """From start to end, tracebacks included; what a request, its handler and their tasks log carries its id."""
    with _serving(cli) as running:
        url = _url(running)
        path = f"/v1/{app}/fn/hello"
        headers = {"authorization": "Bearer bb_sk_ThisMustNotBeSeen"}
        good = httpx.post(url + path, headers=headers)
        bad = httpx.post(f"{url}{path}?signature=ThisMustNotBeSeen", headers=headers)
        httpx.get(f"{url}/health/ready").raise_for_status()
        assert 404 == httpx.get(f"{url}/nothing?signature=ThisMustNotBeSeen").status_code
        running.signal(signal.SIGTERM)
        assert 0 == running.ends()
        lines = _lines(running)

    assert (200, 500) == (good.status_code, bad.status_code)
    assert "ThisMustNotBeSeen" not in json.dumps(lines)
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    for answer in (good, bad):
        mine = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
        assert {"seen from a library", "later"} <= {line["message"] for line in mine}
        assert {(app, "hello")} == {(line["app"], line["function"]) for line in mine}
    (error,) = [line["error"] for line in lines if "error" in line]
    assert error.endswith("ValueError: two\nlines")
    calls = [line for line in lines if line["logger"] == "ctxhost.access"]
    route = "/v1/{app_id}/fn/{path:path}"
    assert [("POST", route, 200), ("POST", route, 500), ("GET", "/nothing", 404)] == [
        (call["method"], call["route"], call["status"]) for call in calls
    ]
    assert all(call["took_ms"] >= 0 for call in calls)


def test_lines_of_a_job_name_it(cli: Cli, account: str) -> None:
    """A delivery that cannot be opened is told with the job's kind and what it is about."""
    key = cli.facts("keys", "create", account)["key"]
    app = cli.facts("apps", "create", account, "notes")["app"]
    headers = {"authorization": f"Bearer {key}"}
    hook = f"/v1/{app}/ai/meetings/webhook"
    with _serving(cli) as running:
        url = _url(running)
        httpx.put(url + hook, json={"forward_url": "https://8.8.8.8/"}, headers=headers).raise_for_status()
        running.signal(signal.SIGTERM)
        assert 0 == running.ends()
    other_ring = "k9:" + "QUFB" * 10 + "QUE="
    with _serving(cli, CTXHOST_ENCRYPTION_KEYS=other_ring) as running:
        url = _url(running)
        httpx.post(f"{url}{hook}/test", headers=headers).raise_for_status()
        line = json.loads(running.line_with('"job"'))

    assert "deliver" == line["job"]
    assert line["ref"]


def test_the_access_log_can_be_turned_off(cli: Cli) -> None:
    """Where a proxy keeps one already."""
    with _serving(cli, "--no-access-log") as running:
        httpx.get(f"{_url(running)}/docs").raise_for_status()
        running.signal(signal.SIGTERM)
        assert 0 == running.ends()

    assert [] == [line for line in _lines(running) if line["logger"] == "ctxhost.access"]


def test_a_host_that_cannot_start_says_so_in_json(cli: Cli) -> None:
    """Whoever reads the log by machine reads this too."""
    with _serving(cli, CTXHOST_ENCRYPTION_KEYS="k1:tooshort") as running:
        assert 1 == running.ends()
        (line,) = _lines(running)

    assert "critical" == line["level"]
    assert "encryption key" in line["message"]
