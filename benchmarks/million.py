"""What a caller asks for most, on a database of 1,000,000 bots. The baseline is the same on one of 1,000.

Both are filled alike, on each engine; half of the bots are of the app that asks. Each database has a host of its own,
and one caller asks them in turns. With `--quick` there are 200,000 bots.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import uvloop

from benchmarks import Bench, Figure, Skipped
from benchmarks.engines import Engine
from benchmarks.load import Ask, Connection, Side, alternate, http_request
from benchmarks.population import ONE_IN, RARE, Life, lived, populate
from benchmarks.servers import Served, host_server, running
from benchmarks.spawn import spawn_request

TITLE = "A million bots: the median wait of a caller, beside a thousand"
MANY, FEW = 1_000_000, 1_000
PAGE = 20
CEILING = 1.5
BYTES_A_BOT = 12_000
"""With its indexes, and room for the log."""
BOTS = "/ai/meetings"


@dataclass(frozen=True, slots=True)
class Crowd:
    """A host on a database with so many bots."""

    served: Served
    life: Life
    bots: int

    def get(self, path: str, **query: str | int) -> bytes:
        asked = f"?{urlencode(query)}" if query else ""
        headers = {"authorization": f"Bearer {self.served.tenant.key}"}
        return http_request("GET", f"/v1/{self.served.tenant.app.id}{path}{asked}", headers=headers)

    def any_bot(self) -> Ask:
        """One after the other, of those of the big app, which have the odd numbers."""
        chance = random.Random(self.bots)
        return lambda: self.get(f"{BOTS}/{self.life.id_of(chance.randrange(1, self.bots, 2))}")

    async def middle(self, connection: Connection) -> str:
        """A cursor is good for any list of the app's bots: the rare ones lead to the middle in few pages."""
        left = self.bots // 4 // ONE_IN
        place: dict[str, str] = {}
        while left:
            limit = min(left, 100)
            page = json.loads(await connection.ask(self.get(BOTS, status=RARE, limit=limit, **place)))
            place, left = {"cursor": page["nextCursor"]}, left - limit
        return place["cursor"]


async def asks(crowd: Crowd) -> Mapping[str, Ask]:
    """Everything that is measured, by its name; spawning last, because it leaves something behind."""
    connection = await Connection.to(crowd.served.port)
    lists = {
        "list, the first page": crowd.get(BOTS, limit=PAGE),
        f"list, status={RARE}": crowd.get(BOTS, limit=PAGE, status=RARE),
        "list, a page in the middle": crowd.get(BOTS, limit=PAGE, cursor=await crowd.middle(connection)),
    }
    for name, request in lists.items():
        found = len(json.loads(await connection.ask(request))["bots"])
        if found != PAGE:
            raise ValueError(f"{name}: {found} bots instead of {PAGE}")
    connection.close()
    others = {
        "usage": crowd.get(f"{BOTS}/usage"),
        "balance": crowd.get("/credits"),
        "journal, the first page": crowd.get("/credits/entries", limit=PAGE),
        "spawn": spawn_request(crowd.served),
    }
    return {"get a bot": crowd.any_bot(), **{name: _same(request) for name, request in (lists | others).items()}}


def _same(request: bytes) -> Ask:
    return lambda: request


def measure(bench: Bench) -> Iterable[Figure]:
    """Each question, on each engine. Raises `Skipped` when the disk has no room."""
    sizes = bench.pick(full=(MANY, FEW), quick=(MANY // 5, FEW), tiny=(1_000, 900))
    _check_room(sum(sizes) * BYTES_A_BOT * len(bench.engines))
    life = lived()
    with ExitStack() as stack:
        databases = [
            (engine, bots, stack.enter_context(engine.database())) for engine in bench.engines for bots in sizes
        ]
        with ThreadPoolExecutor(len(bench.engines)) as threads:  # they write at the same time
            for _ in threads.map(lambda one: _fill(one[0], one[2], life, one[1]), databases):
                pass
        for engine in bench.engines:
            with ExitStack() as hosts:
                crowds = [_crowd(hosts, database, life, bots) for its, bots, database in databases if its is engine]
                yield from uvloop.run(_measure(bench, engine.name, crowds))


def _check_room(needed: int) -> None:
    for folder in (tempfile.gettempdir(), "/tmp"):  # SQLite's files, and PostgreSQL's
        if shutil.disk_usage(folder).free < needed:
            raise Skipped(f"{folder} has less than {needed / 1e9:.0f} GB left.")


def _fill(engine: Engine, database: str, life: Life, bots: int) -> None:
    populate(database, life, bots=bots)
    engine.settle(database)


def _crowd(hosts: ExitStack, database: str, life: Life, bots: int) -> Crowd:
    folder = Path(hosts.enter_context(tempfile.TemporaryDirectory(prefix="ctxhost-bench-")))
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(life.key)
    return Crowd(hosts.enter_context(running(host_server, folder, database)), life, bots)


async def _measure(bench: Bench, engine: str, crowds: Sequence[Crowd]) -> list[Figure]:
    times = bench.pick(full=2_000, quick=300, tiny=2)
    many, few = [await asks(crowd) for crowd in crowds]
    figures = []
    for name in many:
        sides = [Side(crowd.served.port, asked[name]) for crowd, asked in zip(crowds, (many, few), strict=True)]
        ours, base = await alternate(sides, times=times)
        figures.append(
            Figure(
                name=f"{engine}, {name}",
                value=round(ours.p50_ms, 3),
                unit="ms",
                baseline=round(base.p50_ms, 3),
                target=CEILING,
                is_ceiling=True,
            )
        )
    return figures
