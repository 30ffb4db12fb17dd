"""Paying for a bot's time: what is held while it is in the call, and what happens when the credit does not reach."""

import json

import pytest
from tests.simulation.conftest import World
from tests.simulation.scripted import admitted, artifact, ended, recording, step

from ctxhost.ledger import rules
from ctxhost.meetings.model import FIRST_HOLD_S, cost_of
from ctxhost.meetings.provider import BotRecord, Phase
from ctxhost.store import queries
from ctxhost.store.rows import Job, Lease
from ctxhost.testing import NeverHappened

S = 1_000
FIRST_HOLD = 65_000_000


async def lease_of(world: World, bot: str) -> Lease:
    found = await world.sim.host.store.read(queries.by_id(Lease, bot))
    assert found is not None
    return found


async def renewal_of(world: World, bot: str) -> Job | None:
    return await world.sim.host.store.read(queries.by_id(Job, f"renew/{bot}"))


def price(seconds: int) -> int:
    return cost_of({"recording": 600_000_000, "transcription": 180_000_000}, seconds)


async def in_call(world: World, *, waits_s: int = 0) -> tuple[str, str, int]:
    """A scripted bot that is recording: its id, the provider's, and when it was admitted."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=waits_s)
    provider_id = f"p{len(world.scripted.records)}.{bot.id}"
    now_ms = world.sim.clock.now_ms()
    running = recording(now_ms, 0, artifact("m", "processing"), artifact("t", "processing"))
    world.scripted.records[provider_id] = BotRecord(steps=admitted(now_ms), recordings=[running])
    await world.sim.run(for_s=60)
    return bot.id, provider_id, now_ms


async def spend_all_but(world: World, nano_usd: int) -> None:
    account = (await world.sim.host.ledger.balance(world.tenant.account)).account
    await world.sim.host.ledger.adjust(account.id, nano_usd - account.available, key=f"spent-{nano_usd}", note="test")


async def test_a_bot_in_the_call_is_paid_ahead(world: World) -> None:
    """At all times what is held covers the time so far; each renewal brings it to 300 s more, in good time."""
    bot, _, started_ms = await in_call(world)
    paid_until = (await lease_of(world, bot)).paid_until_ms
    renewals = 0
    for _ in range(1_080):
        await world.sim.run(for_s=10)
        lease, job = await lease_of(world, bot), await renewal_of(world, bot)
        accrued_s = (world.sim.clock.now_ms() - started_ms) // S
        assert lease.held >= price(accrued_s) + price(60)
        assert job is not None
        assert 60 * S <= lease.paid_until_ms - job.due_ms <= 120 * S
        if lease.paid_until_ms != paid_until:
            renewals += 1
            paid_until = lease.paid_until_ms
            covered_s = (paid_until - started_ms) // S
            assert price(covered_s) == lease.held

    assert 10_800 // 210 - 1 <= renewals <= 10_800 // 210 + 1
    assert lease.held == await world.held()


async def test_waiting_adds_nothing(world: World) -> None:
    """A bot in the waiting room holds the first five minutes and no more, however long it is kept there."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    for _ in range(40):
        await world.sim.run(for_s=60)
        assert FIRST_HOLD == await world.held()

    assert "joining" == (await world.sim.get(world.tenant, bot.id)).status
    assert (await lease_of(world, bot.id)).paid_until_ms > world.sim.clock.now_ms() + 60 * S


async def test_a_scheduled_bot_is_not_renewed_before_it_joins(world: World) -> None:
    """Its first hold stands for days without any work."""
    bot = await world.sim.start(world.tenant, provider="scripted", joinAt="2026-06-10T00:00:00Z")

    job = await renewal_of(world, bot.id)
    assert job is not None
    assert 1_781_049_600_000 + 210 * S == job.due_ms


async def test_after_the_call_only_what_is_unbilled_is_held(world: World) -> None:
    """The hold shrinks to the call's own length at its end, and goes line by line as they are charged."""
    bot, provider_id, started_ms = await in_call(world)
    await world.sim.run(for_s=440)
    assert await world.held() > price(700)

    ended_ms = started_ms + 500 * S
    slow = recording(started_ms, ended_ms, artifact("m", "processing"), artifact("t", "processing"))
    steps = [*admitted(started_ms), *ended(ended_ms, finished=False)]
    world.scripted.records[provider_id] = BotRecord(steps=steps, recordings=[slow])
    await world.sim.run(until=lambda: _is(world, bot, "ended"))
    assert price(500) == await world.held()
    assert await renewal_of(world, bot) is None

    half = recording(started_ms, ended_ms, artifact("m"), artifact("t", "processing"))
    world.scripted.records[provider_id] = BotRecord(steps=steps, recordings=[half])
    await world.sim.run(for_s=60)
    assert cost_of({"transcription": 180_000_000}, 500) == await world.held()

    whole = recording(started_ms, ended_ms, artifact("m"), artifact("t"))
    world.scripted.records[provider_id] = BotRecord(steps=[*steps, step(Phase.DONE, ended_ms)], recordings=[whole])
    await world.sim.run()
    await world.check_quiet()
    assert price(500) == sum(amount for _, amount in (await world.charged()).values())


async def test_when_the_credit_ends_the_bot_leaves_in_time(world: World) -> None:
    """It is said once, the bot leaves before what is held is used up, and everything it made is paid in full."""
    bot, *_ = await in_call(world)
    await spend_all_but(world, 0)
    await world.sim.run()

    ended_as = await world.sim.get(world.tenant, bot)
    assert ("done", "insufficient_credits") == (ended_as.status, ended_as.status_reason)
    assert ended_as.duration_seconds is not None
    assert 260 <= ended_as.duration_seconds <= 300
    assert ["bot.in_call_recording", "credits.low", "recording.done", "transcript.done", "bot.done"] == list(
        world.inbox.events(bot)
    )
    entries = await world.sim.host.ledger.entries(world.tenant.account)
    assert ["", ""] == [entry.mark for entry in entries if entry.kind == "charge"]
    assert price(ended_as.duration_seconds) == sum(amount for _, amount in (await world.charged()).values())
    await world.check_quiet()


@pytest.mark.parametrize("waits_s", [0, 100, 205, 215, 600])
async def test_a_bot_gets_what_was_held_for_it(world: World, waits_s: int) -> None:
    """However long it waited to be admitted: without any more credit it may stay for the five minutes held for it."""
    await world.sim.start(world.tenant, provider="scripted")
    *_, started_ms = await in_call(world, waits_s=waits_s)
    await spend_all_but(world, 0)
    await world.sim.run(until=lambda: bool(world.scripted.told_to_leave))

    assert 260 * S <= world.sim.clock.now_ms() - started_ms <= 280 * S


async def test_a_top_up_in_time_keeps_the_bot(world: World) -> None:
    """Credit that comes after `credits.low` and before the end carries the call on; low again is not said again."""
    bot, _, _ = await in_call(world)
    await spend_all_but(world, 0)
    await world.sim.run(until=lambda: "credits.low" in world.inbox.events(bot))
    await world.sim.host.credits.grant(world.tenant.account, price(400), key="top-up")
    await world.sim.run(for_s=200)
    assert [] == world.scripted.told_to_leave

    await world.sim.run()
    ended_as = await world.sim.get(world.tenant, bot)
    assert "insufficient_credits" == ended_as.status_reason
    assert 1 == world.inbox.events(bot).count("credits.low")
    await world.check_quiet()


async def test_an_overdraft_carries_it_further(world: World) -> None:
    """An account that may go into debt is renewed out of it."""
    bot, _, _ = await in_call(world)
    await spend_all_but(world, 0)
    await world.sim.host.ledger.set_terms(world.tenant.account, monthly_allowance=0, overdraft=price(3_600))
    await world.sim.run(for_s=3_000)

    assert "recording" == (await world.sim.get(world.tenant, bot)).status
    assert [] == world.scripted.told_to_leave


async def test_the_longest_call(world: World) -> None:
    """A call is paid for up to the operator's limit; there the bot leaves, and all is delivered."""
    world.sim.settings.meetings.call_limit_s = 1_000
    bot, *_ = await in_call(world)
    await world.sim.run()

    ended_as = await world.sim.get(world.tenant, bot)
    assert ("done", "call_limit", 1_000) == (ended_as.status, ended_as.status_reason, ended_as.duration_seconds)
    await world.check_quiet()


async def test_a_host_that_was_down_pays_what_it_missed(world: World) -> None:
    """After an hour without any renewal the next one covers all of it; nothing of the call is lost or free."""
    bot, _, started_ms = await in_call(world)
    world.sim.clock.advance(seconds=3_600)
    await world.sim.restart()
    await world.sim.do_due()

    accrued_s = (world.sim.clock.now_ms() - started_ms) // S
    assert price(accrued_s + FIRST_HOLD_S) == await world.held()
    lease = await lease_of(world, bot)
    assert {"recording", "transcription"} == set(rules.names(lease.open)) == set(json.loads(lease.rate_card))


async def test_artifacts_are_awaited_for_half_an_hour(world: World) -> None:
    """A hold does not outlive the wait for artifacts, and `bot.done` comes then at the latest."""
    bot, provider_id, started_ms = await in_call(world)
    ended_ms = world.sim.clock.now_ms()
    slow = recording(started_ms, ended_ms, artifact("m", "processing"), artifact("t", "processing"))
    steps = [*admitted(started_ms), *ended(ended_ms, finished=False)]
    world.scripted.records[provider_id] = BotRecord(steps=steps, recordings=[slow])

    with pytest.raises(NeverHappened):
        await world.sim.run(until=lambda: _is(world, bot, "done"), for_s=1_799)
    await world.sim.run(for_s=2)
    assert "done" == (await world.sim.get(world.tenant, bot)).status
    assert 0 == await world.held()
    assert ["recording.failed", "bot.done"] == list(world.inbox.events(bot))[-2:]


async def _is(world: World, bot: str, status: str) -> bool:
    return (await world.sim.get(world.tenant, bot)).status == status
