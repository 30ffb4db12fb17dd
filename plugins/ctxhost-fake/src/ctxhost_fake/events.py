"""Which webhooks a life sends, and when: pure. Bodies have the form of Recall's."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ctxhost.meetings.provider import End, Phase
from ctxhost_fake.life import Act, Birth, Life, Outcome, id_of, plan, visible_ms

_KINDS = {
    Phase.JOINING: "bot.joining_call",
    Phase.WAITING_ROOM: "bot.in_waiting_room",
    Phase.IN_CALL: "bot.in_call_not_recording",
    Phase.RECORDING: "bot.in_call_recording",
    Phase.ENDED: "bot.call_ended",
    Phase.DONE: "bot.done",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATE_S = (20, 120)
_COPY_WITHIN_S = 10
_GROUP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a webhook tells."""

    of: str
    """The bot, by the fake's own id."""
    kind: str
    offset_ms: int
    sub_code: str | None = None
    recording: str = ""
    transcript: str = ""

    @property
    def id(self) -> str:
        """The `webhook-id`, the same at every attempt. Made when it is needed."""
        return f"msg_{id_of(self.of, self.kind)}"


@dataclass(frozen=True, slots=True)
class Send:
    """One intended delivery of an event; `copy` counts from 0."""

    due_ms: int
    event: Event
    copy: int = 0

    @property
    def key(self) -> str:
        return f"{self.event.id}.{self.copy}"


def schedule(life: Life) -> list[tuple[int, Event]]:
    """Every event, with the moment from which on it is true, in that order."""
    planned = plan(life)
    birth = life.birth
    is_fatal = any(act.end is End.FAILED for act in planned.acts)
    *before, done = planned.acts
    events = [_of_act(birth, act) for act in before]
    if planned.media:
        events.append(_of_artifact(birth, "recording", planned.media, recording=planned.recording))
    if planned.transcript:
        ids = {"recording": planned.recording, "transcript": planned.transcript.id}
        events.append(_of_artifact(birth, "transcript", planned.transcript, **ids))
    if not is_fatal:
        events.append(_of_act(birth, done))
    return [(visible_ms(birth, event.offset_ms), event) for event in events]


def sends(life: Life) -> list[Send]:
    """What is really sent, in order: the schedule with the accidents that the bot's part prescribes."""
    planned: Iterable[Send] = [Send(due_ms, event) for due_ms, event in schedule(life)]
    chosen = life.birth.webhooks
    if "lost" in chosen:
        return []
    if "some_lost" in chosen:
        planned = [send for send in planned if _dice(life.birth, "lost", send.event).random() < 0.5]
    if "reordered" in chosen:
        planned = _reordered(life.birth, list(planned))
    if "late" in chosen:
        planned = [_delayed(life.birth, send) for send in planned]
    if "duplicated" in chosen:
        planned = [copy for send in planned for copy in _copies(life.birth, send)]
    return sorted(planned, key=lambda send: send.due_ms)


def body(event: Event, birth: Birth) -> bytes:
    """The JSON that is posted."""
    metadata = {**birth.metadata, "bb_bot_id": birth.bot, "bb_app_id": birth.app}
    status = {
        "code": event.kind.partition(".")[2],
        "sub_code": event.sub_code,
        "updated_at": _iso(birth.start_ms + event.offset_ms),
    }
    data: dict[str, Any] = {"data": status, "bot": {"id": birth.id, "metadata": metadata}}
    if event.recording:
        data["recording"] = {"id": event.recording, "metadata": {}}
    if event.transcript:
        data["transcript"] = {"id": event.transcript, "metadata": {}}
    return json.dumps({"event": event.kind, "data": data}, separators=(",", ":")).encode()


def _of_act(birth: Birth, act: Act) -> Event:
    kind = "bot.fatal" if act.end is End.FAILED else _KINDS[act.phase]
    return Event(of=birth.id, kind=kind, offset_ms=act.offset_ms, sub_code=act.reason or None)


def _of_artifact(birth: Birth, name: str, outcome: Outcome, *, recording: str, transcript: str = "") -> Event:
    kind = f"{name}.{outcome.state}"
    return Event(
        of=birth.id,
        kind=kind,
        offset_ms=outcome.offset_ms,
        sub_code=outcome.reason or None,
        recording=recording,
        transcript=transcript,
    )


def _reordered(birth: Birth, planned: Sequence[Send]) -> list[Send]:
    """Groups of three, each sent when its last has happened, in an order that is not its own."""
    shuffled: list[Send] = []
    for start in range(0, len(planned), _GROUP):
        group = list(planned[start : start + _GROUP])
        due_ms = group[-1].due_ms
        dice = _dice(birth, "reordered", group[0].event)
        order = list(group)
        while len(group) > 1 and order == group:
            dice.shuffle(order)
        shuffled += [replace(send, due_ms=due_ms) for send in order]
    return shuffled


def _delayed(birth: Birth, send: Send) -> Send:
    delay_s = _dice(birth, "late", send.event).uniform(*_LATE_S)
    return replace(send, due_ms=send.due_ms + round(delay_s * 1_000 / birth.speed))


def _copies(birth: Birth, send: Send) -> list[Send]:
    dice = _dice(birth, "duplicated", send.event)
    waits_s = [dice.uniform(0, _COPY_WITHIN_S) for _ in range(dice.choice((1, 2)))]
    again = [
        replace(send, due_ms=send.due_ms + round(wait_s * 1_000 / birth.speed), copy=number)
        for number, wait_s in enumerate(waits_s, start=1)
    ]
    return [send, *again]


def _dice(birth: Birth, what: str, event: Event) -> random.Random:
    """Chance that belongs to the seed, the bot and the event alone."""
    return random.Random(f"{birth.seed}/{birth.bot}/{what}/{event.kind}")  # noqa: S311 - must repeat, not be secret


def _iso(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="microseconds")
