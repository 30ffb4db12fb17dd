"""Databases with any number of bots, made by the engine itself from the rows that one real bot has left.

A host runs a bot from its spawn to its last delivery. Each row of it is then written again for every further bot, with
ids, times and journal numbers of its own. Half of the bots are of one app, the others of apps with 500 each; they came
over one year, and tables that forget have forgotten.
"""

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import uvloop

from benchmarks.bulk import bulk, change, put
from benchmarks.servers import Served, receiver, served_host
from ctxhost.host import Host
from ctxhost.store import Query, queries
from ctxhost.store.open import open_store
from ctxhost.store.rows import (
    KEEP_FOR_EVER,
    PLATFORM,
    TABLES,
    Account,
    App,
    Bot,
    BotTally,
    Endpoint,
    Entry,
    Table,
)
from ctxhost.webhooks.requests import PutWebhook

YEAR_MS = 365 * 86_400_000
ROUND_OF_BOTS = 2_000
"""Bots whose rows lie among each other, as those of bots that live at the same time."""
ONE_IN, RARE = 20, "fatal"
"""Every so many bots has the rare status."""
BOTS_OF_A_NEIGHBOUR = 500
LINKS_LAST_MS = 7 * 86_400_000
"""The provider of those made up knows nothing of them: their links need no asking."""
SPEED = 10_000.0
LIFE_TIMEOUT_S = 60
ACCOUNT, APP = "acct_bench", "app_bench"
_TENANT = (Account, App, BotTally, Endpoint)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?:msg|att)_[0-9a-f]{24,32}")
_SCATTER = 0x9E37_79B9_7F4B


@dataclass(frozen=True, slots=True)
class Life:
    """What one bot has left, and its tenant's own rows."""

    bot: Bot
    rows: Sequence[Any]
    tenant: Sequence[Any]
    key: str
    """The key file of the host, which its secrets are sealed with."""

    def id_of(self, number: int) -> str:
        """The id of the bot with that number; they begin with 1."""
        return f"{self.bot.id[:24]}{number:012x}"

    def count(self, table: type[Any]) -> int:
        return sum(isinstance(row, table) for row in self.rows)


def lived() -> Life:
    """Run a bot through its whole life, on a host of its own."""
    with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder:
        return uvloop.run(_lived(Path(folder)))


async def _lived(folder: Path) -> Life:
    database = str(folder / "ctxhost.db")
    async with receiver() as port, served_host(folder, database, speed=SPEED) as (host, found):
        await host.webhooks.put(found.tenant.app, PutWebhook(forward_url=f"http://127.0.0.1:{port}/hook"))
        bot_id = await _spawn(found)
        with anyio.fail_after(LIFE_TIMEOUT_S):
            while (bot := await _finished(host, bot_id)) is None:  # noqa: ASYNC110 - rows tell nobody
                await anyio.sleep(0.02)
        every = [row for table in TABLES for row in await host.store.read(_all(table.row))]
    tenant = [row for row in every if isinstance(row, _TENANT) or (isinstance(row, Entry) and row.kind == "grant")]
    kept = [row for row in every if row not in tenant and row.account == ACCOUNT]
    return Life(
        bot,
        [row for row in kept if _ID.search(row.id)],
        [row for row in tenant if row.account != PLATFORM],
        (folder / "key").read_text(),
    )


async def _spawn(found: Served) -> str:
    headers = {"authorization": f"Bearer {found.tenant.key}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{found.port}", headers=headers, trust_env=False) as client:
        asked = {"meetingUrl": "https://zoom.us/j/1234567890", "metadata": {"deal": "4711"}}
        answer = await client.post(f"/v1/{APP}/ai/meetings", json=asked)
        answer.raise_for_status()
        bot: str = answer.json()["id"]
        return bot


async def _finished(host: Host, bot_id: str) -> Bot | None:
    """The bot, when nothing more is to come."""
    bot = await host.store.read(queries.by_id(Bot, bot_id))
    jobs = await host.store.read(queries.jobs())
    return bot if bot is not None and bot.completed_ms and not jobs else None


def _all(table: Any) -> Query[list[Any]]:
    name = next(known.name for known in TABLES if known.row is table)
    return Query(f"select {', '.join(table._fields)} from {name}", lambda rows: list(map(table._make, rows)))


def populate(database: str, life: Life, *, bots: int) -> None:
    """Give an empty database so many bots besides the one that has really lived."""
    uvloop.run(_make_schema(database))
    neighbours = max(bots // 2 // BOTS_OF_A_NEIGHBOUR, 1)
    put(database, [*_of_tenants(life, neighbours), *life.rows])
    with bulk(database) as into:
        into.execute("create temporary table numbers (n bigint, h text, s text, account text, app text, before bigint)")
        into.fill("numbers", Number._fields, _numbers(life, bots=bots, neighbours=neighbours))
        into.execute("create index on_n on numbers (n)")
        for first in range(1, bots + 1, ROUND_OF_BOTS):
            for sql in _copies(life, bots=bots):
                into.execute(f"{sql} and n between {first} and {first + ROUND_OF_BOTS - 1}")
    books = "select account, max(seq) as seq, sum(credits) as credits from entry group by account"
    change(
        database,
        f"update account set seq = b.seq, credits = b.credits from ({books}) as b where account.id = b.account",
    )


async def _make_schema(database: str) -> None:
    await (await open_store(database)).aclose()


def _of_tenants(life: Life, neighbours: int) -> Iterable[Any]:
    """The tenant's rows, and the same for each neighbour."""
    yield from life.tenant
    for number in range(neighbours):
        for row in life.tenant:
            yield row._make(
                value.replace(ACCOUNT, f"acct_{number:04}").replace(APP, f"app_{number:04}")
                if isinstance(value, str)
                else value
                for value in row
            )


class Number(NamedTuple):
    """A bot that is made up."""

    n: int
    h: str  # n in hex, for ids that grow
    s: str  # twelve hex digits, for ids that lie anywhere
    account: str
    app: str
    before: int  # how many charges of its account came before its own


def _numbers(life: Life, *, bots: int, neighbours: int) -> Iterable[Number]:
    """The odd ones are of the big app, whose first bot has really lived."""
    charges = life.count(Entry)
    for n in range(1, bots + 1):
        rank, tenant = n // 2 + 1, ""
        if n % 2 == 0:
            rank, neighbour = divmod(n // 2 - 1, neighbours)
            tenant = f"{neighbour:04}"
        scattered = n * _SCATTER & 0xFFFF_FFFF_FFFF
        account, app = (f"acct_{tenant}", f"app_{tenant}") if tenant else (ACCOUNT, APP)
        yield Number(n, f"{n:012x}", f"{scattered:012x}", account, app, rank * charges)


def _copies(life: Life, *, bots: int) -> Iterable[str]:
    """For each row of the bot that lived, the statement that writes it for others."""
    apart_ms = YEAR_MS // bots
    charges = 0
    for table in TABLES:
        for row in life.rows:
            if isinstance(row, table.row):
                charges += isinstance(row, Entry)
                yield _copy(life, table, row, bots=bots, apart_ms=apart_ms, charges=charges)


def _copy(life: Life, table: Table, row: Any, *, bots: int, apart_ms: int, charges: int) -> str:
    own = {"account": "account", "app": "app", "seq": f"before + {1 + charges}"}
    if table.row is Bot:
        own["urls_expire_ms"] = str(row.urls_expire_ms + LINKS_LAST_MS)
        own["status"] = f"case when n / 2 % {ONE_IN} = 0 then '{RARE}' else '{row.status}' end"
    values = [
        own.get(name) or _value(life, name, value, bots=bots, apart_ms=apart_ms)
        for name, value in row._asdict().items()
    ]
    kept = "1 = 1"
    if table.keep_s != KEEP_FOR_EVER:
        kept = f"n > {bots - table.keep_s * 1_000 // apart_ms}"
    return f"insert into {table.name} ({', '.join(row._fields)}) select {', '.join(values)} from numbers where {kept}"


def _value(life: Life, name: str, value: str | int, *, bots: int, apart_ms: int) -> str:
    """A column of another bot: times earlier, ids of its own, the rest as it is."""
    if isinstance(value, int):
        return f"{value} - ({bots} - n) * {apart_ms}" if name.endswith("_ms") and value else str(value)
    parts, end = [], 0
    for found in _ID.finditer(value):
        parts += [_quoted(value[end : found.start()]), _other_id(life, found[0])]
        end = found.end()
    parts.append(_quoted(value[end:]))
    return " || ".join(part for part in parts if part != "''") or "''"


def _other_id(life: Life, known: str) -> str:
    """A bot's id is the later the greater; all others lie anywhere."""
    if known == life.bot.id:
        return f"{_quoted(known[:24])} || h"
    if "_" in known:
        return f"{_quoted(known[:4])} || s || {_quoted(known[16:])}"
    return f"substr(s, 1, 8) || '-' || substr(s, 9, 4) || {_quoted(known[13:])}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
