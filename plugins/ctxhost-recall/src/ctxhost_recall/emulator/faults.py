"""What can go wrong at the other end, to be asked for by a test: `emulator.fail("create", DEPLETED, times=2)`."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Operation = Literal[
    "create", "read", "list", "delete", "leave", "delete_media", "order", "transcript", "transcripts", "media"
]
"""`order` asks for a transcript, `transcript` reads one, `transcripts` lists a recording's artifacts."""

Manner = Literal["answer", "cut", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An answer in place of the right one."""

    status: int = 500
    body: Any = None
    """JSON; bytes are sent as they are."""
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "answer"
    """`cut` breaks off within the answer, `silent` never answers."""
    takes_effect: bool = False
    """The call is carried out all the same, and its own answer kept under its key."""
    kept: bool = False
    """This answer is kept under the call's Idempotency-Key."""


def depleted(retry_after_s: int | None = 30) -> Fault:
    """507: no ad-hoc bot is free. It is kept under its key."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Fault(status=507, body=_error("adhoc_pool_depleted", "no ad-hoc bot free"), headers=headers, kept=True)


def throttled(retry_after_s: int = 17) -> Fault:
    """429: too many calls."""
    detail = f"Request was throttled. Expected available in {retry_after_s} seconds."
    return Fault(status=429, body=_error("throttled", detail), headers={"retry-after": str(retry_after_s)})


def overloaded(status: int = 503, *, takes_effect: bool = False) -> Fault:
    """502, 503 or 504 from the machines in front, before the call is carried out or after."""
    return Fault(status=status, body=b"<html>Bad Gateway</html>", takes_effect=takes_effect)


def refused(status: int, code: str) -> Fault:
    """An error of the API by its slug."""
    return Fault(status=status, body=_error(code, "refused"))


def silent(*, takes_effect: bool = False) -> Fault:
    """No answer, ever."""
    return Fault(manner="silent", takes_effect=takes_effect)


def cut(*, takes_effect: bool = False) -> Fault:
    """The connection breaks within the answer."""
    return Fault(status=201, manner="cut", takes_effect=takes_effect)


def garbage(content: bytes, *, status: int = 200, takes_effect: bool = False, **headers: str) -> Fault:
    """Bytes that are not what the API answers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=status, body=content, headers=named, takes_effect=takes_effect)


class Faults:
    """The faults that are to come, for each operation in order."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Fault]] = {}
        self._for_ever: dict[str, Fault] = {}

    def add(self, operation: Operation, fault: Fault, *, times: int | None = 1) -> None:
        """Meet the next calls with a fault; `times` None: all of them from now on."""
        if times is None:
            self._for_ever[operation] = fault
        else:
            self._queues.setdefault(operation, deque()).extend([fault] * times)

    def clear(self) -> None:
        """No faults any more."""
        self._queues.clear()
        self._for_ever.clear()

    def take(self, operation: Operation) -> Fault | None:
        """The fault that this call meets, if any."""
        queue = self._queues.get(operation)
        return queue.popleft() if queue else self._for_ever.get(operation)


def _error(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail}
