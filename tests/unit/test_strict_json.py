"""Strict JSON: what is refused, where the fault is said to be, and that nothing else is."""

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.api.strict_json import MAX_DEPTH, dump, parse
from ctxhost.errors import Detail, InvalidRequest
from ctxhost.wire import MAX_DETAILS

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


def refused(body: bytes) -> list[tuple[list[Any], str]]:
    """(path, code) of each detail."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    return [(list(detail["path"]), detail["code"]) for detail in caught.value.details]


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        pytest.param(b"", [], "invalid_json", id="empty"),
        pytest.param(b" \n", [], "invalid_json", id="blank"),
        pytest.param(b"[1,]", [], "invalid_json", id="trailing-comma"),
        pytest.param(b"{} {}", [], "invalid_json", id="two-documents"),
        pytest.param(b'{"a": "\x00"}', [], "invalid_json", id="raw-nul"),
        pytest.param(b"\xef\xbb\xbf{}", [], "invalid_encoding", id="byte-order-mark"),
        pytest.param(b'{"a": "\xff"}', [], "invalid_encoding", id="not-utf-8"),
        pytest.param(b'"\xed\xa0\x80"', [], "invalid_encoding", id="raw-surrogate"),
        pytest.param('{"a": 1}'.encode("utf-16"), [], "invalid_encoding", id="utf-16"),
        pytest.param(b"[" * 100_000, [], "too_deep", id="deep-arrays"),
        pytest.param(b'{"a":' * 100_000, [], "too_deep", id="deep-objects"),
        pytest.param(b"1" * 5_000, [], "invalid_number", id="5000-digits"),
        pytest.param(b"NaN", [], "invalid_number", id="nan"),
        pytest.param(b'{"a": [0, Infinity]}', ["a", 1], "invalid_number", id="infinity"),
        pytest.param(b'{"a": -Infinity}', ["a"], "invalid_number", id="minus-infinity"),
        pytest.param(b'{"a": {"b": 1e999}}', ["a", "b"], "invalid_number", id="overflowing-exponent"),
        pytest.param(b'{"a": 1, "b": 2, "a": 1}', ["a"], "duplicate", id="a-key-twice"),
        pytest.param(b'{"m": [{"k": 1, "\\u006b": 2}]}', ["m", 0, "k"], "duplicate", id="a-key-twice-by-escape"),
        pytest.param(b'{"a": "x\\u0000"}', ["a"], "invalid_string", id="nul"),
        pytest.param(b'{"a": ["\\ud800"]}', ["a", 0], "invalid_string", id="lone-high-surrogate"),
        pytest.param(b'{"a": "\\udc00\\ud800"}', ["a"], "invalid_string", id="surrogates-in-the-wrong-order"),
        pytest.param(b'{"m": {"\\ud800": 1}}', ["m", "?"], "invalid_string", id="surrogate-in-a-key"),
    ],
)
def test_a_fault_is_refused_by_its_place_and_code(body: bytes, path: list[Any], code: str) -> None:
    """Every way in which two parsers could disagree is a 400 that says where."""
    assert [(path, code)] == refused(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_the_depth_limit_is_exact(opening: bytes) -> None:
    """A document of the greatest depth is read, one level more is not."""
    closing = b"]" if opening == b"[" else b"}"

    def document(depth: int) -> bytes:
        return opening * (depth - 1) + opening[:1] + closing * depth

    parse(document(MAX_DEPTH))
    assert [([], "too_deep")] == refused(document(MAX_DEPTH + 1))


def test_many_faults_are_told_up_to_a_bound() -> None:
    """The size of a refusal is bounded, whatever was sent, and long names are cut."""
    body = b"{" + b",".join(b'"%s%d": NaN' % (b"k" * 1_000, n) for n in range(500)) + b"}"
    faults = refused(body)

    assert MAX_DETAILS == len(faults)
    assert all(len(path[0]) < 100 for path, _ in faults)


def test_a_repeated_key_among_many_is_found_in_linear_time() -> None:
    """A megabyte of keys with a repetition at its end does not stall the loop."""
    keys = [b'"%d":1' % n for n in range(90_000)]
    began = time.process_time()
    assert [(["89999"], "duplicate")] == refused(b"{" + b",".join([*keys, keys[-1]]) + b"}")
    assert time.process_time() - began < 5


@given(VALUES)
def test_what_is_sound_is_read_as_it_is(value: Any) -> None:
    """Strictness refuses nothing that is plain JSON, and dump is its inverse."""
    assert value == parse(dump(value))
    assert value == parse(json.dumps(value, indent=2).encode())


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_a_value_or_a_refusal(body: bytes) -> None:
    """No bytes at all raise anything but the one refusal, which always has a detail."""
    details: Sequence[Detail] = [{"path": [], "message": "it was read", "code": "none"}]
    try:
        parse(body)
    except InvalidRequest as refusal:
        details = refusal.details
    assert details


def test_dump_is_compact_utf8() -> None:
    """Text goes out as itself, without spaces around it, in the order given."""
    assert '{"b":"é😀","a":[1,0.39]}'.encode() == dump({"b": "é😀", "a": [1, 0.39]})


def test_dump_always_makes_valid_json() -> None:
    """A number that JSON does not have is refused; text that UTF-8 does not have loses only the broken character."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump({"a": math.nan})
    assert b'"a?b"' == dump("a\ud800b")
