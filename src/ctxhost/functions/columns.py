"""Column types and defaults of a schema document, and what each engine is told for them.

PostgreSQL has every type itself; times are kept to the millisecond there too, so that what was read can be asked for.
SQLite knows five storage classes; the declared type keeps the document's own name in front of the one that SQLite acts
on (`pg_uuid text`), and a CHECK holds values to it. A reader gets `boolean` columns back as bool and `json`, `jsonb`
columns as parsed values, because the connection knows the declared type of a column it reads; an expression over one
(`COALESCE(flag, false)`) has no declared type and comes back as SQLite computed it: 0 or 1, or JSON text. `numeric` is
a 64-bit integer or a double: keep money in integers.
"""

import re
from dataclasses import dataclass
from typing import Final

_DAY: Final = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_STORED_AS: Final = {
    "text": "typeof({c}) = 'text'",
    "integer": "typeof({c}) = 'integer'",
    "real": "typeof({c}) = 'real'",
    "numeric": "typeof({c}) IN ('integer', 'real')",
}
_KINDS: Final = {
    "uuid": ("text", "{c} GLOB '????????-????-????-????-????????????'"),
    "text": ("text", ""),
    "varchar": ("text", ""),
    "integer": ("integer", "{c} BETWEEN -2147483648 AND 2147483647"),
    "bigint": ("integer", ""),
    "boolean": ("integer", "{c} IN (0, 1)"),
    "numeric": ("numeric", ""),
    "real": ("real", ""),
    "double precision": ("real", ""),
    "timestamptz": ("text", f"{{c}} GLOB '{_DAY}*'"),
    "date": ("text", f"{{c}} GLOB '{_DAY}'"),
    "json": ("text", "json_valid({c})"),
    "jsonb": ("text", "json_valid({c})"),
}
"""Type → how SQLite stores it, and what must hold of a value beyond that."""

_IN_POSTGRES: Final = {"varchar": "character varying", "timestamptz": "timestamp(3) with time zone"}
_NOW_TEXT: Final = """to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""

_WORDS: Final = frozenset({"text", "varchar"})
_NUMBERS: Final = frozenset({"integer", "bigint", "numeric", "real", "double precision"})
_WHOLE: Final = frozenset({"integer", "bigint"})
_TYPE: Final = re.compile(r"(?P<name>[a-z]+(?: [a-z]+)?)(?:\((?P<length>[1-9][0-9]{0,6})\))?")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?P<fraction>\.[0-9]{1,15})?")
_STRING: Final = re.compile(r"(?P<quoted>'(?:[^'\x00]|'')*')(?:::(?P<cast>.+))?")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type of the document; `length` only for `varchar(n)`."""

    name: str
    length: int | None = None

    def __str__(self) -> str:
        return self.name if self.length is None else f"{self.name}({self.length})"

    @property
    def declared(self) -> str:
        """The type as SQLite keeps it: the same text for the same type, always."""
        suffix = "" if self.length is None else f"({self.length})"
        return f"pg_{self.name.replace(' ', '_')} {_KINDS[self.name][0]}{suffix}"

    @property
    def postgres(self) -> str:
        """The type as PostgreSQL writes it out."""
        suffix = "" if self.length is None else f"({self.length})"
        return _IN_POSTGRES.get(self.name, self.name) + suffix

    def check(self, quoted: str) -> str:
        """The condition on a value of the column with this quoted name."""
        storage, beyond = _KINDS[self.name]
        conditions = [_STORED_AS[storage], *([beyond] if beyond else [])]
        if self.length is not None:
            conditions.append(f"length({{c}}) <= {self.length}")
        return f"{quoted} IS NULL OR ({' AND '.join(conditions)})".format(c=quoted)


@dataclass(frozen=True, slots=True)
class Default:
    """A default as SQL: SQLite's, and PostgreSQL's where that is another. Not constant: computed for every row."""

    sql: str
    constant: bool = True
    in_postgres: str | None = None

    @property
    def clause(self) -> str:
        return f"DEFAULT {self.sql}" if self.constant else f"DEFAULT ({self.sql})"

    @property
    def postgres(self) -> str:
        return self.in_postgres or self.sql


def parse_type(text: str) -> ColumnType:
    """The column type that `text` names.

    Raises:
        ValueError: none of the known types.
    """
    match = _TYPE.fullmatch(text)
    if match is None or match["name"] not in _KINDS or (match["length"] and match["name"] != "varchar"):
        raise ValueError(f"unknown type {text!r}; known are {', '.join(_KINDS)}")
    return ColumnType(match["name"], int(match["length"]) if match["length"] else None)


def parse_default(text: str, column_type: ColumnType) -> Default | None:
    """The default that `text` means for a column: a literal or one of two functions, rebuilt from its parts.

    Returns None for `null`.

    Raises:
        ValueError: not one of the known forms, or not a value of this type.
    """
    plain = text.strip()
    default = _function(plain.lower(), column_type.name) or _literal(plain, column_type.name)
    if default is not None:
        return default
    if plain.lower() == "null":
        return None
    raise ValueError(
        f"default {text!r} is not one for {column_type}: "
        "use gen_random_uuid(), now(), true, false, null, a number, or a string in single quotes"
    )


def _function(plain: str, kind: str) -> Default | None:
    if plain == "gen_random_uuid()" and kind in _WORDS | {"uuid"}:
        return Default("gen_random_uuid()", constant=False)
    if plain in {"now()", "current_timestamp"} and kind in _WORDS | {"timestamptz"}:
        return Default("now()", constant=False, in_postgres=_NOW_TEXT if kind in _WORDS else None)
    if plain in {"now()", "current_date"} and kind == "date":
        return Default("substr(now(), 1, 10)", constant=False, in_postgres="(now() AT TIME ZONE 'UTC')::date")
    return None


def _literal(plain: str, kind: str) -> Default | None:
    if kind == "boolean":
        return {"true": Default("1", in_postgres="true"), "false": Default("0", in_postgres="false")}.get(plain.lower())
    if kind in _NUMBERS:
        match = _NUMBER.fullmatch(plain)
        return None if match is None or (kind in _WHOLE and match["fraction"]) else Default(plain)
    match = _STRING.fullmatch(plain)
    if match is None:
        return None
    if match["cast"]:
        parse_type(match["cast"])
    return Default(match["quoted"])
