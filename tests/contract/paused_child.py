"""A host that stops itself in the middle of a batch, when it holds an account; then it goes on, if it is told to.

Run as `python paused_child.py URL ACCOUNT…`; it adds 10 to a number of each account, all in one batch.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import anyio
from tests.contract.commands import Add

from ctxhost.store.open import open_store
from ctxhost.store.postgres_wire import Result, Statement, Wire

trip = Wire.trip
has_stopped = False


async def stopping(wire: Wire, statements: Sequence[Statement]) -> list[Result]:
    global has_stopped
    results = await trip(wire, statements)
    if not has_stopped and any("for update" in statement.sql for statement in statements):
        has_stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)
    return results


async def main(url: str, accounts: Sequence[str]) -> None:
    store = await open_store(url)
    setattr(Wire, "trip", stopping)  # noqa: B010 - a patch, not an override
    together = [store.write(Add(f"sum/{account}", 10, account=account)) for account in accounts]
    print("written", *await asyncio.gather(*together))
    await store.aclose()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:], backend_options={"use_uvloop": True})
