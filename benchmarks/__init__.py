"""Figures next to their baselines, measured in one run: `python -m benchmarks [--quick] [name …]`.

A benchmark is a module with a `TITLE` and a `measure`; one line in `MODULES` registers it.
"""

from dataclasses import dataclass

MODULES = (
    "ledger",
    "ledger_postgres",
    "spawn",
    "inbound",
    "deliveries",
    "lists",
)


class Skipped(Exception):
    """This cannot be measured here; the message says why."""


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
