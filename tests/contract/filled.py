"""Twenty thousand rows in every table, made by the database itself: one big tenant, many small ones, old and new.

Every row is a function of its number, so that two databases filled alike are alike. Three of four rows are the big
tenant's.
"""

from collections.abc import Iterator
from typing import Any

from ctxhost.store.rows import TABLES

ROWS = 20_000
BIG, BIG_APP, BIG_LANE = "acct-0", "app-0", "deliver/app-0"
FULL = 16
"""Jobs of the big tenant's lane that run; the rest of the lane is due and waits."""
BACKLOG, DUE = 1_000, 1_200
"""Deliveries of the big tenant that are due, and jobs of all tenants."""

_OF_BIG = "n % 4 < 3"
_ACCOUNT = f"case when {_OF_BIG} then '{BIG}' else 'acct-' || n end"
_APP = f"case when {_OF_BIG} then '{BIG_APP}' else 'app-' || n end"
_BOT = "'bot-' || (n / 5)"
_AGE_MS = f"({ROWS} - n) * 1000"
_OLD_MS = 40 * 86_400_000
_OLD = f"n < {ROWS // 4}"
"""The quarter that may be deleted."""
_LIVE = "n % 21 = 0"
"""The bots that are in a call, and the leases that are open."""
_DAY_MS = 86_400_000

# By table: column → what it is for the row of number n. Left out, a text is empty and a number 0.
_COLUMNS: dict[str, dict[str, str]] = {
    "account": {
        "id": "'acct-' || n",
        "owner": "'owner-' || n",
        "credits": "1000000000000",
        "held": "1000000",
        "seq": f"{ROWS}",
        "period": ":period",
        "clock_ms": ":now - 60000",
        "created_ms": ":now - n",
    },
    "lease": {
        "id": "'bot-' || n",
        "account": _ACCOUNT,
        "app": _APP,
        "purpose": "'meetings'",
        "state": f"case when {_LIVE} then 'open' else 'closed' end",
        "reserved": "65",
        "held": f"case when {_LIVE} then 65 else 0 end",
        "dimensions": "'recording,transcription'",
        "open": f"case when {_LIVE} then 'recording,transcription' else '' end",
        "rate_card": """'{"recording":600000000,"transcription":180000000}'""",
        "paid_for_s": "300",
        "hold_s": "129600",
        "give_up_at_ms": f":now + case when n % 210 = 0 then - 1 - n else {_DAY_MS} + n end",
        "created_ms": f":now - {_AGE_MS}",
    },
    "entry": {
        "id": "'entry-' || n",
        "account": _ACCOUNT,
        "seq": "n + 1",
        "kind": "case when n % 5 = 0 then 'grant' else 'charge' end",
        "app": _APP,
        "lease": "'bot-' || n",
        "purpose": "case when n % 7 = 0 then 'chat' else 'meetings' end",
        "dimension": "'recording'",
        "at_ms": f":now - {_AGE_MS}",
    },
    "app": {
        "account": f"case when n < 20 then '{BIG}' else 'acct-' || n end",
        "subdomain": "case when n % 2 = 0 then 'sub-' || n else '' end",
        "created_ms": ":now - n",
    },
    "service_key": {"account": f"case when n < 20 then '{BIG}' else 'acct-' || n end", "created_ms": ":now - n"},
    "secret": {
        "account": _ACCOUNT,
        "app": f"case when n < 20 then '{BIG_APP}' else 'app-' || n end",
        "kind": "'env'",
        "name": "'NAME_' || n",
    },
    "bot": {
        "app": _APP,
        "provider": "'fake'",
        "provider_id": "'at-' || n",
        "spawn": "'created'",
        "status": f"case when n % 500 = 0 then 'fatal' when {_LIVE} then 'in_call' else 'done' end",
        "metadata": "'{}'",
        "recording": "'mp4'",
        "created_ms": f":now - {_AGE_MS}",
        "answered_ms": f":now - {_AGE_MS}",
        "completed_ms": f"case when {_LIVE} then 0 else :now - {_AGE_MS} end",
    },
    "bot_tally": {"id": "'acct-' || n", "account": "'acct-' || n", "waiting": "1", "live": "1000"},
    "handle": {"id": "'fake/at-' || n", "bot": "'bot-' || n", "wanted": "1"},
    "history": {"id": f"{_BOT} || '/' || n", "bot": _BOT, "at_ms": f":now - {_AGE_MS}"},
    "inbound_event": {
        "id": "'fake/event-' || n",
        "bot": _BOT,
        "body": "'{}'",
        "received_ms": f":now - case when {_OLD} then {_OLD_MS} else 0 end - n",
    },
    "endpoint": {"id": "'app-' || n", "url": "'https://receiver.example/' || n", "events": "'bot.done'"},
    "message": {
        "app": _APP,
        "bot": _BOT,
        "rank": "n % 5",
        "state": "case when n % 10 = 0 then 'queued' else 'delivered' end",
        "attempts": "2",
        "created_ms": f":now - {_AGE_MS}",
        "done_ms": f"case when n % 10 = 0 then 0 else :now - case when {_OLD} then {_OLD_MS} else 0 end - n end",
    },
    "attempt": {
        "id": "'message-' || (n / 4) || '/' || (1 + n % 4 / 2) || '/' || n",
        "app": _APP,
        "message": "'message-' || (n / 4)",
        "at_ms": f":now - case when {_OLD} then {_OLD_MS} else 0 end + n",
    },
    "answer": {"id": "'app-0/' || n", "created_ms": f":now - case when {_OLD} then {_OLD_MS} else 0 end - n"},
    "job": {
        "id": f"case when n < {BACKLOG} then 'deliver' when n < 3000 then 'read' else 'renew' end || '/bot-' || n",
        "account": f"case when n < {BACKLOG} then '{BIG}' else 'acct-' || n end",
        "kind": f"case when n < {BACKLOG} then 'deliver' when n < 3000 then 'read' else 'renew' end",
        "lane": f"case when n < {BACKLOG} then '{BIG_LANE}' when n < 3000 then 'read/fake' else 'renew/acct-' || n end",
        "ref": "'bot-' || n",
        "due_ms": f":now + case when n < {BACKLOG} then n - 100000 when n < {DUE} then n - 5000 else 3600000 + n end",
        "claimed_until_ms": f"case when n < {FULL} then :now + 60000 else 0 end",
        "attempts": f"case when n < {FULL} then 1 else 0 end",
    },
}


def statements(*, now_ms: int, period: str, numbers: str) -> Iterator[str]:
    """What fills each table. `numbers` is SQL for a relation of numbers: `n` from 0 to `ROWS` - 1."""
    for table in TABLES:
        row: Any = table.row
        columns = [_column(table.name, name, kind) for name, kind in row.__annotations__.items()]
        sql = f"insert into {table.name} ({', '.join(row._fields)}) select {', '.join(columns)} from {numbers}"
        yield sql.replace(":now", str(now_ms)).replace(":period", f"'{period}'")


def _column(table: str, name: str, kind: type) -> str:
    told = _COLUMNS.get(table, {})
    plain = {"id": f"'{table}-' || n" if table != "bot" else "'bot-' || n", "account": _ACCOUNT}
    return told.get(name) or plain.get(name) or ("0" if kind is int else "''")
