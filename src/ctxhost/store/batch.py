"""One transaction for many commands: the rows that it loads, the decisions on them, and what is to be saved."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from ctxhost.store import Command, Key, R, Row
from ctxhost.store.rows import TABLE_OF, Account


class Outcome(NamedTuple):
    """What one command came to: exactly one of the two counts."""

    value: object
    error: BaseException | None


class Batch:
    """The rows that a batch loaded, overlaid with what its commands put; the `View` of each command in turn."""

    def __init__(self, now_ms: int) -> None:
        self._batch_now_ms = now_ms
        self.latest_ms = now_ms
        """The furthest clock of the batch's accounts: nothing that falls due later can matter to it."""
        self.loaded: dict[Key, Row] = {}
        """What the engine found, as it was."""
        self._rows: dict[Key, Row | None] = {}
        self._due: dict[tuple[type[Row], str], list[Key]] = {}
        self.changed: dict[Key, Row | None] = {}
        """What to save: the last version of each row, None for a deleted one."""
        self._account_id = ""
        self.now_ms = now_ms
        self._mine: dict[Key, Any] = {}  # what the running command may see, as it sees it
        self._puts: dict[Key, Row | None] = {}

    def load(self, table: type[Row], wanted: Iterable[str], found: Iterable[Row]) -> None:
        """Take in the rows that an engine found among those wanted."""
        rows = {(table, row.id): row for row in found}
        self.loaded.update(rows)
        self._rows.update(dict.fromkeys([(table, row_id) for row_id in wanted]))
        self._rows.update(rows)
        if table is Account:
            clocks = [cast("Account", row).clock_ms for row in rows.values()]
            self.latest_ms = max([self.latest_ms, *clocks])

    def load_due(self, table: type[Row], found: Iterable[Row]) -> None:
        """Take in rows that fall due, asked for by nobody."""
        for row in found:
            self.loaded[table, row.id] = self._rows[table, row.id] = row
            self._due.setdefault((table, row.account), []).append((table, row.id))

    def begin(self, account_id: str, keys: Iterable[Key]) -> None:
        """Show the next command its rows. Its clock is the account's last if the computer's went back."""
        account_key = (Account, account_id)
        rows = self._rows
        self._mine = mine = {key: rows[key] for key in keys}
        account = mine[account_key] = cast("Account | None", rows[account_key])
        self._account_id = account_id
        self._puts = {}
        now_ms = self._batch_now_ms
        self.now_ms = now_ms if account is None or account.clock_ms < now_ms else account.clock_ms

    def keep(self) -> None:
        """The command returned: what it put is there for the next one, and will be saved."""
        self._rows.update(self._puts)
        self.changed.update(self._puts)

    def get(self, table: type[R], row_id: str) -> R | None:
        try:
            row: R | None = self._mine[table, row_id]
        except KeyError:
            raise _not_read(table, row_id) from None
        return row

    def put(self, row: Row) -> None:
        key = (type(row), row.id)
        if key not in self._mine:
            raise _not_read(*key)
        if row.account != self._account_id:
            raise LookupError(f"{key[0].__name__} {row.id!r} is of another account than the command")
        self._mine[key] = self._puts[key] = row

    def append(self, row: Row) -> None:
        key = (type(row), row.id)
        if self._rows.get(key) is not None or self._mine.get(key) is not None:
            raise ValueError(f"{key[0].__name__} {row.id!r} is appended but there already")
        self._mine.setdefault(key, None)
        self.put(row)

    def delete(self, table: type[R], row_id: str) -> None:
        if self.get(table, row_id) is not None:
            self._mine[table, row_id] = self._puts[table, row_id] = None

    def due(self, table: type[R], account: str) -> Sequence[R]:
        keys = self._due.get((table, account))
        if keys is None:
            return ()
        for key in keys:
            if key not in self._mine:
                self._mine[key] = self._rows[key]
        column = TABLE_OF[table].due
        rows = [cast("R | None", self._mine[key]) for key in keys]
        return [row for row in rows if row is not None and is_due(row, column, self.now_ms)]


def _not_read(table: type[Row], row_id: str) -> LookupError:
    return LookupError(f"{table.__name__} {row_id!r} is used but not among the command's reads")


def is_due(row: Any, column: str, now_ms: int) -> bool:
    """An open row whose time has come."""
    return bool(row.state == "open" and getattr(row, column) <= now_ms)


def wanted_rows(commands: Sequence[Command[Any]], reads: Sequence[Sequence[Key]]) -> dict[type[Row], dict[str, None]]:
    """What a batch must load, by table; every command's account is among it."""
    wanted: dict[type[Row], dict[str, None]] = {Account: {command.account: None for command in commands}}
    for keys in reads:
        for table, row_id in keys:
            wanted.setdefault(table, {})[row_id] = None
    return wanted


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from a batch: it would look through thousands of rows and find no garbage.

    For a block without `await`. With 256 commands it took a fifth of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def decide(batch: Batch, commands: Sequence[Command[Any]], reads: Sequence[Sequence[Key]]) -> list[Outcome]:
    """Run each command in order on what the ones before it left; a refused one leaves nothing."""
    outcomes = []
    for command, keys in zip(commands, reads, strict=True):
        batch.begin(command.account, keys)
        try:
            value = command.apply(batch)
        except Exception as error:  # noqa: BLE001 - a refusal or a bug: either is that caller's answer alone
            outcomes.append(Outcome(None, error))
        else:
            batch.keep()
            outcomes.append(Outcome(value, None))
    return outcomes
