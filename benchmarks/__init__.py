"""Figures next to their baselines, measured in one run: `python -m benchmarks [--quick] [name …]`.

A benchmark is a module with a `TITLE` and a `measure`; one line in `MODULES` registers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from benchmarks.engines import Engine

T = TypeVar("T")

MODULES = (
    "ledger",
    "profile",
    "hosts",
    "spawn",
    "inbound",
    "deliveries",
    "million",
)


class Skipped(Exception):
    """This cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a module is asked for: how thoroughly to measure, and on what."""

    effort: Literal["full", "quick", "tiny"]
    """Tiny is for the test that every benchmark still runs."""
    engines: Sequence[Engine]

    def pick(self, *, full: T, quick: T, tiny: T) -> T:
        return {"full": full, "quick": quick, "tiny": tiny}[self.effort]

    def engine(self, name: str) -> Engine:
        """Raises `Skipped` when it is not there."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise Skipped(f"It needs {name}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table: what was measured, beside what it is compared with."""

    name: str
    value: float
    unit: str
    baseline: float
    target: float | None = None
    """The ratio of value to baseline to reach, if there is one."""
    is_ceiling: bool = False
    """The ratio must stay below the target instead."""

    @property
    def ratio(self) -> float:
        return self.value / self.baseline

    @property
    def is_met(self) -> bool:
        if self.target is None:
            return True
        return self.ratio <= self.target if self.is_ceiling else self.ratio >= self.target
