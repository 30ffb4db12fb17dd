"""How a database carries a statement out: which indexes it uses, how many rows it reads, what it writes."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql as compose
from psycopg.adapt import Transformer
from psycopg.pq import Format
from tests.contract.traced import Sent

from ctxhost.store.postgres_wire import INT, INTS, TEXT, TEXTS, Param
from ctxhost.store.rows import TABLES

_OWN = {table.name for table in TABLES}
_FIRST_COLUMNS = """
select c.relname, a.attname from pg_index i join pg_class c on c.oid = i.indexrelid
join pg_attribute a on a.attrelid = c.oid and a.attnum = 1
"""
_TYPES = {INT: "bigint", INTS: "bigint[]", TEXT: "text", TEXTS: "text[]"}


@dataclass(frozen=True)
class Plan:
    """One statement, carried out."""

    sent: Sent
    indexes: frozenset[str]
    """Names of indexes; all primary keys are `primary key`."""
    scanned: frozenset[str]
    """Tables and indexes that are read from end to end."""
    is_sorted: bool
    given: int = 0
    """Rows that came back, or were written."""
    effort: int = 0
    """Rows read; for SQLite steps of its machine, each row being some twenty."""
    writes: tuple[str, int] | None = None
    """The table that was written to, and how many rows."""


class PostgresPlans:
    """Carries traced statements out on a copy of the database that they were traced on, one session for each manner."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sessions: dict[str, psycopg.Connection[Any]] = {}
        self._prepared: dict[tuple[str, str], str] = {}
        with psycopg.connect(url) as db:
            self._first_columns: dict[str, str] = dict(db.execute(_FIRST_COLUMNS).fetchall())

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def only_planned(self, sent: Sent) -> Plan:
        """The plan that is kept for the statement from now on."""
        return self._explained(sent, "format json", was_run=False)

    def carried_out(self, sent: Sent) -> Plan:
        return self._explained(sent, "analyze, timing off, format json", was_run=True)

    def control(self, sent: Sent) -> None:
        """Begin, commit and the like."""
        self._session(sent).execute(sent.sql.encode())

    def _session(self, sent: Sent) -> "psycopg.Connection[Any]":
        if sent.options not in self._sessions:
            self._sessions[sent.options] = psycopg.connect(self._url, autocommit=True, options=sent.options)
        return self._sessions[sent.options]

    def _explained(self, sent: Sent, how: str, *, was_run: bool) -> Plan:
        session = self._session(sent)
        name = self._prepared.get((sent.options, sent.sql))
        if name is None:
            name = self._prepared[sent.options, sent.sql] = f"traced_{len(self._prepared)}"
            types = ", ".join(_TYPES[param.oid] for param in sent.params)
            session.execute(f"prepare {name}{f'({types})' if types else ''} as {sent.sql}".encode())
        values = ", ".join(map(_literal, sent.params))
        call = f"explain ({how}) execute {name}{f'({values})' if values else ''}"
        row = session.execute(call.encode()).fetchone()
        assert row is not None
        return _plan_of(sent, row[0][0]["Plan"], self._first_columns, was_run=was_run)


def _literal(param: Param) -> str:
    if param.data is None:
        return "null"
    value = Transformer().get_loader(param.oid, Format.BINARY).load(param.data)
    return compose.Literal(value).as_string(None)


def _plan_of(sent: Sent, top: Mapping[str, Any], first_columns: Mapping[str, str], *, was_run: bool) -> Plan:
    nodes = list(_nodes(top))
    scans = [node for node in nodes if node["Node Type"].endswith("Scan") and node.get("Relation Name") in _OWN]
    plan = Plan(
        sent,
        indexes=frozenset(_index(node["Index Name"]) for node in nodes if "Index Name" in node),
        scanned=frozenset(name for node in nodes if (name := _read_from_end_to_end(node, first_columns))),
        is_sorted=any("Sort" in node["Node Type"] for node in nodes),
    )
    if not was_run:
        return plan
    written = next((node for node in nodes if node["Node Type"] == "ModifyTable"), None)
    given = _rows(written["Plans"][0] if written else top)
    effort = sum(_rows(node) + _dropped(node) for node in scans)
    return replace(plan, given=given, effort=effort, writes=(written["Relation Name"], given) if written else None)


def _read_from_end_to_end(node: Mapping[str, Any], first_columns: Mapping[str, str]) -> str | None:
    """The table that is scanned, or the index of which a condition on later columns alone makes no part."""
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _OWN:
        return str(node["Relation Name"])
    index, condition = node.get("Index Name", ""), node.get("Index Cond", "")
    return index if condition and not re.search(rf"\b{first_columns[index]}\b", condition) else None


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Mapping[str, Any]) -> int:
    return int(node["Actual Rows"] * node["Actual Loops"])


def _dropped(node: Mapping[str, Any]) -> int:
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int(dropped * node["Actual Loops"])


_STEPS_AT_ONCE = 10
_STEP = re.compile(r"(?:SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")
_WRITES = re.compile(r"\s*(?:insert into|update|delete from) (\w+)")


class SqlitePlans:
    """The same for SQLite, whose plans say nothing of rows: the steps of its machine are counted instead."""

    def __init__(self, path: Any) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._steps = 0

    def close(self) -> None:
        self._db.close()

    def only_planned(self, sent: Sent) -> Plan:
        steps = [row[3] for row in self._db.execute(f"explain query plan {sent.sql}")]
        found = [match for step in steps if (match := _STEP.match(step)) and match[1] in _OWN | _aliases(sent.sql)]
        return Plan(
            sent,
            frozenset(_index(match[2]) for match in found if match[2]),
            frozenset(match[1] for match in found if not match[2]),
            is_sorted=any("TEMP B-TREE FOR ORDER BY" in step for step in steps),
        )

    def carried_out(self, sent: Sent) -> Plan:
        plan = self.only_planned(sent)
        self._steps = 0
        self._db.set_progress_handler(self._count, _STEPS_AT_ONCE)
        try:
            cursor = self._db.execute(sent.sql)
            rows = cursor.fetchall()
        finally:
            self._db.set_progress_handler(None, 0)
        match = _WRITES.match(sent.sql)
        given = len(rows) or max(cursor.rowcount, 0)
        return replace(plan, given=given, effort=self._steps, writes=(match[1], given) if match else None)

    def control(self, sent: Sent) -> None:
        self._db.execute(sent.sql)

    def _count(self) -> int:
        self._steps += _STEPS_AT_ONCE
        return 0


def _aliases(sql: str) -> set[str]:
    """The short names that a statement gives to its tables."""
    return {match[1] for match in re.finditer(rf"\b(?:{'|'.join(_OWN)})(?: as)? (\w)\b", sql)}


def _index(name: str) -> str:
    return "primary key" if name.endswith("_pkey") or name.startswith("sqlite_autoindex_") else name


def replayed(plans: PostgresPlans | SqlitePlans, sent: Iterable[Sent]) -> Sequence[Plan]:
    """Carry statements out in their order."""
    done = []
    for one in sent:
        if one.is_plannable:
            done.append(plans.carried_out(one))
        else:
            plans.control(one)
    return done
