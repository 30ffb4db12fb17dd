"""`ctx.db` on PostgreSQL: its types, its limits, its clock, and what is done to the server for it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from starlette.requests import Request
from tests.api.stand import settings_in
from tests.appdbs import app_names, apps_url, place_of
from tests.postgres import Server, server

from ctxhost.clock import ManualClock
from ctxhost.errors import SettingsError
from ctxhost.functions import appdb_postgres_admin
from ctxhost.functions.appdb import AppDatabase, AppLimits, QueryError, open_databases
from ctxhost.functions.appdb_postgres import PostgresDatabases
from ctxhost.functions.appdb_postgres_admin import Access, Admin
from ctxhost.functions.appdb_postgres_gate import admit
from ctxhost.functions.queryerror import QueryErrorCode
from ctxhost.functions.schema import parse_schema
from ctxhost.functions.sql import Statement
from ctxhost.host import Host

SANDBOX = Path(__file__).parents[2] / "sandbox"
TABLE = parse_schema(
    '{"tables": {"t": {"columns": {"n": {"type": "integer", "unique": true}, "body": {"type": "text"}}}}}'
)
LIMITS = AppLimits(
    timeout_s=0.5, max_rows=100, max_result_bytes=100_000, max_value_bytes=50_000, max_file_bytes=300_000
)


@pytest.fixture
def name() -> Iterator[str]:
    with app_names() as (name,):
        yield name


@pytest.fixture
async def apps() -> AsyncIterator[PostgresDatabases]:
    apps = PostgresDatabases(Admin(apps_url()), limits=LIMITS)
    yield apps
    await apps.aclose()


@pytest.fixture
async def db(apps: PostgresDatabases, name: str) -> AppDatabase:
    db = apps.open(name)
    await db.apply_schema(TABLE)
    await db.query("SELECT 1")  # logged in: what follows is about queries
    return db


async def code_of(db: AppDatabase, sql: str, params: list[object] | None = None) -> QueryErrorCode:
    with pytest.raises(QueryError) as caught:
        await db.query(sql, params or [])
    return caught.value.code


def backends_of(name: str) -> list[int]:
    found = server().execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{place_of(name)}' ORDER BY 1")
    return [pid for (pid,) in found]


async def settle(name: str) -> None:
    """Wait until no backend of an app is at work, which a cut one is not for long."""
    with anyio.fail_after(5):
        busy = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{place_of(name)}' AND state <> 'idle'"
        while server().execute(busy):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        pytest.param("1 = 1", True, id="boolean"),
        pytest.param("2::smallint", 2, id="smallint"),
        pytest.param("9223372036854775807", 2**63 - 1, id="bigint"),
        pytest.param("sum(g::bigint) FROM generate_series(1, 3) g", 6, id="whole-numeric"),
        pytest.param("1.50::numeric", 1.5, id="numeric"),
        pytest.param("0.1::real", 0.1, id="real"),
        pytest.param("NULL::json", None, id="null"),
        pytest.param("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}, id="jsonb"),
        pytest.param("'5'::json", 5, id="json-scalar"),
        pytest.param("'2026-06-11T21:18:53.7349+02:00'::timestamptz", "2026-06-11T19:18:53.734Z", id="timestamptz"),
        pytest.param("'infinity'::timestamptz", "infinity", id="infinity"),
        pytest.param("'2026-06-11'::date", "2026-06-11", id="date"),
        pytest.param("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", id="uuid"),
        pytest.param("1e300::numeric * 10", 10**301, id="large-numeric"),
        pytest.param("ARRAY[1, 2]", "{1,2}", id="array"),
        pytest.param("'é' || $$'$$", "é'", id="text"),
    ],
)
async def test_values_are_what_python_knows(db: AppDatabase, sql: str, value: object) -> None:
    """The same values as on SQLite; what SQLite has not comes as PostgreSQL's own text."""
    (row,) = (await db.query(f"SELECT {sql}")).rows

    assert [value] == list(row.values())
    assert [type(value)] == [type(one) for one in row.values()]


async def test_a_parameter_takes_the_type_of_its_place(db: AppDatabase) -> None:
    """As text without a type: it fits an integer, a boolean, a list of ids, a LIMIT; a bare one is text."""
    await db.query("INSERT INTO t VALUES ($1, $2), ($3, $2)", [1, "x", "2"])
    sql = "SELECT n, $1 AS bare FROM t WHERE n = ANY ($2) AND $3 AND body = $4 ORDER BY n LIMIT $5"

    result = await db.query(sql, [7, "{1,2,3}", True, "x", 1])

    assert [{"n": 1, "bare": "7"}] == result.rows


async def test_now_is_the_databases_time_and_one_per_statement(db: AppDatabase) -> None:
    """The default of a column and `now()` are one moment, kept to the millisecond so that it can be asked for."""
    schema = '{"tables": {"s": {"columns": {"at": {"type": "timestamptz", "default": "now()"}}}}}'
    await db.apply_schema(parse_schema(schema))
    made = await db.query("INSERT INTO s DEFAULT VALUES RETURNING at, at = now()::timestamptz(3) AS same")

    assert [True] == [row["same"] for row in made.rows]
    assert 1 == (await db.query("SELECT * FROM s WHERE at = $1", [made.rows[0]["at"]])).row_count


RUNAWAYS = {
    "recursion": "WITH RECURSIVE n(i) AS (SELECT 1::bigint UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "series": "SELECT count(*) FROM generate_series(1, 1000000000000) g",
    "cross-join": "SELECT count(*) FROM generate_series(1, 9999) a, generate_series(1, 9999) b, "
    "generate_series(1, 99) c",
    "long-string": "SELECT length(string_agg(repeat('x', 1000), '')) FROM generate_series(1, 900000) g, "
    "generate_series(1, 100) h",
    "write": "INSERT INTO t SELECT g, NULL FROM generate_series(1, 1000000000000) g WHERE g < 0",
}


@pytest.mark.parametrize("sql", RUNAWAYS.values(), ids=RUNAWAYS)
async def test_a_runaway_is_cut(db: AppDatabase, name: str, sql: str) -> None:
    """By the host's clock: its backend is free again, nothing is kept, and the next query is answered."""
    with anyio.fail_after(10):
        assert "timeout" == await code_of(db, sql)

    assert 0 == (await db.query("SELECT * FROM t")).row_count
    await settle(name)


async def test_what_sets_the_servers_clock_off_is_cut_by_the_hosts(
    db: AppDatabase, apps: PostgresDatabases, name: str
) -> None:
    """A session whose own timeout is gone is no less bounded."""
    sql = "DO $$ BEGIN SET statement_timeout = 0; PERFORM count(*) FROM generate_series(1, 1000000000000); END $$"
    server().execute("GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC", database=place_of(name))
    try:
        with anyio.fail_after(10), pytest.raises(QueryError) as caught:
            await apps.run(name, Statement(sql, 0, writes=False))
    finally:
        server().execute("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", database=place_of(name))

    assert "timeout" == caught.value.code
    assert [{"one": 1}] == (await db.query("SELECT 1 AS one")).rows


async def test_a_server_that_does_not_obey_is_left(db: AppDatabase, name: str) -> None:
    """A backend that hears no cancel costs its connection and a moment, not the caller."""
    (pid,) = backends_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        with anyio.fail_after(10):
            assert "timeout" == await code_of(db, "SELECT 1")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert [{"one": 1}] == (await db.query("SELECT 1 AS one")).rows


async def test_a_cancelled_caller_frees_the_server(db: AppDatabase, name: str) -> None:
    """The statement of a caller that left does not go on, and what it wrote is not kept."""
    with anyio.move_on_after(0.05) as scope:
        await db.query("INSERT INTO t SELECT g FROM generate_series(1, 100000000) g")

    assert scope.cancelled_caught
    assert [{"n": 0}] == (await db.query("SELECT count(*) AS n FROM t")).rows
    await settle(name)


async def test_a_result_has_an_end(db: AppDatabase) -> None:
    """Too many rows or bytes, or one value that is too large, is an error and not a partial answer."""
    assert 100 == (await db.query("SELECT g FROM generate_series(1, 100) g")).row_count

    assert "too_many_rows" == await code_of(db, "SELECT g FROM generate_series(1, 101) g")
    assert "too_many_rows" == await code_of(db, "SELECT repeat('x', 10000) FROM generate_series(1, 20) g")
    assert "too_large" == await code_of(db, "SELECT repeat('x', 50001)")
    assert "too_many_rows" == await code_of(db, "INSERT INTO t SELECT g FROM generate_series(1, 101) g RETURNING n")
    assert 0 == (await db.query("SELECT * FROM t")).row_count


MEMORY = """
import resource, sys, anyio
from ctxhost.functions.appdb import QueryError
from ctxhost.functions.appdb_postgres import PostgresDatabases
from ctxhost.functions.appdb_postgres_admin import Admin

async def main():
    apps = PostgresDatabases(Admin(sys.argv[1]))
    await apps.query(sys.argv[2], "SELECT 1", [])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        await apps.query(sys.argv[2], "SELECT repeat('x', 90000000)", [])
    except QueryError as error:
        print(error.code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

anyio.run(main)
"""


def test_a_row_larger_than_memory_does_not_come_in(name: str) -> None:
    """90 MB in one row are refused long before they are in the host's memory."""
    told = subprocess.run([sys.executable, "-c", MEMORY, apps_url(), name], capture_output=True, text=True, check=True)
    code, grown_mb = told.stdout.split()

    assert code in {"too_large", "timeout"}
    assert 45 > int(grown_mb)


async def test_tables_have_an_end(db: AppDatabase) -> None:
    """An app that fills its database is told so; what it deletes makes room."""
    fill = "INSERT INTO t SELECT g, (SELECT string_agg(md5((g * 40 + h)::text), '') FROM generate_series(1, 40) h)"
    await db.query(f"{fill} FROM generate_series(1, 50) g")

    assert "database_full" == await code_of(db, f"{fill} FROM generate_series(101, 400) g")
    await db.query("DELETE FROM t")
    assert 1 == (await db.query("INSERT INTO t VALUES (1, 'small')")).row_count


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        pytest.param("SELECT 1 / 0", "bad_parameter", id="division"),
        pytest.param("SELECT 'x'::int", "bad_parameter", id="cast"),
        pytest.param("INSERT INTO t VALUES (99999999999)", "constraint_violation", id="range"),
        pytest.param("SELECT * FROM t, LATERAL no_such_function(n)", "syntax_error", id="no-function"),
        pytest.param(f"SELECT {', '.join('1' * 1_700)}", "too_large", id="too-many-columns"),
        pytest.param("SELECT * FROM app.other", "syntax_error", id="no-table"),
        pytest.param("SELECT pg_sleep(1)", "not_allowed", id="closed"),
    ],
)
async def test_errors_have_a_code(db: AppDatabase, sql: str, code: QueryErrorCode) -> None:
    """By SQLSTATE, in the words of SQLite's errors."""
    assert code == await code_of(db, sql)


async def test_a_row_that_another_holds_is_waited_for(db: AppDatabase, name: str) -> None:
    """Then the query ends at its timeout, and the holder goes on."""
    await db.query("INSERT INTO t VALUES (1, 'a')")
    with psycopg.connect(server().url(place_of(name))) as holder:
        holder.execute("UPDATE app.t SET body = 'b'")
        assert await code_of(db, "UPDATE t SET body = 'c'") in {"busy", "timeout"}

    assert [{"body": "b"}] == (await db.query("SELECT body FROM t")).rows


async def test_a_crowd_shares_few_connections() -> None:
    """However many ask, an app has at most its share and the host its total; everybody is answered."""
    seen: list[int] = []
    apps = PostgresDatabases(Admin(apps_url()), total=3, max_wait_s=60)

    async def ask(name: str) -> None:
        assert [{"one": 1}] == (await apps.query(name, "SELECT 1 AS one", [])).rows

    with app_names(4) as names:
        places = ", ".join(f"'{place_of(name)}'" for name in names)
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(ask, names[number % 4])
                if number % 20 == 19:
                    await anyio.sleep(0.01)
                    found = server().execute(f"SELECT count(*) FROM pg_stat_activity WHERE usename IN ({places})")
                    seen.append(found[0][0])
        await apps.aclose()

    assert 3 >= max(seen)


async def test_a_wait_for_a_connection_has_an_end(name: str) -> None:
    """While its connections are all busy, an app hears so; another app does not wait for it."""
    apps = PostgresDatabases(Admin(apps_url()), per_app=1, max_wait_s=0.2)
    with app_names() as (other,):
        for one in (name, other):
            await apps.query(one, "SELECT 1", [])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(apps.query, name, RUNAWAYS["recursion"], [])
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(QueryError, match="busy"):
                await apps.query(name, "SELECT 1", [])
            assert 1 == (await apps.query(other, "SELECT 1", [])).row_count
            tasks.cancel_scope.cancel()
    await apps.aclose()


async def test_many_hosts_make_an_app_at_once_and_again() -> None:
    """Provisioning side by side gives one database; doing it again changes nothing that is in it."""
    hosts = [PostgresDatabases(Admin(apps_url())) for _ in range(4)]
    with app_names() as (name,):
        server().execute(f'DROP DATABASE IF EXISTS "{place_of(name)}" WITH (FORCE)')
        async with anyio.create_task_group() as tasks:
            for host in hosts:
                tasks.start_soon(host.apply_schema, name, TABLE)
        await hosts[0].query(name, "INSERT INTO t VALUES (1, 'kept')", [])
        await Admin(apps_url()).ensure(Access.of(name), anew=True)

        for host in hosts:
            assert [{"body": "kept"}] == (await host.query(name, "SELECT body FROM t", [])).rows
            await host.aclose()


async def test_a_host_that_starts_again_finds_its_data(
    db: AppDatabase, name: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Everything follows from the app's secret name."""
    await db.query("INSERT INTO t VALUES (1, 'kept')")
    again = await open_databases(apps_url(), tmp_path, clock=clock, ledger="ctxhost.db")

    assert [{"body": "kept"}] == (await again.open(name).query("SELECT body FROM t")).rows
    await again.aclose()


async def test_a_host_keeps_its_apps_there(tmp_path: Path) -> None:
    """By one setting: the sandbox's functions and their schema are served as they are, and a restart finds the rows."""
    settings = settings_in(tmp_path, apps_database=apps_url())
    async with Host(settings, plugins=[], work=False) as host:
        owner = await host.ledger.open_account("owner")
        app = await host.tenants.create_app(owner.id, "Notes")
        await host.deploy(await host.tenants.set_folder(app, SANDBOX))
        ctx = await host.context(app.id)
        sql = "INSERT INTO meetings (bot_id, meeting_url, status, last_event) VALUES ($1, $2, $3, $4)"
        await ctx.db.query(sql, ["b1", "https://zoom.us/j/1", "joining", "spawn"])
    async with Host(settings, plugins=[], work=False) as host:
        request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
        answer = await host.invoke(app.id, "meetings", request)

    assert ["b1"] == [row["bot_id"] for row in json.loads(bytes(answer.body))]
    assert [] == list((tmp_path / "data").rglob("*.db"))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param('ALTER ROLE "{place}" PASSWORD NULL', id="password"),
        pytest.param('REVOKE CONNECT ON DATABASE "{place}" FROM "{place}"', id="connect"),
        pytest.param('ALTER ROLE "{place}" NOLOGIN', id="login"),
        pytest.param('DROP DATABASE "{place}" WITH (FORCE)', id="database"),
    ],
)
async def test_what_is_broken_is_mended_at_the_next_login(name: str, harm: str) -> None:
    """A role or database that was harmed from outside is made good when the app next connects."""
    admin = Admin(apps_url())
    await admin.ensure(Access.of(name))
    server().execute(harm.replace("{place}", place_of(name)))
    apps = PostgresDatabases(admin)

    assert [{"one": 1}] == (await apps.query(name, "SELECT 1 AS one", [])).rows
    await apps.aclose()


async def test_a_server_that_was_away_is_found_again() -> None:
    """Queries fail with a code while it is gone, and work when it is back, on the same databases."""
    own = Server()
    apps = PostgresDatabases(Admin(own.url()))
    name = "app_of_a_server_that_goes"
    try:
        await apps.apply_schema(name, TABLE)
        await apps.query(name, "INSERT INTO t VALUES (1)", [])
        own.stop()
        with pytest.raises(QueryError, match="unavailable"):
            await apps.query(name, "SELECT 1", [])
        own.start()

        assert [{"n": 1}] == (await apps.query(name, "SELECT n FROM t", [])).rows
    finally:
        await apps.aclose()
        own.close()


async def test_a_server_that_says_nothing_is_not_waited_for_by_each_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection is tried; the apps behind it in the queue hear of it, and what comes later tries anew."""
    monkeypatch.setattr(appdb_postgres_admin, "_CONNECT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        admin = Admin(f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres")
        names = [f"app_of_a_silent_server_{n}" for n in range(20)]
        with anyio.fail_after(8):
            answers = await asyncio.gather(*[admin.ensure(Access.of(name)) for name in names], return_exceptions=True)

    assert {"unavailable"} == {answer.code for answer in answers if isinstance(answer, QueryError)}
    assert {QueryError} == {type(answer) for answer in answers}


async def test_a_password_is_asked_for_and_is_the_apps_own(name: str) -> None:
    """Where the server checks passwords, an app's opens its own database; another one, or none, does not."""
    own = Server()
    admin, access = Admin(own.url()), Access.of(name)
    try:
        await admin.ensure(access)
        (place,) = own.execute("SHOW hba_file")[0]
        rules = await anyio.Path(place).read_text()
        await anyio.Path(place).write_text(f"local all {access.place} scram-sha-256\n{rules}")
        own.execute("SELECT pg_reload_conf()")
        apps = PostgresDatabases(admin)
        assert 1 == (await apps.query(name, "SELECT 1", [])).row_count
        await apps.aclose()
        conninfo = admin.conninfo_of(Access(access.place, Access.of("another_app_of_mine").password), LIMITS)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo)
    finally:
        own.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({}, "the host's own database", id="same-url"),
        pytest.param({"ledger": "elsewhere.db"}, "the database of a host", id="its-tables"),
    ],
)
async def test_the_hosts_own_database_is_refused(change: dict[str, Any], says: str) -> None:
    """By its name, and by what is in it, in one line."""
    url = server().create("a_hosts_own")
    server().execute("CREATE TABLE lease (id text)", database="a_hosts_own")
    try:
        with pytest.raises(SettingsError, match=says) as caught:
            await PostgresDatabases.connect(url, **{"ledger": url, **change})
    finally:
        server().drop("a_hosts_own")

    assert "\n" not in str(caught.value)


async def test_an_open_ledger_that_the_admin_cannot_close_is_refused() -> None:
    """On a shared server, the start stops until the owner has shut the ledger's door; the line says how."""
    server().execute("CREATE ROLE weak_admin LOGIN CREATEDB CREATEROLE")
    ledger = server().create("an_open_ledger")
    url = server().create("weak_apps").replace("//postgres@", "//weak_admin@")
    try:
        with pytest.raises(SettingsError, match='REVOKE CONNECT ON DATABASE "an_open_ledger" FROM PUBLIC'):
            await PostgresDatabases.connect(url, ledger=ledger)
        server().execute("REVOKE CONNECT ON DATABASE an_open_ledger FROM PUBLIC")

        await (await PostgresDatabases.connect(url, ledger=ledger)).aclose()
    finally:
        server().drop("an_open_ledger")
        server().drop("weak_apps")
        server().execute("DROP ROLE weak_admin")


async def test_who_could_connect_still_can() -> None:
    """Closing a database to everybody keeps the roles that were using it."""
    server().execute("CREATE ROLE an_old_user LOGIN")
    server().create("an_old_database")
    try:
        await Admin(apps_url()).prepare(ledger="ctxhost.db")
        who = "unnest(ARRAY['an_old_user', 'public']) AS who"
        found = server().execute(f"SELECT has_database_privilege(who, 'an_old_database', 'CONNECT') FROM {who}")

        assert [(True,), (False,)] == found
    finally:
        server().drop("an_old_database")
        for (database,) in server().execute("SELECT datname FROM pg_database WHERE datallowconn"):
            server().execute(f'REVOKE ALL ON DATABASE "{database}" FROM an_old_user')
        server().execute("DROP ROLE an_old_user")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("postgresql://nobody@/x?host=/nowhere", "cannot be used", id="no-server"),
        pytest.param("{weak}", "may not make roles and databases", id="no-right"),
    ],
)
async def test_a_server_that_cannot_be_used_is_told(url: str, says: str) -> None:
    """One clear line at the start."""
    server().execute("CREATE ROLE weak_role LOGIN")
    weak = apps_url().replace("//postgres@", "//weak_role@")
    server().execute("GRANT CONNECT ON DATABASE ctxhost_apps TO weak_role")
    try:
        with pytest.raises(SettingsError, match=says) as caught:
            await PostgresDatabases.connect(url.replace("{weak}", weak), ledger="ctxhost.db")
    finally:
        server().execute("REVOKE CONNECT ON DATABASE ctxhost_apps FROM weak_role")
        server().execute("DROP ROLE weak_role")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(1)",
        'SELECT "pg_sleep"(1)',
        "SELECT pg_catalog.length('x')",
        "SELECT/**/pg_sleep/**/(1)",
        "SELECT PG_SLEEP (1)",
        "SELECT 1 --\r, pg_sleep(1)",
        "SELECT 'a' -- '\r, pg_sleep(1) --'",
        "SELECT makeaclitem(10, 10, 'SELECT', false)",
        "WITH x AS (SELECT set_config('a.b', 'c', true)) SELECT * FROM x",
        "SELECT t.relname FROM pg_class t",
        "SELECT 1::regclass",
        'SELECT CAST(1 AS "regrole")',
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT ctxhost.bytes()",
        "EXPLAIN SELECT 1",
        "DO 'x'",
    ],
)
def test_closed_names_are_found_however_they_are_written(sql: str) -> None:
    """In any case, quoted, qualified, behind a comment."""
    with pytest.raises(QueryError) as caught:
        admit(sql)

    assert "not_allowed" == caught.value.code


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'pg_sleep(1)', $$ pg_class $$ -- pg_roles",
        "SELECT version, description FROM releases",
        "SELECT a[1], b @> $1, c #>> '{x}', d ? 'k', e ^ 2, f !~ 'x' FROM t",
        "SELECT count(*) FILTER (WHERE a IS NOT NULL), array_agg(b ORDER BY c) FROM t FOR UPDATE",
        "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING RETURNING *",
    ],
)
def test_ordinary_sql_passes_unchanged(sql: str) -> None:
    """Strings, comments, columns and PostgreSQL's operators are left alone; the text is the app's own."""
    assert sql == admit(sql).sql
