"""Staying below Recall's published rates, so that a burst of ours waits here and not at a 429.

Recall counts the calls of a whole workspace, so the rates are shared by all hosts of one store.
"""

from collections import OrderedDict
from collections.abc import Mapping

from ctxhost.clock import Clock
from ctxhost.errors import RateExceeded
from ctxhost.hookspecs import OpenRate, Rate
from ctxhost_recall.settings import NAME

WINDOW_MS = 60_000
PER_MINUTE: Mapping[str, int] = {"create": 60, "list": 60, "one": 300, "transcribe": 5}
"""Published calls a minute: making bots, lists, whatever is about one object, and transcriptions of one bot."""
MAX_SCOPES = 4_096


class Deadline:
    """A point in time that is not waited beyond."""

    def __init__(self, clock: Clock, *, seconds: float) -> None:
        self._clock = clock
        self.at_ms = clock.now_ms() + int(seconds * 1_000)

    @property
    def left_s(self) -> float:
        return max(self.at_ms - self._clock.now_ms(), 0) / 1_000

    def allows(self, wait_s: float) -> bool:
        """Whether there is time left after such a wait."""
        return self._clock.now_ms() + wait_s * 1_000 < self.at_ms

    async def wait(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now_ms() + int(seconds * 1_000))


class TooFast(Exception):
    """There is no slot before the deadline; nothing was sent."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the next call may be made in {wait_s:.0f} s")
        self.wait_s = wait_s


class Limiter:
    """A rate for every scope. A scope is a kind of `PER_MINUTE`, or `kind/id` where each id has its own."""

    def __init__(self, clock: Clock, open_rate: OpenRate, *, percent: int) -> None:
        self._clock = clock
        self._open_rate = open_rate
        self._percent = percent
        self._rates: OrderedDict[str, Rate] = OrderedDict()
        self._held_until_ms: dict[str, int] = {}

    async def enter(self, scope: str, deadline: Deadline) -> None:
        """Wait for the next slot. Raises `TooFast`."""
        await self._out_hold(scope, deadline)
        try:
            await self._rate(scope).acquire(timeout_s=deadline.left_s)
        except RateExceeded as exceeded:
            raise TooFast(exceeded.wait_s) from None

    def hold(self, scope: str, *, seconds: float) -> None:
        """Give no slot for a while: Recall has said so."""
        until_ms = self._clock.now_ms() + int(seconds * 1_000)
        self._held_until_ms[scope] = max(self._held_until_ms.get(scope, 0), until_ms)

    async def _out_hold(self, scope: str, deadline: Deadline) -> None:
        wait_ms = self._held_until_ms.get(scope, 0) - self._clock.now_ms()
        if wait_ms <= 0:
            self._held_until_ms.pop(scope, None)
            return
        if not deadline.allows(wait_ms / 1_000):
            raise TooFast(wait_ms / 1_000)
        await deadline.wait(wait_ms / 1_000)

    def _rate(self, scope: str) -> Rate:
        """The rate of a scope; of many single objects, those that were asked about last."""
        if scope not in self._rates:
            allowed = max(PER_MINUTE[scope.partition("/")[0]] * self._percent // 100, 1)
            self._rates[scope] = self._open_rate(f"{NAME}/{scope}", limit=allowed, window_s=WINDOW_MS // 1_000)
        self._rates.move_to_end(scope)
        while len(self._rates) > MAX_SCOPES:
            self._held_until_ms.pop(self._rates.popitem(last=False)[0], None)
        return self._rates[scope]
