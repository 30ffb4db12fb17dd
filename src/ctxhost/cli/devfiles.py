"""The files of `ctxhost dev` beside its database: the lock, and the env file to source."""

import contextlib
import fcntl
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ctxhost.cli.stand import StandFolder
from ctxhost.errors import SettingsError


@contextlib.contextmanager
def alone_in(folder: StandFolder) -> Iterator[None]:
    """Keep a second process out of the folder while this one is in it. Raises `SettingsError`."""
    folder.make()
    with folder.lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            raise SettingsError(
                f"Another `ctxhost dev` (process {owner or 'unknown'}) runs in {folder.path}: stop it,"
                " or choose another --dir and --port."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def read_env(path: Path) -> dict[str, str]:
    """The values of an env file; none when there is no such file."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
    return {name: "".join(shlex.split(value)) for name, separator, value in pairs if separator}


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Put an env file in place at once, readable by its owner alone."""
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    with os.fdopen(handle, "w") as file:
        file.write("# Source this: it gives a shell what it needs to call the sandbox.\n" + text)
    os.replace(draft, path)
