"""The observer that counts, in Prometheus' words: one registry for each host, and labels of few values only.

No label names an account, an app, a bot or a path: their number has no bound.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ctxhost.observe.counting import Count, Spread
from ctxhost.observe.records import (
    BatchRecord,
    CallRecord,
    DeliveryRecord,
    FunctionRecord,
    JobRecord,
    ProviderRecord,
    Record,
    WriteRecord,
)

_COMMANDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STATUSES: Final = 600
_LATE: Final = (0.1, 0.5, 1, 2, 5, 15, 60, 300, 1_800)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJobs:
    """Jobs of a kind that are due and not begun."""

    count: int
    oldest_s: float
    """How long ago the first of them was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What only the database knows, of all its hosts together."""

    bots_live: int
    bots_waiting: int
    messages_queued: int
    held_nano_usd: float
    balance_nano_usd: float
    jobs_due: Mapping[str, DueJobs]


class Metrics:
    """Counts what it is told of. It is one event loop's, as the host is."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        Info("ctxhost", "The host.", registry=self._registry).info({"version": version("ctxhost")})
        self._gauge("store_queue_commands", "Commands that wait for a transaction.").set_function(waiting)
        self._totals = _TotalsCollector()
        self._registry.register(self._totals)
        self._note: dict[type[Record], Callable[[Any], None]] = {
            WriteRecord: self._writes(),
            BatchRecord: self._batches(),
            CallRecord: self._calls(),
            FunctionRecord: self._functions(),
            DeliveryRecord: self._deliveries(),
            JobRecord: self._jobs(),
            ProviderRecord: self._providers(),
        }

    def __call__(self, record: Record) -> None:
        self._note[type(record)](record)

    def shown(self, *, accept: str, totals: Totals | None) -> tuple[Callable[[], bytes], str]:
        """What makes the text of all that is counted now, and the text's media type, as the header `accept` wishes.

        Making it takes several times as long as this; it may be done in a thread.
        """
        self._totals.totals = totals
        encode, media_type = choose_encoder(accept)
        return partial(encode, _Collected(list(self._registry.collect()))), media_type

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"ctxhost_{name}", what, registry=self._registry)

    def _counter(self, name: str, what: str, *labels: str) -> Count:
        count = Count(f"ctxhost_{name}", what, labels)
        self._registry.register(count)
        return count

    def _histogram(self, name: str, what: str, *labels: str, bounds: tuple[float, ...] = _SECONDS) -> Spread:
        spread = Spread(f"ctxhost_{name}", what, labels, bounds=bounds)
        self._registry.register(spread)
        return spread

    def _writes(self) -> Callable[[WriteRecord], None]:
        count = self._counter("store_writes", "Commands that were given to the store.", "command", "outcome")
        took = self._histogram("store_write_duration_seconds", "From giving a command to its answer.")

        def note(record: WriteRecord) -> None:
            count.add((record.command, record.outcome))
            took.add((), record.took_s)

        return note

    def _batches(self) -> Callable[[BatchRecord], None]:
        size = self._histogram("store_batch_commands", "Commands of a transaction.", "lane", bounds=_COMMANDS)
        took = self._histogram("store_batch_duration_seconds", "Length of a transaction.", "lane")
        charged = self._counter("charged_nano_usd", "Charged to accounts by this host.", "purpose")
        cost = self._counter("provider_cost_nano_usd", "What providers will bill for, noted by this host.", "provider")

        def note(record: BatchRecord) -> None:
            size.add((record.lane,), record.commands)
            took.add((record.lane,), record.took_s)
            for purpose, amount in record.charged_nano_usd.items():
                charged.add((purpose,), amount)
            for provider, amount in record.provider_cost_nano_usd.items():
                cost.add((provider,), max(amount, 0))

        return note

    def _calls(self) -> Callable[[CallRecord], None]:
        count = self._counter(
            "http_requests", "HTTP calls; status 0: the client left.", "operation", "method", "status"
        )
        refused = self._counter("refusals", "Calls that were answered by an error.", "code")
        took = self._histogram("http_request_duration_seconds", "Length of an HTTP call.", "operation")

        def note(record: CallRecord) -> None:
            operation = record.operation or "none"
            status = str(record.status) if record.status < _STATUSES else "other"  # a function may answer any number
            count.add((operation, record.method, status))
            took.add((operation,), record.took_s)
            if record.code:
                refused.add((record.code,))

        return note

    def _functions(self) -> Callable[[FunctionRecord], None]:
        count = self._counter("function_calls", "Calls of apps' functions.", "outcome")
        took = self._histogram("function_call_duration_seconds", "Length of a function's call.")

        def note(record: FunctionRecord) -> None:
            count.add((record.outcome,))
            took.add((), record.took_s)

        return note

    def _deliveries(self) -> Callable[[DeliveryRecord], None]:
        count = self._counter("deliveries", "Attempts to deliver a message.", "outcome")
        took = self._histogram("delivery_duration_seconds", "Length of an attempt to deliver.")

        def note(record: DeliveryRecord) -> None:
            is_answer = record.outcome.startswith("http_")  # a receiver may choose any of hundreds
            count.add((f"http_{record.status // 100}xx" if is_answer else record.outcome,))
            took.add((), record.took_s)

        return note

    def _jobs(self) -> Callable[[JobRecord], None]:
        count = self._counter("job_runs", "Runs of jobs.", "kind", "outcome")
        late = self._histogram("job_lateness_seconds", "How late a run began.", "kind", bounds=_LATE)
        took = self._histogram("job_run_duration_seconds", "Length of a run.", "kind")

        def note(record: JobRecord) -> None:
            count.add((record.kind, record.outcome))
            late.add((record.kind,), record.late_s)
            took.add((record.kind,), record.took_s)

        return note

    def _providers(self) -> Callable[[ProviderRecord], None]:
        labels = ("provider", "operation")
        count = self._counter("provider_calls", "Calls of providers' adapters.", *labels, "outcome")
        took = self._histogram("provider_call_duration_seconds", "Length of a call of an adapter.", *labels)

        def note(record: ProviderRecord) -> None:
            count.add((record.provider, record.operation, record.outcome))
            took.add((record.provider, record.operation), record.took_s)

        return note


@dataclass(frozen=True, slots=True)
class _Collected(Collector):
    """What a registry had at one moment."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


class _TotalsCollector(Collector):
    """Gauges as they were last read; none of them while the database cannot be asked."""

    def __init__(self) -> None:
        self.totals: Totals | None = None

    def collect(self) -> Iterable[Metric]:
        totals = self.totals
        yield _total("database_up", "Whether the database answered this scrape.", 0 if totals is None else 1)
        if totals is None:
            return
        yield _total("bots_live", "Bots that are joining or in a call.", totals.bots_live)
        yield _total("bots_waiting", "Those of them that wait to be let in.", totals.bots_waiting)
        yield _total("messages_queued", "Messages to apps that are not delivered yet.", totals.messages_queued)
        yield _total("held_nano_usd", "Held by open leases, of all accounts.", totals.held_nano_usd)
        yield _total("balance_nano_usd", "What all accounts own, held or not.", totals.balance_nano_usd)
        yield _by_kind("jobs_due", "Jobs that are due and not begun.", {k: j.count for k, j in totals.jobs_due.items()})
        oldest = {kind: due.oldest_s for kind, due in totals.jobs_due.items()}
        yield _by_kind("jobs_oldest_due_seconds", "How long the first of them has been due.", oldest)


def _total(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ctxhost_{name}", what, value=value)


def _by_kind(name: str, what: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ctxhost_{name}", what, labels=["kind"])
    for kind, value in values.items():
        family.add_metric([kind], value)
    return family
