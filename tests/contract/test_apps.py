"""Two that ask for the same name at the same moment: one has it, the other hears what a later one would."""

import asyncio
from typing import Any

import pytest

from ctxhost.errors import InvalidRequest
from ctxhost.ledger.ledger import Ledger
from ctxhost.store import Store
from ctxhost.store.rows import App
from ctxhost.tenants.secrets import KeyRing, new_key_text
from ctxhost.tenants.service import Tenants


async def both(one: Store, two: Store, **named: Any) -> list[App | BaseException]:
    """Two owners make an app at the same time; neither waits for the other."""
    ring = KeyRing.parse(new_key_text())
    accounts = [(await Ledger(one).open_account(name)).id for name in ("ann", "bob")]
    hosts = zip((one, two), accounts, strict=True)
    asked = [Tenants(store, ring).create_app(account, "Notes", **named) for store, account in hosts]
    return await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize(("field", "named"), [("subdomain", {"subdomain": "notes"}), ("app", {"app": "app_notes"})])
@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_name_that_two_want_at_once(
    store: Store, other: Store, field: str, named: dict[str, str], hosts: int
) -> None:
    """Also when neither could see the other's: a 400 that names the field, whether they met at one host or at two."""
    answers = await both(store, other if hosts == 2 else store, **named)
    made = [answer for answer in answers if isinstance(answer, App)]
    refused = [answer for answer in answers if not isinstance(answer, App)]

    assert [1, 1] == [len(made), len(refused)]
    assert isinstance(refused[0], InvalidRequest)
    assert ([field], "taken") == (refused[0].details[0]["path"], refused[0].details[0]["code"])


async def test_a_failure_of_the_database_is_not_a_name_that_is_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong otherwise is told as what it is."""
    tenants = Tenants(store, KeyRing.parse(new_key_text()))
    account = (await Ledger(store).open_account("ann")).id

    async def fails(command: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(store, "write", fails)
    with pytest.raises(OSError, match="disk full"):
        await tenants.create_app(account, "Notes", subdomain="notes")
