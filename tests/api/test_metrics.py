"""`GET /metrics`, and what observers hear of calls, deliveries, jobs and providers of a whole host."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from tests.api.receiver import Receiver, listening
from tests.api.scripted import Offering, ScriptedProvider, life
from tests.api.stand import GOOD, USD, OpenStand, Stand, error_of, refusal, settings_in

from ctxhost.api import metrics
from ctxhost.clock import ManualClock
from ctxhost.errors import Overloaded, PluginError
from ctxhost.functions.context import Context
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.host import Host
from ctxhost.observe import (
    BatchRecord,
    CallRecord,
    DeliveryRecord,
    FunctionRecord,
    JobRecord,
    Observer,
    ProviderRecord,
    Record,
    WriteRecord,
)
from ctxhost.observe.metrics import Totals
from ctxhost.settings import Settings

TOKEN = "a-token-of-the-operator"
AUTH = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def watched(open_stand: OpenStand) -> Stand:
    """A stand whose metrics can be read."""
    return await open_stand(metrics_token=TOKEN)


async def scrape(stand: Stand) -> Mapping[str, float]:
    """The samples, by name and label values."""
    response = await stand.client.get("/metrics", headers=AUTH)
    assert 200 == response.status_code, response.text
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in parsed(response.text)
        for sample in family.samples
    }


def observed(stand: Stand) -> list[Record]:
    """What the host tells from now on."""
    told: list[Record] = []
    stand.host.watch.add(told.append)
    return told


class Observing:
    """A plugin that offers an observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @hookimpl
    def register_observers(self, register: Callable[[Observer], None], services: Services) -> None:
        register(self._observer)


def of_kind(told: list[Record], kind: type[Any]) -> list[Any]:
    return [record for record in told if isinstance(record, kind)]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as opened:
        yield opened


async def whole_life(stand: Stand, receiver: Receiver) -> str:
    """A bot that is sent, recorded, charged and told of."""
    await stand.call("PUT", stand.webhook, json={"forward_url": receiver.url})
    bot = await stand.start()
    stand.provider.records["p1"] = life(stand.clock.now_ms())
    stand.clock.advance(seconds=58)
    await stand.work(seconds=5)
    return str(bot["id"])


async def test_there_are_no_metrics_without_a_token(stand: Stand) -> None:
    """A host that was given no token tells nobody anything, whatever the caller sends."""
    for headers in ({}, {"authorization": "Bearer "}, AUTH, stand.auth):
        assert (404, "not_found") == refusal(await stand.client.get("/metrics", headers=headers))


@pytest.mark.parametrize("token", ["", "short", " " * 20, "pässwörter-mit-punkten", "sixteen-chars-and\n"])
def test_a_token_that_can_be_guessed_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable opens nothing to a caller with an empty token: the host does not start.

    Neither with one that no header carries as it is, so that no scraper could ever get in.
    """
    monkeypatch.setenv("CTXHOST_METRICS_TOKEN", token)

    with pytest.raises(ValidationError, match="16 or more letters"):
        Settings()


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \u00fc\u00fc"],
)
async def test_only_the_token_opens_them(watched: Stand, given: str) -> None:
    """Anything else is refused in the API's own form; a service key is no token."""
    response = await watched.client.get("/metrics", headers=[(b"authorization", given.encode())])

    assert (401, "invalid_metrics_token") == refusal(response)
    assert "Bearer" == response.headers["www-authenticate"]
    assert "CTXHOST_METRICS_TOKEN" in error_of(response)["remediation"]
    assert (401, "invalid_metrics_token") == refusal(await watched.client.get("/metrics", headers=watched.auth))


@pytest.mark.parametrize(
    ("accept", "media_type", "end"),
    [
        ("", "text/plain; version=0.0.4", ""),
        ("text/html", "text/plain; version=0.0.4", ""),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_they_come_in_the_form_that_is_asked_for(watched: Stand, accept: str, media_type: str, end: str) -> None:
    """Prometheus' text, or OpenMetrics for whoever accepts it."""
    response = await watched.client.get("/metrics", headers={**AUTH, "accept": accept})

    assert response.headers["content-type"].startswith(media_type)
    assert response.text.endswith(end)
    assert "ctxhost_database_up 1" in response.text


async def test_a_bots_life_is_counted(watched: Stand, receiver: Receiver) -> None:
    """From the call that sent it to the charge and the deliveries; and the account's totals."""
    await whole_life(watched, receiver)
    found = await scrape(watched)
    journal = await watched.host.ledger.entries(watched.app.account)
    charged = -sum(entry.allowance + entry.credits for entry in journal if entry.kind == "charge")

    expected = {
        "ctxhost_http_requests_total POST startBot 200": 1,
        "ctxhost_store_writes_total StartBot ok": 1,
        "ctxhost_store_writes_total NoteRecord ok": 1,
        "ctxhost_provider_calls_total create ok scripted": 1,
        "ctxhost_provider_calls_total read ok scripted": 1,
        "ctxhost_job_runs_total read ok": 1,
        "ctxhost_deliveries_total delivered": 4,
        "ctxhost_charged_nano_usd_total meetings": 9_533_333,
        "ctxhost_provider_cost_nano_usd_total scripted": 6_111_111,
        "ctxhost_balance_nano_usd": 5_000_000_000 - 9_533_333,
        "ctxhost_held_nano_usd": 0,
        "ctxhost_bots_live": 0,
        "ctxhost_messages_queued": 0,
        "ctxhost_store_queue_commands": 0,
    }
    assert expected == {name: found.get(name) for name in expected}
    assert 9_533_333 == charged


async def test_what_waits_is_shown(watched: Stand) -> None:
    """Live bots, what they hold, and jobs that are due with nobody to do them."""
    await watched.start()
    watched.clock.advance(seconds=70)
    found = await scrape(watched)

    assert (1, 1, 65_000_000) == tuple(
        found[f"ctxhost_{name}"] for name in ("bots_live", "bots_waiting", "held_nano_usd")
    )
    assert 1 == found["ctxhost_jobs_due read"]
    assert 0 < found["ctxhost_jobs_oldest_due_seconds read"] <= 70


async def test_refusals_are_counted_by_code(watched: Stand) -> None:
    """Whatever refuses: the door, the router, the store."""
    await watched.client.get(watched.bots)
    await watched.call("GET", f"{watched.bots}/none")
    await watched.call("GET", "/nowhere/at/all")
    await watched.call("PATCH", "/health/live")
    found = await scrape(watched)

    codes = ("missing_credentials", "bot_not_found", "not_found", "method_not_allowed")
    assert [1, 1, 1, 1] == [found[f"ctxhost_refusals_total {code}"] for code in codes]
    assert 1 == found["ctxhost_http_requests_total GET none 404"]


async def test_a_scrape_does_not_wait_for_a_database_that_hangs(
    watched: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the host counts itself is told; the database is asked once, not once more with every scrape."""
    asked = 0

    async def hang(_: object) -> None:
        nonlocal asked
        asked += 1
        await anyio.sleep_forever()

    monkeypatch.setattr(metrics, "PATIENCE_S", 0.01)
    monkeypatch.setattr(metrics, "_totals", hang)
    first, second = await scrape(watched), await scrape(watched)

    assert (0, 0, 1) == (first["ctxhost_database_up"], second["ctxhost_database_up"], asked)
    assert 1 == second["ctxhost_http_requests_total GET metrics 200"]


async def test_a_scrape_survives_a_database_that_fails(
    watched: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that the database is away; once it is back, so are the totals."""

    async def fail(_: object) -> None:
        raise Overloaded("The database cannot be reached.")

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "_totals", fail)
        away = await scrape(watched)
    back = await scrape(watched)

    assert (0, 1) == (away["ctxhost_database_up"], back["ctxhost_database_up"])
    assert "The database cannot be reached." in caplog.text


async def test_scrapes_at_once_share_a_reading(watched: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of them costs the database one."""
    read, asked = metrics._totals, 0

    async def counted(host: Any) -> Totals:
        nonlocal asked
        asked += 1
        return await read(host)

    monkeypatch.setattr(metrics, "_totals", counted)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(scrape, watched)

    assert 1 == asked


async def test_a_bad_observer_takes_nothing_down(watched: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises and one that is slow: calls, jobs and books go on, and the third is told of everything."""

    def broken(_: Record) -> None:
        raise RuntimeError("no backend")

    def slow(_: Record) -> None:
        time.sleep(0.002)

    watched.host.watch.add(broken)
    watched.host.watch.add(slow)
    told = observed(watched)
    caplog.set_level(logging.CRITICAL, logger="ctxhost.observe")
    bot = await watched.start()
    watched.provider.records["p1"] = life(watched.clock.now_ms())
    await watched.work(seconds=62)

    assert "done" == (await watched.get(bot["id"]))["status"]
    assert 0 == await watched.held()
    assert {WriteRecord, CallRecord, JobRecord, ProviderRecord} <= {type(record) for record in told}


async def test_a_call_is_told_when_it_is_over(stand: Stand) -> None:
    """What answered, for which app, how it went; the id is that of the answer."""
    told = observed(stand)
    good = await stand.call("GET", f"{stand.bots}?limit=1")
    await stand.call("GET", f"{stand.bots}/00000000-0000-0000-0000-000000000000")
    await stand.client.get("/v1/app_none/ai/meetings", headers=stand.auth)
    await stand.client.request("BREW", "/fn/tea?secret=1")

    calls = of_kind(told, CallRecord)
    assert [
        ("listBots", "/v1/{app_id}/ai/meetings", stand.app.id, "GET", 200, ""),
        ("getBot", "/v1/{app_id}/ai/meetings/{bot_id}", stand.app.id, "GET", 404, "bot_not_found"),
        ("listBots", "/v1/{app_id}/ai/meetings", "", "GET", 404, "app_not_found"),
        ("callFunctionOfHost", "/fn/{path}", "", "_OTHER", 404, "app_not_found"),
    ] == [(c.operation, c.route, c.app, c.method, c.status, c.code) for c in calls]
    assert good.headers["x-request-id"] == calls[0].request_id
    assert all(call.took_s > 0 for call in calls)
    assert "secret" not in repr(told)


async def test_a_function_is_told_of_within_its_call(stand: Stand) -> None:
    """The call names the function and the app; a handler's own 404 is an answer, its failure has a code."""

    async def answers(request: Request, _: Context) -> Response:
        if "fail" in request.query_params:
            raise RuntimeError("bug")
        return Response(status_code=404)

    stand.host.functions.register(stand.app.id, "answers", answers, auth="none")
    told = observed(stand)
    await stand.client.post(f"/v1/{stand.app.id}/fn/answers")
    await stand.client.post(f"/v1/{stand.app.id}/fn/answers?fail=1")

    functions = of_kind(told, FunctionRecord)
    assert [("answers", "ok"), ("answers", "handler_error")] == [(f.function, f.outcome) for f in functions]
    assert [
        ("callFunction", "answers", stand.app.id, 404, ""),
        ("callFunction", "answers", stand.app.id, 500, "handler_error"),
    ] == [(c.operation, c.function, c.app, c.status, c.code) for c in of_kind(told, CallRecord)]


async def test_a_client_that_goes_away_is_told_of(stand: Stand) -> None:
    """Status 0: there was nobody to answer."""
    told = observed(stand)
    scope = {
        "type": "http",
        "method": "POST",
        "path": stand.bots,
        "raw_path": stand.bots.encode(),
        "query_string": b"",
        "headers": [(b"authorization", stand.auth["authorization"].encode())],
        "client": None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise AssertionError("nobody is there")

    await stand.host.asgi(scope, receive, send)

    assert [("startBot", 0, "")] == [(c.operation, c.status, c.code) for c in of_kind(told, CallRecord)]


async def test_every_attempt_to_deliver_is_told(stand: Stand, receiver: Receiver) -> None:
    """With the message's webhook-id, how it went, and which attempt it was; never the URL."""
    told = observed(stand)
    receiver.statuses = [503]
    bot = await whole_life(stand, receiver)
    await stand.work(seconds=8)

    attempts = of_kind(told, DeliveryRecord)
    assert [("bot.in_call_recording", 503, "http_503", 1), ("bot.in_call_recording", 200, "delivered", 2)] == [
        (a.event, a.status, a.outcome, a.attempt) for a in attempts[:2]
    ]
    assert {(bot, stand.app.id)} == {(a.bot, a.app) for a in attempts}
    assert attempts[0].message == attempts[1].message == receiver.got[0].headers["webhook-id"]
    assert receiver.url not in repr(told)


async def test_a_receiver_without_an_answer_is_told_by_its_reason(stand: Stand) -> None:
    """Status 0 and why."""
    told = observed(stand)
    await stand.call("PUT", stand.webhook, json={"forward_url": "http://127.0.0.1:9/"})
    await stand.call("POST", f"{stand.webhook}/test")
    await stand.host.jobs.run_due()

    (attempt,) = of_kind(told, DeliveryRecord)
    assert (0, "connect", 1) == (attempt.status, attempt.outcome, attempt.attempt)


async def test_a_job_that_waits_is_told_as_late(stand: Stand) -> None:
    """By how long after its time it began."""
    told = observed(stand)
    await stand.start()
    stand.provider.records["p1"] = life(stand.clock.now_ms())
    stand.clock.advance(seconds=100)
    await stand.host.jobs.run_due()

    late = {job.kind: job.late_s for job in of_kind(told, JobRecord)}
    assert 0 < late["read"] <= 100


async def test_observers_are_given_to_a_host(tmp_path: Path, clock: ManualClock) -> None:
    """By the embedding program, and by a plugin; both hear of all that happens from the opening on."""
    given: list[Record] = []
    offered: list[Record] = []
    plugins = [Offering(ScriptedProvider()), Observing(offered.append)]
    settings = settings_in(tmp_path)
    async with Host(settings, plugins=plugins, observers=[given.append], clock=clock, work=False) as host:
        account = await host.ledger.open_account("owner")
        await host.credits.grant(account.id, 5 * USD, key="first")
        app = await host.tenants.create_app(account.id, "Notes")
        async with await host.context(app.id) as ctx:
            await ctx.ai.meetings.start(GOOD["meetingUrl"])

    assert given == offered
    assert {WriteRecord, BatchRecord, ProviderRecord} == {type(record) for record in given}


async def test_an_observer_that_must_be_awaited_stops_the_start(tmp_path: Path) -> None:
    """The embedding program hears of its mistake at once."""

    async def waits(_: Record) -> None:
        """Nobody would wait for it."""

    with pytest.raises(PluginError, match="plain function"):
        async with Host(settings_in(tmp_path), plugins=[], observers=[waits], work=False):  # type: ignore[list-item]
            pass
