"""The promises of the worked example, each a named comparison of what was seen with what is right."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ctxhost.cli.sandbox.evidence import Download, Evidence, Story

STATUS_OF_EVENT = {
    "bot.joining_call": "joining",
    "bot.in_waiting_room": "waiting_room",
    "bot.in_call_not_recording": "in_call",
    "bot.in_call_recording": "recording",
    "bot.call_ended": "ended",
    "bot.done": "done",
    "bot.fatal": "fatal",
}
LIFE = ["joining", "waiting_room", "in_call", "recording", "ended", "done"]
HAPPY_EVENTS = ["bot.in_call_recording", "recording.done", "transcript.done", "bot.done"]
NO_WORDS_EVENTS = ["bot.in_call_recording", "recording.done", "transcript.failed", "bot.done"]

CALL_S = 44
START_USD = Decimal(5)
HELD_USD = Decimal("0.065")
RECORDING_USD = Decimal("0.007333333")
TRANSCRIPTION_USD = Decimal("0.0022")
CHARGED_USD = RECORDING_USD + TRANSCRIPTION_USD
BALANCE_USD = START_USD - 2 * CHARGED_USD - RECORDING_USD
RECORDING_ROW = ("recording", CALL_S, "0.007333")
TRANSCRIPTION_ROW = ("transcription", CALL_S, "0.002200")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise. It holds when both sides are equal."""

    about: str
    promise: str
    expected: Any
    actual: Any

    @property
    def holds(self) -> bool:
        return bool(self.expected == self.actual)


def check_all(evidence: Evidence) -> list[Check]:
    """Every check, in the order of the report."""
    return [check for group in _GROUPS for check in group(evidence)]


def _lives(evidence: Evidence) -> Iterator[Check]:
    happy, by_http, no_meeting, no_words = evidence.stories
    yield Check(about="life", promise="every bot came to its end in time", expected=True, actual=evidence.settled)
    for story in (happy, by_http):
        yield Check(
            about="life",
            promise=f"POST /fn/{story.part.function} answers with a bot that is joining",
            expected=(200, "joining"),
            actual=(story.answer_status, story.answer.get("status")),
        )
        yield Check(
            about="life",
            promise=f"the bot “{story.part.name}” lives its whole life",
            expected=LIFE,
            actual=_life(story),
        )
    yield Check(
        about="life",
        promise="a call of 44 seconds is 44 seconds long",
        expected=CALL_S,
        actual=happy.bot.get("durationSeconds"),
    )
    yield Check(
        about="life",
        promise="without a meeting behind the link the bot ends fatal",
        expected=("fatal", "meeting_not_found"),
        actual=(no_meeting.bot.get("status"), no_meeting.bot.get("statusReason")),
    )
    yield Check(
        about="life",
        promise="without a transcript the bot still ends done",
        expected=("done", True, None),
        actual=(
            no_words.bot.get("status"),
            bool(no_words.bot.get("recordingUrl")),
            no_words.bot.get("transcriptUrl", "missing"),
        ),
    )


def _webhooks(evidence: Evidence) -> Iterator[Check]:
    expected = (HAPPY_EVENTS, HAPPY_EVENTS, ["bot.fatal"], NO_WORDS_EVENTS)
    for story, events in zip(evidence.stories, expected, strict=True):
        yield Check(
            about="webhooks",
            promise=f"the events of “{story.part.name}” are accepted in order",
            expected=events,
            actual=story.delivered,
        )
    deliveries = [delivery for story in evidence.stories for delivery in story.deliveries]
    yield Check(
        about="webhooks",
        promise="each event has one webhook-id of its own",
        expected=sum(map(len, expected)),
        actual=len({delivery.webhook_id for delivery in deliveries}),
    )
    yield Check(
        about="webhooks",
        promise="the app's function finds every signature right",
        expected=[],
        actual=sorted({f"{d.event} was answered {d.status}" for d in deliveries if not d.accepted}),
    )
    yield Check(
        about="webhooks",
        promise="both signatures of every delivery are right",
        expected=[],
        actual=sorted({d.event for d in deliveries if not d.verified}),
    )
    yield Check(about="webhooks", promise="a forged event is refused", expected=401, actual=evidence.forged_status)


def _row(evidence: Evidence) -> Iterator[Check]:
    columns = ("status", "last_event", "events_count", "recording_url", "transcript_url")
    before, after = evidence.happy.row_before, evidence.happy.row_after
    yield Check(
        about="row",
        promise="the app's row begins empty",
        expected=("joining", "spawn", 0, None, None),
        actual=tuple(before.get(column) for column in columns),
    )
    yield Check(
        about="row",
        promise="the app's row fills up",
        expected=("done", "bot.done", len(HAPPY_EVENTS), True, True),
        actual=(*(after.get(c) for c in columns[:3]), *(bool(after.get(c)) for c in columns[3:])),
    )


def _artifacts(evidence: Evidence) -> Iterator[Check]:
    yield Check(
        about="artifacts",
        promise="the recording downloads without credentials, as an MP4",
        expected=(200, "video/mp4", True),
        actual=_downloaded(evidence.recording, lambda content: content[4:8] == b"ftyp"),
    )
    yield Check(
        about="artifacts",
        promise="the transcript downloads without credentials, with its speakers",
        expected=(200, "application/json", True),
        actual=_downloaded(evidence.transcript, lambda content: bool(speakers(content))),
    )


def _money(evidence: Evidence) -> Iterator[Check]:
    happy, by_http, no_meeting, no_words = evidence.stories

    def check(promise: str, expected: Any, actual: Any) -> Check:
        return Check(about="money", promise=promise, expected=expected, actual=actual)

    yield check("the account begins with $5", START_USD, evidence.credits_before["available_usd"])
    yield check("$0.065 are held at the start of a bot", HELD_USD, evidence.credits_held["held_usd"])
    yield check("$0.009533333 are charged for its call", CHARGED_USD, happy.charged_usd)
    yield check("the same over HTTP costs the same", CHARGED_USD, by_http.charged_usd)
    yield check("no meeting costs nothing", Decimal(0), no_meeting.charged_usd)
    yield check("a failed transcript is not charged", RECORDING_USD, no_words.charged_usd)
    yield check(
        "usage has a row for each charge, to six places",
        sorted([RECORDING_ROW] * 3 + [TRANSCRIPTION_ROW] * 2),
        sorted((row["dimension"], int(row["seconds"]), row["usd_charged"]) for row in evidence.usage),
    )
    yield check("nothing is held at the end", Decimal(0), evidence.credits_after["held_usd"])
    yield check("the rest is back, to the nano-dollar", BALANCE_USD, evidence.credits_after["balance_usd"])
    yield check(
        "30 minutes are estimated at $0.39, or $0.30 without a transcript",
        [Decimal("0.39"), Decimal("0.3")],
        list(evidence.estimate_usd),
    )
    yield check("the books are right", [], list(evidence.findings))


_GROUPS: Sequence[Callable[[Evidence], Iterator[Check]]] = (_lives, _webhooks, _row, _artifacts, _money)


def speakers(transcript: bytes) -> list[str]:
    """Who speaks in a transcript, in the order of their first words; none when it is not one."""
    try:
        return list(dict.fromkeys(part["participant"]["name"] for part in json.loads(transcript) if part["words"]))
    except (ValueError, KeyError, TypeError):
        return []


def _life(story: Story) -> list[str]:
    return [STATUS_OF_EVENT[event["event"]] for event in story.events if event["event"] in STATUS_OF_EVENT]


def _downloaded(found: Download | None, looks_right: Callable[[bytes], bool]) -> tuple[int, str, bool] | None:
    return None if found is None else (found.status, found.media_type, looks_right(found.content))
