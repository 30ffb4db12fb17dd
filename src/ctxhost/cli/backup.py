"""`ctxhost backup` and `ctxhost restore`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from ctxhost.backup import Manifest, make
from ctxhost.backup import restore as restore_archive
from ctxhost.cli.common import database_option, load_settings, open_store, run, told
from ctxhost.ledger.verify import verify
from ctxhost.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def _data_dir_option(command: Command) -> Command:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Apps' databases, plugins' files.  [env: CTXHOST_DATA_DIR; default: .ctxhost]",
    )(command)


def _findings(database: Path | str) -> Sequence[str]:
    async def work() -> Sequence[str]:
        async with open_store(database) as store:
            return [f"{finding.account}: {finding.what}" for finding in await verify(store)]

    return run(work)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@database_option
@_data_dir_option
def backup(file: Path, force: bool, database: Path | str | None, data_dir: Path | None) -> None:
    """Write the books, the apps' SQLite databases and the plugins' files to FILE, one .tar.gz, while hosts run.

    The books are those of one moment, whichever engine they are in; `ctxhost restore` puts them into either. What is
    not in it is told at the end: keep the encryption keys somewhere else. Needs room beside FILE for a copy of all.

    \b
    Example:
      ctxhost backup /backups/ctxhost-$(date +%F).tar.gz
      ctxhost backup nightly.tar.gz --force --database postgresql://ctxhost@db.example/ctxhost
    """
    settings = _settings(database=database, data_dir=data_dir)
    with told():
        manifest = make(settings, file, replace=force, prove=_findings)
    click.echo(f"{file}: {_size(file.stat().st_size)}, {_content(manifest)}")
    _tell_what_is_missing(manifest, settings)
    _tell_findings(manifest.findings, "The copied books do not add up")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@database_option
@_data_dir_option
@click.pass_context
def restore(ctx: click.Context, file: Path, database: Path | str | None, data_dir: Path | None) -> None:
    """Put a backup into a database and a data folder that hold nothing, whole or not at all.

    The database may be of the other engine: backup and restore is also the way from SQLite to PostgreSQL and back. Set
    the same encryption keys as before, then start a host: bots that were alive are looked at and followed to their
    end, and what was owed is sent, under the same ids.

    \b
    Example:
      ctxhost restore ctxhost-2026-11-22.tar.gz --database /var/lib/ctxhost/ctxhost.db
      ctxhost restore nightly.tar.gz --database postgresql://ctxhost@db.example/ctxhost --data-dir /var/lib/ctxhost
    """
    settings = _settings(database=database, data_dir=data_dir)
    with told():
        restored = restore_archive(settings, file)
    click.echo(f"Restored from {restored.manifest.made_at}: {_content(restored.manifest)}")
    for column, count in restored.loaded.mended.items():
        click.echo(f"  {column}: PostgreSQL keeps no NUL; in {count} texts U+FFFD stands for it now")
    _tell_what_is_needed(restored.manifest, settings)
    findings = _findings(settings.database)
    _tell_findings(findings, "The restored books do not add up")
    if not findings:
        click.echo("The books are right.")
    ctx.exit(1 if findings else 0)


def _settings(**given: Any) -> Settings:
    with told():
        return load_settings(**given)


def _content(manifest: Manifest) -> str:
    rows, files = sum(manifest.rows.values()), len(manifest.members) - 1
    return f"{rows:,} rows in {len(manifest.rows)} tables ({manifest.engine}), {files} file{'' if files == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"


def _tell_what_is_missing(manifest: Manifest, settings: Settings) -> None:
    lines = []
    if manifest.key_ids:
        lines.append(f"the encryption keys {_list(manifest.key_ids)}: without them what is sealed does not open")
    lines += [f"the code of {app}: {folder}" for app, folder in manifest.folders.items()]
    if settings.apps_database is not None:
        url = _without_password(settings.apps_database)
        lines.append(f"the apps' databases: pg_dumpall --dbname='{url}' > apps.sql")
    if lines:
        click.echo("\n  ".join(("Not in it:", *lines)))


def _tell_what_is_needed(manifest: Manifest, settings: Settings) -> None:
    keys = settings.encryption_keys.get_secret_value() if settings.encryption_keys else ""
    known = {entry.partition(":")[0].strip() for entry in keys.split(",")}
    missing = [key for key in manifest.key_ids if key not in known]
    if missing:
        click.echo(
            f"  CTXHOST_ENCRYPTION_KEYS lacks {_list(missing)}: without it what is sealed does not open", err=True
        )
    for app, folder in manifest.folders.items():
        if not Path(folder).is_dir():
            click.echo(f"  the code of {app} is not at {folder}: put it there, or `ctxhost apps deploy {app} FOLDER`")
    if manifest.apps == "postgresql":
        click.echo("  the apps' databases were on PostgreSQL: restore them with psql from their own dump")
    elif settings.apps_database is not None:
        click.echo("  the apps' databases are files; unset CTXHOST_APPS_DATABASE, or ctx.db begins empty", err=True)


def _tell_findings(findings: Iterable[str], what: str) -> None:
    lines = list(findings)
    if lines:
        click.echo("\n  ".join((f"{what} (`ctxhost ledger verify`):", *lines)), err=True)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    query = "&".join(told for told in parts.query.split("&") if "password" not in told.partition("=")[0])
    return parts._replace(netloc=f"{login.partition(':')[0]}{at}{place}", query=query).geturl()
