"""Logs on stderr, for people or for machines; a secret that strays into a line is cut."""

import json
import logging
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from ctxhost.clock import rfc3339
from ctxhost.errors import CtxhostError

LogFormat = Literal["plain", "json"]

_SECRETS = re.compile(r"\b(bb_sk_|wsec_|whsec_)[A-Za-z0-9_+/=-]{4,}|(?i:(bearer )[^\s\"',]+)")
_CARRIED = ("app", "function", "request_id")
_CHATTY = ("httpx", "httpcore", "aiohttp", "watchfiles", "asyncio", "uvicorn")
"""Libraries that tell of every request or every look; a URL of theirs may be a signed one."""


def set_up_logs(*, level: str = "info", form: LogFormat = "plain") -> None:
    """Send every log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Plain())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def without_secrets(text: str) -> str:
    """Keys, webhook secrets and bearer tokens cut to their kind."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]}…", text)


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def _explained(error: ExcInfo, in_full: Callable[[ExcInfo], str]) -> str:
    """What went wrong: one line for an error that explains itself, a traceback for any other."""
    return str(error[1]) if isinstance(error[1], CtxhostError) else in_full(error)


class _Plain(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        return _explained(ei, super().formatException)

    def format(self, record: logging.LogRecord) -> str:
        carried = " ".join(f"{name}={value}" for name in _CARRIED if (value := getattr(record, name, "")))
        return without_secrets(super().format(record) + (f" [{carried}]" if carried else ""))


class _Json(logging.Formatter):
    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        return _explained(ei, super().formatException)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": rfc3339(int(record.created * 1_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line |= {name: value for name in _CARRIED if (value := getattr(record, name, ""))}
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
