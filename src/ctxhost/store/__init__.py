"""Load, decide, save: writes are commands, a waiting crowd of them is one transaction.

A command names the rows it needs (`reads`), decides in pure Python (`apply`), and either returns, which keeps what it
put, or raises, which drops it. An engine knows tables and no command.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from ctxhost.observe.records import BatchRecord
from ctxhost.store.rows import Job


class Row(Protocol):
    """A NamedTuple of `rows`."""

    @property
    def id(self) -> str: ...
    @property
    def account(self) -> str: ...


R = TypeVar("R", bound=Row)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Key = tuple[type[Row], str]
"""A table's row type and an id in it."""


class View(Protocol):
    """What a batch has loaded and locked, overlaid with what earlier commands of it have put."""

    @property
    def now_ms(self) -> int:
        """The ledger clock of the command's account: the same for a whole command, never behind the account's last."""
        ...

    def get(self, table: type[R], row_id: str) -> R | None:
        """The row, or None. Raises `LookupError` for a row that `reads` did not name."""
        ...

    def put(self, row: Row) -> None:
        """Insert or replace a row of the command's account. Kept only if `apply` returns.

        Raises `LookupError` for a row that `reads` did not name, or of another account.
        """
        ...

    def append(self, row: Row) -> None:
        """Insert a row whose id is new by construction and was not read. A taken id fails the command."""
        ...

    def delete(self, table: type[R], row_id: str) -> None:
        """Remove the row if it is there."""
        ...

    def due(self, table: type[R], account: str) -> Sequence[R]:
        """The open rows of the account whose due time has come, as they are now. They need not be among the reads."""
        ...


class Command(Protocol[T_co]):
    """A small frozen record of a domain. Pure: no clock, no chance, no IO."""

    @property
    def account(self) -> str:
        """The account whose lock covers every row it writes."""
        ...

    def reads(self) -> Iterable[Key]:
        """Every row it may look at or write."""
        ...

    def apply(self, view: View) -> T_co:
        """Decide and put. Raising leaves no trace."""
        ...


Value = str | int | None

LOOK_AGAIN_MS: Final = 1_000
"""How often a host looks for due jobs without being told of any."""


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """A named read: SQL with `:name` parameters, and how its rows become an answer."""

    sql: str
    shape: Callable[[Sequence[tuple[Any, ...]]], T]
    params: Mapping[str, Value] = field(default_factory=dict)


class Store(Protocol):
    """One database. Closing drains the queue; what did not fit into the drain hears `Overloaded`."""

    async def write(self, command: Command[T]) -> T:
        """Run a command. Returns after the commit is durable.

        Raises:
            Refusal: the command refused; nothing was written.
            Overloaded: the queue is full, or the store is closing; nothing was written.
        """
        ...

    async def read(self, query: Query[T]) -> T:
        """Answer from a committed state."""
        ...

    async def claim(
        self, kinds: Sequence[str], *, limit: int, per_lane: int, hold_s: int
    ) -> tuple[Sequence[Job], int | None]:
        """Take due jobs, no more than `per_lane` at once of a lane, for `hold_s`.

        Returns them with the time from which on there is more to take: already past when more is due than `limit`, else
        when the next one falls due or the next claim ends (None: never).
        """
        ...

    async def recover(self) -> None:
        """Called once by a host before it claims: give back at once the jobs of a host that is known to be dead."""
        ...

    async def prune(self, *, keep_s: Mapping[str, int] | None = None, limit: int = 500) -> int:
        """Delete finished rows that are older than their table keeps them, at most `limit` of each; how many went.

        `keep_s` has seconds by table that go before those of `rows`; each table is a transaction of its own.
        """
        ...

    def on_jobs(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit that put jobs which fall due within `LOOK_AGAIN_MS`.

        A hint: other processes' jobs give none.
        """
        ...

    def on_batch(self, tell: Callable[[BatchRecord], None]) -> None:
        """Call `tell` after each batch that was committed. It must not raise."""
        ...

    def waiting(self) -> int:
        """How many commands wait for a batch."""
        ...

    def now_ms(self) -> int:
        """The clock that decides, as near as it is known without asking."""
        ...

    async def aclose(self, *, drain_s: float = 10) -> None: ...
