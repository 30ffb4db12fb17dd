"""The schema in PostgreSQL: the same steps as everywhere, each recorded with what it did in one transaction."""

from collections.abc import Sequence
from typing import Any, LiteralString

import anyio
import psycopg

from ctxhost.errors import StoreError
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.postgres_sql import MIGRATION_LOCK
from ctxhost.store.postgres_wire import manners
from ctxhost.store.rows import TABLES

_RECORD = "create table if not exists ctxhost_migration (name text primary key, applied_at timestamptz not null)"
# Rows that change often keep room beside them, so that a change touches no index, and are cleaned up soon.
_TUNING = (
    "alter table account set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)",
    "alter table lease set (fillfactor = 60)",
    "alter table bot set (fillfactor = 60)",
    "alter table job set (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.02)",
)

LOCK_PATIENCE = "1s"
"""While a step waits for a table that a backup reads, everybody else waits behind it: so not for long, but often."""
LOCK_AGAIN_S = 3
LOCK_TRIES = 20


async def migrate(url: str, *, steps: Sequence[Step] | None = None) -> None:
    """Bring the database to this version's schema; hosts that start together take turns.

    Raises:
        StoreError: it cannot be reached, is newer than this code, or belongs to another program.
    """
    try:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, prepare_threshold=None, **manners(url)
        ) as connection:
            await _check(connection)
            for step in STEPS if steps is None else steps:
                await _apply_in_turns(connection, step)
            await _refuse_newer(connection, STEPS if steps is None else steps)
    except psycopg.Error as error:
        raise StoreError(f"The database cannot be used: {' '.join(str(error).split())}") from error


async def _check(connection: "psycopg.AsyncConnection[Any]") -> None:
    encoding = await _one(connection, "show server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"The database keeps text as {encoding}; make one with `encoding 'UTF8'`.")


async def _apply_in_turns(connection: "psycopg.AsyncConnection[Any]", step: Step) -> None:
    for _ in range(LOCK_TRIES):
        try:
            await _apply(connection, step)
        except psycopg.errors.LockNotAvailable:
            await anyio.sleep(LOCK_AGAIN_S)
        else:
            return
    raise StoreError(
        f"Step {step.name} of the schema waits for a table that somebody reads: start the host again when the backup,"
        " or whatever else it is, has ended."
    )


async def _apply(connection: "psycopg.AsyncConnection[Any]", step: Step) -> None:
    """One step, if nobody has done it, in one transaction."""
    async with connection.transaction():
        # A host that stands still in its turn loses it, so that those behind it go on.
        await connection.execute("set local idle_in_transaction_session_timeout = '5s'")
        await connection.execute("select pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        await _take_possession(connection)
        if await _one(connection, "select 1 from ctxhost_migration where name = %s", step.name):
            return
        await connection.execute("select set_config('lock_timeout', %s, true)", (LOCK_PATIENCE,))
        for sql in step.statements:
            await connection.execute(sql.format(int="bigint", text='text collate "C"', strict="").encode())
        if step is STEPS[0]:
            for sql in _TUNING:
                await connection.execute(sql.encode())
        await connection.execute("insert into ctxhost_migration values (%s, now())", (step.name,))


async def _take_possession(connection: "psycopg.AsyncConnection[Any]") -> None:
    """Begin the record, unless tables with our names are there without one."""
    found = "select to_regclass(%s) is not null"
    if not await _one(connection, found, "ctxhost_migration"):
        for table in TABLES:
            if await _one(connection, found, table.name):
                raise StoreError(f"The database has a table {table.name} of another program; name another database.")
    await connection.execute(_RECORD)


async def _refuse_newer(connection: "psycopg.AsyncConnection[Any]", steps: Sequence[Step]) -> None:
    known = [step.name for step in steps]
    newer = await _one(connection, "select min(name) from ctxhost_migration where name <> all(%s)", known)
    if newer is not None:
        raise StoreError(f"The database was made by a newer ctxhost (it has step {newer}); install that version.")


async def _one(connection: "psycopg.AsyncConnection[Any]", sql: LiteralString, *params: object) -> Any:
    row = await (await connection.execute(sql, params)).fetchone()
    return row[0] if row else None
