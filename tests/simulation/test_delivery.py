"""Webhooks out: at least once, signed in both forms, per bot in order, and no app in another's way."""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Self

import anyio
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.simulation.conftest import World
from tests.simulation.scripted import admitted, artifact, ended, recording

from ctxhost.egress import EgressTimeout
from ctxhost.ledger.verify import verify
from ctxhost.meetings.provider import BotRecord
from ctxhost.store import queries
from ctxhost.store.rows import Attempt, Endpoint, Job, Message
from ctxhost.testing import Inbox, Received, Tenant
from ctxhost.webhooks.delivery import RETRY_AFTER_S, retry_wait_ms
from ctxhost.webhooks.outbox import message_id

DAY_MS = 86_400_000
ALL = ["bot.in_call_recording", "recording.done", "transcript.done", "bot.done"]


def answering(*statuses: int) -> Callable[[Mapping[str, str], bytes], Awaitable[int]]:
    """These statuses one after the other, the last one for ever."""
    left = list(statuses)

    async def answer(headers: Mapping[str, str], body: bytes) -> int:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


async def happy_bot(world: World, tenant: Tenant | None = None) -> str:
    """A bot whose life is over; nothing of it has been noted yet."""
    bot = await world.sim.start(tenant or world.tenant, provider="scripted")
    now_ms = world.sim.clock.now_ms()
    whole = recording(now_ms, now_ms, artifact("m"), artifact("t"))
    provider_id = f"p{len(world.scripted.records)}.{bot.id}"
    world.scripted.records[provider_id] = BotRecord(steps=[*admitted(now_ms), *ended(now_ms)], recordings=[whole])
    return bot.id


async def message(world: World, bot: str, event: str) -> Message:
    found = await world.sim.host.store.read(queries.by_id(Message, message_id(bot, event)))
    assert found is not None
    return found


async def endpoint(world: World) -> Endpoint:
    found = await world.sim.host.store.read(queries.by_id(Endpoint, world.tenant.app.id))
    assert found is not None
    return found


def verify_with(secret: str, received: Received) -> None:
    """What a receiver does with the public library, at the time of the delivery."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(received.at_ms / 1_000, tz)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("standardwebhooks.webhooks.datetime", Then)
        Webhook(base64.b64encode(secret.encode()).decode()).verify(received.body, dict(received.headers))


async def test_each_message_is_signed_in_both_forms(world: World) -> None:
    """A receiver checks either `x-bb-signature` by hand or the Standard Webhooks headers with the public library."""
    bot = await happy_bot(world)
    await world.sim.run()

    assert ALL == world.inbox.events(bot)
    for received in world.inbox.accepted:
        digest = hmac.digest(world.inbox.secret.encode(), received.body, hashlib.sha256)
        assert "v1," + base64.b64encode(digest).decode() == received.headers["x-bb-signature"]
        assert (received.event, "application/json") == (
            received.headers["x-bb-event"],
            received.headers["content-type"],
        )
        verify_with(world.inbox.secret, received)
        with pytest.raises(WebhookVerificationError):
            verify_with("wsec_another-secret-of-the-right-length-000000", received)


async def test_a_message_has_ids_and_no_url(world: World) -> None:
    """The body is exactly the event and its data: ids, the caller's metadata, a code and a time."""
    await happy_bot(world)
    await world.sim.run()

    recorded = next(received for received in world.inbox.accepted if received.event == "recording.done")
    assert {"event", "data"} == set(recorded.data)
    assert {"bot", "data", "recording"} == set(recorded.data["data"])
    assert {"code", "sub_code", "updated_at"} == set(recorded.data["data"]["data"])
    assert {"id": "rec", "metadata": {}} == recorded.data["data"]["recording"]
    assert not any(b"http" in received.body for received in world.inbox.accepted)


async def test_the_first_message_leaves_a_second_after_the_answer(world: World) -> None:
    """The caller gets to write the bot down before the first webhook asks for it."""
    await happy_bot(world)
    answered_ms = world.sim.clock.now_ms()
    await world.sim.run(for_s=61)

    assert world.inbox.attempts
    assert answered_ms + 1_000 <= world.inbox.attempts[0].at_ms


async def test_a_head_that_fails_keeps_the_others_behind_it(world: World) -> None:
    """Per bot in order: the next waits until the one before is delivered; every attempt has the same id."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(500, 500, 200)
    await world.sim.run()

    assert [ALL[0], ALL[0], *ALL] == [attempt.event for attempt in world.inbox.attempts]
    assert 1 == len({attempt.id for attempt in world.inbox.attempts[:3]})
    assert 3 == len({attempt.headers["webhook-timestamp"] for attempt in world.inbox.attempts[:3]})
    assert ALL == world.inbox.events(bot)


async def test_a_closing_host_ends_with_the_attempt_under_way(world: World) -> None:
    """What its bot is owed beyond that is for whoever looks next, and nothing is sent twice."""
    bot = await happy_bot(world)

    async def close_meanwhile(headers: Mapping[str, str], body: bytes) -> int:
        world.sim.host.start_draining()
        return 200

    world.inbox.behaviour = close_meanwhile
    await world.sim.host.jobs.run_due()
    world.sim.clock.advance(seconds=61)
    await world.sim.host.jobs.run_due()
    assert ALL[:1] == world.inbox.events(bot)
    left = await world.sim.host.store.read(queries.by_id(Job, f"deliver/{bot}"))
    assert left is not None
    assert (0, 0) == (left.claimed_until_ms, left.attempts)
    assert left.due_ms <= world.sim.clock.now_ms()

    world.inbox.behaviour = answering(200)
    await world.sim.restart()
    await world.sim.run()
    assert ALL == [attempt.event for attempt in world.inbox.attempts]


async def test_the_schedule(world: World) -> None:
    """Eight attempts over 27 h 35 min, each step within a fifth of its time; then it is dead, and the next goes."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(*[503] * 8, 200)
    await world.sim.run()

    times = [attempt.at_ms for attempt in world.inbox.attempts[:8]]
    waits = [(later - sooner) / 1_000 for sooner, later in pairwise(times)]
    assert all(0.8 * step <= wait <= 1.2 * step for step, wait in zip(RETRY_AFTER_S, waits, strict=True))
    assert any(step != wait for step, wait in zip(RETRY_AFTER_S, waits, strict=True))
    assert ("dead", 8) == (await message(world, bot, ALL[0]))[7:9]
    assert ALL[1:] == world.inbox.events(bot)


def test_jitter_belongs_to_the_message() -> None:
    """Two hosts count the same, two messages do not fall due together."""
    empty = dict.fromkeys(Message._fields, "")
    one, other = Message(**{**empty, "id": "a", "attempts": 2}), Message(**{**empty, "id": "b", "attempts": 2})  # type: ignore[arg-type]

    assert retry_wait_ms(one) == retry_wait_ms(one)
    assert retry_wait_ms(one) != retry_wait_ms(other)
    assert 1_440_000 <= retry_wait_ms(one) <= 2_160_000


@pytest.mark.parametrize(
    ("asked", "shortest_s", "longest_s"),
    [("8", 8, 8), ("10000", 10, 10), ("1", 4, 6), ("-5", 4, 6), ("Wed, 21 Oct 2026 07:28:00 GMT", 4, 6), ("٣", 4, 6)],
)
async def test_retry_after_is_obeyed_within_bounds(world: World, asked: str, shortest_s: int, longest_s: int) -> None:
    """A receiver may ask for up to twice the step; what is no number of seconds asks for nothing."""
    await happy_bot(world)
    world.inbox.answer_headers = {"retry-after": asked}
    world.inbox.behaviour = answering(429, 200)
    await world.sim.run(for_s=120)

    first, second = world.inbox.attempts[:2]
    assert shortest_s * 1_000 <= second.at_ms - first.at_ms <= longest_s * 1_000


async def test_a_new_message_tries_the_head_again_at_once(world: World) -> None:
    """And such an attempt is an extra one: the schedule still has all its steps."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    provider_id, now_ms = f"p1.{bot.id}", world.sim.clock.now_ms()
    world.scripted.records[provider_id] = BotRecord(steps=admitted(now_ms))
    world.inbox.behaviour = answering(500)
    await world.sim.run(for_s=120)
    assert [ALL[0]] * 2 == [attempt.event for attempt in world.inbox.attempts]
    due_ms = await _delivery_due(world, bot.id)

    await world.sim.host.meetings.stop(world.tenant.app.id, bot.id)
    await world.sim.do_due()
    assert 3 == len(world.inbox.attempts)
    assert world.inbox.attempts[-1].at_ms == world.sim.clock.now_ms()
    assert 2 == (await message(world, bot.id, ALL[0])).attempts
    assert due_ms == await _delivery_due(world, bot.id)


async def _delivery_due(world: World, bot: str) -> int:
    (job,) = [job for job in await world.sim.host.store.read(queries.jobs()) if job.id == f"deliver/{bot}"]
    return job.due_ms


async def test_a_success_wakes_whatever_waits_for_that_endpoint(world: World) -> None:
    """An endpoint that answers again gets at once what waited hours for it."""
    waiting = [await happy_bot(world) for _ in range(3)]
    world.inbox.behaviour = answering(500)
    await world.sim.run(for_s=3_600)
    assert [] == world.inbox.accepted

    world.inbox.behaviour = None
    await happy_bot(world)
    await world.sim.run(for_s=62)
    assert [ALL] * 3 == [list(world.inbox.events(bot)) for bot in waiting]
    await world.sim.run()
    await world.check_quiet()


async def test_a_put_wakes_whatever_waits(world: World) -> None:
    """Whoever mends the URL does not wait for the next step of the schedule."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(500)
    await world.sim.run(for_s=3_600)

    world.inbox.behaviour = None
    await world.sim.receive(world.tenant)
    await world.sim.do_due()
    assert ALL == world.inbox.events(bot)


async def test_retries_survive_a_restart(world: World) -> None:
    """What was owed is owed, under the same ids, to an endpoint that is read anew."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(500)
    await world.sim.run(for_s=62)
    ids = {attempt.id for attempt in world.inbox.attempts}

    await world.sim.restart()
    world.inbox.behaviour = None
    await world.sim.run()
    assert ALL == world.inbox.events(bot)
    assert ids <= {received.id for received in world.inbox.accepted}
    await world.check_quiet()


async def test_an_accepted_message_that_was_not_noted_is_sent_again_with_its_id(world: World) -> None:
    """Between the receiver's 200 and our note of it a host may die: at least once, and recognisable."""
    bot = await happy_bot(world)
    write = world.sim.host.store.write

    async def lossy(command: object) -> object:
        if type(command).__name__ == "NoteAttempt" and 1 == len(world.inbox.attempts):
            raise RuntimeError("the plug was pulled")
        return await write(command)  # type: ignore[arg-type]

    vars(world.sim.host.store)["write"] = lossy
    await world.sim.run()

    assert [ALL[0], *ALL] == list(world.inbox.events(bot))
    assert 4 == len({received.id for received in world.inbox.accepted})


async def test_rotation_signs_with_both_secrets_for_a_day(world: World) -> None:
    """A receiver changes its secret at its own time; after a day only the new one is used."""
    old = world.inbox.secret
    await world.sim.receive(world.tenant, rotate=True)
    new = world.inbox.secret
    assert old != new

    await happy_bot(world)
    await world.sim.run()
    received = world.inbox.accepted[-1]
    for secret in (old, new):
        verify_with(secret, received)
    digest = hmac.digest(new.encode(), received.body, hashlib.sha256)
    assert "v1," + base64.b64encode(digest).decode() == received.headers["x-bb-signature"]

    world.sim.clock.advance(ms=DAY_MS)
    await happy_bot(world)
    await world.sim.run()
    received = world.inbox.accepted[-1]
    verify_with(new, received)
    with pytest.raises(WebhookVerificationError):
        verify_with(old, received)


async def test_410_disables_the_endpoint(world: World) -> None:
    """Gone is gone: nothing more is sent or queued, until it is set again; what died can be sent again."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(410)
    await world.sim.run()
    assert 1 == len(world.inbox.attempts)
    assert (await endpoint(world)).disabled_ms
    assert ["dead"] * 4 == [(await message(world, bot, event)).state for event in ALL]
    later = await happy_bot(world)
    await world.sim.run()
    assert 1 == len(world.inbox.attempts)

    world.inbox.behaviour = None
    await world.sim.receive(world.tenant)
    assert not (await endpoint(world)).disabled_ms
    await world.sim.host.webhooks.resend(world.tenant.app, message_id(bot, "bot.done"))
    await world.sim.run()
    assert ["bot.done"] == list(world.inbox.events())
    assert [] == list(world.inbox.events(later))
    await world.check_quiet()


async def test_five_days_of_failures_disable_the_endpoint(world: World) -> None:
    """Failures alone, for five days; one success in between starts the count again."""
    world.inbox.behaviour = answering(500)
    for _ in range(4):
        await happy_bot(world)
        await world.sim.run(for_s=86_400)
    world.inbox.behaviour = answering(200, 500)
    await happy_bot(world)
    await world.sim.run(for_s=4 * 86_400)
    assert not (await endpoint(world)).disabled_ms

    for _ in range(5):
        await happy_bot(world)
        await world.sim.run(for_s=86_400)
    assert (await endpoint(world)).disabled_ms
    await world.sim.run()
    await world.check_quiet()


async def test_resend(world: World) -> None:
    """A delivered or dead message is owed once more, with all its attempts before it and under its own id."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(*[500] * 8, 200)
    await world.sim.run()
    assert "dead" == (await message(world, bot, ALL[0])).state

    world.inbox.behaviour = answering(500, 200)
    await world.sim.host.webhooks.resend(world.tenant.app, message_id(bot, ALL[0]))
    await world.sim.run()
    resent = await message(world, bot, ALL[0])
    assert ("delivered", 2) == (resent.state, resent.attempts)
    assert resent.id == world.inbox.accepted[-1].id
    attempts = await world.sim.host.store.read(queries.attempts(resent.id))
    assert 10 == len(attempts)
    await world.check_quiet()


async def test_what_is_not_wanted_is_not_queued(world: World) -> None:
    """Only the events that an endpoint chose; without one when it happens, nothing is ever owed."""
    await world.sim.receive(world.tenant, events=["bot.done"])
    bare = await world.sim.open_tenant()
    chosen, without = await happy_bot(world), await happy_bot(world, bare)
    await world.sim.run()
    late = await world.sim.receive(bare)
    await world.sim.run()

    assert ["bot.done"] == list(world.inbox.events(chosen))
    assert [] == late.attempts
    assert "done" == (await world.sim.get(bare, without)).status


async def test_no_endpoint_any_more(world: World) -> None:
    """What was owed to an endpoint that was deleted is given up, and a new one gets none of it."""
    bot = await happy_bot(world)
    world.inbox.behaviour = answering(500)
    await world.sim.run(for_s=62)
    await world.sim.host.webhooks.delete(world.tenant.app)
    await world.sim.run()

    assert ["dead"] * 4 == [(await message(world, bot, event)).state for event in ALL]
    await world.check_quiet()


async def test_a_test_event(world: World) -> None:
    """`webhook.test` goes out like any other, whatever was chosen, and waits for no bot."""
    await world.sim.host.webhooks.test(world.tenant.app)
    await world.sim.do_due()

    assert ["webhook.test"] == list(world.inbox.events())
    verify_with(world.inbox.secret, world.inbox.accepted[0])


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(EgressTimeout(), "timeout"), (RuntimeError("a bug"), "internal_error")],
)
async def test_an_attempt_that_breaks_is_an_attempt(world: World, failure: Exception, outcome: str) -> None:
    """Whatever goes wrong with sending, it is logged for the owner, tried again, and blocks nothing for ever."""

    async def breaks(headers: Mapping[str, str], body: bytes) -> int:
        world.inbox.behaviour = None
        raise failure

    bot = await happy_bot(world)
    world.inbox.behaviour = breaks
    await world.sim.run()

    attempts = await world.sim.host.store.read(queries.attempts(message_id(bot, ALL[0])))
    assert [outcome, "delivered"] == [attempt.outcome for attempt in attempts]
    assert ALL == world.inbox.events(bot)


async def test_a_receiver_may_call_the_api_from_inside_a_delivery(world: World) -> None:
    """It may even stop the bot, or send another."""
    seen: list[Sequence[str]] = []

    async def calls_back(headers: Mapping[str, str], body: bytes) -> int:
        bot = json.loads(body)["data"]["bot"]["id"]
        await world.sim.host.meetings.stop(world.tenant.app.id, bot)
        seen.append((await world.sim.get(world.tenant, bot)).status)
        return 200

    world.inbox.behaviour = calls_back
    await happy_bot(world)
    await world.sim.run()

    assert ["done"] * 4 == seen


async def test_a_hanging_endpoint_delays_no_other_app(world: World) -> None:
    """While forty deliveries of one app hang, another app's arrive, records are read and bots are told to leave."""
    hang = anyio.Event()

    async def hangs(headers: Mapping[str, str], body: bytes) -> int:
        await hang.wait()
        return 200

    stuck = [await happy_bot(world) for _ in range(9)]
    other = await world.sim.open_tenant()
    inbox: Inbox = await world.sim.receive(other)
    world.inbox.behaviour = hangs
    for bot in stuck:
        await _note_now(world, bot)
    await world.sim.host.webhooks.test(world.tenant.app)
    for _ in range(31):
        await world.sim.host.webhooks.test(world.tenant.app)
    world.sim.clock.advance(seconds=1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sim.host.jobs.run)
        with anyio.fail_after(10):
            while not await _is_hanging(world):
                await anyio.lowlevel.checkpoint()
            living = await happy_bot(world, other)
            world.sim.clock.advance(seconds=61)
            while list(inbox.events(living)) != ALL:
                world.sim.clock.advance(ms=10)  # what was asked for only now falls due as well
                await anyio.lowlevel.checkpoint()
        assert [] == world.inbox.attempts
        hang.set()
        tasks.cancel_scope.cancel()
    assert [] == await verify(world.sim.host.store)


async def _note_now(world: World, bot: str) -> None:
    await world.sim.host.inbound.receive(
        "scripted", {"signature": "right"}, f"now.{bot}|x|{await _provider_id(world, bot)}|".encode()
    )


async def _provider_id(world: World, bot: str) -> str:
    (provider_id,) = await world.scripted.find(bot)
    return provider_id


async def _is_hanging(world: World) -> bool:
    jobs = await world.sim.host.store.read(queries.deliver_jobs(f"deliver/{world.tenant.app.id}"))
    return 16 == sum(job.claimed_until_ms > 0 for job in jobs)


async def test_one_bot_s_trouble_is_not_another_s(world: World) -> None:
    """A message that an endpoint cannot take holds up the later ones of its own bot and of no other."""
    poor, fine = await happy_bot(world), await happy_bot(world)

    async def picky(headers: Mapping[str, str], body: bytes) -> int:
        return 422 if json.loads(body)["data"]["bot"]["id"] == poor else 200

    world.inbox.behaviour = picky
    await world.sim.run(for_s=70)
    assert ALL == world.inbox.events(fine)
    assert [] == world.inbox.events(poor)


async def test_a_poisonous_message_ends_as_dead(world: World) -> None:
    """However often the endpoint's other successes have it tried again, it is given up in its time."""
    poor = await happy_bot(world)

    async def picky(headers: Mapping[str, str], body: bytes) -> int:
        return 422 if json.loads(body)["data"]["bot"]["id"] == poor else 200

    world.inbox.behaviour = picky
    for _ in range(36):
        await happy_bot(world)
        await world.sim.run(for_s=3_600)
    first = await message(world, poor, ALL[0])
    assert ("dead", 8) == (first.state, first.attempts)
    attempts: list[Attempt] = await world.sim.host.store.read(queries.attempts(first.id))
    assert 8 < len(attempts)
