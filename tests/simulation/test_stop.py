"""A wish that a bot leaves is stored, and carried out until the provider obeys."""

import pytest
from tests.simulation.conftest import World
from tests.simulation.scripted import admitted, artifact, recording

from ctxhost.errors import BotNotFound, ProviderError, ProviderTimeout
from ctxhost.meetings.commands import WantStop
from ctxhost.meetings.provider import BotRecord
from ctxhost.store import queries
from ctxhost.store.rows import Bot, Job


async def stop(world: World, bot: str) -> None:
    await world.sim.host.meetings.stop(world.tenant.app.id, bot)


async def recording_bot(world: World) -> tuple[str, str]:
    """A scripted bot in its call: its id, and the provider's."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    provider_id, now_ms = f"p{len(world.scripted.records)}.{bot.id}", world.sim.clock.now_ms()
    running = recording(now_ms, 0, artifact("m", "processing"), artifact("t", "processing"))
    world.scripted.records[provider_id] = BotRecord(steps=admitted(now_ms), recordings=[running])
    await world.sim.run(for_s=60)
    return bot.id, provider_id


async def test_a_bot_is_told_until_it_has_left(world: World) -> None:
    """Once is not enough when the provider does not obey; once it has, it is left in peace."""
    bot, provider_id = await recording_bot(world)
    world.scripted.is_obedient = False
    await stop(world, bot)
    await world.sim.run(for_s=600)
    assert 10 < len(world.scripted.told_to_leave)
    assert "recording" == (await world.sim.get(world.tenant, bot)).status

    world.scripted.leave_now(provider_id)
    await world.sim.run()
    told = len(world.scripted.told_to_leave)
    ended_as = await world.sim.get(world.tenant, bot)
    assert ("done", "stopped") == (ended_as.status, ended_as.status_reason)
    await world.sim.run(for_s=3_600)
    assert told == len(world.scripted.told_to_leave)
    await world.check_quiet()


async def test_the_end_is_known_as_soon_as_it_has_left(world: World) -> None:
    """An obeyed stop needs no webhook: the record is read right after."""
    bot, _ = await recording_bot(world)
    await stop(world, bot)
    await world.sim.do_due()

    assert "done" == (await world.sim.get(world.tenant, bot)).status
    await world.check_quiet()


async def test_trouble_with_reading_does_not_keep_it_in_the_call(world: World) -> None:
    """A provider whose records cannot be read is told all the same."""
    bot, provider_id = await recording_bot(world)

    def broken(_: str) -> None:
        raise ProviderError("records are down")

    world.scripted.on_read = broken
    await stop(world, bot)
    await world.sim.do_due()
    assert [provider_id] == world.scripted.told_to_leave
    assert [] == world.scripted.live

    world.scripted.on_read = lambda provider_id: None
    await world.sim.run()
    assert "done" == (await world.sim.get(world.tenant, bot)).status
    await world.check_quiet()


async def test_a_wish_survives_a_restart(world: World) -> None:
    """What was answered 204 is carried out by whichever host lives."""
    bot, _ = await recording_bot(world)
    await stop(world, bot)
    await world.sim.restart()
    await world.sim.run()

    assert [] == world.scripted.live
    assert "stopped" == (await world.sim.get(world.tenant, bot)).status_reason
    await world.check_quiet()


async def test_stop_while_it_is_not_known_at_the_provider(world: World) -> None:
    """A bot whose making was not answered is told to leave as soon as it is found, and ends `cancelled`."""

    def silent(_: object) -> None:
        raise ProviderTimeout("no answer")

    world.scripted.after_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    await stop(world, bot.id)
    assert [] == world.scripted.told_to_leave
    await world.sim.run()

    assert [f"p1.{bot.id}"] == world.scripted.told_to_leave
    ended_as = await world.sim.get(world.tenant, bot.id)
    assert ("done", "cancelled") == (ended_as.status, ended_as.status_reason)
    await world.check_quiet()


async def test_a_stopped_bot_is_not_made_any_more(world: World) -> None:
    """Stopped before the provider had it: it is only looked for, and given up as `cancelled`."""

    def silent(_: object) -> None:
        raise ProviderTimeout("no answer")

    world.scripted.before_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    await stop(world, bot.id)
    world.scripted.before_create = lambda request: None
    await world.sim.run()

    assert {} == world.scripted.records
    ended_as = await world.sim.get(world.tenant, bot.id)
    assert ("done", "cancelled") == (ended_as.status, ended_as.status_reason)
    assert ["bot.done"] == world.inbox.events(bot.id)
    await world.check_quiet()


async def test_a_wish_between_the_making_and_its_answer_is_not_lost(world: World) -> None:
    """However the wish and the news of the bot cross, the bot is told."""
    wished: list[str] = []
    write = world.sim.host.store.write

    async def crossing(command: object) -> object:
        if type(command).__name__ == "WantStop":
            return await write(command)  # type: ignore[arg-type]
        done = await write(command)  # type: ignore[arg-type, var-annotated]
        if type(command).__name__ == "SpawnCreated" and not wished:
            wished.append(command.bot)  # type: ignore[attr-defined]
            await write(WantStop(account=world.tenant.account, bot=wished[0]))
        return done

    vars(world.sim.host.store)["write"] = crossing
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.do_due()

    assert [bot.id] == wished
    assert [f"p1.{bot.id}"] == world.scripted.told_to_leave


async def test_a_bot_that_its_provider_does_not_know_yet_is_told_again(world: World) -> None:
    """An index that lags behind must not swallow a stop."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    provider_id = f"p1.{bot.id}"
    record = world.scripted.records.pop(provider_id)
    await stop(world, bot.id)
    await world.sim.run(for_s=20)
    assert world.scripted.told_to_leave

    world.scripted.records[provider_id] = record
    await world.sim.run()
    assert [] == world.scripted.live
    assert "cancelled" == (await world.sim.get(world.tenant, bot.id)).status_reason
    await world.check_quiet()


@pytest.mark.parametrize(
    ("stopped", "status", "reason"),
    [(False, "fatal", "lost_by_provider"), (True, "done", "cancelled")],
)
async def test_a_bot_that_its_provider_has_forgotten(world: World, stopped: bool, status: str, reason: str) -> None:
    """After some time and tries it is taken for gone: broken down, or as it was told when it was told to leave."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    world.scripted.records.clear()
    if stopped:
        await stop(world, bot.id)
    await world.sim.run()

    ended_as = await world.sim.get(world.tenant, bot.id)
    assert (status, reason) == (ended_as.status, ended_as.status_reason)
    assert {} == await world.charged()
    await world.check_quiet()


async def test_one_wrong_answer_does_not_end_a_call(world: World) -> None:
    """A provider that does not know a bot for a moment, in the middle of its call, is asked again."""
    bot, provider_id = await recording_bot(world)
    await world.sim.run(for_s=1_200)
    record = world.scripted.records.pop(provider_id)
    await world.sim.run(for_s=330)
    world.scripted.records[provider_id] = record

    await world.sim.run(for_s=330)
    assert "recording" == (await world.sim.get(world.tenant, bot)).status


async def test_stopping_again_changes_nothing(world: World) -> None:
    """A second wish, and one after the end, are answered alike and do nothing."""
    bot, _ = await recording_bot(world)
    await stop(world, bot)
    await stop(world, bot)
    await world.sim.run()
    before = await world.sim.host.store.read(queries.by_id(Bot, bot))

    await stop(world, bot)
    await world.sim.run()
    assert before == await world.sim.host.store.read(queries.by_id(Bot, bot))
    assert await world.sim.host.store.read(queries.by_id(Job, f"leave/{bot}")) is None


async def test_a_bot_of_another_app_is_not_there(world: World) -> None:
    """Only its own app can stop a bot."""
    bot, _ = await recording_bot(world)
    other = await world.sim.open_tenant()

    with pytest.raises(BotNotFound):
        await world.sim.host.meetings.stop(other.app.id, bot)
    await world.sim.do_due()
    assert [] == world.scripted.told_to_leave
