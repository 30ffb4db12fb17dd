"""From a wish to a bot: one or none, whatever fails in between, and never a hold or a bot that nobody knows of."""

import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.simulation.conftest import World
from tests.simulation.outages import Plug, process
from tests.simulation.scripted import SIGNED, Scripted, admitted, artifact, ended, event, recording

from ctxhost.clock import ManualClock
from ctxhost.errors import IdempotencyConflict, InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout, Refusal
from ctxhost.ledger.verify import verify
from ctxhost.meetings.commands import handle_id
from ctxhost.meetings.provider import BotRecord, BotRequest
from ctxhost.store import queries
from ctxhost.store.rows import Bot, Handle, Job
from ctxhost.testing import Simulation, Tenant

ACCOUNT, APP = "acct_one", "app_one"
DAY_S = 86_400


async def tenant_of(sim: Simulation) -> Tenant:
    """The same tenant in every life of the process."""
    account = await sim.host.ledger.open_account("one", account=ACCOUNT)
    await sim.host.credits.grant(ACCOUNT, 1_000_000_000, key="first")
    return Tenant(account.id, await sim.host.tenants.create_app(ACCOUNT, "one", app=APP), "")


async def prepare(folder: Path, clock: ManualClock) -> None:
    """A database with the tenant and its endpoint in it."""

    async def body(sim: Simulation) -> None:
        await sim.receive(await tenant_of(sim))

    await process(folder, clock, Scripted(clock), Plug(), body)


async def start(sim: Simulation) -> None:
    """What a caller does: start a bot, and repeat it with the same key when there was no answer."""
    app = await sim.host.tenants.app(APP)
    while True:
        try:
            await sim.start(Tenant(ACCOUNT, app, ""), idempotency_key="only")
        except IdempotencyConflict:
            due_ms = await sim.next_due_ms()
            assert due_ms is not None
            sim.clock.set(max(sim.clock.now_ms(), due_ms))
            await sim.do_due()
        else:
            return


async def start_and_follow(sim: Simulation) -> None:
    await start(sim)
    await sim.run(for_s=120)


async def one_whole_life(sim: Simulation) -> None:
    """A happy bot from its start to its end."""
    await start(sim)
    (bot,) = await sim.host.store.read(queries.bots_page(APP, status=None, before=None, limit=5))
    provider = sim.host.providers["scripted"]
    assert isinstance(provider, Scripted)
    now_ms = bot.created_ms
    live = recording(now_ms, now_ms + 44_000, artifact("m"), artifact("t"))
    provider.records[bot.provider_id] = BotRecord(steps=[*admitted(now_ms), *ended(now_ms + 44_000)], recordings=[live])
    await sim.run()


async def check_one_bot(sim: Simulation, provider: Scripted, *, alive: int) -> None:
    """One bot of ours, one at the provider, each knowing of the other."""
    bots = await sim.host.store.read(queries.bots_page(APP, status=None, before=None, limit=5))
    assert 1 == len(bots)
    assert "created" == bots[0].spawn
    assert [bots[0].provider_id] == list(provider.records)
    handles = await sim.host.store.read(queries.handles(bots[0].id))
    assert [(handle_id("scripted", bots[0].provider_id), 1)] == [(handle.id, handle.wanted) for handle in handles]
    assert alive == len(provider.live)
    assert [] == await verify(sim.host.store)


async def undisturbed(folder: Path, body: Callable[[Simulation], Awaitable[None]]) -> int:
    """How many steps it takes when nothing happens to it."""
    clock, plug = ManualClock(), Plug()
    await process(folder, clock, Scripted(clock), plug, body)
    return plug.steps


async def test_a_crash_at_every_step_of_a_start(tmp_path: Path) -> None:
    """Wherever the process dies while it starts a bot, the restarted one ends with one bot, held for once.

    And wherever that one dies in turn while it looks for the bot, so does a third.
    """
    await prepare(tmp_path / "empty", ManualClock())
    steps = await undisturbed(shutil.copytree(tmp_path / "empty", tmp_path / "whole"), start)
    assert steps >= 6
    for first in range(1, steps + 1):
        clock, died = ManualClock(), tmp_path / f"{first}"
        start_ms, provider = clock.now_ms(), Scripted(clock)
        await process(shutil.copytree(tmp_path / "empty", died), clock, provider, Plug(first), start)
        for second in (None, *range(1 + first % 2, 16, 2)):
            folder, twin = shutil.copytree(died, tmp_path / f"{first}-{second}"), provider.twin()
            clock.set(start_ms)
            if second is not None:
                await process(folder, clock, twin, Plug(second), start_and_follow)
            await process(folder, clock, twin, Plug(), partial(check_start, twin))


async def check_start(provider: Scripted, sim: Simulation) -> None:
    await start_and_follow(sim)
    await check_one_bot(sim, provider, alive=1)
    assert 65_000_000 == (await sim.host.ledger.balance(ACCOUNT)).account.held


async def test_a_crash_in_a_life(tmp_path: Path) -> None:
    """Wherever the process dies in a bot's life, the books and the messages are those of an undisturbed one."""
    await prepare(tmp_path / "empty", ManualClock())
    steps = await undisturbed(shutil.copytree(tmp_path / "empty", tmp_path / "whole"), one_whole_life)
    assert steps > 60
    for cut in range(8, steps + 1, 7):
        clock, folder = ManualClock(), shutil.copytree(tmp_path / "empty", tmp_path / f"{cut}")
        provider, received = Scripted(clock), list[str]()
        await process(folder, clock, provider, Plug(cut), partial(noting, received, one_whole_life))
        await process(folder, clock, provider, Plug(), partial(noting, received, partial(check_life, provider)))

        assert 4 == len(set(received))


async def noting(received: list[str], body: Callable[[Simulation], Awaitable[None]], sim: Simulation) -> None:
    """Keep the ids of the messages that arrive."""
    inbox = await sim.receive(Tenant(ACCOUNT, await sim.host.tenants.app(APP), ""))
    try:
        await body(sim)
    finally:
        received += [message.id for message in inbox.accepted]


async def check_life(provider: Scripted, sim: Simulation) -> None:
    await one_whole_life(sim)
    await check_one_bot(sim, provider, alive=0)
    balance = await sim.host.ledger.balance(ACCOUNT)
    assert (0, 1_000_000_000 - 9_533_333) == (balance.account.held, balance.balance)
    messages = [one.message for one in await sim.host.webhooks.deliveries(APP)]
    assert ["delivered"] * 4 == [message.state for message in messages]


def silent(_: BotRequest) -> None:
    raise ProviderTimeout("no answer")


def once(error: Exception) -> Callable[[BotRequest], None]:
    """Fails the first time."""
    errors = [error]

    def fail(_: BotRequest) -> None:
        if errors:
            raise errors.pop()

    return fail


def first_silent_then(error: Exception, *, times: int = 10_000) -> Callable[[BotRequest], None]:
    errors: list[Exception] = [ProviderTimeout("no answer"), *[error] * times]

    def fail(_: BotRequest) -> None:
        if errors:
            raise errors.pop(0)

    return fail


async def row(world: World, bot: str) -> Bot:
    found = await world.sim.host.store.read(queries.by_id(Bot, bot))
    assert found is not None
    return found


async def test_a_silent_provider_that_made_the_bot(world: World) -> None:
    """The caller is answered `joining`; the bot is found, not made again, and is the caller's."""
    world.scripted.after_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    assert "joining" == bot.status
    assert "unknown" == (await row(world, bot.id)).spawn

    await world.sim.run(for_s=6)
    assert ("created", f"p1.{bot.id}") == ((await row(world, bot.id)).spawn, (await row(world, bot.id)).provider_id)
    assert 1 == len(world.scripted.asked)
    assert 65_000_000 == await world.held()


async def test_a_silent_provider_that_did_not_make_the_bot(world: World) -> None:
    """It is asked again under the same key, and the bot comes to be."""
    world.scripted.before_create = once(ProviderTimeout("no answer"))
    bot = await world.sim.start(world.tenant, provider="scripted")

    await world.sim.run(for_s=6)
    assert "created" == (await row(world, bot.id)).spawn
    assert [1, 1] == [request.attempt for request in world.scripted.asked]
    assert 1 == len(world.scripted.records)


async def test_a_bot_that_cannot_be_found_yet_is_not_made_twice(world: World) -> None:
    """Where the provider's index lags behind, the same key gives the same bot."""
    world.scripted.after_create = once(ProviderTimeout("no answer"))
    found = world.scripted.find
    world.scripted.find = _blind  # type: ignore[method-assign]
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=60)
    world.scripted.find = found  # type: ignore[method-assign]

    assert "created" == (await row(world, bot.id)).spawn
    assert 1 == len(world.scripted.records)


async def _blind(bot: str) -> list[str]:
    return []


async def test_a_provider_that_breaks_in_an_unknown_way(world: World) -> None:
    """An error that is none of the protocol's says nothing about the bot: it is looked for."""
    world.scripted.after_create = once(RuntimeError("bug in the adapter"))

    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=6)
    assert "created" == (await row(world, bot.id)).spawn


async def test_a_bot_that_is_never_found_is_given_up(world: World) -> None:
    """After the key's window it is only looked for; after a day it ends, the hold returns and its app is told."""
    world.scripted.before_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=DAY_S - 1)
    assert 65_000_000 == await world.held()
    asked_by_then = len(world.scripted.asked)
    await world.sim.run()

    assert ("fatal", "spawn_failed") == _end(await row(world, bot.id))
    assert ["bot.fatal"] == world.inbox.events(bot.id)
    assert asked_by_then == len(world.scripted.asked)
    assert 20 > asked_by_then
    await world.check_quiet()


async def test_a_bot_that_comes_after_it_was_given_up_is_told_to_leave(world: World) -> None:
    """No orphan: a provider's webhook about a bot that was given up has it leave."""
    world.scripted.before_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run()

    orphan = world.scripted.add(bot.id)
    await world.sim.host.inbound.receive("scripted", SIGNED, event("e1", provider_id=orphan, bot=bot.id))
    await world.sim.run()

    assert [orphan] == world.scripted.told_to_leave
    assert [] == world.scripted.live
    assert ("fatal", "spawn_failed") == _end(await row(world, bot.id))
    assert {} == await world.charged()
    await world.check_quiet()


@pytest.mark.parametrize("refusal", [ProviderError("no"), InvalidRequest.of("meetingUrl", "no", "bad")])
async def test_a_refusal_after_silence_ends_the_bot(world: World, refusal: Refusal) -> None:
    """Nobody was told of a refusal, so the bot is `spawn_failed`, and its app hears of it."""
    world.scripted.before_create = first_silent_then(refusal)
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run()

    assert ("fatal", "spawn_failed") == _end(await row(world, bot.id))
    assert ["bot.fatal"] == world.inbox.events(bot.id)
    await world.check_quiet()


async def test_a_refusal_after_silence_is_not_believed_over_a_bot(world: World) -> None:
    """When the first call made a bot after all, it is ours, whatever the second was answered."""
    made: list[str] = []

    def refuse_the_second(request: BotRequest) -> None:
        if made:
            raise ProviderError("no")
        made.append(world.scripted.add(request.bot))
        raise ProviderTimeout("no answer")

    found, looks = world.scripted.find, iter([list[str]()])
    world.scripted.before_create = refuse_the_second

    async def late_index(bot: str) -> list[str]:
        return next(looks, list(await found(bot)))

    world.scripted.find = late_index  # type: ignore[method-assign]
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=6)

    assert ("created", made[0]) == ((await row(world, bot.id)).spawn, (await row(world, bot.id)).provider_id)


async def test_a_full_provider_after_silence_is_asked_again(world: World) -> None:
    """Being busy says nothing about the bot: the caller was promised one."""
    world.scripted.before_create = first_silent_then(ProviderBusy("full", retry_after_s=30), times=2)
    bot = await world.sim.start(world.tenant, provider="scripted")
    await world.sim.run(for_s=60)

    assert "created" == (await row(world, bot.id)).spawn
    assert 4 == len(world.scripted.asked)


async def test_two_hosts_that_search_at_once(world: World, tmp_path: Path, clock: ManualClock) -> None:
    """Both find or make the same bot."""
    world.scripted.before_create = once(ProviderTimeout("no answer"))
    bot = await world.sim.start(world.tenant, provider="scripted")
    jobs = await world.sim.host.store.read(queries.jobs())
    (spawn,) = [job for job in jobs if job.kind == "spawn"]
    other_host = Simulation(
        tmp_path, plugins=[world.scripted], clock=clock, encryption_keys=world.sim.settings.encryption_keys
    )

    async with other_host as other, anyio.create_task_group() as tasks:
        for host in (world.sim.host, other.host, world.sim.host, other.host):
            tasks.start_soon(host.meetings.spawner.search, spawn)

    assert "created" == (await row(world, bot.id)).spawn
    assert 1 == len(world.scripted.records)
    await world.sim.run(for_s=30)
    assert [] == world.scripted.told_to_leave


async def test_a_second_bot_is_told_to_leave_until_it_has(world: World) -> None:
    """Whatever made a second one at the provider, only the first is wanted; the other costs nobody anything."""
    world.scripted.before_create = silent
    bot = await world.sim.start(world.tenant, provider="scripted")
    first, second = world.scripted.add(bot.id), world.scripted.add(bot.id)
    world.scripted.is_obedient = False
    await world.sim.run(for_s=300)
    assert {second} == set(world.scripted.told_to_leave)
    assert 3 < len(world.scripted.told_to_leave)

    world.scripted.is_obedient = True
    await world.sim.run(for_s=120)
    assert [first] == world.scripted.live
    told = len(world.scripted.told_to_leave)
    await world.sim.run(for_s=3_600)
    assert told == len(world.scripted.told_to_leave)
    assert await world.sim.host.store.read(queries.by_id(Handle, handle_id("scripted", second))) is None
    assert first == (await row(world, bot.id)).provider_id


async def test_a_webhook_before_the_answer_adopts_and_does_not_answer(world: World) -> None:
    """An event may come before `create` has returned: the bot is known then, its messages wait for the caller."""
    go = anyio.Event()
    create = world.scripted.create
    provider_ids: list[str] = []

    async def slow(request: BotRequest) -> str:
        provider_ids.append(await create(request))
        await go.wait()
        return provider_ids[0]

    world.scripted.create = slow  # type: ignore[method-assign]
    started: list[str] = []

    async def call() -> None:
        started.append((await world.sim.start(world.tenant, provider="scripted")).id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        while not provider_ids:
            await anyio.lowlevel.checkpoint()
        bot = provider_ids[0].partition(".")[2]
        now_ms = world.sim.clock.now_ms()
        world.scripted.records[provider_ids[0]] = BotRecord(steps=admitted(now_ms))
        await world.sim.host.inbound.receive("scripted", SIGNED, event("e1", provider_id=provider_ids[0], bot=bot))
        await world.sim.run(for_s=30)
        assert "recording" == (await world.sim.get(world.tenant, bot)).status
        await world.sim.receive(world.tenant)  # has everything tried that waits
        await world.sim.do_due()
        assert [] == world.inbox.attempts
        go.set()
    await world.sim.do_due()
    assert [] == world.inbox.attempts
    await world.sim.run(for_s=1)

    assert ["bot.in_call_recording"] == world.inbox.events(bot)
    assert 1_000 == world.inbox.attempts[0].at_ms - (await row(world, bot)).answered_ms
    spawn_jobs = await world.sim.host.store.read(queries.by_id(Job, f"spawn/{bot}"))
    assert spawn_jobs is None


async def test_a_lost_answer_does_not_hold_messages_for_ever(tmp_path: Path, clock: ManualClock) -> None:
    """When the process dies after a webhook told of the bot and before its maker was answered, messages leave all the
    same once nobody can be waiting any more."""
    provider = Scripted(clock)
    await prepare(tmp_path, clock)
    plug = Plug()

    async def adopted(sim: Simulation) -> None:
        def then(request: BotRequest) -> None:
            provider.after_create = lambda request: None
            plug.pulled.set()

        provider.after_create = then
        await start(sim)

    await process(tmp_path, clock, provider, plug, adopted)

    async def told(sim: Simulation) -> None:
        (provider_id,) = provider.records
        bot = provider_id.partition(".")[2]
        provider.records[provider_id] = BotRecord(steps=admitted(clock.now_ms()))
        inbox = await sim.receive(Tenant(ACCOUNT, await sim.host.tenants.app(APP), ""))
        await sim.host.inbound.receive("scripted", SIGNED, event("e1", provider_id=provider_id, bot=bot))
        await sim.run(for_s=120)
        assert ["bot.in_call_recording"] == inbox.events(bot)

    await process(tmp_path, clock, provider, Plug(), told)


async def test_the_same_key_gives_the_same_bot(world: World) -> None:
    """A repeated start answers the bot as it was first answered, makes none and holds nothing more."""
    first = await world.sim.start(world.tenant, provider="fake", idempotency_key="k", joinAt="2026-01-01T00:00:00Z")
    await world.sim.run()
    again = await world.sim.start(world.tenant, provider="fake", idempotency_key="k", joinAt="2026-01-01T00:00:00Z")

    assert first == again
    with pytest.raises(IdempotencyConflict):
        await world.sim.start(world.tenant, provider="fake", idempotency_key="k")
    await world.check_quiet()


async def test_a_key_whose_bot_was_refused_may_be_used_again(world: World) -> None:
    """By many at once: one of them makes the bot, the others get it or are told that it is being made."""
    world.scripted.before_create = once(ProviderError("no"))
    with pytest.raises(ProviderError):
        await world.sim.start(world.tenant, provider="scripted", idempotency_key="k")
    outcomes: list[str] = []

    async def again() -> None:
        try:
            outcomes.append((await world.sim.start(world.tenant, provider="scripted", idempotency_key="k")).id)
        except IdempotencyConflict:
            outcomes.append("")

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(again)

    assert 1 == len(set(outcomes) - {""})
    assert 1 == len(world.scripted.records)
    assert 65_000_000 == await world.held()


async def test_the_operators_caps(world: World) -> None:
    """Bots that wait and bots that live are counted; a scheduled one waits for nobody."""
    for _ in range(10):
        await world.sim.start(world.tenant, provider="scripted")
    with pytest.raises(Refusal, match="wait to be admitted"):
        await world.sim.start(world.tenant, provider="scripted")
    with pytest.raises(Refusal, match="wait to be admitted"):
        await world.sim.start(world.tenant, provider="scripted", joinAt="2020-01-01T00:00:00Z")
    await world.sim.start(world.tenant, provider="scripted", joinAt="2026-06-01T00:00:00Z")

    one = world.sim.bots[0]
    world.scripted.leave_now(f"p1.{one}")
    await world.sim.run(for_s=60)
    await world.sim.start(world.tenant, provider="scripted")


def _end(bot: Bot) -> tuple[str, str]:
    return bot.status, bot.status_reason
