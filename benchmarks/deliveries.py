"""Signed, journalled deliveries to a receiver that only says yes. The baseline is one shared `httpx.AsyncClient`.

Both sides post the same bodies from this process to a receiver in another one, 50 at a time. Ours come from the table
of jobs, in order for each bot, signed twice, every attempt written down and durable.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import uvloop

from benchmarks import Bench, Figure
from benchmarks.bulk import put
from benchmarks.servers import opened_host, receiver, running
from ctxhost.host import Host
from ctxhost.ids import new_uuid
from ctxhost.jobs import job_id
from ctxhost.store import queries
from ctxhost.store.rows import App, Bot, Job, Message
from ctxhost.webhooks import outbox
from ctxhost.webhooks.requests import PutWebhook

TITLE = "Deliveries: signed and journalled, a second"
NOWHERE = "http://127.0.0.1:9"
IN_FLIGHT = 50
TARGET = 5.0
EVENT = "bot.done"
MESSAGES_OF_A_BOT = 4
LONG_AGO_MS = 3_600_000
BASELINE_PART = 4
"""The baseline posts one of so many: it is slow, and its speed is the same from the first to the last."""
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Whose messages a round delivers."""

    name: str
    apps: int
    bots: int | None = None
    """None: as many as it takes at a happy bot's messages each."""
    target: float | None = None

    def of_each_bot(self, messages: int) -> int:
        return messages // self.bots if self.bots else MESSAGES_OF_A_BOT


LOADS = (
    Load(name="50 in flight: 50 bots of 50 apps", apps=50, bots=50, target=TARGET),
    Load(name="4 messages a bot, 50 apps", apps=50),
    Load(name="4 messages a bot, one app", apps=1),
)


def measure(bench: Bench) -> Iterable[Figure]:
    """Each load beside the baseline, over rounds that take turns."""
    for engine in bench.engines:
        with (
            tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder,
            engine.database() as database,
            running(receiver) as port,
        ):
            told = f"http://127.0.0.1:{port}/hook"
            yield from uvloop.run(_measure(bench, Path(folder), database, told, name=engine.name))


async def _measure(bench: Bench, folder: Path, database: str, url: str, *, name: str) -> list[Figure]:
    rounds, messages = bench.pick(full=(3, 3_000), quick=(2, 1_200), tiny=(1, 200))
    loads = bench.pick(full=LOADS, quick=LOADS, tiny=LOADS[:1])
    async with (
        opened_host(folder, database, base_url=NOWHERE, work=False) as host,
        httpx.AsyncClient(trust_env=False) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(host.jobs.run)
        sides = _Sides(name, database, host, client, url, await _apps(host, url))
        figures = [await sides.figure(load, rounds=rounds, messages=messages) for load in loads]
        host.jobs.stop()
    return figures


async def _apps(host: Host, url: str) -> list[App]:
    """Apps of one account, each with an endpoint."""
    account = await host.ledger.open_account("bench")
    apps = []
    for number in range(max(load.apps for load in LOADS)):
        app = await host.tenants.create_app(account.id, "bench", app=f"app_{number:03}")
        await host.webhooks.put(app, PutWebhook(forward_url=url))
        apps.append(app)
    return apps


@dataclass(frozen=True, slots=True)
class _Sides:
    engine: str
    database: str
    host: Host
    client: httpx.AsyncClient
    url: str
    apps: Sequence[App]

    async def figure(self, load: Load, *, rounds: int, messages: int) -> Figure:
        ours_s = base_s = 0.0
        posted = messages // BASELINE_PART
        for _ in range(rounds):
            owed = owe(self.database, self.apps[: load.apps], messages=messages, of_each_bot=load.of_each_bot(messages))
            ours_s += await _deliver(self.host)
            base_s += await _post(self.client, self.url, [message.body.encode() for message in owed[:posted]])
        return Figure(
            name=f"{self.engine}, {load.name}",
            value=round(rounds * messages / ours_s),
            unit="/s",
            baseline=round(rounds * posted / base_s),
            target=load.target,
        )


def owe(database: str, apps: Sequence[App], *, messages: int, of_each_bot: int) -> list[Message]:
    """Put messages that are due now, of as many bots as it takes."""
    now_ms = time.time_ns() // 1_000_000
    bots: list[Bot] = []
    for number in range(messages // of_each_bot):
        app = apps[number % len(apps)]
        bots.append(
            _done_bot(new_uuid(), account=app.account, app=app.id, status="done", created_ms=now_ms - LONG_AGO_MS)
        )
    owed = [_message(bot, rank, now_ms) for bot in bots for rank in range(of_each_bot)]
    put(database, bots)
    put(database, owed)
    put(database, [_job(bot, now_ms) for bot in bots])
    return owed


def _message(bot: Bot, rank: int, now_ms: int) -> Message:
    body = outbox.event_body(EVENT, bot=bot.id, metadata={"deal": "4711"}, code="done", sub_code="", at_ms=now_ms)
    return Message(
        id=outbox.message_id(bot.id, f"{EVENT}/{rank}"),
        account=bot.account,
        app=bot.app,
        bot=bot.id,
        rank=rank,
        event=EVENT,
        body=json.dumps(body, separators=(",", ":")),
        state="queued",
        attempts=0,
        created_ms=now_ms,
        done_ms=0,
    )


def _job(bot: Bot, now_ms: int) -> Job:
    return Job(
        id=job_id(outbox.DELIVER, bot.id),
        account=bot.account,
        kind=outbox.DELIVER,
        lane=outbox.lane_of(bot.app),
        ref=bot.id,
        generation=0,
        due_ms=now_ms,
        claimed_until_ms=0,
        attempts=0,
        created_ms=now_ms,
    )


def _done_bot(bot_id: str, *, account: str, app: str, status: str, created_ms: int) -> Bot:
    """A bot whose life is over."""
    return Bot(
        id=bot_id,
        account=account,
        app=app,
        provider="fake",
        provider_id=f"at-{bot_id}",
        spawn="created",
        spawn_attempt=1,
        status=status,
        status_reason="",
        stop_reason="",
        platform="zoom",
        meeting_url="https://zoom.us/j/1234567890",
        bot_name="Acme Notetaker",
        metadata='{"deal": "4711"}',
        transcript=1,
        recording="mp4",
        automatic_leave='{"waiting_room_timeout_s": 1200}',
        join_at_ms=0,
        created_ms=created_ms,
        answered_ms=created_ms,
        started_ms=created_ms + 9_000,
        ended_ms=created_ms + 53_000,
        completed_ms=created_ms + 67_000,
        duration_s=44,
        recording_id=f"rec-{bot_id}",
        recording_state="done",
        recording_url=f"http://127.0.0.1:9/plugins/fake/{bot_id}/recording.mp4",
        transcript_id=f"tr-{bot_id}",
        transcript_state="done",
        transcript_url=f"http://127.0.0.1:9/plugins/fake/{bot_id}/transcript.json",
        urls_expire_ms=created_ms + 3_600_000,
        low_credit_ms=0,
    )


async def _deliver(host: Host) -> float:
    """Seconds until nothing is owed."""
    started = time.perf_counter()
    host.jobs.wake()
    while await host.store.read(queries.ids("select id from job limit 1")):  # noqa: ASYNC110 - rows tell nobody
        await anyio.sleep(POLL_S)
    return time.perf_counter() - started


async def _post(client: httpx.AsyncClient, url: str, bodies: Sequence[bytes]) -> float:
    """Seconds for the bodies, from one shared client."""
    left = iter(bodies)

    async def post() -> None:
        for body in left:
            (await client.post(url, content=body)).raise_for_status()

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(post)
    return time.perf_counter() - started
