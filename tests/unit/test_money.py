"""Money: whole nano-dollars, rounded once, shown without loss."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.money import (
    MAX_AMOUNT_NANO_USD,
    NANO_PER_USD,
    checked_amount,
    parse_usd,
    price_of_seconds,
    rounded_share,
    usd_number,
    usd_string,
    usd_text,
)

amounts = st.integers(-MAX_AMOUNT_NANO_USD, MAX_AMOUNT_NANO_USD)


@pytest.mark.parametrize("amount", [0, 1, 10**15])
def test_an_amount_is_itself(amount: int) -> None:
    """What lies within the bounds passes unchanged."""
    assert amount == checked_amount(amount)


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        pytest.param(-1, ValueError, id="below-zero"),
        pytest.param(10**15 + 1, ValueError, id="above-the-most"),
        pytest.param(2**63, ValueError, id="beyond-64-bits"),
        pytest.param(True, TypeError, id="true-is-not-1"),
        pytest.param(1.0, TypeError, id="a-float-that-is-whole"),
        pytest.param(float("nan"), TypeError, id="nan"),
        pytest.param(Decimal(1), TypeError, id="decimal"),
        pytest.param("5", TypeError, id="text"),
        pytest.param(None, TypeError, id="none"),
    ],
)
def test_what_is_no_amount_is_refused(amount: Any, error: type[Exception]) -> None:
    """Only true integers within bounds are money."""
    with pytest.raises(error):
        checked_amount(amount)


def test_a_minimum_is_kept() -> None:
    """An operation that needs a positive amount refuses zero."""
    assert 1 == checked_amount(1, minimum=1)
    with pytest.raises(ValueError, match="between 1 and"):
        checked_amount(0, minimum=1)


@given(st.integers(0, 10**18), st.integers(1, 10**9))
def test_a_share_is_rounded_half_up(numerator: int, denominator: int) -> None:
    """The rounded share is the nearest whole number; a half goes up."""
    exact, rounded = Fraction(numerator, denominator), rounded_share(numerator, denominator)

    assert Fraction(-1, 2) < rounded - exact <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("seconds", "per_hour", "expected"),
    [
        pytest.param(44, 600_000_000, 7_333_333, id="44s-recording"),
        pytest.param(44, 180_000_000, 2_200_000, id="44s-transcription"),
        pytest.param(300, 780_000_000, 65_000_000, id="the-first-hold"),
        pytest.param(1_800, 780_000_000, 390_000_000, id="half-an-hour"),
        pytest.param(1_800, 1, 1, id="half-a-nano-goes-up"),
        pytest.param(1_799, 1, 0, id="less-than-half-goes-down"),
        pytest.param(0, 600_000_000, 0, id="nothing"),
    ],
)
def test_the_price_of_seconds(seconds: int, per_hour: int, expected: int) -> None:
    """The published figures come out to the nano-dollar."""
    assert expected == price_of_seconds(seconds, per_hour)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**10))
def test_more_seconds_never_cost_less(seconds: int, more: int, per_hour: int) -> None:
    """Prices grow with time, and two parts cost what the whole costs, give or take the rounding."""
    whole = price_of_seconds(seconds + more, per_hour)

    assert whole >= price_of_seconds(seconds, per_hour)
    assert abs(whole - price_of_seconds(seconds, per_hour) - price_of_seconds(more, per_hour)) <= 1


@given(amounts)
def test_what_is_shown_can_be_typed(amount: int) -> None:
    """The text for people, without its dollar sign in the middle, reads back as the same amount."""
    assert amount == parse_usd(usd_text(amount).replace("-$", "-"))


@given(amounts)
def test_the_json_number_is_exact(amount: int) -> None:
    """The shortest decimal on the wire is the amount, as long as a double can tell it apart."""
    written = Decimal(json.dumps(usd_number(amount)))

    assert abs(written * NANO_PER_USD - amount) <= abs(amount) // 10**15
    assert type(usd_number(amount)) is int or amount % NANO_PER_USD


@given(amounts)
def test_six_places_round_once(amount: int) -> None:
    """The string has six places and is the nearest such number; a half goes away from zero."""
    text = usd_string(amount)
    off = Fraction(text) * NANO_PER_USD - amount

    assert 6 == len(text.partition(".")[2])
    assert abs(off) <= 500
    assert abs(off) < 500 or abs(Fraction(text) * NANO_PER_USD) > abs(amount)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5 * NANO_PER_USD),
        ("$5", 5 * NANO_PER_USD),
        (" 0.25 ", 250_000_000),
        ("-0.000000001", -1),
        ("1000000", 10**15),
    ],
)
def test_what_a_person_types(text: str, expected: int) -> None:
    """Plain decimals with at most nine places are amounts."""
    assert expected == parse_usd(text)


@pytest.mark.parametrize(
    "text",
    ["", "$", "-", "1e3", "１２", "1_000", "nan", "inf", "0.0000000001", "1000000.000000001", "5 5", "0x1", "--1"],
)
def test_what_is_no_dollar_amount_is_refused(text: str) -> None:
    """Anything else is refused rather than guessed at."""
    with pytest.raises(ValueError, match="amount"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (65_000_000, "$0.065"),
        (0, "$0.00"),
        (-1_500_000_000, "-$1.50"),
        (9_533_333, "$0.009533333"),
        (10**15, "$1000000.00"),
    ],
)
def test_an_amount_for_people(amount: int, expected: str) -> None:
    """Every digit that counts, and at least two places."""
    assert expected == usd_text(amount)
