"""Backup and restore: everything that a host keeps, as one file, out of either engine and into either.

Blocking: for a command beside the hosts, not for a host.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from ctxhost.backup import files
from ctxhost.backup.archive import members_of, read_archive, sync_folders, write_archive
from ctxhost.backup.manifest import BOOKS, DATA, Manifest
from ctxhost.clock import WallClock, rfc3339
from ctxhost.errors import SettingsError, StoreError
from ctxhost.settings import Settings, is_url
from ctxhost.store.backup import Loaded, as_one_file, copy_books, load_books
from ctxhost.store.backup_common import known_steps

__all__ = ["Manifest", "Restored", "make", "restore"]

Prove = Callable[[Path], Sequence[str]]
"""From books in an SQLite file to what does not add up in them."""
_UNFINISHED: Final = ".unfinished"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and from what."""

    manifest: Manifest
    loaded: Loaded


def make(settings: Settings, target: Path, *, replace: bool, prove: Prove) -> Manifest:
    """Write everything that the host of these settings keeps to a new file, while hosts run.

    Needs room beside the file for a copy of everything.

    Raises:
        SettingsError: the file is there, and `replace` is false; or it cannot be written.
        StoreError: something cannot be read.
    """
    if target.exists() and not replace:
        raise SettingsError(f"{target} is there already; name another file, or say --force.")
    if target.absolute().is_relative_to(settings.data_dir.absolute()):
        raise SettingsError(f"{target} is in the data folder, which is backed up itself; name a file elsewhere.")
    with _disk_troubles(), _beside(target) as folder:
        content = folder / "content"
        content.mkdir()
        copied = copy_books(settings.database, content / BOOKS)
        # The books before the rest: what is delivered in between is delivered once more, under the same id. The other
        # way round it would be taken for delivered by a receiver that had lost it.
        files.copy_data(settings.data_dir, content / DATA, without=_own_files(settings))
        findings = prove(content / BOOKS)
        as_one_file(content / BOOKS)
        manifest = Manifest(
            ctxhost=version("ctxhost"),
            made_at=rfc3339(WallClock().now_ms()),
            engine="postgresql" if is_url(settings.database) else "sqlite",
            steps=copied.steps,
            rows=copied.rows,
            key_ids=copied.key_ids,
            folders=copied.folders,
            apps="files" if settings.apps_database is None else "postgresql",
            findings=findings,
            members=members_of(content),
        )
        write_archive(content, manifest, folder / "archive")
        _name(folder / "archive", target, replace=replace)
    return manifest


def restore(settings: Settings, archive: Path) -> Restored:
    """Put an archive into the database and the data folder of these settings, which must hold nothing.

    Whole or not at all: the files are moved into place when every row is in, and the rows are committed last. Ended
    between the two, it leaves an empty database and files that another try refuses to mix with.

    Raises:
        SettingsError: the archive is not there.
        StoreError: it is damaged or of a newer ctxhost; the database or the data folder holds something or is in use.
    """
    if not archive.is_file():
        raise SettingsError(f"There is no file {archive}.")
    with _disk_troubles(), _staging(settings) as staging:
        manifest = read_archive(archive, staging)
        known_steps(manifest.steps, archive)

        def put_files() -> None:
            files.place(staging / DATA, settings.data_dir)

        loaded = load_books(staging / BOOKS, settings.database, before_commit=put_files)
    return Restored(manifest, loaded)


@contextmanager
def _staging(settings: Settings) -> Iterator[Path]:
    """A folder to unpack into, where what is unpacked has only to be renamed."""
    files.refuse_unless_empty(settings.data_dir, without=_own_files(settings))
    staging = settings.data_dir / files.STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700, parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _disk_troubles() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"It cannot be done ({error}).") from error


def _own_files(settings: Settings) -> list[Path]:
    """The books themselves, should they be in the data folder; SQLite's files beside them are known by their names."""
    if is_url(settings.database):
        return []
    database = Path(settings.database)
    return [database, database.with_name(f"{database.name}-hosts")]


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder to work in, on the target's own disk. What a killed run has left there goes first."""
    start, parent = f".{target.name}.", target.parent
    if not parent.is_dir():
        raise SettingsError(f"There is no folder {parent}.")
    for old in parent.glob(f"{start}*{_UNFINISHED}"):
        with suppress(OSError), (old / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old)
    folder = Path(tempfile.mkdtemp(prefix=start, suffix=_UNFINISHED, dir=parent))  # its mode is 0700
    try:
        with (folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name(archive: Path, target: Path, *, replace: bool) -> None:
    """Give a finished archive its name, at once and for good."""
    if replace:
        archive.replace(target)
    else:
        try:
            os.link(archive, target)  # unlike a rename, it leaves alone what somebody has put there meanwhile
        except FileExistsError:
            raise SettingsError(f"{target} is there now; nothing was written.") from None
        except OSError:  # a disk without links
            archive.rename(target)
    sync_folders([target.parent])
