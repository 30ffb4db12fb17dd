"""The limiter: never faster than Recall allows, never waiting beyond a deadline."""

from collections.abc import Callable
from typing import Any

import pytest

from ctxhost.clock import ManualClock
from ctxhost.errors import ProviderBusy
from ctxhost.meetings.provider import BotRequest
from ctxhost.rates import LocalRates
from ctxhost_recall.limits import PER_MINUTE, Deadline, Limiter, TooFast


async def test_a_burst_is_spread(stand: Any, asked: Callable[..., BotRequest]) -> None:
    """The emulator, which counts as Recall does, never has to say 429."""
    provider = stand.open(create_deadline_s=600)
    for n in range(130):
        await provider.create(asked(bot=f"bot-{n}"))

    assert {201} == {seen.status for seen in stand.emulator.calls("create")}
    assert 120_000 <= stand.clock.waited_ms <= 130_000


async def test_what_would_wait_too_long_is_busy(stand: Any, asked: Callable[..., BotRequest]) -> None:
    """It is told at once, with the time that there would be room."""
    provider = stand.open()
    for n in range(54):
        await provider.create(asked(bot=f"bot-{n}"))

    with pytest.raises(ProviderBusy) as refusal:
        await provider.create(asked(bot="one-too-many"))

    assert 60 == refusal.value.retry_after_s
    assert 54 == len(stand.emulator.bots)


async def test_scopes_do_not_wait_for_each_other(stand: Any, asked: Callable[..., BotRequest]) -> None:
    """A burst of new bots holds up no reading."""
    provider = stand.open()
    made = [await provider.create(asked(bot=f"bot-{n}")) for n in range(54)]
    await provider.read(made[0])

    assert 0 == stand.clock.waited_ms


@pytest.mark.parametrize("scope", [*PER_MINUTE, "transcribe/bot-1"])
async def test_no_minute_has_more_than_its_share(scope: str) -> None:
    """In any window of a minute, at 100 %, exactly the published number."""
    clock = ManualClock()
    limiter = Limiter(clock, LocalRates(clock).open, percent=100)
    allowed = PER_MINUTE[scope.partition("/")[0]]
    for _ in range(3):
        for _ in range(allowed):
            await limiter.enter(scope, Deadline(clock, seconds=1))
        with pytest.raises(TooFast):
            await limiter.enter(scope, Deadline(clock, seconds=1))
        clock.advance(seconds=60)


async def test_the_scopes_of_single_bots_are_forgotten() -> None:
    """Many bots do not fill the memory."""
    clock = ManualClock()
    limiter = Limiter(clock, LocalRates(clock).open, percent=100)
    for n in range(10_000):
        await limiter.enter(f"transcribe/{n}", Deadline(clock, seconds=1))

    assert len(limiter._rates) <= 4_096
