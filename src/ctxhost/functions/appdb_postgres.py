"""`ctx.db` on PostgreSQL: a database and a login role for each app, on connections of its own.

An app's SQL runs as it is written, with PostgreSQL's own types and clock. What `appdb_postgres_admin.py` makes keeps it
inside; what an app is known by there is made of its database name and tells nothing.
"""

import logging
from collections.abc import Sequence
from typing import Final

import psycopg

from ctxhost.functions.appdb import AppDatabase, AppLimits, QueryResult, check_count
from ctxhost.functions.appdb_postgres_admin import Access, Admin
from ctxhost.functions.appdb_postgres_gate import admit
from ctxhost.functions.appdb_postgres_pool import Pool
from ctxhost.functions.appdb_postgres_wire import AppWire, Lost
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.schema import Schema
from ctxhost.functions.sql import Statement

log = logging.getLogger("ctxhost.functions")

_PER_APP: Final = 2
_TOTAL: Final = 20
_MAX_WAIT_S: Final = 10.0


class PostgresDatabases:
    """Every app's database on one server: `per_app` connections for each, `total` altogether."""

    def __init__(
        self,
        admin: Admin,
        *,
        limits: AppLimits | None = None,
        per_app: int = _PER_APP,
        total: int = _TOTAL,
        max_wait_s: float = _MAX_WAIT_S,
    ) -> None:
        self._admin = admin
        self._limits = limits or AppLimits()
        self._pool = Pool(self._connected, per_app=per_app, total=total, max_wait_s=max_wait_s)

    @classmethod
    async def connect(cls, url: str, *, ledger: str) -> "PostgresDatabases":
        """The server that an admin's URL names; `ledger` is the host's own database, which it must not be.

        Raises:
            SettingsError: it cannot be used.
        """
        admin = Admin(url)
        await admin.prepare(ledger=ledger)
        return cls(admin)

    def open(self, name: str) -> AppDatabase:
        """The database of this name (16 to 128 letters, digits, `_`, `-`; made to be hard to guess)."""
        return AppDatabase(name, self)

    async def query(self, name: str, sql: str, values: Sequence[object]) -> QueryResult:
        """Run one statement of an app. Raises `QueryError`."""
        statement = admit(sql)
        check_count(statement, values)
        return await self.run(name, statement, values)

    async def run(self, name: str, statement: Statement, values: Sequence[object] = ()) -> QueryResult:
        """Run a statement as the app's role, whatever it is. Raises `QueryError`."""
        try:
            return await self._run(name, statement, values)
        except QueryError as error:
            if error.code == "database_full":
                await self._admin.vacuum(Access.of(name))
            raise

    async def apply_schema(self, name: str, schema: Schema) -> list[str]:
        """Add to an app's database what it lacks. Raises `SchemaError`, and `QueryError` without a server."""
        return await self._admin.apply_schema(Access.of(name), schema)

    async def aclose(self) -> None:
        """Close every connection, those in use after their call. Later queries are refused with code `closed`."""
        await self._pool.aclose()

    async def _run(self, name: str, statement: Statement, values: Sequence[object]) -> QueryResult:
        while True:
            async with self._pool.take(name) as wire:
                is_fresh = wire.is_fresh
                try:
                    return await wire.run(statement, values)
                except Lost:
                    if is_fresh:
                        raise QueryError("unavailable", "the connection broke; nothing was kept") from None
            await self._pool.forget(name)  # the server has gone and come back: the others are as dead

    async def _connected(self, name: str) -> AppWire:
        access = Access.of(name)
        conninfo = self._admin.conninfo_of(access, self._limits)
        await self._admin.ensure(access)
        try:
            return await AppWire.connect(conninfo, limits=self._limits)
        except psycopg.OperationalError:
            await self._admin.ensure(access, anew=True)
        try:
            return await AppWire.connect(conninfo, limits=self._limits)
        except psycopg.OperationalError as error:
            log.warning("the apps' database refuses %s: %s", access.place, error)
            raise QueryError("busy", "the app's database takes no more connections") from None
