"""The sandbox's checks: all hold for a perfect run, and each thing that can go wrong breaks the one meant for it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from ctxhost.cli.sandbox.checks import check_all
from ctxhost.cli.sandbox.evidence import Delivery, Download, Evidence, Part, Story, is_signed_message, signed_body
from ctxhost.webhooks.signing import signed_headers

SECRET = "wsec_abcdefghijklmnopqrstuvwxyz0123456789"
BODY = b'{"event":"bot.done"}'
NOW_MS = 1_780_000_000_000

LIFE = ["bot.joining_call", "bot.in_waiting_room", "bot.in_call_not_recording", "bot.in_call_recording"]
HAPPY = ["bot.in_call_recording", "recording.done", "transcript.done", "bot.done"]
LINES = {"recording": Decimal("0.007333333"), "transcription": Decimal("0.0022")}
USAGE = {"recording": "0.007333", "transcription": "0.002200"}


def _story(name: str, events: list[str], *, charged: list[str], **bot: Any) -> Story:
    history = [*LIFE, "bot.call_ended", *events] if "bot.done" in events else events
    urls = {"recordingUrl": "http://r", "transcriptUrl": "http://t"}
    return Story(
        part=Part(name=name, function="spawn-bot", script="happy"),
        answer_status=200,
        answer={"bot_id": name, "status": "joining"},
        bot={"status": "done", "statusReason": None, "durationSeconds": 44, **urls, **bot},
        events=[
            {"event": event, "subCode": None, "at": "2026-06-11T19:18:53.734Z"} for event in dict.fromkeys(history)
        ],
        seen_s={},
        deliveries=[
            Delivery(
                event=event,
                webhook_id=f"{name}/{event}",
                bot=name,
                status=200,
                body_signed=True,
                message_signed=True,
            )
            for event in events
        ],
        row_before={
            "status": "joining",
            "last_event": "spawn",
            "events_count": 0,
            "recording_url": None,
            "transcript_url": None,
        },
        row_after={
            "status": "done",
            "last_event": "bot.done",
            "events_count": 4,
            "recording_url": "http://r",
            "transcript_url": "http://t",
        },
        charges=[{"dimension": line, "quantity": 44, "amount_usd": -LINES[line]} for line in charged],
    )


def perfect() -> Evidence:
    both = ["recording", "transcription"]
    words = [{"participant": {"name": "Ada"}, "words": [{"text": "Hello"}]}]
    return Evidence(
        stories=[
            _story("happy", HAPPY, charged=both),
            _story("happy, by HTTP", HAPPY, charged=both),
            _story("no meeting", ["bot.fatal"], charged=[], status="fatal", statusReason="meeting_not_found"),
            _story(
                "no transcript",
                ["bot.in_call_recording", "recording.done", "transcript.failed", "bot.done"],
                charged=["recording"],
                transcriptUrl=None,
            ),
        ],
        recording=Download(status=200, media_type="video/mp4", content=b"\0\0\0\x20ftypisom"),
        transcript=Download(status=200, media_type="application/json", content=json.dumps(words).encode()),
        talk="Ada: Hello",
        credits_before={"available_usd": Decimal(5), "balance_usd": Decimal(5)},
        credits_held={"held_usd": Decimal("0.065")},
        credits_after={"held_usd": Decimal(0), "balance_usd": Decimal("4.973600001")},
        usage=[
            {"dimension": line, "seconds": Decimal(44), "usd_charged": USAGE[line]}
            for line in ["recording"] * 3 + ["transcription"] * 2
        ],
        estimate_usd=[Decimal("0.39"), Decimal("0.3")],
        forged_status=401,
        findings=[],
        settled=True,
        took_s=9.0,
    )


def _happy(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda seen: replace(seen, stories=[replace(seen.stories[0], **changes), *seen.stories[1:]])


def _happy_bot(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda seen: _happy(bot={**seen.stories[0].bot, **changes})(seen)


def _other(number: int, **changes: Any) -> Callable[[Evidence], Evidence]:
    def change(seen: Evidence) -> Evidence:
        stories = list(seen.stories)
        stories[number] = replace(stories[number], bot={**stories[number].bot, **changes})
        return replace(seen, stories=stories)

    return change


def _first_delivery(**changes: Any) -> Callable[[Evidence], Evidence]:
    def change(seen: Evidence) -> Evidence:
        first, *rest = seen.stories[0].deliveries
        return _happy(deliveries=[replace(first, **changes), *rest])(seen)

    return change


def _charged(number: int, lines: list[str]) -> Callable[[Evidence], Evidence]:
    def change(seen: Evidence) -> Evidence:
        stories = list(seen.stories)
        charges = [{"dimension": line, "quantity": 44, "amount_usd": -LINES[line]} for line in lines]
        stories[number] = replace(stories[number], charges=charges)
        return replace(seen, stories=stories)

    return change


def _with(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda seen: replace(seen, **changes)


def _row(**changes: Any) -> Mapping[str, Any]:
    return {**perfect().happy.row_after, **changes}


MISHAPS: dict[str, Callable[[Evidence], Evidence]] = {
    "every bot came to its end": _with(settled=False),
    "POST /fn/spawn-bot answers": _happy(answer_status=502),
    "the bot “happy” lives": _happy(events=perfect().happy.events[1:]),
    "a call of 44 seconds": _happy_bot(durationSeconds=45),
    "without a meeting": _other(2, status="done"),
    "without a transcript": _other(3, transcriptUrl="http://t"),
    "the events of “happy” are": _happy(deliveries=perfect().happy.deliveries[::-1]),
    "each event has one webhook-id": _first_delivery(webhook_id="happy/bot.done"),
    "the app's function finds": _first_delivery(status=401),
    "both signatures": _first_delivery(message_signed=False),
    "a forged event": _with(forged_status=200),
    "the app's row begins": _happy(row_before=_row()),
    "the app's row fills": _happy(row_after=_row(transcript_url=None)),
    "the recording downloads": _with(recording=None),
    "the transcript downloads": _with(transcript=Download(status=200, media_type="application/json", content=b"[]")),
    "the account begins": _with(credits_before={"available_usd": Decimal(4), "balance_usd": Decimal(4)}),
    "$0.065 are held": _with(credits_held={"held_usd": Decimal("0.0650001")}),
    "$0.009533333 are charged": _charged(0, ["recording"]),
    "the same over HTTP": _charged(1, []),
    "no meeting costs nothing": _charged(2, ["recording"]),
    "a failed transcript": _charged(3, ["recording", "transcription"]),
    "usage has a row": _with(usage=perfect().usage[1:]),
    "nothing is held": _with(credits_after={"held_usd": Decimal("0.1"), "balance_usd": Decimal("4.973600001")}),
    "the rest is back": _with(credits_after={"held_usd": Decimal(0), "balance_usd": Decimal("4.973600002")}),
    "30 minutes": _with(estimate_usd=[Decimal("0.39"), Decimal("0.31")]),
    "the books are right": _with(findings=["held is 1"]),
}


def test_a_perfect_run_keeps_every_promise() -> None:
    """No check asks for more than the worked example promises."""
    assert [] == [check.promise for check in check_all(perfect()) if not check.holds]


@pytest.mark.parametrize("promise", MISHAPS)
def test_each_mishap_breaks_its_promise(promise: str) -> None:
    """Whatever goes wrong is seen, by the check that names it."""
    broken = [check.promise for check in check_all(MISHAPS[promise](perfect())) if not check.holds]

    assert any(name.startswith(promise) for name in broken), broken


def test_every_check_has_a_mishap() -> None:
    """A new check cannot come without a proof that it can fail. Those of the bots beside the happy one are alike."""
    alike = ("POST /fn/spawn-bot", "the bot “happy, by HTTP”", "the events of ")
    without = [check.promise for check in check_all(perfect()) if not check.promise.startswith((*MISHAPS, *alike))]

    assert [] == without


def test_both_signatures_are_checked_anew() -> None:
    """The formula written here agrees with the platform's, and a changed byte or another secret does not."""
    headers = signed_headers(secrets=[SECRET], message_id="msg_1", now_ms=NOW_MS, event="bot.done", body=BODY)

    assert headers["x-bb-signature"] == signed_body(SECRET, BODY)
    assert headers["x-bb-signature"] != signed_body(SECRET, BODY + b" ")
    assert is_signed_message(SECRET, headers, BODY, now_ms=NOW_MS)
    assert not is_signed_message(SECRET, headers, BODY + b" ", now_ms=NOW_MS)
    assert not is_signed_message(SECRET + "x", headers, BODY, now_ms=NOW_MS)
