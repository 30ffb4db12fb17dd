"""A pair is one reservation and the two charges that close it: the work that the ledger's benchmarks are made of."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ctxhost.ids import new_uuid
from ctxhost.ledger.commands import Charge, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store
from ctxhost.store.open import open_store

FUNDS = 10**15
LINES = (("recording", 7_333_333), ("transcription", 2_200_000))
HOLD = 65_000_000
SECONDS = 44
PAID_FOR_S, HOLD_S = 300, 3_600
WARM_UP_S = 0.3


class Side(Protocol):
    """One of those that are compared."""

    async def reserve(self, account: str, lease: str) -> None: ...
    async def charge(self, account: str, lease: str, line: str, amount: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Batched:
    """The store as it is."""

    store: Store

    async def reserve(self, account: str, lease: str) -> None:
        await self.store.write(
            Reserve(
                account=account,
                app="app",
                lease=lease,
                purpose="meetings",
                amount=HOLD,
                dimensions=tuple(line for line, _ in LINES),
                rate_card="{}",
                paid_for_s=PAID_FOR_S,
                hold_s=HOLD_S,
            )
        )

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        await self.store.write(Charge(account=account, lease=lease, dimension=line, quantity=SECONDS, amount=amount))


@dataclass(slots=True)
class Count:
    """What one side has done so far."""

    pairs_ms: list[float] = field(default_factory=list)
    """How long each pair took."""
    lasted_s: float = 0

    @property
    def per_s(self) -> float:
        return len(self.pairs_ms) / self.lasted_s

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.pairs_ms)

    @property
    def p99_ms(self) -> float:
        return sorted(self.pairs_ms)[int(len(self.pairs_ms) * 0.99)]


def names_of(accounts: int) -> list[str]:
    return [f"acct-{n:04}" for n in range(accounts)]


async def funded(database: str, *, accounts: int) -> Store:
    """A store with accounts that have more than they will ever spend."""
    store = await open_store(database)

    async def fund(name: str) -> None:
        await Ledger(store).open_account("bench", account=name)
        await Ledger(store).grant(name, FUNDS, key="funds")

    await asyncio.gather(*map(fund, names_of(accounts)))
    return store


async def take_turns(
    sides: Sequence[Side], accounts: Sequence[str], *, callers: int, rounds: int, round_s: float
) -> list[Count]:
    """What each side does in rounds that take turns; one before them warms up."""
    counts = [Count() for _ in sides]
    for n in range(rounds + 1):
        for side, count in zip(sides, counts, strict=True):
            lasts_s = round_s if n else min(round_s, WARM_UP_S)
            done = await call(side, accounts, callers=range(callers), round_s=lasts_s)
            if n:
                count.pairs_ms += done.pairs_ms
                count.lasted_s += done.lasted_s
    return counts


async def call(side: Side, accounts: Sequence[str], *, callers: Sequence[int], round_s: float) -> Count:
    """One round of callers, by their numbers."""
    started = time.perf_counter()
    done = await asyncio.gather(*[_keep_on(side, accounts, caller, until=started + round_s) for caller in callers])
    return Count([took_ms for some in done for took_ms in some], time.perf_counter() - started)


async def _keep_on(side: Side, accounts: Sequence[str], caller: int, *, until: float) -> list[float]:
    """One caller: pair after pair, at least one, until the time is over; how long each took."""
    took_ms: list[float] = []
    chance = random.Random(f"{caller} {until}")
    started = time.perf_counter()
    while True:
        account, lease = chance.choice(accounts), new_uuid()
        await side.reserve(account, lease)
        for line, amount in LINES:
            await side.charge(account, lease, line, amount)
        now = time.perf_counter()
        took_ms.append((now - started) * 1_000)
        if now >= until:
            return took_ms
        started = now
