"""What every engine promises: one body of tests, run for each name in `engines.ENGINES`."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.contract.commands import Add, Append, Delete, Do, Put, PutMany, PutThenRefuse, app, entry
from tests.contract.engines import Engine

from ctxhost.clock import ManualClock
from ctxhost.errors import NotAuthorized, Overloaded
from ctxhost.ledger.commands import OpenAccount, Reserve, Tick
from ctxhost.store import Store, View, queries
from ctxhost.store.queue import BATCH_LIMIT, QUEUE_LIMIT
from ctxhost.store.rows import PLATFORM, TABLES, Account, App, Entry, Lease, Message


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Answers or errors of calls made in the same instant, so that they share a batch."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def names_of(store: Store) -> set[str]:
    return {row.id for row in await store.read(queries.apps(PLATFORM))}


async def test_what_was_written_is_read(store: Store) -> None:
    """A read that begins after a write was answered sees it."""
    assert "a" == await store.write(Put(app("a", name="first")))

    assert app("a", name="first") == await store.read(queries.by_id(App, "a"))
    assert await store.read(queries.by_id(App, "b")) is None


async def test_a_refused_command_refuses_alone(store: Store) -> None:
    """In one batch, the others commit and nothing of the refused one is left."""
    answers = await together(
        store.write(Put(app("before"))), store.write(PutThenRefuse(app("refused"))), store.write(Put(app("after")))
    )

    assert ["before", "after"] == [answers[0], answers[2]]
    assert isinstance(answers[1], NotAuthorized)
    assert {"before", "after"} == await names_of(store)


async def test_a_bug_in_a_command_is_its_callers_alone(store: Store) -> None:
    """An exception that is no refusal reaches its caller; StopIteration, which a future cannot carry, as another."""

    def stop(_: View) -> None:
        raise StopIteration

    answers = await together(
        store.write(Do(lambda _: 1 // 0)), store.write(Do(stop)), store.write(Put(app("unharmed")))
    )

    assert [ZeroDivisionError, RuntimeError, str] == [type(answer) for answer in answers]


async def test_a_command_sees_what_earlier_ones_of_its_batch_put(store: Store) -> None:
    """A crowd on one row decides one after the other: no update is lost."""
    answers = await together(*[store.write(Add("sum", 1)) for _ in range(40)])

    assert list(range(1, 41)) == sorted(answers)
    row = await store.read(queries.by_id(App, "sum"))
    assert row is not None
    assert 40 == row.created_ms


async def test_a_batch_larger_than_its_limit_is_several(store: Store) -> None:
    """More commands than one batch takes, over many rows, are all written."""
    count = BATCH_LIMIT + 100
    await together(*[store.write(Put(app(f"{n:04}", created_ms=n))) for n in range(count)])

    assert list(range(count)) == [row.created_ms for row in await store.read(queries.apps(PLATFORM))]


async def test_a_row_that_was_not_read_cannot_be_touched(store: Store) -> None:
    """Reads are strict, also when another command of the batch happens to have read the row."""
    for touch in (
        lambda view: view.get(App, "a"),
        lambda view: view.put(app("a")),
        lambda view: view.delete(App, "a"),
    ):
        answers = await together(store.write(Put(app("a"))), store.write(Do(touch)))

        assert isinstance(answers[1], LookupError)


async def test_a_row_of_another_account_cannot_be_written(store: Store) -> None:
    """A command writes under its own account's lock only."""
    for command in (Put(app("a", account="other")), Append(app("a", account="other"))):
        with pytest.raises(LookupError):
            await store.write(command)

    assert set() == await names_of(store)


async def test_an_appended_row_must_be_new(store: Store) -> None:
    """A taken id fails the command that appends it, whether it was taken earlier or in the same batch."""
    await store.write(Append(app("taken", name="first")))
    answers = await together(
        store.write(Append(app("taken", name="second"))),
        store.write(Append(app("new", name="first"))),
        store.write(Append(app("new", name="second"))),
    )

    assert [True, False, True] == [isinstance(answer, Exception) for answer in answers]
    assert {("taken", "first"), ("new", "first")} == {
        (row.id, row.name) for row in await store.read(queries.apps(PLATFORM))
    }


async def test_the_journal_is_never_overwritten(store: Store) -> None:
    """A table that only grows refuses a second version of a row."""
    await store.write(Put(entry("e", seq=1)))
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await store.write(Put(entry("e", seq=2)))

    stored = await store.read(queries.by_id(Entry, "e"))
    assert stored is not None
    assert 1 == stored.seq


async def test_a_deleted_row_is_gone(store: Store) -> None:
    """Deleting what is there removes it, also what the same batch has put; what is not there is no error."""
    await store.write(Put(app("a")))
    await together(
        store.write(Delete((App, "a"))),
        store.write(Put(app("b"))),
        store.write(Delete((App, "b"))),
        store.write(Delete((App, "c"))),
        store.write(Put(app("d"))),
    )

    assert {"d"} == await names_of(store)


@pytest.mark.parametrize("others", [0, 50])
async def test_what_the_database_refuses_is_refused_alone(store: Store, others: int) -> None:
    """A batch with one row that breaks a rule of the schema is run again one by one: only the culprit fails."""
    await store.write(OpenAccount(account="acct", owner="me"))
    broken = Do(
        lambda view: view.put(view.get(Account, "acct")._replace(held=-1)),  # type: ignore[union-attr]
        account="acct",
    )
    answers = await together(
        *[store.write(Put(app(f"a{n}"))) for n in range(others)],
        store.write(broken),
        *[store.write(Put(app(f"b{n}"))) for n in range(others)],
    )

    assert [others] == [n for n, answer in enumerate(answers) if isinstance(answer, Exception)]
    assert 2 * others == len(await names_of(store))


async def test_a_crowd_on_many_accounts(store: Store) -> None:
    """However large batches are divided, each account's commands keep their order, and a refusal is one caller's."""
    accounts = [f"crowd-{n}" for n in range(10)]
    await together(*[store.write(OpenAccount(account=account, owner="me")) for account in accounts])
    adds = [Add(account, 1, account) for _ in range(30) for account in accounts]
    refused = Put(entry("refused", seq=0, account=accounts[0]), accounts[0])
    *totals, refusal = await together(*[store.write(add) for add in adds], store.write(refused))

    assert [n for n in range(1, 31) for _ in accounts] == totals
    assert isinstance(refusal, Exception)
    assert await store.read(queries.by_id(Entry, "refused")) is None


@pytest.mark.parametrize("value", [1.5, "x", None, b"1", 2**63])
async def test_numbers_are_whole_or_refused(store: Store, value: Any) -> None:
    """No column takes another type than its own, alone or in a crowd."""
    bad, good = app("bad", created_ms=value), app("good", created_ms=1)
    for rows in ((bad,), (good, bad)):
        answers = await together(*[store.write(Put(row)) for row in rows])

        assert isinstance(answers[-1], Exception)
    assert {"good"} == await names_of(store)


@pytest.mark.parametrize("text", ["", "\U0001f9ea e\u0301 \u202eabc", "'; drop table app; --", "\\u0041", "x" * 70_000])
@pytest.mark.parametrize("crowd", [1, 3])
async def test_text_comes_back_as_it_went(store: Store, text: str, crowd: int) -> None:
    """Text is stored to the last character, in a batch of one and in a crowd, as a value and as a key."""
    await together(*[store.write(Put(app(f"{n}/{text}", name=text))) for n in range(crowd)])
    again = await together(*[store.write(Add(f"{n}/{text}", 1)) for n in range(crowd)])

    assert [1] * crowd == again
    assert [text] * crowd == [row.name for row in await store.read(queries.apps(PLATFORM))]


async def test_a_nul_is_kept_or_refused_alone(engine: Engine, store: Store) -> None:
    """An engine that cannot store a NUL, in a value or in a key, says so to whoever sent it and to nobody else."""
    rows = [app("a\x00b"), app("good"), app("c", name="a\x00b")]
    answers = await together(*[store.write(Put(row)) for row in rows])

    assert [not engine.keeps_nul, False, not engine.keeps_nul] == [isinstance(answer, Exception) for answer in answers]
    found = [await store.read(queries.by_id(App, row.id)) for row in rows]
    assert (rows if engine.keeps_nul else [None, app("good"), None]) == found


async def test_text_that_is_no_text_fails_alone(store: Store) -> None:
    """A lone surrogate cannot be stored; who sends one harms nobody else."""
    answers = await together(store.write(Put(app("a"))), store.write(Put(app("b", name="\ud800"))))

    assert [False, True] == [isinstance(answer, Exception) for answer in answers]
    assert {"a"} == await names_of(store)


async def test_one_command_writes_many_rows_together(store: Store) -> None:
    """All rows of a command are written, however many they are."""
    await store.write(PutMany(tuple(app(f"{n:03}") for n in range(100))))

    assert 100 == len(await names_of(store))


async def test_an_accounts_clock_never_goes_back(store: Store, clock: ManualClock) -> None:
    """The clock of an account's ledger stands still while the computer's is behind it."""
    opened = await store.write(OpenAccount(account="acct", owner="me"))
    clock.advance(seconds=100)
    ahead = await store.write(Tick(account="acct"))
    clock.advance(seconds=-3_600)
    behind = await store.write(Tick(account="acct"))

    assert opened.clock_ms + 100_000 == ahead.clock_ms == behind.clock_ms


async def test_each_account_has_its_own_clock_in_a_shared_batch(store: Store, clock: ManualClock) -> None:
    """An account that is ahead does not pull another one along."""
    await store.write(OpenAccount(account="ahead", owner="me"))
    clock.advance(seconds=100)
    await store.write(Tick(account="ahead"))
    clock.advance(seconds=-100)
    ahead, fresh = await together(
        store.write(Tick(account="ahead")), store.write(OpenAccount(account="fresh", owner="me"))
    )

    assert 100_000 == ahead.clock_ms - fresh.clock_ms


async def test_rows_that_fall_due_are_loaded_unasked(store: Store, clock: ManualClock) -> None:
    """Every command finds the open rows of its account whose time has come, and no others."""
    await store.write(OpenAccount(account="acct", owner="me", floor=-100))
    for lease, hold_s in (("soon", 10), ("later", 20)):
        await store.write(
            Reserve(
                account="acct",
                app="app",
                lease=lease,
                purpose="meetings",
                amount=1,
                dimensions=("recording",),
                rate_card="{}",
                paid_for_s=5,
                hold_s=hold_s,
            )
        )
    seen = Do(lambda view: [lease.id for lease in view.due(Lease, "acct")], account="acct")

    clock.advance(seconds=9)
    assert [] == await store.write(seen)
    clock.advance(seconds=1)
    assert ["soon"] == await store.write(seen)
    assert [] == await store.write(Do(lambda view: list(view.due(Lease, PLATFORM))))


async def test_two_hosts_on_one_database_lose_no_update(store: Store, other: Store) -> None:
    """Two writers at once end as if one had come after the other."""
    answers = await together(*[host.write(Add("sum", 1)) for _ in range(30) for host in (store, other)])

    assert list(range(1, 61)) == sorted(answers)


async def test_an_account_gets_a_quarter_of_the_queue(store: Store) -> None:
    """A flood of one account is refused beyond its share, and another account is still served."""
    flood = QUEUE_LIMIT // 4 + 10
    answers = await together(
        *[store.write(Add("sum", 1)) for _ in range(flood)],
        store.write(OpenAccount(account="acct", owner="me")),
    )

    assert 10 == sum(isinstance(answer, Overloaded) for answer in answers)
    assert isinstance(answers[-1], Account)
    row = await store.read(queries.by_id(App, "sum"))
    assert row is not None
    assert flood - 10 == row.created_ms


async def test_closing_writes_what_was_queued(engine: Engine, tmp_path: Path, clock: ManualClock) -> None:
    """Writes that were accepted before the store was closed are answered and durable; later ones hear of it."""
    async with engine.open(tmp_path, clock) as store:
        writes = [asyncio.ensure_future(store.write(Put(app(f"a{n}")))) for n in range(BATCH_LIMIT + 5)]
        await asyncio.sleep(0)
        await store.aclose(drain_s=30)

        assert BATCH_LIMIT + 5 == len(await asyncio.gather(*writes))
        for call in (store.write(Put(app("late"))), store.read(queries.jobs()), claim_one(store)):
            with pytest.raises(Overloaded):
                await call
    async with engine.open(tmp_path, clock) as again:
        assert BATCH_LIMIT + 5 == len(await names_of(again))


async def claim_one(store: Store) -> Sequence[object]:
    return (await store.claim(["work"], limit=1, per_lane=1, hold_s=1))[0]


async def test_closing_without_time_tells_the_rest(engine: Engine, tmp_path: Path, clock: ManualClock) -> None:
    """What does not fit into the drain hears that it was not written, and that is true."""
    async with engine.open(tmp_path, clock) as store:
        writes = [asyncio.ensure_future(store.write(Put(app(f"a{n}")))) for n in range(3 * BATCH_LIMIT)]
        await asyncio.sleep(0)
        await store.aclose(drain_s=0)
        answers = await asyncio.gather(*writes, return_exceptions=True)

    told = {answer for answer in answers if isinstance(answer, str)}
    assert all(isinstance(answer, str | Overloaded) for answer in answers)
    assert len(told) < len(answers)
    async with engine.open(tmp_path, clock) as again:
        assert told == await names_of(again)


async def test_every_row_type_has_its_table(engine: Engine, tmp_path: Path, clock: ManualClock) -> None:
    """The migrated schema has exactly the columns of `rows`, with their types, and one of an engine's own."""
    async with engine.open(tmp_path, clock):
        pass

    expected = {table.name: dict(table.row.__annotations__) for table in TABLES}
    expected["job"]["claimed_by"] = int
    found = engine.columns(tmp_path)
    assert expected == {name: dict(found[name]) for name in expected}


async def test_rows_are_kept_as_long_as_promised(store: Store, clock: ManualClock) -> None:
    """Pruning deletes what is finished and older than its table keeps it, in portions, and nothing else."""

    def message(n: int, *, done_ms: int) -> Message:
        return Message(
            id=f"{n}", account=PLATFORM, app="", bot="", rank=0, event="", body="", state="queued", attempts=0,
            created_ms=1, done_ms=done_ms,
        )  # fmt: skip

    now = clock.now_ms()
    month_ms = 30 * 86_400_000
    old = [message(n, done_ms=now - month_ms) for n in range(3)]
    kept = [message(8, done_ms=0), message(9, done_ms=now - month_ms + 1)]
    await store.write(PutMany((*old, *kept, app("for ever", created_ms=1))))

    assert [2, 1, 0] == [await store.prune(limit=2) for _ in range(3)]
    assert ["8", "9"] == await store.read(queries.ids("select id from message order by id"))
    assert {"for ever"} == await names_of(store)
