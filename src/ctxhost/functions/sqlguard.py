"""What stands between an app's SQL and the machine: an authorizer, limits, a deadline, and safe functions.

The authorizer admits reading and writing the app's own tables and a list of functions; everything else that SQLite can
do (ATTACH, PRAGMA, VACUUM, DDL, its own tables, extensions) is refused while the statement is prepared. The progress
handler ends what runs too long. Built-in functions whose time grows with the product of two long arguments cannot be
interrupted, so they are replaced here or left out.
"""

import sqlite3
import threading
import time
from typing import Final

from ctxhost.clock import Clock, rfc3339
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.sql import MAX_PARAMETERS, MAX_SQL_CHARS
from ctxhost.ids import new_uuid

_TICK_OPS: Final = 20_000  # a few tenths of a millisecond: rare enough not to fight the event loop for the interpreter
_MAX_TRIM_CHARS: Final = 256

_TABLE_ACTIONS: Final = frozenset(
    {sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
)
_OTHER_ACTIONS: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_TRANSACTION})
_TABLE_FUNCTIONS: Final = frozenset({"json_each", "json_tree"})
_SCALAR: Final = (
    "-> ->> abs ceil ceiling changes char coalesce exp floor format glob hex ifnull iif instr length like ln log log10 "
    "lower ltrim max min mod nullif pi pow power quote random replace round rtrim sign sqrt substr substring trim "
    "trunc typeof unicode upper now gen_random_uuid"
)
_AGGREGATE: Final = (
    "avg count group_concat sum total cume_dist dense_rank first_value lag last_value lead nth_value ntile "
    "percent_rank rank row_number"
)
_TIME: Final = "date datetime julianday strftime time unixepoch"
_JSON: Final = (  # without json_patch, whose time is quadratic
    "json json_array json_array_length json_each json_extract json_group_array json_group_object json_insert "
    "json_object json_quote json_remove json_replace json_set json_tree json_type json_valid"
)
_FUNCTIONS: Final = frozenset(f"{_SCALAR} {_AGGREGATE} {_TIME} {_JSON}".split())


class Guard:
    """Watches one connection; between `watch` and `rest` its deadline holds."""

    def __init__(self, connection: sqlite3.Connection, *, max_value_bytes: int) -> None:
        self._max_value_bytes = max_value_bytes
        self._deadline_s = 0.0
        self._cancelled = threading.Event()
        self._watching = False
        self._now = ""
        self.complaint: QueryError | None = None
        _set_limits(connection, max_value_bytes)
        self._modules = frozenset(name for (name,) in connection.execute("PRAGMA module_list")) - _TABLE_FUNCTIONS
        for function in _TABLE_FUNCTIONS:  # their first use writes to the schema in memory, which is refused later
            connection.execute(f"SELECT 1 FROM {function}('[]')")  # noqa: S608  a constant
        self._register(connection)
        connection.set_progress_handler(self._tick, _TICK_OPS)
        connection.set_authorizer(self._authorize)

    def watch(self, *, now: str, timeout_s: float, cancelled: threading.Event) -> None:
        """Before a statement: what `now()` says in it, how long it may take, and what ends it early."""
        self._now = now
        self._deadline_s = time.monotonic() + timeout_s
        self._cancelled = cancelled
        self.complaint = None
        self._watching = True

    def rest(self) -> None:
        """Let what follows finish whatever the time: a commit or a rollback."""
        self._watching = False

    def _tick(self) -> int:
        if not self._watching:
            return 0
        if self._cancelled.is_set():
            self.complaint = QueryError("cancelled", "the caller is gone")
        elif time.monotonic() > self._deadline_s:
            self.complaint = QueryError("timeout", "the query took too long")
        return int(self.complaint is not None)

    def _authorize(self, action: int, one: str | None, two: str | None, database: str | None, _: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            allowed, what = (two or "").lower() in _FUNCTIONS, f"the function {two}"
        elif action in _TABLE_ACTIONS:
            allowed, what = self._own_table((one or "").lower(), database), f"the table {one}"
        else:
            allowed, what = action in _OTHER_ACTIONS, "this statement"
        if not allowed:
            self.complaint = QueryError("not_allowed", f"{what} is not open to apps")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def _own_table(self, name: str, database: str | None) -> bool:
        return (
            database in {None, "main"}
            and not name.startswith(("sqlite_", "pragma_", "bytecode", "tables_used"))
            and name not in self._modules
        )

    def _register(self, connection: sqlite3.Connection) -> None:
        connection.create_function("now", 0, lambda: self._now)
        connection.create_function("gen_random_uuid", 0, new_uuid)
        connection.create_function("instr", 2, _instr, deterministic=True)
        connection.create_function("replace", 3, self._replace, deterministic=True)
        for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
            for count in (1, 2):
                connection.create_function(name, count, _Trim(self, strip), deterministic=True)

    def refuse(self, message: str) -> QueryError:
        """Remember why a function gives up; SQLite passes on only that it did."""
        self.complaint = QueryError("too_large", message)
        return self.complaint

    def _replace(self, value: object, old: object, new: object) -> str | None:
        if value is None or old is None or new is None:
            return None
        text, gone, put = str(value), str(old), str(new)
        if not gone:
            return text
        if len(text) + text.count(gone) * (len(put) - len(gone)) > self._max_value_bytes:
            raise self.refuse(f"what replace() makes is over {self._max_value_bytes:,} characters")
        return text.replace(gone, put)


class _Trim:
    """trim, ltrim, rtrim: of spaces, or of a few given characters."""

    def __init__(self, guard: Guard, strip: object) -> None:
        self._guard = guard
        self._strip = strip

    def __call__(self, value: object, characters: object = " ") -> str | None:
        if value is None or characters is None:
            return None
        if len(str(characters)) > _MAX_TRIM_CHARS:
            raise self._guard.refuse(f"trim() takes at most {_MAX_TRIM_CHARS} characters to remove")
        return self._strip(str(value), str(characters))  # type: ignore[operator,no-any-return]


def _instr(value: object, sought: object) -> int | None:
    if value is None or sought is None:
        return None
    return str(value).find(str(sought)) + 1


def register_plain(connection: sqlite3.Connection, clock: Clock) -> None:
    """The two functions that a schema's defaults call, for a connection that runs no app's SQL."""
    connection.create_function("now", 0, lambda: rfc3339(clock.now_ms()))
    connection.create_function("gen_random_uuid", 0, new_uuid)


def _set_limits(connection: sqlite3.Connection, max_value_bytes: int) -> None:
    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, max_value_bytes),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4 * MAX_SQL_CHARS),
        (sqlite3.SQLITE_LIMIT_COLUMN, 200),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100),
        (sqlite3.SQLITE_LIMIT_VDBE_OP, 250_000),
        (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 100),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
        (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, MAX_PARAMETERS),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 10),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(limit, value)
