"""Cursors: opaque to callers, and checked when they come back."""

import base64
import binascii
import json
from typing import TypeVar, cast

from ctxhost.errors import InvalidRequest

T = TypeVar("T", bound=tuple[int | str, ...])

_MAX_INT = 2**53


def encode(place: tuple[int | str, ...]) -> str:
    """The cursor of a place in a list."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str, shape: type[T], *kinds: type[int] | type[str]) -> T:
    """The place that a cursor names: one value of each kind. Raises `InvalidRequest` for what `encode` never gave."""
    try:
        place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        place = None
    if not isinstance(place, list) or [type(value) for value in place] != list(kinds):
        raise InvalidRequest.of("cursor", "is not one that a page of this list gave", "invalid_cursor")
    if any(isinstance(value, int) and not 0 <= value < _MAX_INT for value in place):
        raise InvalidRequest.of("cursor", "is not one that a page of this list gave", "invalid_cursor")
    return cast("T", tuple(place))
