"""Money is integer nano-dollars (one billionth of a US dollar); a float appears only at the JSON edge."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NANO_PER_USD = 1_000_000_000
SECONDS_PER_HOUR = 3_600
MAX_AMOUNT_NANO_USD = 10**15
"""The largest single amount ($1,000,000): sums of a lifetime of them stay inside 64 bits."""


def checked_amount(amount_nano_usd: int, *, minimum: int = 0) -> int:
    """The amount itself when it is a true integer within bounds.

    Raises:
        TypeError: not exactly an `int` (`True` and `1.0` are refused).
        ValueError: below `minimum` or above `MAX_AMOUNT_NANO_USD`.
    """
    if type(amount_nano_usd) is not int:
        raise TypeError(f"an amount is an int of nano-dollars, not {type(amount_nano_usd).__name__}")
    if not minimum <= amount_nano_usd <= MAX_AMOUNT_NANO_USD:
        raise ValueError(f"an amount lies between {minimum} and {MAX_AMOUNT_NANO_USD} nano-dollars")
    return amount_nano_usd


def rounded_share(numerator: int, denominator: int) -> int:
    """`numerator / denominator` of non-negative integers, rounded once, half up."""
    return (2 * numerator + denominator) // (2 * denominator)


def price_of_seconds(seconds: int, nano_usd_per_hour: int) -> int:
    """What `seconds` cost at an hourly rate, in nano-dollars, rounded once, half up."""
    return rounded_share(seconds * nano_usd_per_hour, SECONDS_PER_HOUR)


def parse_usd(text: str) -> int:
    """Nano-dollars from what a person types: `5`, `$5`, `0.25`; at most nine places.

    Raises:
        ValueError: not a plain decimal, finer than a nano-dollar, or out of bounds.
    """
    cleaned = text.strip().removeprefix("$")
    if not cleaned.isascii() or not all(c.isdigit() or c in ".-" for c in cleaned):
        raise ValueError(f"not an amount in US dollars: {text!r}")
    try:
        nano = Decimal(cleaned) * NANO_PER_USD
    except InvalidOperation:
        raise ValueError(f"not an amount in US dollars: {text!r}") from None
    if nano != nano.to_integral_value():
        raise ValueError("an amount has at most nine decimal places")
    if abs(nano) > MAX_AMOUNT_NANO_USD:
        raise ValueError("an amount is at most $1,000,000")
    return int(nano)


def usd_number(amount_nano_usd: int) -> int | float:
    """The JSON number: the shortest decimal that is this amount (`0.39`, `5`)."""
    whole, rest = divmod(amount_nano_usd, NANO_PER_USD)
    return whole if rest == 0 else float(Decimal(amount_nano_usd) / NANO_PER_USD)


def usd_string(amount_nano_usd: int, *, places: int = 6) -> str:
    """A decimal string with a fixed number of places, rounded half up: `"0.007333"`."""
    quantum = Decimal(1).scaleb(-places)
    return f"{(Decimal(amount_nano_usd) / NANO_PER_USD).quantize(quantum, ROUND_HALF_UP):f}"


def usd_text(amount_nano_usd: int) -> str:
    """For people: every digit that counts and at least two places, `$0.065`, `-$1.50`."""
    digits = f"{abs(amount_nano_usd) // NANO_PER_USD}.{abs(amount_nano_usd) % NANO_PER_USD:09d}".rstrip("0")
    whole, _, places = digits.partition(".")
    return f"{'-' if amount_nano_usd < 0 else ''}${whole}.{places.ljust(2, '0')}"
