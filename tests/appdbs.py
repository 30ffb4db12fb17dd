"""Apps' databases for tests, on either engine: what `ctx.db` promises is promised on both."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

from tests.postgres import server

from ctxhost.clock import Clock
from ctxhost.functions.appdb import AppDatabases, AppLimits, Databases
from ctxhost.functions.appdb_postgres import PostgresDatabases
from ctxhost.functions.appdb_postgres_admin import Access, Admin

ENGINES = ["sqlite", "postgres"]
_spare: list[str] = []


@cache
def apps_url() -> str:
    """A server's database where the apps' admin connects, as a superuser."""
    return server().create("ctxhost_apps")


@asynccontextmanager
async def open_apps(
    engine: str, folder: Path, clock: Clock, *, max_open: int = 20, limits: AppLimits | None = None
) -> AsyncIterator[Databases]:
    """Everything that a host has of its apps' databases. `max_open`: files, or connections."""
    opened: Databases
    if engine == "sqlite":
        opened = AppDatabases(folder, clock=clock, limits=limits, max_open=max_open)
    else:
        opened = PostgresDatabases(Admin(apps_url()), limits=limits, total=max_open)
    try:
        yield opened
    finally:
        await opened.aclose()


@contextmanager
def app_names(count: int = 1) -> Iterator[list[str]]:
    """Names of apps without tables. Those that are given back are used again: to make a database takes a while."""
    names = [_spare.pop() if _spare else f"app_{secrets.token_hex(12)}" for _ in range(count)]
    try:
        yield names
    finally:
        for name in names:
            empty(name)
        _spare.extend(names)


def place_of(name: str) -> str:
    """What an app's role and database are called."""
    return Access.of(name).place


def empty(name: str) -> None:
    """Drop an app's tables, if it has a database on the server."""
    place = place_of(name)
    if apps_url.cache_info().currsize and server().execute(f"SELECT 1 FROM pg_database WHERE datname = '{place}'"):
        for (table,) in server().execute("SELECT tablename FROM pg_tables WHERE schemaname = 'app'", database=place):
            server().execute(f'DROP TABLE app."{table}" CASCADE', database=place)
