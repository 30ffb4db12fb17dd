"""Staying below Recall's published rates, so that a burst of ours waits here and not at a 429.

The limiter counts the calls of this process. Recall counts those of the whole workspace: several processes on one key
share its rates by a lower `rate_limit_percent`.
"""

from collections import deque
from collections.abc import Mapping

from ctxhost.clock import Clock

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
    """A sliding window for every scope. A scope is a kind of `PER_MINUTE`, or `kind/id` where each id has its own."""

    def __init__(self, clock: Clock, *, percent: int) -> None:
        self._clock = clock
        self._percent = percent
        self._given: dict[str, deque[int]] = {}
        self._held_until_ms: dict[str, int] = {}

    async def enter(self, scope: str, deadline: Deadline) -> None:
        """Wait for the next slot. Raises `TooFast`."""
        now_ms = self._clock.now_ms()
        given = self._given.get(scope) or deque(maxlen=self._allowed(scope))
        at_ms = max(now_ms, self._held_until_ms.get(scope, 0))
        if len(given) == given.maxlen:
            at_ms = max(at_ms, given[0] + WINDOW_MS)
        if at_ms > now_ms and not deadline.allows((at_ms - now_ms) / 1_000):
            raise TooFast((at_ms - now_ms) / 1_000)
        given.append(at_ms)
        if scope not in self._given and len(self._given) >= MAX_SCOPES:
            self._forget()
        self._given[scope] = given
        await self._clock.sleep_until(at_ms)

    def hold(self, scope: str, *, seconds: float) -> None:
        """Give no slot for a while: Recall has said so."""
        until_ms = self._clock.now_ms() + int(seconds * 1_000)
        self._held_until_ms[scope] = max(self._held_until_ms.get(scope, 0), until_ms)

    def _allowed(self, scope: str) -> int:
        return max(PER_MINUTE[scope.partition("/")[0]] * self._percent // 100, 1)

    def _forget(self) -> None:
        """Drop the single objects that nothing was asked about for a window, or the oldest quarter of them."""
        single = [scope for scope in self._given if "/" in scope]
        past_ms = self._clock.now_ms() - WINDOW_MS
        old = [scope for scope in single if self._given[scope][-1] < past_ms]
        for scope in old or single[: MAX_SCOPES // 4]:
            del self._given[scope]
            self._held_until_ms.pop(scope, None)
