"""`ctxhost credits` and `ctxhost ledger`, on a real database."""

import sqlite3
from contextlib import closing

import anyio
import pytest
from tests.cli.conftest import Cli, Refused

from ctxhost.clock import ManualClock
from ctxhost.ledger.commands import Reserve
from ctxhost.store.sqlite import SqliteStore


def test_an_account_is_opened_once(cli: Cli, refused: Refused) -> None:
    """The same id and terms again answer the same account; other terms are refused by name."""
    opening = ("credits", "open-account", "Acme Inc", "--account", "acct_acme")
    first = cli.facts(*opening)

    assert {"account": "acct_acme", "owner": "Acme Inc", "available": "$0.00"} == first
    assert first == cli.facts(*opening)
    assert "Error: This key was used before with another floor." == refused(*opening, "--overdraft", "5")


def test_a_top_up_has_one_effect_per_key(cli: Cli, account: str, refused: Refused) -> None:
    """Repeating a grant with its key changes nothing; the key with another amount is refused."""
    granting = ("credits", "grant", account, "25", "--key", "invoice-1")
    first = cli.ok(*granting)

    assert first == cli.ok(*granting)
    assert "$25.00" == cli.facts("credits", "show", account)["credits"]
    assert "Error: This key was used before with another amount." == refused(
        "credits", "grant", account, "26", "--key", "invoice-1"
    )


def test_a_key_that_is_left_out_is_made_and_printed(cli: Cli, account: str) -> None:
    """So that a write whose answer was lost can be repeated."""
    facts = cli.facts("credits", "grant", account, "1.5")

    assert facts["key"].startswith("cli-")
    cli.ok("credits", "grant", account, "$1.50", "--key", facts["key"])
    assert "$1.50" == cli.facts("credits", "show", account)["balance"]


def test_a_correction_may_be_negative(cli: Cli, account: str) -> None:
    """`adjust` takes an amount below zero without a trick, and wants to know why."""
    cli.ok("credits", "grant", account, "5")
    cli.ok("credits", "adjust", account, "-1.50", "--note", "charged twice")

    assert "$3.50" == cli.facts("credits", "show", account)["available"]
    assert 2 == cli("credits", "adjust", account, "-1.50").exit_code
    assert 2 == cli("credits", "adjust", account, "0", "--note", "nothing").exit_code


@pytest.mark.parametrize("amount", ["0", "-5", "1e3", "five", "0.0000000001", "1000001"])
def test_an_amount_is_a_plain_positive_decimal(cli: Cli, account: str, amount: str) -> None:
    """What is not a sum of dollars is refused before anything is written."""
    assert 2 == cli("credits", "grant", account, amount).exit_code
    assert [] == cli.rows("credits", "entries", account)


def test_the_allowance_of_a_month_is_set_once(cli: Cli, account: str, refused: Refused) -> None:
    """A second amount for the same month is refused with what to do instead."""
    cli.ok("credits", "allowance", account, "10")

    facts = cli.rows("credits", "show", account)
    assert ("10.000000000", "0.000000000") == (facts["allowance"], facts["credits"])
    assert "ctxhost credits adjust" in refused("credits", "allowance", account, "11")
    assert "the one to set" in refused("credits", "allowance", account, "10", "--month", "2020-01")


def test_terms_change_what_is_named(cli: Cli, account: str) -> None:
    """A term that is left out stays as it is."""
    cli.ok("credits", "terms", account, "--monthly-allowance", "20")
    changed = cli.facts("credits", "terms", account, "--overdraft", "5")

    assert {"account": account, "monthly allowance": "$20.00", "overdraft": "$5.00"} == changed
    assert "$5.00" == cli.facts("credits", "show", account)["available"]


def test_the_journal_is_read_in_pages_newest_first(cli: Cli, account: str) -> None:
    """`--before` goes on where a page ended."""
    for amount in ("1", "2", "3"):
        cli.ok("credits", "grant", account, amount, "--key", f"k{amount}", "--note", f"top-up {amount}")

    first = cli.rows("credits", "entries", account, "--limit", "2")
    rest = cli.rows("credits", "entries", account, "--before", str(first[-1]["nr"]))
    assert ["top-up 3", "top-up 2", "top-up 1"] == [row["note"] for row in [*first, *rest]]
    assert ["3.000000000", "2.000000000", "1.000000000"] == [row["credits"] for row in [*first, *rest]]
    assert "top-up 3" in cli.ok("credits", "entries", account)


def test_accounts_are_listed(cli: Cli, account: str) -> None:
    """As a table for people and as JSON for programs; amounts keep every digit."""
    cli.ok("credits", "grant", account, "0.000000001")

    assert [
        {
            "account": account,
            "owner": "Acme Inc",
            "balance": "0.000000001",
            "held": "0.000000000",
            "available": "0.000000001",
        }
    ] == cli.rows("credits", "list")
    assert "$0.000000001" in cli.ok("credits", "list")


@pytest.mark.parametrize(
    "args",
    [
        ["show", "acct_nobody"],
        ["grant", "acct_nobody", "1"],
        ["entries", "acct_nobody"],
        ["terms", "acct_nobody", "--overdraft", "1"],
    ],
    ids=lambda args: args[0],
)
def test_an_unknown_account_is_named_so(account: str, refused: Refused, args: list[str]) -> None:
    """One clear line, and nothing is written."""
    assert "Error: There is no such account." == refused("credits", *args)


def test_a_refund_needs_a_charge(account: str, refused: Refused) -> None:
    """What was not charged cannot be refunded."""
    assert "Error: charge: there is no such charge on this account" == refused(
        "credits", "refund", account, "bot/recording", "1"
    )


def test_a_wrong_path_makes_no_database(cli: Cli, refused: Refused) -> None:
    """Only opening the first account begins a database; a typing mistake does not."""
    told = refused("credits", "list")

    assert f"There is no database at {cli.database}." in told
    assert not cli.database.exists()


def test_a_file_that_is_no_database_is_refused(cli: Cli, refused: Refused) -> None:
    """With one line, and the file stays as it was."""
    cli.database.write_text("Dear diary, this is not a database. " * 40)

    assert "cannot be used as the database" in refused("ledger", "verify")
    assert cli.database.read_text().startswith("Dear diary")


def test_verify_says_that_the_books_are_right(cli: Cli, account: str) -> None:
    """Exit code 0 and one line."""
    cli.ok("credits", "grant", account, "5")

    assert "The books are right.\n" == cli.ok("ledger", "verify")
    assert [] == cli.rows("ledger", "verify")


def test_verify_finds_a_balance_that_was_changed_by_hand(cli: Cli, account: str) -> None:
    """Exit code 1 and the account with what does not add up."""
    cli.ok("credits", "grant", account, "5")
    with closing(sqlite3.connect(cli.database)) as database, database:
        database.execute("update account set credits = credits + 1")
    database.close()
    result = cli("ledger", "verify")

    assert 1 == result.exit_code
    assert account in result.stdout
    assert "journal adds up" in result.stdout


def test_sweep_returns_what_the_clock_has_given_up(cli: Cli, account: str) -> None:
    """A hold whose time is over goes back although no host runs."""
    reserve = Reserve(
        account=account,
        app="app_notes",
        lease="lease-1",
        purpose="meetings",
        amount=7,
        dimensions=("recording",),
        rate_card="{}",
        paid_for_s=1,
        hold_s=1,
    )
    long_ago = ManualClock(1_600_000_000_000)
    cli.ok("credits", "grant", account, "5")
    with closing(sqlite3.connect(cli.database)) as database, database:
        database.execute("update account set clock_ms = 0")
    database.close()

    async def hold() -> None:
        store = SqliteStore(cli.database, clock=long_ago)
        await store.write(reserve)
        await store.aclose()

    anyio.run(hold)

    assert "1 account had holds to return.\n" == cli.ok("ledger", "sweep")
    assert "0 accounts had holds to return.\n" == cli.ok("ledger", "sweep")
    assert "$0.00" == cli.facts("credits", "show", account)["held"]


def test_a_setting_that_is_wrong_is_named_by_its_variable(account: str, refused: Refused) -> None:
    """The operator sees which variable to mend, never a traceback."""
    assert refused("credits", "list", CTXHOST_MEETINGS__MARKUP_PERCENT="twenty").startswith(
        "Error: CTXHOST_MEETINGS__MARKUP_PERCENT: "
    )
    assert '"egress"' in refused("credits", "list", CTXHOST_EGRESS="open")
