"""The one place that knows which engine a database's name asks for."""

from pathlib import Path

from ctxhost.clock import Clock, WallClock
from ctxhost.errors import StoreError
from ctxhost.settings import is_url
from ctxhost.store import Store
from ctxhost.store.sqlite import SqliteStore


async def open_store(database: str | Path, *, clock: Clock | None = None, is_pooled: bool = False) -> Store:
    """Open the database that a path or a `postgresql://` URL names, and bring its schema up to date.

    `clock` left out, the clock that decides is the computer's for a file and the database's for a server. With
    `is_pooled`, a pooler in transaction mode (PgBouncer) stands before the server.

    Raises:
        StoreError: it cannot be used.
    """
    if not is_url(database):
        return SqliteStore(Path(database), clock=clock or WallClock())
    try:
        from ctxhost.store.postgres import PostgresStore
    except ImportError as error:
        raise StoreError("A postgresql:// database needs the extra: pip install 'ctxhost[postgres]'.") from error
    return await PostgresStore.open(str(database), clock=clock, is_pooled=is_pooled)
