"""One `.tar.gz` out of a folder and back into one. What is read is believed only when its sums are right."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from ctxhost.backup.manifest import BOOKS, NAME, Manifest, Member
from ctxhost.errors import StoreError

_CHUNK: Final = 2**20
_MANIFEST_LIMIT: Final = 64 * 2**20
_LEVEL: Final = 3  # the books shrink to a quarter of a tenth more at 9, in four times the time


def members_of(folder: Path) -> list[Member]:
    """The files below a folder, the books first."""
    found = [
        Member(_name(path, folder), path.stat().st_size, _sum(path)) for path in folder.rglob("*") if path.is_file()
    ]
    return sorted(found, key=lambda member: (member.name != BOOKS, member.name))


def write_archive(folder: Path, manifest: Manifest, into: Path) -> None:
    """Pack the members of a folder into a new file that only its owner reads; it is on the disk when this returns."""
    (folder / NAME).write_bytes(manifest.to_json())
    with os.fdopen(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_LEVEL) as tar:
            for name in (NAME, *(member.name for member in manifest.members)):
                tar.add(folder / name, arcname=name, recursive=False, filter=_anonymous)
        file.flush()
        os.fsync(file.fileno())


def read_archive(archive: Path, into: Path) -> Manifest:
    """Unpack an archive into an empty folder.

    Raises:
        StoreError: it is none, is cut short, or a file in it is not what its manifest says.
    """
    try:
        with tarfile.open(archive, mode="r|gz") as tar:
            return _unpack(tar, into)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise StoreError(f"{archive} is not a whole backup: {error}") from error


def _unpack(tar: tarfile.TarFile, into: Path) -> Manifest:
    entries = iter(tar)
    first = next(entries, None)
    file = tar.extractfile(first) if first is not None and first.name == NAME else None
    if file is None:
        raise StoreError(f"{tar.name!s} is not a backup of ctxhost.")
    manifest = Manifest.of(file.read(_MANIFEST_LIMIT))
    expected = {member.name: member for member in manifest.members}
    for entry in entries:
        member, source = expected.pop(entry.name, None), tar.extractfile(entry)
        if member is None or source is None:
            raise StoreError(f"The backup has a file {entry.name!r} that its manifest does not name.")
        _write(source, into / entry.name, entry.mode, member)
    if expected:
        raise StoreError(f"The backup lacks {next(iter(expected))}.")
    return manifest


def _write(source: IO[bytes], path: Path, mode: int, member: Member) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o777 | 0o600), "wb") as file:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if found.hexdigest() != member.sha256:
        raise StoreError(f"{member.name} in the backup is damaged: its sum is not the one in the manifest.")


def sync_folders(paths: Iterable[Path]) -> None:
    """Have the names in these folders on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who owned a file here means nothing elsewhere."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
