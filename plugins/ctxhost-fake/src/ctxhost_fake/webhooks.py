"""Webhooks of the fake: signed in the Standard Webhooks form, verified, and sent over HTTP to the host."""

import base64
import hashlib
import hmac
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

import anyio
import httpx

from ctxhost.clock import Clock
from ctxhost.meetings.provider import BadWebhook, ProviderEvent, UnreadableWebhook
from ctxhost.webhooks.signing import BadSignature
from ctxhost.webhooks.signing import verify as verify_signature
from ctxhost_fake.events import Send, body, sends
from ctxhost_fake.life import Birth, Life
from ctxhost_fake.state import State

log = logging.getLogger("ctxhost_fake")

RETRY_AFTER_S: Final = (1, 3, 10, 30, 60)
"""The waits after failed attempts, on the clock; then an event rests until the next start of the host."""
POST_TIMEOUT_S: Final = 15
AT_ONCE: Final = 16
"""So many bots' webhooks are sent at the same time; those of one bot go one after the other."""


def signed_headers(*, key: bytes, message_id: str, now_ms: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt."""
    timestamp = str(now_ms // 1_000)
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def read_event(headers: Mapping[str, str], body: bytes, *, key: bytes, now_ms: int) -> ProviderEvent:
    """What a webhook says.

    Raises:
        BadWebhook: it is not signed with the key, or not now.
        UnreadableWebhook: it is, but is not an event.
    """
    try:
        verified = verify_signature(headers=headers, body=body, secrets=[key], now_ms=now_ms)
    except BadSignature:
        raise BadWebhook from None
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableWebhook from None
    kind = _text(event, "event")
    if not kind:
        raise UnreadableWebhook
    bot = _object(_object(event, "data"), "bot")
    return ProviderEvent(
        id=verified.id, kind=kind, provider_id=_text(bot, "id"), bot=_text(_object(bot, "metadata"), "bb_bot_id")
    )


def _object(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any, name: str) -> str:
    found = _object(value, name)
    return found if isinstance(found, str) else ""


@dataclass(order=True, slots=True)
class _Due:
    """A line of the queue, in the order of time, then of planning."""

    at_ms: int
    number: int
    send: Send = field(compare=False)
    birth: Birth = field(compare=False)
    edition: int = field(compare=False)
    attempt: int = field(compare=False, default=0)


class Courier:
    """Sends what is due: at least once, always with the same id. What has not arrived is sent again after a restart."""

    def __init__(self, *, clock: Clock, http: httpx.AsyncClient, url: str, key: bytes, state: State) -> None:
        self._clock = clock
        self._http = http
        self._url = url
        self._key = key
        self._state = state
        self._queue: list[_Due] = []
        self._numbers = count()
        self._editions: dict[str, int] = {}
        self._changed = anyio.Event()
        self._waits_until_ms: int | None = None

    def plan(self, life: Life) -> None:
        """Take up a life's webhooks; those planned before for the same bot are forgotten.

        Those that arrived in an earlier process are among them; they are passed over when their turn comes.
        """
        birth = life.birth
        edition = self._editions[birth.id] = self._editions.get(birth.id, 0) + 1
        for send in sends(life):
            heappush(self._queue, _Due(send.due_ms, next(self._numbers), send, birth, edition))
        first_ms = self.next_due_ms()
        if first_ms is not None and (self._waits_until_ms is None or first_ms < self._waits_until_ms):
            self._changed.set()

    def next_due_ms(self) -> int | None:
        """When the next attempt is due; None: there is none to come."""
        while self._queue and not self._is_current(self._queue[0]):
            heappop(self._queue)
        return self._queue[0].at_ms if self._queue else None

    async def deliver_due(self) -> int:
        """Attempt everything that is due now, and tell how many arrived."""
        by_bot: dict[str, list[_Due]] = {}
        while (at_ms := self.next_due_ms()) is not None and at_ms <= self._clock.now_ms():
            due = heappop(self._queue)
            by_bot.setdefault(due.birth.id, []).append(due)
        arrived: list[str] = []
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def deliver(of_one_bot: Sequence[_Due]) -> None:
            async with limiter:
                arrived.extend(await self._deliver(of_one_bot))

        async with anyio.create_task_group() as tasks:
            for of_one_bot in by_bot.values():
                tasks.start_soon(deliver, of_one_bot)
        return len(arrived)

    async def run(self) -> None:
        """Deliver for ever, whatever goes wrong."""
        while True:
            await self._wait()
            try:
                await self.deliver_due()
            except Exception:
                log.exception("the fake provider's webhooks are stuck; trying again")
                await self._clock.sleep_until(self._clock.now_ms() + 1_000)

    async def _wait(self) -> None:
        """Until something is due, or the plan has changed."""
        self._changed = anyio.Event()
        due_ms = self._waits_until_ms = self.next_due_ms()
        async with anyio.create_task_group() as tasks:

            async def sleep(until_ms: int) -> None:
                await self._clock.sleep_until(until_ms)
                tasks.cancel_scope.cancel()

            if due_ms is not None:
                tasks.start_soon(sleep, due_ms)
            await self._changed.wait()
            tasks.cancel_scope.cancel()

    async def _deliver(self, of_one_bot: Sequence[_Due]) -> list[str]:
        """The keys of those that arrived; the others are queued for another attempt."""
        arrived: list[str] = []
        for due in of_one_bot:
            if await self._post(due):
                arrived.append(due.send.key)
            elif due.attempt < len(RETRY_AFTER_S):
                at_ms = self._clock.now_ms() + RETRY_AFTER_S[due.attempt] * 1_000
                again = _Due(at_ms, next(self._numbers), due.send, due.birth, due.edition, due.attempt + 1)
                heappush(self._queue, again)
        try:
            self._state.mark_arrived(arrived)
        except sqlite3.Error:
            log.exception("what arrived of bot %s could not be noted; a restart sends it again", of_one_bot[0].birth.id)
        return arrived

    async def _post(self, due: _Due) -> bool:
        event = due.send.event
        content = body(event, due.birth)
        headers = signed_headers(key=self._key, message_id=event.id, now_ms=self._clock.now_ms(), body=content)
        try:
            with anyio.fail_after(POST_TIMEOUT_S):
                answer = await self._http.post(self._url, content=content, headers=headers)
        except Exception as error:  # noqa: BLE001 - whatever one attempt meets, the others go on
            log.warning("%s of bot %s did not arrive: %s", event.kind, due.birth.id, error or type(error).__name__)
            return False
        if not answer.is_success:
            log.warning("%s of bot %s was answered %d", event.kind, due.birth.id, answer.status_code)
        return answer.is_success

    def _is_current(self, due: _Due) -> bool:
        return self._editions[due.birth.id] == due.edition and not self._state.has_arrived(due.send.key)
