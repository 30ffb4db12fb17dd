"""One connection of an app to its database: a statement at a time, each a transaction that leaves nothing behind.

Statements go in libpq's pipeline mode: by the extended protocol, which takes exactly one statement, and several in one
trip. Rows are taken as they come and counted; `appdb_postgres_sluice.py` counts what is not yet a row.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import anyio
import psycopg
from psycopg import capabilities
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from ctxhost.functions.appdb import AppLimits, QueryResult
from ctxhost.functions.appdb_postgres_sluice import Sluice
from ctxhost.functions.appdb_postgres_values import Rows, refusal, sent
from ctxhost.functions.appdb_postgres_watch import GRACE_S, Watch, watched
from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.sql import Statement

_CHUNK_ROWS: Final = 64
_SLACK_BYTES: Final = 2**20
_UNKNOWN: Final = "the server does not answer; whether the statement was kept is not known"
_ROWS: Final = frozenset({ExecStatus.SINGLE_TUPLE, ExecStatus.TUPLES_CHUNK})
_GOOD: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY})


class Lost(Exception):
    """The connection broke before the end of the statement: nothing of it was kept."""


class _Ask(NamedTuple):
    """A statement of a trip; `rows` takes what it returns as it comes."""

    sql: str
    values: Sequence[bytes | None] = ()
    rows: Rows | None = None


_BEGIN, _COMMIT, _ROLLBACK = _Ask("BEGIN ISOLATION LEVEL READ COMMITTED"), _Ask("COMMIT"), _Ask("ROLLBACK")
_BYTES, _CLEAN = _Ask("SELECT ctxhost.bytes()"), _Ask("DISCARD ALL")


class AppWire:
    """A connection, used by one call at a time. Not usable any more: to be closed."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]", limits: AppLimits) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._limits = limits
        self._sluice = Sluice(self._pg, max_bytes=2 * limits.max_result_bytes + _SLACK_BYTES)
        self.is_usable = True
        self.is_fresh = True
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()

    @classmethod
    async def connect(cls, conninfo: str, *, limits: AppLimits) -> "AppWire":
        """Raises `psycopg.OperationalError` when it cannot be made."""
        return cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True), limits)

    async def close(self) -> None:
        self.is_usable = False
        with suppress(psycopg.Error):
            await self._connection.close()
        self._sluice.close()

    async def run(self, statement: Statement, values: Sequence[object]) -> QueryResult:
        """Carry out one statement in a transaction of its own.

        Raises:
            QueryError: it was refused or took too long; nothing of it is kept.
            Lost: the connection broke; nothing of it is kept.
        """
        self.is_usable = False  # until the session is known to be as new
        results: list[QueryResult] = []

        async def work(watch: Watch) -> None:
            try:
                results.append(await self._transact(watch, statement, values))
            except (QueryError, Lost):
                if watch.complaint is not None:
                    raise watch.complaint from None
                raise

        await watched(work, ask_to_stop=self._cancel, timeout_s=self._limits.timeout_s)
        if not results:
            raise QueryError("unavailable", _UNKNOWN)
        return results[0]

    async def _transact(self, watch: Watch, statement: Statement, values: Sequence[object]) -> QueryResult:
        rows = Rows(self._limits)
        ask = _Ask(statement.sql, [sent(value) for value in values], rows)
        measured = [_BYTES] if statement.writes else []
        try:
            answers = await self._trip([_BEGIN, *measured, ask, *measured])
        except QueryError:  # too much came back
            await self._cancel()
            raise
        except psycopg.Error as exc:
            raise Lost from exc
        watch.rest()
        failed = next((answer for answer in answers if answer.status not in _GOOD), None)
        if failed is not None:
            raise await self._failure(failed, statement)
        if measured and self._is_full(answers[1], answers[3]):
            await self._end(_ROLLBACK)
            raise QueryError("database_full", f"the app's tables take over {self._limits.max_file_bytes:,} bytes")
        await self._end(_COMMIT)
        answer = answers[2 if measured else 1]
        has_rows = answer.status == ExecStatus.TUPLES_OK
        return QueryResult(rows.rows, len(rows.rows) if has_rows else answer.command_tuples or 0)

    def _is_full(self, before: PGresult, after: PGresult) -> bool:
        # What does not grow may always be written: room that deleted rows have left is used again.
        was, now = (int(answer.get_value(0, 0) or 0) for answer in (before, after))
        return now > max(was, self._limits.max_file_bytes)

    async def _failure(self, failed: PGresult, statement: Statement) -> QueryError:
        error = error_from_result(failed)
        name = error.diag.constraint_name
        columns: list[str] = []
        if not name:
            await self._end(_ROLLBACK)
        else:
            found = await self._end(_ROLLBACK, _Ask("SELECT ctxhost.columns($1)", [name.encode()]))
            columns = json.loads(found.get_value(0, 0) or b"[]")
        return refusal(error, writes=statement.writes, columns=columns)

    async def _end(self, *last: _Ask) -> PGresult:
        """Close the transaction and forget the session; the answer to the last of what is asked."""
        try:
            answers = await self._trip(*([ask] for ask in (*last, _CLEAN)))
        except (psycopg.Error, QueryError) as exc:
            raise QueryError("unavailable", "the connection broke; whether the statement was kept is unknown") from exc
        for answer in answers[:-1]:
            if answer.status not in _GOOD:
                raise refusal(error_from_result(answer), writes=True)
        if last[0] is _COMMIT and answers[0].command_status == b"ROLLBACK":
            raise QueryError("database_error", "the statement was not kept")
        self.is_usable = answers[-1].status in _GOOD
        self.is_fresh = False
        return answers[-2]

    async def _cancel(self) -> None:
        with anyio.CancelScope(shield=True), suppress(psycopg.Error, OSError):
            await self._connection.cancel_safe(timeout=GRACE_S)

    async def _trip(self, *parts: Sequence[_Ask]) -> list[PGresult]:
        """Send statements together, each part a unit of its own, and take the answers: one result for each."""
        self._sluice.start()
        for part in parts:
            for ask in part:
                self._pg.send_query_params(ask.sql.encode(), ask.values)
            self._pg.pipeline_sync()
        await self._sluice.send()
        answers = []
        for part in parts:
            answers += [await self._answer(ask.rows) for ask in part]
            await self._next()  # the end of the part
        return answers

    async def _answer(self, rows: Rows | None) -> PGresult:
        if rows is not None and capabilities.has_stream_chunked():
            self._pg.set_chunked_rows_mode(_CHUNK_ROWS)
        elif rows is not None:
            self._pg.set_single_row_mode()
        answer = None
        while (result := await self._next()) is not None:
            if rows is not None and result.status in _ROWS:
                rows.add(result)
            elif result.status in {ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH}:
                raise QueryError("not_allowed", "COPY is not open to apps")
            else:
                answer = result
        if answer is None:
            raise psycopg.OperationalError("the connection is gone")
        return answer

    async def _next(self) -> PGresult | None:
        while self._pg.is_busy():
            await self._sluice.receive()
        result = self._pg.get_result()
        if result is None and self._pg.status != ConnStatus.OK:
            raise psycopg.OperationalError("the connection is gone")
        return result
