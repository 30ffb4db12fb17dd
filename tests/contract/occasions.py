"""Every occasion on which a host asks its database for something: the named reads, and what the engine does by itself.

The tenants are those of `filled`.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from tests.contract.filled import BIG, BIG_APP, BIG_LANE, FULL

from ctxhost.clock import ManualClock
from ctxhost.errors import Refusal
from ctxhost.ledger.commands import Charge, Grant, Reserve, Tick
from ctxhost.meetings.commands import NoteEvent, Renew, SpawnCreated, StartBot
from ctxhost.meetings.commands.start import Caps
from ctxhost.store import Command, Query, Store, queries
from ctxhost.store.rows import Bot, Job, Lease
from ctxhost.webhooks.commands import NoteAttempt

SMALL, SMALL_APP = "acct-19999", "app-19999"
CROWD = 32
KINDS = ("deliver", "read", "renew")
Occasion = Callable[[Store], Awaitable[object]]


def reads(now_ms: int) -> Mapping[str, Sequence[Query[Any]]]:
    """By the function of `queries`, and its variant: what is asked for the big tenant and for a small one."""
    page: Any = {"before": None, "limit": 20}
    deep: Any = {"before": (now_ms - 10_000_000, "bot-1"), "limit": 20}
    return {
        "by_id": [queries.by_id(Bot, "bot-7"), queries.by_id(Lease, "none")],
        "account_state": [queries.account_state(BIG), queries.account_state(SMALL)],
        "accounts": [queries.accounts()],
        "accounts_due": [queries.accounts_due(now_ms, limit=20)],
        "open_leases": [queries.open_leases(BIG, limit=100), queries.open_leases(SMALL, limit=100)],
        "entries": [queries.entries(BIG, before_seq=10_000, limit=20), queries.entries(SMALL, before_seq=9, limit=20)],
        "usage": [
            queries.usage(BIG_APP, "meetings", limit=100),
            queries.usage(BIG_APP, "chat", limit=100),
            queries.usage(SMALL_APP, "none", limit=100),
        ],
        "apps": [queries.apps()],
        "apps of an account": [queries.apps(BIG), queries.apps(SMALL)],
        "app_of_subdomain": [queries.app_of_subdomain("sub-4"), queries.app_of_subdomain("")],
        "service_keys": [queries.service_keys(BIG), queries.service_keys(SMALL)],
        "secrets": [queries.secrets(BIG_APP, "env"), queries.secrets(SMALL_APP, "env")],
        "bots_page": [queries.bots_page(app, status=None, **page) for app in (BIG_APP, SMALL_APP)],
        "bots_page after a cursor": [queries.bots_page(app, status=None, **deep) for app in (BIG_APP, SMALL_APP)],
        "bots_page of a status": [
            queries.bots_page(app, status=status, **page)
            for app in (BIG_APP, SMALL_APP)
            for status in ("fatal", "done")
        ],
        "bots_page of a status, after a cursor": [
            queries.bots_page(BIG_APP, status=status, **deep) for status in ("fatal", "joining")
        ],
        "finished_bots": [
            queries.finished_bots(now_ms, after=(0, ""), limit=20),
            queries.finished_bots(now_ms, after=(now_ms - 10_000_000, "bot-1"), limit=20),
        ],
        "handles": [queries.handles("bot-7")],
        "history": [queries.history("bot-7")],
        "events_told": [queries.events_told("bot-7", limit=200), queries.events_told("none", limit=200)],
        "owed": [queries.owed("bot-2", BIG_APP, limit=32), queries.owed("bot-3999", SMALL_APP, limit=32)],
        "messages_page": [queries.messages_page(app, **page) for app in (BIG_APP, SMALL_APP)],
        "messages_page after a cursor": [queries.messages_page(app, **deep) for app in (BIG_APP, SMALL_APP)],
        "attempts": [
            queries.attempts("message-3"),
            queries.attempts(*[f"message-{n}" for n in range(20)]),
            queries.attempts(*[f"message-{n}" for n in range(101)]),
        ],
        "deliver_jobs": [queries.deliver_jobs(BIG_LANE), queries.deliver_jobs("deliver/app-1")],
        "jobs": [queries.jobs()],
        "due_jobs": [queries.due_jobs(now_ms, limit=30)],
        "totals": [queries.totals(limit=30)],
    }


WHOLE = {
    "accounts": "the whole table",
    "apps": "the whole table",
    "jobs": "the whole table",
    "totals": "every account and tally; of the queued messages no more than it counts",
}
"""What is read from end to end, because all of it is given, or added up."""
GENERIC = {"ids"}
"""These take any SQL."""


def asked(query: Query[Any]) -> Occasion:
    return lambda store: store.read(query)


@dataclass(frozen=True)
class Write:
    """Commands of one kind; the n-th is for the n-th thing of the big tenant."""

    command: Callable[[int], Command[Any]]

    async def lone(self, store: Store) -> None:
        await store.write(self.command(0))

    async def crowd(self, store: Store) -> None:
        """All at once, so that they share a transaction."""
        async with anyio.create_task_group() as tasks:
            for n in range(1, CROWD + 1):
                tasks.start_soon(store.write, self.command(n))


def in_call(n: int) -> str:
    """A bot of the big tenant that is in a call, paid for, and whose record nobody waits to read."""
    return f"bot-{21 * 4 * (5 * (10 + n) + 1)}"


def reserve(n: int) -> Reserve:
    return Reserve(
        account=BIG,
        app=BIG_APP,
        lease=f"chat-{n}",
        purpose="chat",
        amount=65,
        dimensions=("recording", "transcription"),
        rate_card="{}",
        paid_for_s=300,
        hold_s=3_600,
    )


def charge(n: int) -> Charge:
    return Charge(account=BIG, lease=f"chat-{n}", dimension="recording", quantity=44, amount=5)


def close(n: int) -> Charge:
    return Charge(account=BIG, lease=f"chat-{n}", dimension="transcription", quantity=44, amount=5)


def start(n: int) -> StartBot:
    given: dict[str, Any] = {name: "" if kind is str else 0 for name, kind in Bot.__annotations__.items()}
    given |= {"id": f"new-{n}", "account": BIG, "app": BIG_APP, "provider": "fake", "spawn": "calling"}
    given |= {"status": "joining", "recording": "mp4", "metadata": "{}", "duration_s": -1}
    return StartBot(
        bot=Bot(**given),
        rate_card={"recording": 600_000_000, "transcription": 180_000_000},
        hold_s=129_600,
        spawn_due_in_ms=30_000,
        caps=Caps(unadmitted=10_000, live=10_000),
    )


def created(n: int) -> SpawnCreated:
    return SpawnCreated(account=BIG, bot=f"new-{n}", handle=f"fake/new-{n}")


def event(n: int) -> NoteEvent:
    return NoteEvent(account=BIG, id=f"fake/new-{n}", provider="fake", bot=in_call(n), kind="bot.status", body="{}")


def renew(n: int) -> Renew:
    return Renew(account=BIG, app=BIG_APP, bot=in_call(n), call_limit_s=86_400)


def attempt(n: int) -> NoteAttempt:
    """The last message of a bot's queue is delivered, and its job ends."""
    number = 2 * (FULL + 2 + n)
    job = Job(
        id=f"deliver/bot-{number}",
        account=BIG,
        kind="deliver",
        lane=BIG_LANE,
        ref=f"bot-{number}",
        generation=0,
        due_ms=0,
        claimed_until_ms=0,
        attempts=0,
        created_ms=0,
    )
    return NoteAttempt(
        account=BIG,
        app=BIG_APP,
        message=f"message-{5 * number}",
        job=job,
        ends_job=True,
        attempt_id=f"message-{5 * number}/3/new",
        url="https://receiver.example/0",
        status=200,
        outcome="delivered",
        answer="",
        took_ms=5,
        is_step=True,
        is_last=False,
        disable=False,
    )


WRITES: Mapping[str, Write] = {
    "hold credit": Write(reserve),
    "charge a line": Write(charge),
    "charge the last line": Write(close),
    "start a bot, before the provider is called": Write(start),
    "start a bot, after": Write(created),
    "keep a provider's event": Write(event),
    "renew the hold of a bot in a call": Write(renew),
    "note a delivery, the last of its queue": Write(attempt),
}


AS_A_WRITE = {"holds that fall due", "an account that is not there", *WRITES}
"""They send nothing that other writes do not."""


async def claim(store: Store, *, limit: int = 128) -> Sequence[Job]:
    jobs, _ = await store.claim(KINDS, limit=limit, per_lane=FULL, hold_s=60)
    return jobs


async def sweep(store: Store) -> None:
    await store.write(Tick(account=BIG))


async def be_refused(store: Store) -> None:
    """An account that is not there has to be told from one that is locked."""
    with suppress(Refusal):
        await store.write(Grant(account="acct-none", key="k", amount=1))


async def prune(store: Store) -> None:
    await store.prune(limit=50)


def engine() -> Mapping[str, Occasion]:
    """What the engine sends for other reasons than a read, in an order in which each finds what it needs."""
    writes: dict[str, Occasion] = {}
    for name, write in WRITES.items():
        writes[name] = write.lone
        writes[f"{name}, {CROWD} at once"] = write.crowd
    return {
        "holds that fall due": sweep,
        "an account that is not there": be_refused,
        **writes,
        "claim jobs": partial(claim, limit=16),
        "the next job that falls due": partial(claim, limit=16),
        "give back claims, look for dead hosts": lambda store: store.recover(),
        "prune": prune,
    }


def started_now() -> ManualClock:
    return ManualClock(time.time_ns() // 1_000_000)
