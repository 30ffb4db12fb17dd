"""The tables of docs/scaling.md, which the tests hold to what they find."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.contract import occasions
from tests.contract.plans import Plan
from tests.contract.trials import Trial

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
ANY_WRITE = "any write: its account, the rows it names, the holds of its account that are due"


@cache
def table(heading: str) -> Sequence[str]:
    """The lines of the first table under a heading, without its head."""
    _, found, section = PAGE.read_text().partition(f"\n## {heading}\n")
    assert found, f"{PAGE.name} has no section {heading!r}"
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return lines[2:]


def cells(heading: str) -> Mapping[str, Sequence[str]]:
    """The same table, by its first column, without the marks of code."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(heading)]
    return {name.replace("`", ""): rest for name, *rest in rows}


def line_of(occasion: str) -> str:
    """The line of the table of indexes that speaks of an occasion."""
    kind = occasion.removesuffix(f", {occasions.CROWD} at once")
    return ANY_WRITE if kind in occasions.AS_A_WRITE else occasion


def index_line(occasion: str, indexes: frozenset[str]) -> str:
    function, space, variant = occasion.partition(" ")
    is_read = occasion in occasions.reads(0)
    name = f"`{function}`{space}{variant}" if is_read else occasion
    if occasion in occasions.WHOLE:
        return f"| {name} | {occasions.WHOLE[occasion]} |"
    named = [index if index == "primary key" else f"`{index}`" for index in sorted(indexes)]
    return f"| {name} | {', '.join(named)} |"


def cost_line(occasion: str, postgres: Trial, sqlite: Trial) -> str:
    """One line of the table of costs. Both engines write the same rows."""
    rows = _rows(postgres.full[occasion])
    assert rows == _rows(sqlite.full[occasion])
    trips, ours, theirs = _trips(postgres, occasion), _statements(postgres, occasion), _statements(sqlite, occasion)
    return f"| {occasion} | {trips} | {ours} | {theirs} | {rows} |"


def commits(trial: Trial, occasion: str) -> int:
    return sum(sent.sql.strip().lower() == "commit" for sent in trial.sent[occasion])


def _trips(trial: Trial, occasion: str) -> int:
    return len({sent.trip for sent in trial.sent[occasion] if not sent.is_hint})


def _statements(trial: Trial, occasion: str) -> int:
    return sum(not sent.is_hint for sent in trial.sent[occasion])


def _rows(plans: Sequence[Plan]) -> str:
    written: dict[str, int] = {}
    for plan in plans:
        if plan.writes is not None:
            name, rows = plan.writes
            written[name] = written.get(name, 0) + rows
    return ", ".join(f"{name} {rows}" for name, rows in sorted(written.items()))
