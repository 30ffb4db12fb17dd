"""A process to be killed: it writes as fast as it can and says aloud what was acknowledged.

Run as `python crash_child.py FOLDER ENGINE ROUND`.
"""

import itertools
import os
import sys
from pathlib import Path

import anyio
from tests.contract.engines import ENGINES

from ctxhost.clock import WallClock
from ctxhost.ledger.commands import Charge, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store

ACCOUNTS = ("one", "two")
WRITERS = 6


async def write_for_ever(store: Store, account: str, name: str) -> None:
    for n in itertools.count():
        key = f"{name}-{n}"
        await Ledger(store).grant(account, 100, key=key)
        say(f"grant {account} {key}")
        await store.write(
            Reserve(
                account=account,
                app="app",
                lease=key,
                purpose="meetings",
                amount=90,
                dimensions=("recording", "transcription"),
                rate_card="{}",
                paid_for_s=60,
                hold_s=600,
            )
        )
        say(f"lease {account} {key}")
        await store.write(Charge(account=account, lease=key, dimension="recording", quantity=1, amount=n % 100))
        say(f"charge {account} {key}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main(folder: Path, engine: str, round_number: str) -> None:
    async with ENGINES[engine].open(folder, WallClock()) as store, anyio.create_task_group() as tasks:
        for account in ACCOUNTS:
            await Ledger(store).open_account("owner", account=account)
        for n, account in enumerate(ACCOUNTS * (WRITERS // len(ACCOUNTS))):
            tasks.start_soon(write_for_ever, store, account, f"r{round_number}w{n}")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3], backend_options={"use_uvloop": True})
