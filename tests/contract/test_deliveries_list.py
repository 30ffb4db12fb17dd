"""The list of deliveries costs two reads, however many messages are on the page."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.contract.commands import PutMany

from ctxhost.store import Query, Store
from ctxhost.store.rows import PLATFORM, Attempt, Message
from ctxhost.webhooks.service import Webhooks

T = TypeVar("T")


@dataclass
class Counted:
    """A store that counts its reads."""

    store: Store
    asked: list[str] = field(default_factory=list)

    async def read(self, query: Query[T]) -> T:
        self.asked.append(query.sql)
        return await self.store.read(query)


def message(n: int) -> Message:
    return Message(
        id=f"msg_{n}",
        account=PLATFORM,
        app="app",
        bot=f"bot_{n}",
        rank=0,
        event="bot.done",
        body="{}",
        state="queued",
        attempts=n,
        created_ms=n,
        done_ms=0,
    )


def attempt(n: int, *, of: int) -> Attempt:
    return Attempt(
        id=f"msg_{of}/{n}",
        account=PLATFORM,
        app="app",
        message=f"msg_{of}",
        url="https://receiver.example",
        status=500,
        outcome="http_500",
        answer="",
        took_ms=1,
        at_ms=100 * of - n,  # the later ids are the older attempts
    )


async def test_attempts_come_with_their_messages_in_two_reads(store: Store) -> None:
    """Newest message first, each with its own attempts, oldest first; none is left out and none is read alone."""
    rows = [message(n) for n in range(20)], [attempt(n, of=of) for of in range(20) for n in range(of % 3)]
    await store.write(PutMany((*rows[0], *rows[1])))
    counted = Counted(store)
    unused: Any = None
    webhooks = Webhooks(counted, *[unused] * 4)  # type: ignore[arg-type]

    found = await webhooks.deliveries("app", limit=20)

    expected = [(f"msg_{of}", [f"msg_{of}/{n}" for n in reversed(range(of % 3))]) for of in reversed(range(20))]
    assert expected == [(one.message.id, [attempt.id for attempt in one.attempts]) for one in found]
    assert 2 == len(counted.asked)


async def test_an_empty_page_asks_for_no_attempts(store: Store) -> None:
    """An app that was sent nothing has an empty list."""
    counted = Counted(store)
    unused: Any = None
    webhooks = Webhooks(counted, *[unused] * 4)  # type: ignore[arg-type]

    assert [] == list(await webhooks.deliveries("nobody"))
    assert 1 == len(counted.asked)
