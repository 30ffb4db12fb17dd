"""Bring an app's database on PostgreSQL up to its schema document: additions only, all of them or none.

The rules and the lines are those of `migrate.py`. Every name and default in the SQL below comes from a parsed `Schema`,
which admits nothing that could end a quoted identifier or a literal. A column's comment keeps its default as the
document means it: PostgreSQL itself only knows it in words of its own.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg

from ctxhost.functions.schema import Column, Index, Schema, SchemaError, Table

_LOCK: Final = 0x6374_7868_6F73_7411
_NAME_BYTES: Final = 63

_TABLE: Final = "(SELECT oid FROM pg_class WHERE relname = %s AND relnamespace = 'app'::regnamespace AND relkind = 'r')"
_COLUMNS: Final = f"""
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, col_description(a.attrelid, a.attnum),
  EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
  (SELECT json_build_array(t.relname, k.attname, c.confdeltype)
     FROM pg_constraint c JOIN pg_class t ON t.oid = c.confrelid
     JOIN pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1]
    WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum])
FROM pg_attribute a
WHERE a.attrelid = {_TABLE} AND a.attnum > 0 AND NOT a.attisdropped
"""  # noqa: S608
_INDEXES: Final = f"""
SELECT c.relname, i.indisunique,
  ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(number, place)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY place)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = {_TABLE}
"""  # noqa: S608
_ON_DELETE: Final = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null"}
_UNIQUE, _FOREIGN = "23505", "23503"

Connection = psycopg.AsyncConnection[Any]


class _Existing(NamedTuple):
    """A column as the database has it."""

    type: str
    nullable: bool
    default: str | None
    is_key: bool
    reference: tuple[str, str, str] | None


async def apply_schema(connection: Connection, schema: Schema) -> list[str]:
    """Make what is missing, in one transaction; returns what was done, one line each (none: up to date).

    Raises:
        SchemaError: the document contradicts what the database has; nothing was changed.
        psycopg.OperationalError: the server is gone, or a lock was not to be had.
    """
    done: list[str] = []
    references: list[tuple[str, str, Column]] = []
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            for name, table in schema.tables.items():
                done += await _table(connection, name, table, references)
            for name, index_name, index in schema.indexes():
                done += await _index(connection, name, index_name[:_NAME_BYTES], index)
            for name, column_name, column in references:
                await _reference(connection, name, column_name, column)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as exc:
        raise SchemaError(f"the database refuses the schema: {_message(exc)}") from exc
    return done


async def _table(
    connection: Connection, name: str, table: Table, references: list[tuple[str, str, Column]]
) -> list[str]:
    existing = await _columns(connection, name)
    for column_name, column in table.columns.items():
        if column_name in existing:
            _refuse_change(f"{name}.{column_name}", existing[column_name], column)
    missing = {key: column for key, column in table.columns.items() if key not in existing}
    if not existing:
        await _execute(connection, _create_sql(name, table))
    else:
        await _add_columns(connection, name, missing)
    for column_name, column in missing.items():
        await _note_default(connection, name, column_name, column)
        if column.references is not None:
            references.append((name, column_name, column))
    if not existing:
        return [f"created table {name}"]
    return [f"added column {name}.{column_name}" for column_name in missing]


def _create_sql(name: str, table: Table) -> str:
    parts = [_column_sql(column_name, column) for column_name, column in table.columns.items()]
    if table.primary_key:
        parts.append(f"PRIMARY KEY ({_listed(table.primary_key)})")
    return f'CREATE TABLE app."{name}" ({", ".join(parts)})'


def _column_sql(name: str, column: Column) -> str:
    parts = [f'"{name}"', column.type.postgres]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.default is not None:
        parts.append(f"DEFAULT ({column.default.postgres})")
    return " ".join(parts)


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


async def _columns(connection: Connection, table: str) -> Mapping[str, _Existing]:
    cursor = await connection.execute(_COLUMNS, [table])
    return {
        name: _Existing(
            kind, nullable, default, is_key, target and (target[0], target[1], _ON_DELETE.get(target[2], target[2]))
        )
        for name, kind, nullable, default, is_key, target in await cursor.fetchall()
    }


def _refuse_change(place: str, existing: _Existing, column: Column) -> None:
    target = column.references
    facts: list[tuple[str, Any, Any]] = [
        ("type", existing.type, column.type.postgres),
        ("primaryKey", existing.is_key, column.primary_key),
        ("nullable", existing.nullable, column.nullable),
        ("default", existing.default, column.default and column.default.postgres),
        ("references", existing.reference, target and (target.table, target.column, target.on_delete)),
    ]
    for what, before, after in facts:
        if before != after:
            raise SchemaError(
                f"{place}: {what} is {before!r} in the database and {after!r} in the schema; "
                "a column cannot be changed, add one under a new name"
            )


async def _add_columns(connection: Connection, table: str, columns: Mapping[str, Column]) -> None:
    cursor = await _execute(connection, f'SELECT EXISTS (SELECT 1 FROM app."{table}")')  # noqa: S608  checked name
    (has_rows,) = await cursor.fetchone() or (False,)
    for name, column in columns.items():
        if column.primary_key:
            raise SchemaError(f"{table}.{name}: a primary key cannot be added to a table that is there")
        if has_rows and not column.nullable and column.default is None:
            raise SchemaError(f"{table}.{name}: {table} has rows, so a new column must be nullable or have a default")
        try:
            await _execute(connection, f'ALTER TABLE app."{table}" ADD COLUMN {_column_sql(name, column)}')
        except psycopg.DataError as exc:
            raise SchemaError(f"{table}.{name}: cannot be added: {_message(exc)}") from exc


async def _note_default(connection: Connection, table: str, name: str, column: Column) -> None:
    if column.default is not None:
        text = column.default.postgres.replace("'", "''")
        await _execute(connection, f"""COMMENT ON COLUMN app."{table}"."{name}" IS '{text}'""")


async def _index(connection: Connection, table: str, name: str, index: Index) -> list[str]:
    cursor = await connection.execute(_INDEXES, [table])
    for there, unique, columns in await cursor.fetchall():
        if there == name:
            if (columns, unique) != (index.columns, index.unique):
                raise SchemaError(f"{table}: the index {name} is there with other columns; give the new one a new name")
            return []
    kind = "UNIQUE INDEX" if index.unique else "INDEX"
    try:
        await _execute(connection, f'CREATE {kind} "{name}" ON app."{table}" ({_listed(index.columns)})')
    except psycopg.errors.UniqueViolation as exc:
        raise SchemaError(f"{table}: rows repeat {', '.join(index.columns)}, so {name} cannot be unique") from exc
    except psycopg.ProgrammingError as exc:
        raise SchemaError(f"{table}: the index {name} cannot be made: {_message(exc)}") from exc
    return [f"created index {name}"]


async def _reference(connection: Connection, table: str, name: str, column: Column) -> None:
    target = column.references
    assert target is not None
    try:
        await _execute(
            connection,
            f'ALTER TABLE app."{table}" ADD FOREIGN KEY ("{name}") REFERENCES app."{target.table}" ("{target.column}")'
            f" ON DELETE {target.on_delete}",
        )
    except psycopg.errors.ForeignKeyViolation as exc:
        raise SchemaError(f"{table}: rows refer to rows of {target.table} that are not there") from exc


async def _execute(connection: Connection, sql: str) -> "psycopg.AsyncCursor[Any]":
    return await connection.execute(sql.encode())


def _message(exc: psycopg.Error) -> str:
    return exc.diag.message_primary or type(exc).__name__
