"""A host that closes: what is under way may end, for as long as the operator gives it, and nothing can hold it open."""

from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.requests import Request

from ctxhost.clock import Clock, ManualClock
from ctxhost.functions.context import Context
from ctxhost.host import Host
from ctxhost.settings import Settings
from ctxhost.tenants.secrets import new_key_text

AT_ONCE_S = 5
"""Far less than the drain that is not waited for here."""
LONG_S = 60
OpenHost = Callable[..., Host]


@pytest.fixture
def make_host(tmp_path: Path) -> OpenHost:
    def made(*, drain_s: float = LONG_S, clock: Clock | None = None) -> Host:
        settings = Settings(
            database=tmp_path / "ctxhost.db",
            data_dir=tmp_path / "data",
            encryption_keys=new_key_text(),
            drain_s=drain_s,
        )
        return Host(settings, plugins=[], clock=clock)

    return made


class Work:
    """Something that belongs to the host and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = anyio.Event(), anyio.Event()
        self.has_ended = False

    async def __call__(self) -> None:
        self.begun.set()
        await self.go.wait()
        self.has_ended = True


async def test_work_after_an_answer_ends(make_host: OpenHost) -> None:
    """What a handler gave to `ctx.wait_until` is not cut off by a host that is closed right after the answer."""
    work, host = Work(), make_host()
    told: list[bool] = []

    async def handler(_: Request, ctx: Context) -> str:
        ctx.wait_until(work())
        return "answered"

    async def later() -> None:
        await anyio.wait_all_tasks_blocked()
        told.append(host.is_draining)
        work.go.set()

    async with anyio.create_task_group() as tasks:
        async with host:
            account = await host.ledger.open_account("me")
            app = await host.tenants.create_app(account.id, "notes")
            host.functions.register(app.id, "note", handler, auth="none")
            async with httpx.AsyncClient(transport=httpx.ASGITransport(host.asgi), base_url=host.base_url) as client:
                answer = await client.post(f"/v1/{app.id}/fn/note")
            assert 200 == answer.status_code
            assert not host.is_draining
            tasks.start_soon(later)
        assert work.has_ended

    assert [True] == told


async def test_what_does_not_end_is_cut_off(make_host: OpenHost) -> None:
    """The operator's time is the longest that a host stays."""
    work = Work()
    with anyio.fail_after(AT_ONCE_S):
        async with make_host(drain_s=0.05) as host:
            host.background.start(work)
            await work.begun.wait()

    assert not work.has_ended


async def test_the_time_counts_from_the_first_word_of_it(make_host: OpenHost) -> None:
    """A server that ends before the host takes its time from the same."""
    work = Work()
    with anyio.fail_after(AT_ONCE_S):
        async with make_host(drain_s=0.05) as host:
            host.background.start(work)
            host.start_draining()
            assert host.is_draining
            await anyio.sleep(0.1)
            began_s = anyio.current_time()

        assert anyio.current_time() - began_s < AT_ONCE_S
    assert not work.has_ended


async def test_a_block_that_raised_is_left_at_once(make_host: OpenHost) -> None:
    """The error is the embedding program's, and is not kept from it."""
    work = Work()

    async def hosting() -> None:
        async with make_host() as host:
            host.background.start(work)
            await work.begun.wait()
            raise ValueError("mine")

    with anyio.fail_after(AT_ONCE_S), pytest.raises(ValueError, match="mine"):
        await hosting()

    assert not work.has_ended


@pytest.mark.parametrize("while_draining", [False, True])
async def test_a_cancelled_host_ends_at_once(make_host: OpenHost, while_draining: bool) -> None:
    """In the block, or while it waits for what is under way."""
    work = Work()

    async def hosting() -> None:
        async with make_host() as host:
            host.background.start(work)
            await (work.begun.wait() if while_draining else anyio.sleep_forever())

    with anyio.fail_after(AT_ONCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hosting)
            await work.begun.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    assert not work.has_ended


async def test_a_clock_that_nobody_moves_is_not_waited_for(make_host: OpenHost) -> None:
    """On a clock that is moved by hand, closing takes no time at all."""
    clock, work = ManualClock(), Work()
    with anyio.fail_after(AT_ONCE_S):
        async with make_host(clock=clock) as host:
            host.background.start(lambda: clock.sleep_until(clock.now_ms() + 1))
            host.background.start(work)
            await work.begun.wait()

    assert not work.has_ended
