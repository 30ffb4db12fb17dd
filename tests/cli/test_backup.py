"""`ctxhost backup` and `ctxhost restore`: archives, what they refuse, and what a killed one leaves behind."""

import gzip
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Refused
from tests.contract.engines import POSTGRES
from tests.contract.test_backup import content, held

from ctxhost.store.backup import copy_books
from ctxhost.store.sqlite import prepare

MANY = 50_000
WITHIN_S = 60


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    folder = tmp_path / "pg"
    folder.mkdir()
    yield str(POSTGRES.database(folder))
    POSTGRES.discard(folder)


@pytest.fixture
def app(cli: Cli, account: str, tmp_path: Path) -> str:
    """An app with a database, a row in it, and a sealed value."""
    folder = tmp_path / "app"
    (folder / "functions").mkdir(parents=True)
    (folder / "ctxhost.toml").write_text('[app]\nname = "notes"\n')
    (folder / "schema.json").write_text(
        json.dumps({"tables": {"notes": {"columns": {"id": {"type": "text", "primaryKey": True}}}}})
    )
    app = cli.facts("apps", "create", account, "notes", "--folder", str(folder))["app"]
    cli.ok("apps", "env", "set", app, "NAME", "a value")
    (file,) = (tmp_path / "data" / "apps").glob("*.db")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("insert into notes values ('kept')")
    return app


def _names(archive: Path) -> Sequence[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def _empty(cli: Cli, folder: Path) -> dict[str, str]:
    """The environment of a host that has nothing yet."""
    return {**cli.env, "CTXHOST_DATABASE": str(folder / "ctxhost.db"), "CTXHOST_DATA_DIR": str(folder / "data")}


def test_everything_comes_back(cli: Cli, app: str, tmp_path: Path) -> None:
    """Books, apps' databases and plugins' files, with their modes; links and what SQLite keeps beside stay out."""
    data = tmp_path / "data"
    (data / "plugin").mkdir()
    (data / "plugin" / "secret").write_text("whsec_x")
    (data / "plugin" / "secret").chmod(0o600)
    (data / "plugin" / "link").symlink_to("/etc/hostname")
    with closing(sqlite3.connect(data / "plugin" / "state.db")) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("create table t (x)")
        db.execute("insert into t values (7)")
        db.commit()
        shown = cli.ok("backup", str(tmp_path / "b.tar.gz"))  # while somebody has it open
    fresh = tmp_path / "fresh"
    env = _empty(cli, fresh)
    fresh.mkdir()
    restored = cli("restore", str(tmp_path / "b.tar.gz"), **env)

    assert 0 == restored.exit_code, restored.output
    assert "The books are right." in restored.output
    assert 0o600 == (tmp_path / "b.tar.gz").stat().st_mode & 0o777
    names = _names(tmp_path / "b.tar.gz")
    assert ["manifest.json", "books.db"] == names[:2]
    assert ["data/plugin/secret", "data/plugin/state.db"] == names[3:]
    assert "the encryption keys k" in shown
    assert f"the code of {app}: {tmp_path}/app" in shown
    assert content(tmp_path / "ctxhost.db") == content(fresh / "ctxhost.db")
    assert 0o600 == (fresh / "data" / "plugin" / "secret").stat().st_mode & 0o777
    (file,) = (fresh / "data" / "apps").glob("*.db")
    with closing(sqlite3.connect(file)) as db, closing(sqlite3.connect(fresh / "data/plugin/state.db")) as state:
        assert [("kept",)] == db.execute("select id from notes").fetchall()
        assert [(7,)] == state.execute("select x from t").fetchall()
    assert {"apps", "plugin"} == {path.name for path in (fresh / "data").iterdir()}


def test_from_sqlite_to_postgresql_and_back(cli: Cli, app: str, postgres: str, tmp_path: Path) -> None:
    """The same books, by the same two commands."""
    cli.ok("backup", str(tmp_path / "1.tar.gz"))
    first = cli("restore", str(tmp_path / "1.tar.gz"), "--database", postgres, "--data-dir", str(tmp_path / "d1"))
    cli.ok("backup", str(tmp_path / "2.tar.gz"), "--database", postgres, "--data-dir", str(tmp_path / "d1"))
    env = _empty(cli, tmp_path / "last")
    (tmp_path / "last").mkdir()
    second = cli("restore", str(tmp_path / "2.tar.gz"), **env)

    assert (0, 0) == (first.exit_code, second.exit_code), first.output + second.output
    assert content(tmp_path / "ctxhost.db") == held(postgres, tmp_path / "copy")
    assert content(tmp_path / "ctxhost.db") == content(tmp_path / "last" / "ctxhost.db")
    assert "(postgresql)" in second.output


def test_nothing_is_overwritten_unasked(cli: Cli, app: str, refused: Refused, tmp_path: Path) -> None:
    """An archive that is there, a database that holds something, a data folder with files in it."""
    archive = tmp_path / "b.tar.gz"
    cli.ok("backup", str(archive))
    before = archive.read_bytes()

    assert "say --force" in refused("backup", str(archive))
    assert before == archive.read_bytes()
    assert "holds files already" in refused("restore", str(archive))
    assert "holds something already" in refused("restore", str(archive), "--data-dir", str(tmp_path / "other"))
    assert [] == list((tmp_path / "other").iterdir())
    assert "is in the data folder" in refused("backup", str(tmp_path / "data" / "b.tar.gz"))
    assert "There is no folder" in refused("backup", str(tmp_path / "nowhere" / "b.tar.gz"))
    cli.ok("backup", str(archive), "--force")
    assert [] == list(tmp_path.glob(".b.tar.gz*"))


def test_it_says_which_keys_are_missing(cli: Cli, app: str, tmp_path: Path) -> None:
    """A restored host without the old key would not open a single secret."""
    cli.ok("backup", str(tmp_path / "b.tar.gz"))
    env = {**_empty(cli, tmp_path / "fresh"), "CTXHOST_ENCRYPTION_KEYS": "other:" + "QUFB" * 10 + "QUE="}
    (tmp_path / "fresh").mkdir()
    restored = cli("restore", str(tmp_path / "b.tar.gz"), **env)

    assert 0 == restored.exit_code
    assert f"lacks {cli.env['CTXHOST_ENCRYPTION_KEYS'].partition(':')[0]}" in restored.stderr


def test_apps_on_postgresql_are_named_with_their_command(cli: Cli, app: str, tmp_path: Path) -> None:
    """They are not in the archive, and the line to save them shows no password."""
    env = {
        **cli.env,
        "CTXHOST_APPS_DATABASE": "postgresql://admin:pw-of-admin@db.example:5433/postgres?sslmode=require&password=pw-of-admin",
    }
    shown = cli("backup", str(tmp_path / "b.tar.gz"), **env).output

    assert "pg_dumpall --dbname='postgresql://admin@db.example:5433/postgres?sslmode=require' > apps.sql" in shown
    assert "pw-of-admin" not in shown


def test_books_that_do_not_add_up_are_saved_and_told(cli: Cli, app: str, account: str, tmp_path: Path) -> None:
    """A backup of wrong books is better than none; a restore of them is no success."""
    with closing(sqlite3.connect(tmp_path / "ctxhost.db")) as db, db:
        db.execute("update account set credits = 5 where id = ?", (account,))
    saved = cli("backup", str(tmp_path / "b.tar.gz"))
    (tmp_path / "fresh").mkdir()
    restored = cli("restore", str(tmp_path / "b.tar.gz"), **_empty(cli, tmp_path / "fresh"))

    assert (0, 1) == (saved.exit_code, restored.exit_code)
    assert "the credits are 5 but their journal adds up to 0" in saved.stderr
    assert "the credits are 5 but their journal adds up to 0" in restored.stderr


def _repacked(archive: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], *, link: str = "") -> bytes:
    with tarfile.open(archive) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, data in change(files).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if name == link:
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, "/etc/passwd", 0
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _renamed(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The app's database under a name that a hostile archive gives it."""
    old = next(found for found in files if found.startswith("data/apps/"))
    manifest = files["manifest.json"].replace(old.encode(), name.encode())
    return {"manifest.json": manifest, "books.db": files["books.db"], name: files[old]}


def _told(files: dict[str, bytes], **facts: object) -> dict[str, bytes]:
    return {**files, "manifest.json": json.dumps({**json.loads(files["manifest.json"]), **facts}).encode()}


DAMAGES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "cut short": (lambda path: path.read_bytes()[:-2_000], "is not a whole backup"),
    "empty": (lambda _: b"", "is not a"),
    "not gzip": (lambda _: b"text" * 1_000, "is not a whole backup"),
    "another tar": (lambda path: _repacked(path, lambda _: {"a": b"b"}), "is not a backup of ctxhost"),
    "a changed byte": (
        lambda path: _repacked(path, lambda f: {**f, "books.db": f["books.db"][:-1] + b"\xff"}),
        "books.db in the backup is damaged",
    ),
    "a file less": (
        lambda path: _repacked(path, lambda f: {name: data for name, data in f.items() if name != "books.db"}),
        "The backup lacks books.db",
    ),
    "a file more": (lambda path: _repacked(path, lambda f: {**f, "data/x": b""}), "that its manifest does not name"),
    "a path upwards": (
        lambda path: _repacked(path, lambda f: _renamed(f, "data/../../outside.db")),
        "belongs nowhere",
    ),
    "an absolute path": (lambda path: _repacked(path, lambda f: _renamed(f, "/tmp/outside.db")), "belongs nowhere"),
    "a link": (lambda path: _repacked(path, lambda f: f, link="books.db"), "is not a whole backup"),
    "a later form": (lambda path: _repacked(path, lambda f: _told(f, format=2)), "of a newer ctxhost"),
    "a later schema": (lambda path: _repacked(path, lambda f: _told(f, steps=["9999_later"])), "9999_later"),
    "no manifest": (
        lambda path: _repacked(path, lambda f: {"manifest.json": b"{}", "books.db": f["books.db"]}),
        "manifest cannot be read",
    ),
}


def test_a_host_that_was_never_used_may_have_its_books_among_its_files(cli: Cli, app: str, tmp_path: Path) -> None:
    """The data folder that holds nothing but an empty database is one that holds nothing; so is it after a failure."""
    cli.ok("backup", str(tmp_path / "b.tar.gz"))
    data = tmp_path / "fresh"
    data.mkdir()
    prepare(data / "ctxhost.db")
    env = {**cli.env, "CTXHOST_DATABASE": str(data / "ctxhost.db"), "CTXHOST_DATA_DIR": str(data)}
    restored = cli("restore", str(tmp_path / "b.tar.gz"), **env)

    assert 0 == restored.exit_code, restored.output
    assert content(cli.database) == content(data / "ctxhost.db")
    assert list((data / "apps").glob("*.db"))
    assert 1 == cli("restore", str(tmp_path / "b.tar.gz"), **env).exit_code


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_restores_nothing(cli: Cli, app: str, tmp_path: Path, damage: str) -> None:
    """It is refused in one line; the database and the folder stay empty."""
    cli.ok("backup", str(tmp_path / "b.tar.gz"))
    change, said = DAMAGES[damage]
    (tmp_path / "b.tar.gz").write_bytes(change(tmp_path / "b.tar.gz"))
    fresh = tmp_path / "fresh" / "deep"
    fresh.mkdir(parents=True)
    result = cli("restore", str(tmp_path / "b.tar.gz"), **_empty(cli, fresh))

    assert 1 == result.exit_code, result.output
    assert said in result.stderr
    assert 1 == len(result.stderr.splitlines())
    assert [] == [path for path in (tmp_path / "fresh").rglob("*") if path.is_file()]


def _started(cli: Cli, *args: str, **env: str) -> "subprocess.Popen[bytes]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CTXHOST_")}
    command = [sys.executable, "-m", "ctxhost", *args]
    return subprocess.Popen(command, env={**clean, **cli.env, **env}, stdout=subprocess.DEVNULL)


def _kill_when(process: "subprocess.Popen[bytes]", happens: Callable[[], bool]) -> None:
    """SIGKILL it at the moment when something holds, or let it end."""
    end = time.monotonic() + WITHIN_S
    while process.poll() is None and not happens():
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(WITHIN_S)


@pytest.fixture
def large(cli: Cli) -> Path:
    """Books with enough in them to be killed in the middle of."""
    prepare(cli.database)
    with closing(sqlite3.connect(cli.database)) as db, db:
        db.execute(
            "insert into attempt with recursive n (n) as (select 1 union all select n + 1 from n where n < ?)"
            " select 'msg/' || n, '', 'app', 'msg', hex(randomblob(60)), 'ok', hex(randomblob(30)), 200, n, n from n",
            (MANY,),
        )
    return cli.database


BACKUP_MOMENTS = ("*/content", "*/content/books.db", "*/content/manifest.json", "*/archive")


@pytest.mark.parametrize("moment", BACKUP_MOMENTS)
def test_a_killed_backup_leaves_nothing_that_looks_like_one(cli: Cli, large: Path, moment: str) -> None:
    """Under the name that was asked for there is nothing; the next run clears away what lies beside it."""
    target = cli.folder / "b.tar.gz"
    _kill_when(_started(cli, "backup", str(target)), lambda: any(cli.folder.glob(f".b.tar.gz.{moment}")))

    assert not target.exists()
    assert 1 == len(list(cli.folder.glob(".b.tar.gz.*")))
    cli.ok("backup", str(target))
    assert [] == list(cli.folder.glob(".b.tar.gz.*"))
    assert gzip.decompress(target.read_bytes())


@pytest.mark.parametrize("to", ["sqlite", "postgres"])
def test_a_killed_restore_leaves_nothing_half_made(cli: Cli, large: Path, postgres: str, to: str) -> None:
    """Whenever it is killed the database holds nothing, or everything; then the same command succeeds."""
    archive, fresh = cli.folder / "b.tar.gz", cli.folder / "fresh"
    (cli.folder / "data").mkdir()
    (cli.folder / "data" / "file").write_text("kept")
    fresh.mkdir()
    cli.ok("backup", str(archive))
    env = _empty(cli, fresh) | ({"CTXHOST_DATABASE": postgres} if to == "postgres" else {})
    whole, placed = content(large), fresh / "data" / "file"
    unpacked = fresh / "data" / ".ctxhost-restore" / "data" / "file"
    moments = (unpacked.parents[1].exists, unpacked.exists, _after(0.1, unpacked), _after(0.4, unpacked), placed.exists)
    for number, happens in enumerate(moments):
        _kill_when(_started(cli, "restore", str(archive), **env), happens)
        rows = sum(copy_books(env["CTXHOST_DATABASE"], fresh / f"copy{number}").rows.values()) if _is_there(env) else 0
        if rows > 1:
            break  # it had just ended
        placed.unlink(missing_ok=True)  # as it asks for: the files had come, the rows had not
    else:
        assert 0 == cli("restore", str(archive), **env).exit_code
    assert whole == held(env["CTXHOST_DATABASE"], fresh / "last")
    assert "kept" == placed.read_text()


def _after(wait_s: float, path: Path) -> Callable[[], bool]:
    """Some time after a file has come: the rows are on their way then."""
    seen_s: list[float] = []

    def happens() -> bool:
        if not seen_s and path.exists():
            seen_s.append(time.monotonic())
        return bool(seen_s) and time.monotonic() - seen_s[0] > wait_s

    return happens


def _is_there(env: dict[str, str]) -> bool:
    database = env["CTXHOST_DATABASE"]
    if database.startswith("postgresql://"):
        return True
    with closing(sqlite3.connect(database)) as db:
        return bool(db.execute("select 1 from sqlite_schema where name = 'account'").fetchone())
