"""Work that belongs to the host: it outlives whoever asked for it, and ends with the host."""

import anyio
import pytest

from ctxhost.background import Background
from ctxhost.errors import Overloaded, ProviderError


async def test_the_caller_gets_the_answer_or_the_error() -> None:
    """Waiting for the host's work is like doing it."""

    async def works() -> int:
        return 7

    async def fails() -> int:
        raise ProviderError("no")

    async with anyio.create_task_group() as tasks:
        background = Background(tasks)
        assert 7 == await background.finish(works)
        with pytest.raises(ProviderError):
            await background.finish(fails)


async def test_a_caller_that_leaves_cancels_nothing() -> None:
    """A client that hangs up does not stop a spawn half-way."""
    begun, go, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def works() -> None:
        begun.set()
        await go.wait()
        done.set()

    async with anyio.create_task_group() as tasks:
        background = Background(tasks)
        async with anyio.create_task_group() as request:
            request.start_soon(background.finish, works)
            await begun.wait()
            request.cancel_scope.cancel()
        go.set()
        with anyio.fail_after(5):
            await done.wait()


async def test_a_closing_host_says_so() -> None:
    """Who waits for work that the closing host cut off, or asks for more, hears that the host is going."""
    begun = anyio.Event()
    heard: list[str] = []

    async def hangs() -> None:
        begun.set()
        await anyio.sleep_forever()

    async def ask(background: Background) -> None:
        with pytest.raises(Overloaded, match="shutting down"):
            await background.finish(hangs)
        heard.append("cut off")

    async with anyio.create_task_group() as callers, anyio.create_task_group() as tasks:
        background = Background(tasks)
        callers.start_soon(ask, background)
        await begun.wait()
        tasks.cancel_scope.cancel()
    with pytest.raises(Overloaded, match="shutting down"):
        await background.finish(hangs)
    assert ["cut off"] == heard


async def test_idle_waits_for_all_work_and_for_what_that_starts() -> None:
    """A host that closes may wait for the end of what calls have left behind."""
    go, ended = anyio.Event(), list[str]()

    async with anyio.create_task_group() as tasks:
        background = Background(tasks)
        await background.idle()

        async def second() -> None:
            await go.wait()
            ended.append("second")

        async def first() -> None:
            background.start(second)
            ended.append("first")

        async def fails() -> None:
            raise ProviderError("no")

        background.start(first)
        with pytest.raises(ProviderError):
            await background.finish(fails)
        with anyio.move_on_after(0.01) as waits:
            await background.idle()
        assert waits.cancelled_caught
        go.set()
        await background.idle()

    assert ["first", "second"] == ended
