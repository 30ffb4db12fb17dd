"""Counters and histograms of one event loop, shown to Prometheus as what they are.

Those of `prometheus_client` take a lock for each bucket they touch, so that threads may share them. Here one thread
counts and shows, and every write of the ledger is counted: this costs it a tenth of that.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Count(Collector):
    """A counter with labels."""

    def __init__(self, name: str, what: str, labels: Sequence[str]) -> None:
        self._name = name
        self._what = what
        self._labels = labels
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + amount

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._what, labels=self._labels)
        for labels, value in self._counts.items():
            family.add_metric(labels, value)
        yield family


class Spread(Collector):
    """A histogram with labels. `bounds` are the upper ends of its buckets, in order; one without an end follows."""

    def __init__(self, name: str, what: str, labels: Sequence[str], *, bounds: Sequence[float]) -> None:
        self._name = name
        self._what = what
        self._labels = labels
        self._bounds = bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._seen: dict[Labels, _Seen] = {}

    def add(self, labels: Labels, value: float) -> None:
        seen = self._seen.get(labels)
        if seen is None:
            seen = self._seen[labels] = _Seen(len(self._names))
        seen.counts[bisect_left(self._bounds, value)] += 1
        seen.total += value

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._what, labels=self._labels)
        for labels, seen in self._seen.items():
            buckets = list(zip(self._names, accumulate(seen.counts), strict=True))
            family.add_metric(labels, buckets, seen.total)
        yield family


class _Seen:
    """What was added under the same labels."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
