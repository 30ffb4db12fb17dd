"""Traces for whoever collects them with OpenTelemetry. Imported only when the process has loaded it already.

Attributes are taken from the records, which hold no secret. An exception's text could hold one: it is never recorded.
"""

import logging
from collections.abc import Mapping
from contextvars import Token
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal, TypeAlias

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ctxhost.observe.records import CallRecord, DeliveryRecord, Record

log = logging.getLogger("ctxhost.observe")

Kind: TypeAlias = Literal["internal", "server", "client"]

_KINDS: Final[Mapping[Kind, trace.SpanKind]] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
}
_W3C: Final = TraceContextTextMapPropagator()
_STANDARD: Final[Mapping[tuple[type[Record], str], str]] = {
    (CallRecord, "method"): "http.request.method",
    (CallRecord, "route"): "http.route",
    (CallRecord, "status"): "http.response.status_code",
    (DeliveryRecord, "status"): "http.response.status_code",
}
"""The fields that OpenTelemetry has a name of its own for; the others are `ctxhost.` and their own name."""


def configured() -> "Spans | None":
    """Spans of the process's tracer provider; None while it has none."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return Spans(provider.get_tracer("ctxhost", version("ctxhost")))


class Spans:
    """Starts spans. The one that is open is the parent of those that start inside it."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._is_reported = False

    def start(
        self,
        name: str,
        *,
        kind: Kind,
        attributes: Mapping[str, str] | None,
        came_with: Mapping[str, str] | None,
        is_root: bool,
    ) -> "OpenSpan | None":
        """None when what collects spans fails: nobody else notices."""
        parent = context.Context() if is_root else context.get_current()
        if came_with is not None:
            parent = _W3C.extract(came_with, parent)
        try:
            span = self._tracer.start_span(name, parent, kind=_KINDS[kind], attributes=attributes)
        except Exception as error:  # noqa: BLE001 - a sampler's, a processor's
            self.report(error)
            return None
        return OpenSpan(self, span, context.attach(trace.set_span_in_context(span, parent)))

    def report(self, error: Exception) -> None:
        """Say once that spans get lost."""
        if not self._is_reported:
            self._is_reported = True
            log.error("a span was lost; further ones are lost silently", exc_info=error)


class OpenSpan:
    """A span that is the current one until it ends."""

    __slots__ = ("_span", "_spans", "_token")

    def __init__(self, spans: Spans, span: trace.Span, token: "Token[context.Context]") -> None:
        self._spans = spans
        self._span = span
        self._token = token

    def end(self, record: Record, *, error_type: str) -> None:
        """End it, with what the record says. `error_type` empty: it did not fail. Raises nothing."""
        context.detach(self._token)
        try:
            self._end(record, error_type)
        except Exception as error:  # noqa: BLE001 - what was watched has happened
            self._spans.report(error)

    def _end(self, record: Record, error_type: str) -> None:
        span = self._span
        if span.is_recording():
            span.set_attributes(_told(record))
            if isinstance(record, CallRecord):  # named for what answered it, which is known only now
                span.update_name(f"{record.method} {record.operation}".strip())
            if error_type:
                span.set_attribute("error.type", error_type)
                span.set_status(trace.StatusCode.ERROR)
        span.end()


def _told(record: Record) -> dict[str, str | int | float]:
    """The fields that say something. The path of a call is not among them: it may hold a secret of a tenant's."""
    kind: Any = type(record)
    told = {name: getattr(record, field) for field, name in _names(kind)}
    return {name: value for name, value in told.items() if value not in ("", 0)}


@cache
def _names(kind: type[Record]) -> list[tuple[str, str]]:
    return [
        (field.name, _STANDARD.get((kind, field.name), f"ctxhost.{field.name}"))
        for field in fields(kind)
        if field.name != "took_s"  # that is the span's own length
    ]
