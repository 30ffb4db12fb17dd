"""The last command of a run and the end of its job: both, or neither."""

from functools import partial
from typing import Any

import pytest
from tests.contract.commands import Do, Put, PutThenRefuse, app, job

from ctxhost.clock import ManualClock
from ctxhost.errors import NotAuthorized
from ctxhost.jobs import LastWrite, ask, job_key
from ctxhost.store import Store, View, queries
from ctxhost.store.rows import PLATFORM, App, Job


async def claimed(store: Store, clock: ManualClock) -> Job:
    await store.write(Put(job("a", due_ms=clock.now_ms())))
    (found,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=60)
    return found


def ask_again(view: View, clock: ManualClock) -> None:
    ask(view, kind="work", ref="a", account=PLATFORM, lane="lane", due_ms=clock.now_ms())


async def stored(store: Store) -> Job | None:
    return await store.read(queries.by_id(Job, "work/a"))


async def test_the_job_goes_with_the_command(store: Store, clock: ManualClock) -> None:
    """One write does both, and answers what its command answered."""
    run = await claimed(store, clock)

    assert "x" == await store.write(LastWrite(job=run, command=Put(app("x")), due_ms=lambda _: None))
    assert app("x") == await store.read(queries.by_id(App, "x"))
    assert await stored(store) is None


async def test_the_answer_says_when_to_run_again(store: Store, clock: ManualClock) -> None:
    """The time may depend on what the command found."""
    run = await claimed(store, clock)
    command: Any = Do(lambda view: clock.now_ms() + 5_000)
    await store.write(LastWrite(job=run, command=command, due_ms=lambda due_ms: due_ms))

    assert run._replace(due_ms=clock.now_ms() + 5_000, claimed_until_ms=0, attempts=0) == await stored(store)


async def test_a_refused_command_ends_nothing(store: Store, clock: ManualClock) -> None:
    """The run has failed: its job stays, for it to be tried again."""
    run = await claimed(store, clock)
    with pytest.raises(NotAuthorized):
        await store.write(LastWrite(job=run, command=PutThenRefuse(app("x")), due_ms=lambda _: None))

    assert run == await stored(store)


async def test_a_wish_that_came_meanwhile_stays(store: Store, clock: ManualClock) -> None:
    """What was asked for during the run, even by its own last command, is done in another run."""
    run = await claimed(store, clock)
    command = Do(partial(ask_again, clock=clock), keys=(job_key("work", "a"),))
    await store.write(LastWrite(job=run, command=command, due_ms=lambda _: None))

    (again,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=60)
    assert "a" == again.ref
