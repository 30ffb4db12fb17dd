"""`verify` finds each way in which the books can be wrong, and nothing in books that are right."""

import sqlite3
from pathlib import Path

import psycopg
import pytest
from tests.contract.engines import Engine

from ctxhost.clock import ManualClock
from ctxhost.ledger.commands import Charge, Refund, Release, Reserve, Waive
from ctxhost.ledger.ledger import Ledger
from ctxhost.ledger.verify import verify
from ctxhost.store import Store


async def keep_books(store: Store) -> None:
    """An account with every kind of entry, and a lease in every state."""
    ledger = Ledger(store)
    await ledger.open_account("me", account="acct", monthly_allowance=50)
    await ledger.grant("acct", 1_000, key="k")
    await ledger.adjust("acct", -1, key="a", note="seconds")
    for lease in ("open", "closed", "released"):
        await store.write(
            Reserve(
                account="acct",
                app="app",
                lease=lease,
                purpose="meetings",
                amount=60,
                dimensions=("recording", "transcription"),
                rate_card="{}",
                paid_for_s=30,
                hold_s=60,
            )
        )
    for lease in ("open", "closed"):
        await store.write(Charge(account="acct", lease=lease, dimension="recording", quantity=44, amount=40))
    await store.write(Waive(account="acct", lease="closed", dimension="transcription"))
    await store.write(Release(account="acct", lease="released"))
    await store.write(Refund(account="acct", charge="closed/recording", amount=40))


async def test_right_books_have_no_findings(store: Store, clock: ManualClock) -> None:
    """Nothing is found in an empty database, in a busy one, or after its holds were given up."""
    assert [] == await verify(store)
    await keep_books(store)
    assert [] == await verify(store)
    clock.advance(seconds=10**6)
    await Ledger(store).sweep()
    assert [] == await verify(store)


@pytest.mark.parametrize(
    ("forgery", "finding"),
    [
        ("update account set allowance = allowance + 1 where id = 'acct'", "the allowance is 11 but"),
        ("update account set credits = credits - 1 where id = 'acct'", "the credits are "),
        ("update account set held = held + 1 where id = 'acct'", "held is 21 but the open leases hold 20"),
        ("update lease set held = 0 where id = 'open'", "held is 20 but the open leases hold 0"),
        ("update account set seq = seq + 1 where id = 'acct'", "the journal ends at"),
        ("delete from entry where kind = 'grant'", "the credits are "),
        ("update entry set at_ms = at_ms + 100000 where kind = 'grant'", "is later than the account's clock"),
        ("update lease set state = 'open' where id = 'closed'", "is open without a line to charge"),
        ("update lease set open = 'transcription' where id = 'closed'", "has lines left (transcription)"),
        ("update entry set lease = 'elsewhere' where id = 'open/recording'", "charge open/recording belongs to lease"),
        ("update lease set waived = 'recording' where id = 'open'", "charge open/recording is of a line"),
        ("update lease set waived = '' where id = 'closed'", "lease closed has 2 lines, of which 1"),
        ("update entry set id = 'gone/refund' where kind = 'refund'", "refund gone/refund has no charge"),
        ("update entry set allowance = 400 where kind = 'refund'", "or returns more"),
        ("update entry set credits = -5 where kind = 'grant'", "grant acct//k adds -5"),
        ("insert into bot_tally values ('acct', 'acct', 0, 1)", "counted as waiting and live are 0 and 1"),
    ],
)
async def test_a_forgery_is_found(engine: Engine, store: Store, tmp_path: Path, forgery: str, finding: str) -> None:
    """A row that was changed behind the ledger's back is named, with its account."""
    await keep_books(store)
    assert 1 == engine.execute(tmp_path, forgery)

    findings = [found for found in await verify(store) if finding in found.what]
    assert ["acct"] == [found.account for found in findings]


async def test_a_lease_that_holds_after_its_end_cannot_even_be_forged(
    engine: Engine, store: Store, tmp_path: Path
) -> None:
    """The schema itself refuses what the rules forbid."""
    await keep_books(store)
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        engine.execute(tmp_path, "update lease set held = 1 where id = 'closed'")
