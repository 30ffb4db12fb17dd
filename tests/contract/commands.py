"""Small commands to try a store with; they know nothing of money."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ctxhost.errors import NotAuthorized
from ctxhost.store import Key, View
from ctxhost.store.rows import PLATFORM, App, Entry, Job


def app(app_id: str, *, account: str = PLATFORM, name: str = "", created_ms: int = 0) -> App:
    return App(id=app_id, account=account, name=name, subdomain="", folder="", created_ms=created_ms)


def entry(entry_id: str, *, seq: int, account: str = PLATFORM) -> Entry:
    return Entry(
        id=entry_id,
        account=account,
        seq=seq,
        kind="grant",
        app="",
        lease="",
        purpose="",
        dimension="",
        quantity=0,
        allowance=0,
        credits=0,
        mark="",
        note="",
        at_ms=0,
    )


def job(ref: str, *, due_ms: int, kind: str = "work", lane: str = "lane", account: str = PLATFORM) -> Job:
    return Job(
        id=f"{kind}/{ref}",
        account=account,
        kind=kind,
        lane=lane,
        ref=ref,
        generation=0,
        due_ms=due_ms,
        claimed_until_ms=0,
        attempts=0,
        created_ms=0,
    )


@dataclass(frozen=True)
class Put:
    """Put a row as it is."""

    row: Any
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [(type(self.row), self.row.id)]

    def apply(self, view: View) -> str:
        view.put(self.row)
        return str(self.row.id)


@dataclass(frozen=True)
class PutMany:
    """Put rows together."""

    rows: tuple[Any, ...]
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [(type(row), row.id) for row in self.rows]

    def apply(self, view: View) -> None:
        for row in self.rows:
            view.put(row)


@dataclass(frozen=True)
class Append:
    """Append a row that was not read."""

    row: Any
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return ()

    def apply(self, view: View) -> None:
        view.append(self.row)


@dataclass(frozen=True)
class Delete:
    key: Key
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [self.key]

    def apply(self, view: View) -> None:
        view.delete(*self.key)


@dataclass(frozen=True)
class Add:
    """Read a number, add to it, write it: what a lost update would spoil."""

    app_id: str
    number: int
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [(App, self.app_id)]

    def apply(self, view: View) -> int:
        row = view.get(App, self.app_id) or app(self.app_id, account=self.account)
        total = row.created_ms + self.number
        view.put(row._replace(created_ms=total))
        return total


@dataclass(frozen=True)
class PutThenRefuse:
    """Change something, then think better of it."""

    row: Any
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return [(type(self.row), self.row.id)]

    def apply(self, view: View) -> None:
        view.put(self.row)
        raise NotAuthorized("thought better of it")


@dataclass(frozen=True)
class Do:
    """Whatever a test wants to try on a view."""

    what: Callable[[View], Any]
    keys: tuple[Key, ...] = ()
    account: str = PLATFORM

    def reads(self) -> Iterable[Key]:
        return self.keys

    def apply(self, view: View) -> Any:
        return self.what(view)
