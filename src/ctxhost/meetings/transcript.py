"""A transcript in other forms: from Recall's published JSON to text, WebVTT and SubRip. Pure.

The JSON is a list of utterances, `{participant: {name}, words: [{text, start_timestamp: {relative}, end_timestamp}]}`,
with times in seconds from the start of the recording. Names, times and words may be missing.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

Format = Literal["json", "text", "vtt", "srt"]

UNKNOWN: Final = "Unknown speaker"
CUE_CHARS: Final = 84
"""Two lines of a caption: a longer utterance is shown in parts."""
CUE_MS: Final = 7_000
LEAST_CUE_MS: Final = 500
"""How long a cue is shown whose end is not known, or not after its start."""

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class NotATranscript(Exception):
    """The bytes are not a transcript; the message says why."""


@dataclass(frozen=True, slots=True)
class Word:
    """What is between two spaces; a time that is not known is None."""

    text: str
    start_ms: int | None
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one speaker said without being interrupted; at least one word."""

    speaker: str
    words: Sequence[Word]

    @property
    def text(self) -> str:
        return _joined([word.text for word in self.words])


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown at a time."""

    start_ms: int
    end_ms: int
    speaker: str
    text: str


def convert(raw: bytes, form: Format) -> bytes:
    """A downloaded transcript in another form; as `json` it stays as it is, byte for byte.

    Raises:
        NotATranscript: it is not JSON, or not of the published shape.
    """
    utterances = parse(raw)
    if form == "json":
        return raw
    writers = {"text": as_text, "vtt": as_vtt, "srt": as_srt}
    return writers[form](utterances).encode()


def parse(raw: bytes) -> list[Utterance]:
    """The utterances that have words, in the order in which they come. Raises `NotATranscript`."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise NotATranscript("it is not JSON") from None
    if not isinstance(document, list) or not all(isinstance(part, dict) for part in document):
        raise NotATranscript("it is not a list of utterances")
    found = [Utterance(_speaker(part.get("participant")), list(_words(part.get("words")))) for part in document]
    return [utterance for utterance in found if utterance.words]


def as_text(utterances: Sequence[Utterance]) -> str:
    """One line for each utterance: `Dana Ortiz: Morning, shall we begin?`"""
    return "".join(f"{said.speaker}: {said.text}\n" for said in utterances)


def as_vtt(utterances: Sequence[Utterance]) -> str:
    """WebVTT with a voice for each cue."""
    blocks = [
        f"{_stamp(cue.start_ms, '.')} --> {_stamp(cue.end_ms, '.')}\n"
        f"<v {escape(cue.speaker, quote=False)}>{escape(cue.text, quote=False)}</v>\n"
        for cue in cues(utterances)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def as_srt(utterances: Sequence[Utterance]) -> str:
    """SubRip, each cue led by its speaker. SubRip has no escapes: an arrow in a text, which would end it, is drawn."""
    blocks = [
        f"{number}\n{_stamp(cue.start_ms, ',')} --> {_stamp(cue.end_ms, ',')}\n"
        + f"{cue.speaker}: {cue.text}\n".replace("-->", "→")
        for number, cue in enumerate(cues(utterances), start=1)
    ]
    return "\n".join(blocks)


def cues(utterances: Sequence[Utterance]) -> list[Cue]:
    """The captions, by their start; each ends after it starts. What has no time follows what was said before it."""
    found: list[Cue] = []
    now_ms = 0
    for said in utterances:
        for part in _parts(said.words):
            starts = [word.start_ms for word in part if word.start_ms is not None]
            ends = [word.end_ms for word in part if word.end_ms is not None]
            start_ms = min(starts, default=now_ms)
            end_ms = max(ends, default=start_ms)
            now_ms = end_ms if end_ms > start_ms else start_ms + LEAST_CUE_MS
            found.append(Cue(start_ms, now_ms, said.speaker, _joined([word.text for word in part])))
    return sorted(found, key=lambda cue: cue.start_ms)


def _parts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """An utterance in parts that can be read in one glance."""
    part: list[Word] = []
    chars = 0
    for word in words:
        if part and (chars + len(word.text) >= CUE_CHARS or _length_ms(part[0], word) > CUE_MS):
            yield part
            part, chars = [], 0
        part.append(word)
        chars += len(word.text) + 1
    if part:
        yield part


def _length_ms(first: Word, last: Word) -> int:
    if first.start_ms is None or last.end_ms is None:
        return 0
    return last.end_ms - first.start_ms


def _speaker(participant: Any) -> str:
    name = participant.get("name") if isinstance(participant, Mapping) else None
    return (_clean(name) if isinstance(name, str) else "") or UNKNOWN


def _words(words: Any) -> Iterator[Word]:
    for word in words if isinstance(words, list) else ():
        if isinstance(word, Mapping) and isinstance(word.get("text"), str) and (text := _clean(word["text"])):
            yield Word(text, _ms(word.get("start_timestamp")), _ms(word.get("end_timestamp")))


def _clean(text: str) -> str:
    """On one line, without what a caption cannot carry."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _ms(timestamp: Any) -> int | None:
    relative = timestamp.get("relative") if isinstance(timestamp, Mapping) else None
    if not isinstance(relative, int | float) or isinstance(relative, bool) or not abs(relative) < 1e9:
        return None
    return max(round(relative * 1_000), 0)


def _joined(texts: Sequence[str]) -> str:
    """With a space between words, but not where both sides are of a script that is written without."""
    text = ""
    for word in texts:
        glued = not text or (_is_unspaced(text[-1]) and _is_unspaced(word[0]))
        text += word if glued else f" {word}"
    return text


def _is_unspaced(char: str) -> bool:
    """Chinese and Japanese, with their punctuation. Korean is as wide and has spaces."""
    return unicodedata.east_asian_width(char) in "WF" and "HANGUL" not in unicodedata.name(char, "")


def _stamp(ms: int, mark: str) -> str:
    seconds, ms = divmod(ms, 1_000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{mark}{ms:03d}"
