"""Bring an app's database up to its schema document: additions only, all of them or none.

Missing tables, columns and indexes are made. What the document no longer names is left alone. What would change the
meaning of stored rows is refused. Every name and default in the SQL below comes from a parsed `Schema`, which admits
nothing that could end a quoted identifier or a literal.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from ctxhost.functions.schema import Column, Index, Schema, SchemaError, Table


class _Existing(NamedTuple):
    """A column as the database has it."""

    declared: str
    nullable: bool
    default: str | None
    key_position: int
    reference: tuple[str, str, str] | None


def apply_schema(connection: sqlite3.Connection, schema: Schema) -> list[str]:
    """Make what is missing, in one transaction; returns what was done, one line each (none: up to date).

    The connection is in autocommit mode, with foreign keys off and `now` and `gen_random_uuid` registered.

    Raises:
        SchemaError: the document contradicts what the database has; nothing was changed.
    """
    connection.execute("PRAGMA legacy_alter_table = ON")  # a rename below must not be followed by other tables
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = [line for name, table in schema.tables.items() for line in _table(connection, name, table)]
        done += [line for table, name, index in schema.indexes() for line in _index(connection, table, name, index)]
        _refuse_broken_references(connection)
        connection.execute("COMMIT")
    except sqlite3.Error as exc:
        raise SchemaError(f"the database refuses the schema: {exc}") from exc
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return done


def _table(connection: sqlite3.Connection, name: str, table: Table) -> list[str]:
    existing = _columns(connection, name)
    if not existing:
        connection.execute(_create_sql(name, table))
        return [f"created table {name}"]
    for column_name, column in table.columns.items():
        if column_name in existing:
            _refuse_change(f"{name}.{column_name}", existing[column_name], column)
    missing = {key: column for key, column in table.columns.items() if key not in existing}
    if missing:
        _add_columns(connection, name, missing)
    return [f"added column {name}.{column_name}" for column_name in missing]


def _create_sql(name: str, table: Table) -> str:
    parts = [_column_sql(column_name, column) for column_name, column in table.columns.items()]
    if table.primary_key:
        parts.append(f"PRIMARY KEY ({_listed(table.primary_key)})")
    return f'CREATE TABLE "{name}" ({", ".join(parts)})'


def _column_sql(name: str, column: Column) -> str:
    quoted = f'"{name}"'
    parts = [quoted, column.type.declared]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.default is not None:
        parts.append(column.default.clause)
    parts.append(f'CONSTRAINT "{name} must be {column.type}" CHECK ({column.type.check(quoted)})')
    if column.references is not None:
        target = column.references
        parts.append(f'REFERENCES "{target.table}" ("{target.column}") ON DELETE {target.on_delete}')
    return " ".join(parts)


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _columns(connection: sqlite3.Connection, table: str) -> Mapping[str, _Existing]:
    references = {
        row[3]: (row[2], row[4], row[6].lower()) for row in connection.execute(f'PRAGMA foreign_key_list("{table}")')
    }
    return {
        name: _Existing(declared, not notnull, default, key, references.get(name))
        for _, name, declared, notnull, default, key in connection.execute(f'PRAGMA table_info("{table}")')
    }


def _refuse_change(place: str, existing: _Existing, column: Column) -> None:
    target = column.references
    facts: list[tuple[str, Any, Any]] = [
        ("type", existing.declared, column.type.declared),
        ("primaryKey", bool(existing.key_position), column.primary_key),
        ("nullable", existing.nullable, column.nullable),
        ("default", existing.default, column.default and column.default.sql),
        ("references", existing.reference, target and (target.table, target.column, target.on_delete)),
    ]
    for what, before, after in facts:
        if before != after:
            raise SchemaError(
                f"{place}: {what} is {before!r} in the database and {after!r} in the schema; "
                "a column cannot be changed, add one under a new name"
            )


def _add_columns(connection: sqlite3.Connection, table: str, columns: Mapping[str, Column]) -> None:
    has_rows = connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{table}")').fetchone()[0]  # noqa: S608  checked name
    for name, column in columns.items():
        if column.primary_key:
            raise SchemaError(f"{table}.{name}: a primary key cannot be added to a table that is there")
        if has_rows and not column.nullable and column.default is None:
            raise SchemaError(f"{table}.{name}: {table} has rows, so a new column must be nullable or have a default")
    if has_rows and any(column.default and not column.default.constant for column in columns.values()):
        _refill_with(connection, table, columns)
    else:
        _alter(connection, table, columns)


def _alter(connection: sqlite3.Connection, table: str, columns: Mapping[str, Column]) -> None:
    for name, column in columns.items():
        try:
            connection.execute(f'ALTER TABLE "{table}" ADD COLUMN {_column_sql(name, column)}')
        except sqlite3.Error as exc:
            raise SchemaError(f"{table}.{name}: cannot be added: {exc}") from exc


def _refill_with(connection: sqlite3.Connection, table: str, columns: Mapping[str, Column]) -> None:
    # SQLite adds a column with a computed default only to an empty table: make one, then move the rows in,
    # each of which is given a value of its own.
    made, old = _sql_of(connection, "table", table)[0], f"{table} (old)"
    indexes = _sql_of(connection, "index", table)
    kept = _listed(list(_columns(connection, table)))
    connection.execute(f'ALTER TABLE "{table}" RENAME TO "{old}"')
    connection.execute(made)
    _alter(connection, table, columns)
    connection.execute(f'INSERT INTO "{table}" ({kept}) SELECT {kept} FROM "{old}" ORDER BY rowid')  # noqa: S608
    connection.execute(f'DROP TABLE "{old}"')
    for sql in indexes:
        connection.execute(sql)


def _sql_of(connection: sqlite3.Connection, kind: str, table: str) -> list[str]:
    found = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = ? AND tbl_name = ? AND sql IS NOT NULL", (kind, table)
    )
    return [sql for (sql,) in found]


def _index(connection: sqlite3.Connection, table: str, name: str, index: Index) -> list[str]:
    for _, there, unique, *_ in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
        if there == name:
            columns = [row[2] for row in connection.execute(f'PRAGMA index_info("{name}")')]
            if (columns, bool(unique)) != (index.columns, index.unique):
                raise SchemaError(f"{table}: the index {name} is there with other columns; give the new one a new name")
            return []
    kind = "UNIQUE INDEX" if index.unique else "INDEX"
    try:
        connection.execute(f'CREATE {kind} "{name}" ON "{table}" ({_listed(index.columns)})')
    except sqlite3.IntegrityError as exc:
        raise SchemaError(f"{table}: rows repeat {', '.join(index.columns)}, so {name} cannot be unique") from exc
    except sqlite3.OperationalError as exc:
        raise SchemaError(f"{table}: the index {name} cannot be made: {exc}") from exc
    return [f"created index {name}"]


def _refuse_broken_references(connection: sqlite3.Connection) -> None:
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise SchemaError(f"{broken[0]}: rows refer to rows of {broken[2]} that are not there")
