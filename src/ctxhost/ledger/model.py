"""What the commands share: their refusals, the ids of what they write, and which values they take at all."""

import re
from dataclasses import dataclass
from functools import lru_cache

from ctxhost.errors import InvalidRequest, LedgerConflict, NotFound, Refusal
from ctxhost.store.rows import Entry

MAX_HOLD_S = 10 * 365 * 86_400
MAX_KEY_LENGTH = 255
_MAX_TIME_MS = 2**53
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")


class AccountNotFound(NotFound):
    code = "account_not_found"
    remediation = "Check the account id; `ctxhost credits list` shows the ones there are."


class LeaseNotFound(NotFound):
    code = "lease_not_found"
    remediation = "Check the lease id; it must be one of this account."


class LeaseEnded(Refusal):
    """The lease no longer holds anything, so its hold cannot grow."""

    status, type, code = 409, "invalid_request_error", "lease_ended"
    remediation = "Reserve again; a charge for work already done needs no open lease."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The answer to a reservation: the same at every repeat, whatever has become of the lease."""

    lease: str
    reserved: int
    created_ms: int


# The ids of entries never meet: a name has no slash, and a caller's key stands behind two.


def entry_id(account: str, key: str) -> str:
    """The id of an entry that a caller's key names: keys of two accounts never meet."""
    return f"{account}//{key}"


def charge_id(lease: str, dimension: str) -> str:
    return f"{lease}/{dimension}"


def refund_id(charge: str) -> str:
    return f"{charge}/refund"


def allowance_id(account: str, period: str) -> str:
    return f"{account}/allowance/{period}"


def differs(field: str) -> LedgerConflict:
    return LedgerConflict(f"This key was used before with another {field}.", field=field)


def new_entry(
    *,
    id: str,  # noqa: A002 - the column's name
    account: str,
    kind: str,
    seq: int = 0,
    app: str = "",
    lease: str = "",
    purpose: str = "",
    dimension: str = "",
    quantity: int = 0,
    allowance: int = 0,
    credits: int = 0,  # noqa: A002 - the column's name
    mark: str = "",
    note: str = "",
    at_ms: int = 0,
) -> Entry:
    """A journal entry; what is left out is empty. Without `seq` and `at_ms` it is not booked yet."""
    return Entry(
        id, account, seq, kind, app, lease, purpose, dimension, quantity, allowance, credits, mark, note, at_ms
    )  # fmt: skip


def checked_name(name: str, what: str) -> str:
    """The id of an account, a lease or a line: letters, digits and `_.:-`.

    Raises:
        ValueError: anything else, so that the ids made of it stay unmistakable.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} is 1 to 200 letters, digits and _.:- beginning with a letter or digit, not {name!r}")
    return name


@lru_cache(maxsize=256)
def dimension_list(dimensions: tuple[str, ...]) -> str:
    """The column of a lease's lines. Raises `ValueError` when there is none, or one twice."""
    if not dimensions or len(set(dimensions)) != len(dimensions):
        raise ValueError(f"a lease has one or more different lines to charge, not {dimensions!r}")
    return ",".join([checked_name(dimension, "a dimension") for dimension in dimensions])


def checked_key(key: str) -> str:
    """A caller's key for an entry: 1 to 255 printable characters."""
    if not (0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()):
        raise InvalidRequest.of("key", "1 to 255 printable characters", "bad_key")
    return key


def checked_seconds(seconds: int, *, minimum: int) -> int:
    """Raises `TypeError` for what is not exactly an int, `ValueError` beyond ten years or below `minimum`."""
    return _checked_int(seconds, minimum=minimum, maximum=MAX_HOLD_S, what="a number of seconds")


def checked_time(time_ms: int) -> int:
    """Milliseconds since 1970, 0 for none. Raises like `checked_seconds`."""
    return _checked_int(time_ms, minimum=0, maximum=_MAX_TIME_MS, what="a time in milliseconds")


def _checked_int(value: int, *, minimum: int, maximum: int, what: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{what} is an int, not {type(value).__name__}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{what} lies between {minimum} and {maximum}")
    return value
