"""`POST /v1/{app}/ai/meetings` with the fake provider. The baseline is an empty route on a server of the same kind.

Both servers run in processes of their own; the host is at work. The bots are to join tomorrow: what is measured is the
spawning of one, not the lives of those before it.
"""

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import uvloop

from benchmarks import Bench, Figure
from benchmarks.load import Side, Taken, compare, http_request
from benchmarks.servers import Served, empty_route, host_server, running
from ctxhost.clock import rfc3339

TITLE = "Spawn: a bot through the REST API, beside an empty route"
CALLERS = (1, 32)
AHEAD_MS = 86_400_000


def measure(bench: Bench) -> Iterable[Figure]:
    """The median wait and the throughput, for one caller and for many."""
    for engine in bench.engines:
        with (
            tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder,
            engine.database() as database,
            running(empty_route) as empty,
            running(host_server, Path(folder), database) as host,
        ):
            yield from _measure(bench, engine.name, host, empty)


def _measure(bench: Bench, engine: str, host: Served, empty: int) -> Iterable[Figure]:
    rounds, round_s = bench.pick(full=(6, 1.5), quick=(2, 0.5), tiny=(1, 0.01))
    spawn, nothing = spawn_request(host), http_request("POST", "/", body=b"{}")
    sides = [Side(host.port, lambda: spawn), Side(empty, lambda: nothing)]
    for callers in bench.pick(full=CALLERS, quick=CALLERS, tiny=CALLERS[:1]):
        ours, base = uvloop.run(compare(sides, callers=callers, rounds=rounds, round_s=round_s))
        yield from _figures(engine, callers, ours, base)


def spawn_request(served: Served) -> bytes:
    """A request for a bot, as any client sends it."""
    joins_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    body = {"meetingUrl": "https://zoom.us/j/1234567890", "joinAt": rfc3339(joins_ms), "metadata": {"deal": "4711"}}
    headers = {"authorization": f"Bearer {served.tenant.key}", "content-type": "application/json"}
    path = f"/v1/{served.tenant.app.id}/ai/meetings"
    return http_request("POST", path, headers=headers, body=json.dumps(body).encode())


def _figures(engine: str, callers: int, ours: Taken, base: Taken) -> Iterable[Figure]:
    who = f"{engine}, 1 caller" if callers == 1 else f"{engine}, {callers} callers"
    yield Figure(name=f"{who}, median wait", value=round(ours.p50_ms, 3), unit="ms", baseline=round(base.p50_ms, 3))
    yield Figure(name=f"{who}, throughput", value=round(ours.per_s), unit="/s", baseline=round(base.per_s))
