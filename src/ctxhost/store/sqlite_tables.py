"""The SQL of the embedded engine: rows in and out of tables, a handful of statements for a whole batch.

Values are bound, never sent as JSON text: SQLite's JSON cuts text at a NUL.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, compress, count
from operator import itemgetter, ne
from typing import Any, TypeVar, cast

from ctxhost.store import Row
from ctxhost.store.batch import Batch
from ctxhost.store.rows import DUE_TABLES, TABLE_OF, Account, Job, Table

T = TypeVar("T")

ROWS_A_STATEMENT = 32
_KINDS = "kind in (select value from json_each(:kinds))"
_RUNNING = "claimed_until_ms > 0 and claimed_until_ms > :now"  # the first half is the index's own condition
_FULL_LANES = f"select lane from job where {_RUNNING} group by lane having count(*) >= :per_lane"  # noqa: S608
_READY = f"""
from job where due_ms <= :now and claimed_until_ms <= :now and {_KINDS} and lane not in ({_FULL_LANES})
"""
_CLAIM = f"""
with running as (select lane, count(*) as jobs from job where {_RUNNING} group by lane),
ready as (
  select id, due_ms, lane, row_number() over (partition by lane order by due_ms, id) as place
  from (select id, due_ms, lane {_READY} order by due_ms limit :scan)
)
update job set claimed_until_ms = :until, attempts = attempts + 1
where id in (select id from ready left join running using (lane)
             where place + coalesce(jobs, 0) <= :per_lane order by due_ms, id limit :limit)
returning {", ".join(Job._fields)}
"""  # noqa: S608
_NEXT_DUE = f"""
select min(at) from (
  select min(due_ms) as at from job where due_ms > :now and claimed_until_ms <= :now and {_KINDS}
  union all
  select min(claimed_until_ms) from job where {_RUNNING} and {_KINDS}
)
"""  # noqa: S608


def load(db: sqlite3.Connection, batch: Batch, wanted: Mapping[type[Row], Iterable[str]]) -> None:
    for table, ids in wanted.items():
        batch.load(table, ids, _found(db, table, list(ids)))
    for due in DUE_TABLES:
        for some in _chunks(list(wanted[Account])):
            rows = db.execute(select_due(cast("Any", due.row), due.due, len(some)), (*some, batch.latest_ms))
            batch.load_due(due.row, map(due.row._make, rows))


def _found(db: sqlite3.Connection, table: Any, ids: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for some in _chunks(ids):
        found += map(table._make, db.execute(_select(table, len(some)), some))
    return found


def save(db: sqlite3.Connection, batch: Batch) -> None:
    """Rows that were not found are inserted; of the others, only the columns that changed are written."""
    deletes: dict[Any, list[str]] = {}
    updates: dict[tuple[Any, tuple[int, ...]], list[Any]] = {}
    inserts: dict[Any, list[Any]] = {}
    for key, row in batch.changed.items():
        table, before = key[0], cast("Any", batch.loaded.get(key))
        if row is None:
            deletes.setdefault(table, []).append(key[1])
        elif before is None or TABLE_OF[table].append_only:
            inserts.setdefault(table, []).append(row)
        else:
            columns = tuple(compress(count(), map(ne, cast("Any", row), before)))
            updates.setdefault((table, columns), []).append(row)
    _write(db, deletes, updates, inserts)


def _write(
    db: sqlite3.Connection,
    deletes: Mapping[Any, list[str]],
    updates: Mapping[tuple[Any, tuple[int, ...]], list[Any]],
    inserts: Mapping[Any, list[Any]],
) -> None:
    for table, ids in deletes.items():
        for some_ids in _chunks(ids):
            db.execute(_delete(table, len(some_ids)), some_ids)
    for (table, columns), rows in updates.items():
        if columns:
            given = itemgetter(*columns, 0)
            for some in _chunks(rows):
                db.execute(_update(table, columns, len(some)), tuple(chain.from_iterable(map(given, some))))
    for table, rows in inserts.items():
        for some in _chunks(rows):
            db.execute(_insert(table, len(some)), tuple(chain.from_iterable(some)))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """In parts small enough to be bound; each length that occurs is a statement, prepared once."""
    for start in range(0, len(values), ROWS_A_STATEMENT):
        yield values[start : start + ROWS_A_STATEMENT]


def _marks(count: int) -> str:
    return ", ".join("?" * count)


@cache
def _select(table: Any, count: int) -> str:
    return f"select {', '.join(table._fields)} from {TABLE_OF[table].name} where id in ({_marks(count)})"  # noqa: S608


@cache
def select_due(table: Any, column: str, count: int) -> str:
    columns, name = ", ".join(table._fields), TABLE_OF[table].name
    return f"select {columns} from {name} where account in ({_marks(count)}) and state = 'open' and {column} <= ?"  # noqa: S608


@cache
def _delete(table: Any, count: int) -> str:
    return f"delete from {TABLE_OF[table].name} where id in ({_marks(count)})"  # noqa: S608


@cache
def _insert(table: Any, count: int) -> str:
    fields = table._fields
    values = ", ".join([f"({_marks(len(fields))})"] * count)
    return f"insert into {TABLE_OF[table].name} ({', '.join(fields)}) values {values}"  # noqa: S608


@cache
def _update(table: Any, columns: tuple[int, ...], count: int) -> str:
    """Set some columns of some rows; the id is the last value of each."""
    name, fields = TABLE_OF[table].name, [table._fields[n] for n in columns]
    if count == 1:
        return f"update {name} set {', '.join(f'{field} = ?' for field in fields)} where id = ?"  # noqa: S608
    values = ", ".join([f"({_marks(len(fields) + 1)})"] * count)
    changes = ", ".join(f"{field} = given.column{n}" for n, field in enumerate(fields, start=1))
    by = f"{name}.id = given.column{len(fields) + 1}"
    return f"update {name} set {changes} from (values {values}) as given where {by}"  # noqa: S608


def claim(
    db: sqlite3.Connection, asked: Mapping[str, Any], *, now_ms: int, hold_s: int
) -> tuple[list[Job], int | None]:
    given = {**asked, "now": now_ms, "until": now_ms + hold_s * 1_000}
    any_ready = f"select 1 {_READY} limit 1"
    jobs: list[Job] = []
    if db.execute(any_ready, given).fetchone():  # reading first: asking for nothing costs no transaction
        db.execute("pragma synchronous = normal")  # a claim that a power cut takes back is only made again
        try:
            # Fetched whole, so that its transaction is over: inside one, the next line could not make commits durable.
            claimed = db.execute(_CLAIM, given).fetchall()
        finally:
            db.execute("pragma synchronous = full")
        jobs = sorted(map(Job._make, claimed), key=lambda job: (job.due_ms, job.id))
        if db.execute(any_ready, given).fetchone():
            return jobs, now_ms
    (next_ms,) = db.execute(_NEXT_DUE, given).fetchone()
    return jobs, next_ms


def prune(db: sqlite3.Connection, table: Table, *, until_ms: int, limit: int) -> int:
    """Delete rows of a table that were finished by a time; how many went."""
    return db.execute(
        f"delete from {table.name} where id in (select id from {table.name}"  # noqa: S608
        f" where {table.age} > 0 and {table.age} <= ? limit ?)",
        (until_ms, limit),
    ).rowcount
