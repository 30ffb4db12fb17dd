"""What can be broken on purpose, so that everybody can see that the checks are real."""

from enum import StrEnum


class Breakage(StrEnum):
    """Each is a mistake that an operator or an app's author could make."""

    SECRET = "secret"  # noqa: S105 - a name
    """The webhook function is given another secret than the one that signs."""
    EVENT = "event"
    """The endpoint does not subscribe to `transcript.done`."""
    PRICE = "price"
    """The operator's markup is 25 % instead of 20 %."""
