"""What a store tells of its writes and batches, and what a scrape asks it, on every engine."""

from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from tests.contract.commands import Do, Put, PutThenRefuse, app, job
from tests.contract.engines import Engine

from ctxhost.clock import ManualClock
from ctxhost.errors import InsufficientCredits, NotAuthorized, Overloaded
from ctxhost.jobs import FinishJob, LastWrite
from ctxhost.ledger.commands import Charge, Reserve
from ctxhost.ledger.ledger import Ledger
from ctxhost.meetings.commands import Replay
from ctxhost.observe import BatchRecord, Record, Watch, WriteRecord
from ctxhost.store import Store, View, queries
from ctxhost.store.observed import observed
from ctxhost.store.rows import BotTally, Message, ProviderCost

USD = 1_000_000_000


@dataclass
class Told:
    """A store that is watched, and what it has told."""

    store: Store
    records: list[Record]

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        found = [record for record in self.records if isinstance(record, WriteRecord)]
        return [(record.command, record.account, record.outcome) for record in found]

    @property
    def batches(self) -> list[BatchRecord]:
        return [record for record in self.records if isinstance(record, BatchRecord)]


@pytest.fixture
def told(store: Store) -> Told:
    records: list[Record] = []
    watch = Watch()
    watch.add(records.append)
    store.on_batch(watch.tell)
    return Told(observed(store, watch), records)


def reserve(lease: str, amount: int) -> Reserve:
    return Reserve(
        account="acct",
        app="app",
        lease=lease,
        purpose="meetings",
        amount=amount,
        dimensions=("recording", "transcription"),
        rate_card="{}",
        paid_for_s=300,
        hold_s=3_600,
    )


def charge(lease: str, dimension: str, amount: int) -> Charge:
    return Charge(account="acct", lease=lease, dimension=dimension, quantity=44, amount=amount)


async def funded(store: Store) -> Ledger:
    ledger = Ledger(store)
    await ledger.open_account("ada", account="acct")
    await ledger.grant("acct", USD, key="first")
    return ledger


async def test_every_write_is_told_with_how_it_went(told: Told) -> None:
    """The command's own name, its account, and ok, the refusal's code or error."""
    await funded(told.store)
    with pytest.raises(InsufficientCredits):
        await told.store.write(reserve("l1", 2 * USD))
    with pytest.raises(NotAuthorized):
        await told.store.write(PutThenRefuse(app("a")))
    with pytest.raises(LookupError):
        await told.store.write(Do(lambda view: view.get(BotTally, "never read")))

    assert [
        ("OpenAccount", "acct", "ok"),
        ("Grant", "acct", "ok"),
        ("Reserve", "acct", "insufficient_credits"),
        ("PutThenRefuse", "", "not_authorized"),
        ("Do", "", "error"),
    ] == told.writes


async def test_an_answer_in_the_form_of_an_exception_is_no_error(told: Told) -> None:
    """A call that is repeated with its key fails no dashboard."""

    def repeat(_: View) -> None:
        raise Replay("bot")

    with pytest.raises(Replay):
        await told.store.write(Do(repeat))

    assert [("Do", "", "replayed")] == told.writes


async def test_the_last_write_of_a_job_has_its_commands_name(told: Told) -> None:
    """Whether a command ends a job with it is nothing that an operator counts."""
    waiting = job("j", due_ms=0)
    await told.store.write(LastWrite(job=waiting, command=Put(app("a")), due_ms=lambda _: None))
    await told.store.write(FinishJob(job=waiting, due_ms=None))

    assert ["Put", "FinishJob"] == [command for command, _, _ in told.writes]


async def test_a_caller_that_leaves_is_told_of_as_such(told: Told) -> None:
    """What became of its write nobody knows yet."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(told.store.write, Put(app("a")))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()

    assert [("Put", "", "cancelled")] == told.writes


async def test_a_crowd_is_told_as_one_batch(told: Told) -> None:
    """One record for a transaction, with how many shared it; the ones before it went alone."""
    await funded(told.store)
    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(told.store.write, Put(app(f"a{n}")))

    sizes = [batch.commands for batch in told.batches]
    assert (22, [1, 1]) == (sum(sizes), sizes[:2])
    assert len(sizes) < 22
    assert {"main", "quick"} >= {batch.lane for batch in told.batches}
    assert all(batch.took_s > 0 for batch in told.batches)


async def test_what_is_charged_is_what_the_journal_says(told: Told) -> None:
    """A charge is counted when it is committed, once: neither a repeat nor a refusal counts, nor does a hold."""
    ledger = await funded(told.store)
    await told.store.write(reserve("l1", 100))
    await told.store.write(charge("l1", "recording", 70))
    await told.store.write(charge("l1", "recording", 70))
    await told.store.write(charge("l1", "transcription", 50))
    with pytest.raises(Exception, match="lease"):
        await told.store.write(charge("l2", "recording", 1))

    journal = [entry for entry in await ledger.entries("acct") if entry.kind == "charge"]
    assert [{"meetings": 70}, {"meetings": 50}] == [b.charged_nano_usd for b in told.batches if b.charged_nano_usd]
    assert 120 == -sum(entry.allowance + entry.credits for entry in journal)


async def test_a_cost_that_grows_is_told_by_what_is_added(told: Told) -> None:
    """The provider's record is read again and again; its cost is one."""
    cost = ProviderCost(id="l1", account="", provider="acme", seconds=10, amount=1_000, at_ms=1)
    await told.store.write(Put(cost))
    await told.store.write(Put(cost._replace(seconds=25, amount=2_500)))

    assert [{"acme": 1_000}, {"acme": 1_500}] == [batch.provider_cost_nano_usd for batch in told.batches]


async def test_what_waits_is_counted(store: Store) -> None:
    """The queue is what no transaction has taken yet: all that came at once, and none when all is done."""
    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(store.write, Put(app(f"a{n}")))
        await anyio.lowlevel.checkpoint()
        waiting = store.waiting()

    assert (5, 0) == (waiting, store.waiting())


async def test_a_watched_store_is_the_store(told: Told, store: Store) -> None:
    """Whatever else is asked of it, it answers itself; when it closes, a write is refused and told as such."""
    await told.store.write(Put(app("a")))
    read = await told.store.read(queries.apps())
    await told.store.aclose()
    with pytest.raises(Overloaded):
        await told.store.write(Put(app("b")))

    assert ["a"] == [row.id for row in read]
    assert [("Put", "", "ok"), ("Put", "", "overloaded")] == told.writes
    assert store.now_ms() == told.store.now_ms()


async def test_nobody_listens_and_nothing_is_made(store: Store) -> None:
    """A store that nobody watches is asked directly."""
    watch = Watch()
    quiet = observed(store, watch)
    await quiet.write(Put(app("a")))
    records: list[Record] = []
    watch.add(records.append)
    await quiet.write(Put(app("b")))

    assert ["Put"] == [record.command for record in records if isinstance(record, WriteRecord)]


async def test_the_totals_are_those_of_all_tenants(store: Store, clock: ManualClock) -> None:
    """Sums over accounts and tallies; counts that stop at their limit."""
    await funded(store)
    await store.write(reserve("l1", 100))
    await store.write(Put(BotTally("acct", "acct", 1, 3), account="acct"))
    await store.write(Put(BotTally("", "", 2, 2)))
    for n in range(4):
        message = Message(f"m{n}", "", "app", f"b{n}", 1, "e", "{}", "queued" if n else "delivered", 0, 1, 0)
        await store.write(Put(message))

    assert (3, 5, 3, 100.0, float(USD)) == await store.read(queries.totals(limit=10))
    assert 2 == (await store.read(queries.totals(limit=2))).messages_queued


async def test_sums_that_no_integer_holds_are_told(store: Store, engine: Engine, tmp_path: Path) -> None:
    """Accounts with the largest amount there is break no scrape."""
    ledger = Ledger(store)
    for n in range(10):
        await ledger.open_account("rich", account=f"rich{n}")
    await anyio.to_thread.run_sync(engine.execute, tmp_path, f"update account set credits = {10**18} where id <> ''")

    assert pytest.approx(10**19) == (await store.read(queries.totals(limit=1))).balance_nano_usd


async def test_due_jobs_are_counted_by_kind(store: Store, clock: ManualClock) -> None:
    """Those that wait and are due, with the oldest of each kind; not those to come, nor those being done."""
    now_ms = clock.now_ms()
    due = [job(f"r{n}", kind="read", due_ms=now_ms - 1_000 * n) for n in range(3)]
    other = [job("d", kind="deliver", due_ms=now_ms - 9_000), job("later", kind="deliver", due_ms=now_ms + 1)]
    begun = job("begun", kind="deliver", due_ms=now_ms - 60_000)._replace(claimed_until_ms=now_ms + 60_000)
    for row in (*due, *other, begun):
        await store.write(Put(row))

    found = await store.read(queries.due_jobs(now_ms, limit=10))
    assert [("deliver", 1, now_ms - 9_000), ("read", 3, now_ms - 2_000)] == sorted(found)
    assert 2 == sum(row.jobs for row in await store.read(queries.due_jobs(now_ms, limit=2)))
