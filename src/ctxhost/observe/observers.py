"""Who is told of what has happened. Whatever an observer does, the host goes on."""

import inspect
import logging
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from ctxhost.errors import PluginError
from ctxhost.observe.records import Record

log = logging.getLogger("ctxhost.observe")

Observer: TypeAlias = Callable[[Record], None]
"""Called after the fact, on the host's event loop: it must not block. What it raises is logged and goes no further."""

SLOW_S: Final = 0.05
"""An observer that takes longer has stopped every call meanwhile: that is said once."""


class Observers:
    """The observers of one host. False while there are none."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._reported: set[tuple[int, type[Record], str]] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Tell it of everything from now on.

        Raises:
            PluginError: it is no plain function of one record.
        """
        check_observer(observer)
        self._observers.append(observer)

    def tell(self, record: Record) -> None:
        """Tell each of them. Raises nothing."""
        for observer in self._observers:
            started = time.perf_counter()
            try:
                observer(record)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it must not reach whoever is being answered
                self._report(observer, record, error)
            if (took_s := time.perf_counter() - started) > SLOW_S:
                self._report_slow(observer, record, took_s)

    def _report(self, observer: Observer, record: Record, error: BaseException) -> None:
        if self._is_first(observer, record, "failed"):
            log.error(
                "observer %s failed on a %s; its further failures are not logged",
                _name(observer),
                type(record).__name__,
                exc_info=error,
            )

    def _report_slow(self, observer: Observer, record: Record, took_s: float) -> None:
        if self._is_first(observer, record, "slow"):
            log.warning(
                "observer %s took %.0f ms for a %s, and nothing else ran meanwhile; it is not said again",
                _name(observer),
                took_s * 1_000,
                type(record).__name__,
            )

    def _is_first(self, observer: Observer, record: Record, what: str) -> bool:
        key = (id(observer), type(record), what)
        is_first = key not in self._reported
        self._reported.add(key)
        return is_first


def check_observer(observer: Observer) -> None:
    """Raises `PluginError` for what cannot be called, and for what would have to be awaited."""
    called = observer if inspect.isroutine(observer) else getattr(type(observer), "__call__", None)  # noqa: B004
    if not callable(observer) or inspect.iscoroutinefunction(called):
        raise PluginError(f"an observer is a plain function of one record, not {observer!r}")


def _name(observer: Observer) -> str:
    return getattr(observer, "__qualname__", type(observer).__qualname__)
