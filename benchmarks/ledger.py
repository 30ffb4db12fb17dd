"""Pairs a second: reserve, then two charges that close the lease. The baseline is one plain transaction for each.

Both sides write the same rows to files with the same settings, from a thread of their own, for the same callers; their
rounds alternate, so that whatever else the machine does hurts both alike.
"""

import asyncio
import queue
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvloop

from benchmarks import Figure
from ctxhost.clock import WallClock
from ctxhost.errors import InsufficientCredits
from ctxhost.ids import new_uuid
from ctxhost.ledger.commands import Charge, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store
from ctxhost.store.rows import Account, Entry, Lease
from ctxhost.store.sqlite import CHECKPOINT_PAGES, SqliteStore

TITLE = "Ledger: reserve and two charges, pairs a second"
CALLERS = (1, 8, 32, 256)
ACCOUNTS = (1, 1_000)
TARGET = 8.0
TARGET_CALLERS, TARGET_ACCOUNTS = 32, 1
FUNDS = 10**15
LINES = (("recording", 7_333_333), ("transcription", 2_200_000))
HOLD = 65_000_000
SECONDS = 44
INSERT = {
    row: f"insert into {name} ({', '.join(row._fields)}) values ({', '.join('?' * len(row._fields))})"
    for row, name in ((Lease, "lease"), (Entry, "entry"))
}
SELECT = {
    row: f"select {', '.join(row._fields)} from {name} where id = ?"
    for row, name in ((Account, "account"), (Lease, "lease"), (Entry, "entry"))
}


class Side(Protocol):
    """One of the two that are compared."""

    async def reserve(self, account: str, lease: str) -> None: ...
    async def charge(self, account: str, lease: str, line: str, amount: int) -> None: ...


class Batched:
    """The store as it is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reserve(self, account: str, lease: str) -> None:
        await self._store.write(
            Reserve(
                account=account,
                app="app",
                lease=lease,
                purpose="meetings",
                amount=HOLD,
                dimensions=("recording", "transcription"),
                rate_card="{}",
                paid_for_s=300,
                hold_s=3_600,
            )
        )

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        await self._store.write(Charge(account=account, lease=lease, dimension=line, quantity=SECONDS, amount=amount))


class Plain:
    """One transaction an operation: begin, select, decide, update, insert, commit."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma synchronous = full")
        self._db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        self._db.close()

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()

    async def _transaction(self, operation: Callable[..., None], *given: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            self._db.execute("begin immediate")
            operation(*given)
            self._db.execute("commit")
            loop.call_soon_threadsafe(done.set_result, None)

        self._work.put(work)
        await done

    async def reserve(self, account: str, lease: str) -> None:
        await self._transaction(self._reserve, account, lease)

    async def charge(self, account: str, lease: str, line: str, amount: int) -> None:
        await self._transaction(self._charge, account, lease, line, amount)

    def _account(self, account: str) -> Account:
        return Account._make(self._db.execute(SELECT[Account], (account,)).fetchone())

    def _reserve(self, account_id: str, lease: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        if self._db.execute(SELECT[Lease], (lease,)).fetchone():
            return
        account = self._account(account_id)
        if account.available < HOLD:
            raise InsufficientCredits(required_nano_usd=HOLD, available_nano_usd=account.available)
        self._db.execute("update account set held = held + ?, clock_ms = ? where id = ?", (HOLD, now_ms, account_id))
        row = Lease(
            lease, account_id, "app", "meetings", "open", HOLD, HOLD, "recording,transcription",
            "recording,transcription", "", "{}", 300, 3_600, now_ms + 300_000, now_ms + 3_600_000, now_ms, 0,
        )  # fmt: skip
        self._put(row)

    def _charge(self, account_id: str, lease_id: str, line: str, amount: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        if self._db.execute(SELECT[Entry], (f"{lease_id}/{line}",)).fetchone():
            return
        lease = Lease._make(self._db.execute(SELECT[Lease], (lease_id,)).fetchone())
        account = self._account(account_id)
        left = [other for other in lease.open.split(",") if other != line]
        held = lease.held - amount if left else 0
        self._db.execute(
            "update account set credits = credits - ?, held = held - ?, seq = seq + 1, clock_ms = ? where id = ?",
            (amount, lease.held - held, now_ms, account_id),
        )
        self._db.execute(
            "update lease set held = ?, open = ?, state = ?, ended_ms = ? where id = ?",
            (held, ",".join(left), "open" if left else "closed", 0 if left else now_ms, lease_id),
        )
        entry = Entry(
            f"{lease_id}/{line}", account_id, account.seq + 1, "charge", "app", lease_id, "meetings", line, SECONDS,
            0, -amount, "", "", now_ms,
        )  # fmt: skip
        self._put(entry)

    def _put(self, row: Lease | Entry) -> None:
        self._db.execute(INSERT[type(row)], row)


def measure(*, quick: bool) -> Iterable[Figure]:
    """Every number of callers, on one account and on many."""
    rounds, round_s = (2, 0.35) if quick else (6, 1.0)
    with tempfile.TemporaryDirectory(prefix="ctxhost-bench-") as folder:
        return uvloop.run(_measure(Path(folder), rounds=rounds, round_s=round_s))


async def _measure(folder: Path, *, rounds: int, round_s: float) -> list[Figure]:
    store, names = await _prepared(folder / "batched.db")
    plain_store, _ = await _prepared(folder / "plain.db")
    await plain_store.aclose()
    plain = Plain(folder / "plain.db")
    figures = []
    for accounts in ACCOUNTS:
        for callers in CALLERS:
            ours, base = await _compare(
                Batched(store), plain, names[:accounts], callers=callers, rounds=rounds, round_s=round_s
            )
            is_target = (callers, accounts) == (TARGET_CALLERS, TARGET_ACCOUNTS)
            on = "one account" if accounts == 1 else f"{accounts:,} accounts"
            figures.append(
                Figure(
                    name=f"{callers} callers on {on}",
                    value=round(ours),
                    unit="/s",
                    baseline=round(base),
                    target=TARGET if is_target else None,
                )
            )
    plain.close()
    await store.aclose()
    return figures


async def _prepared(path: Path) -> tuple[SqliteStore, list[str]]:
    """A store with funded accounts."""
    store = SqliteStore(path, clock=WallClock())
    names = [f"acct-{n:04}" for n in range(max(ACCOUNTS))]

    async def fund(name: str) -> None:
        await Ledger(store).open_account("bench", account=name)
        await Ledger(store).grant(name, FUNDS, key="funds")

    await asyncio.gather(*map(fund, names))
    return store, names


async def _compare(
    batched: Side, plain: Side, accounts: Sequence[str], *, callers: int, rounds: int, round_s: float
) -> tuple[float, float]:
    """Pairs a second of each side, over rounds that take turns."""
    pairs, seconds = [0, 0], [0.0, 0.0]
    for _ in range(rounds):
        for n, side in enumerate((batched, plain)):
            started = time.perf_counter()
            done = await asyncio.gather(
                *[_call(side, accounts, caller, until=started + round_s) for caller in range(callers)]
            )
            seconds[n] += time.perf_counter() - started
            pairs[n] += sum(done)
    return pairs[0] / seconds[0], pairs[1] / seconds[1]


async def _call(side: Side, accounts: Sequence[str], caller: int, *, until: float) -> int:
    """One caller: pair after pair, until the time is over."""
    pairs = 0
    while time.perf_counter() < until:
        account, lease = accounts[(caller + pairs * 7) % len(accounts)], new_uuid()
        await side.reserve(account, lease)
        for line, amount in LINES:
            await side.charge(account, lease, line, amount)
        pairs += 1
    return pairs
