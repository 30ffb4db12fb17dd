"""Rows in bulk, straight into a host's database: what would take a host hours to come by."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from ctxhost.store.rows import TABLE_OF, Bot

_ROWS_A_STATEMENT = 5_000


def put(database: Path, rows: Iterable[Any]) -> None:
    """Insert rows of one table."""
    left = iter(rows)
    with closing(sqlite3.connect(database, timeout=30)) as db:
        while some := list(islice(left, _ROWS_A_STATEMENT)):
            db.executemany(_insert(type(some[0])), some)
        db.commit()


def _insert(row: Any) -> str:
    return f"insert into {TABLE_OF[row].name} ({', '.join(row._fields)}) values ({', '.join('?' * len(row._fields))})"


def done_bot(bot_id: str, *, account: str, app: str, status: str, created_ms: int) -> Bot:
    """A bot whose life is over."""
    return Bot(
        id=bot_id,
        account=account,
        app=app,
        provider="fake",
        provider_id=f"at-{bot_id}",
        spawn="created",
        spawn_attempt=1,
        status=status,
        status_reason="",
        stop_reason="",
        platform="zoom",
        meeting_url="https://zoom.us/j/1234567890",
        bot_name="Acme Notetaker",
        metadata='{"deal": "4711"}',
        transcript=1,
        recording="mp4",
        automatic_leave='{"waiting_room_timeout_s": 1200}',
        join_at_ms=0,
        created_ms=created_ms,
        answered_ms=created_ms,
        started_ms=created_ms + 9_000,
        ended_ms=created_ms + 53_000,
        completed_ms=created_ms + 67_000,
        duration_s=44,
        recording_id=f"rec-{bot_id}",
        recording_state="done",
        recording_url=f"http://127.0.0.1:9/plugins/fake/{bot_id}/recording.mp4",
        transcript_id=f"tr-{bot_id}",
        transcript_state="done",
        transcript_url=f"http://127.0.0.1:9/plugins/fake/{bot_id}/transcript.json",
        urls_expire_ms=created_ms + 3_600_000,
        low_credit_ms=0,
    )
