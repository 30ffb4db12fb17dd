"""Opening a database file: made, brought up to date, or refused with one clear line."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from tests.contract.commands import Put, app

from ctxhost.clock import ManualClock
from ctxhost.errors import Overloaded, StoreError
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import sqlite
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def make(path: Path) -> None:
    """A database with an account in it."""
    anyio.run(make_here, path)


async def make_here(path: Path) -> None:
    store = SqliteStore(path, clock=ManualClock())
    await Ledger(store).open_account("me", account="acct")
    await store.aclose()


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, clock=ManualClock())
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def test_a_new_file_is_made_and_an_old_one_kept(path: Path) -> None:
    """Opening again finds what was written; each step is recorded once."""
    make(path)
    make(path)

    with closing(sqlite3.connect(path)) as db:
        assert [step.name for step in STEPS] == [name for (name,) in db.execute("select name from _sqlite_migrations")]
        assert ("wal",) == db.execute("pragma journal_mode").fetchone()


def test_a_newer_database_is_refused(path: Path) -> None:
    """A step that this version does not know stops it before it writes anything."""
    make(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at) values ('ctxhost', '9999_later', '')"
        )

    assert "newer" in refusal(path)
    assert "9999_later" in refusal(path)


def test_a_step_that_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a step or nothing: afterwards the file is as it was, and the mended step can be applied."""
    make(path)
    broken = Step("0002_broken", ("create table fresh (id text)", "create table fresh (id text)"))
    mended = Step("0002_broken", ("create table fresh (id text)",))

    monkeypatch.setattr(sqlite, "STEPS", (*STEPS, broken))
    assert "fresh" in refusal(path)
    monkeypatch.setattr(sqlite, "STEPS", (*STEPS, mended))
    make(path)
    with closing(sqlite3.connect(path)) as db:
        assert [] == db.execute("select * from fresh").fetchall()


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A file that is not ours is refused, unchanged."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("create table theirs (id text)")
    before = path.read_bytes()

    assert "another program" in refusal(path)
    assert before == path.read_bytes()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """Text is not a ledger."""
    path.write_text("hello " * 1_000)

    assert "not a database" in refusal(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    """Half a database is not opened, nor is an empty one begun in its place."""
    make(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4096 * 4096])

    assert "malformed" in refusal(path)


def test_a_damaged_page_is_refused(path: Path) -> None:
    """Garbage in a page is found at the start, not in the middle of somebody's call."""
    make(path)
    damaged = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_schema where name = 'account'").fetchone()
    damaged[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(damaged)

    refusal(path)


async def test_a_large_file_is_not_read_whole_at_every_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that was down for an upgrade is back at once; damage is found where it is read."""
    monkeypatch.setattr(sqlite, "CHECKED_BYTES", 4096)
    await make_here(path)
    asked: list[str] = []
    opened = sqlite._open

    def traced(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = opened(path, read_only=read_only)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(sqlite, "_open", traced)
    await SqliteStore(path, clock=ManualClock()).aclose()

    assert asked
    assert not [statement for statement in asked if "quick_check" in statement]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """No folders are made up."""
    assert "unable to open" in refusal(tmp_path / "nowhere" / "ledger.db")


async def test_a_locked_database_is_a_busy_host(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the lock, writes hear when to come again, reads go on, and nothing was written."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.01)
    await make_here(path)
    store = SqliteStore(path, clock=ManualClock())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(Overloaded, match="locked"):
            await store.write(Put(app("a")))
        assert 1 == len(await Ledger(store).accounts())
    assert "a" == await store.write(Put(app("a")))
    await store.aclose()


async def test_a_full_disk_is_a_busy_host(path: Path) -> None:
    """Without room nothing is half written, reads go on, and writing goes on when there is room again."""
    await make_here(path)
    store = SqliteStore(path, clock=ManualClock())
    large = app("large", name="x" * 500_000)
    await store._writer.call(lambda db: db.execute("pragma max_page_count = 1").fetchall())
    with pytest.raises(Overloaded, match="full"):
        await store.write(Put(large))
    assert 1 == len(await Ledger(store).accounts())

    await store._writer.call(lambda db: db.execute("pragma max_page_count = 1000000").fetchall())
    assert "large" == await store.write(Put(large))
    await store.aclose()


async def test_two_hosts_may_begin_together(path: Path) -> None:
    """Two that open a new file one right after the other share one schema."""
    first, second = SqliteStore(path, clock=ManualClock()), SqliteStore(path, clock=ManualClock())
    await Ledger(first).open_account("me", account="acct")

    assert ["acct"] == [account.id for account in await Ledger(second).accounts()]
    await first.aclose()
    await second.aclose()
