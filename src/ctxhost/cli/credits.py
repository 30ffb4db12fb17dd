"""`ctxhost credits`: accounts, what they own, and what changes it. Amounts are US dollars."""

from pathlib import Path

import click

from ctxhost.cli.common import (
    POSITIVE_USD,
    SIGNED_USD,
    USD,
    database_option,
    fresh_key,
    json_option,
    key_option,
    with_ledger,
)
from ctxhost.cli.money_views import account_row, balance_facts, entry_row, print_entry, usd
from ctxhost.cli.output import moment, print_facts, print_json, print_rows
from ctxhost.clock import WallClock, month_of
from ctxhost.errors import LedgerConflict
from ctxhost.ledger.ledger import Balance, Ledger
from ctxhost.ledger.model import checked_name
from ctxhost.money import usd_text
from ctxhost.store.rows import Account, Entry


@click.group("credits")
def credits_group() -> None:
    """Accounts, top-ups and corrections. An account pays for all apps of its owner.

    \b
    Example:
      ctxhost credits open-account "Acme Inc" --account acct_acme
      ctxhost credits grant acct_acme 25 --key invoice-1001
      ctxhost credits show acct_acme
    """


def _account_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else checked_name(value, "an account id")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@credits_group.command("open-account")
@click.argument("owner")
@click.option("--account", callback=_account_id, help="Its id. Left out, one is made and printed.")
@click.option(
    "--monthly-allowance", type=USD, default="0", metavar="USD", help="Given anew on the first of each month."
)
@click.option("--overdraft", type=USD, default="0", metavar="USD", help="How far holds may go into debt.")
@database_option
def open_account(
    owner: str, account: str | None, monthly_allowance: int, overdraft: int, database: Path | str | None
) -> None:
    """Make an account for OWNER. The same id and terms again answer the same account.

    \b
    Example:
      ctxhost credits open-account "Acme Inc" --account acct_acme --monthly-allowance 10
    """
    opened = with_ledger(
        database,
        lambda ledger: ledger.open_account(
            owner, account=account, monthly_allowance=monthly_allowance, overdraft=overdraft
        ),
        create=True,
    )
    print_facts({"account": opened.id, "owner": opened.owner, "available": usd_text(opened.available)})


@credits_group.command("list")
@json_option
@database_option
def list_accounts(as_json: bool, database: Path | str | None) -> None:
    """Every account, oldest first.

    \b
    Example:
      ctxhost credits list --json
    """

    async def balances(ledger: Ledger) -> list[Balance]:
        return [await ledger.balance(account.id) for account in await ledger.accounts()]

    shown = with_ledger(database, balances)
    print_rows(
        [account_row(balance.account, as_json=as_json) for balance in shown],
        as_json=as_json,
        nothing="There is no account yet; make one with `ctxhost credits open-account`.",
        right=("balance", "held", "available"),
    )


@credits_group.command("show")
@click.argument("account")
@json_option
@database_option
def show(account: str, as_json: bool, database: Path | str | None) -> None:
    """What ACCOUNT owns, what is held, and for what.

    \b
    Example:
      ctxhost credits show acct_acme
    """
    balance = with_ledger(database, lambda ledger: ledger.balance(account))
    facts = balance_facts(balance, as_json=as_json)
    leases = [
        {
            "lease": lease.id,
            "app": lease.app,
            "purpose": lease.purpose,
            "held": usd(lease.held, as_json=as_json),
            "paid_until": moment(lease.paid_until_ms),
        }
        for lease in balance.open_leases
    ]
    if as_json:
        print_json({**facts, "open_leases": leases})
        return
    print_facts(facts)
    click.echo()
    print_rows(leases, as_json=False, nothing="Nothing is held.", right=("held",))


@credits_group.command("grant")
@click.argument("account")
@click.argument("amount", type=POSITIVE_USD, metavar="USD")
@key_option
@click.option("--note", default="", help="Kept in the journal.")
@database_option
def grant(account: str, amount: int, key: str | None, note: str, database: Path | str | None) -> None:
    """Top up the credits of ACCOUNT.

    \b
    Example:
      ctxhost credits grant acct_acme 25 --key invoice-1001
    """
    key = fresh_key(key)
    print_entry(with_ledger(database, lambda ledger: ledger.grant(account, amount, key=key, note=note)), key)


@credits_group.command("adjust", context_settings={"ignore_unknown_options": True})
@click.argument("account")
@click.argument("amount", type=SIGNED_USD, metavar="USD")
@key_option
@click.option("--note", required=True, help="Why; kept in the journal.")
@database_option
def adjust(account: str, amount: int, key: str | None, note: str, database: Path | str | None) -> None:
    """Correct the credits of ACCOUNT, up or down.

    \b
    Example:
      ctxhost credits adjust acct_acme -1.50 --note "charged twice by mistake"
    """
    if amount == 0:
        raise click.BadParameter("a correction of nothing is none", param_hint="USD")
    key = fresh_key(key)
    print_entry(with_ledger(database, lambda ledger: ledger.adjust(account, amount, key=key, note=note)), key)


@credits_group.command("refund")
@click.argument("account")
@click.argument("charge")
@click.argument("amount", type=POSITIVE_USD, metavar="USD")
@click.option("--note", default="", help="Kept in the journal.")
@database_option
def refund(account: str, charge: str, amount: int, note: str, database: Path | str | None) -> None:
    """Return CHARGE, or a part of it, to the pools that paid it. A charge is refunded once.

    `ctxhost credits entries` shows the ids of charges.

    \b
    Example:
      ctxhost credits refund acct_acme 0198f2c4-…/recording 0.007333333 --note "bad audio"
    """
    print_entry(with_ledger(database, lambda ledger: ledger.refund(account, charge, amount, note=note)))


@credits_group.command("allowance")
@click.argument("account")
@click.argument("amount", type=USD, metavar="USD")
@click.option("--month", metavar="YYYY-MM", help="The running month, which is also the default.")
@database_option
def allowance(account: str, amount: int, month: str | None, database: Path | str | None) -> None:
    """Set this month's allowance of ACCOUNT, once. `terms` sets that of the months to come.

    \b
    Example:
      ctxhost credits allowance acct_acme 10
    """
    period = month or month_of(WallClock().now_ms())

    async def reset(ledger: Ledger) -> Entry:
        try:
            return await ledger.reset_allowance(account, period=period, amount=amount)
        except LedgerConflict as error:
            raise click.ClickException(
                f"The allowance of {period} is set already, to another amount; correct the account with"
                " `ctxhost credits adjust`."
            ) from error

    print_entry(with_ledger(database, reset))


@credits_group.command("terms")
@click.argument("account")
@click.option("--monthly-allowance", type=USD, metavar="USD", help="Given anew on the first of each month.")
@click.option("--overdraft", type=USD, metavar="USD", help="How far holds may go into debt.")
@database_option
def terms(account: str, monthly_allowance: int | None, overdraft: int | None, database: Path | str | None) -> None:
    """Change the terms of ACCOUNT; what is left out stays.

    \b
    Example:
      ctxhost credits terms acct_acme --monthly-allowance 20 --overdraft 5
    """

    async def change(ledger: Ledger) -> Account:
        now = (await ledger.balance(account)).account
        return await ledger.set_terms(
            account,
            monthly_allowance=now.monthly_allowance if monthly_allowance is None else monthly_allowance,
            overdraft=-now.floor if overdraft is None else overdraft,
        )

    changed = with_ledger(database, change)
    print_facts(
        {
            "account": changed.id,
            "monthly_allowance": usd_text(changed.monthly_allowance),
            "overdraft": usd_text(-changed.floor),
        }
    )


@credits_group.command("entries")
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@click.option("--before", type=click.IntRange(1), metavar="NR", help="Only entries before this number: the next page.")
@json_option
@database_option
def entries(account: str, limit: int, before: int | None, as_json: bool, database: Path | str | None) -> None:
    """The journal of ACCOUNT, newest first.

    \b
    Example:
      ctxhost credits entries acct_acme --limit 50
    """

    async def read(ledger: Ledger) -> list[Entry]:
        await ledger.balance(account)
        return await ledger.entries(account, before_seq=before, limit=limit)

    shown = with_ledger(database, read)
    print_rows(
        [entry_row(entry, as_json=as_json) for entry in shown],
        as_json=as_json,
        nothing="The journal is empty." if before is None else "There is nothing before that.",
        right=("nr", "allowance", "credits", "quantity"),
    )
