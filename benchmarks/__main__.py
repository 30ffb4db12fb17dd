"""Runs the benchmarks and prints a table for each."""

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import click
from rich.console import Console
from rich.table import Table

from benchmarks import MODULES, Bench, Figure, Skipped
from benchmarks.engines import NAMES, POSTGRES, SQLITE, NoServer, engines

FILE_WIDTH = 110


@click.command()
@click.option("--quick", is_flag=True, help="Shorter rounds: an impression, not a measurement.")
@click.option("--engine", type=click.Choice(NAMES, case_sensitive=False), help="Only this database, instead of each.")
@click.argument("names", nargs=-1, type=click.Choice(MODULES))
def main(quick: bool, engine: str | None, names: Sequence[str]) -> None:
    """Measure every benchmark, or those named."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    wanted = names or MODULES
    try:
        _run(console, wanted, quick=quick, on=[engine] if engine else NAMES)
    except NoServer as reason:
        console.print(f"{POSTGRES} is not measured. {reason}")
        if engine is None:
            _run(console, wanted, quick=quick, on=[SQLITE])


def _run(console: Console, names: Sequence[str], *, quick: bool, on: Sequence[str]) -> None:
    with engines(on) as opened:
        bench = Bench(effort="quick" if quick else "full", engines=opened)
        for name in names:
            module = import_module(f"benchmarks.{name}")
            try:
                with console.status(f"measuring {name} …"):
                    figures = list(module.measure(bench))
            except Skipped as reason:
                console.print(f"{module.TITLE}: not measured. {reason}")
                continue
            console.print(table_of(module.TITLE, figures))


def table_of(title: str, figures: Iterable[Figure]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("", "figure", "baseline", "ratio", "target"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=bool(heading))
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:,.6g} {figure.unit}",
            f"{figure.baseline:,.6g} {figure.unit}",
            f"{figure.ratio:.2f}×",
            target_of(figure),
        )
    return table


def target_of(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign, colour = "≤" if figure.is_ceiling else "≥", "green" if figure.is_met else "red"
    return f"[{colour}]{sign} {figure.target:g}×[/]"


if __name__ == "__main__":
    main()
