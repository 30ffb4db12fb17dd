"""The report: what happened, for a person."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ctxhost.cli.sandbox.breakage import Breakage
from ctxhost.cli.sandbox.checks import STATUS_OF_EVENT, Check
from ctxhost.cli.sandbox.drive import MEETING
from ctxhost.cli.sandbox.evidence import Download, Evidence, Story
from ctxhost.cli.sandbox.stand import Stand
from ctxhost.money import NANO_PER_USD, usd_text

TALK_LINES = 3
ROW_COLUMNS = ("status", "last_event", "events_count", "recording_url", "transcript_url")


def print_opening(out: Console, stand: Stand, *, keep: bool) -> None:
    """What is about to happen."""
    out.print()
    out.print("[bold]A meeting bot lives its whole life, on this machine alone.[/]")
    kept = "kept" if keep else "removed at the end"
    facts = {
        "host": f"{stand.host.base_url}, on SQLite in {stand.folder.path} ({kept})",
        "app": f"{stand.tenant.app.id}, functions from {stand.source}",
        "meetings": f"fake ones, {stand.speed:g} times faster than life",
    }
    _print_facts(out, facts)
    out.print()


def print_report(out: Console, evidence: Evidence, checks: Sequence[Check], breakage: Breakage | None) -> None:
    """Everything that was seen, then what was promised and whether it is so."""
    _print_life(out, evidence.happy)
    _print_deliveries(out, evidence.stories)
    _print_row(out, evidence.happy)
    _print_artifacts(out, evidence)
    _print_money(out, evidence)
    _print_checks(out, checks)
    _print_end(out, checks, evidence.took_s, breakage)


def _print_life(out: Console, story: Story) -> None:
    _heading(out, "The bot")
    out.print(f'  POST /fn/{story.part.function} {{"meetingUrl": "{MEETING}"}}', style="bold")
    answer = json.dumps({**story.answer}, default=str)
    out.print(f"  [green]{story.answer_status}[/] {escape(answer)}\n")
    table = _table("status", ">in its meeting", ">on your clock", "why")
    first = _time(story.events[0]["at"]) if story.events else None
    for event in story.events:
        status = STATUS_OF_EVENT.get(event["event"])
        if status is None or first is None:
            continue
        offset = f"{(_time(event['at']) - first).total_seconds():.0f} s"
        seen = story.seen_s.get(status)
        table.add_row(
            Text(status, style="bold green" if status == "done" else "bold"),
            offset,
            "-" if seen is None else f"{seen:.1f} s",
            event["subCode"] or "",
        )
    _print_table(out, table)
    out.print()
    lived = [STATUS_OF_EVENT[event["event"]] for event in story.events if event["event"] in STATUS_OF_EVENT]
    out.print(f"  {' → '.join(lived)}")


def _print_deliveries(out: Console, stories: Sequence[Story]) -> None:
    _heading(out, "Signed webhooks, to the app's own function")
    table = _table("event", "webhook-id", ">HTTP", "by the app", "by this command")
    for story in stories:
        table.add_row(Text(story.part.name, style="dim"))
        for delivery in story.deliveries:
            table.add_row(
                f"  {delivery.event}",
                f"{delivery.webhook_id[:12]}…",
                str(delivery.status),
                _verdict(delivery.accepted, "verified", "refused"),
                _verdict(delivery.verified, "both forms", "wrong"),
            )
    _print_table(out, table)


def _print_row(out: Console, story: Story) -> None:
    _heading(out, "The app's row")
    table = _table("column", "after the spawn", "now")
    for column in ROW_COLUMNS:
        table.add_row(column, _cell(story.row_before.get(column)), _cell(story.row_after.get(column)))
    _print_table(out, table)


def _print_artifacts(out: Console, evidence: Evidence) -> None:
    _heading(out, "What it brought back")
    _print_facts(out, {"recording": _told(evidence.recording), "transcript": _told(evidence.transcript)})
    lines = [line for line in evidence.talk.splitlines() if line.strip()]
    if lines:
        out.print()
    for line in lines[:TALK_LINES]:
        out.print(Text(f"    {line}", style="italic"), overflow="ellipsis", no_wrap=True)
    if len(lines) > TALK_LINES:
        out.print(f"    [dim]… and {len(lines) - TALK_LINES} more lines[/]")


def _print_money(out: Console, evidence: Evidence) -> None:
    _heading(out, "The ledger")
    happy, held = evidence.happy, evidence.credits_held["held_usd"]
    others = sum((story.charged_usd for story in evidence.stories[1:]), Decimal(0))
    rows = {row["dimension"]: row["usd_charged"] for row in evidence.usage}
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("credit to begin with", _usd(evidence.credits_before["balance_usd"]))
    table.add_row("held when the bot was sent", _usd(held), "five minutes of both lines")
    for line in reversed(happy.charges):
        usage = f'usage row "{rows.get(line["dimension"])}"'
        told = f"  {line['dimension']}, {line['quantity']} s"
        table.add_row(told, _usd(-line["amount_usd"]), usage)
    table.add_row("charged for its call", Text(_usd(happy.charged_usd), style="bold"), "exactly, to the nano-dollar")
    table.add_row("returned", _usd(held - happy.charged_usd), "the rest of the hold")
    table.add_row("the three other bots", _usd(others), "nothing for the one that broke")
    after = evidence.credits_after
    table.add_row("balance", Text(_usd(after["balance_usd"]), style="bold"), f"{_usd(after['held_usd'])} held")
    books = "right" if not evidence.findings else "; ".join(evidence.findings)
    table.add_row("ledger verify", Text(books, style="red" if evidence.findings else "green"))
    out.print(table)


def _print_checks(out: Console, checks: Sequence[Check]) -> None:
    _heading(out, "What was promised")
    for check in checks:
        mark = "[green]✓[/]" if check.holds else "[bold red]✗[/]"
        out.print(f"  {mark} {escape(check.promise)}", style=None if check.holds else "bold")
        if not check.holds:
            sides = Table.grid(padding=(0, 2))
            sides.add_row("     expected", _plain(check.expected))
            sides.add_row("     but saw", Text(_plain(check.actual), style="red"))
            out.print(sides)


def _print_end(out: Console, checks: Sequence[Check], took_s: float, breakage: Breakage | None) -> None:
    failed = [check for check in checks if not check.holds]
    out.print()
    if failed:
        why = f" The {breakage} was broken on purpose." if breakage else ""
        out.print(f"[bold red]{len(failed)} of {len(checks)} promises are not kept.[/]{why}")
    else:
        out.print(f"[bold green]All {len(checks)} promises are kept[/], in {took_s:.1f} s. Next: ctxhost dev")
    out.print()


def _heading(out: Console, title: str) -> None:
    out.print()
    out.rule(f"[bold]{title}[/]", align="left", style="dim")


def _table(*names: str) -> Table:
    """Columns by their names; one that begins with > holds numbers."""
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim", padding=(0, 1), show_edge=False)
    for name in names:
        is_number = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if is_number else "left", no_wrap=True)
    return table


def _print_table(out: Console, table: Table) -> None:
    out.print(Padding(table, (0, 0, 0, 1), expand=False))


def _print_facts(out: Console, facts: dict[str, str]) -> None:
    for name, value in facts.items():
        out.print(f"  [dim]{name:<12}[/]{escape(value)}", overflow="ellipsis", no_wrap=True)


def _verdict(right: bool, yes: str, no: str) -> Text:
    return Text(f"✓ {yes}", style="green") if right else Text(f"✗ {no}", style="bold red")


def _told(found: Download | None) -> str:
    if found is None:
        return "none"
    return f"{found.status}, {found.media_type}, {len(found.content):,} bytes, downloaded without credentials"


def _usd(amount: Decimal) -> str:
    return usd_text(int(amount * NANO_PER_USD))


def _cell(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 44 else f"{text[:43]}…"


def _plain(value: object) -> str:
    """Without the look of Python where that says nothing."""
    if isinstance(value, list | tuple):
        nested = any(isinstance(part, list | tuple) for part in value)
        return ("; " if nested else ", ").join(_plain(part) for part in value) or "nothing"
    return "nothing" if value is None else str(value)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
