"""The face of the ledger: what an operator and the rest of the host ask of it."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio

from ctxhost.errors import Overloaded
from ctxhost.ids import new_id
from ctxhost.ledger import rules
from ctxhost.ledger.commands import AccountNotFound, Adjust, Grant, OpenAccount, Refund, Reset, SetTerms, Tick
from ctxhost.store import Command, Store, queries
from ctxhost.store.rows import Account, Entry, Lease

T = TypeVar("T")

SWEEP_LIMIT = 500
LEASES_SHOWN = 100
_NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class Balance:
    """An account as of now: its pools, what is held and what is left, in nano-dollars."""

    account: Account
    open_leases: list[Lease]

    @property
    def balance(self) -> int:
        """What the account owns: allowance and credits, held or not."""
        return self.account.allowance + self.account.credits


class Ledger:
    """Accounts and their journal. Every amount is an integer of nano-dollars."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open_account(
        self, owner: str, *, account: str | None = None, monthly_allowance: int = 0, overdraft: int = 0
    ) -> Account:
        """Make an account for an owner. The same id and terms again answer the same account."""
        return await self._store.write(
            OpenAccount(
                account=account or new_id("acct"),
                owner=owner,
                monthly_allowance=monthly_allowance,
                floor=-overdraft,
            )
        )

    async def set_terms(self, account: str, *, monthly_allowance: int, overdraft: int) -> Account:
        """Change the monthly allowance (from next month on) and how far holds may go into debt."""
        return await self._store.write(SetTerms(account=account, monthly_allowance=monthly_allowance, floor=-overdraft))

    async def grant(self, account: str, amount: int, *, key: str, note: str = "") -> Entry:
        """Top up the credits. The same key and amount again have no second effect.

        Raises:
            AccountNotFound: no such account.
            LedgerConflict: the key was used with another amount or note.
        """
        return await self._store.write(Grant(account=account, key=key, amount=amount, note=note))

    async def adjust(self, account: str, amount: int, *, key: str, note: str) -> Entry:
        """Correct the credits by a signed amount, visibly."""
        return await self._store.write(Adjust(account=account, key=key, amount=amount, note=note))

    async def refund(self, account: str, charge: str, amount: int, *, note: str = "") -> Entry:
        """Return (a part of) a charge to the pools that paid it; once per charge."""
        return await self._store.write(Refund(account=account, charge=charge, amount=amount, note=note))

    async def reset_allowance(self, account: str, *, period: str, amount: int) -> Entry:
        """Set the allowance of the running month (`2026-11`)."""
        return await self._store.write(Reset(account=account, period=period, amount=amount))

    async def balance(self, account: str) -> Balance:
        """The account after everything that the clock has decided. Raises `AccountNotFound`."""
        state = await self._store.read(queries.account_state(account))
        if state is None or not account:
            raise AccountNotFound("There is no such account.")
        now_ms = max(self._store.now_ms(), state.account.clock_ms)
        is_due = state.next_due_ms is not None and state.next_due_ms <= now_ms
        current = state.account
        if is_due or rules.allowance_is_due(current, now_ms):
            current = await self._store.write(Tick(account=account))
        leases = await self._store.read(queries.open_leases(account, limit=LEASES_SHOWN))
        return Balance(current, leases)

    async def entries(self, account: str, *, before_seq: int | None = None, limit: int = 20) -> list[Entry]:
        """The journal, newest first."""
        before = _NEWEST if before_seq is None else before_seq
        return await self._store.read(queries.entries(account, before_seq=before, limit=limit))

    async def usage(self, app: str, purpose: str, *, limit: int = 100) -> list[Entry]:
        """The charges of an app for one kind of work, newest first."""
        return await self._store.read(queries.usage(app, purpose, limit=limit))

    async def accounts(self) -> list[Account]:
        return await self._store.read(queries.accounts())

    async def sweep(self) -> int:
        """Return the holds that the clock has given up. Housekeeping only: every command does it for its account."""
        due = await self._store.read(queries.accounts_due(self._store.now_ms(), limit=SWEEP_LIMIT))
        async with anyio.create_task_group() as together:  # so that they share a transaction
            for account in due:
                together.start_soon(self._tick, account)
        return len(due)

    async def _tick(self, account: str) -> None:
        with suppress(Overloaded):  # the next sweep finds it again
            await self._store.write(Tick(account=account))

    async def write(self, command: Command[T]) -> T:
        """Run any ledger command."""
        return await self._store.write(command)
