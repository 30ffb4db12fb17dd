"""The data folder: apps' databases and plugins' files, copied while they are in use."""

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from ctxhost.backup.archive import sync_folders
from ctxhost.errors import StoreError
from ctxhost.store.backup import as_one_file

STAGING: Final = ".ctxhost-restore"
"""In a data folder, where a restore unpacks; what is left there by one that was killed is worth nothing."""
_BESIDE: Final = ("-wal", "-shm", "-journal")
_MAGIC: Final = b"SQLite format 3\x00"
_BUSY_S: Final = 30


def copy_data(data_dir: Path, into: Path, *, without: Collection[Path] = ()) -> None:
    """Copy every file, each whole: SQLite databases with SQLite's own backup, whoever writes to them meanwhile.

    Links, sockets and the like stay out, and so do the files of `without` and what SQLite keeps beside them.

    Raises:
        StoreError: a file cannot be read.
    """
    for path in _files(data_dir, without):
        target = into / path.relative_to(data_dir)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy(path, target)
        except FileNotFoundError:
            continue  # it has gone meanwhile
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path} cannot be copied: {error}") from error


def _files(data_dir: Path, without: Collection[Path]) -> Iterator[Path]:
    left_out = {str(path.absolute()) for path in without}
    for folder, folders, names in os.walk(data_dir, onerror=_raise) if data_dir.is_dir() else ():
        if Path(folder) == data_dir and STAGING in folders:
            folders.remove(STAGING)
        for name in sorted(names):
            path = Path(folder, name)
            is_left_out = str(path.absolute()) in left_out or _is_beside(path, left_out)
            if path.is_file() and not path.is_symlink() and not is_left_out:
                yield path


def _raise(error: OSError) -> None:
    raise StoreError(f"{error.filename} cannot be read: {error.strerror}") from error


def _is_beside(path: Path, left_out: Collection[str]) -> bool:
    """Whether it is SQLite's, and means nothing without the database that it belongs to."""
    for ending in _BESIDE:
        if path.name.endswith(ending):
            database = path.with_name(path.name.removesuffix(ending))
            return str(database.absolute()) in left_out or _is_sqlite(database)
    return False


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _copy(path: Path, target: Path) -> None:
    mode = path.stat().st_mode & 0o777
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode | 0o600))
    if not _is_sqlite(path):
        shutil.copyfile(path, target)
        return
    source = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(source, uri=True, timeout=_BUSY_S)) as db, closing(sqlite3.connect(target)) as copy:
        db.backup(copy)
    as_one_file(target)


def refuse_unless_empty(data_dir: Path, *, without: Collection[Path] = ()) -> None:
    """Raises `StoreError` when a data folder holds a file that is not of `without`."""
    found = next(_files(data_dir, without), None)
    if found is not None:
        raise StoreError(f"{data_dir} holds files already ({found.name}); name another with --data-dir, or empty it.")


def place(staged: Path, data_dir: Path) -> None:
    """Move what was unpacked into the data folder, which holds nothing of the like."""
    sync_folders(folder for folder in staged.rglob("*") if folder.is_dir())
    for entry in sorted(staged.iterdir()) if staged.is_dir() else ():
        target = data_dir / entry.name
        if target.is_dir():
            shutil.rmtree(target)  # folders without a file, of a host that never began
        entry.rename(target)
    sync_folders([data_dir])
