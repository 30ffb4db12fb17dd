"""The whole road: a real host, the adapter, and the emulated Recall, each talking to the other over loopback."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import ctxhost_recall
from ctxhost.clock import ManualClock
from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError
from ctxhost.host import Host
from ctxhost.ledger.verify import verify
from ctxhost.meetings.model import MeetingBot
from ctxhost.meetings.requests import parse_start
from ctxhost.settings import Settings
from ctxhost.store import queries
from ctxhost.store.rows import App, Entry, ProviderCost
from ctxhost.tenants.secrets import new_key_text
from ctxhost.webhooks.requests import ALL_EVENTS, DEFAULT_EVENTS, parse_webhook
from ctxhost_recall.emulator import (
    STORIES,
    Emulator,
    Event,
    cut,
    depleted,
    overloaded,
    refused,
    serve,
    signed_headers,
)

SANDBOX = Path(__file__).parents[3] / "sandbox"
INBOUND = "/v1/ai/meetings/_webhooks/recall"
HAPPY_USD = {"recording": "0.007333", "transcription": "0.002200"}


class LeapingClock(ManualClock):
    """Whoever waits on it has waited already."""

    async def sleep_until(self, due_ms: int) -> None:
        self.set(max(due_ms, self.now_ms()))


@dataclass
class World:
    """A host, its Recall, and an app that notes what is forwarded to it."""

    host: Host
    emulator: Emulator
    clock: LeapingClock
    app: App
    url: str
    got: list[tuple[str, str]] = field(default_factory=list)
    """`webhook-id` and event of everything that was forwarded."""
    bodies: dict[str, Any] = field(default_factory=dict)

    async def start(self, **facts: Any) -> MeetingBot:
        wish = {"meetingUrl": "https://meet.google.com/qwe-rtyu-iop", **facts}
        started = await self.host.meetings.start(self.app, parse_start(wish, now_ms=self.clock.now_ms()))
        return started.bot

    async def play(self, *, until_ms: int | None = None) -> None:
        """Go from one thing that is due to the next, webhooks first, until nothing is (or a time has come)."""
        for _ in range(5_000):
            await self.emulator.deliver_due()
            await self.host.jobs.run_due()
            jobs = await self.host.store.read(queries.jobs())
            due = [job.due_ms for job in jobs]
            event_ms = self.emulator.next_event_ms()
            due += [] if event_ms is None else [event_ms]
            if not due or (until_ms is not None and min(due) > until_ms):
                self.clock.set(max(self.clock.now_ms(), until_ms or 0))
                return
            self.clock.set(max(self.clock.now_ms(), min(due)))
        raise AssertionError("this world does not come to rest")

    async def bot(self, bot: MeetingBot) -> MeetingBot:
        return await self.host.meetings.get(self.app.id, bot.id)

    async def charges(self, bot: MeetingBot) -> dict[str, str]:
        """What the bot was charged: line → dollars."""
        entries = await self.host.ledger.usage(self.app.id, "meetings")
        return {e.dimension: f"{-(e.allowance + e.credits) / 10**9:.6f}" for e in entries if e.lease == bot.id}

    async def held(self) -> int:
        return (await self.host.ledger.balance(self.app.account)).account.held

    async def cost_s(self, bot: MeetingBot) -> int:
        """The seconds that Recall bills for the bot."""
        cost = await self.host.store.read(queries.by_id(ProviderCost, bot.id))
        return cost.seconds if cost else -1

    def events(self) -> list[str]:
        return [event for _, event in self.got]


@asynccontextmanager
async def emulating(clock: ManualClock) -> AsyncIterator[Emulator]:
    emulator = Emulator(clock=clock)
    try:
        yield emulator
    finally:
        await emulator.aclose()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Any]:
    """Opens a world; `create_timeout_s` and the like are the host's settings, the rest the plugin's."""

    @asynccontextmanager
    async def open_world(**recall: Any) -> AsyncIterator[World]:
        clock = LeapingClock()
        got: list[tuple[str, str]] = []

        async def take(request: Request) -> Response:
            got.append((request.headers["webhook-id"], request.headers["x-bb-event"]))
            return Response()

        receiver = Starlette(routes=[Route("/hook", take, methods=["POST"])])
        async with emulating(clock) as emulator, serve(emulator.app) as recall_url, serve(receiver) as receiver_url:
            plugin = {
                "api_key": emulator.api_key,
                "base_url": recall_url,
                "webhook_secret": emulator.webhook_secret,
                **recall,
            }
            settings = Settings(
                database=tmp_path / "host.db",
                data_dir=tmp_path / "data",
                encryption_keys=new_key_text(),
                egress={"allow_http": True, "allow_networks": [ip_network("127.0.0.0/8")]},
                plugins={"recall": plugin},
                meetings={"unadmitted_limit": 100},
            )
            async with Host(settings, clock=clock, work=False, plugins=[ctxhost_recall]) as host:
                assert not host.plugins.broken
                async with serve(host.asgi) as url:
                    emulator.send_webhooks_to(url + INBOUND)
                    account = await host.ledger.open_account("me")
                    await host.credits.grant(account.id, 50 * 10**9, key="start")
                    app = await host.tenants.create_app(account.id, "notes")
                    forward = {"forward_url": f"{receiver_url}/hook", "events": list(ALL_EVENTS)}
                    await host.webhooks.put(app, parse_webhook(forward))
                    yield World(host, emulator, clock, app, url, got)
                    assert not await verify(host.store)

    return open_world


@pytest.mark.parametrize("lost", [False, True], ids=["with-webhooks", "all-lost"])
async def test_the_worked_life(opened: Any, lost: bool) -> None:
    """From a link to a recording, a transcript and a bill, with Recall's webhooks or without a single one of them."""
    async with opened() as world:
        world.emulator.webhooks.lost = lost
        bot = await world.start(metadata={"meeting": "m-1"})
        assert ("joining", "recall") == (bot.status, bot.provider)
        await world.play()
        done = await world.bot(bot)

        assert ("done", "timeout_exceeded_everyone_left", 44) == (
            done.status,
            done.status_reason,
            done.duration_seconds,
        )
        assert (HAPPY_USD, 0) == (await world.charges(bot), await world.held())
        assert 85 == await world.cost_s(bot)
        assert ["bot.in_call_recording", "bot.call_ended", "recording.done", "transcript.done", "bot.done"] == (
            [event for event in world.events() if event not in ("bot.joining_call", "bot.in_waiting_room")][-5:]
        )
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            assert 200 == (await http.get(done.recording_url or "")).status_code
            words = (await http.get(done.transcript_url or "")).json()
        assert 44 == sum(len(part["words"]) for part in words)


@pytest.mark.parametrize("function", ["spawn-bot", "spawn-bot-http"])
async def test_the_worked_example(opened: Any, function: str) -> None:
    """The sandbox's own functions, not a line of them changed, send Recall's bots once the settings say so."""
    async with opened() as world:
        host, app = world.host, world.app
        await host.deploy(await host.tenants.set_folder(app, SANDBOX))
        forward_url = f"{host.base_url}/v1/{app.id}/fn/meetings-webhook"
        wish = {"forward_url": forward_url, "rotate_secret": True, "events": list(DEFAULT_EVENTS)}
        secret = (await host.webhooks.put(app, parse_webhook(wish))).secret
        key, _ = await host.tenants.create_key(app.account)
        await host.tenants.set_env(app, "MEETINGS_WEBHOOK_SECRET", secret)
        await host.tenants.set_env(app, "BUTTERBASE_API_KEY", key)
        async with httpx.AsyncClient(base_url=world.url, trust_env=False) as http:
            spawned = await http.post(f"/v1/{app.id}/fn/{function}", json={"meetingUrl": "https://zoom.us/j/12345"})
            await world.play()
            rows = await http.get(f"/v1/{app.id}/fn/meetings", headers={"authorization": f"Bearer {key}"})
        deliveries = await host.webhooks.deliveries(app.id)

    (row,) = rows.json()
    assert "joining" == spawned.json()["status"]
    assert (spawned.json()["bot_id"], "done", "bot.done", 4) == (
        row["bot_id"],
        row["status"],
        row["last_event"],
        row["events_count"],
    )
    assert row["recording_url"]
    assert row["transcript_url"]
    assert {"bot.in_call_recording", "recording.done", "transcript.done", "bot.done"} == {
        delivered.message.event for delivered in deliveries if delivered.message.state == "delivered"
    }


async def test_webhooks_make_it_quick(opened: Any) -> None:
    """With them the user hears of each step within a second or two; no interval is waited for."""
    async with opened() as world:
        bot = await world.start()
        started_ms = world.clock.now_ms()
        await world.play(until_ms=started_ms + 37_000)

        assert "recording" == (await world.bot(bot)).status


@pytest.mark.parametrize(
    ("story", "status", "reason", "lines"),
    [
        ("never_admitted", "fatal", "timeout_exceeded_waiting_room", set()),
        ("denied", "fatal", "bot_kicked_from_waiting_room", set()),
        ("kicked", "fatal", "bot_kicked_from_call", {"recording", "transcription"}),
        ("fatal", "fatal", "google_meet_knocking_disabled", set()),
        ("transcript_failed", "done", "timeout_exceeded_everyone_left", {"recording"}),
        ("recording_failed", "done", "timeout_exceeded_everyone_left", set()),
        ("nobody_came", "done", "timeout_exceeded_noone_joined", set()),
        ("not_permitted", "done", "timeout_exceeded_recording_permission_denied", set()),
    ],
)
async def test_how_lives_end(opened: Any, story: str, status: str, reason: str, lines: set[str]) -> None:
    """Each ending has its status, its reason and its bill, and nothing stays held."""
    async with opened() as world:
        world.emulator.tell(STORIES[story])
        bot = await world.start()
        await world.play()
        done = await world.bot(bot)

        assert (status, reason) == (done.status, done.status_reason)
        assert (lines, 0) == (set(await world.charges(bot)), await world.held())


async def test_deleted_media(opened: Any) -> None:
    """What was recorded is gone at Recall, and no link to it is left here; the bill stays."""
    async with opened() as world:
        bot = await world.start()
        await world.play()
        done = await world.bot(bot)
        await world.host.meetings.delete_media(world.app.id, bot.id)
        await world.play()
        after = await world.bot(bot)
        history = await world.host.meetings.history(world.app.id, bot.id)
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            statuses = [(await http.get(link or "")).status_code for link in (done.recording_url, done.transcript_url)]

        assert [403, 403] == statuses
        assert (None, None) == (after.recording_url, after.transcript_url)
        assert "media.deleted" == history[-1].code
        assert (HAPPY_USD, 0) == (await world.charges(bot), await world.held())


async def test_two_recordings_are_one_bill(opened: Any) -> None:
    """Their lengths are added; the longer one is shown."""
    async with opened() as world:
        world.emulator.tell(STORIES["two_recordings"])
        bot = await world.start()
        await world.play()

        assert 74 == (await world.bot(bot)).duration_seconds
        assert {"recording": "0.012333", "transcription": "0.003700"} == await world.charges(bot)
        assert 2 == len(world.emulator.world.ordered)


async def test_recording_off(opened: Any) -> None:
    """The time in the call is charged, and a transcript is delivered without a recording."""
    async with opened() as world:
        bot = await world.start(recording=False)
        await world.play()
        done = await world.bot(bot)

        assert ("done", 50, None) == (done.status, done.duration_seconds, done.recording_url)
        assert done.transcript_url
        assert {"recording", "transcription"} == set(await world.charges(bot))


async def test_stopped_while_joining(opened: Any) -> None:
    """The wish is carried out; nothing is charged."""
    async with opened() as world:
        bot = await world.start()
        await world.host.meetings.stop(world.app.id, bot.id)
        await world.play()
        done = await world.bot(bot)

        assert ("done", "cancelled") == (done.status, done.status_reason)
        assert ({}, 0) == (await world.charges(bot), await world.held())


async def test_stopped_in_the_call(opened: Any) -> None:
    """What was recorded until then is delivered and paid for."""
    async with opened() as world:
        bot = await world.start()
        await world.play(until_ms=world.clock.now_ms() + 50_000)
        await world.host.meetings.stop(world.app.id, bot.id)
        await world.play()
        done = await world.bot(bot)

        assert ("done", "stopped") == (done.status, done.status_reason)
        assert 0 < (done.duration_seconds or 0) < 44
        assert done.recording_url


async def test_a_scheduled_bot_is_called_off(opened: Any) -> None:
    """It is deleted at Recall before it comes; the user sees it cancelled at once, and the hold returns."""
    async with opened() as world:
        bot = await world.start(joinAt="2026-06-01T00:00:00Z")
        at_ms = world.clock.now_ms()
        assert 1 == len(world.emulator.bots)
        await world.host.meetings.stop(world.app.id, bot.id)
        await world.play(until_ms=at_ms + 60_000)
        done = await world.bot(bot)

        assert ("done", "cancelled") == (done.status, done.status_reason)
        assert not world.emulator.bots
        assert ({}, 0) == (await world.charges(bot), await world.held())


async def test_a_scheduled_bot_comes(opened: Any) -> None:
    """At its time, and lives as any other."""
    async with opened() as world:
        bot = await world.start(joinAt="2026-06-01T00:00:00Z")
        await world.play()

        assert ("done", 44) == ((await world.bot(bot)).status, (await world.bot(bot)).duration_seconds)
        assert HAPPY_USD == await world.charges(bot)


async def test_507_twice_then_a_bot(opened: Any) -> None:
    """The caller only waits."""
    async with opened() as world:
        world.emulator.fail("create", depleted(retry_after_s=8), times=2)
        bot = await world.start()
        await world.play()

        assert ("done", 1) == ((await world.bot(bot)).status, len(world.emulator.bots))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(depleted(), ProviderBusy, id="507"),
        pytest.param(refused(401, "authentication_failed"), ProviderError, id="401"),
        pytest.param(refused(402, "insufficient_credits"), ProviderError, id="402"),
        pytest.param(refused(400, "teams_blacklisted_tenant"), InvalidRequest, id="400"),
    ],
)
async def test_a_refused_bot_costs_nothing(opened: Any, fault: Any, error: type[Exception]) -> None:
    """The caller is told, and the hold has returned by then."""
    async with opened() as world:
        world.emulator.fail("create", fault, times=None)
        with pytest.raises(error):
            await world.start()

        assert 0 == await world.held()


@pytest.mark.parametrize(
    "fault",
    [pytest.param(cut(takes_effect=True), id="cut"), pytest.param(overloaded(504, takes_effect=True), id="504")],
)
async def test_a_create_whose_answer_is_lost(opened: Any, fault: Any) -> None:
    """One bot, one lease, one bill."""
    async with opened(create_deadline_s=0.4) as world:
        world.emulator.fail("create", fault)
        bot = await world.start()
        assert "joining" == bot.status
        await world.play()

        assert ("done", 1) == ((await world.bot(bot)).status, len(world.emulator.bots))
        assert HAPPY_USD == await world.charges(bot)


async def test_webhooks_doubled_turned_around_and_under_old_names(opened: Any) -> None:
    """The same end as ever, and each forwarded message once."""
    async with opened() as world:
        knobs = world.emulator.webhooks
        knobs.copies, knobs.order, knobs.family = 3, "newest first", "svix"
        bot = await world.start()
        await world.play()

        assert ("done", HAPPY_USD) == ((await world.bot(bot)).status, await world.charges(bot))
        assert len(world.got) == len(set(world.got))


FACTS = ("bot.call_ended", "recording.done", "bot.done", "transcript.done")
ORDERS = list(itertools.permutations(FACTS))


async def test_every_order_of_the_last_webhooks(opened: Any) -> None:
    """In all 24 orders, each twice, while the facts come true: the same status, reason, books and messages."""
    async with opened() as world:
        world.emulator.webhooks.lost = True
        ends = [await _lived(world, order) for order in ORDERS]

    assert [ends[0]] * 24 == ends
    assert ("done", "timeout_exceeded_everyone_left", 44, HAPPY_USD) == ends[0][:4]
    assert 8 == len(ends[0][4])


async def _lived(world: World, order: Sequence[str]) -> Any:
    """How a bot ends that Recall tells these four things about, in this order, one after each of them came true."""
    before = len(world.got)
    bot = await world.start()
    provider_id = (await world.host.meetings.find(world.app.id, bot.id)).provider_id
    ended_ms = world.clock.now_ms() + 80_000
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        for kind, after_ms in zip(order, (1_000, 4_000, 6_000, 70_000), strict=True):
            world.clock.set(ended_ms + after_ms)
            body = {"event": kind, "data": {"bot": {"id": provider_id, "metadata": {"bb_bot_id": bot.id}}}}
            event_id = f"msg_{kind}_{bot.id}".replace(".", "_")
            for _ in range(2):
                await _post(world, http, Event(event_id, 0, kind, json.dumps(body).encode()))
                await world.host.jobs.run_due()
    await world.play()
    done, forwarded = await world.bot(bot), world.got[before:]
    assert len(set(forwarded)) == len(forwarded)
    told = sorted(event for _, event in forwarded)
    return done.status, done.status_reason, done.duration_seconds, await world.charges(bot), told


async def _post(world: World, http: httpx.AsyncClient, event: Event) -> None:
    secrets = [world.emulator.webhook_secret]
    headers = signed_headers(event, secrets=secrets, now_ms=world.clock.now_ms())
    answer = await http.post(world.url + INBOUND, content=event.body, headers=headers)
    assert 200 == answer.status_code


@pytest.mark.parametrize(
    ("change", "status"),
    [("signature", 401), ("stale", 401), ("none", 401), ("not-json", 400), ("unknown-kind", 200), ("of-nobody", 200)],
)
async def test_what_comes_in_at_the_door(opened: Any, change: str, status: int) -> None:
    """Only what Recall has signed just now is kept; what is signed and no event is 400; nothing is ever a 500."""
    async with opened() as world:
        now_ms = world.clock.now_ms()
        body = {"event": "bot.danced" if change == "unknown-kind" else "bot.done", "data": {"bot": {"id": "b-1"}}}
        content = b"{" if change == "not-json" else json.dumps(body).encode()
        event = Event("msg_1", now_ms, "", content)
        signed_ms = now_ms - 400_000 if change == "stale" else now_ms
        headers = signed_headers(event, secrets=[world.emulator.webhook_secret], now_ms=signed_ms)
        if change == "none":
            headers = {"content-type": "application/json"}
        if change == "signature":
            content += b" "
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            answer = await http.post(world.url + INBOUND, content=content, headers=headers)

        assert status == answer.status_code


async def test_the_journal_has_the_recordings_own_seconds(opened: Any) -> None:
    """Three hours at Recall are three hours in the books, though the host looked at intervals alone."""
    async with opened() as world:
        world.emulator.tell(STORIES["three_hours"])
        world.emulator.webhooks.lost = True
        bot = await world.start()
        await world.play()
        entries: list[Entry] = await world.host.ledger.usage(world.app.id, "meetings")

        assert {10_800} == {entry.quantity for entry in entries if entry.lease == bot.id}
        assert 10_800 == (await world.bot(bot)).duration_seconds
