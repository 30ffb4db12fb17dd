"""What the host does to PostgreSQL so that apps can share it: roles, databases, and what they may not.

Each app has a database of its own, because most of what leaks between the users of one database ends at its border:
catalogues, notifications, advisory locks, large objects, temporary objects. Its tables belong to the admin; its role
may read and write rows, and nothing else. Where the admin is a superuser, the catalogues and functions that look beyond
the app's own tables are closed to it as well.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Composed, Identifier

from ctxhost.errors import SettingsError
from ctxhost.functions.appdb_postgres_closing import closing_statements
from ctxhost.functions.appdb_postgres_schema import apply_schema
from ctxhost.functions.appfile import AppLimits
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.schema import Schema
from ctxhost.settings import is_url

log = logging.getLogger("ctxhost.functions")

PREFIX: Final = "ctxhost_app_"
_FORM: Final = "ctxhost apps 1"  # what a finished database is marked with; another form is brought to this one
_LOCK: Final = 0x6374_7868_6F73_7410  # among hosts that make databases; "ctxhost" in ASCII
_ROLE_CONNECTIONS: Final = 16  # of all hosts together
_SERVER_VERSION: Final = 140_000
_HAS_PROVIDERS: Final = 150_000
_VACUUM_EVERY_S: Final = 10.0
_CONNECT_S: Final = 5
_AWAY_S: Final = 1.0
_AWAY: Final = "the apps' database server cannot be used now"
_ADMIN_OPTIONS: Final = "-c statement_timeout=60s -c lock_timeout=10s -c search_path=pg_catalog -c timezone=UTC"


@dataclass(frozen=True, slots=True)
class Access:
    """Where an app's data is and how its role logs in: derived from the app's secret name, which it does not tell."""

    place: str
    password: str

    @classmethod
    def of(cls, name: str) -> "Access":
        return cls(PREFIX + _derived(name, "place")[:24], _derived(name, "password"))


def _derived(name: str, purpose: str) -> str:
    return hmac.new(name.encode(), f"ctxhost {purpose}".encode(), hashlib.sha256).hexdigest()


class Admin:
    """Acts on the server that `url` names, as whom it names: a superuser, or a role with CREATEDB and CREATEROLE."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ready: set[str] = set()
        self._turn = anyio.Lock()
        self._away_until_s = 0.0
        self._vacuumed: dict[str, float] = {}

    def conninfo_of(self, access: Access, limits: AppLimits) -> str:
        """How the host connects as an app."""
        asked = {
            key: value
            for key, value in conninfo_to_dict(self._url).items()
            if key not in {"sslcert", "sslkey", "sslpassword", "passfile", "service"}
        }
        timeout_ms = round(limits.timeout_s * 1_000) + 1_000  # the host's clock is first
        options = {
            "statement_timeout": timeout_ms,
            "idle_in_transaction_session_timeout": timeout_ms,
            "lock_timeout": round(limits.timeout_s * 1_000),
            "search_path": "app",
            "timezone": "UTC",
            "datestyle": "ISO",
            "standard_conforming_strings": "on",
            "max_parallel_workers_per_gather": 0,
            "jit": "off",
            "work_mem": "8MB",
            "client_min_messages": "error",
        }
        own: dict[str, Any] = {
            "user": access.place,
            "password": access.password,
            "dbname": access.place,
            "application_name": "ctxhost-app",
            "client_encoding": "UTF8",
            "connect_timeout": _CONNECT_S,
            "options": " ".join(f"-c {key}={value}" for key, value in options.items()),
        }
        return make_conninfo("", **{**asked, **own})

    async def prepare(self, *, ledger: str) -> None:
        """Check that the server can be used, and close its other databases to whoever is not named there.

        Raises:
            SettingsError: one line that says what is wrong.
        """
        own, is_near = _dbname(ledger), _same_server(self._url, ledger)
        if is_near and own == _dbname(self._url):
            raise SettingsError("apps_database is the host's own database; apps need another one.")
        try:
            async with self._connection() as admin, _locked(admin):
                await self._check(admin)
                left = await self._close_others(admin)
        except psycopg.Error as error:
            raise SettingsError(f"apps_database cannot be used: {_one_line(error)}") from None
        for name in left:
            remedy = (
                f'everybody may connect to the database {name}; as its owner, run REVOKE CONNECT ON DATABASE "{name}"'
            )
            if is_near and name == own:
                raise SettingsError(f"apps_database is on the server of the host's own, where {remedy} FROM PUBLIC.")
            log.warning("on the server of apps_database %s FROM PUBLIC", remedy)

    async def ensure(self, access: Access, *, anew: bool = False) -> None:
        """Make the app's role and database unless they are there; `anew` goes over them again. Raises `QueryError`."""
        if access.place in self._ready and not anew:
            return
        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._check_is_there()
                try:
                    async with self._connection() as admin, _locked(admin):
                        if anew or not await _is_made(admin, access):
                            await self._make(admin, access)
                except psycopg.Error as error:
                    raise _unreachable(error) from None
                self._ready.add(access.place)

    def _check_is_there(self) -> None:
        """Those behind one who has waited for a server in vain need not wait for it as long, each in turn."""
        if time.monotonic() < self._away_until_s:
            raise QueryError("unavailable", _AWAY)

    async def apply_schema(self, access: Access, schema: Schema) -> list[str]:
        """Bring the app's database up to the schema. Raises `SchemaError`, and `QueryError` without a server."""
        await self.ensure(access)
        done: list[str] = []
        with anyio.CancelScope(shield=True):
            async with self._turn:
                try:
                    async with self._connection(access.place) as admin:
                        done = await apply_schema(admin, schema)
                except psycopg.Error as error:
                    raise _unreachable(error) from None
        return done

    async def vacuum(self, access: Access) -> None:
        """Give the room of deleted rows back, unless that was just done."""
        now_s = time.monotonic()
        if now_s - self._vacuumed.get(access.place, -_VACUUM_EVERY_S) < _VACUUM_EVERY_S:
            return
        self._vacuumed[access.place] = now_s
        with anyio.CancelScope(shield=True):
            try:
                async with self._connection(access.place) as admin:
                    tables = await _column(admin, SQL("SELECT tablename FROM pg_tables WHERE schemaname = 'app'"))
                    for table in tables:
                        await admin.execute(SQL("VACUUM {}").format(Identifier("app", table)))
            except psycopg.Error as error:
                log.warning("vacuum of %s failed: %s", access.place, error)

    @asynccontextmanager
    async def _connection(self, database: str | None = None) -> AsyncIterator["psycopg.AsyncConnection[Any]"]:
        asked = conninfo_to_dict(self._url)
        own: dict[str, Any] = {
            "application_name": "ctxhost-apps-admin",
            "connect_timeout": _CONNECT_S,
            "options": _ADMIN_OPTIONS,
        }
        if database is not None:
            own["dbname"] = database
        try:
            connection = await psycopg.AsyncConnection.connect(make_conninfo("", **{**asked, **own}), autocommit=True)
        except psycopg.OperationalError:
            self._away_until_s = time.monotonic() + _AWAY_S
            raise
        try:
            yield connection
        finally:
            await connection.close()

    async def _check(self, admin: "psycopg.AsyncConnection[Any]") -> None:
        if admin.info.server_version < _SERVER_VERSION:
            raise SettingsError("apps_database needs PostgreSQL 14 or newer.")
        if await _column(admin, SQL("SELECT 1 FROM pg_class WHERE relname = 'lease' AND relkind = 'r'")):
            raise SettingsError("apps_database is the database of a host; apps need another one.")
        cursor = await admin.execute(
            "SELECT rolsuper, rolcreatedb AND rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        is_super, can_make = await cursor.fetchone() or (False, False)
        if not is_super and not can_make:
            raise SettingsError("apps_database names a role that may not make roles and databases.")
        if not is_super:
            log.warning(
                "apps_database names a role that is no superuser: the server's catalogues cannot be closed to apps"
            )

    async def _close_others(self, admin: "psycopg.AsyncConnection[Any]") -> list[str]:
        """Revoke what PUBLIC may, after giving it by name to those who have it; the databases where we may not."""
        left = []
        cursor = await admin.execute(
            "SELECT datname, pg_has_role(datdba, 'USAGE') FROM pg_database"
            " WHERE datallowconn AND NOT starts_with(datname, %s) AND has_database_privilege('public', oid, 'CONNECT')",
            [PREFIX],
        )
        others = await _column(
            admin,
            SQL(
                "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND NOT starts_with(rolname, {})"
            ).format(PREFIX),
        )
        for name, is_ours in await cursor.fetchall():
            if not is_ours:
                left.append(name)
                continue
            database = Identifier(name)
            if others:
                roles = SQL(", ").join(map(Identifier, others))
                await admin.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, roles))
            await admin.execute(SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
        return left

    async def _make(self, admin: "psycopg.AsyncConnection[Any]", access: Access) -> None:
        """Every step may be there already, from a host that ended half way. The right to connect comes last."""
        place = Identifier(access.place)
        password = admin.pgconn.encrypt_password(access.password.encode(), access.place.encode(), b"scram-sha-256")
        login = SQL("LOGIN NOINHERIT CONNECTION LIMIT {} PASSWORD {}").format(_ROLE_CONNECTIONS, password.decode())
        has_role = await _column(admin, SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(access.place))
        verb = SQL("ALTER" if has_role else "CREATE")
        await admin.execute(SQL("{} ROLE {} {}").format(verb, place, login))
        if not await _column(admin, SQL("SELECT 1 FROM pg_database WHERE datname = {}").format(access.place)):
            # Text in the order of its bytes, as on SQLite.
            provider = SQL("LOCALE_PROVIDER libc" if admin.info.server_version >= _HAS_PROVIDERS else "")
            await admin.execute(
                SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' {} LOCALE 'C'").format(place, provider)
            )
        await admin.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(place))
        async with self._connection(access.place) as inside:
            is_super = inside.info.parameter_status("is_superuser") == "on"
            async with inside.transaction():
                for statement in closing_statements(access.place, is_super=is_super):
                    await inside.execute(statement)
        await admin.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(place, place))
        await admin.execute(SQL("COMMENT ON DATABASE {} IS {}").format(place, _FORM))


@asynccontextmanager
async def _locked(admin: "psycopg.AsyncConnection[Any]") -> AsyncIterator[None]:
    """One host at a time. The lock goes with the session."""
    await admin.execute("SET lock_timeout = '60s'")
    await admin.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    yield


async def _is_made(admin: "psycopg.AsyncConnection[Any]", access: Access) -> bool:
    found = SQL(
        "SELECT 1 FROM pg_database d JOIN pg_roles r ON r.rolname = d.datname"
        " WHERE d.datname = {} AND shobj_description(d.oid, 'pg_database') = {}"
    )
    return bool(await _column(admin, found.format(access.place, _FORM)))


async def _column(admin: "psycopg.AsyncConnection[Any]", sql: SQL | Composed) -> list[Any]:
    cursor = await admin.execute(sql)
    return [row[0] for row in await cursor.fetchall()]


def _same_server(url: str, ledger: str) -> bool:
    asked = _asked_for(ledger)
    own = conninfo_to_dict(url)
    defaults = {"host": "", "port": "5432"}
    return asked is not None and all(own.get(key, value) == asked.get(key, value) for key, value in defaults.items())


def _dbname(url: str) -> str:
    asked = _asked_for(url) or {}
    return str(asked.get("dbname") or asked.get("user") or "")


def _asked_for(database: str) -> dict[str, Any] | None:
    """What a URL says; None for the path of a file."""
    return dict(conninfo_to_dict(database)) if is_url(database) else None


def _unreachable(error: psycopg.Error) -> QueryError:
    log.warning("the apps' database server refuses: %s", _one_line(error))
    return QueryError("unavailable", _AWAY)


def _one_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
