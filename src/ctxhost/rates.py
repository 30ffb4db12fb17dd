"""Rates that all hosts of one store share: no window has more calls than its limit, whoever makes them.

What was taken of a rate is one row, and the store's clock decides. A host takes a few permits at once, as many as it
has used of late, so that a crowd of calls does not pay a durable write each; those that it does not use lapse soon. A
permit counts for longer than the window: for the time that it may be held, and for its call's way to where it is
counted.

While the store cannot be asked, a host goes on with its own share: the limit divided by the hosts that were seen last.
What it uses meanwhile is booked when the store is back. All hosts together may exceed the limit in the window in which
an outage begins, and at no other time.
"""

import json
import logging
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import anyio

from ctxhost.clock import Clock
from ctxhost.errors import RateExceeded
from ctxhost.ids import new_id
from ctxhost.store import Key, Store, View
from ctxhost.store.rows import PLATFORM, RateTaken

log = logging.getLogger("ctxhost.rates")

HELD_SHARE = 30
"""A permit may be held for this part of the window, if that is longer than `STORE_PATIENCE_S`, and be on its way for as
long again."""
BLOCK_SHARE = 10
"""A host takes no more than this part of the limit at once."""
MAX_WINDOW_S = 43_200
"""What was taken is kept for a day after the last time."""
STORE_PATIENCE_S = 2
AWAY_MS = 5_000
"""How long a store that could not be asked is left alone."""


class Taken(NamedTuple):
    """What the store said."""

    permits: int
    wait_ms: int
    """Until there is a permit; 0 when some were given."""
    hosts: int
    """That took any of late, the one that asks included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePermits:
    """Take up to so many permits of a rate. Repeated, it takes them twice, which errs on the safe side."""

    rate: str
    host: str
    wanted: int
    owed: int
    """Used already, while the store was away: they count from now on, whether there is room or not."""
    limit: int
    held_ms: int
    counts_ms: int
    """How long a permit counts."""

    @property
    def account(self) -> str:
        return PLATFORM

    def reads(self) -> Iterable[Key]:
        return [(RateTaken, self.rate)]

    def apply(self, view: View) -> Taken:
        stored = view.get(RateTaken, self.rate)
        taken = self._counting(stored, view.now_ms)
        # Rounded up, so that the row has few entries and none stops counting too early.
        step_ms = max(self.held_ms // 2, 1)
        at_ms = -(-view.now_ms // step_ms) * step_ms
        permits = max(min(self.wanted, self.limit - taken.total() - self.owed), 0)
        taken[at_ms, self.host] += permits + self.owed
        if permits or self.owed:
            told = [[at_ms, host, count] for (at_ms, host), count in sorted(taken.items()) if count]
            text = json.dumps(told, separators=(",", ":"))
            view.put(RateTaken(id=self.rate, account=PLATFORM, taken=text, at_ms=view.now_ms))
        hosts = {host for _, host in taken}
        return Taken(permits, 0 if permits else self._wait_ms(taken, view.now_ms), len(hosts))

    def _counting(self, stored: RateTaken | None, now_ms: int) -> Counter[tuple[int, str]]:
        """The permits that count now, by when and by whom they were taken."""
        told = json.loads(stored.taken) if stored is not None else []
        return Counter({(at_ms, host): count for at_ms, host, count in told if at_ms + self.counts_ms > now_ms})

    def _wait_ms(self, taken: Counter[tuple[int, str]], now_ms: int) -> int:
        """Until so many have stopped counting that there is room for one."""
        total = taken.total()
        for (at_ms, _), count in sorted(taken.items()):
            total -= count
            if total < self.limit:
                return at_ms + self.counts_ms - now_ms
        return self.counts_ms


class SharedRate:
    """One rate, as one host uses it."""

    def __init__(self, store: Store, clock: Clock, *, name: str, host: str, limit: int, window_s: int) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._host = host
        self._limit = limit
        self._window_ms = window_s * 1_000
        self._held_ms = max(self._window_ms // HELD_SHARE, STORE_PATIENCE_S * 1_000)
        self._asking = anyio.Lock()
        self._waiting = 0
        self._permits = 0
        self._lapse_ms = 0
        self._none_until_ms = 0
        self._away_until_ms = 0
        self._used: deque[int] = deque(maxlen=limit)
        """When this host used a permit."""
        self._owed = 0
        self._hosts = 1

    async def acquire(self, *, timeout_s: float) -> None:
        """Take a permit for one call that is made now. Waits for it as long as it may. Raises `RateExceeded`."""
        give_up_ms = self._clock.now_ms() + int(timeout_s * 1_000)
        self._waiting += 1
        try:
            while wait_ms := await self._try():
                now_ms = self._clock.now_ms()
                if now_ms + wait_ms >= give_up_ms:
                    raise RateExceeded(wait_s=wait_ms / 1_000)
                await self._clock.sleep_until(now_ms + wait_ms)
        finally:
            self._waiting -= 1

    async def _try(self) -> int:
        """0 when a permit was had, else the ms after which to try again."""
        async with self._asking:  # whoever is first asks for all
            now_ms = self._clock.now_ms()
            if self._use_permit():
                return 0
            if now_ms < self._none_until_ms:
                return self._none_until_ms - now_ms
            if now_ms < self._away_until_ms:
                return self._use_own_share(now_ms)
            return await self._ask(now_ms)

    def _use_permit(self) -> bool:
        """False if there is none, or if they lapsed: also while the store was asked, when this host stood still."""
        now_ms = self._clock.now_ms()
        if not self._permits or now_ms >= self._lapse_ms:
            return False
        self._permits -= 1
        self._used.append(now_ms)
        return True

    async def _ask(self, now_ms: int) -> int:
        command = self._command(now_ms)
        try:
            with anyio.fail_after(STORE_PATIENCE_S):
                taken = await self._store.write(command)
        except Exception as error:  # noqa: BLE001 - whatever ails the store, calls to a provider must go on
            log.warning("rate %s is not shared while the store is away: %s", self._name, error or type(error).__name__)
            self._away_until_ms = self._clock.now_ms() + AWAY_MS
            return self._use_own_share(self._clock.now_ms())
        self._owed -= command.owed
        self._hosts = taken.hosts
        if not taken.permits:
            self._none_until_ms = self._clock.now_ms() + taken.wait_ms
            return taken.wait_ms
        self._permits = taken.permits
        self._lapse_ms = now_ms + self._held_ms  # counted from before the store was asked, so never too late
        return 0 if self._use_permit() else 1

    def _command(self, now_ms: int) -> TakePermits:
        of_late = sum(at_ms > now_ms - self._held_ms for at_ms in self._used)
        return TakePermits(
            rate=self._name,
            host=self._host,
            wanted=min(max(self._waiting, of_late, 1), max(self._limit // BLOCK_SHARE, 1)),
            owed=self._owed,
            limit=self._limit,
            held_ms=self._held_ms,
            counts_ms=self._window_ms + 2 * self._held_ms,
        )

    def _use_own_share(self, now_ms: int) -> int:
        share = max(self._limit // self._hosts, 1)
        if len(self._used) >= share and self._used[-share] + self._window_ms > now_ms:
            return self._used[-share] + self._window_ms - now_ms
        self._used.append(now_ms)
        self._owed += 1
        return 0


class SharedRates:
    """The rates of one host's store: `rates.open("acme/create", limit=60, window_s=60)`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._host = new_id("host")

    def open(self, name: str, *, limit: int, window_s: int) -> SharedRate:
        """A rate that is shared by its name, whose limit and window are the same everywhere."""
        _check(limit, window_s)
        return SharedRate(self._store, self._clock, name=name, host=self._host, limit=limit, window_s=window_s)


class LocalRate:
    """A rate that this object alone counts. Slots are given in the order in which they are asked for."""

    def __init__(self, clock: Clock, *, limit: int, window_s: int) -> None:
        self._clock = clock
        self._window_ms = window_s * 1_000
        self._given: deque[int] = deque(maxlen=limit)

    async def acquire(self, *, timeout_s: float) -> None:
        """As `SharedRate.acquire`."""
        at_ms = now_ms = self._clock.now_ms()
        if len(self._given) == self._given.maxlen:
            at_ms = max(now_ms, self._given[0] + self._window_ms)
        if at_ms > now_ms and at_ms >= now_ms + int(timeout_s * 1_000):
            raise RateExceeded(wait_s=(at_ms - now_ms) / 1_000)
        self._given.append(at_ms)
        await self._clock.sleep_until(at_ms)


class LocalRates:
    """Rates without a store, for a provider that stands alone: each that is opened counts by itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def open(self, name: str, *, limit: int, window_s: int) -> LocalRate:
        """As `SharedRates.open`; the name does not matter."""
        _check(limit, window_s)
        return LocalRate(self._clock, limit=limit, window_s=window_s)


def _check(limit: int, window_s: int) -> None:
    if limit < 1 or not 1 <= window_s <= MAX_WINDOW_S:
        raise ValueError("a rate has a limit of 1 or more in a window of whole seconds, twelve hours at most")
