"""The account that pays for an app, over HTTP."""

from typing import Any, Final

from starlette.responses import Response

from ctxhost.api import cursor, models
from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.examples import CREDITS, ENTRY
from ctxhost.api.pages import ListPage, parse_page
from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, Operation
from ctxhost.clock import rfc3339
from ctxhost.money import usd_number
from ctxhost.store.rows import Entry, Lease
from ctxhost.tenants.service import SCOPE_AI


async def get(call: HostCall) -> Response:
    found = await call.host.ledger.balance(call.caller.app.account)
    account = found.account
    allowance = {
        "balance_usd": usd_number(account.allowance),
        "monthly_usd": usd_number(account.monthly_allowance),
        "period": account.period,
    }
    told = {
        "balance_usd": usd_number(found.balance),
        "held_usd": usd_number(account.held),
        "available_usd": usd_number(account.available),
        "pools": {"allowance": allowance, "credits": {"balance_usd": usd_number(account.credits)}},
        "open_leases": [_lease(lease) for lease in found.open_leases],
    }
    return json_response(told)


async def entries(call: HostCall) -> Response:
    asked = parse_page(call.query())
    before = cursor.decode(asked.cursor, tuple[int], int)[0] if asked.cursor is not None else None
    found = await call.host.ledger.entries(call.caller.app.account, before_seq=before, limit=asked.limit + 1)
    page = found[: asked.limit]
    next_cursor = cursor.encode((page[-1].seq,)) if len(found) > asked.limit else None
    return json_response({"entries": [_entry(entry) for entry in page], "nextCursor": next_cursor})


def _lease(lease: Lease) -> dict[str, Any]:
    return {
        "id": lease.id,
        "app_id": lease.app,
        "purpose": lease.purpose,
        "held_usd": usd_number(lease.held),
        "dimensions": lease.open.split(",") if lease.open else [],
        "created_at": rfc3339(lease.created_ms),
        "paid_until": rfc3339(lease.paid_until_ms),
        "gives_up_at": rfc3339(lease.give_up_at_ms),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(entry.seq),
        "kind": entry.kind,
        "amount_usd": usd_number(entry.allowance + entry.credits),
        "allowance_usd": usd_number(entry.allowance),
        "credits_usd": usd_number(entry.credits),
        "app_id": entry.app or None,
        "lease_id": entry.lease or None,
        "purpose": entry.purpose or None,
        "dimension": entry.dimension or None,
        "quantity": entry.quantity if entry.dimension else None,
        "mark": entry.mark or None,
        "note": entry.note or None,
        "created_at": rfc3339(entry.at_ms),
    }


OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="GET",
        path="/v1/{app_id}/credits",
        name="getCredits",
        handler=get,
        summary="Read the balance",
        description="One account pays for all apps of an owner. The allowance is drawn first, and is replaced on the"
        " first of each month, UTC.",
        tag="credits",
        answers={200: Answer(description="The account as of now.", model=models.Credits, example=CREDITS)},
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path="/v1/{app_id}/credits/entries",
        name="listEntries",
        handler=entries,
        summary="Read the journal",
        description="Every line that ever changed the balance.",
        tag="credits",
        answers={
            200: Answer(
                description="A page of the journal.",
                model=models.Journal,
                example={"entries": [ENTRY], "nextCursor": None},
            )
        },
        query=ListPage,
        scope=SCOPE_AI,
    ),
]
