"""Watching what others do: a job's handler, a provider's adapter."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from ctxhost.observe.records import JobRecord, ProviderRecord
from ctxhost.observe.watch import Watch

T = TypeVar("T")


class _Job(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def due_ms(self) -> int: ...


J = TypeVar("J", bound=_Job)


class _Named(Protocol):
    name: str


P = TypeVar("P", bound=_Named)


def watched_handler(
    handler: Callable[[J], Awaitable[T]], watch: Watch, *, now_ms: Callable[[], int]
) -> Callable[[J], Awaitable[T]]:
    """The same handler of jobs, each run of which is told of."""

    async def run(job: J) -> T:
        if not watch.is_on:
            return await handler(job)
        late_s = max(now_ms() - job.due_ms, 0) / 1_000
        with watch.during("job", job.kind, partial(JobRecord, kind=job.kind, late_s=late_s), is_root=True):
            return await handler(job)

    return run


def watched_provider(provider: P, watch: Watch) -> P:
    """The same adapter, each call of whose coroutines is told of."""
    if not watch.is_on:
        return provider
    names = [name for name in dir(type(provider)) if inspect.iscoroutinefunction(getattr(type(provider), name))]
    # A class with these very methods, so that a check for what the adapter can do finds them.
    kind = type(f"Watched{type(provider).__name__}", (_WatchedProvider,), {name: _watched_call(name) for name in names})
    return cast("P", kind(provider, watch))


class _WatchedProvider:
    """Everything but the coroutines is the adapter's own."""

    def __init__(self, provider: _Named, watch: Watch) -> None:
        self._provider = provider
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def _watched_call(operation: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(self: _WatchedProvider, *args: Any, **more: Any) -> Any:
        name = self._provider.name
        make = partial(ProviderRecord, provider=name, operation=operation)
        with self._watch.during(name, operation, make, kind="client"):
            return await getattr(self._provider, operation)(*args, **more)

    return call
