"""Two hosts on one real database, a clock that jumps, and the model beside them: after every step all must agree.

The invariants that are checked carry their numbers. I1: pools are the sum of the journal. I2: held is the sum of the
open leases. I3: no hold without cover. I4: only a charge takes credits below zero. I5: every number equals the model's.
I6: money is conserved. I7: a key has one effect and one answer. I8: another value under a key is refused by name. I9: a
line is over once. I10: a lease ends once. I11: the clock ends a hold, at its time and no earlier. I12: a late charge
touches no other hold. I14: the journal only grows. I15: nobody touches another account. I16: clocks and sequences only
grow. I17: what was answered survives a crash. I19: two writers equal some serial order. I20: the file is sound.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

from tests.contract.engines import SQLITE, Engine
from tests.simulation.books import Books, same_rows

from ctxhost.clock import ManualClock
from ctxhost.errors import CtxhostError, InsufficientCredits, InvalidRequest, LedgerConflict
from ctxhost.ledger.commands import OpenAccount, Tick
from ctxhost.ledger.ledger import Ledger
from ctxhost.ledger.verify import verify
from ctxhost.store import Query, Store
from ctxhost.store.rows import Account, Entry, Lease

START_MS = 1_798_675_200_000  # 2026-12-31T00:00:00Z: a month ends soon
HOSTS = 2
LIMIT = 10**18
KINDS = ("grant", "adjust", "reset", "refund", "charge")
Rows = dict[str, dict[str, dict[str, Any]]]


class World:
    def __init__(self, engine: Engine = SQLITE, *, watch: bool = False) -> None:
        self.clock = ManualClock(START_MS)
        self.books = Books()
        self.trace = hashlib.sha256()
        self._watch = watch
        self._engine = engine
        self._folders = Path(tempfile.mkdtemp(prefix="ctxhost-world-"))
        self._folder = self._new_folder()
        self._opened = AsyncExitStack()
        self._stores: list[Store] = []
        self._rows: Rows = {"account": {}, "lease": {}, "entry": {}}

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folders))

    async def open(self) -> None:
        hosts = [self._engine.open(self._folder, self.clock) for _ in range(HOSTS)]
        self._stores = [await self._opened.enter_async_context(host) for host in hosts]

    async def close(self) -> None:
        """Everything must still verify when the last host has gone."""
        findings = await verify(self._stores[0])
        await self._opened.aclose()
        assert [] == findings
        self._engine.check(self._folder)

    async def abandon(self) -> None:
        """Leave nothing behind, whatever happened."""
        await self._opened.aclose()
        self._engine.discard(self._folder)
        shutil.rmtree(self._folders, ignore_errors=True)

    def jump(self, ms: int) -> None:
        self.clock.advance(ms=ms)
        self._note("jump", ms)

    async def do(self, command: Any, *, host: int = 0) -> Any:
        """One command at one host. I5, I7, I8: it answers or refuses as the model does."""
        answer = await self._observed(self._ask(command, host))
        self.books, expected = self.books.run(command, self.clock.now_ms())
        assert expected == answer, f"{command}: expected {expected}, got {answer}"
        self._note(command, answer)
        await self._check(only={command.account})
        return answer

    async def race(self, asked: Sequence[tuple[int, Any]]) -> None:
        """Commands at several hosts at once. I19: answers and rows are those of some serial order."""
        answers = await self._observed(asyncio.gather(*[self._ask(command, host) for host, command in asked]))
        found = await self._read()
        for order in permutations(range(len(asked))):
            books, told = self.books, {}
            for n in order:
                books, told[n] = books.run(asked[n][1], self.clock.now_ms())
            if [told[n] for n in range(len(asked))] == answers and not list(same_rows(books.rows(), found)):
                self.books = books
                break
        else:
            raise AssertionError(f"no serial order of {asked} gives {answers} and {found}")
        self._note(*[command for _, command in asked])
        await self._check(only={command.account for _, command in asked})

    async def sweep(self, hosts: int = HOSTS) -> None:
        """Sweepers at once at several hosts. I11: they end what the clock has ended, once."""
        due = self.books.due(self.clock.now_ms())
        await self._observed(asyncio.gather(*[Ledger(store).sweep() for store in self._stores[:hosts]]))
        for account in due:
            self.books, _ = self.books.run(Tick(account=account), self.clock.now_ms())
        self._note("sweep", sorted(due))
        await self._check(only=due)

    async def restart(self, *, crash: bool) -> None:
        """All hosts stop and start again; a crash leaves them only what is on disk. I17, I20."""
        folder = self._engine.crash(self._folder, self._new_folder()) if crash else self._folder
        await self._opened.aclose()
        self._folder = folder
        self._engine.check(self._folder)
        await self.open()
        self._note("restart", crash)
        await self._check(only=set())

    def seal(self) -> str:
        """A hash of everything that happened. I23: the same seed gives the same."""
        return self.trace.hexdigest()

    async def _ask(self, command: Any, host: int) -> Any:
        try:
            answer = await self._stores[host].write(command)
        except (CtxhostError, TypeError, ValueError) as error:
            return refusal_facts(error)
        if isinstance(answer, Account | Lease | Entry):
            return answer._asdict()
        return None if answer is None else {name: getattr(answer, name) for name in ("lease", "reserved", "created_ms")}

    async def _observed(self, work: Any) -> Any:
        """Every state that a reader can meet while something happens has right books, not only the last one."""
        task = asyncio.ensure_future(work)
        while self._watch and not task.done():
            findings = await verify(self._stores[-1])
            if findings:
                await asyncio.gather(task, return_exceptions=True)
                raise AssertionError(f"seen in the middle: {findings}")
        return await task

    def _note(self, *what: object) -> None:
        self.trace.update(repr((self.clock.now_ms(), what)).encode())

    async def _read(self) -> Rows:
        rows: Rows = {}
        place = self._engine.place_of_row
        for table, row in (("account", Account), ("lease", Lease), ("entry", Entry)):
            sql = f"select {', '.join(row._fields)} from {table} where id <> '' order by {place}"
            found = await self._stores[-1].read(Query(sql, list))
            rows[table] = {values[0]: dict(zip(row._fields, values, strict=True)) for values in found}
        return rows

    async def _check(self, *, only: set[str]) -> None:
        before, self._rows = self._rows, await self._read()
        now = self._rows
        assert [] == list(same_rows(self.books.rows(), now))  # I5, and with it I3, I7, I12
        entries, accounts = now["entry"].values(), now["account"].values()
        moved = {kind: sum(e["allowance"] + e["credits"] for e in entries if e["kind"] == kind) for kind in KINDS}
        assert sum(a["allowance"] + a["credits"] for a in accounts) - moved["charge"] == sum(
            moved[kind] for kind in KINDS if kind != "charge"
        )  # I6
        for account in now["account"].values():
            check_account(account, now)
        for lease in now["lease"].values():
            check_lease(lease, now)
        check_history(before, now, only=only)
        for table in now.values():
            for row in table.values():
                numbers = [value for value in row.values() if not isinstance(value, str)]
                assert all(type(number) is int and -LIMIT <= number <= LIMIT for number in numbers)  # I20


def refusal_facts(error: Exception) -> tuple[object, ...]:
    name = type(error).__name__
    match error:
        case LedgerConflict():
            return (name, error.field)
        case InsufficientCredits():
            return (name, error.required_nano_usd, error.available_nano_usd)
        case InvalidRequest():
            return (name, error.details[0]["code"])
    return (name,)


def check_account(account: dict[str, Any], rows: Rows) -> None:
    entries = [entry for entry in rows["entry"].values() if entry["account"] == account["id"]]
    leases = [lease for lease in rows["lease"].values() if lease["account"] == account["id"]]
    for pool in ("allowance", "credits"):
        assert account[pool] == sum(entry[pool] for entry in entries)  # I1
    assert account["held"] == sum(lease["held"] for lease in leases if lease["state"] == "open")  # I2
    assert account["held"] >= 0  # I2
    assert account["allowance"] >= 0  # I4
    assert list(range(1, account["seq"] + 1)) == [entry["seq"] for entry in entries]  # I16: commit order, no gaps
    assert sorted(entry["at_ms"] for entry in entries) == [entry["at_ms"] for entry in entries]  # I16
    assert all(entry["at_ms"] <= account["clock_ms"] for entry in entries)  # I16
    assert all(lease["give_up_at_ms"] > account["clock_ms"] for lease in leases if lease["state"] == "open")  # I11


def check_lease(lease: dict[str, Any], rows: Rows) -> None:
    charged = [entry["dimension"] for entry in rows["entry"].values()
               if entry["kind"] == "charge" and entry["lease"] == lease["id"]]  # fmt: skip
    over = charged + [line for name in ("waived", "open") for line in lease[name].split(",") if line]
    assert sorted(lease["dimensions"].split(",")) == sorted(over)  # I9: each line is charged, waived or open, once
    assert lease["state"] == "open" or 0 == lease["held"]  # I10
    if lease["state"] == "expired":
        assert lease["give_up_at_ms"] == lease["ended_ms"]  # I11
        assert lease["give_up_at_ms"] <= rows["account"][lease["account"]]["clock_ms"]  # I11


def check_history(before: Rows, now: Rows, *, only: set[str]) -> None:
    """What may have become of the rows of a moment ago when `only` these accounts were worked on."""
    assert list(before["entry"].items()) == list(now["entry"].items())[: len(before["entry"])]  # I14: a prefix
    fresh = [entry for entry_id, entry in now["entry"].items() if entry_id not in before["entry"]]
    assert {entry["account"] for entry in fresh} <= only  # I15
    for table in ("account", "lease"):
        for row_id, row in before[table].items():
            assert row == now[table][row_id] or row.get("account", row_id) in only  # I15
    for account_id, account in before["account"].items():
        after = now["account"][account_id]
        assert account["clock_ms"] <= after["clock_ms"]  # I16
        if after["credits"] < min(account["credits"], 0):
            kinds = {entry["kind"] for entry in fresh if entry["account"] == account_id}
            assert "charge" in kinds  # I4
    for lease_id, lease in before["lease"].items():
        assert lease["state"] == "open" or lease["state"] == now["lease"][lease_id]["state"]  # I10


async def furnished(engine: Engine = SQLITE, *, watch: bool = False) -> World:
    """A world with two accounts: one prepaid, one with an allowance and an overdraft."""
    world = World(engine, watch=watch)
    await world.open()
    await world.do(OpenAccount(account="prepaid", owner="ann"))
    await world.do(OpenAccount(account="monthly", owner="bob", monthly_allowance=60, floor=-20))
    return world
