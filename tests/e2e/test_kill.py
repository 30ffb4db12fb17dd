"""`kill -9` of a real host at many moments of its bots' lives: the books and the messages of an undisturbed run."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from tests.e2e.host_process import ACCOUNT, APP

from ctxhost.clock import WallClock
from ctxhost.ledger.verify import verify
from ctxhost.store import queries
from ctxhost.store.rows import Account, Bot, Entry, Message
from ctxhost.store.sqlite import SqliteStore
from ctxhost.webhooks.outbox import message_id

SEED = 20_261_121
KILLS = 32
SETTLED_WITHIN_S = 40
SCRIPTS = (
    "happy",
    "kicked_while_recording",
    "transcript_failed",
    "create_times_out",
    "nobody_came",
    "denied",
    "recording_failed",
    "happy+duplicated+reordered",
    "waiting_room_admitted",
    "happy+late+duplicated",
    "fatal_on_join",
    "happy+late",
)
BOTS = tuple(f"{number}.{script}" for number, script in enumerate(SCRIPTS * 2))
TIMEOUTS = {"noOneJoinedTimeoutSec": 30, "waitingRoomTimeoutSec": 60}


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A host that was killed leaves its connections broken."""


class Receiver:
    """A loopback endpoint that keeps running, and what it was sent."""

    def __init__(self) -> None:
        received: dict[str, tuple[str, str]] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received[self.headers["webhook-id"]] = (body["data"]["bot"]["metadata"]["name"], body["event"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.received = received
        """webhook-id → (the bot's name, the event)."""
        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class HostProcess:
    """Starts and kills hosts on one folder."""

    folder: Path
    port: int
    parent: "subprocess.Popen[str]"
    client: httpx.Client
    child: int = 0
    started: dict[str, str] = field(default_factory=dict)
    """Bots whose start was answered: name → id."""

    def begin(self) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write("go\n")
        self.parent.stdin.flush()
        self.child = int(self.parent.stdout.readline())

    def kill(self) -> None:
        assert self.parent.stdout is not None
        os.kill(self.child, signal.SIGKILL)
        assert "gone" == self.parent.stdout.readline().strip()

    def is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 and (self.folder / "key").exists()

    def start_bot(self, name: str) -> None:
        """One try; what comes of it may never be heard."""
        script = name.partition(".")[2]
        try:
            answer = self.client.post(
                f"http://127.0.0.1:{self.port}/v1/{APP}/ai/meetings",
                json={
                    "meetingUrl": "https://zoom.us/j/1",
                    "metadata": {"name": name, "fake_script": script},
                    "automaticLeave": TIMEOUTS,
                },
                headers={"authorization": f"Bearer {(self.folder / 'key').read_text()}", "idempotency-key": name},
            )
        except httpx.TransportError:
            return
        if answer.status_code == 200:
            assert answer.json()["metadata"]["name"] == name
            assert self.started.setdefault(name, answer.json()["id"]) == answer.json()["id"]
        else:
            assert answer.json()["error"]["code"] in ("idempotency_conflict", "overloaded"), answer.text

    def start_bots(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.start_bot, names))


@contextmanager
def host_in(folder: Path, receiver: Receiver) -> Iterator[HostProcess]:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("host_process.py")
    with (folder / "log").open("w") as log:
        parent = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(port), receiver.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with parent, httpx.Client(verify=False, trust_env=False, timeout=5) as client:
        host = HostProcess(folder, port, parent, client)
        try:
            yield host
        finally:
            if host.child:
                os.kill(host.child, signal.SIGKILL)
            parent.kill()


def wait_for(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Poll until it holds."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.01)


@dataclass(frozen=True)
class Books:
    """What a run leaves in the database, with bots by their names."""

    ends: Mapping[str, tuple[str, str, int]]
    charges: Mapping[str, Sequence[tuple[str, int, int, str]]]
    pools: tuple[int, int, int]
    messages: Mapping[str, str]
    """webhook-id → state"""
    ids: Mapping[str, str]


async def read_books(folder: Path) -> Books:
    store = SqliteStore(folder / "ctxhost.db", clock=WallClock())
    try:
        bots: list[Bot] = await store.read(queries.bots_page(APP, status=None, before=None, limit=500))
        names = {bot.id: json.loads(bot.metadata)["name"] for bot in bots}
        entries: list[Entry] = await store.read(queries.entries(ACCOUNT, before_seq=2**62, limit=1_000))
        messages: list[Message] = await store.read(queries.messages_page(APP, before=None, limit=1_000))
        account = await store.read(queries.by_id(Account, ACCOUNT))
        assert account is not None
        assert [] == await verify(store)
    finally:
        await store.aclose()
    charges: dict[str, list[tuple[str, int, int, str]]] = {}
    for entry in entries:
        if entry.kind == "charge":
            charges.setdefault(names[entry.lease], []).append(
                (entry.dimension, entry.quantity, entry.allowance + entry.credits, entry.mark)
            )
    return Books(
        ends={names[bot.id]: (bot.status, bot.status_reason, bot.duration_s) for bot in bots},
        charges={name: sorted(lines) for name, lines in charges.items()},
        pools=(account.allowance, account.credits, account.held),
        messages={message.id: message.state for message in messages},
        ids={name: bot for bot, name in names.items()},
    )


def is_settled(folder: Path, receiver: Receiver) -> bool:
    books = anyio.run(read_books, folder, backend_options={"use_uvloop": True})
    return (
        set(books.ends) == set(BOTS)
        and {status for status, _, _ in books.ends.values()} <= {"done", "fatal"}
        and books.pools[2] == 0
        and set(books.messages.values()) == {"delivered"}
        and set(books.messages) <= set(receiver.received)
    )


def settle(host: HostProcess, receiver: Receiver) -> Books:
    """Let the host that runs now finish everything."""
    wait_for(host.is_up, within_s=20, what="the host does not start")

    def all_started() -> bool:
        host.start_bots([name for name in BOTS if name not in host.started])
        return len(host.started) == len(BOTS)

    wait_for(all_started, within_s=SETTLED_WITHIN_S, what="not every start is answered")
    wait_for(lambda: is_settled(host.folder, receiver), within_s=SETTLED_WITHIN_S, what="not all is settled")
    return anyio.run(read_books, host.folder, backend_options={"use_uvloop": True})


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    both = Receiver(), Receiver()
    yield both
    for receiver in both:
        receiver.close()


def undisturbed(folder: Path, receiver: Receiver) -> Books:
    with host_in(folder, receiver) as host:
        host.begin()
        return settle(host, receiver)


def killed(folder: Path, receiver: Receiver) -> Books:
    """Each host lives for a moment, in which some more bots are started; the last one may finish."""
    dice = random.Random(SEED)
    moments = [dice.choice((0.01, 0.03, 0.1, 0.3, 0.7)) * dice.uniform(0.5, 1.5) for _ in range(KILLS)]
    with host_in(folder, receiver) as host:
        host.begin()
        wait_for(host.is_up, within_s=20, what="the host does not start")
        for number, moment_s in enumerate(moments, start=1):
            due = BOTS[: number + 1]
            calls = threading.Thread(target=host.start_bots, args=([name for name in due if name not in host.started],))
            calls.start()
            threading.Event().wait(moment_s)
            host.kill()
            calls.join()
            host.begin()
            if number % 5:  # every fifth is killed while it starts
                wait_for(host.is_up, within_s=20, what="the host does not start again")
        return settle(host, receiver)


def test_kill_9_at_any_moment(tmp_path: Path, receivers: tuple[Receiver, Receiver]) -> None:
    """The same charged lines, pool balances, ends and set of webhook ids as an undisturbed run; nothing held."""
    calm, rough = receivers
    with ThreadPoolExecutor(1) as pool:
        calmly = pool.submit(undisturbed, tmp_path / "calm", calm)
        after = killed(tmp_path / "rough", rough)
        before = calmly.result()

    assert before.charges == after.charges
    assert before.pools == after.pools
    assert before.ends == after.ends
    expected = {message_id(after.ids[name], event): (name, event) for name, event in calm.received.values()}
    assert expected == rough.received
    assert set(expected) == set(after.messages)
