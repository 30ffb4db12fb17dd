"""The job that delivers: the head of a bot's queue, signed and sent, until it is accepted or given up."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ctxhost.egress import Answer, EgressError
from ctxhost.ids import new_id
from ctxhost.jobs import Run
from ctxhost.observe import DeliveryRecord, Watch
from ctxhost.store import Store, queries
from ctxhost.store.queries import Owed
from ctxhost.store.rows import Endpoint, Job, Message
from ctxhost.tenants.secrets import KeyRing
from ctxhost.webhooks import outbox
from ctxhost.webhooks.commands import GiveUp, NoteAttempt, Noted, TryNow
from ctxhost.webhooks.signing import signed_headers

log = logging.getLogger("ctxhost.webhooks")

RETRY_AFTER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
JITTER_PERCENT = 20
TIMEOUT_S = 15
ANSWER_KEPT_BYTES = 1_024
SECRET_PLACE = {"kind": "webhook", "name": "secret"}
WAKE_AT_ONCE = 200
READ_AT_ONCE = 32
"""More than a bot's whole life says."""
_LEAVE_ROOM_MS = 30_000
_ASK_FOR_PATIENCE = (429, 503)


class Send(Protocol):
    """The way out, bound by the operator's policy. Raises `EgressError`."""

    async def __call__(
        self, url: str, *, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class _Result:
    status: int
    outcome: str
    answer: str
    took_ms: int
    retry_after_s: int = 0


class Delivery:
    """Handler of `deliver` jobs: one per bot, so that its messages leave in order."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        send: Send,
        *,
        is_stopped: Callable[[], bool] = bool,
        watch: Watch | None = None,
    ) -> None:
        """Once `is_stopped`, a run ends with the attempt that is under way; what is left is for another host."""
        self._store = store
        self._ring = ring
        self._send = send
        self._is_stopped = is_stopped
        self._watch = watch or Watch()

    async def deliver(self, job: Job) -> int | Run | None:
        """Send what the bot's queue holds, in order, for as long as the claim lasts."""
        app = job.lane.partition("/")[2]
        while self._has_time(job):
            queue = await self._store.read(queries.owed(job.ref, app, limit=READ_AT_ONCE))
            if not queue:
                return None
            answered_ms, now_ms = queue[0].answered_ms, self._store.now_ms()
            if answered_ms is not None and now_ms < (may_leave_ms := outbox.may_leave_ms(answered_ms, now_ms)):
                return may_leave_ms
            outcome = await self._deliver_in_order(job, queue)
            if outcome is not None:
                return outcome
        return self._store.now_ms()

    def _has_time(self, job: Job) -> bool:
        return not self._is_stopped() and self._store.now_ms() < job.claimed_until_ms - _LEAVE_ROOM_MS

    async def _deliver_in_order(self, job: Job, queue: Sequence[Owed]) -> int | Run | None:
        """One after the other, until the job ends or waits, or (None) the queue must be read again."""
        endpoint, left = queue[0].endpoint, len(queue)
        for owed in queue:
            if not self._has_time(job):
                return None
            if endpoint is None or endpoint.disabled_ms:
                await self._store.write(GiveUp(account=owed.message.account, message=owed.message.id))
                return None
            left -= 1
            noted, retry_ms = await self._deliver(job, owed, endpoint, is_last=not left and len(queue) < READ_AT_ONCE)
            if noted.ended:
                return Run.ENDED
            if retry_ms is not None or not noted.is_alone:
                return retry_ms
            endpoint = noted.endpoint
        return None

    async def _deliver(self, job: Job, owed: Owed, endpoint: Endpoint, *, is_last: bool) -> tuple[Noted, int | None]:
        """One attempt, and when to make the next; None when this message is done with."""
        message = owed.message
        step_due_ms = _step_due_ms(owed)
        is_step = self._store.now_ms() >= step_due_ms
        result = await self._watched_attempt(endpoint, message)
        noted = await self._store.write(
            NoteAttempt(
                account=message.account,
                app=message.app,
                message=message.id,
                job=job,
                ends_job=is_last,
                attempt_id=f"{message.id}/{message.attempts + 1 if is_step else 'extra'}/{new_id('att')}",
                url=endpoint.url,
                status=result.status,
                outcome=result.outcome,
                answer=result.answer,
                took_ms=result.took_ms,
                is_step=is_step,
                is_last=is_step and message.attempts >= len(RETRY_AFTER_S),
                disable=result.status == 410,
            )
        )
        if noted.recovered:
            await try_now(self._store, account=message.account, app=message.app)
        if noted.message.state != "queued":
            return noted, None
        patience_ms = self._store.now_ms() + _patience_s(message, result.retry_after_s) * 1_000
        return noted, max(patience_ms, self._store.now_ms() + retry_wait_ms(message) if is_step else step_due_ms)

    async def _watched_attempt(self, endpoint: Endpoint, message: Message) -> _Result:
        status = 0

        def record(*, outcome: str, took_s: float) -> DeliveryRecord:
            return DeliveryRecord(
                app=message.app,
                bot=message.bot,
                message=message.id,
                event=message.event,
                status=status,
                outcome=outcome,
                attempt=message.attempts + 1,
                took_s=took_s,
            )

        with self._watch.during("deliver", message.event, record, kind="client") as seen:
            result = await self._attempt(endpoint, message)
            status, seen.outcome = result.status, result.outcome
            seen.is_failure = result.outcome != "delivered"
        return result

    async def _attempt(self, endpoint: Endpoint, message: Message) -> _Result:
        body = message.body.encode()
        started_ms = self._store.now_ms()
        headers = signed_headers(
            secrets=self._secrets(endpoint),
            message_id=message.id,
            now_ms=started_ms,
            event=message.event,
            body=body,
        )
        try:
            answer = await self._send(
                endpoint.url, content=body, headers=headers, timeout_s=TIMEOUT_S, max_answer_bytes=ANSWER_KEPT_BYTES
            )
        except EgressError as error:
            return _Result(0, error.reason, "", self._store.now_ms() - started_ms)
        except Exception:  # whatever it is, the message must not stay in the way of the ones behind it for ever
            log.exception("message %s could not be sent", message.id)
            return _Result(0, "internal_error", "", self._store.now_ms() - started_ms)
        return _judged(answer)

    def _secrets(self, endpoint: Endpoint) -> Sequence[str]:
        sealed = [endpoint.secret]
        if endpoint.old_secret and self._store.now_ms() < endpoint.old_secret_until_ms:
            sealed.append(endpoint.old_secret)
        return [self._ring.open(secret, app=endpoint.id, **SECRET_PLACE) for secret in sealed]


async def try_now(store: Store, *, account: str, app: str) -> None:
    """Have whatever waits for the app's endpoint tried at once."""
    waiting = [job.ref for job in await store.read(queries.deliver_jobs(outbox.lane_of(app)))]
    for start in range(0, len(waiting), WAKE_AT_ONCE):
        bots = tuple(waiting[start : start + WAKE_AT_ONCE])
        await store.write(TryNow(account=account, app=app, bots=bots))


def retry_wait_ms(message: Message, *, step: int | None = None) -> int:
    """How long after a step of the schedule (by default the message's next) the one after it comes; with jitter.

    The jitter belongs to the message and the step, so that every host counts the same.
    """
    step = message.attempts if step is None else step
    digest = hashlib.sha256(f"{message.id}/{step}".encode()).digest()
    percent = 100 - JITTER_PERCENT + int.from_bytes(digest[:4], "big") % (2 * JITTER_PERCENT + 1)
    return _step_s(step) * percent * 10


def _step_s(step: int) -> int:
    return RETRY_AFTER_S[min(step, len(RETRY_AFTER_S) - 1)]


def _step_due_ms(owed: Owed) -> int:
    """When the schedule's next attempt is due. One that is made before, because there is hope, is an extra one."""
    if not owed.message.attempts or not owed.tried_ms:
        return 0
    return owed.tried_ms + retry_wait_ms(owed.message, step=owed.message.attempts - 1)


def _patience_s(message: Message, asked_s: int) -> int:
    """A receiver may ask for up to twice as long as the schedule waits."""
    return min(asked_s, 2 * _step_s(message.attempts))


def _judged(answer: Answer) -> _Result:
    text = answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd")
    if 200 <= answer.status < 300:
        return _Result(answer.status, "delivered", text, answer.took_ms)
    outcome = "redirect" if 300 <= answer.status < 400 else f"http_{answer.status}"
    wait = answer.headers.get("retry-after", "") if answer.status in _ASK_FOR_PATIENCE else ""
    wait_s = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 7 else 0
    return _Result(answer.status, outcome, text, answer.took_ms, wait_s)
