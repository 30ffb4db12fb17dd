"""Logs on stderr, for people or for machines; a secret that strays into a line is cut."""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal

import click

from ctxhost.api.middleware import access
from ctxhost.clock import rfc3339
from ctxhost.errors import CtxhostError
from ctxhost.logs import CARRIED, Carried, Redactor, secrets_of

LogFormat = Literal["plain", "json"]

_CALL: Final = ("method", "route", "status", "took_ms")
_CHATTY: Final = ("httpx", "httpcore", "aiohttp", "watchfiles", "asyncio", "uvicorn")
"""Libraries that tell of every request or every look; a URL of theirs may be a signed one."""


def set_up_logs(
    *, level: str = "info", form: LogFormat = "plain", access_log: bool = False, hidden: Iterable[str] = ()
) -> None:
    """Send every log of this process to stderr.

    What the environment keeps secret is shown nowhere, nor is what `hidden` has: secrets, or URLs with a password.
    """
    redact = Redactor([*secrets_of(os.environ), *hidden])
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Carried())
    handler.setFormatter(_Json(redact) if form == "json" else _Plain(redact))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    access.setLevel(logging.INFO if access_log else logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def last_words(form: LogFormat) -> Iterator[None]:
    """Where machines read the log: what ends the program is a line of it too, and so are Python's own warnings."""
    if form == "plain":
        yield
        return
    logging.captureWarnings(capture=True)
    log = logging.getLogger("ctxhost.serve")
    try:
        yield
    except click.ClickException as error:
        log.critical("%s", error.format_message())
        raise SystemExit(error.exit_code) from None
    except Exception:
        log.critical("ended by a fault of its own", exc_info=True)
        raise SystemExit(1) from None
    finally:
        logging.captureWarnings(capture=False)


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """What went wrong: one line for an error that explains itself, a traceback for any other."""
        return str(ei[1]) if isinstance(ei[1], CtxhostError) else super().formatException(ei)

    def message(self, record: logging.LogRecord) -> str:
        try:
            return self._redact(record.getMessage())
        except Exception:  # noqa: BLE001 - logging's own way out prints the arguments as they are
            return self._redact(f"{record.msg} (and arguments that do not fit)")

    def trouble(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return self._redact("\n".join(parts))


class _Plain(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%H:%M:%S")
        carried = " ".join(f"{name}={value}" for name in CARRIED if (value := getattr(record, name, "")))
        line = f"{time} {record.levelname:<7} {record.name}: {self.message(record)}"
        line += self._redact(f" [{carried}]") if carried else ""
        trouble = self.trouble(record)
        return f"{line}\n{trouble}" if trouble else line


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": rfc3339(int(record.created * 1_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
        }
        for name in (*CARRIED, *_CALL):
            value = getattr(record, name, "")
            if value not in ("", None):
                line[name] = value if isinstance(value, int) else self._redact(str(value))
        if trouble := self.trouble(record):
            line["error"] = trouble
        return json.dumps(line, ensure_ascii=False)
