"""Finished bots go when the operator says after how long; whatever is not finished stays, and so do the books."""

from collections.abc import Sequence

import pytest
from tests.simulation.conftest import World
from tests.simulation.scripted import SIGNED, event

from ctxhost.clock import rfc3339
from ctxhost.errors import BotNotFound, ProviderTimeout
from ctxhost.ledger.verify import verify
from ctxhost.meetings.commands import NoteEvent, WantMediaDeleted, WantStop
from ctxhost.meetings.provider import BotRequest
from ctxhost.meetings.requests import parse_list
from ctxhost.retention import Retention
from ctxhost.settings import RetentionSettings
from ctxhost.store import Query, queries

DAY_S = 86_400


def _retention(world: World, days: int | None = 7) -> Retention:
    return Retention(world.sim.host.store, RetentionSettings(bot_days=days), world.sim.clock)


async def _listed(world: World) -> list[str]:
    page = await world.sim.host.meetings.list(world.tenant.app.id, parse_list([]))
    return [bot.id for bot in page.bots]


async def _rows_about(world: World, bot: str) -> int:
    """Handles and steps of its history."""
    handles = await world.sim.host.store.read(queries.handles(bot))
    history = await world.sim.host.store.read(queries.history(bot))
    return len(handles) + len(history)


async def test_a_finished_bot_goes_and_what_it_cost_stays(world: World) -> None:
    """It is not found any more; its charges and lease are where they were, and the books are right."""
    bot = (await world.sim.start(world.tenant, provider="fake")).id
    await world.sim.run()
    charged, left = await world.charged(), await world.credits()
    early = await _retention(world).catch_up()
    found = await _rows_about(world, bot)
    world.sim.clock.advance(seconds=8 * DAY_S)
    await _retention(world).catch_up()

    assert 0 == early
    assert found > 2
    with pytest.raises(BotNotFound):
        await world.sim.get(world.tenant, bot)
    assert [] == await _listed(world)
    assert 0 == await _rows_about(world, bot)
    assert (charged, left) == (await world.charged(), await world.credits())
    assert 2 == len(charged)
    assert [] == await verify(world.sim.host.store)


async def test_for_ever_is_the_default(world: World) -> None:
    """Nobody loses a recording's record unasked."""
    bot = (await world.sim.start(world.tenant, provider="fake")).id
    await world.sim.run()
    world.sim.clock.advance(seconds=400 * DAY_S)
    await _retention(world, days=None).catch_up()

    assert [bot] == await _listed(world)


async def test_what_is_not_finished_stays(world: World) -> None:
    """A bot that joins much later, one in its call, and a finished one whose message is still owed."""

    async def refuse(*_: object) -> int:
        return 503

    async def owed_is_done() -> bool:
        return (await world.sim.get(world.tenant, owed)).status == "done"

    world.inbox.behaviour = refuse
    owed = (await world.sim.start(world.tenant, provider="fake")).id
    await world.sim.run(owed_is_done)
    later = rfc3339(world.sim.clock.now_ms() + 20 * DAY_S * 1_000)
    scheduled = (await world.sim.start(world.tenant, joinAt=later)).id
    live = (await world.sim.start(world.tenant, provider="scripted")).id
    world.sim.clock.advance(seconds=8 * DAY_S)
    await _retention(world).catch_up()

    assert {owed, scheduled, live} == set(await _listed(world))
    assert all([await _rows_about(world, bot) for bot in (owed, scheduled, live)])


async def test_a_webhook_about_a_bot_that_has_gone_is_kept_as_nobodys(world: World) -> None:
    """Providers may repeat themselves late; nothing fails, and nothing comes back."""
    bot = (await world.sim.start(world.tenant, provider="scripted")).id
    (provider_id,) = world.scripted.records
    world.scripted.leave_now(provider_id)
    await world.sim.run()
    world.sim.clock.advance(seconds=8 * DAY_S)
    await _retention(world).catch_up()
    assert [] == await _listed(world)
    await world.sim.host.inbound.receive("scripted", SIGNED, event("late", provider_id=provider_id, bot=bot))
    await world.sim.run()
    (kept,) = await world.sim.host.store.read(Query("select account, bot from inbound_event", list))

    assert ("", "") == tuple(kept)
    assert [] == await _listed(world)
    assert 0 == await _rows_about(world, bot)
    await world.check_quiet()


async def test_a_bot_that_may_still_come_is_not_forgotten(world: World) -> None:
    """Given up long ago, for its provider was silent: should it join on its day, it is told to leave."""

    def is_silent(_: BotRequest) -> None:
        raise ProviderTimeout("silent")

    async def finds_nothing(bot: str) -> Sequence[str]:
        return []

    world.scripted.before_create, find = is_silent, world.scripted.find
    world.scripted.find = finds_nothing  # type: ignore[method-assign]
    joins = rfc3339(world.sim.clock.now_ms() + 20 * DAY_S * 1_000)
    bot = (await world.sim.start(world.tenant, provider="scripted", joinAt=joins)).id
    await world.sim.run(for_s=2 * DAY_S)
    assert "spawn_failed" == (await world.sim.get(world.tenant, bot)).status_reason
    provider_id = world.scripted.add(bot)  # it had been made all the same
    world.scripted.find = find  # type: ignore[method-assign]
    world.sim.clock.advance(seconds=18 * DAY_S)
    await _retention(world).catch_up()
    await world.sim.host.inbound.receive("scripted", SIGNED, event("joined", provider_id=provider_id, bot=bot))
    await world.sim.run(for_s=60)

    assert [provider_id] == world.scripted.told_to_leave
    world.sim.clock.advance(seconds=5 * DAY_S)
    await _retention(world).catch_up()
    assert [] == await _listed(world)
    await world.check_quiet()


async def test_a_bot_that_goes_while_it_is_asked_for_is_not_found(world: World) -> None:
    """Whoever had seen it just before hears what everybody hears afterwards; a webhook is kept as nobody's."""
    bot = (await world.sim.start(world.tenant, provider="fake")).id
    await world.sim.run()
    world.sim.clock.advance(seconds=8 * DAY_S)
    await _retention(world).catch_up()
    account, store = world.tenant.account, world.sim.host.store
    for command in (WantStop(account=account, bot=bot), WantMediaDeleted(account=account, bot=bot)):
        with pytest.raises(BotNotFound):
            await store.write(command)
    seen = NoteEvent(account=account, id="fake/late", provider="fake", bot=bot, kind="bot.done", body="{}")
    assert await store.write(seen)

    assert [("", "bot.done")] == await store.read(
        Query("select bot, kind from inbound_event where id = 'fake/late'", lambda rows: list(map(tuple, rows)))
    )
    await world.check_quiet()
