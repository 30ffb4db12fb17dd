"""A transcript in other forms: what was said, by whom and when, whatever of it is missing."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.meetings.transcript import NotATranscript, as_srt, as_text, as_vtt, convert, cues, parse

# The shape that Recall publishes, cut short.
PUBLISHED: list[dict[str, Any]] = [
    {
        "participant": {"id": 100, "name": "Dana Ortiz", "is_host": True, "platform": "desktop", "extra_data": None},
        "words": [
            {
                "text": "Morning,",
                "start_timestamp": {"relative": 1.12, "absolute": "2026-11-02T15:00:04.671902Z"},
                "end_timestamp": {"relative": 1.44, "absolute": "2026-11-02T15:00:04.991902Z"},
            },
            {"text": "shall", "start_timestamp": {"relative": 1.5}, "end_timestamp": {"relative": 1.71}},
            {"text": "we begin?", "start_timestamp": {"relative": 1.71}, "end_timestamp": {"relative": 2.2}},
        ],
    },
    {
        "participant": {"id": 200, "name": None},
        "words": [{"text": "Yes.", "start_timestamp": {"relative": 3661.0005}, "end_timestamp": {"relative": 3662}}],
    },
]


def raw(document: Any) -> bytes:
    return json.dumps(document).encode()


def said(*texts: str, name: Any = "A", start: Any = None, end: Any = None) -> dict[str, Any]:
    """One utterance whose words all have the same times."""
    words = [{"text": text, "start_timestamp": start, "end_timestamp": end} for text in texts]
    return {"participant": {"name": name}, "words": words}


def at(seconds: float) -> dict[str, float]:
    return {"relative": seconds}


def test_text_has_a_line_for_each_utterance() -> None:
    """Speaker, colon, what was said."""
    assert b"Dana Ortiz: Morning, shall we begin?\nUnknown speaker: Yes.\n" == convert(raw(PUBLISHED), "text")


def test_vtt_has_voices() -> None:
    """WebVTT: header, times with a dot, the speaker as the cue's voice."""
    assert (
        b"WEBVTT\n\n"
        b"00:00:01.120 --> 00:00:02.200\n<v Dana Ortiz>Morning, shall we begin?</v>\n\n"
        b"01:01:01.000 --> 01:01:02.000\n<v Unknown speaker>Yes.</v>\n"
    ) == convert(raw(PUBLISHED), "vtt")


def test_srt_is_numbered() -> None:
    """SubRip: numbers, times with a comma, the speaker before the text."""
    assert (
        b"1\n00:00:01,120 --> 00:00:02,200\nDana Ortiz: Morning, shall we begin?\n\n"
        b"2\n01:01:01,000 --> 01:01:02,000\nUnknown speaker: Yes.\n"
    ) == convert(raw(PUBLISHED), "srt")


def test_json_stays_as_it_is() -> None:
    """Byte for byte, with everything that other forms leave out."""
    sent = b' [ {"participant": {"id": 1e2}, "words": []} ]\n'

    assert sent == convert(sent, "json")


def test_an_empty_transcript_is_empty() -> None:
    """Nobody spoke: a file with nothing in it, valid in its form."""
    assert (b"", b"WEBVTT\n", b"") == tuple(convert(b"[]", form) for form in ("text", "vtt", "srt"))


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"[1]", b"[[]]", b"<xml/>", b"\xff", b"[" * 100_000])
def test_what_is_no_transcript_is_refused(content: bytes) -> None:
    """By one error, whatever it is instead; also when it was to be passed on as it is."""
    for form in ("json", "text", "vtt", "srt"):
        with pytest.raises(NotATranscript):
            convert(content, form)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(said("hi", name=""), "Unknown speaker: hi\n", id="empty-name"),
        pytest.param(said("hi", name=7), "Unknown speaker: hi\n", id="name-of-another-type"),
        pytest.param({"words": [{"text": "hi"}]}, "Unknown speaker: hi\n", id="no-participant"),
        pytest.param({"participant": None, "words": [{"text": "hi"}]}, "Unknown speaker: hi\n", id="null-participant"),
        pytest.param(said(" hi ", "", "  ", "you"), "A: hi you\n", id="blank-words"),
        pytest.param(said("a\nb", "c\u2028\x00d"), "A: a b c d\n", id="line-breaks"),
        pytest.param(said("x", name="Ann\n\nB: y"), "Ann B: y: x\n", id="line-breaks-in-a-name"),
        pytest.param({"participant": {"name": "A"}, "words": None}, "", id="null-words"),
        pytest.param({"participant": {"name": "A"}, "words": [None, {"text": None}, {}]}, "", id="no-text"),
        pytest.param(
            said("おはよう", "ございます", "。", "Zoom", "です"),
            "A: おはようございます。 Zoom です\n",
            id="no-spaces-in-japanese",
        ),
        pytest.param(said("안녕하세요", "여러분"), "A: 안녕하세요 여러분\n", id="spaces-in-korean"),
    ],
)
def test_what_is_missing_is_made_do_without(part: dict[str, Any], expected: str) -> None:
    """A null name, an empty word, a stray line break: the line is still one line."""
    assert expected == as_text(parse(raw([part])))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(at(1), at(2), (1_000, 2_000), id="both"),
        pytest.param(at(1), None, (1_000, 1_500), id="no-end"),
        pytest.param(None, at(2), (0, 2_000), id="no-start"),
        pytest.param(None, None, (0, 500), id="neither"),
        pytest.param(at(2), at(1), (2_000, 2_500), id="end-before-start"),
        pytest.param(at(-1), at(1), (0, 1_000), id="before-the-recording"),
        pytest.param({"relative": None}, {"absolute": "x"}, (0, 500), id="null-relative"),
        pytest.param({"relative": "1"}, {"relative": True}, (0, 500), id="of-another-type"),
        pytest.param({"relative": float("nan")}, {"relative": 1e300}, (0, 500), id="not-a-time"),
    ],
)
def test_a_cue_always_ends_after_it_starts(start: Any, end: Any, expected: tuple[int, int]) -> None:
    """What has no time is shown for a moment, after what came before."""
    [cue] = cues(parse(raw([said("hi", start=start, end=end)])))

    assert expected == (cue.start_ms, cue.end_ms)


def test_what_has_no_time_follows_what_came_before() -> None:
    """And cues come by their start, as WebVTT wants it, also when speakers overlap."""
    parts = [said("b", start=at(5), end=at(9)), said("c"), said("a", start=at(4), end=at(6))]

    assert [("a", 4_000), ("b", 5_000), ("c", 9_000)] == [(c.text, c.start_ms) for c in cues(parse(raw(parts)))]


def test_a_long_speech_is_cut_into_parts() -> None:
    """By length and by time, between words, with nothing lost."""
    words = [{"text": f"word{n}", "start_timestamp": at(n / 2), "end_timestamp": at(n / 2 + 0.4)} for n in range(100)]
    parts = cues(parse(raw([{"participant": {"name": "A"}, "words": words}])))

    assert " ".join(str(word["text"]) for word in words) == " ".join(part.text for part in parts)
    assert max(part.end_ms - part.start_ms for part in parts) <= 7_000
    assert max(len(part.text) for part in parts) <= 84


def test_markup_is_text() -> None:
    """In WebVTT nothing that was said, nor a name, can be a tag, a voice or the arrow that ends a cue."""
    hostile = said("<b>&amp;", "00:01 --> 00:02", name="<v Eve> & co", start=at(0), end=at(1))
    expected = "<v &lt;v Eve&gt; &amp; co>&lt;b&gt;&amp;amp; 00:01 --&gt; 00:02</v>"

    assert expected == as_vtt(parse(raw([hostile]))).splitlines()[3]
    assert "<v Eve> & co: <b>&amp; 00:01 → 00:02" == as_srt(parse(raw([hostile]))).splitlines()[2]


LOOSE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORD = st.fixed_dictionaries(
    {},
    optional={
        "text": LOOSE | st.text(),
        "start_timestamp": LOOSE | st.fixed_dictionaries({"relative": LOOSE | st.floats(0, 1e5)}),
        "end_timestamp": LOOSE | st.fixed_dictionaries({"relative": LOOSE | st.floats(0, 1e5)}),
    },
)
PART = st.fixed_dictionaries(
    {},
    optional={
        "participant": LOOSE | st.fixed_dictionaries({"name": LOOSE}),
        "words": LOOSE | st.lists(LOOSE | WORD, max_size=5),
    },
)
_TIME = r"\d{2,}:[0-5]\d:[0-5]\d[.,]\d{3}"
VTT = re.compile(rf"WEBVTT\n(\n{_TIME} --> {_TIME}\n<v [^<>\n\r]+>[^<>\n\r]+</v>\n)*")
SRT = re.compile(rf"(\n?\d+\n{_TIME} --> {_TIME}\n[^\n\r]+: [^\n\r]+\n)*")


@given(st.lists(PART, max_size=5))
def test_whatever_comes_every_form_is_well_formed(document: Any) -> None:
    """No list of objects makes a file that a player would misread."""
    utterances = parse(raw(document))

    assert VTT.fullmatch(as_vtt(utterances))
    assert SRT.fullmatch(as_srt(utterances))
    assert len(utterances) == as_text(utterances).count("\n")
    assert all(
        before.start_ms <= after.start_ms for before, after in zip(cues(utterances), cues(utterances)[1:], strict=False)
    )
    assert all(cue.start_ms < cue.end_ms for cue in cues(utterances))
