"""What both ways of copying the books share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ctxhost.errors import StoreError
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.rows import TABLES, Account, Table

Check = Callable[[Mapping[str, int]], None]
"""Called with the rows of each table before they are committed; raises when they must not be."""

UNCLAIMED = "update job set claimed_until_ms = 0 where claimed_until_ms <> 0"
"""The hosts that had claimed jobs know nothing of the copy."""


def counts(ask: Callable[[str], Any]) -> dict[str, int]:
    """The number of rows of each table; `ask` gives the first value of a statement."""
    return {table.name: int(ask(f"select count(*) from {table.name}")) for table in TABLES}  # noqa: S608


def columns_of(table: Table) -> str:
    return ", ".join(table.row._fields)


def known_steps(names: Sequence[str], database: object) -> list[Step]:
    """The steps of these names. Raises `StoreError` for one that this version does not know."""
    known = {step.name: step for step in STEPS}
    for name in names:
        if name not in known:
            raise StoreError(f"{database} was made by a newer ctxhost (it has step {name}); install that version.")
    return [known[name] for name in names]


def refuse_unless_empty(ask: Callable[[str], Any], database: object) -> None:
    """A database that has more than what the first step puts into it holds somebody's books."""
    for table in TABLES:
        where = " where id <> ''" if table.row is Account else ""
        if ask(f"select exists (select 1 from {table.name}{where})"):  # noqa: S608
            raise StoreError(
                f"{database} holds something already (in {table.name}); name an empty database, nothing was changed."
            )
