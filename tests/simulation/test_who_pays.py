"""Every line of the table of who pays, through a whole host: status, reason, books, links and messages."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.simulation.conftest import World
from tests.simulation.scripted import admitted, artifact, ended, recording, step

from ctxhost.clock import rfc3339
from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, Refusal
from ctxhost.meetings.model import MeetingBot
from ctxhost.meetings.provider import BotRecord, End, Phase

USD = 1_000_000_000
Play = Callable[[World], Awaitable[MeetingBot]]


def fake(script: str, **request: Any) -> Play:
    """A life of the fake provider, undisturbed."""

    async def play(world: World) -> MeetingBot:
        bot = await world.sim.start(world.tenant, provider="fake", metadata={"fake_script": script}, **request)
        await world.sim.run()
        return bot

    return play


def stopped(*, after_s: int, **request: Any) -> Play:
    """A happy life of the fake provider, cut short by DELETE."""

    async def play(world: World) -> MeetingBot:
        bot = await world.sim.start(world.tenant, provider="fake", **request)
        await world.sim.run(for_s=after_s)
        await world.sim.host.meetings.stop(world.tenant.app.id, bot.id)
        await world.sim.run()
        return bot

    return play


async def scheduled_and_cancelled(world: World) -> MeetingBot:
    join_at = rfc3339(world.sim.clock.now_ms() + 86_400_000)
    return await stopped(after_s=3_600, joinAt=join_at)(world)


def told(record: Callable[[int], BotRecord], **request: Any) -> Play:
    """A bot whose whole record is written by hand, from when it starts."""

    async def play(world: World) -> MeetingBot:
        bot = await world.sim.start(world.tenant, provider="scripted", **request)
        world.scripted.records[f"p1.{bot.id}"] = record(world.sim.clock.now_ms())
        await world.sim.run()
        return bot

    return play


async def out_of_credits(world: World) -> MeetingBot:
    await world.sim.host.ledger.adjust(world.tenant.account, -4_930_000_000, key="spent", note="elsewhere")
    return await fake("three_hours")(world)


def denied_permission(now: int) -> BotRecord:
    return BotRecord(
        steps=[*admitted(now, recording=False), *ended(now + 20_000, reason="recording_permission_denied")]
    )


def kicked_and_its_recording_failed(now: int) -> BotRecord:
    failed = recording(now, now + 30_000, artifact("m", "failed"), artifact("t", "failed"))
    return BotRecord(steps=[*admitted(now), *ended(now + 30_000, End.KICKED, "kicked")], recordings=[failed])


def broke_down_in_the_call(now: int) -> BotRecord:
    half = recording(now, now + 30_000, artifact("m"), artifact("t", "failed"))
    return BotRecord(steps=[*admitted(now), *ended(now + 30_000, End.FAILED, "crashed")], recordings=[half])


def transcript_never_came(now: int) -> BotRecord:
    slow = recording(now, now + 30_000, artifact("m"), artifact("t", "processing"))
    return BotRecord(steps=[*admitted(now), *ended(now + 30_000, finished=False)], recordings=[slow])


def recording_never_came(now: int) -> BotRecord:
    slow = recording(now, now + 30_000, artifact("m", "processing"), artifact("t", "processing"))
    return BotRecord(steps=[*admitted(now), *ended(now + 30_000, finished=False)], recordings=[slow])


def put_out_of_the_waiting_room(now: int) -> BotRecord:
    waited = [step(Phase.JOINING, now), step(Phase.WAITING_ROOM, now)]
    return BotRecord(steps=[*waited, *ended(now + 9_000, End.NOT_ADMITTED, "kicked_from_waiting_room")])


STARTED, RECORDED, TRANSCRIBED = "bot.in_call_recording", "recording.done", "transcript.done"
ALL = [STARTED, RECORDED, TRANSCRIBED, "bot.done"]
LEFT = "timeout_exceeded_everyone_left"
BOTH_44 = {"recording": (44, 7_333_333), "transcription": (44, 2_200_000)}

LINES = [
    pytest.param(fake("happy"), "done", LEFT, 44, BOTH_44, ALL, id="ended-by-itself"),
    pytest.param(fake("happy", recording="audio_only"), "done", LEFT, 44, BOTH_44, ALL, id="audio-costs-the-same"),
    pytest.param(
        fake("happy", transcript=False),
        "done",
        LEFT,
        44,
        {"recording": (44, 7_333_333)},
        [STARTED, RECORDED, "bot.done"],
        id="without-a-transcript",
    ),
    pytest.param(
        fake("happy", recording=False),
        "done",
        LEFT,
        44,
        BOTH_44,
        [TRANSCRIBED, "bot.done"],
        id="recording-off",
    ),
    pytest.param(
        stopped(after_s=30),
        "done",
        "stopped",
        17,
        {"recording": (17, 2_833_333), "transcription": (17, 850_000)},
        ALL,
        id="stopped-by-delete",
    ),
    pytest.param(
        out_of_credits,
        "done",
        "insufficient_credits",
        267,
        {"recording": (267, 44_500_000), "transcription": (267, 13_350_000)},
        [STARTED, "credits.low", *ALL[1:]],
        id="out-of-credits",
    ),
    pytest.param(fake("nobody_came"), "done", "timeout_exceeded_noone_joined", 0, {}, ["bot.done"], id="nobody-came"),
    pytest.param(
        fake("nobody_came", recording=False),
        "done",
        "timeout_exceeded_noone_joined",
        0,
        {},
        ["bot.done"],
        id="recording-off-and-nobody-came",
    ),
    pytest.param(
        told(denied_permission),
        "done",
        "recording_permission_denied",
        0,
        {},
        ["bot.done"],
        id="permission-denied",
    ),
    pytest.param(
        fake("never_admitted"),
        "fatal",
        "timeout_exceeded_waiting_room",
        None,
        {},
        ["bot.fatal"],
        id="never-admitted",
    ),
    pytest.param(fake("denied"), "fatal", "bot_kicked_from_waiting_room", None, {}, ["bot.fatal"], id="denied"),
    pytest.param(
        told(put_out_of_the_waiting_room),
        "fatal",
        "kicked_from_waiting_room",
        None,
        {},
        ["bot.fatal"],
        id="kicked-from-the-waiting-room",
    ),
    pytest.param(fake("fatal_on_join"), "fatal", "meeting_not_found", None, {}, ["bot.fatal"], id="fatal-on-join"),
    pytest.param(stopped(after_s=5), "done", "cancelled", None, {}, ["bot.done"], id="stopped-before-admission"),
    pytest.param(scheduled_and_cancelled, "done", "cancelled", None, {}, ["bot.done"], id="cancelled-before-its-time"),
    pytest.param(
        fake("kicked_while_recording"),
        "fatal",
        "bot_kicked_from_call",
        22,
        {"recording": (22, 3_666_667), "transcription": (22, 1_100_000)},
        [STARTED, "bot.fatal", RECORDED, TRANSCRIBED],
        id="kicked-from-the-call",
    ),
    pytest.param(
        told(kicked_and_its_recording_failed),
        "fatal",
        "kicked",
        0,
        {},
        [STARTED, "bot.fatal", "recording.failed"],
        id="kicked-and-nothing-delivered",
    ),
    pytest.param(
        told(broke_down_in_the_call),
        "fatal",
        "crashed",
        30,
        {"recording": (30, 5_000_000)},
        [STARTED, "bot.fatal", RECORDED, "transcript.failed"],
        id="fatal-in-the-call",
    ),
    pytest.param(
        fake("transcript_failed"),
        "done",
        LEFT,
        44,
        {"recording": (44, 7_333_333)},
        [STARTED, RECORDED, "transcript.failed", "bot.done"],
        id="transcript-failed",
    ),
    pytest.param(
        told(transcript_never_came),
        "done",
        "everyone_left",
        30,
        {"recording": (30, 5_000_000)},
        [STARTED, RECORDED, "transcript.failed", "bot.done"],
        id="transcript-not-there-in-time",
    ),
    pytest.param(
        fake("recording_failed"),
        "done",
        LEFT,
        0,
        {},
        [STARTED, "recording.failed", "bot.done"],
        id="recording-failed",
    ),
    pytest.param(
        told(recording_never_came),
        "done",
        "everyone_left",
        0,
        {},
        [STARTED, "recording.failed", "bot.done"],
        id="recording-not-there-in-time",
    ),
]


@pytest.mark.parametrize(("play", "status", "reason", "seconds", "lines", "events"), LINES)
async def test_who_pays(
    world: World,
    play: Play,
    status: str,
    reason: str,
    seconds: int | None,
    lines: dict[str, tuple[int, int]],
    events: list[str],
) -> None:
    """Each end leaves one status and reason, exactly these charges, nothing held, and these messages in this order."""
    bot = await play(world)

    ended_as = await world.sim.get(world.tenant, bot.id)
    assert (status, reason, seconds) == (ended_as.status, ended_as.status_reason, ended_as.duration_seconds)
    assert {(bot.id, line): charge for line, charge in lines.items()} == await world.charged()
    assert events == world.inbox.events(bot.id)
    assert (RECORDED in events, TRANSCRIBED in events) == (
        ended_as.recording_url is not None,
        ended_as.transcript_url is not None,
    )
    await world.check_quiet()
    entries = await world.sim.host.ledger.entries(world.tenant.account)
    assert sum(entry.credits for entry in entries) == await world.credits()


@pytest.mark.parametrize(
    ("script", "refusal"),
    [("spawn_refused", ProviderError), ("provider_full", ProviderBusy), ("bad_url", InvalidRequest)],
)
async def test_a_refused_spawn_costs_nothing(world: World, script: str, refusal: type[Refusal]) -> None:
    """The caller hears the refusal, the hold is back at once, the bot stays in the history and sends nothing."""
    with pytest.raises(refusal):
        await world.sim.start(world.tenant, provider="fake", metadata={"fake_script": script})

    assert 0 == await world.held()
    await world.sim.run()
    page = await world.sim.host.ledger.entries(world.tenant.account)
    assert ["grant"] == [entry.kind for entry in page]
    assert [] == world.inbox.attempts
    await world.check_quiet()


async def test_the_first_hold(world: World) -> None:
    """A start holds five minutes of every line, and no more while the bot waits."""
    await world.sim.start(world.tenant, provider="scripted")
    await world.sim.start(world.tenant, provider="scripted", transcript=False)

    assert 65_000_000 + 50_000_000 == await world.held()
    await world.sim.run(for_s=3_600)
    assert 65_000_000 + 50_000_000 == await world.held()


async def test_a_late_artifact_fills_its_url(world: World) -> None:
    """What comes after the wait is shown, costs nothing and sends nothing."""
    bot = await told(transcript_never_came)(world)
    before = (await world.charged(), list(world.inbox.attempts))
    provider_id = f"p1.{bot.id}"
    came = await world.scripted.read(provider_id)
    assert (await world.sim.get(world.tenant, bot.id)).transcript_url is None

    late = recording(
        came.recordings[0].started_ms,
        came.recordings[0].completed_ms,
        artifact("m"),
        artifact("t", updated_ms=world.sim.clock.now_ms()),
    )
    world.scripted.records[provider_id] = BotRecord(steps=came.steps, recordings=[late])
    await world.sim.host.inbound.receive("scripted", {"signature": "right"}, f"e1|x|{provider_id}|".encode())
    await world.sim.run()

    assert "https://media.example/t" == (await world.sim.get(world.tenant, bot.id)).transcript_url
    assert before == (await world.charged(), list(world.inbox.attempts))
    await world.check_quiet()


async def test_a_provider_that_changes_its_mind(world: World) -> None:
    """What was told as failed and waived stays so; what came of it after all is only shown."""
    bot = await told(broke_down_in_the_call)(world)
    before = (await world.charged(), list(world.inbox.attempts))
    provider_id = f"p1.{bot.id}"
    came = await world.scripted.read(provider_id)
    fact = came.recordings[0]
    mended = recording(fact.started_ms, fact.completed_ms, fact.media, artifact("t", updated_ms=fact.completed_ms + 1))
    world.scripted.records[provider_id] = BotRecord(steps=came.steps, recordings=[mended])
    await world.sim.host.inbound.receive("scripted", {"signature": "right"}, f"e1|x|{provider_id}|".encode())
    await world.sim.run()

    assert "https://media.example/t" == (await world.sim.get(world.tenant, bot.id)).transcript_url
    assert before == (await world.charged(), list(world.inbox.attempts))
    await world.check_quiet()
