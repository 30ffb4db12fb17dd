"""The limiter: buckets that refill, on a clock that is moved by hand, and never more of them than were allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.api.limits import Limiter, network_of
from ctxhost.clock import ManualClock


def spend(limiter: Limiter, times: int, name: str = "a") -> int:
    """How many of so many tries went through."""
    went = 0
    for _ in range(times):
        if not limiter.wait_s(name):
            limiter.spend(name)
            went += 1
    return went


def test_a_minutes_worth_goes_at_once_and_comes_back_evenly() -> None:
    """The whole allowance may be spent in one go; the wait that is told is the wait that is needed."""
    clock = ManualClock()
    limiter = Limiter(clock, per_minute=30)

    assert 30 == spend(limiter, 100)
    assert 2 == limiter.wait_s("a")
    clock.advance(seconds=2)
    assert 1 == spend(limiter, 100)
    clock.advance(seconds=3_600)
    assert 30 == spend(limiter, 100)


def test_each_name_has_its_own() -> None:
    """One caller's haste is no other's."""
    limiter = Limiter(ManualClock(), per_minute=1)

    assert (1, 1) == (spend(limiter, 5, "a"), spend(limiter, 5, "b"))


def test_memory_is_bounded() -> None:
    """With more names than are remembered, the one that was used longest ago is forgotten first."""
    limiter = Limiter(ManualClock(), per_minute=1, max_buckets=2)
    for name in "abc":
        limiter.spend(name)

    assert (0, True, True) == (limiter.wait_s("a"), limiter.wait_s("b") > 0, limiter.wait_s("c") > 0)


@given(st.integers(1, 100), st.lists(st.integers(-5_000, 90_000), max_size=20))
def test_never_more_than_was_allowed(per_minute: int, steps_ms: list[int]) -> None:
    """However the clock moves, also backwards, what goes through is at most the burst and what time gave back."""
    clock, start_ms = ManualClock(), ManualClock().now_ms()
    limiter = Limiter(clock, per_minute=per_minute)
    went = spend(limiter, per_minute + 5)
    forward_ms = 0
    for step_ms in steps_ms:
        clock.advance(ms=step_ms)
        forward_ms += max(step_ms, 0)
        went += spend(limiter, per_minute + 5)

    assert went <= per_minute + forward_ms * per_minute // 60_000
    assert clock.now_ms() >= start_ms or went >= per_minute


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("in-process", "in-process"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_caller(address: str, expected: str) -> None:
    """Whoever is given a /64 has all its addresses."""
    assert expected == network_of(address)
