"""Values to and from PostgreSQL, and its errors, as an app on SQLite would see them.

Parameters go as text without a type, so that PostgreSQL gives each the type of its place: a bare `SELECT $1` is text.
Numbers come back as int or float (`numeric` too: a float where it has a fraction), JSON parsed, times as RFC 3339 in
UTC to the millisecond, everything else as PostgreSQL writes it.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg.pq.abc import PGresult

from ctxhost.functions.appfile import AppLimits
from ctxhost.functions.queryerror import QueryError, QueryErrorCode

_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-]\d\d(?::\d\d(?::\d\d)?)?)", re.ASCII
)

_CODES: Final[dict[str, QueryErrorCode]] = {
    "42501": "not_allowed",
    "57014": "timeout",
    "55P03": "busy",
    "40": "busy",
    "53100": "database_full",
    "53300": "busy",
    "53400": "too_large",  # of temporary files
    "54": "too_large",
    "42": "syntax_error",
    "0A": "syntax_error",
    "23": "constraint_violation",
}
"""By SQLSTATE, or by its class."""


def sent(value: object) -> bytes | None:
    """A parameter as text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return str(value).encode()


def _numeric(text: bytes) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if math.isinf(number) and b"I" not in text:
        raise ValueError("a number that Python's float does not hold")
    return number


def _moment(raw: bytes) -> str:
    text = raw.decode()
    match = _MOMENT.fullmatch(text)
    if match is None:  # infinity, or before our era
        return text
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    ms = (fraction or "")[:3].ljust(3, "0")
    if zone == "+00":
        return f"{year}-{month}-{day}T{hour}:{minute}:{second}.{ms}Z"
    try:
        moment = datetime.fromisoformat(f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms}Z"


_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda raw: raw == b"t",
    **dict.fromkeys((20, 21, 23, 26), int),
    **dict.fromkeys((700, 701), float),
    1700: _numeric,
    **dict.fromkeys((114, 3802), json.loads),
    1184: _moment,
}
"""By the type's OID; what is not here is text."""


class Rows:
    """Collects the rows of one result, and refuses what is over the limits."""

    def __init__(self, limits: AppLimits) -> None:
        self.rows: list[dict[str, Any]] = []
        self._limits = limits
        self._size = 0

    def add(self, result: PGresult) -> None:
        """Take some rows. Raises `QueryError`."""
        columns = range(result.nfields)
        names = [(result.fname(column) or b"").decode() for column in columns]
        readers = [_READERS.get(result.ftype(column), bytes.decode) for column in columns]
        for row in range(result.ntuples):
            cells = [result.get_value(row, column) for column in columns]
            self._count(cells)
            values = [None if raw is None else _read(reader, raw) for reader, raw in zip(readers, cells, strict=True)]
            self.rows.append(dict(zip(names, values, strict=True)))

    def _count(self, cells: Sequence[bytes | None]) -> None:
        limits = self._limits
        self._size += sum(8 if raw is None else len(raw) for raw in cells)
        if len(self.rows) == limits.max_rows:
            raise QueryError("too_many_rows", f"over {limits.max_rows:,} rows; use LIMIT")
        if any(raw is not None and len(raw) > limits.max_value_bytes for raw in cells):
            raise QueryError("too_large", f"a value of over {limits.max_value_bytes:,} bytes")
        if self._size > limits.max_result_bytes:
            raise QueryError("too_many_rows", f"over {limits.max_result_bytes:,} bytes of rows; use LIMIT")


def _read(reader: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return reader(raw)
    except (ValueError, RecursionError) as exc:
        raise QueryError("database_error", "a value cannot be read") from exc


def refusal(error: psycopg.Error, *, writes: bool, columns: Sequence[str] = ()) -> QueryError:
    """What the database refused a statement for."""
    state = error.sqlstate or ""
    code = _CODES.get(state) or _CODES.get(state[:2], "database_error")
    if state.startswith("22") or state == "42804":  # a value that its type or its column does not take
        code = "constraint_violation" if writes else "bad_parameter"
    message = error.diag.message_primary or "the database refused the statement"
    named = tuple(columns) or ((error.diag.column_name,) if error.diag.column_name else ())
    return QueryError(code, message, columns=named if code == "constraint_violation" else ())
