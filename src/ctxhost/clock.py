"""Time is passed in. The wall clock for people, a manual one for tests; both count milliseconds since 1970 UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        ...

    async def sleep_until(self, due_ms: int) -> None:
        """Return once `now_ms()` has reached `due_ms`."""
        ...


class WallClock:
    """The computer's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, due_ms: int) -> None:
        # In slices, so that a clock that is set forward is noticed.
        while (left_ms := due_ms - self.now_ms()) > 0:  # noqa: ASYNC110 - nothing else can say that time has passed
            await anyio.sleep(min(left_ms / 1_000, 30))


class SharedClock(WallClock):
    """The clock of all hosts of one database, as the store knows it: theirs may be wrong, and differ."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms()


class ManualClock:
    """A clock that moves only when told to; sleepers wake when it has passed them."""

    def __init__(self, start_ms: int = 1_780_000_000_000) -> None:
        self._now_ms = start_ms
        self._moved = anyio.Event()

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, *, seconds: float = 0, ms: int = 0) -> None:
        """Move forward (or, to test a clock that is set back, with a negative value, backward)."""
        self.set(self._now_ms + int(seconds * 1_000) + ms)

    def set(self, now_ms: int) -> None:
        self._now_ms = now_ms
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def sleep_until(self, due_ms: int) -> None:
        while self._now_ms < due_ms:
            await self._moved.wait()


def rfc3339(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`: `2026-06-11T19:18:53.734Z`."""
    moment = datetime.fromtimestamp(ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03d}Z"


def month_of(ms: int) -> str:
    """The UTC month that an allowance belongs to: `2026-11`."""
    return f"{datetime.fromtimestamp(ms // 1_000, UTC):%Y-%m}"
