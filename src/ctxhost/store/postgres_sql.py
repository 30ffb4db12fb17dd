"""The statements of the PostgreSQL engine: one for each table and purpose, over arrays, so that their number is small.

Every text is made once and prepared once. Rows are found by `id = any($1)` and written from `unnest`, one array a
column: joins of other forms keep a plan that was right when their table was empty.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from ctxhost.store.postgres_wire import Param, Statement, integer, integers, param, text, texts
from ctxhost.store.rows import TABLE_OF, TABLES, Job, Table

BEGIN = Statement("begin isolation level read committed")
COMMIT = Statement("commit")
ROLLBACK = Statement("rollback")
CLOCK = "(date_part('epoch', clock_timestamp()) * 1000)::bigint"
MOMENT = "(date_part('epoch', statement_timestamp()) * 1000)::bigint"  # does not move while an index is searched
NOW = Statement(f"select {CLOCK}, txid_current()")
_CLAIMS_LOCK = 0x6374_7868_6F73_7402  # among claims of this database; "ctxhost" in ASCII
HOSTS_LOCK = 0x6374_7868_6F73_7401  # shared by the hosts that live
HOST_LOCKS = 0x6374_7868  # of locks with two keys the first; the second is the number of a host that lives
MIGRATION_LOCK = 0x6374_7868_6F73_7403
JOBS_CHANNEL = "ctxhost_jobs"

_KINDS = "kind = any($2)"
_RUNNING = "claimed_until_ms > 0 and claimed_until_ms > {now}"  # the first half is the index's own condition
_FULL_LANES = f"select lane from job where {_RUNNING} group by lane having count(*) >= $3"  # noqa: S608
_READY = f"""
from job where due_ms <= {{now}} and claimed_until_ms <= {{now}} and {_KINDS} and lane not in ({_FULL_LANES})
"""
_CLAIM = f"""
with running as (select lane, count(*) as jobs from job where {_RUNNING} group by lane),
ready as (
  select id, due_ms, lane, row_number() over (partition by lane order by due_ms, id) as place
  from (select id, due_ms, lane {_READY} order by due_ms limit $5) as first
),
taken as (
  select j.id from job j where j.due_ms <= {{now}} and j.claimed_until_ms <= {{now}} and j.id in (
    select id from ready left join running using (lane)
    where place + coalesce(jobs, 0) <= $3 order by due_ms, id limit $4)
  for update skip locked
)
update job set claimed_until_ms = {{now}} + $6, attempts = attempts + 1, claimed_by = $7
where id in (select id from taken)
returning {", ".join(Job._fields)}
"""  # noqa: S608
# Numbers are drawn by chance, so that those of other databases may be among the living ones.
_LIVING = f"select objid from pg_locks where locktype = 'advisory' and classid = {HOST_LOCKS} and objsubid = 2"  # noqa: S608
_OF_MISSING = f"claimed_until_ms > 0 and claimed_by > 0 and claimed_by not in ({_LIVING})"
_NEXT = f"""
select {{now}}, exists(select 1 {_READY} limit 1), (select min(at) from (
  (select due_ms as at from job where due_ms > {{now}} and claimed_until_ms <= {{now}} and {_KINDS}
   order by due_ms limit 1)
  union all
  select min(claimed_until_ms) from job where {_RUNNING} and {_KINDS}
) as times)
"""  # noqa: S608


def lock(accounts: Sequence[str], *, waits: bool) -> Statement:
    """Lock accounts and load them, each with the clock at that moment and the transaction's number.

    Without `waits`, an account that is locked elsewhere is left out.
    """
    return Statement(_lock(waits=waits), (texts(accounts),))


@cache
def _lock(*, waits: bool) -> str:
    columns = _columns(TABLES[0].row)
    skip = "" if waits else " skip locked"
    rows = f"select {columns} from account where id = any($1) order by id for update{skip}"  # noqa: S608
    return f"select {columns}, {CLOCK}, txid_current() from ({rows}) as locked"  # noqa: S608


def existing(accounts: Sequence[str]) -> Statement:
    return Statement("select id from account where id = any($1)", (texts(accounts),))


def lock_jobs(ids: Sequence[str]) -> Statement:
    """Keep claims off the jobs of the accounts that this transaction has locked: those rows bear its number."""
    return Statement(
        "select count(*) from (select 1 from job j where id = any($1) and exists (select 1 from account a"
        " where a.id = j.account and a.xmax = pg_current_xact_id()::xid) order by id for update) as locked",
        (texts(ids),),
    )


def load(table: Any, ids: Sequence[str]) -> Statement:
    return Statement(_load(table), (texts(ids),), table._make)


@cache
def _load(table: Any) -> str:
    return f"select {_columns(table)} from {TABLE_OF[table].name} where id = any($1)"  # noqa: S608


def load_due(table: Any, accounts: Sequence[str], now_ms: int | None) -> Statement:
    """The open rows of accounts whose time has come; by the database's clock when `now_ms` is None."""
    params = (texts(accounts),) if now_ms is None else (texts(accounts), integer(now_ms))
    return Statement(_load_due(table, MOMENT if now_ms is None else "$2"), params, table._make)


@cache
def _load_due(table: Any, now: str) -> str:
    name, due = TABLE_OF[table].name, TABLE_OF[table].due
    return (
        f"select {_columns(table)} from {name} where account = any($1) and state = 'open'"  # noqa: S608
        f" and {due} <= {now}"
    )


def insert(table: Any, rows: Sequence[Any]) -> Statement:
    """New rows: an id that is taken fails."""
    if len(rows) == 1:
        return Statement(_insert(table, is_one=True), _values(table, table._fields, rows[0]))
    return Statement(_insert(table, is_one=False), _arrays(table, table._fields, zip(*rows, strict=True)))


@cache
def _insert(table: Any, *, is_one: bool) -> str:
    sources = [f"${n}" for n in range(1, len(table._fields) + 1)]
    # Side by side in the select list: in a from clause each array would first be copied into a table of its own.
    rows = f"values ({', '.join(sources)})" if is_one else f"select {', '.join(f'unnest({n})' for n in sources)}"
    return f"insert into {TABLE_OF[table].name} ({_columns(table)}) {rows}"


def update(table: Any, pairs: Sequence[tuple[Any, Any]]) -> Statement | None:
    """Rows as they were and as they are: only the columns in which one of them differs are sent."""
    if len(pairs) == 1:
        ((old, new),) = pairs
    else:
        before, after = zip(*pairs, strict=True)
        old, new = list(zip(*before, strict=True)), list(zip(*after, strict=True))
    changed = [n for n in range(1, len(new)) if old[n] != new[n]]
    if not changed:
        return None
    fields = tuple(table._fields[n] for n in changed)
    values = [new[0], *(new[n] for n in changed)]
    pack = _values if len(pairs) == 1 else _arrays
    return Statement(_update(table, fields, is_one=len(pairs) == 1), pack(table, ("id", *fields), values))


@cache
def _update(table: Any, fields: Sequence[str], *, is_one: bool) -> str:
    if is_one:
        values = ", ".join(f"{name} = ${n}" for n, name in enumerate(fields, 2))
        return f"update {TABLE_OF[table].name} set {values} where id = $1"  # noqa: S608
    values = ", ".join(f"{name} = n.{name}" for name in fields)
    sources = ", ".join(f"${n}" for n in range(1, len(fields) + 2))
    return (
        f"update {TABLE_OF[table].name} as t set {values}"  # noqa: S608
        f" from unnest({sources}) as n(id, {', '.join(fields)}) where t.id = n.id"
    )


def delete(table: Any, ids: Sequence[str]) -> Statement:
    return Statement(f"delete from {TABLE_OF[table].name} where id = any($1)", (texts(ids),))  # noqa: S608


def claim(
    kinds: Sequence[str], *, limit: int, per_lane: int, hold_s: int, host: int, now_ms: int | None
) -> Sequence[Statement]:
    """Claim, and say what is left, as `next_due` does. Claims are made one after the other, for the lanes' sake."""
    sizes = (integer(limit), integer(limit * 16), integer(hold_s * 1_000), integer(host))
    return (
        Statement(f"select pg_advisory_xact_lock({_CLAIMS_LOCK})"),
        Statement(_at(_CLAIM, now_ms), (param(now_ms), texts(kinds), integer(per_lane), *sizes), Job._make),
        next_due(kinds, per_lane=per_lane, now_ms=now_ms),
    )


def next_due(kinds: Sequence[str], *, per_lane: int, now_ms: int | None) -> Statement:
    """The clock, whether a job can be claimed, and when the next falls due or a claim ends."""
    return Statement(_at(_NEXT, now_ms), (param(now_ms), texts(kinds), integer(per_lane)))


def _at(sql: str, now_ms: int | None) -> str:
    return _with_clock(sql, MOMENT if now_ms is None else "$1")


@cache
def _with_clock(sql: str, now: str) -> str:
    return sql.format(now=now)


def give_back() -> Statement:
    """End every claim."""
    return Statement(
        "update job set claimed_until_ms = 0 where id in"
        " (select id from job where claimed_until_ms > 0 for update skip locked)"
    )


def missing_hosts() -> Statement:
    """The numbers of hosts that have claimed jobs, and of which there is no sign of life."""
    return Statement(f"select distinct claimed_by from job where {_OF_MISSING}")  # noqa: S608


def give_back_of(hosts: Sequence[int]) -> Statement:
    """End the claims of those of the hosts that are missing."""
    return Statement(
        "update job set claimed_until_ms = 0 where id in"  # noqa: S608
        f" (select id from job where {_OF_MISSING} and claimed_by = any($1) for update skip locked)",
        (integers(hosts),),
    )


def prune(table: Table, *, keep_s: int, limit: int, now_ms: int | None) -> Statement:
    """Delete what was kept long enough, under the locks of its accounts and without waiting for them."""
    now = MOMENT if now_ms is None else "$3::bigint"
    params: list[Param] = [integer(keep_s * 1_000), integer(limit)]
    if now_ms is not None:
        params.append(integer(now_ms))
    return Statement(
        f"delete from {table.name} where id in (select t.id from {table.name} t join account a on a.id = t.account"  # noqa: S608
        f" where t.{table.age} > 0 and t.{table.age} <= {now} - $1 limit $2 for update skip locked)",
        params,
    )


def fate(xid: int) -> Statement:
    """What became of a transaction: committed, aborted or in progress."""
    return Statement("select txid_status($1)", (integer(xid),))


_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


@cache
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """A text with `:name` parameters as one with `$n`, and the names in that order."""
    names: dict[str, int] = {}

    def number(match: "re.Match[str]") -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    return _PARAMETER.sub(number, sql), tuple(names)


def _columns(table: Any) -> str:
    return ", ".join(table._fields)


def _arrays(table: Any, fields: Iterable[str], columns: Iterable[Sequence[Any]]) -> list[Param]:
    types = table.__annotations__
    return [
        integers(values) if types[name] is int else texts(values) for name, values in zip(fields, columns, strict=True)
    ]


def _values(table: Any, fields: Iterable[str], values: Iterable[Any]) -> list[Param]:
    types = table.__annotations__
    return [integer(value) if types[name] is int else text(value) for name, value in zip(fields, values, strict=True)]
