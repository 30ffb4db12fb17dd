"""What callers may ask of meetings: every field's limits, and that a refusal names the field as the wire does."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.errors import InvalidRequest
from ctxhost.meetings.requests import (
    MAX_JOIN_AHEAD_MS,
    STATUSES,
    AutomaticLeave,
    StartBot,
    parse_estimate,
    parse_list,
    parse_start,
    platform_of,
)
from ctxhost.webhooks.requests import ALL_EVENTS, DEFAULT_EVENTS, parse_webhook
from ctxhost.wire import MAX_DETAILS

NOW_MS = 1_781_205_533_000  # 2026-06-11T19:18:53Z
ZOOM = "https://zoom.us/j/12345"


def start(**fields: Any) -> StartBot:
    return parse_start({"meetingUrl": ZOOM, **fields}, now_ms=NOW_MS)


def faults(call: Any, *args: Any, **kwargs: Any) -> list[tuple[list[Any], str]]:
    """(path, code) of each detail of the refusal."""
    with pytest.raises(InvalidRequest) as caught:
        call(*args, **kwargs)
    return [(list(detail["path"]), detail["code"]) for detail in caught.value.details]


def test_a_bare_start_has_the_documented_defaults() -> None:
    """Only the link is required: mp4 and a transcript, no metadata, the operator's name for the bot."""
    bot = start()

    assert (ZOOM, "zoom", True, "mp4", {}) == (
        bot.meeting_url,
        bot.platform,
        bot.transcript,
        bot.recording,
        bot.metadata,
    )
    assert (None, None, None, None) == (bot.bot_name, bot.automatic_leave, bot.join_at_ms, bot.provider)


def test_a_full_start_is_read_field_by_field() -> None:
    """Everything a caller may say arrives, the name trimmed, the metadata in the order sent."""
    bot = start(
        transcript=False,
        recording="audio_only",
        botName="  Åsa’s 📝 Notetaker ",
        metadata={"z": "1", "a": "", "é": "x" * 500},
        automaticLeave={"waitingRoomTimeoutSec": 600, "everyoneLeftTimeoutSec": 1},
        joinAt="2026-06-11T21:20:53.5+02:00",
        provider="fake",
    )

    assert (False, "audio_only", "Åsa’s 📝 Notetaker", "fake") == (
        bot.transcript,
        bot.recording,
        bot.bot_name,
        bot.provider,
    )
    assert ["z", "a", "é"] == list(bot.metadata)
    assert bot.automatic_leave is not None
    assert (600, 1, None) == (
        bot.automatic_leave.waiting_room_timeout_sec,
        bot.automatic_leave.everyone_left_timeout_sec,
        bot.automatic_leave.no_one_joined_timeout_sec,
    )
    assert NOW_MS + 120_500 == bot.join_at_ms


def test_recording_off_with_a_transcript_is_valid() -> None:
    """`recording: false` is the boolean, and says nothing about the transcript."""
    bot = start(recording=False, transcript=True)

    assert bot.recording is False
    assert bot.transcript is True


def test_the_greatest_of_everything_is_accepted() -> None:
    """Each limit is inclusive."""
    url = ZOOM + "?" + "x" * (2_048 - len(ZOOM) - 1)
    values = {f"k{n:02}": "v" * 500 for n in range(32)}
    values["rest"] = ""
    values["rest"] = "é" * ((16 * 1024 - len(json.dumps(values, separators=(",", ":")))) // 2)
    bot = start(meetingUrl=url, botName="😀" * 64, metadata=values, automaticLeave={"noOneJoinedTimeoutSec": 86_400})

    assert 64 == len(bot.bot_name or "")
    assert values == bot.metadata


@pytest.mark.parametrize(
    ("field", "value", "path", "code"),
    [
        pytest.param("meetingUrl", None, [], "invalid_type", id="url-null"),
        pytest.param("meetingUrl", 5, [], "invalid_type", id="url-number"),
        pytest.param("meetingUrl", "https://example.com/j/1", [], "unsupported_meeting_url", id="url-of-no-platform"),
        pytest.param("meetingUrl", ZOOM + "?" + "x" * 2_048, [], "too_big", id="url-too-long"),
        pytest.param("meetingUrl", ZOOM + "\ud800", [], "invalid_string", id="url-surrogate"),
        pytest.param("transcript", None, [], "invalid_type", id="transcript-null"),
        pytest.param("transcript", 1, [], "invalid_type", id="transcript-one"),
        pytest.param("transcript", "true", [], "invalid_type", id="transcript-text"),
        pytest.param("recording", None, [], "invalid_value", id="recording-null"),
        pytest.param("recording", 0, [], "invalid_value", id="recording-zero"),
        pytest.param("recording", 0.0, [], "invalid_value", id="recording-zero-point-zero"),
        pytest.param("recording", True, [], "invalid_value", id="recording-true"),
        pytest.param("recording", "yes", [], "invalid_value", id="recording-other-text"),
        pytest.param("recording", ["mp4"], [], "invalid_value", id="recording-list"),
        pytest.param("botName", None, [], "invalid_type", id="name-null"),
        pytest.param("botName", "", [], "too_small", id="name-empty"),
        pytest.param("botName", " \t ", [], "too_small", id="name-blank"),
        pytest.param("botName", "😀" * 65, [], "too_big", id="name-too-long"),
        pytest.param("botName", "a\0", [], "invalid_string", id="name-nul"),
        pytest.param("botName", "\ud800", [], "invalid_string", id="name-surrogate"),
        pytest.param("metadata", None, [], "invalid_type", id="metadata-null"),
        pytest.param("metadata", [], [], "invalid_type", id="metadata-list"),
        pytest.param("metadata", {"a": 1}, ["a"], "invalid_type", id="metadata-number"),
        pytest.param("metadata", {"a": None}, ["a"], "invalid_type", id="metadata-null-value"),
        pytest.param("metadata", {"bb_x": "1"}, ["bb_x"], "reserved_key", id="metadata-reserved"),
        pytest.param("metadata", {"a": "x" * 501}, ["a"], "too_big", id="metadata-value-too-long"),
        pytest.param("metadata", {"[key]": "x" * 501}, ["[key]"], "too_big", id="metadata-odd-key"),
        pytest.param("metadata", {"a": "\0"}, ["a"], "invalid_string", id="metadata-nul-value"),
        pytest.param("metadata", {"a\0": ""}, ["a\ufffd"], "invalid_string", id="metadata-nul-key"),
        pytest.param(
            "metadata", {f"k{n}": "é" * 500 for n in range(17)}, [], "too_big", id="metadata-too-big-in-bytes"
        ),
        pytest.param("automaticLeave", None, [], "invalid_type", id="leave-null"),
        pytest.param(
            "automaticLeave", {"everyoneLeftTimeoutSec": 0}, ["everyoneLeftTimeoutSec"], "too_small", id="leave-0"
        ),
        pytest.param(
            "automaticLeave", {"everyoneLeftTimeoutSec": 86_401}, ["everyoneLeftTimeoutSec"], "too_big", id="leave-late"
        ),
        pytest.param(
            "automaticLeave",
            {"everyoneLeftTimeoutSec": 10**4000},
            ["everyoneLeftTimeoutSec"],
            "too_big",
            id="leave-huge",
        ),
        pytest.param(
            "automaticLeave",
            {"everyoneLeftTimeoutSec": 60.0},
            ["everyoneLeftTimeoutSec"],
            "invalid_type",
            id="leave-float",
        ),
        pytest.param(
            "automaticLeave",
            {"everyoneLeftTimeoutSec": True},
            ["everyoneLeftTimeoutSec"],
            "invalid_type",
            id="leave-true",
        ),
        pytest.param(
            "automaticLeave",
            {"everyoneLeftTimeoutSec": None},
            ["everyoneLeftTimeoutSec"],
            "invalid_type",
            id="leave-inner-null",
        ),
        pytest.param("automaticLeave", {"whenever": 1}, ["whenever"], "unknown_field", id="leave-unknown"),
        pytest.param("joinAt", None, [], "invalid_type", id="join-null"),
        pytest.param("joinAt", NOW_MS, [], "invalid_type", id="join-number"),
        pytest.param("joinAt", "2026-06-11T19:18:53", [], "invalid_value", id="join-without-offset"),
        pytest.param("joinAt", "2026-06-11", [], "invalid_value", id="join-date"),
        pytest.param("joinAt", "2026-06-11T24:00:00Z", [], "invalid_value", id="join-hour-24"),
        pytest.param("joinAt", "2026-02-30T00:00:00Z", [], "invalid_value", id="join-no-such-day"),
        pytest.param("joinAt", "２026-06-11T19:18:53Z", [], "invalid_value", id="join-wide-digit"),
        pytest.param("joinAt", "2026-06-11T19:18:53Z\n", [], "invalid_value", id="join-newline"),
        pytest.param("joinAt", "9999-12-31T23:59:59-23:59", [], "too_big", id="join-end-of-time"),
        pytest.param("joinAt", "2026-07-11T19:18:53.001Z", [], "too_big", id="join-30-days-and-1-ms"),
        pytest.param("provider", None, [], "invalid_type", id="provider-null"),
        pytest.param("provider", "", [], "invalid_string", id="provider-empty"),
        pytest.param("provider", "Fake\n", [], "invalid_string", id="provider-odd"),
        pytest.param("x", None, [], "unknown_field", id="unknown"),
        pytest.param("meeting_url", ZOOM, [], "unknown_field", id="pythonic-name"),
    ],
)
def test_a_start_out_of_bounds_is_refused_by_name(field: str, value: Any, path: list[Any], code: str) -> None:
    """One fault, one detail: the wire's name first, then the way to the fault, and a stable code."""
    assert [([field, *path], code)] == faults(start, **{field: value})


@pytest.mark.parametrize("data", [None, [], "x", 1, True])
def test_a_start_is_an_object(data: Any) -> None:
    """Any other JSON value is refused as a whole."""
    assert [([], "invalid_type")] == faults(parse_start, data, now_ms=NOW_MS)


def test_all_faults_are_told_at_once() -> None:
    """A caller mends a request in one go; only the number of details is bounded."""
    told = faults(parse_start, {"botName": "", "recording": 0, "x": 1}, now_ms=NOW_MS)
    many = faults(start, **{f"unknown{n}": 1 for n in range(1_000)})

    assert {
        ("meetingUrl", "missing"),
        ("botName", "too_small"),
        ("recording", "invalid_value"),
        ("x", "unknown_field"),
    } == {(path[0], code) for path, code in told}
    assert MAX_DETAILS == len(many)


def test_a_refusal_does_not_echo_what_was_sent() -> None:
    """A secret in the wrong place does not come back, and a long name comes back short."""
    with pytest.raises(InvalidRequest) as caught:
        start(botName="s3cret" * 20, **{"k" * 10_000: 1})

    assert "s3cret" not in repr(caught.value.details)
    assert len(repr(caught.value.details)) < 1_000


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        pytest.param("2026-06-11T19:18:53Z", NOW_MS, id="now"),
        pytest.param("1999-01-01T00:00:00Z", 915_148_800_000, id="past"),
        pytest.param("0001-01-01T00:00:00+23:59", -62_135_683_140_000, id="the-first-day"),
        pytest.param("2026-07-11t19:18:53.000z", NOW_MS + MAX_JOIN_AHEAD_MS, id="30-days"),
        pytest.param("2026-06-12T00:48:53.123456789+05:30", NOW_MS + 123, id="offset-and-nanoseconds"),
    ],
)
def test_join_at_is_an_instant(text: str, expected_ms: int) -> None:
    """Any RFC 3339 form of an instant is that instant, whenever it is read: a repeated call asks for the same."""
    assert expected_ms == start(joinAt=text).join_at_ms


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://zoom.us/j/1", "zoom"),
        ("http://us02web.zoom.us/j/1?pwd=a%20b#x", "zoom"),
        ("HTTPS://ZOOM.US:443/j/1", "zoom"),
        ("https://acme.zoom.com/my/josé", "zoom"),
        ("https://www.zoomgov.com/j/1", "zoom"),
        ("https://meet.google.com/abc-defg-hij", "google_meet"),
        ("https://teams.microsoft.com/l/meetup-join/19%3ameeting", "microsoft_teams"),
        ("https://teams.live.com/meet/1", "microsoft_teams"),
        ("https://acme.webex.com/meet/x", "webex"),
        ("https://zoom.us", "zoom"),
        ("https://evil.com/?next=https://zoom.us/j/1", None),
        ("https://zoom.us.evil.com/j/1", None),
        ("https://evilzoom.us/j/1", None),
        ("https://zoom.us@evil.com/j/1", None),
        ("https://evil.com@zoom.us/j/1", None),
        ("https://user:pass@zoom.us/j/1", None),
        ("https://evil.com\\@zoom.us/j/1", None),
        ("https://zoom.us\\.evil.com/j/1", None),
        ("https://evil.com#.zoom.us", None),
        ("https://evil.com?.zoom.us", None),
        ("https://zoom.us./j/1", None),
        ("https://.zoom.us/j/1", None),
        ("https://a..zoom.us/j/1", None),
        ("https://zoom%2eus/j/1", None),
        ("https://evil.com%2f.zoom.us/", None),
        ("https://zооm.us/j/1", None),  # Cyrillic о
        ("https://ｚoom.us/j/1", None),
        ("https://zoom。us/j/1", None),
        ("https://zoom.us:0/", None),
        ("https://zoom.us:99999/", None),
        ("https://zoom.us:x/", None),
        ("https:///zoom.us/j/1", None),
        ("https:zoom.us/j/1", None),
        ("//zoom.us/j/1", None),
        ("zoom.us/j/1", None),
        ("zoommtg://zoom.us/join?confno=1", None),
        ("javascript://zoom.us/%0aalert(1)", None),
        (" https://zoom.us/j/1", None),
        ("https://zoom.us/j/1\n", None),
        ("https://zo\tom.us/j/1", None),
        ("https://zoom.us/\0", None),
        ("https://[::1]/zoom.us", None),
        ("https://[zoom.us]/", None),
        ("https://google.com/abc", None),
        ("https://microsoft.com/", None),
        ("https://us/", None),
        ("", None),
    ],
)
def test_a_meeting_is_known_by_its_host_alone(url: str, expected: str | None) -> None:
    """The listed hosts and their subdomains, and nothing that only looks like them to one of two parsers."""
    assert expected == platform_of(url)


def test_a_provider_adds_hosts_of_its_own() -> None:
    """Declared hosts count with their subdomains, for `platform_of` and for a start."""
    hosts = {"meet.example": "example", "localhost": "local"}
    bot = parse_start({"meetingUrl": "https://a.meet.example/1"}, now_ms=NOW_MS, extra_hosts=hosts)

    assert "example" == bot.platform
    assert "local" == platform_of("http://localhost:8080/1", hosts)
    assert platform_of("https://notmeet.example/1", hosts) is None


@given(
    st.text(max_size=40),
    st.sampled_from(["https://{}", "https://{}zoom.us/", "https://zoom.us{}", "https://zoom.us/{}"]),
)
def test_any_text_is_a_platform_or_none(text: str, form: str) -> None:
    """No text makes the recogniser raise."""
    assert platform_of(form.format(text)) in (None, "zoom")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["meetingUrl", "transcript", "recording", "botName", "metadata", "automaticLeave", "joinAt", "provider", "x"]


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(), JSON, max_size=5), st.booleans())
def test_any_value_is_a_start_or_a_refusal(data: dict[str, Any], with_url: bool) -> None:
    """Whatever a caller passes, also in Python, the only failure is the refusal; details name top-level fields."""
    sent = {**data, "meetingUrl": ZOOM} if with_url else data
    read: object = None
    try:
        read = parse_start(sent, now_ms=NOW_MS)
    except InvalidRequest as refusal:
        read = [detail["path"] for detail in refusal.details]
    assert isinstance(read, StartBot) or (read and all(isinstance(path, list) for path in read))


def test_an_estimate_reads_its_query() -> None:
    """Minutes are required, the transcript is on unless said otherwise."""
    assert (30, True) == (
        parse_estimate([("durationMinutes", "30")]).duration_minutes,
        parse_estimate([("durationMinutes", "30")]).transcript,
    )
    for text, expected in {"true": True, "1": True, "false": False, "0": False}.items():
        assert expected is parse_estimate([("durationMinutes", "1440"), ("transcript", text)]).transcript


@pytest.mark.parametrize(
    ("query", "path", "code"),
    [
        pytest.param([], ["durationMinutes"], "missing", id="missing"),
        pytest.param([("durationMinutes", "0")], ["durationMinutes"], "too_small", id="zero"),
        pytest.param([("durationMinutes", "1441")], ["durationMinutes"], "too_big", id="more-than-a-day"),
        *(
            pytest.param([("durationMinutes", text)], ["durationMinutes"], "invalid_type", id=f"not-digits-{text!r}")
            for text in ["", "-1", "+1", "1.0", "1e1", " 1", "1\n", "1_0", "0000001", "１２", "true", "9" * 5_000]
        ),
        *(
            pytest.param(
                [("durationMinutes", "1"), ("transcript", text)], ["transcript"], "invalid_type", id=f"no-{text!r}"
            )
            for text in ["", "True", "yes", "2", "null"]
        ),
        pytest.param(
            [("durationMinutes", "1"), ("durationMinutes", "1")], ["durationMinutes"], "duplicate", id="twice"
        ),
        pytest.param([("durationMinutes", "1"), ("x", "1")], ["x"], "unknown_field", id="unknown"),
        pytest.param([("durationMinutes", "1"), ("x", "1"), ("x", "2")], ["x"], "duplicate", id="unknown-twice"),
        pytest.param(
            [("duration_minutes", "1"), ("durationMinutes", "1")], ["duration_minutes"], "unknown_field", id="pythonic"
        ),
    ],
)
def test_an_estimate_out_of_bounds_is_refused_by_name(query: list[tuple[str, str]], path: list[Any], code: str) -> None:
    """Query integers are 1 to 6 ASCII digits, booleans one of four words; nothing is repeated or unknown."""
    assert [(path, code)] == faults(parse_estimate, query)


def test_a_list_reads_its_query() -> None:
    """Everything is optional; every status of a bot is a filter."""
    bare = parse_list([])
    full = parse_list([("limit", "100"), ("cursor", "abc"), ("status", "in_call")])

    assert (None, 20, None) == (bare.status, bare.limit, bare.cursor)
    assert ("in_call", 100, "abc") == (full.status, full.limit, full.cursor)
    assert list(STATUSES) == [parse_list([("status", status)]).status for status in STATUSES]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("limit", "0", "too_small"),
        ("limit", "101", "too_big"),
        ("limit", "x", "invalid_type"),
        ("status", "", "invalid_value"),
        ("status", "DONE", "invalid_value"),
        ("cursor", "", "too_small"),
        ("cursor", "x" * 513, "too_big"),
        ("cursor", "\0", "invalid_string"),
    ],
)
def test_a_list_out_of_bounds_is_refused_by_name(name: str, value: str, code: str) -> None:
    """Each filter has its limits."""
    assert [([name], code)] == faults(parse_list, [(name, value)])


def test_a_webhook_is_read_byte_for_byte() -> None:
    """The URL is not normalised; without events the choice is left open."""
    url = "https://Example.com:443/a/../b?x=%7e#frag"
    bare = parse_webhook({"forward_url": url})
    full = parse_webhook({"forward_url": url, "rotate_secret": True, "events": list(ALL_EVENTS)})

    assert (url, False, None) == (bare.forward_url, bare.rotate_secret, bare.events)
    assert (True, list(ALL_EVENTS)) == (full.rotate_secret, full.events)
    assert 6 == len(DEFAULT_EVENTS)
    assert set(DEFAULT_EVENTS) < set(ALL_EVENTS)


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        pytest.param({"forward_url": None}, ["forward_url"], "invalid_type", id="url-null"),
        pytest.param({"forward_url": "ftp://a.example/"}, ["forward_url"], "invalid_url", id="url-scheme"),
        pytest.param({"forward_url": "https://u:p@a.example/"}, ["forward_url"], "invalid_url", id="url-credentials"),
        pytest.param(
            {"forward_url": "https://@a.example/"}, ["forward_url"], "invalid_url", id="url-empty-credentials"
        ),
        pytest.param({"forward_url": "http://a\\@b.example/"}, ["forward_url"], "invalid_url", id="url-backslash"),
        pytest.param({"forward_url": "https://"}, ["forward_url"], "invalid_url", id="url-no-host"),
        pytest.param(
            {"forward_url": "https://a.example/\r\nx: y"}, ["forward_url"], "invalid_url", id="url-line-break"
        ),
        pytest.param(
            {"forward_url": "https://a.example/" + "x" * 2_048}, ["forward_url"], "too_big", id="url-too-long"
        ),
        pytest.param({"rotate_secret": None}, ["rotate_secret"], "invalid_type", id="rotate-null"),
        pytest.param({"rotate_secret": 1}, ["rotate_secret"], "invalid_type", id="rotate-one"),
        pytest.param({"events": None}, ["events"], "invalid_type", id="events-null"),
        pytest.param({"events": []}, ["events"], "too_small", id="events-empty"),
        pytest.param({"events": ["bot.done", "bot.x"]}, ["events", 1], "invalid_value", id="events-unknown"),
        pytest.param({"events": ["bot.done", "bot.done"]}, ["events"], "duplicate", id="events-twice"),
        pytest.param({"forwardUrl": "x"}, ["forwardUrl"], "unknown_field", id="unknown"),
    ],
)
def test_a_webhook_out_of_bounds_is_refused_by_name(change: Mapping[str, Any], path: list[Any], code: str) -> None:
    """Each fault of an endpoint is told under its wire name."""
    assert [(path, code)] == faults(parse_webhook, {"forward_url": "https://a.example/", **change})


def test_an_ipv6_endpoint_has_a_plain_url() -> None:
    """Whether an address may be called is decided elsewhere; its form is a good one."""
    assert (
        "http://[2606:4700::1111]:8080/x"
        == parse_webhook({"forward_url": "http://[2606:4700::1111]:8080/x"}).forward_url
    )


def test_the_schema_tells_the_limits() -> None:
    """What the API's description says of a start is what is enforced; nothing claims to accept null."""
    schema = StartBot.model_json_schema(by_alias=True)

    assert ["meetingUrl"] == schema["required"]
    assert ["mp4", "audio_only", False] == schema["properties"]["recording"]["enum"]
    assert (1, 64) == (schema["properties"]["botName"]["minLength"], schema["properties"]["botName"]["maxLength"])
    assert {"type": "string", "format": "date-time"}.items() <= schema["properties"]["joinAt"].items()
    assert {(1, 86_400)} == {
        (prop["minimum"], prop["maximum"])
        for prop in AutomaticLeave.model_json_schema(by_alias=True)["properties"].values()
    }
    assert "null" not in json.dumps(schema)
