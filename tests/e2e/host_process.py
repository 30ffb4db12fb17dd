"""A host in a process of its own, for tests that kill it.

    python host_process.py FOLDER PORT URL

For each line on its input it forks a child that serves the host of FOLDER on PORT, and writes the child's process id;
when that one has died it writes `gone`. Forking saves the interpreter's start, not any of the host's.
"""

import logging
import os
import sys
from pathlib import Path

import uvicorn
import uvloop

import ctxhost_fake
from ctxhost.egress.guard import LOOPBACK
from ctxhost.host import Host
from ctxhost.settings import EgressSettings, MeetingSettings, Settings
from ctxhost.webhooks.requests import PutWebhook

ACCOUNT, APP = "acct_killed", "app_killed"
SPEED = 40
RING = "k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


async def serve(folder: Path, port: int, url: str) -> None:
    settings = Settings(
        database=folder / "ctxhost.db",
        data_dir=folder / "data",
        base_url=f"http://127.0.0.1:{port}",
        encryption_keys=RING,
        rate_limits=False,
        meetings=MeetingSettings(create_timeout_s=1, unadmitted_limit=100),
        egress=EgressSettings(allow_http=True, allow_networks=LOOPBACK),
        plugins={"fake": {"enabled": True, "speed": SPEED}},
    )
    async with Host(settings, plugins=[ctxhost_fake], served=True) as host:
        if not (folder / "key").exists():
            await furnish(host, folder, url)
        config = uvicorn.Config(host.asgi, port=port, log_level="warning", lifespan="off", access_log=False)
        await uvicorn.Server(config).serve()


async def furnish(host: Host, folder: Path, url: str) -> None:
    """The tenant; all of it may be repeated."""
    await host.ledger.open_account("killed", account=ACCOUNT)
    await host.credits.grant(ACCOUNT, 5_000_000_000, key="first")
    app = await host.tenants.create_app(ACCOUNT, "killed", app=APP)
    await host.webhooks.put(app, PutWebhook(forward_url=url))
    key, _ = await host.tenants.create_key(ACCOUNT)
    (folder / "key.part").write_text(key)
    (folder / "key.part").replace(folder / "key")


def main() -> None:
    folder, port, url = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    logging.basicConfig(level=logging.WARNING)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            uvloop.run(serve(folder, port, url))
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
