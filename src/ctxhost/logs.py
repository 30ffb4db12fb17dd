"""What every log line carries, and what none may show.

A program that embeds the host keeps its own logging. It may add `Carried()` to its handlers, for the ids of the request
or the job that a line belongs to, and pass what it prints through a `Redactor`.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

CARRIED: Final = ("request_id", "app", "function", "job", "ref")
"""What a line may carry: of a request its id, of a job its kind and what it is about."""

_facts: ContextVar[Mapping[str, str]] = ContextVar("ctxhost_log_facts", default=MappingProxyType({}))


@contextmanager
def carrying(**facts: str) -> Iterator[None]:
    """Let every line of this block carry these facts, also those of the tasks that it starts and of any library."""
    token = _facts.set({**_facts.get(), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: str) -> None:
    """Add facts to the lines of the `carrying` block around: what is learnt on the way."""
    _facts.set({**_facts.get(), **facts})


def carried() -> Mapping[str, str]:
    """The facts of the `carrying` block around."""
    return _facts.get()


class Carried(logging.Filter):
    """Gives each record what its task carries, as attributes named as in `CARRIED`. It drops nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _facts.get().items():
            if not getattr(record, name, ""):
                setattr(record, name, value)
        return True


_CUT: Final = "…"


def _without_query(url: re.Match[str]) -> str:
    """What follows `?` may be signed."""
    path, mark, query = url[0].partition("?")
    return f"{path}?{_CUT}" if query else path + mark


_SHAPES: Final[Sequence[tuple[Sequence[str], re.Pattern[str], str | Callable[[re.Match[str]], str]]]] = (
    # Each with the words without which it is not looked for. A line may be a megabyte that a stranger has made up, so
    # none of them may look at a character again and again.
    # Keys and secrets that say what they are.
    (("bb_sk_", "wsec_", "whsec_"), re.compile(r"(bb_sk_|wsec_|whsec_)[A-Za-z0-9_+/=-]{4,}"), r"\1" + _CUT),
    (("bearer", "basic"), re.compile(r"(?i)\b((?:bearer|basic)\s+)[^\s\"',]+"), r"\1" + _CUT),
    # Who logs in, in a URL, and its query.
    (("://",), re.compile(r"(://)[^\s/?#\"'<>]*@"), r"\1" + _CUT + "@"),
    (("://",), re.compile(r"://[^\s\"'<>]+"), _without_query),
    (("=",), re.compile(r"([?&][\w.-]+=)[^\s&\"'<>]+"), r"\1" + _CUT),
    # `password=…`, `"api_key": "…"`, also when the closing quote was cut off.
    (
        ("password", "passwd", "secret", "token", "api"),
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api[-_]?key)\\*[\"']?\s*[=:]\s*)"
            r"(?:\\*\"[^\"]*\"?|\\*'[^']*'?|[^\s,;&\"'}\])]+)"
        ),
        r"\1" + _CUT,
    ),
    # 32 random bytes in base64: an encryption key, or a signature that nobody needs to read.
    (("=",), re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=(?![A-Za-z0-9+/=_-])"), _CUT),
)
_SECRET_NAME: Final = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_URL_LOGIN: Final = re.compile(r"^[a-z][a-z0-9+.-]*://[^:/@]*:(.*)@[^@]*$", re.IGNORECASE | re.DOTALL)
_MIN_CHARS: Final = 6


class Redactor:
    """Cuts secrets out of text: by their shape, and those it is given wherever and however they are spelled.

    Args:
        hidden: secrets, or texts with secrets in them, such as a database's URL. Very short ones are left alone.
    """

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        spellings = {spelling for text in hidden for part in _parts(text) for spelling in _spellings(part)}
        longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if spellings else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(_CUT, text)
        lower = text.lower()
        for words, shape, kept in _SHAPES:
            if any(word in lower for word in words):
                text = shape.sub(kept, text)
        return text


def secrets_of(environment: Mapping[str, str]) -> Iterator[str]:
    """The values in an environment that are secrets, by their names, and URLs that have a login."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name) or _URL_LOGIN.match(value):
            yield value
        elif value.startswith("{"):
            yield from _secrets_of_json(value)


def _secrets_of_json(text: str) -> Iterator[str]:
    try:
        waiting: list[tuple[str, Any]] = [("", json.loads(text))]
    except (ValueError, RecursionError):
        return
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += ((f"{name} {inner}", below) for inner, below in value.items())
        elif isinstance(value, list):
            waiting += ((name, below) for below in value)
        elif isinstance(value, str) and (_SECRET_NAME.search(name) or _URL_LOGIN.match(value)):
            yield value


def _parts(text: str) -> Iterator[str]:
    """A secret; each of a list of them; the key of `id:key`; of a URL only its password, and the pieces of one that
    was not written as a URL wants it, for an error may quote a piece.
    """
    login = _URL_LOGIN.match(text)
    if login is not None:
        pieces = [login[1], *re.split(r"[/?#@:]", login[1])]
    elif "://" in text:
        pieces = []
    else:
        entries = re.split(r"[,\s]+", text)
        pieces = [text, *entries, *(entry.partition(":")[2] for entry in entries)]
    yield from (piece for piece in pieces if len(piece) >= _MIN_CHARS)


def _spellings(secret: str) -> Iterator[str]:
    """As it is, and as URLs, JSON and Python write it."""
    for spelling in (secret, unquote(secret)):
        yield spelling
        yield quote(spelling, safe="")
        yield quote_plus(spelling)
        yield json.dumps(spelling)[1:-1]
        yield json.dumps(spelling, ensure_ascii=False)[1:-1]
        yield repr(spelling)[1:-1]
