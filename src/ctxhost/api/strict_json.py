"""JSON that any two parsers read alike: no key twice, only finite numbers, text that any database keeps."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ctxhost.errors import Detail, InvalidRequest
from ctxhost.wire import MAX_DETAILS, shown

MAX_DEPTH: Final = 100
"""How deep arrays and objects may nest: far above any sane request, far below what exhausts a stack."""

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_BAD_TEXT: Final = ("Must not contain a NUL character or half of a surrogate pair", "invalid_string")
_BAD_NUMBER: Final = ("Must be a finite number", "invalid_number")

_Path = tuple[str | int, ...]


class _Repeated(dict[str, Any]):
    """An object in which a key came twice; found again, with its path, when the document is searched."""

    key: str


def parse(body: bytes) -> Any:
    """The value that `body` says, in UTF-8 without a byte order mark.

    Raises:
        InvalidRequest: malformed (the detail's path is empty), a key twice, NaN or a number without a finite value,
            more than 4,300 digits, a NUL or a lone surrogate in a string, nesting beyond `MAX_DEPTH`.
    """
    value = _decoded(_text(body))
    details = [detail for detail, _ in zip(_faults(value), range(MAX_DETAILS), strict=False)]
    if details:
        where = ".".join(map(str, details[0]["path"])) or "The body"
        raise InvalidRequest(f"{where}: {details[0]['message']}", details=details)
    return value


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot carry, becomes `?`.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _text(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise _malformed("The body starts with a byte order mark", "invalid_encoding")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"The body is not UTF-8 at byte {error.start}", "invalid_encoding") from None


def _decoded(text: str) -> Any:
    if not text.strip():
        raise _malformed("The body is empty; it must be JSON", "invalid_json")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"The body is not JSON at {where}: {error.msg}", "invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # what is left: the interpreter's own limit on the digits of an integer
        raise _malformed("The body has an integer with too many digits", "invalid_number") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = _Repeated(found)
    repeated.key = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return repeated


def _faults(value: Any) -> Iterator[Detail]:
    """Search without recursion, level by level; the path of a plain value is made only when it is at fault."""
    level: list[tuple[_Path, Any]] = [((), [value])]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[tuple[_Path, Any]] = []
        for path, holder in level:
            if isinstance(holder, dict):
                yield from _key_faults(path, holder)
            for step, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
                if isinstance(item, (dict, list)):
                    deeper.append(((*path, step), item))
                elif fault := _fault(item):
                    yield _detail((*path, step), *fault)
        if not deeper:
            return
        level = deeper
    raise _too_deep()


def _key_faults(path: _Path, holder: dict[str, Any]) -> Iterator[Detail]:
    if isinstance(holder, _Repeated):
        yield _detail((*path, holder.key), "Must be given once", "duplicate")
    for key in holder:
        if fault := _fault(key):
            yield _detail((*path, key), *fault)


def _fault(item: Any) -> tuple[str, str] | None:
    if isinstance(item, str):
        return _BAD_TEXT if _UNSTORABLE.search(item) else None
    return _BAD_NUMBER if isinstance(item, float) and not math.isfinite(item) else None


def _detail(path: _Path, message: str, code: str) -> Detail:
    # The first step leads out of the list that the document was put into.
    return {
        "path": [shown(step) if isinstance(step, str) else step for step in path[1:]],
        "message": message,
        "code": code,
    }


def _too_deep() -> InvalidRequest:
    return _malformed(f"The body nests deeper than {MAX_DEPTH} levels", "too_deep")


def _malformed(message: str, code: str) -> InvalidRequest:
    """A fault of the document as a whole: it belongs to no field, so its path is the empty list."""
    return InvalidRequest(message, details=[{"path": [], "message": message, "code": code}])
