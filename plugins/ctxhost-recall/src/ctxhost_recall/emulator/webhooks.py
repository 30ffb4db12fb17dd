"""The emulated Recall's webhooks: what there is to tell, signed, at least once, with every accident on demand."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx

from ctxhost.clock import Clock
from ctxhost.webhooks.signing import decode_secret
from ctxhost_recall.emulator.life import id_of
from ctxhost_recall.emulator.shapes import event_body
from ctxhost_recall.emulator.world import Bot, World

log = logging.getLogger("ctxhost.recall.emulator")

RETRY_AFTER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
TIMEOUT_S = 15
_TOLD = (
    "joining_call",
    "in_waiting_room",
    "in_call_not_recording",
    "recording_permission_allowed",
    "recording_permission_denied",
    "in_call_recording",
    "call_ended",
    "done",
    "fatal",
)

Family = Literal["webhook", "svix"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell."""

    id: str
    at_ms: int
    kind: str
    body: bytes


@dataclass(slots=True)
class _Due:
    at_ms: int
    event: Event
    attempt: int


@dataclass(slots=True, kw_only=True)
class Knobs:
    """How the webhooks come."""

    lost: bool = False
    copies: int = 1
    order: Literal["as it happens", "newest first"] = "as it happens"
    """Among those that are due together."""
    family: Family = "webhook"
    old_secrets: Sequence[str] = ()
    """Signed with as well, before the current one, as during a rotation."""


def events_of(world: World, bot: Bot) -> Iterator[Event]:
    """Everything about a bot that has happened or will, as far as is known now. Ids never change."""

    def event(key: str, at_ms: int, body: dict[str, Any]) -> Event:
        digest = id_of(bot.id, key).replace("-", "")
        return Event(f"msg_{digest[:26]}", at_ms, body["event"], json.dumps(body, separators=(",", ":")).encode())

    for n, change in enumerate(bot.plan.changes):
        if change.code in _TOLD:
            kind = f"bot.{change.code}"
            body = event_body(kind, bot, sub_code=change.sub_code, at_ms=change.at_ms)
            yield event(f"{n}/{change.code}/{change.at_ms}", change.at_ms, body)
    for capture in bot.plan.captures:
        outcome = ("failed", "internal_error") if capture.fails else ("done", None)
        moments = [(capture.started_ms, "processing", None), (capture.ready_ms, *outcome)]
        for at_ms, code, sub_code in moments:
            body = event_body(f"recording.{code}", bot, sub_code=sub_code, at_ms=at_ms, capture=capture)
            yield event(f"{capture.id}/{code}/{at_ms}", at_ms, body)
        for artifact in world.artifacts(bot, capture):
            for at_ms in (artifact.created_ms, artifact.ready_ms):
                code, sub_code, _ = artifact.state(at_ms)
                kind = f"{artifact.kind}.{code}"
                body = event_body(kind, bot, sub_code=sub_code, at_ms=at_ms, capture=capture, artifact=artifact)
                yield event(f"{artifact.id}/{code}/{at_ms}", at_ms, body)


def signed_headers(event: Event, *, secrets: Sequence[str], now_ms: int, family: Family = "webhook") -> dict[str, str]:
    """The headers of one attempt, signed with every secret."""
    timestamp = str(now_ms // 1_000)
    content = f"{event.id}.{timestamp}.".encode() + event.body
    signatures = [hmac.digest(decode_secret(secret), content, hashlib.sha256) for secret in secrets]
    return {
        "content-type": "application/json",
        f"{family}-id": event.id,
        f"{family}-timestamp": timestamp,
        f"{family}-signature": " ".join("v1," + base64.b64encode(s).decode() for s in signatures),
    }


@dataclass(slots=True)
class Courier:
    """Sends what is due to one address."""

    world: World
    clock: Clock
    url: str
    secret: str
    http: httpx.AsyncClient | None = None
    """Lent: what webhooks are sent with. Left out, the courier makes one of its own and closes it."""
    knobs: Knobs = field(default_factory=Knobs)
    sent: list[Event] = field(default_factory=list)
    """Every attempt, in order."""
    _own_http: httpx.AsyncClient | None = None
    _settled: set[str] = field(default_factory=set)
    _again: dict[str, _Due] = field(default_factory=dict)

    def next_due_ms(self) -> int | None:
        """When the next attempt is due; None: there is none to come."""
        return min((due.at_ms for due in self._open()), default=None)

    async def deliver_due(self) -> int:
        """Attempt everything that is due now, and tell how many arrived."""
        now_ms = self.clock.now_ms()
        due = sorted((due for due in self._open() if due.at_ms <= now_ms), key=lambda due: due.at_ms)
        if self.knobs.order == "newest first":
            due.reverse()
        arrived = 0
        for one in due:
            if self.knobs.lost or not self.url:
                self._settled.add(one.event.id)
            else:
                arrived += await self._deliver(one)
        return arrived

    async def aclose(self) -> None:
        if self._own_http is not None:
            await self._own_http.aclose()

    def _client(self) -> httpx.AsyncClient:
        """The one that was lent, or one that is made when it is first needed: it reads the machine's certificates."""
        if self.http is not None:
            return self.http
        if self._own_http is None:
            self._own_http = httpx.AsyncClient(trust_env=False)
        return self._own_http

    def _open(self) -> Iterator[_Due]:
        for bot in self.world.bots.values():
            for event in events_of(self.world, bot):
                if event.id not in self._settled:
                    yield self._again.get(event.id) or _Due(event.at_ms, event, 0)

    async def _deliver(self, due: _Due) -> bool:
        arrived = False
        for _ in range(self.knobs.copies):
            arrived = await self._post(due.event) or arrived
        if arrived or due.attempt >= len(RETRY_AFTER_S):
            self._settled.add(due.event.id)
            self._again.pop(due.event.id, None)
        else:
            at_ms = self.clock.now_ms() + RETRY_AFTER_S[due.attempt] * 1_000
            self._again[due.event.id] = _Due(at_ms, due.event, due.attempt + 1)
        return arrived

    async def _post(self, event: Event) -> bool:
        self.sent.append(event)
        secrets = [*self.knobs.old_secrets, self.secret]
        headers = signed_headers(event, secrets=secrets, now_ms=self.clock.now_ms(), family=self.knobs.family)
        try:
            with anyio.fail_after(TIMEOUT_S):
                answer = await self._client().post(self.url, content=event.body, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("%s did not arrive: %s", event.kind, type(error).__name__)
            return False
        if not answer.is_success:
            log.warning("%s was answered %d", event.kind, answer.status_code)
        return answer.is_success
