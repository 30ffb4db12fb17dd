"""The engines that keep the store's contract. A second one is one more name in `ENGINES`."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from ctxhost.clock import Clock
from ctxhost.store import Store
from ctxhost.store.sqlite import SqliteStore


@dataclass(frozen=True)
class Engine:
    """How to open a store on the database of a folder (made when missing), and how to look past it."""

    name: str
    open: Callable[[Path, Clock], AbstractAsyncContextManager[Store]]
    columns: Callable[[Path], Mapping[str, Sequence[tuple[str, type]]]]
    """Each table of the folder's database with its columns and their Python types."""


@asynccontextmanager
async def open_sqlite(folder: Path, clock: Clock) -> AsyncIterator[Store]:
    store = SqliteStore(folder / "ctxhost.db", clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


def sqlite_columns(folder: Path) -> Mapping[str, Sequence[tuple[str, type]]]:
    types = {"TEXT": str, "INTEGER": int}
    with closing(sqlite3.connect(folder / "ctxhost.db")) as db:
        strict = db.execute("select name from pragma_table_list where schema = 'main' and strict").fetchall()
        return {
            table: [(name, types[kind]) for _, name, kind, *_ in db.execute(f"pragma table_info({table})")]
            for (table,) in strict
        }


ENGINES = {engine.name: engine for engine in [Engine("sqlite", open_sqlite, sqlite_columns)]}
