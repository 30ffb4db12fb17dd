"""Whatever becomes of a provider's webhooks, and whenever records are read: one outcome."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.simulation.conftest import World
from tests.simulation.scripted import SIGNED, admitted, artifact, ended, event, recording, step

from ctxhost.clock import ManualClock
from ctxhost.ledger.verify import verify
from ctxhost.meetings.commands import LookNow, NoteRecord
from ctxhost.meetings.lifecycle import RANK_OF_EVENT
from ctxhost.meetings.provider import Artifact, BotRecord, End, Phase, RecordingFact
from ctxhost.store.open import open_store

S = 1_000
LATE_S = 1_800


def happy(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 50 * S), artifact("t", updated_ms=t + 55 * S)
    return BotRecord(steps=_call(t, 47), recordings=[recording(t + 3 * S, t + 47 * S, media, speech)])


def long_enough_to_be_renewed(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 905 * S), artifact("t", updated_ms=t + 1_200 * S)
    return BotRecord(steps=_call(t, 900), recordings=[recording(t + 3 * S, t + 900 * S, media, speech)])


def kicked(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 80 * S), artifact("t", updated_ms=t + 90 * S)
    steps = _call(t, 30, End.KICKED, "kicked")
    return BotRecord(steps=steps, recordings=[recording(t + 3 * S, t + 30 * S, media, speech)])


def denied(t: int) -> BotRecord:
    waited = [step(Phase.JOINING, t), step(Phase.WAITING_ROOM, t + 4 * S)]
    return BotRecord(steps=[*waited, *ended(t + 12 * S, End.NOT_ADMITTED, "denied")])


def nobody_came(t: int) -> BotRecord:
    return BotRecord(steps=[*admitted(t, recording=False), *ended(t + 60 * S, End.OVER, "nobody")])


def transcript_failed(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 50 * S), artifact("t", "failed", updated_ms=t + 70 * S, reason="noise")
    return BotRecord(steps=_call(t, 47), recordings=[recording(t + 3 * S, t + 47 * S, media, speech)])


def transcript_just_in_time(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 50 * S), artifact("t", updated_ms=t + (47 + LATE_S) * S)
    return BotRecord(steps=_call(t, 47), recordings=[recording(t + 3 * S, t + 47 * S, media, speech)])


def transcript_too_late(t: int) -> BotRecord:
    media, speech = artifact("m", updated_ms=t + 50 * S), artifact("t", updated_ms=t + (47 + LATE_S + 300) * S)
    return BotRecord(steps=_call(t, 47), recordings=[recording(t + 3 * S, t + 47 * S, media, speech)])


def recording_too_late(t: int) -> BotRecord:
    at_ms = t + (47 + LATE_S + 60) * S
    media, speech = artifact("m", updated_ms=at_ms), artifact("t", updated_ms=at_ms)
    return BotRecord(steps=_call(t, 47), recordings=[recording(t + 3 * S, t + 47 * S, media, speech)])


def recorded_twice(t: int) -> BotRecord:
    first = recording(t, t + 20_400, artifact("m1", updated_ms=t + 30 * S), artifact("t1", updated_ms=t + 60 * S))
    media, speech = artifact("m2", updated_ms=t + 55 * S), artifact("t2", "failed", updated_ms=t + 58 * S)
    second = recording(t + 25 * S, t + 46_700, media, speech, name="r2")
    return BotRecord(steps=_call(t, 47), recordings=[first, second])


def _call(t: int, seconds: int, end: End = End.OVER, reason: str = "everyone_left") -> list[Any]:
    started = [step(Phase.JOINING, t), step(Phase.WAITING_ROOM, t + S), step(Phase.IN_CALL, t + 2 * S)]
    return [*started, step(Phase.RECORDING, t + 3 * S), *ended(t + seconds * S, end, reason)]


LIVES: Mapping[str, Callable[[int], BotRecord]] = {
    life.__name__: life
    for life in (
        happy,
        long_enough_to_be_renewed,
        kicked,
        denied,
        nobody_came,
        transcript_failed,
        transcript_just_in_time,
        transcript_too_late,
        recording_too_late,
        recorded_twice,
    )
}


def visible(record: BotRecord, now_ms: int) -> BotRecord:
    """What the provider shows of a life at a time."""

    def seen(made: Artifact | None) -> Artifact | None:
        if made is None or made.updated_ms <= now_ms:
            return made
        return replace(made, state="processing", url="", reason="", updated_ms=0)

    def seen_of(fact: RecordingFact) -> RecordingFact:
        media = seen(fact.media)
        assert media is not None
        completed_ms = fact.completed_ms if fact.completed_ms <= now_ms else 0
        return replace(fact, media=media, transcript=seen(fact.transcript), completed_ms=completed_ms)

    return replace(
        record,
        steps=[one for one in record.steps if one.at_ms <= now_ms],
        recordings=[seen_of(fact) for fact in record.recordings if fact.started_ms <= now_ms],
    )


def moments(record: BotRecord) -> list[int]:
    """When something happens that the provider sends a webhook for."""
    made = [artifact for fact in record.recordings for artifact in (fact.media, fact.transcript) if artifact]
    return sorted([*(one.at_ms for one in record.steps), *(one.updated_ms for one in made)])


@dataclass(frozen=True)
class Accidents:
    """What becomes of the webhooks, and what else is read. Times are seconds."""

    delays_s: Sequence[Sequence[int]]
    """Of each webhook: how late each copy of it comes; none: it is lost."""
    looks_s: Sequence[int]
    """When a record is read besides."""
    stale: Sequence[tuple[int, int]]
    """When a record is read by a host that only then, so much later, gets to note it."""


DELAYS = st.sampled_from([0, 1, 7, 30, 90, 400, 2_000, 5_000])
TIMES = st.one_of(st.integers(0, 120), st.sampled_from([200, 300, 950, 1_250, 1_840, 1_850, 2_150, 4_000]))
ACCIDENTS = st.builds(
    Accidents,
    delays_s=st.lists(st.lists(DELAYS, max_size=3), min_size=12, max_size=12),
    looks_s=st.lists(TIMES, max_size=4),
    stale=st.lists(st.tuples(TIMES, st.sampled_from([1, 10, 100, 2_000])), max_size=3),
)
PUNCTUAL = Accidents(delays_s=[[0]] * 12, looks_s=[], stale=[])


@dataclass(frozen=True)
class Outcome:
    """All that must not depend on accidents."""

    status: str
    reason: str | None
    seconds: int | None
    urls: tuple[str | None, str | None]
    charges: Mapping[str, tuple[int, int]]
    messages: Sequence[str]
    history: Sequence[tuple[str, str, int]]


async def live(world: World, life: str, accidents: Accidents) -> Outcome:
    """Play a life with accidents, to its end."""
    sim, provider = world.sim, world.scripted
    await sim.host.credits.grant(world.tenant.account, 1_000_000_000, key=f"for bot {len(sim.bots)}")
    bot = await sim.start(world.tenant, provider="scripted")
    provider_id = f"p{len(provider.records)}.{bot.id}"
    start_ms = sim.clock.now_ms()
    whole = LIVES[life](start_ms)

    def show(asked: str) -> None:
        if asked == provider_id:
            provider.records[asked] = visible(whole, sim.clock.now_ms())

    provider.on_read = show

    async def webhook(number: int) -> None:
        await sim.host.inbound.receive("scripted", SIGNED, event(f"{bot.id}.{number}", provider_id=provider_id))

    async def look() -> None:
        await sim.host.store.write(LookNow(account=world.tenant.account, bot=bot.id))

    async def note(read_ms: int) -> None:
        command = NoteRecord(
            account=world.tenant.account,
            app=world.tenant.app.id,
            bot=bot.id,
            record=visible(whole, read_ms),
            read_ms=read_ms,
            artifact_wait_ms=LATE_S * S,
            cost_nano_usd_per_hour=0,
        )
        await sim.host.store.write(command)

    agenda: list[tuple[int, Callable[[], Any]]] = []
    for number, (at_ms, delays_s) in enumerate(zip(moments(whole), accidents.delays_s, strict=False)):
        agenda += [(at_ms + delay_s * S, partial(webhook, number)) for delay_s in delays_s]
    agenda += [(start_ms + at_s * S, look) for at_s in accidents.looks_s]
    for at_s, lag_s in accidents.stale:
        read_ms = start_ms + at_s * S
        agenda.append((read_ms + lag_s * S, partial(note, read_ms)))
    for at_ms, action in sorted(agenda, key=lambda entry: entry[0]):
        await sim.run(for_s=(at_ms - sim.clock.now_ms()) / S)
        await action()
    await sim.run()
    return await outcome(world, bot.id, start_ms)


async def outcome(world: World, bot_id: str, start_ms: int) -> Outcome:
    bot = await world.sim.get(world.tenant, bot_id)
    charged = await world.charged()
    history = await world.sim.host.meetings.history(world.tenant.app.id, bot_id)
    received = [message for message in world.inbox.accepted if message.bot == bot_id]
    assert len({message.id for message in received}) == len(received)
    return Outcome(
        status=bot.status,
        reason=bot.status_reason,
        seconds=bot.duration_seconds,
        urls=(bot.recording_url, bot.transcript_url),
        charges={line: charge for (lease, line), charge in charged.items() if lease == bot_id},
        messages=[message.event for message in received],
        history=[(entry.code, entry.sub_code, entry.at_ms - start_ms) for entry in history],
    )


PUNCTUALLY: dict[str, Outcome] = {}


@pytest.mark.parametrize("life", LIVES)
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accidents=ACCIDENTS)
async def test_every_order_ends_the_same(world: World, life: str, accidents: Accidents) -> None:
    """Webhooks in any order, number and loss, records read at any time and noted late: one row, one set of books."""
    if life not in PUNCTUALLY:
        PUNCTUALLY[life] = await live(world, life, PUNCTUAL)

    assert PUNCTUALLY[life] == await live(world, life, accidents)
    messages = PUNCTUALLY[life].messages
    assert sorted(messages, key=RANK_OF_EVENT.__getitem__) == messages
    await world.check_quiet()


async def test_a_message_is_not_sent_before_what_it_announces(world: World) -> None:
    """When `recording.done`, `transcript.done` or `bot.done` arrives, a GET already has the links."""
    seen: list[tuple[str, bool, bool]] = []

    async def look(headers: Mapping[str, str], body: bytes) -> int:
        bot = await world.sim.get(world.tenant, world.sim.bots[-1])
        seen.append((headers["x-bb-event"], bot.recording_url is not None, bot.transcript_url is not None))
        return 200

    world.inbox.behaviour = look
    await world.sim.start(world.tenant, provider="fake")
    await world.sim.run()

    assert [
        ("bot.in_call_recording", False, False),
        ("recording.done", True, False),
        ("transcript.done", True, True),
        ("bot.done", True, True),
    ] == seen


async def test_a_record_is_judged_by_when_it_was_read(world: World) -> None:
    """A host that read in time and could only write after the deadline has not seen that the transcript is missing."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    start_ms = world.sim.clock.now_ms()
    whole = transcript_just_in_time(start_ms)
    deadline_ms = start_ms + (47 + LATE_S) * S
    world.sim.clock.set(deadline_ms)
    await world.sim.host.store.write(
        NoteRecord(
            account=world.tenant.account,
            app=world.tenant.app.id,
            bot=bot.id,
            record=visible(whole, deadline_ms - S),
            read_ms=deadline_ms - S,
            artifact_wait_ms=LATE_S * S,
            cost_nano_usd_per_hour=0,
        )
    )
    world.scripted.records[f"p1.{bot.id}"] = whole
    await world.sim.run()

    assert {"recording", "transcription"} == {line for _, line in await world.charged()}
    assert "transcript.done" in world.inbox.events(bot.id)


async def test_two_hosts_that_note_the_same_record(world: World, clock: ManualClock) -> None:
    """However many hosts learn of the same facts at once, each message is owed once and each line charged once."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    start_ms = clock.now_ms()
    clock.advance(seconds=3_600)
    command = NoteRecord(
        account=world.tenant.account,
        app=world.tenant.app.id,
        bot=bot.id,
        record=happy(start_ms),
        read_ms=clock.now_ms(),
        artifact_wait_ms=LATE_S * S,
        cost_nano_usd_per_hour=0,
    )
    other = await open_store(world.sim.settings.database, clock=clock)
    try:
        async with anyio.create_task_group() as tasks:
            for store in [world.sim.host.store, other] * 10:
                tasks.start_soon(store.write, command)
    finally:
        await other.aclose()

    deliveries = await world.sim.host.webhooks.deliveries(world.tenant.app.id)
    events = sorted(one.message.event for one in deliveries)
    assert ["bot.done", "bot.in_call_recording", "recording.done", "transcript.done"] == events
    assert {(bot.id, "recording"): (44, 7_333_333), (bot.id, "transcription"): (44, 2_200_000)} == await world.charged()
    assert [] == await verify(world.sim.host.store)


async def test_fresh_links_do_not_hide_what_has_come_since(world: World) -> None:
    """A GET that mints links from a record read before the transcript came must not take the transcript's link away."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    start_ms, provider_id = world.sim.clock.now_ms(), f"p1.{bot.id}"
    whole = replace(happy(start_ms), urls_expire_ms=start_ms + 7_200 * S)
    read = world.scripted.read
    world.scripted.records[provider_id] = replace(visible(whole, start_ms + 52 * S), urls_expire_ms=start_ms + 61 * S)
    await world.sim.run(for_s=62)

    async def slow(provider_id: str) -> BotRecord:
        seen = await read(provider_id)
        world.scripted.records[provider_id] = whole
        world.scripted.read = read  # type: ignore[method-assign]
        await world.sim.host.store.write(LookNow(account=world.tenant.account, bot=bot.id))
        await world.sim.do_due()
        return seen

    world.scripted.read = slow  # type: ignore[method-assign]
    await world.sim.get(world.tenant, bot.id)

    assert "https://media.example/t" == (await world.sim.get(world.tenant, bot.id)).transcript_url
