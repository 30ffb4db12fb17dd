"""`ctxhost` as a real process, followed by what it prints."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

WITHIN_S = 30
"""Far more than anything here takes; what is awaited longer has failed."""


class Running:
    """A `ctxhost …` that runs until the block is left."""

    def __init__(
        self, *args: str, cwd: Path, env: Mapping[str, str] | None = None, program: Sequence[str] = ()
    ) -> None:
        """`program`: what Python runs in place of `-m ctxhost`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CTXHOST_")}
        self.process = subprocess.Popen(
            [sys.executable, "-u", *(program or ("-m", "ctxhost")), *args],
            cwd=cwd,
            env={**clean, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._seen: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        with contextlib.closing(stream):
            for line in stream:
                self._lines.put(line.rstrip("\n"))

    def line_with(self, text: str) -> str:
        """The next line, of either stream, that has `text` in it."""
        end = time.monotonic() + WITHIN_S
        with contextlib.suppress(queue.Empty):
            while (left_s := end - time.monotonic()) > 0:
                line = self._lines.get(timeout=left_s)
                self._seen.append(line)
                if text in line:
                    return line
        raise AssertionError(f"no line with {text!r} within {WITHIN_S} s in:\n" + "\n".join(self._seen))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(WITHIN_S)
        for reader in self._readers:
            reader.join(WITHIN_S)
        return code

    @property
    def output(self) -> str:
        """Everything that was printed, once it has ended."""
        while not self._lines.empty():
            self._seen.append(self._lines.get())
        return "\n".join(self._seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.ends()
