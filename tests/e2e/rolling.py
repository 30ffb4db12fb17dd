"""Clients that keep their connections and go on calling while hosts are restarted under them."""

import http.client
import itertools
import json
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.books import APP
from tests.e2e.hosts import BOTS_PATH, HostProcess
from tests.e2e.outside import LOOPBACK

PATIENCE_S = 20
APART_S = 0.02
Call = Callable[..., Any]
READS = (BOTS_PATH, f"/v1/{APP}/credits", f"{BOTS_PATH}/webhook/deliveries")


class Line:
    """A connection to one host that is kept alive, and made anew when the host has closed it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_S)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, Any] | None:
        """Status and body; None when the host did not accept the connection.

        Raises:
            ConnectionError, http.client.HTTPException: a call was cut off that the host had accepted.
        """
        connection = self._connection
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # the host has said that it would
        is_fresh = connection.sock is None
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        except (ConnectionError, http.client.HTTPException):
            connection.close()
            if is_fresh:  # it was in the queue of a socket that was closed, or there was no socket
                return None
            raise


@dataclass
class Clients:
    """What they were answered."""

    hosts: Sequence[HostProcess]
    key: str
    started: dict[str, str] = field(default_factory=dict)
    """A bot's name → its id, for each start that was acknowledged."""
    stopped: set[str] = field(default_factory=set)
    faults: list[object] = field(default_factory=list)
    refused: int = 0
    """Calls that met no host, or one that did not take them."""
    is_over: bool = False

    def start_bots(self, name: str, call: Call) -> None:
        """One bot after the other; each second one meets a call without an end, and is stopped."""
        for n in itertools.takewhile(lambda _: not self.is_over, itertools.count()):
            script, bot = ("three_hours" if n % 2 else "happy"), f"{name}{n}"
            body = {"meetingUrl": "https://zoom.us/j/1", "metadata": {"name": bot, "fake_script": script}}
            self.started[bot] = call("POST", BOTS_PATH, body, bot)["id"]
            if n % 2:
                call("DELETE", f"{BOTS_PATH}/{self.started[bot]}")
                self.stopped.add(bot)

    def read(self, _: str, call: Call) -> None:
        for path in itertools.takewhile(lambda _: not self.is_over, itertools.cycle(READS)):
            call("GET", path)

    def run(self, work: Callable[[str, Call], None], name: str) -> None:
        """As a client: at one host after the other, and again where a host was not there or was busy."""
        lines = [Line(host.port) for host in self.hosts]
        turns, pause = itertools.cycle(lines), threading.Event()

        def call(method: str, path: str, body: object = None, idempotency_key: str = "") -> Any:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            if idempotency_key:
                headers["idempotency-key"] = idempotency_key
            while True:
                pause.wait(APART_S)
                answer = next(turns).call(method, path, body, headers)
                if answer is not None and answer[0] < 300:
                    return answer[1]
                assert answer is None or answer[0] == 503, f"{method} {path}: {answer}"
                self.refused += 1

        try:
            work(name, call)
        except Exception as error:
            self.faults.append(error)
        finally:
            for line in lines:
                line.close()


@contextmanager
def calling(hosts: Sequence[HostProcess], key: str) -> Iterator[Clients]:
    """They call until the block is left. A call that was cut off, or refused with anything but 503, is a fault."""
    clients = Clients(hosts, key)
    work = [(clients.start_bots, "a"), (clients.start_bots, "b"), (clients.read, "c"), (clients.read, "d")]
    threads = [threading.Thread(target=clients.run, args=some) for some in work]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.is_over = True
        for thread in threads:
            thread.join()
