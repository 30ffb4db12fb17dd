"""The books out of either engine and into either: every row as it was, whole or not at all."""

import random
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.contract.commands import PutMany, app, job
from tests.contract.engines import POSTGRES, SQLITE, Engine
from tests.postgres import server

from ctxhost.clock import ManualClock
from ctxhost.errors import StoreError
from ctxhost.store.backup import Loaded, copy_books, load_books
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.open import open_store
from ctxhost.store.postgres_schema import migrate
from ctxhost.store.rows import TABLES, Account, Attempt, Job
from ctxhost.store.sqlite import prepare

ROWS = 40
MONEY = 10**18
CHOICES: Mapping[tuple[str, str], Sequence[Any]] = {
    ("lease", "state"): ("open", "closed", "released", "expired"),
    ("entry", "kind"): ("grant", "charge", "reset", "adjust", "refund"),
    ("entry", "mark"): ("", "over", "late"),
    ("bot", "status"): ("joining", "waiting_room", "in_call", "recording", "ended", "done", "fatal"),
    ("bot", "spawn"): ("calling", "unknown", "created", "refused", "given_up"),
    ("bot", "recording"): ("mp4", "audio_only", "off"),
    ("message", "state"): ("queued", "delivered", "dead"),
    ("job", "claimed_until_ms"): (0,),
}
"""Columns that take only some values. A claim is not restored."""
MONEY_COLUMNS = {"allowance", "credits", "held", "floor", "monthly_allowance", "reserved", "amount"}
NEVER_NEGATIVE = {"allowance", "held", "monthly_allowance", "reserved", "quantity", "seq", "waiting", "live"}
LETTERS = "abc ä'\"\\,;\t\r\n…𝄞\u2028\x7f\ufeff{}0"


def _text(chance: random.Random) -> str:
    return "".join(chance.choices(LETTERS, k=chance.choice((0, 1, 5, 40))))


def _number(chance: random.Random, column: str) -> int:
    top = MONEY if column in MONEY_COLUMNS else 2**63 - 1
    value = chance.choice((0, 1, top, chance.randrange(top)))
    return value if column in NEVER_NEGATIVE else chance.choice((value, -value))


def random_row(chance: random.Random, table: Any, name: str, number: int) -> Any:
    """A row that the schema takes, with whatever fits into each of its columns."""
    values: dict[str, Any] = {}
    for column, kind in table.__annotations__.items():
        if (name, column) in CHOICES:
            values[column] = chance.choice(CHOICES[name, column])
        else:
            values[column] = _number(chance, column) if kind is int else _text(chance)
    values["id"] = f"{_text(chance)}{number}"
    if name == "account":
        values["floor"] = -abs(values["floor"])
    if name == "lease" and values["state"] != "open":
        values["held"] = 0
    if name == "entry":
        values |= {"seq": number + 1, "allowance": values["allowance"] * chance.choice((1, -1))}
    if name == "app":
        values["subdomain"] = chance.choice(("", f"sub{number}"))
    if name == "bot_tally":
        values["waiting"] = values["live"] // 2
    return table(**values)


def fill(path: Path, seed: int, *, rows: int = ROWS) -> None:
    """A SQLite file with random rows in every table."""
    chance = random.Random(seed)
    prepare(path)
    with closing(sqlite3.connect(path)) as db, db:
        for table in TABLES:
            marks = ", ".join("?" * len(table.row._fields))
            made = [random_row(chance, table.row, table.name, number) for number in range(rows)]
            db.executemany(f"insert into {table.name} ({', '.join(table.row._fields)}) values ({marks})", made)


def content(path: Path) -> dict[str, list[Any]]:
    """Every row of a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        return {
            table.name: db.execute(f"select {', '.join(table.row._fields)} from {table.name} order by id").fetchall()
            for table in TABLES
        }


def place(engine: Engine, folder: Path) -> Path | str:
    """A database of an engine that holds nothing."""
    folder.mkdir(exist_ok=True)
    return engine.database(folder)


def held(database: Path | str, into: Path) -> dict[str, list[Any]]:
    copy_books(database, into)
    return content(into)


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_every_table_survives(tmp_path: Path, seed: int) -> None:
    """From SQLite to PostgreSQL and back, with whatever text and numbers a row can have."""
    fill(tmp_path / "first.db", seed)
    before = content(tmp_path / "first.db")
    copy_books(tmp_path / "first.db", tmp_path / "one")
    try:
        load_books(tmp_path / "one", place(POSTGRES, tmp_path / "pg"))
        copied = copy_books(place(POSTGRES, tmp_path / "pg"), tmp_path / "two")
    finally:
        POSTGRES.discard(tmp_path / "pg")
    load_books(tmp_path / "two", tmp_path / "last.db")

    assert before == content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "last.db")
    assert {table.name: len(before[table.name]) for table in TABLES} == copied.rows
    assert all(len(rows) >= ROWS for rows in before.values())


def test_no_job_is_claimed_in_a_copy_that_was_restored(engine: Engine, tmp_path: Path) -> None:
    """The hosts that had claimed them know nothing of it."""
    prepare(tmp_path / "one")
    row = job("a", due_ms=5)._replace(claimed_until_ms=10**15, attempts=3)
    with closing(sqlite3.connect(tmp_path / "one")) as db, db:
        db.execute(f"insert into job ({', '.join(Job._fields)}) values ({', '.join('?' * len(row))})", row)
        db.execute("update job set claimed_by = 7")
    load_books(tmp_path / "one", place(engine, tmp_path))

    (restored,) = held(place(engine, tmp_path), tmp_path / "two")["job"]
    assert tuple(row._replace(claimed_until_ms=0)) == restored
    assert 1 == engine.execute(tmp_path, "update job set claimed_by = 0 where claimed_by = 0")


def test_what_postgresql_does_not_keep_is_told(tmp_path: Path) -> None:
    """A NUL in a text becomes U+FFFD there, and whoever restores hears where; SQLite keeps it."""
    prepare(tmp_path / "one")
    row = Attempt("a", "", "", "m", "u", 200, "delivered", "x\x00y\x00", 1, 1)
    with closing(sqlite3.connect(tmp_path / "one")) as db, db:
        db.execute(f"insert into attempt ({', '.join(Attempt._fields)}) values ({', '.join('?' * len(row))})", row)
    try:
        loaded = load_books(tmp_path / "one", place(POSTGRES, tmp_path / "pg"))
        (restored,) = held(place(POSTGRES, tmp_path / "pg"), tmp_path / "two")["attempt"]
    finally:
        POSTGRES.discard(tmp_path / "pg")

    assert {"attempt.answer": 1} == loaded.mended
    assert tuple(row._replace(answer="x\ufffdy\ufffd")) == restored
    assert {} == load_books(tmp_path / "one", tmp_path / "last.db").mended
    assert [tuple(row)] == content(tmp_path / "last.db")["attempt"]


def test_a_database_that_holds_something_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Its rows stay as they are."""
    fill(tmp_path / "one", 1, rows=3)
    database = place(engine, tmp_path)
    engine.execute(tmp_path, "select 1") if engine is POSTGRES else prepare(tmp_path / "ctxhost.db")
    engine.execute(tmp_path, "insert into bot_tally (id, account, waiting, live) values ('a', 'a', 1, 1)")

    with pytest.raises(StoreError, match=r"holds something already \(in bot_tally\)"):
        load_books(tmp_path / "one", database)
    rows = held(database, tmp_path / "two")
    assert [("a", "a", 1, 1)] == rows["bot_tally"]
    assert [] == rows["bot"]


def test_a_restore_that_fails_late_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    """When all rows are in and something else goes wrong, none is kept; another try succeeds."""
    fill(tmp_path / "one", 2, rows=5)
    database = place(engine, tmp_path)

    def fail() -> None:
        raise StoreError("the files cannot be moved")

    with pytest.raises(StoreError, match="the files cannot be moved"):
        load_books(tmp_path / "one", database, before_commit=fail)
    assert 1 == sum(map(len, held(database, tmp_path / "two").values()))  # the platform's own account
    load_books(tmp_path / "one", database)
    assert content(tmp_path / "one") == held(database, tmp_path / "three")


def test_rows_that_did_not_arrive_are_noticed(engine: Engine, tmp_path: Path) -> None:
    """What a trigger of the database drops on the way is no restore."""
    fill(tmp_path / "one", 3, rows=2)
    database = place(engine, tmp_path)
    if engine is SQLITE:
        prepare(tmp_path / "ctxhost.db")
        drop = "create trigger eats before insert on history begin select raise(ignore); end"
    else:
        drop = (
            "create function eat() returns trigger language plpgsql as 'begin return null; end';"
            " create trigger eats before insert on history for each row execute function eat()"
        )
    engine.execute(tmp_path, drop)

    with pytest.raises(StoreError, match="Not every row of history arrived"):
        load_books(tmp_path / "one", database)


def test_a_host_that_runs_keeps_a_restore_off(engine: Engine, tmp_path: Path) -> None:
    """What is put beneath a running host would be half its own."""
    fill(tmp_path / "one", 4, rows=2)
    database = place(engine, tmp_path)

    async def beside_a_host() -> Loaded:
        async with engine.open(tmp_path, ManualClock()) as store:
            await store.recover()
            return await anyio.to_thread.run_sync(load_books, tmp_path / "one", database)

    with pytest.raises(StoreError, match="A host runs on"):
        anyio.run(beside_a_host)


def test_a_copy_is_of_one_moment(engine: Engine, tmp_path: Path) -> None:
    """Taken while commands are written without a pause, it has the whole of each or nothing of it."""
    database = place(engine, tmp_path)
    written, stop = threading.Event(), threading.Event()

    async def write() -> None:
        store = await open_store(database)
        number = 0
        while not stop.is_set():
            number += 1
            await store.write(PutMany((app(f"a{number}"), job(f"a{number}", due_ms=1))))
            if number == 20:
                written.set()
        await store.aclose()

    writer = threading.Thread(target=anyio.run, args=(write,))
    writer.start()
    try:
        assert written.wait(30)
        copies = [held(database, tmp_path / f"copy{n}") for n in range(4)]
    finally:
        stop.set()
        writer.join()

    for rows in copies:
        assert len(rows["app"]) >= 20
        assert [row[0] for row in rows["app"]] == [row[0].removeprefix("work/") for row in rows["job"]]
    assert len(copies[0]["app"]) < len(copies[-1]["app"])


def _old_sqlite(folder: Path, steps: Sequence[Step]) -> Path:
    prepare(folder / "old.db", steps=steps)
    return folder / "old.db"


def _old_postgres(folder: Path, steps: Sequence[Step]) -> str:
    url = server().create(f"old_{abs(hash(str(folder)))}")
    anyio.run(lambda: migrate(url, steps=steps))
    return url


OLD: dict[str, Callable[[Path, Sequence[Step]], Path | str]] = {"sqlite": _old_sqlite, "postgres": _old_postgres}


@pytest.mark.parametrize("name", OLD)
def test_an_older_database_is_copied_without_being_changed(tmp_path: Path, name: str) -> None:
    """Before an upgrade, with the new version's command; the copy has the new schema, the database the old one."""
    database = OLD[name](tmp_path, STEPS[:1])

    for n in range(2):
        copied = copy_books(database, tmp_path / f"copy{n}")
        assert [step.name for step in STEPS] == copied.steps
        assert [Account("", "platform", 0, 0, 0, 0, 0, "", 0, 0, 0)] == content(tmp_path / f"copy{n}")["account"]


@pytest.mark.parametrize("name", OLD)
def test_a_newer_database_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """An old command would leave out what it does not know."""
    database = OLD[name](tmp_path, [*STEPS, Step("9999_later", ("create table later (id {int})",))])

    with pytest.raises(StoreError, match="9999_later"):
        copy_books(database, tmp_path / "copy")


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    """By its name, and with nothing made in its place."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as db, db:
        db.execute("create table t (x)")
    (tmp_path / "text.db").write_text("not a database, only text that is long enough to be read as one" * 20)

    for name, said in (("other.db", "is not a database of ctxhost"), ("text.db", "cannot"), ("none.db", "no database")):
        with pytest.raises(StoreError, match=said):
            copy_books(tmp_path / name, tmp_path / f"copy-{name}")
    with pytest.raises(StoreError, match="is not one of ctxhost"):
        copy_books(server().create(f"foreign_{abs(hash(str(tmp_path)))}"), tmp_path / "copy")
    assert not (tmp_path / "none.db").exists()


def test_the_ids_of_the_keys_that_are_needed_are_known(tmp_path: Path) -> None:
    """Of values, and of endpoints with their old secrets."""
    prepare(tmp_path / "one.db")
    with closing(sqlite3.connect(tmp_path / "one.db")) as db, db:
        db.execute("insert into secret values ('s', '', 'a', 'env', 'N', 'v1.k2.xx', 1)")
        db.execute("insert into endpoint (id, account, url, events, secret, old_secret, old_secret_until_ms,"
                   " failing_since_ms, disabled_ms, updated_ms)"
                   " values ('a', '', 'u', '', 'v1.k3.x', 'v1.k1.x', 0, 0, 0, 0)")  # fmt: skip
        db.execute("insert into endpoint (id, account, url, events, secret, old_secret, old_secret_until_ms,"
                   " failing_since_ms, disabled_ms, updated_ms)"
                   " values ('b', '', 'u', '', 'v1.k3.x', '', 0, 0, 0, 0)")  # fmt: skip

    assert ["k1", "k2", "k3"] == copy_books(tmp_path / "one.db", tmp_path / "copy").key_ids
