"""An app's SQL on PostgreSQL, tried hard: it reaches nothing of another app, of the host, or of the machine.

Every attempt is made twice: past the reading of the SQL, straight on the app's connection, as whom the host logs it in;
and as a query.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import anyio
import pytest
from tests.appdbs import app_names, apps_url, place_of
from tests.postgres import server

from ctxhost.functions.appdb import AppLimits, QueryError
from ctxhost.functions.appdb_postgres import PostgresDatabases
from ctxhost.functions.appdb_postgres_admin import Admin
from ctxhost.functions.schema import parse_schema
from ctxhost.functions.sql import Statement

NOTES = parse_schema('{"tables": {"notes": {"columns": {"body": {"type": "text"}}}}}')
CANARY = f"canary_{secrets.token_hex(6)}"
LEDGER = "host_ledger"
LIMITS = AppLimits(timeout_s=5)


@pytest.fixture(scope="module", params=["superuser", "plain-admin"])
def admin_url(request: pytest.FixtureRequest) -> str:
    """Both kinds of admin: one that can close the catalogues to apps, and one that cannot."""
    return apps_url() if request.param == "superuser" else plain_admin_url()


@cache
def plain_admin_url() -> str:
    """Made once in a process: a module's fixtures may be asked for again after tests of other modules."""
    server().execute("CREATE ROLE apps_admin LOGIN CREATEDB CREATEROLE")
    server().execute("CREATE DATABASE plain_apps OWNER apps_admin")
    return server().url("plain_apps").replace("//postgres@", "//apps_admin@")


@pytest.fixture(scope="module")
def ledger() -> Iterator[str]:
    """The host's own database, on the same server, with something to steal."""
    url = server().create(LEDGER)
    server().execute(f"CREATE TABLE lease AS SELECT '{CANARY}'::text AS amount", database=LEDGER)
    server().execute(f"CREATE FUNCTION secret() RETURNS text LANGUAGE sql AS $$ SELECT '{CANARY}' $$", database=LEDGER)
    server().execute(f"REVOKE CONNECT ON DATABASE {LEDGER} FROM PUBLIC")  # what the plain admin may not do itself
    yield url
    server().drop(LEDGER)


@pytest.fixture(scope="module")
def names(admin_url: str, ledger: str) -> Iterator[tuple[str, str]]:
    """Two apps of the same host: the one that tries, and the one that it tries to reach."""

    async def fill(names: tuple[str, str]) -> None:
        admin = Admin(admin_url)
        await admin.prepare(ledger=ledger)
        apps = PostgresDatabases(admin)
        for name in names:
            await apps.apply_schema(name, NOTES)
        await apps.query(names[1], "DELETE FROM notes", [])  # of the set-up before this one, in the same process
        await apps.query(names[1], "INSERT INTO notes VALUES ($1)", [CANARY])
        await apps.aclose()

    if admin_url == apps_url():
        with app_names(2) as (mine, theirs):
            anyio.run(fill, (mine, theirs))
            yield mine, theirs
    else:
        anyio.run(fill, ("plain_app_that_tries", "plain_app_that_is_tried"))
        yield "plain_app_that_tries", "plain_app_that_is_tried"


@pytest.fixture
async def apps(admin_url: str, names: tuple[str, str]) -> AsyncIterator[PostgresDatabases]:
    apps = PostgresDatabases(Admin(admin_url), limits=LIMITS)
    yield apps
    await apps.aclose()


CATALOGUES = [
    "SELECT * FROM pg_catalog.pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_database",
    "SELECT * FROM pg_stat_activity",
    "SELECT query, usename, datname FROM pg_stat_activity",
    "SELECT * FROM pg_stat_get_activity(NULL)",
    "SELECT * FROM pg_class",
    "SELECT prosrc FROM pg_proc WHERE proname = 'secret'",
    "SELECT * FROM pg_description",
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_locks",
    "SELECT * FROM pg_prepared_xacts",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_db_role_setting",
    "SELECT * FROM pg_shdescription",
    "SELECT * FROM information_schema.tables",
    "SELECT current_setting('hba_file')",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_stat_file('PG_VERSION')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT query_to_xml('SELECT * FROM pg_authid', true, true, '')",
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'secret'",
    "SELECT g::regrole::text FROM generate_series(10, 60000) g LIMIT 5000",
    "SELECT g::regclass::text FROM generate_series(10, 60000) g LIMIT 5000",
    "SELECT has_database_privilege('host_ledger', 'CONNECT')",
]
"""What looks around. Where the catalogues stay open it may see names, but never a value."""

REACHES = [
    "SELECT * FROM host_ledger.public.lease",
    "SELECT * FROM {theirs}.app.notes",
    'SELECT * FROM "{theirs}".notes',
    "SELECT * FROM public.lease",
    "SELECT public.secret()",
    "SELECT * FROM dblink('dbname=host_ledger', 'SELECT amount FROM lease') AS t(amount text)",
    "SELECT dblink_connect('dbname=host_ledger')",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE EXTENSION vector",
    "CREATE SERVER s FOREIGN DATA WRAPPER postgresql_fdw",
    "IMPORT FOREIGN SCHEMA public FROM SERVER s INTO app",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=host_ledger' PUBLICATION p",
    "SET ROLE postgres",
    "SET ROLE {theirs}",
    "SET SESSION AUTHORIZATION {theirs}",
    "SELECT set_config('role', '{theirs}', false)",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('session_authorization', 'postgres', false)",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$",
    "DO $$ BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'SET ROLE {theirs}'; END $$",
    "DO $$ BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXECUTE 'CREATE TABLE app.x (a int)'; END $$",
    "GRANT {theirs} TO CURRENT_USER",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEDB",
    "ALTER ROLE {theirs} PASSWORD 'x'",
    "CREATE ROLE mine LOGIN",
    "CREATE DATABASE mine",
    "ALTER DATABASE host_ledger RENAME TO mine",
    "DROP DATABASE host_ledger",
    "COPY notes TO '/tmp/ctxhost_stolen'",
    "COPY notes FROM '/etc/passwd'",
    "COPY notes FROM PROGRAM 'id'",
    "COPY (SELECT 1) TO PROGRAM 'cat > /tmp/ctxhost_stolen'",
    "COPY notes TO STDOUT",
    "COPY notes FROM STDIN",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/ctxhost_stolen')",
    "LOAD 'plpgsql'",
    "CREATE FUNCTION app.f() RETURNS int LANGUAGE c AS 'libc.so.6', 'system'",
    "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE ctxhost.p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION ctxhost.bytes() RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
    "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION ctxhost.bytes()",
    "CREATE TRIGGER t BEFORE INSERT ON notes EXECUTE FUNCTION ctxhost.bytes()",
    "CREATE RULE r AS ON INSERT TO notes DO ALSO SELECT 1",
    "CREATE TEMP TABLE x (a int)",
    "SELECT 1 AS a INTO TEMP x",
    "SELECT 1 AS a INTO app.x",
    "CREATE TABLE app.x (a int)",
    "CREATE SCHEMA mine",
    "CREATE VIEW app.v AS SELECT 1",
    "CREATE TYPE app.t AS (a int)",
    "CREATE SEQUENCE app.s",
    "ALTER TABLE notes ADD COLUMN a int",
    "ALTER TABLE notes OWNER TO CURRENT_USER",
    "DROP TABLE notes",
    "TRUNCATE notes",
    "CREATE INDEX ON notes (body)",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "ALTER SYSTEM SET log_statement = 'all'",
    "CHECKPOINT",
    "SELECT pg_reload_conf()",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "SELECT * FROM pg_ls_waldir()",
    "UPDATE pg_catalog.pg_database SET datname = 'x'",
    "INSERT INTO pg_catalog.pg_auth_members VALUES (1, 2, 3, 4, true, true, true)",
    "DELETE FROM pg_catalog.pg_class",
    "SELECT 1; SELECT 2",
    "PREPARE TRANSACTION 'x'",
]
"""What reaches out, or makes something. Refused, each of them, whoever the admin is."""

HARMLESS = [
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock(g) FROM generate_series(1, 10) g",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT pg_notify('canary', 'x')",
    "NOTIFY canary, 'x'",
    "LISTEN canary",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT set_config('search_path', 'pg_catalog', false)",
    "SET search_path = pg_catalog",
    "PREPARE p AS SELECT 1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes",
    "RESET ROLE",
    "RESET ALL",
    "SET LOCAL ROLE NONE",
    "COMMIT",
    "ROLLBACK",
    "SELECT txid_current()",
    "SELECT version(), inet_server_addr(), current_query()",
    "GRANT CONNECT ON DATABASE host_ledger TO CURRENT_USER",  # a warning: nothing to give
    "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE",
    "DO $$ BEGIN PERFORM 1; END $$",
    "SELECT ctxhost.bytes(), ctxhost.columns('x')",
]
"""What may be refused or not: it stays in the app's own database, and ends with its statement."""


def filled(sql: str, names: tuple[str, str]) -> str:
    return sql.replace("{theirs}", place_of(names[1]))


async def attempt(apps: PostgresDatabases, name: str, sql: str) -> str:
    """What came of a statement that nobody has read before: everything it answered, or why it was refused."""
    try:
        result = await apps.run(name, Statement(sql, parameters=0, writes=False))
    except QueryError as error:
        return f"{error.code}: {error.message}"
    return f"rows: {result.rows}"


async def is_refused_as_a_query(apps: PostgresDatabases, name: str, sql: str) -> bool:
    """As `ctx.db.query` runs it, an attempt ends before the database, or in it."""
    with pytest.raises(QueryError) as caught:
        await apps.query(name, sql, [])
    return caught.value.code in {"not_allowed", "syntax_error"} and CANARY not in str(caught.value)


def is_stolen() -> bool:
    return Path("/tmp/ctxhost_stolen").exists()


UNHARMED = ([{"n": 0}], [{"body": CANARY}], [(CANARY,)], False)


async def what_stands(apps: PostgresDatabases, names: tuple[str, str]) -> tuple[object, ...]:
    """What both apps see of their own, what the ledger holds, and whether there is a file that was not there."""
    mine = await apps.query(names[0], "SELECT count(*) AS n FROM notes", [])
    theirs = await apps.query(names[1], "SELECT body FROM notes", [])
    ledger = server().execute("SELECT amount FROM lease", database=LEDGER)
    return mine.rows, theirs.rows, ledger, is_stolen()


@pytest.mark.parametrize("sql", REACHES)
async def test_no_way_out(apps: PostgresDatabases, names: tuple[str, str], sql: str) -> None:
    """Refused by the database itself; nothing came back and nothing was changed."""
    told = await attempt(apps, names[0], filled(sql, names))

    assert not told.startswith("rows:")
    assert CANARY not in told
    assert await is_refused_as_a_query(apps, names[0], filled(sql, names))
    assert await what_stands(apps, names) == UNHARMED


@pytest.mark.parametrize("sql", CATALOGUES)
async def test_no_look_around(apps: PostgresDatabases, names: tuple[str, str], admin_url: str, sql: str) -> None:
    """No value of anybody else comes back; and under a superuser's provision the catalogues do not answer at all."""
    told = await attempt(apps, names[0], sql)

    assert CANARY not in told
    assert names[1] not in told
    assert await is_refused_as_a_query(apps, names[0], sql)
    if admin_url == apps_url() and "::reg" not in sql:
        assert told.startswith(("not_allowed:", "syntax_error:"))


@pytest.mark.parametrize("sql", HARMLESS)
async def test_nothing_outlasts_a_statement(apps: PostgresDatabases, names: tuple[str, str], sql: str) -> None:
    """The app's next statement, and every other app, find the session and the server as they were."""
    told = await attempt(apps, names[0], sql)

    assert CANARY not in told
    assert await is_refused_as_a_query(apps, names[0], sql)
    mine = f"d.datname = '{place_of(names[0])}'"
    locks = f"FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE {mine} AND locktype = 'advisory'"
    assert [(0,)] == server().execute(f"SELECT count(*) {locks}")
    assert [] == server().execute(f"SELECT 1 FROM pg_stat_activity d WHERE {mine} AND state <> 'idle'")
    assert await what_stands(apps, names) == UNHARMED


async def test_a_notification_stays_inside(apps: PostgresDatabases, names: tuple[str, str]) -> None:
    """Whoever listens in another database hears nothing of what an app shouts, and an app that listens hears nobody."""
    await attempt(apps, names[1], "LISTEN canary")
    await attempt(apps, names[0], f"NOTIFY canary, '{CANARY}'")

    assert CANARY not in await attempt(apps, names[1], "SELECT 1")


async def test_a_role_logs_in_to_its_own_database_only(
    apps: PostgresDatabases, names: tuple[str, str], admin_url: str
) -> None:
    """With the right password too, the doors of every other database are shut, those of new ones at the next start."""
    server().execute("CREATE DATABASE opened_later")
    try:
        await Admin(apps_url()).prepare(ledger=LEDGER)
        found = server().execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND"
            f" has_database_privilege('{place_of(names[0])}', oid, 'CONNECT')"
        )
    finally:
        server().drop("opened_later")

    assert [(place_of(names[0]),)] == found


async def test_what_a_role_is(apps: PostgresDatabases, names: tuple[str, str]) -> None:
    """No attribute but login, no membership, a bounded number of connections."""
    role = place_of(names[0])
    (found,) = server().execute(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolinherit, rolcanlogin,"
        f" rolconnlimit BETWEEN 1 AND 16 FROM pg_roles WHERE rolname = '{role}'"
    )

    assert (False, False, False, False, False, False, True, True) == found
    assert [] == server().execute(
        "SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member"
        f" WHERE r.rolname = '{role}' AND m.roleid <> r.oid"
    )


async def test_no_name_tells_of_another(names: tuple[str, str]) -> None:
    """What an app's role and database are called says neither its secret name nor its password."""
    assert names[0] not in place_of(names[0])
    assert 24 == len(place_of(names[0]).removeprefix("ctxhost_app_"))


async def test_an_admin_without_power_is_told(admin_url: str, ledger: str, caplog: pytest.LogCaptureFixture) -> None:
    """What stays open is said once, at the start."""
    with caplog.at_level(logging.WARNING, "ctxhost.functions"):
        await Admin(admin_url).prepare(ledger=ledger)

    assert (admin_url != apps_url()) == ("no superuser" in caplog.text)
