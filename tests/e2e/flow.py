"""Bots with every kind of life, started while hosts come and go, and the books that they leave in the end."""

import random
import threading
from collections.abc import Mapping
from pathlib import Path

import anyio
from tests.e2e.books import Books, settled_books
from tests.e2e.hosts import Caller, hosts_on, wait_for
from tests.e2e.outside import Receiver

from ctxhost.webhooks.outbox import message_id

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


def settle(caller: Caller, database: str, receiver: Receiver) -> Books:
    """Let the hosts that run now finish everything."""

    def all_started() -> bool:
        caller.start_bots(BOTS)
        return len(caller.started) == len(BOTS)

    wait_for(all_started, within_s=SETTLED_WITHIN_S, what="not every start is answered")

    async def settled() -> Books:
        return await settled_books(database, BOTS, receiver, within_s=SETTLED_WITHIN_S)

    return anyio.run(settled, backend_options={"use_uvloop": True})


def undisturbed(folder: Path, receiver: Receiver) -> Books:
    """One host, which nobody troubles."""
    database = str(folder.with_suffix(".db"))
    with hosts_on(database, folder, receiver) as caller:
        for host in caller.hosts:
            host.begin()
            host.await_up()
        return settle(caller, database, receiver)


def killed(caller: Caller, database: str, receiver: Receiver, *, kills: int, seed: int) -> Books:
    """At each of many moments a host dies and starts again, while some more bots are started; in the end all live."""
    dice = random.Random(seed)
    for host in caller.hosts:
        host.begin()
        host.await_up()
    host = caller.hosts[0]
    for number in range(1, kills + 1):
        calls = threading.Thread(target=caller.start_bots, args=(BOTS[: number + 1],))
        calls.start()
        threading.Event().wait(dice.choice((0.01, 0.03, 0.1, 0.3, 0.7)) * dice.uniform(0.5, 1.5))
        if number % 5 != 1:  # every fifth time it is the one that just starts
            host = dice.choice(caller.hosts)
        host.kill()
        calls.join()
        host.begin()
        if number % 5:
            host.await_up()
    for host in caller.hosts:
        host.await_up()
    return settle(caller, database, receiver)


def expected_messages(books: Books, calm: Receiver) -> Mapping[str, tuple[str, str]]:
    """What a receiver gets in the run of these books when all is as in a calm one: webhook-id → (bot's name, event)."""
    return {message_id(books.ids[name], event): (name, event) for name, event in calm.received.values()}
