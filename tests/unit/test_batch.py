"""One batch: what a command may see, and what it leaves."""

from typing import Any

from tests.contract.commands import Add, Do, app

from ctxhost.errors import NotAuthorized
from ctxhost.store.batch import Batch, decide, wanted_rows
from ctxhost.store.rows import PLATFORM, Account, App

ACCOUNT = Account(
    id=PLATFORM, owner="platform", allowance=0, credits=0, held=0, floor=0, monthly_allowance=0, period="", seq=0,
    clock_ms=0, created_ms=0,
)  # fmt: skip


def test_a_command_sees_only_what_it_read() -> None:
    """A row that another command of the batch read is not there for one that did not."""
    seen: list[object] = []
    commands: list[Any] = [Add("a", 1), Do(lambda view: seen.append(view.get(App, "a")))]
    reads = [tuple(command.reads()) for command in commands]
    batch = Batch(1)
    for table, ids in wanted_rows(commands, reads).items():
        batch.load(table, ids, [ACCOUNT] if table is Account else [])
    first, second = decide(batch, commands, reads)

    assert 1 == first.value
    assert isinstance(second.error, LookupError)
    assert [] == seen


def test_a_refusal_leaves_nothing_staged() -> None:
    """Rows that a refused command put, appended or deleted are neither saved nor seen by the next command."""

    def mess(view: Any) -> None:
        view.put(app("a", name="changed"))
        view.append(app("new"))
        view.delete(App, "b")
        raise NotAuthorized("no")

    keys = ((App, "a"), (App, "b"))
    commands = [Do(mess, keys), Do(lambda view: [view.get(*key) for key in keys], keys)]
    reads = [tuple(command.reads()) for command in commands]
    batch = Batch(1)
    for table, ids in wanted_rows(commands, reads).items():
        batch.load(table, ids, [ACCOUNT] if table is Account else [app("a"), app("b")])
    refused, after = decide(batch, commands, reads)

    assert isinstance(refused.error, NotAuthorized)
    assert [app("a"), app("b")] == after.value
    assert {} == batch.changed
