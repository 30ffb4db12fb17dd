"""How the commands print: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ctxhost.clock import rfc3339

_PIPE_WIDTH = 10_000
"""Wide enough that a line in a pipe is never cut or folded."""
PAGE_WIDTH = 100
"""What a page for people takes at most, and what it takes in a pipe."""


def _list_console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def page() -> Console:
    """A page that is read, not processed: as wide as is good to read."""
    width = min(Console().width, PAGE_WIDTH) if sys.stdout.isatty() else PAGE_WIDTH
    return Console(width=width, highlight=False)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool, nothing: str, right: Sequence[str] = ()) -> None:
    """A list of like rows; `nothing` is said when it is empty, `right` names the columns of numbers."""
    rows = list(rows)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    out = _list_console()
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def print_facts(facts: Mapping[str, Any]) -> None:
    """One thing, a fact a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_cell(value)}")


def moment(ms: int) -> str | None:
    """A time, or None for "not yet"."""
    return rfc3339(ms) if ms else None


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
