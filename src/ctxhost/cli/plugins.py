"""`ctxhost plugins`: what is installed, and the beginning of a new one."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any

import click

from ctxhost.cli.common import json_option, load_settings, run, told
from ctxhost.cli.doctor import quietly
from ctxhost.cli.output import print_rows
from ctxhost.clock import WallClock
from ctxhost.doctor import asked
from ctxhost.errors import SettingsError
from ctxhost.plugins import PluginFacts, load_plugins

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SUFFIX = ".tmpl"


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """Plugins: which are installed and whether they work, and the beginning of a new one.

    \b
    Example:
      ctxhost plugins list
      ctxhost plugins new acme
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_plugins)


@plugins.command("list")
@json_option
def list_plugins(as_json: bool = False) -> None:
    """Every installed plugin, what it offers with the present settings, or why it is left out.

    \b
    Example:
      ctxhost plugins list
      ctxhost plugins list --json
    """

    async def work() -> list[dict[str, Any]]:
        settings = load_settings()
        loaded = load_plugins()
        async with asked(settings, loaded, clock=WallClock()):
            broken = {plugin.name: plugin.why for plugin in loaded.broken}
            return [_row(facts, broken.get(facts.name)) for facts in loaded.found]

    with quietly():
        rows = run(work)
    print_rows(rows, as_json=as_json, nothing="No plugin is installed. Try: pip install ctxhost-fake")


def _row(facts: PluginFacts, why_broken: str | None) -> dict[str, Any]:
    health = "ok" if facts.providers else "silent: its key is not set, or it is not enabled"
    return {
        "name": facts.name,
        "distribution": facts.distribution or None,
        "version": facts.version or None,
        "hooks": list(facts.hooks),
        "providers": list(facts.providers),
        "health": f"broken: {why_broken}" if why_broken else health,
    }


@plugins.command("new")
@click.argument("name")
@click.option("--dir", "parent", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where to.")
def new(name: str, parent: Path) -> None:
    """Begin a meeting provider: a distribution whose tests say what is left to write.

    NAME is the provider's, as it will be in URLs: lower-case letters, digits and _.

    \b
    Example:
      ctxhost plugins new acme && cd ctxhost-acme && pip install -e '.[dev]' && pytest
    """
    if not _NAME.fullmatch(name):
        raise click.BadParameter("use lower-case letters, digits and _, beginning with a letter", param_hint="NAME")
    words = {
        "name": name,
        "package": f"ctxhost_{name}",
        "distribution": f"ctxhost-{name.replace('_', '-')}",
        "title": "".join(word.capitalize() for word in name.split("_")),
        "variable": name.upper(),
    }
    folder = parent / words["distribution"]
    with told():
        _begin(folder, words)
    click.echo(f"{folder} is there. Next:")
    click.echo(f"  cd {folder} && pip install -e '.[dev]' && pytest")
    click.echo("Each failure says what is to be written. How it is done is in docs/providers.md.")


def _begin(folder: Path, words: dict[str, str]) -> None:
    """Raises `SettingsError` when the folder is there already."""
    if folder.exists():
        raise SettingsError(f"{folder} is there already; choose another name, or another --dir.")
    for path, source in _templates(files("ctxhost") / "plugin_template"):
        target = folder / path.replace("PACKAGE", words["package"]).removesuffix(_SUFFIX)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text("utf-8")).substitute(words), "utf-8")


def _templates(root: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in sorted(root.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            found.append((f"{prefix}{entry.name}", entry))
    return found
