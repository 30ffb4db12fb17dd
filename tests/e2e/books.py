"""What a run leaves in the database, on any engine, with bots by their names."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import anyio
from tests.e2e.outside import Receiver

from ctxhost.ledger.verify import verify
from ctxhost.store import Store, queries
from ctxhost.store.open import open_store
from ctxhost.store.rows import Account, Bot, Entry, Message

ACCOUNT, APP = "acct_killed", "app_killed"
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Books:
    """Compared by what does not depend on the time and the ids of a run."""

    ends: Mapping[str, tuple[str, str, int]]
    charges: Mapping[str, Sequence[tuple[str, int, int, str]]]
    pools: tuple[int, int, int]
    """Allowance, credits, held."""
    messages: Mapping[str, str]
    """webhook-id → state"""
    ids: Mapping[str, str]
    """A bot's name → its id."""


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[Store]:
    store = await open_store(database)
    try:
        yield store
    finally:
        await store.aclose()


async def settled_books(database: str, names: Collection[str], receiver: Receiver, *, within_s: float) -> Books:
    """The books once every bot is over and all that is owed was delivered; they are in order then."""
    deadline_s = monotonic() + within_s
    async with opened(database) as store:
        while not _is_settled(books := await read_books(store), names, receiver):
            assert monotonic() < deadline_s, f"not all is settled: {_open(books)}"
            await anyio.sleep(LOOK_AGAIN_S)
        assert [] == await verify(store)
        return books


async def read_books(store: Store) -> Books:
    bots: list[Bot] = await store.read(queries.bots_page(APP, status=None, before=None, limit=1_000))
    names = {bot.id: json.loads(bot.metadata)["name"] for bot in bots}
    entries: list[Entry] = await store.read(queries.entries(ACCOUNT, before_seq=2**62, limit=5_000))
    messages: list[Message] = await store.read(queries.messages_page(APP, before=None, limit=5_000))
    account = await store.read(queries.by_id(Account, ACCOUNT))
    assert account is not None
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


def _is_settled(books: Books, names: Collection[str], receiver: Receiver) -> bool:
    return (
        set(books.ends) == set(names)
        and {status for status, _, _ in books.ends.values()} <= {"done", "fatal"}
        and books.pools[2] == 0
        and set(books.messages.values()) == {"delivered"}
        and set(books.messages) <= set(receiver.received)
    )


def _open(books: Books) -> object:
    bots = {name: end for name, end in books.ends.items() if end[0] not in ("done", "fatal")}
    return bots, books.pools, [name for name, state in books.messages.items() if state != "delivered"]
