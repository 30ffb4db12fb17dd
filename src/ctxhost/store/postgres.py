"""The engine for any number of hosts on one database: PostgreSQL, the same commands, the same answers.

The database's clock decides, so that hosts whose own clocks are wrong agree on every outcome.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

import psycopg

from ctxhost.clock import Clock
from ctxhost.errors import Overloaded, StoreError
from ctxhost.observe.records import BatchRecord
from ctxhost.store import Command, Query
from ctxhost.store import postgres_sql as sql
from ctxhost.store.observed import BatchTeller
from ctxhost.store.postgres_batch import Batches
from ctxhost.store.postgres_hosts import Hosts
from ctxhost.store.postgres_lanes import Lanes
from ctxhost.store.postgres_schema import migrate
from ctxhost.store.postgres_session import Reach, Session, Sessions, manner, translated
from ctxhost.store.postgres_wire import Lost, Param, Result, Statement, param, text
from ctxhost.store.queue import CLOSING
from ctxhost.store.rows import Job, kept_for

log = logging.getLogger("ctxhost.store")
T = TypeVar("T")

QUICK_LANES = 2
READERS = 4
LOCK_WAIT_MS = 30
"""How long a batch waits for a lock. Any other account waits for it as long."""
_FIXED = {"enable_hashjoin": "off", "enable_mergejoin": "off", "synchronous_commit": "on"}
WRITING = manner(
    lock_timeout_ms=LOCK_WAIT_MS, statement_timeout_s=10, idle_in_transaction_session_timeout="5s", **_FIXED
)
CHORES = manner(lock_timeout_ms=5_000, statement_timeout_s=30, idle_in_transaction_session_timeout="5s", **_FIXED)
READING = manner(lock_timeout_ms=5_000, statement_timeout_s=30, default_transaction_read_only="on")
_CLOCK_STEP_MS = 1_000
_BUSY_PAUSE_MS = 20


class PostgresStore:
    """A `Store` on a PostgreSQL database. Any number of hosts may open it."""

    def __init__(self, url: str, *, clock: Clock | None, is_pooled: bool) -> None:
        self._clock = clock
        self._database_clock = _DatabaseClock()
        self._is_pooled = is_pooled
        reach = Reach()
        self._tellers = [*[BatchTeller("quick") for _ in range(QUICK_LANES)], BatchTeller("patient")]
        self._sessions = [Session(url, WRITING, is_pooled=is_pooled, reach=reach) for _ in self._tellers]
        self._chores = Session(url, CHORES, is_pooled=is_pooled, reach=reach)
        self._chore = asyncio.Lock()
        self._readers = Sessions([Session(url, READING, is_pooled=is_pooled, reach=reach) for _ in range(READERS)])
        *quick, patient = [
            Batches(session, clock.now_ms if clock is not None else None, self._database_clock.saw, teller)
            for session, teller in zip(self._sessions, self._tellers, strict=True)
        ]
        self._lanes = Lanes(quick, patient, self._put_jobs)
        self._hosts = Hosts(url, wake=self._wake, transact=self._transact)
        self._on_jobs: list[Callable[[], None]] = []
        self._hints: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, clock: Clock | None = None, is_pooled: bool = False) -> Self:
        """Connect, and bring the schema up to date.

        Args:
            url: `postgresql://user@host/database`, or any other form that libpq takes.
            clock: decides in place of the database's clock; for tests that move their own.
            is_pooled: between here and the database is a pooler in transaction mode, such as PgBouncer.

        Raises:
            StoreError: it cannot be reached, is newer than this code, or belongs to another program.
        """
        await migrate(url)
        store = cls(url, clock=clock, is_pooled=is_pooled)
        try:
            await store._ask_clock()
        except (Overloaded, psycopg.Error) as error:
            await store.aclose()
            why = " ".join(str(error.__cause__ or error).split())
            raise StoreError(f"The database cannot be used: {why}") from error
        return store

    def now_ms(self) -> int:
        return self._database_clock.now_ms() if self._clock is None else self._clock.now_ms()

    async def write(self, command: Command[T]) -> T:
        return await self._lanes.write(command)

    async def read(self, query: Query[T]) -> T:
        statement, names = sql.numbered(query.sql)
        return query.shape(await self._readers.ask(statement, [_readable(query.params[name]) for name in names]))

    async def claim(
        self, kinds: Sequence[str], *, limit: int, per_lane: int, hold_s: int
    ) -> tuple[Sequence[Job], int | None]:
        """All in one trip: a host that stands still in the middle of it keeps nobody from claiming."""
        due = sql.next_due(kinds, per_lane=per_lane, now_ms=self._given_ms())
        ((now_ms, is_more, next_ms),) = await self._readers.ask(due.sql, due.params)
        jobs: list[Job] = []
        if is_more:  # reading first: asking for nothing costs no transaction
            claim = sql.claim(
                kinds, limit=limit, per_lane=per_lane, hold_s=hold_s, host=self._hosts.number, now_ms=self._given_ms()
            )
            _, taken, left = await self._transact(claim)
            jobs = sorted(taken.rows, key=lambda job: (job.due_ms, job.id))
            ((now_ms, is_more, next_ms),) = left.rows
        self._database_clock.saw(now_ms)
        if is_more and not jobs:
            return jobs, now_ms + _BUSY_PAUSE_MS  # what is due is being written elsewhere just now
        return jobs, now_ms if is_more else next_ms

    async def recover(self) -> None:
        """Join the hosts that live; what the dead had claimed comes back, at once if there are none."""
        if self._is_pooled:
            return  # who lives cannot be known: claims end at their deadline
        try:
            await self._hosts.join()
        except (psycopg.Error, Overloaded, TimeoutError) as error:
            why = error or type(error).__name__
            log.warning("the other hosts cannot be asked for; claims end at their deadline: %s", why)

    async def prune(self, *, keep_s: Mapping[str, int] | None = None, limit: int = 500) -> int:
        """Delete rows that were kept as long as their table promises, at most `limit` of a table; returns how many."""
        now_ms = self._given_ms()
        results = [
            await self._transact([sql.prune(table, keep_s=kept_s, limit=limit, now_ms=now_ms)])
            for table, kept_s in kept_for(keep_s or {})
        ]
        return sum(result.touched for (result,) in results)

    def on_jobs(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit that put jobs, here and, less often, at another host."""
        self._on_jobs.append(wake)

    def on_batch(self, tell: Callable[[BatchRecord], None]) -> None:
        for teller in self._tellers:
            teller.add(tell)

    def waiting(self) -> int:
        return self._lanes.waiting()

    async def aclose(self, *, drain_s: float = 10) -> None:
        if self._closed:
            return
        self._closed = True
        await self._lanes.aclose(drain_s=drain_s)
        await self._hosts.aclose()
        if self._hints:
            await asyncio.wait(self._hints)
        await self._readers.aclose()
        async with self._chore:
            for session in (*self._sessions, self._chores):
                await session.aclose()

    def _given_ms(self) -> int | None:
        return None if self._clock is None else self._clock.now_ms()

    async def _ask_clock(self) -> None:
        ((now_ms,),) = await self._readers.ask(f"select {sql.CLOCK}")
        self._database_clock.saw(now_ms)

    async def _transact(self, statements: Sequence[Statement]) -> list[Result]:
        """A transaction in one trip, once more if the connection had broken. Nobody can interrupt it."""
        if self._closed:
            raise Overloaded(CLOSING)
        return await asyncio.shield(asyncio.ensure_future(self._transact_alone(statements)))

    async def _transact_alone(self, statements: Sequence[Statement]) -> list[Result]:
        async with self._chore:
            opening = self._chores.opening(sql.BEGIN)
            trip = [*opening, *statements, sql.COMMIT]
            try:
                try:
                    results = await self._chores.trip(trip)
                except Lost:
                    results = await self._chores.trip(trip)
            except psycopg.Error as error:
                await self._chores.reset()
                raise translated(error) from error
        return results[len(opening) : -1]

    def _wake(self) -> None:
        for wake in self._on_jobs:
            asyncio.get_running_loop().call_soon(wake)  # its failure is not the batch's

    def _put_jobs(self) -> None:
        self._wake()
        if self._hosts.may_hint() and not self._closed:
            hint = asyncio.get_running_loop().create_task(self._hint())
            self._hints.add(hint)
            hint.add_done_callback(self._hints.discard)

    async def _hint(self) -> None:
        try:
            await self._readers.ask("select pg_notify($1, $2)::text", [text(sql.JOBS_CHANNEL), text(self._hosts.name)])
        except (Overloaded, psycopg.Error) as error:
            log.debug("the other hosts were not told of new jobs: %s", error)


class _DatabaseClock:
    """The database's clock as it goes on between two looks at it."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def saw(self, now_ms: int) -> None:
        """An answer is always a little old, so the furthest look is the best; but a clock that was set is followed."""
        ahead_ms = now_ms - _monotonic_ms()
        behind_ms = self._ahead_ms - ahead_ms
        if behind_ms < 0 or behind_ms > _CLOCK_STEP_MS:
            self._ahead_ms = ahead_ms
        elif behind_ms:
            self._ahead_ms -= 1

    def now_ms(self) -> int:
        return _monotonic_ms() + self._ahead_ms


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _readable(value: str | int | None) -> Param:
    """PostgreSQL keeps no text with a NUL, so nothing is found by one."""
    return param(value.replace("\x00", "\ufffd") if isinstance(value, str) else value)
