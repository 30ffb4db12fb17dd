"""Reading JSON that somebody else has written: each value is what it should be, or null, or `Malformed`."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_TEXT_CHARS = 200
MAX_URL_CHARS = 8_192
EARLIEST_MS = 1_420_070_400_000
LATEST_MS = 4_102_444_800_000
"""2015 and 2100: a time outside is a mistake, and would be billed."""


class Malformed(ValueError):
    """An answer that is not of Recall's form; says where, never what."""


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def optional(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in an object; empty when it is null or missing."""
    found = value.get(name)
    return {} if found is None else mapping(found, name)


def items(value: Mapping[str, Any], name: str) -> Iterator[Any]:
    """The members of a list; none when it is null or missing."""
    found = value.get(name)
    if found is not None and not isinstance(found, list):
        raise Malformed(f"{name} is not a list")
    return iter(found or ())


def text(value: Mapping[str, Any], name: str) -> str:
    """A short text that can be kept anywhere; empty when it is null or missing."""
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str) or not found.isprintable():
        raise Malformed(f"{name} is not a plain text")
    return found[:MAX_TEXT_CHARS]


def identifier(value: Mapping[str, Any], name: str) -> str:
    """An id: what may stand in a path and in our own ids."""
    found = text(value, name)
    if not is_id(found):
        raise Malformed(f"{name} is not an id")
    return found


def is_id(value: str) -> bool:
    """Whether it has the form of Recall's ids: letters, digits and dashes, at most 64."""
    return 0 < len(value) <= 64 and value.isascii() and value.replace("-", "").replace("_", "").isalnum()


def moment(value: Mapping[str, Any], name: str) -> int:
    """An ISO 8601 time in ms; 0 when it is null or missing. Without an offset it is UTC."""
    found = value.get(name)
    if found is None:
        return 0
    if not isinstance(found, str):
        raise Malformed(f"{name} is not a time")
    try:
        at = datetime.fromisoformat(found)
        at_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise Malformed(f"{name} is not a time") from None
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        raise Malformed(f"{name} is not a time of ours")
    return at_ms


def link(value: Mapping[str, Any], name: str) -> str:
    """A plain http(s) URL; empty when it is null or missing."""
    found = value.get(name)
    if found is None:
        return ""
    is_plain = isinstance(found, str) and found.isascii() and found.isprintable() and " " not in found
    if not is_plain or len(found) > MAX_URL_CHARS or not found.startswith(("https://", "http://")):
        raise Malformed(f"{name} is not a link")
    return str(found)
