"""What the store tells of its work: each write by a wrapper around it, each batch by a seam in the engines.

The engines know of no observer; a store that nobody watches is asked directly.
"""

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

from ctxhost.observe.records import BatchRecord, WriteRecord
from ctxhost.observe.watch import Watch, outcome_of
from ctxhost.store import Command, Store
from ctxhost.store.batch import Batch
from ctxhost.store.rows import Entry, ProviderCost

T = TypeVar("T")

ToldBatch = Callable[[BatchRecord], None]


def observed(store: Store, watch: Watch) -> Store:
    """The same store, which tells `watch` of every write from the moment on that somebody listens."""
    return cast("Store", _ObservedStore(store, watch))


class _ObservedStore:
    """Everything but `write` is the store's own."""

    def __init__(self, store: Store, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, command: Command[T]) -> Coroutine[Any, Any, T]:
        return self._watched(command) if self._watch.is_on else self._store.write(command)

    async def _watched(self, command: Command[T]) -> T:
        name = type(getattr(command, "command", command)).__name__  # of a job's last write, the command that it carries
        if self._watch.is_traced:
            make = partial(WriteRecord, command=name, account=command.account)
            with self._watch.during("write", name, make):
                return await self._store.write(command)
        # The same, written out: this is the ledger's hot path.
        outcome, started = "ok", time.perf_counter()
        try:
            return await self._store.write(command)
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            took_s = time.perf_counter() - started
            self._watch.tell(WriteRecord(command=name, account=command.account, outcome=outcome, took_s=took_s))


class BatchTeller:
    """Tells of a lane's batches once they are committed. It never fails a batch."""

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._told: list[ToldBatch] = []

    def add(self, told: ToldBatch) -> None:
        self._told.append(told)

    def committed(self, batch: Batch, *, commands: int, started_s: float) -> None:
        """A batch that was begun at `started_s` (of `time.perf_counter`) is committed."""
        if not self._told:
            return
        charged, cost = _money(batch)
        record = BatchRecord(
            commands=commands,
            lane=self._lane,
            took_s=time.perf_counter() - started_s,
            charged_nano_usd=charged,
            provider_cost_nano_usd=cost,
        )
        for tell in self._told:
            tell(record)


def _money(batch: Batch) -> tuple[dict[str, int], dict[str, int]]:
    """What the rows that were saved have charged, by purpose, and will be billed by providers, by name.

    Read from the rows themselves, so that it cannot differ from the books.
    """
    charged: dict[str, int] = {}
    cost: dict[str, int] = {}
    for key, row in batch.changed.items():
        if isinstance(row, Entry) and row.kind == "charge":
            charged[row.purpose] = charged.get(row.purpose, 0) - row.allowance - row.credits
        elif isinstance(row, ProviderCost):
            before = batch.loaded.get(key)
            known = before.amount if isinstance(before, ProviderCost) else 0
            cost[row.provider] = cost.get(row.provider, 0) + row.amount - known
    return charged, cost
