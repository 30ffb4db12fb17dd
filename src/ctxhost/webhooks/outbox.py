"""From a fact to the message that tells of it, in the fact's own transaction."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ctxhost import jobs
from ctxhost.clock import rfc3339
from ctxhost.ids import derived_id
from ctxhost.store import Key, View
from ctxhost.store.rows import Endpoint, Message

DELIVER = "deliver"
GRACE_MS = 1_000
"""How long after the answer to the call that made a bot its first message waits: the caller may want to write first."""
UNANSWERED_MS = 60_000
"""How often a message is looked at whose bot's making was not answered yet; the answer itself ends the wait."""


def reads(*, bot: str, app: str) -> Iterable[Key]:
    """What `queue` looks at."""
    return [(Endpoint, app), jobs.job_key(DELIVER, bot)]


def may_leave_ms(answered_ms: int, now_ms: int) -> int:
    """When a bot's messages may leave, or when to look again while the call that made it is not answered (0)."""
    return answered_ms + GRACE_MS if answered_ms else now_ms + UNANSWERED_MS


def message_id(bot: str, event: str) -> str:
    """The webhook-id of a bot's event: there is one, however often the fact is learnt."""
    return derived_id("msg", bot, event)


def queue(
    view: View, *, account: str, app: str, bot: str, event: str, rank: int, body: Mapping[str, Any], not_before_ms: int
) -> None:
    """Owe `event` to the app's endpoint, if it has one that wants it. The caller queues each event of a bot once."""
    endpoint = view.get(Endpoint, app)
    if endpoint is None or endpoint.disabled_ms or event not in endpoint.events.split():
        return
    view.append(
        Message(
            id=message_id(bot, event),
            account=account,
            app=app,
            bot=bot,
            rank=rank,
            event=event,
            body=json.dumps(body, ensure_ascii=False, separators=(",", ":")),
            state="queued",
            attempts=0,
            created_ms=view.now_ms,
            done_ms=0,
        )
    )
    ask_delivery(view, account=account, app=app, bot=bot, due_ms=max(view.now_ms, not_before_ms))


def ask_delivery(view: View, *, account: str, app: str, bot: str, due_ms: int) -> None:
    """Have the head of a bot's queue tried."""
    jobs.ask(view, kind=DELIVER, ref=bot, account=account, lane=lane_of(app), due_ms=due_ms)


def lane_of(app: str) -> str:
    """Deliveries of one app share a limit, so that its dead endpoint delays no other app's."""
    return f"{DELIVER}/{app}"


def event_body(
    event: str, *, bot: str, metadata: Mapping[str, Any], code: str, sub_code: str, at_ms: int, **artifacts: str
) -> dict[str, Any]:
    """The one shape of every event. `artifacts` maps `recording` or `transcript` to its id."""
    data: dict[str, Any] = {
        "bot": {"id": bot, "metadata": dict(metadata)},
        "data": {"code": code, "sub_code": sub_code or None, "updated_at": rfc3339(at_ms)},
    }
    data |= {name: {"id": artifact, "metadata": {}} for name, artifact in artifacts.items() if artifact}
    return {"event": event, "data": data}
