"""What need not be kept goes, however much of it there is; what is still needed stays."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from pydantic import ValidationError
from tests.contract.commands import Put, app
from tests.contract.engines import POSTGRES, Engine

from ctxhost.clock import ManualClock
from ctxhost.errors import Overloaded
from ctxhost.retention import Retention
from ctxhost.settings import RetentionSettings
from ctxhost.store import Query, Store

OLD = 3_000
DAY_MS = 86_400_000
NUMBERS = {
    "sqlite": "with recursive n (n) as (select 1 union all select n + 1 from n where n < {count})",
    "postgres": "with n as (select generate_series(1, {count}) as n)",
}
ROWS = {
    "message": "id, account, app, bot, event, body, state, rank, attempts, created_ms, done_ms",
    "attempt": "id, account, app, message, url, outcome, answer, status, took_ms, at_ms",
    "inbound_event": "id, account, provider, bot, kind, body, received_ms",
    "answer": "id, account, request, bot, created_ms",
}
VALUES = {
    "message": "'', 'app', 'bot', 'bot.done', '{{}}', '{state}', 1, 1, {at}, {done}",
    "attempt": "'', 'app', 'm', 'u', 'delivered', '', 200, 1, {at}",
    "inbound_event": "'', 'fake', 'bot', 'kind', '{{}}', {at}",
    "answer": "'', 'r', 'bot', {at}",
}


def _fill(engine: Engine, folder: Path, table: str, *, name: str, count: int, at_ms: int, state: str = "dead") -> None:
    """Rows of one age; a queued message is not done."""
    values = VALUES[table].format(at=at_ms, done=0 if state == "queued" else at_ms, state=state)
    with_numbers = NUMBERS[engine.name].format(count=count)
    select = f"select '{name}-' || n, {values} from n"
    if engine is POSTGRES:
        engine.execute(folder, f"{with_numbers} insert into {table} ({ROWS[table]}) {select}")
    else:
        engine.execute(folder, f"insert into {table} ({ROWS[table]}) {with_numbers} {select}")


Fill = Callable[..., Awaitable[None]]


@pytest.fixture
def fill(engine: Engine, tmp_path: Path, store: Store) -> Fill:
    """Puts many rows of one age into a table of the store."""

    async def into(table: str, **rows: Any) -> None:
        await anyio.to_thread.run_sync(partial(_fill, engine, tmp_path, table, **rows))

    return into


async def _left(store: Store, table: str) -> set[str]:
    """How the ids of what is left begin."""
    rows = await store.read(Query(f"select id from {table}", list))
    return {row[0].rpartition("-")[0] for row in rows}


async def test_it_catches_up_however_much_has_gathered(fill: Fill, store: Store, clock: ManualClock) -> None:
    """Every old row goes in one round, of each table after its own time; a message that is owed never goes."""
    days = {"message": 20, "attempt": 10, "inbound_event": 8, "answer": 1}
    for table, kept in days.items():
        at_ms = clock.now_ms() - kept * DAY_MS
        await fill(table, name="old", count=OLD, at_ms=at_ms)
        await fill(table, name="young", count=3, at_ms=at_ms + 1)
    await fill("message", name="owed", count=3, at_ms=clock.now_ms() - 400 * DAY_MS, state="queued")
    settings = RetentionSettings(message_days=20, attempt_days=10, inbound_event_days=8)
    deleted = await Retention(store, settings, clock).catch_up()

    assert deleted == 4 * OLD
    assert {"young", "owed"} == await _left(store, "message")
    for table in ("attempt", "inbound_event", "answer"):
        assert {"young"} == await _left(store, table)
    clock.advance(seconds=1)
    assert 4 * 3 == await Retention(store, settings, clock).catch_up()
    assert {"owed"} == await _left(store, "message")


async def test_other_writers_go_in_between(fill: Fill, store: Store, clock: ManualClock) -> None:
    """A write that is asked for while much is deleted waits for a page of it at most."""
    at_ms = clock.now_ms() - 31 * DAY_MS
    await fill("attempt", name="old", count=4 * OLD, at_ms=at_ms)
    left: list[int] = []

    async def write() -> None:
        for number in range(3):
            await store.write(Put(app(f"a{number}")))
            left.append(await store.read(Query("select count(*) from attempt", lambda rows: int(rows[0][0]))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await Retention(store, RetentionSettings(), clock).catch_up()
    await Retention(store, RetentionSettings(), clock).catch_up()  # what a writer had locked is left for the next look

    assert left == sorted(left, reverse=True)
    assert left[-1] > 0
    assert set() == await _left(store, "attempt")


@pytest.mark.parametrize("days", [0, 6, -1])
@pytest.mark.parametrize("name", ["message_days", "attempt_days", "inbound_event_days", "bot_days"])
def test_nothing_may_go_before_the_last_retry(name: str, days: int) -> None:
    """Deliveries are retried for more than a day and endpoints are given up after five."""
    with pytest.raises(ValidationError, match="greater than or equal to 7"):
        RetentionSettings.model_validate({name: days})


async def test_a_database_that_is_away_takes_a_line_and_not_a_traceback(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Every 30 seconds of an outage: and when it is back, the work goes on by itself."""
    back = anyio.Event()

    class Away:
        asked = 0

        async def prune(self, **_: object) -> int:
            self.asked += 1
            if self.asked == 1:
                raise Overloaded("The database cannot be reached.")
            back.set()
            return 0

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Retention(cast("Store", Away()), RetentionSettings(), clock).run)
        await anyio.wait_all_tasks_blocked()
        clock.advance(seconds=30)
        with anyio.fail_after(5):
            await back.wait()
        tasks.cancel_scope.cancel()

    (line,) = [record for record in caplog.records if record.name == "ctxhost.retention"]
    assert ("WARNING", None) == (line.levelname, line.exc_info)
