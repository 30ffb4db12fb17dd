"""Traces, as OpenTelemetry's own SDK receives them from a whole host."""

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request
from tests.api.receiver import Receiver, listening
from tests.api.scripted import life
from tests.api.stand import GOOD, RING, OpenStand, Stand

from ctxhost.errors import ProviderBusy
from ctxhost.functions.context import Context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLERS_TRACE, CALLERS_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@dataclass
class Traces:
    """What has been exported."""

    exporter: InMemorySpanExporter

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """The only span of a name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def parents(self) -> set[tuple[str, str]]:
        """Each span with the one that it happened in."""
        names = {span.context.span_id: span.name for span in self.spans if span.context}
        return {(span.name, names.get(span.parent.span_id, "?") if span.parent else "") for span in self.spans}


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    """A process whose tracer provider keeps every span."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return Traces(exporter)


@pytest.fixture
async def traced(traces: Traces, open_stand: OpenStand) -> Stand:
    """A stand that was opened when traces were configured; what its opening left is forgotten."""
    stand = await open_stand()
    traces.exporter.clear()
    return stand


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as opened:
        yield opened


async def sends_a_bot(_: Request, ctx: Context) -> dict[str, str]:
    bot = await ctx.ai.meetings.start(GOOD["meetingUrl"])
    return {"bot": bot.id}


async def test_a_call_that_sends_a_bot_is_one_trace(traced: Stand, traces: Traces) -> None:
    """The call, the function, its writes and the provider: across the host's own tasks and the batch queue."""
    traced.host.functions.register(traced.app.id, "spawn", sends_a_bot, auth="none")
    answer = await traced.client.post(f"/v1/{traced.app.id}/fn/spawn")

    assert 200 == answer.status_code
    assert {
        ("POST callFunction", ""),
        ("function spawn", "POST callFunction"),
        ("write KeepSecret", "function spawn"),  # the first call of an app names its database
        ("write StartBot", "function spawn"),
        ("scripted create", "function spawn"),
        ("write SpawnCreated", "function spawn"),
    } == traces.parents()
    assert 1 == len({span.context.trace_id for span in traces.spans if span.context})


async def test_a_function_that_calls_the_api_is_in_the_same_trace(traced: Stand, traces: Traces) -> None:
    """The host's own base URL is answered in process, and the call is a span of its own within the function's."""

    async def asks(_: Request, ctx: Context) -> dict[str, int]:
        answer = await ctx.http.get(f"{ctx.env['BUTTERBASE_API_URL']}/health/live")
        return {"status": answer.status_code}

    traced.host.functions.register(traced.app.id, "asks", asks, auth="none")
    await traced.client.post(f"/v1/{traced.app.id}/fn/asks")

    (call,) = [name for name, parent in traces.parents() if parent == "function asks" and name.startswith("GET ")]
    assert SpanKind.SERVER is traces.named(call).kind


async def test_a_call_says_what_it_was(traced: Stand, traces: Traces) -> None:
    """In OpenTelemetry's stable words for HTTP, and ours for the rest."""
    answer = await traced.call("GET", f"{traced.bots}/none")
    span = traces.named("GET getBot")

    assert (SpanKind.SERVER, StatusCode.UNSET) == (span.kind, span.status.status_code)
    assert {
        "http.request.method": "GET",
        "http.response.status_code": 404,
        "http.route": "/v1/{app_id}/ai/meetings/{bot_id}",
        "url.scheme": "http",
        "ctxhost.operation": "getBot",
        "ctxhost.app": traced.app.id,
        "ctxhost.code": "bot_not_found",
        "ctxhost.request_id": answer.headers["x-request-id"],
    } == dict(span.attributes or {})


async def test_the_callers_trace_goes_on(traced: Stand, traces: Traces) -> None:
    """A W3C traceparent that comes with a call is its parent; one that is malformed is none."""
    await traced.call("GET", traced.bots, headers={"traceparent": CALLER, "tracestate": "acme=1"})
    span = traces.named("GET listBots")
    traces.exporter.clear()
    await traced.call("GET", traced.bots, headers={"traceparent": "00-zz-zz-01"})

    assert span.parent
    assert span.context
    assert (CALLERS_TRACE, CALLERS_SPAN) == (span.context.trace_id, span.parent.span_id)
    assert "1" == span.context.trace_state["acme"]
    assert None is traces.named("GET listBots").parent


@pytest.mark.parametrize(
    ("error", "status", "code", "provider_status"),
    [
        pytest.param(ProviderBusy("full"), StatusCode.ERROR, "provider_busy", StatusCode.ERROR, id="upstream"),
        pytest.param(RuntimeError("bug"), StatusCode.UNSET, None, StatusCode.ERROR, id="unknown-outcome"),
    ],
)
async def test_a_failure_is_marked_where_it_happened(
    traced: Stand,
    traces: Traces,
    error: Exception,
    status: StatusCode,
    code: str | None,
    provider_status: StatusCode,
) -> None:
    """The provider's span, and the call's when it failed by it; what the exception said stays in the log."""
    traced.provider.create_error = error
    await traced.call("POST", traced.bots, json=GOOD)
    call, provider = traces.named("POST startBot"), traces.named("scripted create")

    assert (status, code) == (call.status.status_code, (call.attributes or {}).get("error.type"))
    assert provider_status is provider.status.status_code
    assert [] == [event for span in traces.spans for event in span.events]
    assert None is provider.status.description


@pytest.mark.parametrize("moment", ["on_start", "on_end"])
async def test_a_broken_tracer_takes_nothing_down(
    traced: Stand, moment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls are answered and written as if there were none; the log says it once."""

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("no collector")

    monkeypatch.setattr(SimpleSpanProcessor, moment, breaks)
    bot = await traced.start()

    assert "joining" == bot["status"]
    assert ["no collector"] == [str(line.exc_info[1]) for line in caplog.records if line.exc_info]


async def test_a_refused_write_is_no_failure(traced: Stand, traces: Traces) -> None:
    """That credit does not suffice is an answer; it is in the attributes."""
    key = traced.stranger_key
    headers = {"authorization": f"Bearer {key}"}
    await traced.client.post(f"/v1/{traced.stranger.id}/ai/meetings", json=GOOD, headers=headers)
    span = traces.named("write StartBot")

    assert (StatusCode.UNSET, "insufficient_credits") == (
        span.status.status_code,
        (span.attributes or {})["ctxhost.outcome"],
    )


async def test_a_job_begins_a_trace(traced: Stand, traces: Traces, receiver: Receiver) -> None:
    """Of what it does: asking the provider, writing, delivering. It is nobody's child, whatever runs around it."""
    await traced.call("PUT", traced.webhook, json={"forward_url": receiver.url})
    await traced.start()
    traced.provider.records["p1"] = life(traced.clock.now_ms())
    traces.exporter.clear()
    with trace.get_tracer_provider().get_tracer("test").start_as_current_span("around"):
        await traced.work(seconds=62)

    assert {
        ("job read", ""),
        ("scripted read", "job read"),
        ("write NoteRecord", "job read"),
        ("job deliver", ""),
        ("deliver bot.in_call_recording", "job deliver"),
        ("deliver bot.done", "job deliver"),
    } <= traces.parents()
    span = traces.named("deliver bot.done")
    told = dict(span.attributes or {})
    assert (SpanKind.CLIENT, 200, traced.app.id) == (
        span.kind,
        told["http.response.status_code"],
        told["ctxhost.app"],
    )


async def test_receivers_are_told_nothing_of_traces(traced: Stand, receiver: Receiver) -> None:
    """A foreign server gets no traceparent: the trace is the operator's."""
    await traced.call("PUT", traced.webhook, json={"forward_url": receiver.url})
    await traced.call("POST", f"{traced.webhook}/test")
    await traced.host.jobs.run_due()

    (got,) = receiver.got
    assert set() == {"traceparent", "tracestate", "baggage"} & got.headers.keys()


async def test_a_delivery_that_fails_is_marked(traced: Stand, traces: Traces) -> None:
    """By its reason."""
    await traced.call("PUT", traced.webhook, json={"forward_url": "http://127.0.0.1:9/"})
    await traced.call("POST", f"{traced.webhook}/test")
    await traced.host.jobs.run_due()
    span = next(span for span in traces.spans if span.name.startswith("deliver "))

    assert (StatusCode.ERROR, "connect") == (span.status.status_code, (span.attributes or {})["error.type"])


async def test_no_secret_is_in_a_trace(traced: Stand, traces: Traces, receiver: Receiver) -> None:
    """Neither keys nor webhook secrets, nor what tenants send: queries, bodies, metadata, receivers' URLs."""
    url = f"{receiver.url}?token=hush-in-url"
    secret = (await traced.call("PUT", traced.webhook, json={"forward_url": url})).json()["secret"]
    await traced.start(metadata={"note": "hush-in-metadata"}, botName="hush-in-name")
    traced.provider.records["p1"] = life(traced.clock.now_ms(), url="https://media.example/hush-in-link")
    await traced.work(seconds=62)
    await traced.call("GET", f"{traced.bots}?limit=1&cursor=hush-in-query")
    await traced.client.post(f"/v1/{traced.app.id}/fn/hush-in-path?key=hush-in-query", headers=traced.auth)
    told = "\n".join(span.to_json() for span in traces.spans)

    assert len(traces.spans) > 10
    assert [] == [hidden for hidden in (traced.key, secret, RING, "hush", url, GOOD["meetingUrl"]) if hidden in told]


async def test_callers_at_once_keep_their_traces(traced: Stand, traces: Traces) -> None:
    """Writes of many calls share a batch; each is in its own call's trace."""
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(traced.start)

    assert 8 == len({span.context.trace_id for span in traces.spans if span.context})
    assert {("write StartBot", "POST startBot"), ("POST startBot", "")} <= traces.parents()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param("", "off False", id="nothing is imported"),
        pytest.param("import opentelemetry.trace", "off True", id="nobody has configured it"),
        pytest.param(
            "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import TracerProvider\n"
            "trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))",
            "on True",
            id="the process has configured it",
        ),
    ],
)
def test_only_a_process_that_wants_traces_has_them(
    tmp_path_factory: pytest.TempPathFactory, before: str, expected: str
) -> None:
    """The host configures nothing and imports nothing; it uses what the process has."""
    folder = tmp_path_factory.mktemp("host")
    program = f"""
import asyncio, sys
from ctxhost import Host, Settings, new_key_text
{before}

async def main():
    settings = Settings(database="{folder}/db", data_dir="{folder}/data", encryption_keys=new_key_text())
    async with Host(settings, plugins=[], work=False) as host:
        print("on" if host.watch.is_on else "off", "opentelemetry.trace" in sys.modules)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert expected == done.stdout.strip(), done.stderr
