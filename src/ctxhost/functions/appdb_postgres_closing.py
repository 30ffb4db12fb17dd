"""What an app's database consists of before its first table, and what is closed in it."""

from collections.abc import Iterator
from typing import Final, LiteralString

from psycopg.sql import SQL, Composed, Identifier

from ctxhost.functions.appdb_postgres_gate import CLOSED_FUNCTIONS

_FOUNDATION: Final[tuple[LiteralString, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS app",
    "CREATE SCHEMA IF NOT EXISTS ctxhost",
    # How much room the app's tables take.
    """CREATE OR REPLACE FUNCTION ctxhost.bytes() RETURNS bigint
       LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
         SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
         WHERE relnamespace = 'app'::regnamespace AND relkind = 'r' $$""",
    # The columns that a violated constraint or index is about, as JSON.
    """CREATE OR REPLACE FUNCTION ctxhost.columns(name text) RETURNS json
       LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
         SELECT coalesce(json_agg(attname ORDER BY place), '[]') FROM (
           SELECT a.attname, k.place FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid,
             unnest(i.indkey) WITH ORDINALITY k(number, place), pg_attribute a
           WHERE c.relname = columns.name AND c.relnamespace = 'app'::regnamespace
             AND a.attrelid = i.indrelid AND a.attnum = k.number
           UNION
           SELECT a.attname, k.place FROM pg_constraint c, unnest(c.conkey) WITH ORDINALITY k(number, place),
             pg_attribute a
           WHERE c.conname = columns.name AND c.connamespace = 'app'::regnamespace
             AND a.attrelid = c.conrelid AND a.attnum = k.number) AS found $$""",
    "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ctxhost FROM PUBLIC",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ctxhost TO {role}",
    "GRANT USAGE ON SCHEMA app, ctxhost TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
)

_BY_A_SUPERUSER: Final[tuple[LiteralString, ...]] = (
    "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    "REVOKE USAGE ON SCHEMA information_schema FROM PUBLIC",
    "REVOKE SELECT ON ALL TABLES IN SCHEMA pg_catalog, information_schema FROM PUBLIC",
    "REVOKE USAGE ON LANGUAGE plpgsql, sql FROM PUBLIC",
    # In one statement: there are hundreds.
    """DO $$ DECLARE names text; BEGIN
         SELECT string_agg(oid::regprocedure::text, ', ') INTO names FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w')
           AND proname ~ '^({closed})$' AND has_function_privilege('public', oid, 'EXECUTE');
         IF names IS NOT NULL THEN EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || names || ' FROM PUBLIC'; END IF;
       END $$""",
    "ALTER ROLE {role} SET temp_file_limit = '256MB'",
)


def closing_statements(role: str, *, is_super: bool) -> Iterator[Composed]:
    """The statements, to be run inside the app's database; all of them may be run again."""
    for text in (*_FOUNDATION, *(_BY_A_SUPERUSER if is_super else ())):
        yield SQL(text).format(role=Identifier(role), closed=SQL(CLOSED_FUNCTIONS))
