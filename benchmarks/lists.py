"""`GET /v1/{app}/ai/meetings`: 20 bots out of 200,000 of one app. The baseline is the same page out of 1,000.

Each app is on a host and in a file of its own, so that the small one has a small database.
"""

import json
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import uvloop

from benchmarks import Figure
from benchmarks.load import Connection, Side, compare, http_request
from benchmarks.rows import done_bot
from benchmarks.servers import Served, host_server, running
from ctxhost.store.rows import Bot

TITLE = "Lists: 20 bots out of 200,000, beside 20 out of 1,000"
MANY, FEW = 200_000, 1_000
PAGE = 20
CEILING = 1.5
APART_MS = 10_000
RARE, ONE_IN = "fatal", 50
"""A status that few bots have: a page of it must not be looked for among all."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked for."""

    name: str
    query: dict[str, str]
    deep: bool = False
    """From the middle of the list, by its cursor."""


PAGES = (
    Page("the first page, median wait", {}),
    Page(f"the first page of status={RARE}", {"status": RARE}),
    Page("a page in the middle", {}, deep=True),
)


def measure(*, quick: bool) -> Iterable[Figure]:
    """The median wait of one caller, for each page."""
    rounds, round_s = (2, 0.4) if quick else (8, 1.0)
    with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder, ExitStack() as servers:
        hosts = {}
        for bots in (MANY, FEW):
            hosts[bots] = served = servers.enter_context(running(host_server, Path(folder) / str(bots)))
            _fill(Path(folder) / str(bots) / "ctxhost.db", served, bots)
        for page in PAGES:
            sides = [uvloop.run(_side(served, bots, page)) for bots, served in hosts.items()]
            many, few = uvloop.run(compare(sides, callers=1, rounds=rounds, round_s=round_s))
            yield Figure(
                name=page.name,
                value=round(many.p50_ms, 3),
                unit="ms",
                baseline=round(few.p50_ms, 3),
                target=CEILING,
                is_ceiling=True,
            )


def _fill(database: Path, served: Served, count: int) -> None:
    """Give the app so many bots, one every ten seconds until now, made by the database itself."""
    first_ms = time.time_ns() // 1_000_000 - count * APART_MS
    bot = done_bot("", account=served.tenant.account, app=served.tenant.app.id, status="done", created_ms=first_ms)
    values = {name: f":{name}" for name in Bot._fields}
    values["id"] = "printf('01900000-0000-7000-8000-%012x', number)"
    values["created_ms"] = f":created_ms + number * {APART_MS}"
    values["status"] = f"iif(number % {ONE_IN} = 0, '{RARE}', :status)"
    numbers = f"numbers(number) as (select 1 union all select number + 1 from numbers where number < {count})"
    insert = f"insert into bot ({', '.join(values)}) select {', '.join(values.values())} from numbers"
    with closing(sqlite3.connect(database, timeout=30)) as db, db:
        db.execute(f"with recursive {numbers} {insert}", bot._asdict())


async def _side(served: Served, bots: int, page: Page) -> Side:
    """The request for a page; its answer is looked at once."""
    query = {"limit": str(PAGE), **page.query}
    connection = await Connection.to(served.port)
    if page.deep:
        query["cursor"] = await _cursor_of_the_middle(connection, served, bots)
    request = _list_request(served, query)
    told = json.loads(await connection.ask(request))
    connection.close()
    if len(told["bots"]) != PAGE:
        raise ValueError(f"{len(told['bots'])} bots on a page instead of {PAGE}")
    return Side(served.port, lambda: request)


async def _cursor_of_the_middle(connection: Connection, served: Served, bots: int) -> str:
    """A cursor is good for any list of the app's bots: the rare ones lead to the middle in few pages."""
    left, cursor = bots // 2 // ONE_IN, ""
    while left:
        limit = min(left, 100)
        query = {"status": RARE, "limit": str(limit), **({"cursor": cursor} if cursor else {})}
        cursor = str(json.loads(await connection.ask(_list_request(served, query)))["nextCursor"])
        left -= limit
    return cursor


def _list_request(served: Served, query: dict[str, str]) -> bytes:
    path = f"/v1/{served.tenant.app.id}/ai/meetings?{urlencode(query)}"
    return http_request("GET", path, headers={"authorization": f"Bearer {served.tenant.key}"})
