"""How a reload looks in the terminal: one line when it went well, one block when it did not."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ctxhost.functions.reload import Line, Reload


def show_reload(out: Console, folder: Path, outcome: Reload) -> None:
    """Tell what became of a change. `folder` is the app's; paths are shown from there."""
    changed = ", ".join(_from(folder, path) for path in outcome.changed)
    if outcome.succeeded:
        count = len(outcome.functions)
        out.print(f"[green]reloaded[/] {escape(changed)} [dim]({count} function{'' if count == 1 else 's'} served)[/]")
        return
    title = f"not reloaded[/] {escape(changed)}" if changed else "not served[/]"
    out.rule(f"[bold red]{title}", align="left", style="red")
    out.print(Text(outcome.problem.replace(f"{folder}/", "")))
    if outcome.excerpt:
        out.print()
        out.print(_excerpt(outcome.excerpt))
    goes_on = "The code from before goes on answering. " if changed else ""
    out.print(f"\n{goes_on}Save a mended file to try again.")
    out.rule(style="red")


def _excerpt(lines: Sequence[Line]) -> Text:
    text = Text()
    for line in lines:
        mark, style = ("→", "bold") if line.at_fault else (" ", "dim")
        text.append(f"  {mark} {line.number:>4} │ {line.text}\n", style=style)
    text.right_crop(1)
    return text


def _from(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
