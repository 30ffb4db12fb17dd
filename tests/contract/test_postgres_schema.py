"""Opening a PostgreSQL database: made, brought up to date, or refused with one clear line; old hosts go on beside."""

import asyncio
from pathlib import Path

import pytest
from tests.contract.commands import Add, Put, app, job
from tests.contract.engines import postgres_execute
from tests.postgres import server

from ctxhost.errors import StoreError
from ctxhost.ledger.commands import OpenAccount
from ctxhost.ledger.ledger import Ledger
from ctxhost.ledger.verify import verify
from ctxhost.store import Store, postgres_schema, queries
from ctxhost.store.migrations import STEPS, Step
from ctxhost.store.open import open_store
from ctxhost.store.rows import App


async def refusal(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        await open_store(url)
    line = str(caught.value)
    assert "\n" not in line
    return line


async def test_each_step_is_recorded_once() -> None:
    """Hosts that open an empty database at the same moment share one schema."""
    fresh = server().create("ctxhost_fresh")
    try:
        stores = await asyncio.gather(*[open_store(fresh) for _ in range(4)])
        await Ledger(stores[0]).open_account("me", account="acct")
        assert ["acct"] == [account.id for account in await Ledger(stores[1]).accounts()]
        for store in stores:
            await store.aclose()
        recorded = server().execute("select name from ctxhost_migration order by name", database="ctxhost_fresh")
        assert [(step.name,) for step in STEPS] == recorded
    finally:
        server().drop("ctxhost_fresh")


async def test_a_newer_database_is_refused(url: str, tmp_path: Path) -> None:
    """A step that this version does not know stops it before it writes anything."""
    postgres_execute(tmp_path, "insert into ctxhost_migration values ('9999_later', now())")

    line = await refusal(url)
    assert "newer" in line
    assert "9999_later" in line


async def test_a_database_of_another_program_is_left_alone() -> None:
    """One of our names without our record: it is somebody else's."""
    theirs = server().create("ctxhost_theirs")
    try:
        server().execute("create table account (id text)", database="ctxhost_theirs")
        assert "another program" in await refusal(theirs)
        tables = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        assert [("account",)] == server().execute(tables, database="ctxhost_theirs")
    finally:
        server().drop("ctxhost_theirs")


@pytest.mark.parametrize("url_of", ["postgresql://nobody@/none?host=/nowhere", "postgresql://:x@127.0.0.1:1/x"])
async def test_a_server_that_is_not_there_is_told(url_of: str) -> None:
    """The host does not start, and says why in a line."""
    assert "cannot be used" in await refusal(url_of)


async def test_text_in_another_encoding_is_refused() -> None:
    """A database that could not keep everybody's text is not begun."""
    server().execute("create database ctxhost_ascii template template0 encoding 'SQL_ASCII'")
    try:
        assert "UTF8" in await refusal(server().url("ctxhost_ascii"))
    finally:
        server().drop("ctxhost_ascii")


async def test_a_step_that_fails_leaves_nothing_behind(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a step or nothing: afterwards the mended step can be applied."""
    broken = Step("0002_broken", ("create table fresh (id {text})", "create table fresh (id {text})"))
    monkeypatch.setattr(postgres_schema, "STEPS", (*STEPS, broken))
    assert "fresh" in await refusal(url)

    monkeypatch.setattr(postgres_schema, "STEPS", (*STEPS, Step("0002_broken", ("create table fresh (id {text})",))))
    await (await open_store(url)).aclose()
    assert 0 == postgres_execute(tmp_path, "select * from fresh")


async def test_an_older_host_goes_on_while_a_newer_one_migrates(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step only adds: the statements of the version before, prepared ones too, run on as if nothing had happened."""
    older = await open_store(url)
    await use_everything(older, "before")
    added = tuple(
        f"alter table {table} add column later {{int}} not null default 7" for table in ("account", "app", "job")
    )
    step = Step("0002_later", (*added, "create index app_later on app (later)"))
    monkeypatch.setattr(postgres_schema, "STEPS", (*STEPS, step))
    newer = await open_store(url)
    await newer.aclose()

    await use_everything(older, "after")
    assert [] == await verify(older)
    await older.aclose()


async def use_everything(host: Store, name: str) -> None:
    """Insert, update, read, claim."""
    await host.write(OpenAccount(account=name, owner="me"))
    await Ledger(host).grant(name, 5, key="k")
    await host.write(Put(app(f"{name}-app", account=name), account=name))
    assert 3 == await host.write(Add(f"{name}-app", 3, account=name))
    await host.write(Put(job(name, due_ms=0, account=name), account=name))
    jobs, _ = await host.claim(["work"], limit=5, per_lane=5, hold_s=60)
    assert [name] == [claimed.ref for claimed in jobs]
    stored = await host.read(queries.by_id(App, f"{name}-app"))
    assert stored is not None
    assert 3 == stored.created_ms
