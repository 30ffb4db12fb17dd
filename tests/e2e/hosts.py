"""Host processes that are started, killed and stopped, and a client that calls whichever of them answers."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from tests.e2e.books import ACCOUNT, APP
from tests.e2e.host_process import Plan
from tests.e2e.outside import LOOPBACK, Receiver, provider

from ctxhost.host import Host
from ctxhost.webhooks.requests import PutWebhook

UP_WITHIN_S = 20
SAID_BYTES = 3_000
TIMEOUTS = {"noOneJoinedTimeoutSec": 30, "waitingRoomTimeoutSec": 60}
BOTS_PATH = f"/v1/{APP}/ai/meetings"


def wait_for(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Poll until it holds."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.01)


@dataclass
class HostProcess:
    """Starts and ends one host."""

    port: int
    parent: "subprocess.Popen[str]"
    child: int = 0

    def begin(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.write("go\n")
        self.parent.stdin.flush()
        self.child = int(self._line())

    def kill(self) -> None:
        """As a crash does it: nothing is let out."""
        assert -signal.SIGKILL == self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> int:
        """Wait for the end that a signal brings; the exit code, or minus the signal."""
        os.kill(self.child, how)
        self.child = 0
        gone, _, code = self._line().partition(" ")
        assert "gone" == gone
        return int(code)

    def _line(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()

    def await_up(self) -> None:
        wait_for(self._is_up, within_s=UP_WITHIN_S, what="the host does not start")

    def _is_up(self) -> bool:
        try:
            httpx.get(f"http://{LOOPBACK}:{self.port}/", timeout=UP_WITHIN_S, trust_env=False, verify=False)
        except httpx.TransportError:
            return False
        return True


@dataclass
class Caller:
    """Behind a load balancer: one host after the other is called, and the next one when that refuses."""

    hosts: Sequence[HostProcess]
    key: str
    client: httpx.Client
    started: dict[str, str] = field(default_factory=dict)
    """Bots whose start was answered: name → id."""

    def __post_init__(self) -> None:
        self._turns = itertools.cycle([self.hosts, self.hosts[::-1]])

    def call(self, method: str, path: str, **more: object) -> httpx.Response | None:
        """The answer; None when no host is there, or one died over it."""
        for host in next(self._turns):
            try:
                return self.client.request(method, f"http://{LOOPBACK}:{host.port}{path}", **more)  # type: ignore[arg-type]
            except httpx.ConnectError:
                continue
            except httpx.TransportError:
                return None
        return None

    def start_bot(self, name: str) -> None:
        """One try; what comes of it may never be heard."""
        script = name.partition(".")[2]
        answer = self.call(
            "POST",
            BOTS_PATH,
            json={
                "meetingUrl": "https://zoom.us/j/1",
                "metadata": {"name": name, "fake_script": script},
                "automaticLeave": TIMEOUTS,
            },
            headers={"idempotency-key": name},
        )
        if answer is None:
            return
        if answer.status_code == 200:
            assert answer.json()["metadata"]["name"] == name
            assert self.started.setdefault(name, answer.json()["id"]) == answer.json()["id"]
        else:
            assert answer.json()["error"]["code"] in ("idempotency_conflict", "overloaded"), answer.text

    def start_bots(self, names: Sequence[str]) -> None:
        """Those that are not started yet, at the same time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.start_bot, [name for name in names if name not in self.started]))


async def furnish(plan: Plan, url: str) -> str:
    """The tenant, and where its events go; its service key."""
    async with Host(plan.settings(), plugins=[], work=False) as host:
        await host.ledger.open_account("killed", account=ACCOUNT)
        await host.credits.grant(ACCOUNT, 5_000_000_000, key="first")
        app = await host.tenants.create_app(ACCOUNT, "killed", app=APP)
        await host.webhooks.put(app, PutWebhook(forward_url=url))
        key, _ = await host.tenants.create_key(ACCOUNT)
    return key


def free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def hosts_on(database: str, folder: Path, receiver: Receiver, *, count: int = 1) -> Iterator[Caller]:
    """So many hosts on one database, none of them started. One has the fake provider in itself, more share one."""
    folder.mkdir()
    ports = [free_port() for _ in range(count)]
    with ExitStack() as stack:
        url = stack.enter_context(provider(folder / "provider", ports)) if count > 1 else ""
        plans = [Plan(database, str(folder / f"host{n}"), port, url) for n, port in enumerate(ports)]
        key = anyio.run(furnish, plans[0], receiver.url, backend_options={"use_uvloop": True})
        if url:
            for plan in plans:
                shutil.copytree(folder / "provider" / "fake", Path(plan.data_dir, "fake"), ignore=_all_but_secret)
        client = stack.enter_context(
            httpx.Client(verify=False, trust_env=False, timeout=5, headers={"authorization": f"Bearer {key}"})
        )
        yield Caller([stack.enter_context(_host(folder, plan)) for plan in plans], key, client)


def _all_but_secret(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name != "secret"]


@contextmanager
def _host(folder: Path, plan: Plan) -> Iterator[HostProcess]:
    file = folder / f"{plan.port}.json"
    file.write_text(plan.text())
    script = Path(__file__).with_name("host_process.py")
    with (folder / f"{plan.port}.log").open("w") as log:
        parent = subprocess.Popen(
            [sys.executable, str(script), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    with parent:
        host = HostProcess(plan.port, parent)
        try:
            yield host
        except BaseException:
            print(f"The host on {plan.port} said:", Path(log.name).read_text()[-SAID_BYTES:], sep="\n")
            raise
        finally:
            if host.child:
                os.kill(host.child, signal.SIGKILL)
            parent.kill()
