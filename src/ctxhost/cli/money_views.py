"""How accounts and their journal are shown: `$0.065` to people, `"0.065000000"` to programs."""

from typing import Any

from ctxhost.cli.output import moment, print_facts
from ctxhost.ledger.ledger import Balance
from ctxhost.money import usd_string, usd_text
from ctxhost.store.rows import Account, Entry

NANO_PLACES = 9


def usd(amount: int, *, as_json: bool) -> str:
    return usd_string(amount, places=NANO_PLACES) if as_json else usd_text(amount)


def account_row(account: Account, *, as_json: bool) -> dict[str, Any]:
    return {
        "account": account.id,
        "owner": account.owner,
        "balance": usd(account.allowance + account.credits, as_json=as_json),
        "held": usd(account.held, as_json=as_json),
        "available": usd(account.available, as_json=as_json),
    }


def balance_facts(balance: Balance, *, as_json: bool) -> dict[str, Any]:
    account = balance.account
    return {
        **account_row(account, as_json=as_json),
        "allowance": usd(account.allowance, as_json=as_json),
        "credits": usd(account.credits, as_json=as_json),
        "monthly_allowance": usd(account.monthly_allowance, as_json=as_json),
        "overdraft": usd(-account.floor, as_json=as_json),
    }


def entry_row(entry: Entry, *, as_json: bool) -> dict[str, Any]:
    return {
        "nr": entry.seq,
        "at": moment(entry.at_ms),
        "kind": entry.kind,
        "allowance": usd(entry.allowance, as_json=as_json),
        "credits": usd(entry.credits, as_json=as_json),
        "dimension": entry.dimension or None,
        "quantity": entry.quantity if entry.kind == "charge" else None,
        "mark": entry.mark or None,
        "note": entry.note or None,
        "id": entry.id,
    }


def print_entry(entry: Entry, key: str | None = None) -> None:
    facts = {
        "kind": entry.kind,
        "account": entry.account,
        "allowance": usd_text(entry.allowance),
        "credits": usd_text(entry.credits),
        "entry": entry.id,
    }
    print_facts(facts if key is None else {**facts, "key": key})
