"""A host in a process of its own, for tests that kill it.

    python host_process.py PLAN

PLAN is a file with a `Plan` as JSON. For each line on its input it forks a child that serves the host, and writes the
child's process id; when that one has ended it writes `gone` with how: its exit code, or minus its signal. Forking saves
the interpreter's start, not any of the host's.
"""

import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from tests.e2e.far import Far

import ctxhost_fake
from ctxhost.cli.server import listen, serving, until_stopped
from ctxhost.egress.guard import LOOPBACK
from ctxhost.host import Host
from ctxhost.settings import EgressSettings, MeetingSettings, Settings

SPEED = 40
RING = "k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@dataclass(frozen=True)
class Plan:
    """What a host is told."""

    database: str
    data_dir: str
    port: int
    provider_url: str = ""
    """Where the provider is; empty: in the host itself."""

    def settings(self) -> Settings:
        return Settings(
            database=self.database,
            data_dir=Path(self.data_dir),
            base_url=f"http://127.0.0.1:{self.port}",
            encryption_keys=RING,
            rate_limits=False,
            meetings=MeetingSettings(create_timeout_s=1, unadmitted_limit=100),
            egress=EgressSettings(allow_http=True, allow_networks=LOOPBACK),
            plugins={"fake": {"enabled": True, "speed": SPEED}},
        )

    def text(self) -> str:
        return json.dumps(asdict(self))


async def serve(plan: Plan) -> None:
    """As `ctxhost serve` does it, with plugins of our choice."""
    plugin = Far(plan.provider_url) if plan.provider_url else ctxhost_fake
    settings = plan.settings()
    with listen("127.0.0.1", plan.port) as listening:
        async with (
            until_stopped() as signals,
            Host(settings, plugins=[plugin], served=True) as host,
            serving(host.asgi, listening, drain_s=settings.drain_s),
        ):
            await signals.first()
            host.start_draining()


def main() -> None:
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    logging.basicConfig(level=logging.WARNING)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            uvloop.run(serve(plan))
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("gone", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
