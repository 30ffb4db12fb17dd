"""What is counted, as Prometheus reads it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from ctxhost.observe import (
    BatchRecord,
    CallRecord,
    DeliveryRecord,
    FunctionRecord,
    JobRecord,
    ProviderRecord,
    Record,
    WriteRecord,
)
from ctxhost.observe.metrics import DueJobs, Metrics, Totals

TOTALS = Totals(
    bots_live=3,
    bots_waiting=1,
    messages_queued=4,
    held_nano_usd=65_000_000,
    balance_nano_usd=5e9,
    jobs_due={"read": DueJobs(count=2, oldest_s=1.5)},
)
CALL: Mapping[str, Any] = {
    "operation": "getCredits",
    "route": "/v1/{app_id}/credits",
    "function": "",
    "app": "app_1",
    "method": "GET",
    "status": 200,
    "code": "",
    "took_s": 0.01,
    "request_id": "req_1",
}
ONE_OF_EACH: tuple[Record, ...] = (
    WriteRecord(command="Charge", account="acct_1", outcome="ok", took_s=0.003),
    BatchRecord(
        commands=17,
        lane="main",
        took_s=0.004,
        charged_nano_usd={"meetings": 9_533_333},
        provider_cost_nano_usd={"acme": 6_111_111},
    ),
    CallRecord(**CALL),
    CallRecord(**{**CALL, "status": 404, "code": "bot_not_found"}),
    FunctionRecord(app="app_1", function="spawn", outcome="handler_error", took_s=1),
    DeliveryRecord(
        app="app_1",
        bot="bot_1",
        message="msg_1",
        event="bot.done",
        status=503,
        outcome="http_503",
        attempt=1,
        took_s=0.2,
    ),
    JobRecord(kind="read", outcome="ok", late_s=3, took_s=0.1),
    ProviderRecord(provider="acme", operation="create", outcome="provider_busy", took_s=0.5),
)


def read(metrics: Metrics, *, totals: Totals | None = TOTALS, accept: str = "") -> dict[str, float]:
    """Every sample by its name and labels, as it is written."""
    make, media_type = metrics.shown(accept=accept, totals=totals)
    parse = read_openmetrics if "openmetrics" in media_type else read_text
    samples = [sample for family in parse(make().decode()) for sample in family.samples]
    return {
        f"{s.name}{{{','.join(f'{name}={value}' for name, value in sorted(s.labels.items()))}}}": s.value
        for s in samples
    }


def counted(*records: Record) -> Metrics:
    metrics = Metrics(lambda: 7)
    for record in records:
        metrics(record)
    return metrics


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"], ids=["plain", "openmetrics"])
def test_everything_that_happens_is_counted(accept: str) -> None:
    """Each record in its counters and histograms, in both forms that Prometheus reads."""
    found = read(counted(*ONE_OF_EACH), accept=accept)

    expected = {
        "ctxhost_store_writes_total{command=Charge,outcome=ok}": 1,
        "ctxhost_store_write_duration_seconds_sum{}": 0.003,
        "ctxhost_store_batch_commands_sum{lane=main}": 17,
        "ctxhost_store_batch_duration_seconds_count{lane=main}": 1,
        "ctxhost_store_queue_commands{}": 7,
        "ctxhost_charged_nano_usd_total{purpose=meetings}": 9_533_333,
        "ctxhost_provider_cost_nano_usd_total{provider=acme}": 6_111_111,
        "ctxhost_http_requests_total{method=GET,operation=getCredits,status=200}": 1,
        "ctxhost_http_requests_total{method=GET,operation=getCredits,status=404}": 1,
        "ctxhost_http_request_duration_seconds_count{operation=getCredits}": 2,
        "ctxhost_refusals_total{code=bot_not_found}": 1,
        "ctxhost_function_calls_total{outcome=handler_error}": 1,
        "ctxhost_function_call_duration_seconds_sum{}": 1,
        "ctxhost_deliveries_total{outcome=http_5xx}": 1,
        "ctxhost_delivery_duration_seconds_sum{}": 0.2,
        "ctxhost_job_runs_total{kind=read,outcome=ok}": 1,
        "ctxhost_job_lateness_seconds_sum{kind=read}": 3,
        "ctxhost_job_run_duration_seconds_sum{kind=read}": 0.1,
        "ctxhost_provider_calls_total{operation=create,outcome=provider_busy,provider=acme}": 1,
        "ctxhost_provider_call_duration_seconds_sum{operation=create,provider=acme}": 0.5,
        "ctxhost_database_up{}": 1,
        "ctxhost_bots_live{}": 3,
        "ctxhost_bots_waiting{}": 1,
        "ctxhost_messages_queued{}": 4,
        "ctxhost_held_nano_usd{}": 65_000_000,
        "ctxhost_balance_nano_usd{}": 5e9,
        "ctxhost_jobs_due{kind=read}": 2,
        "ctxhost_jobs_oldest_due_seconds{kind=read}": 1.5,
    }
    assert expected == {name: value for name, value in found.items() if name in expected}
    rest = found.keys() - expected.keys()
    assert set() == {name for name in rest if not re.search(r"_bucket|_count|_sum|ctxhost_info|^process_", name)}


def test_a_histogram_counts_upwards() -> None:
    """A bucket holds all that is no larger than its end; the last one holds everything."""
    lateness = (0.1, 0.11, 60, 5_000)
    runs = [JobRecord(kind="read", outcome="ok", late_s=late_s, took_s=0) for late_s in lateness]
    found = read(counted(*runs))

    buckets = {
        end: found[f"ctxhost_job_lateness_seconds_bucket{{kind=read,le={end}}}"] for end in ("0.1", "0.5", "60.0")
    }
    assert {"0.1": 1, "0.5": 2, "60.0": 3} == buckets
    assert 4 == found["ctxhost_job_lateness_seconds_bucket{kind=read,le=+Inf}"]
    assert 4 == found["ctxhost_job_lateness_seconds_count{kind=read}"]
    assert pytest.approx(sum(lateness)) == found["ctxhost_job_lateness_seconds_sum{kind=read}"]


def test_no_label_names_a_tenant() -> None:
    """The number of series has a bound: neither accounts, apps, bots nor functions are among the labels."""
    make, _ = counted(*ONE_OF_EACH).shown(accept="", totals=TOTALS)
    text = make().decode()

    assert [] == [name for name in ("acct_1", "app_1", "bot_1", "msg_1", "spawn", "req_1", "/v1/") if name in text]


def test_receivers_cannot_make_series() -> None:
    """Whatever status they answer, it is one of a few."""
    told = dict.fromkeys(("app", "bot", "message", "event"), "")
    answers = [
        DeliveryRecord(**told, status=status, outcome=f"http_{status}", attempt=1, took_s=0)
        for status in range(400, 600)
    ]
    found = read(counted(*answers))

    assert {"http_4xx": 100, "http_5xx": 100} == {
        name.partition("outcome=")[2].rstrip("}"): value for name, value in found.items() if "deliveries_total" in name
    }


def test_functions_cannot_make_series() -> None:
    """Whatever status a handler answers with, though no server would send it."""
    found = read(counted(*[CallRecord(**{**CALL, "status": status}) for status in range(200, 2_000)]))

    assert 401 == len([name for name in found if "http_requests_total" in name])


def test_without_the_database_the_rest_is_told() -> None:
    """A database that is away takes its totals with it, and nothing else."""
    found = read(counted(*ONE_OF_EACH), totals=None)

    assert (0, 1) == (found["ctxhost_database_up{}"], found["ctxhost_job_runs_total{kind=read,outcome=ok}"])
    assert not {name for name in found if name.startswith(("ctxhost_bots", "ctxhost_held", "ctxhost_jobs"))}


def test_a_cost_that_shrinks_takes_nothing_back() -> None:
    """A counter only grows: Prometheus would take less for a restart."""
    grown = BatchRecord(commands=1, lane="main", took_s=0, provider_cost_nano_usd={"acme": 10})
    shrunk = BatchRecord(commands=1, lane="main", took_s=0, provider_cost_nano_usd={"acme": -4})

    assert 10 == read(counted(grown, shrunk))["ctxhost_provider_cost_nano_usd_total{provider=acme}"]


def test_each_host_counts_for_itself() -> None:
    """Two hosts in one process share nothing."""
    counted(*ONE_OF_EACH)

    assert "ctxhost_job_runs_total{kind=read,outcome=ok}" not in read(counted())


def test_what_is_shown_stands_still() -> None:
    """The text is of one moment, whatever is counted while it is made in a thread."""
    metrics = counted()
    make, _ = metrics.shown(accept="", totals=None)
    for record in ONE_OF_EACH:
        metrics(record)

    assert b"ctxhost_job_runs_total{" not in make()


def test_every_metric_is_in_the_page() -> None:
    """docs/operations.md lists them all, with their labels, and none that is not there."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = page.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    listed = {
        name: set(re.findall(r"\w+", labels)) for name, labels in re.findall(r"^\| `(\w+)` \| ([^|]*)\|", section, re.M)
    }
    make, _ = counted(*ONE_OF_EACH).shown(accept="", totals=TOTALS)
    told = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in read_text(make().decode())
        if family.name.startswith("ctxhost_")
    }

    assert told == listed
