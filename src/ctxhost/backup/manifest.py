"""What an archive says of itself: the first thing in it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from ctxhost.errors import StoreError

FORMAT: Final = 1
NAME: Final = "manifest.json"
BOOKS: Final = "books.db"
DATA: Final = "data/"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything there is to know of an archive without unpacking it."""

    ctxhost: str
    """The version that made it."""
    made_at: str
    engine: str
    """What the books were kept in: sqlite | postgresql"""
    steps: Sequence[str]
    """The steps of the schema that the database had."""
    rows: Mapping[str, int]
    key_ids: Sequence[str]
    """The encryption keys without which what is sealed does not open."""
    folders: Mapping[str, str]
    """Where the code of each app was: it is not in the archive."""
    apps: str
    """What apps' databases were kept in: files (then they are in the archive) | postgresql"""
    findings: Sequence[str]
    """What did not add up in the books when they were copied."""
    members: Sequence[Member]

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False).encode()

    @classmethod
    def of(cls, text: bytes) -> "Manifest":
        """Raises `StoreError` for what is none, or of a later form."""
        try:
            told: dict[str, Any] = json.loads(text)
            form = told.pop("format")
            if form != FORMAT:
                raise StoreError(f"The archive has form {form}, of a newer ctxhost; install that version.")
            members = [Member(**member) for member in told.pop("members")]
            manifest = cls(**told, members=members)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"The archive's manifest cannot be read: {error}") from error
        for member in members:
            _check_name(member.name)
        return manifest


def _check_name(name: str) -> None:
    """An archive may come from anywhere: it writes nothing outside of its own folder."""
    path = PurePosixPath(name)
    inside = name == BOOKS or (name.startswith(DATA) and len(path.parts) > 1)
    if not inside or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise StoreError(f"The archive has a file {name!r}, which belongs nowhere.")
