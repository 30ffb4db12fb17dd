"""One connection to PostgreSQL that sends statements in trips: many statements, one round trip, binary both ways.

Values are packed by type here: a number column takes integers and a text column takes text, anything else fails before
it is sent. Statements are prepared on first use, unless the way leads through a pooler that hands connections about.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from itertools import count
from struct import Struct
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus
from psycopg.pq.abc import PGresult

INT, TEXT, NUMERIC = 20, 25, 1700
INTS, TEXTS = 1016, 1009
PREPARED_LIMIT = 1_000
QUIET_S = 5
"""A trip that hears nothing for this long looks whether the server still lets anybody in."""
_BINARY = 1
_ARRAY = Struct("!5i")  # dimensions, flags, type of the elements, length, first index
_LENGTH, _INT = Struct("!i"), Struct("!q")


class Lost(psycopg.OperationalError):
    """The connection is gone. Whether the last trip had an effect is not known."""


class Param(NamedTuple):
    """A value as it is sent."""

    oid: int
    data: bytes | None


class Statement(NamedTuple):
    """SQL with `$1` parameters, their values, and what its rows become."""

    sql: str
    params: Sequence[Param] = ()
    make: Callable[[Sequence[Any]], Any] = tuple


class Result(NamedTuple):
    """What a statement gave: its rows, and how many it touched."""

    rows: list[Any]
    touched: int


def text(value: str) -> Param:
    return Param(TEXT, value.encode())


def integer(value: int) -> Param:
    return Param(INT, _INT.pack(value))


def param(value: str | int | None) -> Param:
    """A single value; NULL is given as a number, like whatever it is compared with."""
    if value is None:
        return Param(INT, None)
    return text(value) if isinstance(value, str) else integer(value)


def texts(values: Sequence[str]) -> Param:
    """A text[]. Raises for anything that is not text that can be encoded."""
    head = _ARRAY.pack(1, 0, TEXT, len(values), 1)
    if values and values.count(values[0]) == len(values):  # half of the columns that a crowd writes
        return Param(TEXTS, head + _element(values[0]) * len(values))
    return Param(TEXTS, head + b"".join(map(_element, values)))


def _element(value: str) -> bytes:
    data = value.encode()
    return _LENGTH.pack(len(data)) + data


def integers(values: Sequence[int]) -> Param:
    """A bigint[]. Raises `struct.error` for anything that is not an integer of 64 bits."""
    flat: list[int] = [8] * (2 * len(values))
    flat[1::2] = values
    return Param(INTS, _ARRAY.pack(1, 0, INT, len(values), 1) + _pairs(len(values)).pack(*flat))


@lru_cache(maxsize=64)  # one is as large as the array itself
def _pairs(length: int) -> Struct:
    return Struct("!" + "iq" * length)


class Wire:
    """A connection, used by one caller at a time."""

    def __init__(
        self, connection: "psycopg.AsyncConnection[Any]", *, url: str, prepares: bool, timeout_s: float
    ) -> None:
        self._connection = connection
        self._url = url
        self._pg = connection.pgconn
        self._prepares = prepares
        self._timeout_s = timeout_s
        self._prepared: dict[str, bytes] = {}
        self._names = count()
        self._loaders = Transformer(connection)
        self._probe: asyncio.Task[None] | None = None
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()

    @classmethod
    async def connect(cls, url: str, *, options: str, prepares: bool, timeout_s: float) -> "Wire":
        """Raises `psycopg.OperationalError` when it cannot be reached."""
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, **manners(url, options))
        return cls(connection, url=url, prepares=prepares, timeout_s=timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._pg.status == ConnStatus.OK and self._pg.pipeline_status == PipelineStatus.ON

    async def close(self) -> None:
        with suppress(psycopg.Error):
            await self._connection.close()

    async def trip(self, statements: Sequence[Statement]) -> list[Result]:
        """Send statements together and take all answers: those before the first that fails have been done.

        Raises:
            Lost: the connection broke, or no answer came in time; it is closed.
            psycopg.Error: what the first statement that failed was refused for; those after it were not done.
        """
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                doubt = asyncio.get_running_loop().call_later(QUIET_S, self._doubt, limit)
                try:
                    return await self._trip(statements)
                finally:
                    doubt.cancel()
                    if self._probe is not None:
                        self._probe.cancel()
        except TimeoutError:
            await self.close()
            raise Lost("the database did not answer in time") from None
        except psycopg.Error as error:
            if self.is_alive:
                raise
            await self.close()
            raise error if isinstance(error, Lost) else Lost(str(error).strip()) from error
        except BaseException:
            if not self.is_alive or self._pg.is_busy():
                await self.close()
            raise

    def _doubt(self, limit: asyncio.Timeout) -> None:
        self._probe = asyncio.get_running_loop().create_task(self._end_if_silent(limit))

    async def _end_if_silent(self, limit: asyncio.Timeout) -> None:
        """A server that is only slow lets others in; one that does not answer them either is taken for gone."""
        try:
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True, **manners(self._url)):
                pass
        except psycopg.errors.ConnectionTimeout:
            with suppress(RuntimeError):  # the answer has come meanwhile
                limit.reschedule(asyncio.get_running_loop().time())
        except psycopg.Error:
            pass  # it answers

    async def _trip(self, statements: Sequence[Statement]) -> list[Result]:
        fresh = [self._send(statement) for statement in statements]
        self._pg.pipeline_sync()
        await self._flush()
        answers = iter(await self._answers())
        results = []
        for statement, name in zip(statements, fresh, strict=True):
            if name is not None:
                _checked(next(answers))
                self._prepared[statement.sql] = name
            results.append(self._result(statement, _checked(next(answers))))
        return results

    def _send(self, statement: Statement) -> bytes | None:
        """Put a statement into the trip. Returns the name that it is being prepared under, if it is."""
        sql, params, _ = statement
        values = [value.data for value in params]
        formats = [_BINARY] * len(values)
        name = self._prepared.get(sql)
        fresh = None
        if name is None:
            oids = [value.oid for value in params]
            if not self._prepares or len(self._prepared) >= PREPARED_LIMIT:
                self._pg.send_query_params(sql.encode(), values, oids, formats, _BINARY)
                return None
            name = fresh = f"ctxhost_{next(self._names)}".encode()
            self._pg.send_prepare(name, sql.encode(), oids)
        self._pg.send_query_prepared(name, values, formats, _BINARY)
        return fresh

    async def _flush(self) -> None:
        while self._pg.flush():
            await self._ready(writing=True)
            self._pg.consume_input()

    async def _answers(self) -> list[PGresult]:
        """One result for each thing that was sent, until the end of the trip."""
        found: list[PGresult] = []
        while True:
            while self._pg.is_busy():
                await self._ready(writing=False)
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:  # between two statements; or the end, when the connection is gone
                if self._pg.status != ConnStatus.OK:
                    raise Lost(self._pg.get_error_message())
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return found
            else:
                found.append(result)

    async def _ready(self, *, writing: bool) -> None:
        """Wait until the server has sent something, or (`writing`) takes more."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        socket = self._pg.socket

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(socket, wake)
        if writing:
            loop.add_writer(socket, wake)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writing:
                loop.remove_writer(socket)

    def _result(self, statement: Statement, result: PGresult) -> Result:
        if result.status != ExecStatus.TUPLES_OK:
            return Result([], result.command_tuples or 0)
        self._loaders.set_pgresult(result)
        rows = self._loaders.load_rows(0, result.ntuples, statement.make)
        if NUMERIC in [result.ftype(column) for column in range(result.nfields)]:
            rows = [statement.make(list(map(_whole, row))) for row in rows]
        return Result(rows, result.ntuples)


def _checked(result: PGresult) -> PGresult:
    if result.status == ExecStatus.FATAL_ERROR:
        raise error_from_result(result)
    return result


def _whole(value: Any) -> Any:
    """A sum of integers is a numeric to PostgreSQL; to everybody else it is an integer."""
    return int(value) if isinstance(value, Decimal) else value


def manners(url: str, options: str = "") -> dict[str, Any]:
    """What every connection asks for unless the URL says otherwise: to notice soon when the other side is gone."""
    asked = psycopg.conninfo.conninfo_to_dict(url)
    manners: dict[str, Any] = {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "application_name": "ctxhost",
    }
    own = {name: value for name, value in manners.items() if name not in asked}
    own["client_encoding"] = "UTF8"
    if options:
        own["options"] = f"{options} {asked.get('options', '')}".strip()
    return own


def sqlstate(error: BaseException) -> str:
    """The five characters by which an error is told from another; never its words."""
    return (getattr(error, "sqlstate", None) or "") if isinstance(error, psycopg.Error) else ""
