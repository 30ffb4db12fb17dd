"""The databases that are measured: files in a temporary folder, and a PostgreSQL of our own with full durability."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

import psycopg
from tests.postgres import NoServer, Server

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
NAMES = (SQLITE, POSTGRES)


class Engine(Protocol):
    """Where a benchmark gets its databases from."""

    @property
    def name(self) -> str: ...

    def database(self) -> AbstractContextManager[str]:
        """A new empty database, by the name that `open_store` takes; gone when the block is left."""
        ...

    def settle(self, database: str) -> None:
        """Do now what the engine would do some time later, in the middle of a round."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """SQLite, each database in a folder of its own. `TMPDIR` chooses the disk."""

    name: str = SQLITE

    @contextmanager
    def database(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder:
            yield str(Path(folder) / "ctxhost.db")

    def settle(self, database: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server for all; its settings are those that PostgreSQL comes with, so a commit waits for the disk."""

    server: Server
    name: str = POSTGRES
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def database(self) -> Iterator[str]:
        name = f"bench_{next(self._numbers)}"
        try:
            yield self.server.create(name)
        finally:
            self.server.drop(name)

    def settle(self, database: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("vacuum analyze")


@contextmanager
def engines(names: Sequence[str]) -> Iterator[list[Engine]]:
    """Those named. Raises `NoServer` when PostgreSQL is among them and cannot be started."""
    with ExitStack() as stack:
        yield [Files() if name == SQLITE else Postgres(stack.enter_context(closing(Server({})))) for name in names]


__all__ = ["NAMES", "POSTGRES", "SQLITE", "Engine", "Files", "NoServer", "Postgres", "engines"]
