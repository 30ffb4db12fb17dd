"""Webhooks: what is sent, how it is signed, and that nothing which goes wrong loses one or stops the others."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from ctxhost.clock import WallClock
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BadWebhook, BotRequest, UnreadableWebhook
from ctxhost.rates import LocalRates
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import FakeSettings
from ctxhost_fake.webhooks import signed_headers

Asked = Callable[..., BotRequest]

HAPPY = [
    "bot.joining_call",
    "bot.in_waiting_room",
    "bot.in_call_not_recording",
    "bot.in_call_recording",
    "bot.call_ended",
    "recording.done",
    "transcript.done",
    "bot.done",
]
UNADMITTED = ["bot.joining_call", "bot.in_waiting_room", "bot.call_ended", "bot.done"]


@pytest.mark.parametrize(
    ("script", "facts", "kinds"),
    [
        pytest.param("happy", {}, HAPPY, id="happy"),
        pytest.param("three_hours", {}, HAPPY, id="three-hours"),
        pytest.param("kicked_while_recording", {}, HAPPY, id="kicked"),
        pytest.param("denied", {}, UNADMITTED, id="denied"),
        pytest.param("never_admitted", {}, UNADMITTED, id="never-admitted"),
        pytest.param("fatal_on_join", {}, ["bot.joining_call", "bot.fatal"], id="fatal"),
        pytest.param(
            "transcript_failed", {}, [k.replace("transcript.done", "transcript.failed") for k in HAPPY], id="transcript"
        ),
        pytest.param(
            "recording_failed",
            {},
            [*HAPPY[:5], "recording.failed", "transcript.failed", "bot.done"],
            id="recording",
        ),
        pytest.param("nobody_came", {}, [*HAPPY[:3], "bot.call_ended", "bot.done"], id="nobody"),
        pytest.param(
            "happy",
            {"recording": "off"},
            [*HAPPY[:3], "bot.call_ended", "transcript.done", "bot.done"],
            id="recording-off",
        ),
        pytest.param("happy", {"transcript": False}, [k for k in HAPPY if k != "transcript.done"], id="no-transcript"),
    ],
)
async def test_each_life_sends_its_steps_in_order(
    stand: Any, asked: Asked, script: str, facts: dict[str, Any], kinds: list[str]
) -> None:
    """One webhook a step, each with an id of its own, each when it happens."""
    provider = stand.open()
    await provider.create(asked(script=script, **facts))
    await stand.play(provider)

    assert kinds == stand.kinds()
    assert len(kinds) == len({got.id for got in stand.got})


async def test_a_webhook_tells_what_recalls_would(stand: Any, asked: Asked) -> None:
    """Event, code, reason and time; the bot with its metadata and the host's two ids; the artifacts."""
    provider = stand.open()
    made = await provider.create(asked(metadata={"session": "s-1"}))
    await stand.play(provider)
    ended, transcript = json.loads(stand.got[4].body), json.loads(stand.got[6].body)
    record = await provider.read(made)

    assert {
        "code": "call_ended",
        "sub_code": "timeout_exceeded_everyone_left",
        "updated_at": "2026-05-28T20:27:37.000000+00:00",
    } == ended["data"]["data"]
    metadata = {"session": "s-1", "bb_bot_id": "bot-1", "bb_app_id": "app-1"}
    assert {"id": made, "metadata": metadata} == ended["data"]["bot"]
    assert record.recordings[0].id == transcript["data"]["recording"]["id"]
    assert record.recordings[0].transcript.id == transcript["data"]["transcript"]["id"]


async def test_webhooks_verify_by_the_public_library_and_by_our_own(stand: Any, asked: Asked) -> None:
    """Signed as Standard Webhooks says, with the kept secret; `verify` names the event and both ids."""
    provider = stand.open()
    stand.clock.set(WallClock().now_ms())  # the library knows no other time than the computer's
    made = await provider.create(asked())
    await provider.deliver_due()
    (got,) = stand.got

    Webhook((stand.folder / "fake" / "secret").read_text()).verify(got.body, got.headers)
    event = provider.verify(got.headers, got.body, now_ms=stand.clock.now_ms())
    assert (got.id, "bot.joining_call", made, "bot-1") == (event.id, event.kind, event.provider_id, event.bot)


async def test_a_webhook_that_is_not_ours_is_bad(stand: Any, asked: Asked) -> None:
    """Changed, of another key, too old, from the future, unsigned: each is the same refusal."""
    provider = stand.open()
    await provider.create(asked())
    await provider.deliver_due()
    (got,), now_ms = stand.got, stand.clock.now_ms()
    foreign = signed_headers(key=b"x" * 32, message_id=got.id, now_ms=now_ms, body=got.body)

    for headers, body, at_ms in [
        (got.headers, got.body + b" ", now_ms),
        (foreign, got.body, now_ms),
        (got.headers, got.body, now_ms + 301_000),
        (got.headers, got.body, now_ms - 302_000),
        ({}, got.body, now_ms),
        ({**got.headers, "webhook-signature": "garbage"}, got.body, now_ms),
    ]:
        with pytest.raises(BadWebhook):
            provider.verify(headers, body, now_ms=at_ms)


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"\xff\xfe", b"[]", b"{}", b'{"event": 5}', b'"text"', b"[" * 100_000]
)
async def test_a_signed_webhook_that_is_no_event_is_unreadable(stand: Any, body: bytes) -> None:
    """Ours, but nonsense."""
    provider = stand.open()
    now_ms = stand.clock.now_ms()
    headers = signed_headers(key=provider._key, message_id="msg_1", now_ms=now_ms, body=body)

    with pytest.raises(UnreadableWebhook):
        provider.verify(headers, body, now_ms=now_ms)


@pytest.mark.parametrize("data", [None, 5, {"bot": []}, {"bot": {"id": 5, "metadata": "x"}}])
async def test_an_event_about_something_else_has_no_bot(stand: Any, data: Any) -> None:
    """A kind is enough to be kept; what is not a bot's id is not taken for one."""
    provider = stand.open()
    now_ms, body = stand.clock.now_ms(), json.dumps({"event": "calendar.update", "data": data}).encode()
    headers = signed_headers(key=provider._key, message_id="msg_1", now_ms=now_ms, body=body)

    event = provider.verify(headers, body, now_ms=now_ms)
    assert ("calendar.update", "", "") == (event.kind, event.provider_id, event.bot)


async def test_nothing_is_sent_before_it_is_due(stand: Any, asked: Asked) -> None:
    """A delivery sends what is true by now, and says when the next is due."""
    provider = stand.open(speed=2)
    await provider.create(asked())
    start_ms = stand.clock.now_ms()

    assert 1 == await provider.deliver_due()
    assert 0 == await provider.deliver_due()
    assert start_ms + 2_000 == provider.next_event_ms()
    stand.clock.advance(seconds=5)
    assert 2 == await provider.deliver_due()
    assert HAPPY[:3] == stand.kinds()


async def test_told_to_leave_it_sends_the_new_end_and_not_the_old(stand: Any, asked: Asked) -> None:
    """What was sent stands; what will never be is not sent."""
    provider = stand.open()
    bot = await provider.create(asked())
    stand.clock.advance(seconds=5)
    await provider.deliver_due()
    await provider.leave(bot)
    await stand.play(provider)

    assert UNADMITTED == stand.kinds()
    assert "bot_received_leave_call" == json.loads(stand.got[2].body)["data"]["data"]["sub_code"]


@pytest.mark.parametrize("way", ["setting", "name", "key"])
async def test_lost_webhooks_leave_the_life_as_it_is(stand: Any, asked: Asked, way: str) -> None:
    """None is sent; the record is complete all the same."""
    provider = stand.open(script="happy+lost" if way == "setting" else "happy")
    chosen = {"setting": {}, "name": {"script": "happy+lost"}, "key": {"webhooks": "lost"}}[way]
    bot = await provider.create(asked(**chosen))

    assert provider.next_event_ms() is None
    stand.clock.advance(seconds=67)
    assert "done" == str((await provider.read(bot)).steps[-1].phase)


async def test_some_are_lost_by_the_seed(stand: Any, asked: Asked) -> None:
    """Of twenty bots' webhooks some arrive and some do not, in their order; a repeat loses the same."""
    provider = stand.open()
    for number in range(20):
        await provider.create(asked(bot=f"bot-{number}", webhooks="some_lost"))
    await stand.play(provider)

    assert 40 < len(stand.got) < 120
    first = [kind for kind, got in zip(stand.kinds(), stand.got, strict=True) if b'"bot-7"' in got.body]
    assert first == [kind for kind in HAPPY if kind in first]


async def test_duplicates_carry_the_same_id_and_body(stand: Any, asked: Asked) -> None:
    """Each comes two or three times, and is the same message each time."""
    provider = stand.open()
    await provider.create(asked(webhooks="duplicated"))
    await stand.play(provider)
    times = Counter((got.id, got.body) for got in stand.got)

    assert len(HAPPY) == len(times)
    assert set(times.values()) <= {2, 3}


async def test_reordered_webhooks_come_in_another_order(stand: Any, asked: Asked) -> None:
    """The same set, three by three, no three in their own order; none before it is true."""
    provider = stand.open()
    await provider.create(asked(webhooks="reordered"))
    await stand.play(provider)
    kinds = stand.kinds()

    assert sorted(HAPPY) == sorted(kinds)
    for start in (0, 3, 6):
        assert set(HAPPY[start : start + 3]) == set(kinds[start : start + 3])
        assert HAPPY[start : start + 3] != kinds[start : start + 3]
    for got in stand.got:
        told = datetime.fromisoformat(json.loads(got.body)["data"]["data"]["updated_at"])
        assert told.timestamp() <= int(got.headers["webhook-timestamp"])


async def test_late_webhooks_come_late_and_all(stand: Any, asked: Asked) -> None:
    """20 to 120 s of the script after the fact, freshly signed."""
    provider = stand.open(speed=2)
    await provider.create(asked(webhooks="late"))
    start_ms = stand.clock.now_ms()

    next_ms = provider.next_event_ms()
    assert next_ms is not None
    assert start_ms + 10_000 <= next_ms
    await stand.play(provider)
    assert sorted(HAPPY) == sorted(stand.kinds())
    assert stand.clock.now_ms() <= start_ms + (67 + 120) * 500


async def test_accidents_combine(stand: Any, asked: Asked) -> None:
    """Late, shuffled and doubled at once: still the same set of messages."""
    provider = stand.open()
    await provider.create(asked(script="denied+late+duplicated+reordered"))
    await stand.play(provider)

    assert sorted(UNADMITTED) == sorted({*stand.kinds()})
    assert len(UNADMITTED) * 2 <= len(stand.got)


async def test_a_failed_attempt_is_repeated_later(stand: Any, asked: Asked) -> None:
    """A refusal, a crash and a dead host: the same id again after 1, 3 and 10 s, and not once it has arrived."""
    provider = stand.open(speed=0.1)
    stand.answers += [503, RuntimeError("crashed"), httpx.ConnectError("refused")]
    await provider.create(asked())
    start_ms = stand.clock.now_ms()
    await stand.play(provider)

    joining = stand.got[0].id
    assert [0, 1_000, 4_000, 14_000] == [ms - start_ms for key, ms in stand.attempts if key == joining]
    assert HAPPY == stand.kinds()


async def test_a_webhook_nobody_takes_is_given_up_until_the_next_start(stand: Any, asked: Asked) -> None:
    """Six attempts, then it rests; a restart sends it with the same id, and only what has not arrived."""
    provider = stand.open()
    stand.answers += [200, *[500] * 6]
    await provider.create(asked(script="fatal_on_join"))
    await stand.play(provider)
    assert ["bot.joining_call"] == stand.kinds()
    assert [] == stand.answers

    again = stand.open()
    await stand.play(again)
    assert ["bot.joining_call", "bot.fatal"] == stand.kinds()
    await stand.play(stand.open())
    assert 2 == len(stand.got)


async def test_a_restart_sends_what_happened_meanwhile(stand: Any, asked: Asked) -> None:
    """The host was down for the rest of the life: all that is left arrives, once, in order, with the same ids."""
    provider = stand.open()
    await provider.create(asked())
    stand.clock.advance(seconds=11)
    await provider.deliver_due()
    stand.clock.advance(seconds=3_600)

    again = stand.open()
    assert 5 == await again.deliver_due()
    assert HAPPY == stand.kinds()
    assert again.next_event_ms() is None


async def test_one_bots_trouble_is_not_anothers(stand: Any, asked: Asked) -> None:
    """While one bot's webhook fails the others' arrive."""
    provider = stand.open()
    await provider.create(asked(bot="bot-1"))
    await provider.create(asked(bot="bot-2"))
    stand.answers.append(RuntimeError("crashed"))

    assert 1 == await provider.deliver_due()


async def test_run_delivers_by_itself_and_wakes_for_news(stand: Any, asked: Asked) -> None:
    """Asleep with nothing to do, it hears of a new bot, of the clock, and of a wish to leave."""
    provider = stand.open()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.run)
            await anyio.wait_all_tasks_blocked()
            bot = await provider.create(asked())
            await until(lambda: 1 == len(stand.got))
            stand.clock.advance(seconds=4)
            await until(lambda: 2 == len(stand.got))
            await provider.leave(bot)
            await until(lambda: 3 == len(stand.got))
            tasks.cancel_scope.cancel()

    assert UNADMITTED[:3] == stand.kinds()


async def test_run_survives_whatever_a_send_raises(stand: Any, asked: Asked) -> None:
    """After an exception that no one expected the loop is still there for the next event."""
    provider = stand.open()
    stand.answers.append(RuntimeError("crashed"))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.run)
            await provider.create(asked())
            await until(lambda: not stand.answers)
            await anyio.wait_all_tasks_blocked()
            stand.clock.advance(seconds=1)
            await until(lambda: 1 == len(stand.got))
            tasks.cancel_scope.cancel()

    assert ["bot.joining_call"] == stand.kinds()


async def test_on_the_wall_clock_a_life_plays_by_itself(tmp_path: Path, asked: Asked) -> None:
    """At speed 1,000 a happy life is over in a blink, and its webhooks arrive in their order."""
    kinds: list[str] = []

    def host(request: httpx.Request) -> httpx.Response:
        kinds.append(json.loads(request.content)["event"])
        return httpx.Response(200)

    async with httpx.AsyncClient(transport=httpx.MockTransport(host)) as http:
        services = Services(
            clock=WallClock(),
            base_url="http://host.test",
            data_dir=tmp_path,
            http=http,
            plugin_settings={},
            rate=LocalRates(WallClock()).open,
        )
        provider = FakeProvider(services, FakeSettings(speed=1_000))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(provider.run)
                await provider.create(asked())
                await until(lambda: len(kinds) == len(HAPPY))
                tasks.cancel_scope.cancel()
        await provider.aclose()

    assert HAPPY == kinds


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds; the caller's time limit is what ends a wait in vain."""
    while not condition():
        await anyio.wait_all_tasks_blocked()
        await anyio.lowlevel.checkpoint()
