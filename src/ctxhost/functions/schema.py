"""`schema.json`: the tables of an app's database.

    {"tables": {"notes": {
        "columns": {"id": {"type": "uuid", "primaryKey": true, "default": "gen_random_uuid()"},
                    "author": {"type": "uuid",
                               "references": {"table": "people", "column": "id", "onDelete": "cascade"}},
                    "title": {"type": "text", "nullable": false, "default": "'untitled'", "unique": true}},
        "indexes": {"notes_author_idx": {"columns": ["author"], "unique": false}}}}}

Columns are nullable unless they say otherwise or belong to the primary key. Several `primaryKey` columns make one key.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from ctxhost.errors import SettingsError
from ctxhost.functions.columns import ColumnType, Default, parse_default, parse_type
from ctxhost.functions.documents import StrictModel, first_problem


class SchemaError(SettingsError):
    """A schema document cannot be used, or cannot be reached from what the database has."""


def _ours(name: str) -> str:
    if name.startswith(("sqlite_", "pg_")):
        raise ValueError("names starting with sqlite_ or pg_ are reserved")
    return name


def _on_delete(text: object) -> object:
    if not isinstance(text, str) or text.lower() not in {"cascade", "restrict", "set null", "no action"}:
        raise ValueError("one of cascade, restrict, set null, no action")
    return text.lower()


Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$"), AfterValidator(_ours)]


class Reference(StrictModel):
    """A foreign key to a unique column."""

    table: Identifier
    column: Identifier
    on_delete: Annotated[str, BeforeValidator(_on_delete)] = Field(default="no action", alias="onDelete")


class Column(StrictModel):
    """One column; `default_text` is SQL in one of the forms of `parse_default`."""

    type_text: str = Field(alias="type")
    primary_key: bool = Field(default=False, alias="primaryKey")
    nullable_flag: bool = Field(default=True, alias="nullable")
    default_text: str | None = Field(default=None, alias="default")
    unique: bool = False
    references: Reference | None = None

    @model_validator(mode="after")
    def _readable(self) -> Self:
        parse_type(self.type_text)
        if self.default_text is not None:
            parse_default(self.default_text, self.type)
        return self

    @property
    def type(self) -> ColumnType:
        return parse_type(self.type_text)

    @property
    def default(self) -> Default | None:
        return None if self.default_text is None else parse_default(self.default_text, self.type)

    @property
    def nullable(self) -> bool:
        return self.nullable_flag and not self.primary_key


class Index(StrictModel):
    """An index over columns of its table."""

    columns: list[Identifier] = Field(min_length=1, max_length=16)
    unique: bool = False


class Table(StrictModel):
    columns: dict[Identifier, Column] = Field(min_length=1, max_length=150)
    indexes: dict[Identifier, Index] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _indexed_columns_exist(self) -> Self:
        for name, index in self.indexes.items():
            for column in index.columns:
                if column not in self.columns:
                    raise ValueError(f"indexes.{name}: there is no column {column}")
        return self

    @property
    def primary_key(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.primary_key]

    def is_unique(self, column: str) -> bool:
        """Whether a value of this column names at most one row."""
        return (
            self.columns[column].unique
            or self.primary_key == [column]
            or any(index.unique and index.columns == [column] for index in self.indexes.values())
        )


class Schema(StrictModel):
    """A whole document; see this module for its form."""

    tables: dict[Identifier, Table]

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        self._refuse_repeated_names()
        for name, table in self.tables.items():
            for column_name, column in table.columns.items():
                if column.references is not None:
                    self._check_reference(f"{name}.{column_name}", column, column.references)
        return self

    def indexes(self) -> Iterator[tuple[str, str, Index]]:
        """Every index as (table, name, index); a unique column is one, named as PostgreSQL names it."""
        for name, table in self.tables.items():
            for column_name, column in table.columns.items():
                if column.unique:
                    yield name, f"{name}_{column_name}_key", Index(columns=[column_name], unique=True)
            for index_name, index in table.indexes.items():
                yield name, index_name, index

    def _refuse_repeated_names(self) -> None:
        seen = set(self.tables)
        for table, name, _ in self.indexes():
            if name in seen:
                raise ValueError(f"tables.{table}: the name {name} is used twice")
            seen.add(name)

    def _check_reference(self, place: str, column: Column, target: Reference) -> None:
        table = self.tables.get(target.table)
        if table is None or target.column not in table.columns:
            raise ValueError(f"{place}: there is no column {target.table}.{target.column} to refer to")
        if not table.is_unique(target.column):
            raise ValueError(f"{place}: {target.table}.{target.column} is neither unique nor the primary key")
        if table.columns[target.column].type != column.type:
            raise ValueError(f"{place}: {target.table}.{target.column} is of another type")


def parse_schema(text: str, *, source: str = "schema.json") -> Schema:
    """Read a schema document. `source` names it in errors.

    Raises:
        SchemaError: not JSON, a repeated or unknown key, an unknown type or default, a name that is not one.
    """
    try:
        return Schema.model_validate(json.loads(text, object_pairs_hook=_no_repeats))
    except ValidationError as exc:
        raise SchemaError(f"{source}: {first_problem(exc)}") from exc
    except (ValueError, RecursionError) as exc:
        raise SchemaError(f"{source}: {exc}") from exc


def load_schema(path: Path) -> Schema:
    """Read a schema file. Raises `SchemaError` as `parse_schema` does, or when the file cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SchemaError(f"{path}: cannot be read ({exc})") from exc
    return parse_schema(text, source=str(path))


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)} appears twice")
    return found
