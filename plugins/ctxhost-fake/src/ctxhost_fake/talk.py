"""What was said in a call: a short conversation, as long as the recording, in Recall's download format."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Final

from ctxhost.clock import rfc3339

NAMES: Final = ("Dana Ortiz", "Lee Park", "Amara Nwosu", "Jonas Weber", "Priya Raman", "Tomás Silva", "Mei Tanaka")
# The first number of each line says whose turn it is; with two speakers, the third one's turns are the second one's.
_OPENING: Final = (
    (0, "Good morning, can everybody hear me?"),
    (1, "Yes, loud and clear."),
    (2, "Hi, thanks for making the time."),
    (0, "Then let us begin, we have a short list today."),
)
_TOPICS: Final = (
    (
        (0, "How is the release coming along?"),
        (1, "The last two bugs were fixed yesterday, so we can ship on Thursday."),
        (2, "The release notes are written, they only need a second pair of eyes."),
    ),
    (
        (1, "Support has fewer tickets than last week, but one customer cannot export a report."),
        (0, "Who looks into that?"),
        (1, "I do, I will have an answer before lunch."),
    ),
    (
        (2, "The new pricing page is up, and the first numbers look good."),
        (0, "Let us wait for two full weeks before we decide anything."),
        (2, "Agreed, I will bring a chart next time."),
    ),
    (
        (1, "We should talk about the offsite in March."),
        (2, "I asked three places, and the one by the lake is still free."),
        (0, "Please send the dates around, then we vote."),
    ),
    (
        (0, "Did the interviews on Tuesday go well?"),
        (2, "Very well, I would like to invite two of them again."),
        (1, "I am happy to join the second round."),
    ),
    (
        (2, "The search is slow for our biggest account."),
        (1, "It reads the whole table, an index should do it."),
        (0, "Can you try that on staging first?"),
        (1, "Of course, this afternoon."),
    ),
)
_CLOSING: Final = (
    (0, "Anything else? No? Then thank you all."),
    (1, "Thanks, talk to you tomorrow."),
    (2, "Bye."),
)

_Lines = Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Utterances with times since the block began; it lasts `length_ms`, the pause behind it included."""

    utterances: Sequence[tuple[int, Sequence[_Word]]]
    length_ms: int


def transcript(*, seed: int, bot: str, started_ms: int, duration_ms: int) -> list[dict[str, Any]]:
    """Utterances in order: `[{participant: {…}, words: [{text, start_timestamp, end_timestamp}]}]`.

    Relative times are seconds since `started_ms`; no word ends after `duration_ms`. The same arguments give the same
    talk.
    """
    dice = random.Random(f"{seed}/{bot}/talk")  # noqa: S311 - must repeat, not be secret
    names = dice.sample(NAMES, dice.choice((2, 3)))
    people = [_participant(number, name) for number, name in enumerate(names)]
    said: list[dict[str, Any]] = []
    at_ms = dice.randint(400, 1_200)
    for block in _blocks(dice, duration_ms - at_ms):
        for turn, words in block.utterances:
            kept = [_told(word, at_ms, started_ms) for word in words if at_ms + word.end_ms <= duration_ms]
            if kept:
                said.append({"participant": people[min(turn, len(people) - 1)], "words": kept})
        at_ms += block.length_ms
    return said


def _blocks(dice: random.Random, room_ms: int) -> list[_Block]:
    """An opening, as many topics as there is room for, a closing; the pauses between them fill the room."""
    opening, closing = _spoken(_OPENING, dice), _spoken(_CLOSING, dice)
    left_ms = room_ms - opening.length_ms - closing.length_ms
    blocks = [opening]
    for lines in cycle(dice.sample(_TOPICS, len(_TOPICS))):
        topic = _spoken(lines, dice)
        if topic.length_ms > left_ms:
            break
        left_ms -= topic.length_ms
        blocks.append(topic)
    pause_ms = max(left_ms, 0) // len(blocks)
    return [*(replace(block, length_ms=block.length_ms + pause_ms) for block in blocks), closing]


def _spoken(lines: _Lines, dice: random.Random) -> _Block:
    at_ms = 0
    utterances = []
    for turn, line in lines:
        words = []
        for text in line.split():
            end_ms = at_ms + 90 + 45 * len(text) + dice.randint(0, 60)
            words.append(_Word(text, at_ms, end_ms))
            at_ms = end_ms + dice.randint(20, 80)
        utterances.append((turn, words))
        at_ms += dice.randint(300, 900)
    return _Block(utterances, at_ms)


def _participant(number: int, name: str) -> dict[str, Any]:
    return {
        "id": (number + 1) * 100,
        "name": name,
        "is_host": number == 0,
        "platform": "desktop",
        "extra_data": None,
        "email": None,
    }


def _told(word: _Word, at_ms: int, started_ms: int) -> dict[str, Any]:
    return {
        "text": word.text,
        "start_timestamp": _timestamp(at_ms + word.start_ms, started_ms),
        "end_timestamp": _timestamp(at_ms + word.end_ms, started_ms),
    }


def _timestamp(relative_ms: int, started_ms: int) -> dict[str, Any]:
    return {"relative": relative_ms / 1_000, "absolute": rfc3339(started_ms + relative_ms)}
