"""What must outlive the process: the births, the wishes that came, the webhooks that arrived, the secret.

SQLite on disk, everything in memory for reading. A write does not wait for the disk: a killed process loses nothing,
and a power cut may take the last bots with it, as a real provider may lose one.
"""

import base64
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from ctxhost_fake.life import Birth, Life

_SCHEMA = """
create table if not exists life (id text primary key, birth text not null, leave_at_ms integer) strict, without rowid;
create table if not exists erased (id text primary key, at_ms integer not null) strict, without rowid;
create table if not exists arrived (key text primary key) strict, without rowid;
"""
_KEY_BYTES = 32


class State:
    """Opened once, by the process that owns the folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "fake.db")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_SCHEMA)
        rows = self._db.execute("select birth, leave_at_ms, at_ms from life left join erased using (id)").fetchall()
        lives = [Life(_birth_of(birth), leave_at_ms, erased_ms) for birth, leave_at_ms, erased_ms in rows]
        self._lives: dict[str, Life] = {}
        self._of_bot: dict[str, list[str]] = {}
        for life in sorted(lives, key=lambda life: life.birth.born_ms):
            self._keep(life)
        self._arrived = {key for (key,) in self._db.execute("select key from arrived")}

    def lives(self) -> Iterable[Life]:
        """Every life, oldest first."""
        return self._lives.values()

    def life(self, provider_id: str) -> Life | None:
        return self._lives.get(provider_id)

    def of_bot(self, bot: str) -> list[Life]:
        """The lives that were made for one of the host's bots, oldest first."""
        return [self._lives[provider_id] for provider_id in self._of_bot.get(bot, ())]

    def has_arrived(self, key: str) -> bool:
        return key in self._arrived

    def add(self, birth: Birth) -> Life:
        """Keep a birth. The first one of an id stands, and is what is returned."""
        told = json.dumps(asdict(birth), ensure_ascii=False)
        with self._db:
            self._db.execute("insert or ignore into life (id, birth) values (?, ?)", (birth.id, told))
        if birth.id not in self._lives:
            self._keep(Life(birth))
        return self._lives[birth.id]

    def leave(self, provider_id: str, at_ms: int) -> Life:
        """Keep the wish that a bot leaves; the first one stands."""
        with self._db:
            sql = "update life set leave_at_ms = coalesce(leave_at_ms, ?) where id = ?"
            self._db.execute(sql, (at_ms, provider_id))
        life = self._lives[provider_id]
        if life.leave_at_ms is None:
            life = self._lives[provider_id] = replace(life, leave_at_ms=at_ms)
        return life

    def erase(self, provider_id: str, at_ms: int) -> None:
        """Keep the wish that a bot's media are deleted; the first one stands."""
        with self._db:
            self._db.execute("insert or ignore into erased (id, at_ms) values (?, ?)", (provider_id, at_ms))
        life = self._lives[provider_id]
        if life.erased_ms is None:
            self._lives[provider_id] = replace(life, erased_ms=at_ms)

    def mark_arrived(self, keys: Iterable[str]) -> None:
        new = list(keys)
        with self._db:
            self._db.executemany("insert or ignore into arrived (key) values (?)", [(key,) for key in new])
        self._arrived.update(new)

    def close(self) -> None:
        self._db.close()

    def _keep(self, life: Life) -> None:
        self._lives[life.birth.id] = life
        self._of_bot.setdefault(life.birth.bot, []).append(life.birth.id)


def keep_secret(folder: Path) -> str:
    """The `whsec_…` secret of this folder, made at the first call; only the owner of the files can read it."""
    path = folder / "secret"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = "whsec_" + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        _create_whole(path, fresh)
    return path.read_text()


def _create_whole(path: Path, text: str) -> None:
    """Make a file for its owner alone that is never seen half-written."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _birth_of(told: str) -> Birth:
    facts = json.loads(told)
    return Birth(**{**facts, "webhooks": tuple(facts["webhooks"])})
