"""What every command does first: whatever the clock has decided for its account."""

from ctxhost.ledger import rules
from ctxhost.ledger.model import AccountNotFound, LeaseNotFound, allowance_id, new_entry
from ctxhost.store import View
from ctxhost.store.rows import Account, Entry, Lease


def get_account(view: View, account_id: str) -> Account:
    account = view.get(Account, account_id)
    if account is None:
        raise AccountNotFound("There is no such account.")
    return account


def settle_clock(view: View, account_id: str) -> Account:
    """Do first what the clock has decided, so that no answer depends on whether a sweep has run."""
    account = get_account(view, account_id)
    if account.clock_ms == view.now_ms:  # done already: nothing can have fallen due since
        return account
    account = account._replace(clock_ms=view.now_ms)
    view.put(account)
    for lease in view.due(Lease, account_id):
        ended = rules.expire(lease)
        account = rules.follow(account, lease, ended)
        view.put(ended)
        view.put(account)
    if account_id and rules.allowance_is_due(account, view.now_ms):
        return _begin_month(view, account)
    return account


def payer(view: View, account_id: str) -> Account:
    """The account of a tenant, after the clock. The platform's own holds no money."""
    if not account_id:
        raise AccountNotFound("There is no such account.")
    return settle_clock(view, account_id)


def open_lease(view: View, account_id: str, lease_id: str) -> tuple[Account, Lease]:
    """The account and its lease, after the clock. A lease of another account is not there."""
    account = payer(view, account_id)
    lease = view.get(Lease, lease_id)
    if lease is None or lease.account != account_id:
        raise LeaseNotFound("There is no such lease on this account.")
    return account, lease


def _begin_month(view: View, account: Account) -> Account:
    period = rules.period_of(view.now_ms)
    if account.monthly_allowance or account.allowance:
        account, _ = reset_allowance(view, account, period, account.monthly_allowance)
    else:
        account = account._replace(period=period)
        view.put(account)
    return account


def reset_allowance(view: View, account: Account, period: str, amount: int) -> tuple[Account, Entry]:
    """Replace what is left of the allowance; the entry's id is the account's and the period's."""
    change = amount - account.allowance
    account = rules.booked(account._replace(period=period), allowance=change, credits=0)
    entry = new_entry(
        id=allowance_id(account.id, period),
        account=account.id,
        kind="reset",
        seq=account.seq,
        allowance=change,
        quantity=amount,
        note=f"allowance of {period}",
        at_ms=view.now_ms,
    )
    view.put(account)
    view.append(entry)
    return account, entry
