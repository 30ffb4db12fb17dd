"""JSON that is not what it should be, made from JSON that is."""

import json
from typing import Any


def changed_json(body: bytes) -> list[bytes]:
    """A JSON body with each of its values replaced by hostile ones."""
    try:
        document = json.loads(body)
    except ValueError:
        return []
    return [json.dumps(changed).encode() for changed in _changed(document)]


_HOSTILE: tuple[Any, ...] = (None, 7, -1.5e300, True, [], {}, "", "\x00", "\ud800", "x" * 5_000, ["a"], {"id": {}})


def _changed(value: Any) -> list[Any]:
    found = list(_HOSTILE)
    if isinstance(value, dict):
        found += [{k: v for k, v in value.items() if k != name} for name in value]
        found += [{**value, name: changed} for name, inner in value.items() for changed in _changed(inner)]
    elif isinstance(value, list):
        found += [
            [*value[:n], changed, *value[n + 1 :]] for n, inner in enumerate(value) for changed in _changed(inner)
        ]
    return found
