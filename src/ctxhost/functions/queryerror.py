"""What a query that was not carried out raises."""

from typing import Literal, TypeAlias

from ctxhost.errors import CtxhostError

QueryErrorCode: TypeAlias = Literal[
    "syntax_error",  # not SQL, not supported, or no such table or column
    "bad_parameter",  # a value that cannot be bound, or the wrong number of them
    "constraint_violation",  # `columns` names what it was about, where that is known
    "not_allowed",  # a statement or function that apps may not use
    "timeout",
    "cancelled",
    "too_many_rows",  # or too many bytes of them
    "too_large",  # one value, or the statement
    "database_full",
    "busy",  # another process holds the app's database
    "unavailable",  # the server of the apps' databases is away; a handler that lets it pass answers 503
    "closed",
    "database_error",
]


class QueryError(CtxhostError):
    """A query that was not carried out; nothing of it was kept."""

    def __init__(self, code: QueryErrorCode, message: str, *, columns: tuple[str, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code: QueryErrorCode = code
        self.message = message
        self.columns = columns
