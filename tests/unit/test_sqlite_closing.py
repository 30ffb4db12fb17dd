"""What is left when an SQLite database is closed: one file that holds everything."""

import os
import sqlite3
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from ctxhost.clock import WallClock
from ctxhost.ledger.ledger import Ledger
from ctxhost.store.sqlite import SqliteStore

MEET_S = 0.05
"""How long a connection that closes waits for another that closes at the same time."""


class Watched(sqlite3.Connection):
    """Tells when two of them close at once: then each takes the other for one that goes on."""

    meeting = threading.Barrier(2)
    met = False

    def close(self) -> None:
        with suppress(threading.BrokenBarrierError):
            self.meeting.wait(MEET_S)
            Watched.met = True
        self.meeting.reset()
        super().close()


async def test_one_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies the file of a host that has been stopped has every commit: none is left in the log beside it."""
    monkeypatch.setattr(Watched, "met", False)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    store = SqliteStore(tmp_path / "ctxhost.db", clock=WallClock())
    await Ledger(store).open_account("owner", account="mine")
    await store.aclose()

    assert not Watched.met
    assert ["ctxhost.db"] == os.listdir(tmp_path)
