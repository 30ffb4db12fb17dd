"""What a claim may save on, and what it must leave as it was."""

import sqlite3
from pathlib import Path

from ctxhost.store import sqlite_tables
from ctxhost.store.migrations import STEPS
from ctxhost.store.rows import Job

FULL = 2


def test_a_claim_leaves_the_writes_after_it_durable(tmp_path: Path) -> None:
    """Claims alone do without waiting for the disk; on the same connection what is acknowledged next waits again."""
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    for statement in (statement for step in STEPS for statement in step.statements):
        connection.execute(statement.format(int="integer", text="text", strict=" strict"))
    connection.execute("pragma synchronous = full")
    columns = ", ".join(Job._fields)
    connection.execute(f"insert into job ({columns}) values ('k/r', '', 'k', 'l', 'r', 0, 1, 0, 0, 1)")
    asked = {"kinds": '["k"]', "limit": 5, "per_lane": 5, "scan": 80}
    jobs, _ = sqlite_tables.claim(connection, asked, now_ms=10, hold_s=60)
    (level,) = connection.execute("pragma synchronous").fetchone()
    connection.close()

    assert (["k/r"], FULL) == ([job.id for job in jobs], level)
