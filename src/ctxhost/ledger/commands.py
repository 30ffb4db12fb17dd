"""What can be done to an account. Each command names its rows and applies `rules`; a repeat gives the first answer.

A key has one effect: the same key and fields answer as before, the same key with another field is refused naming it.
"""

from ctxhost.ledger.leases import Charge, Extend, Release, Reserve, Trim, Waive
from ctxhost.ledger.model import (
    AccountNotFound,
    LeaseEnded,
    LeaseNotFound,
    Reserved,
    allowance_id,
    charge_id,
    entry_id,
    refund_id,
)
from ctxhost.ledger.pools import Adjust, Grant, OpenAccount, Refund, Reset, SetTerms, Tick
from ctxhost.ledger.settling import get_account, open_lease, settle_clock

__all__ = [
    "AccountNotFound",
    "Adjust",
    "Charge",
    "Extend",
    "Grant",
    "LeaseEnded",
    "LeaseNotFound",
    "OpenAccount",
    "Refund",
    "Release",
    "Reserve",
    "Reserved",
    "Reset",
    "SetTerms",
    "Tick",
    "Trim",
    "Waive",
    "allowance_id",
    "charge_id",
    "entry_id",
    "get_account",
    "open_lease",
    "refund_id",
    "settle_clock",
]
