"""What the host's rooms report to: a thing is watched while it happens, and told of when it is over.

Each of them is a span when somebody collects traces, and a record when somebody observes. When nobody does either,
`is_on` is False and nothing is measured.
"""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from ctxhost.errors import Refusal
from ctxhost.observe.observers import Observer, Observers
from ctxhost.observe.records import Record

if TYPE_CHECKING:
    from ctxhost.observe.spans import Kind, OpenSpan, Spans

Make: TypeAlias = Callable[..., Record]
"""Makes the record of what has happened; given `outcome` and `took_s`."""


class Watch:
    """The observers and the traces of one host."""

    def __init__(self) -> None:
        self._observers = Observers()
        self._spans: Spans | None = None
        self.is_on = False

    def add(self, observer: Observer) -> None:
        """Tell it of everything from now on. Raises `PluginError` for what is no plain function."""
        self._observers.add(observer)
        self.is_on = True

    def open_traces(self) -> None:
        """Trace from now on, if the process has configured OpenTelemetry by now."""
        self._spans = _configured_spans()
        self.is_on = self.is_on or self._spans is not None

    @property
    def is_traced(self) -> bool:
        """Whether there are spans, and not only records."""
        return self._spans is not None

    def tell(self, record: Record) -> None:
        """Tell the observers of something that is over."""
        self._observers.tell(record)

    def during(
        self,
        what: str,
        which: str,
        make: Make,
        *,
        kind: "Kind" = "internal",
        attributes: Mapping[str, str] | None = None,
        came_with: Mapping[str, str] | None = None,
        is_root: bool = False,
    ) -> "During":
        """Watch what happens inside: `with watch.during("write", "Charge", make):`.

        Args:
            what, which: the name of the span.
            kind: its kind, in OpenTelemetry's words.
            attributes: what a sampler may want to know; the record's fields are added at the end.
            came_with: headers that may name the caller's span.
            is_root: it has no parent, whatever runs around it.
        """
        span = None
        if self._spans is not None:
            name = f"{what} {which}".strip()
            span = self._spans.start(name, kind=kind, attributes=attributes, came_with=came_with, is_root=is_root)
        return During(self._observers, make, span)


class During:
    """Something that is being watched. Its outcome is `ok`, or what is raised out of it, unless it is set."""

    __slots__ = ("_make", "_observers", "_span", "_started", "is_failure", "outcome")

    def __init__(self, observers: Observers, make: Make, span: "OpenSpan | None") -> None:
        self._observers = observers
        self._make = make
        self._span = span
        self.outcome = "ok"
        self.is_failure = False
        """Whether the span shows an error: a refusal that is the caller's own doing is none."""

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took_s = time.perf_counter() - self._started
        if error is not None:
            self.outcome = outcome_of(error)
            self.is_failure = is_failure(error)
        if self._span is None and not self._observers:
            return
        record = self._make(outcome=self.outcome, took_s=took_s)
        if self._span is not None:
            self._span.end(record, error_type=self.outcome if self.is_failure else "")
        self._observers.tell(record)


def outcome_of(error: BaseException) -> str:
    """A refusal's code; the `outcome` that another exception's class names; `error`; `cancelled` for no Exception."""
    if isinstance(error, Refusal):
        return type(error).code
    return getattr(type(error), "outcome", "error") if isinstance(error, Exception) else "cancelled"


def is_failure(error: BaseException) -> bool:
    """Whether it is the host's or a neighbour's failure, not an answer to whoever asked."""
    if isinstance(error, Refusal):
        return error.status >= 500
    return isinstance(error, Exception) and not hasattr(type(error), "outcome")


def _configured_spans() -> "Spans | None":
    """None unless this process has loaded and configured OpenTelemetry: nothing is imported for it."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from ctxhost.observe.spans import configured

    return configured()
