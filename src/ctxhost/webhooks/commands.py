"""What can happen to an app's endpoint and to the messages it is owed."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost import jobs
from ctxhost.errors import NotFound
from ctxhost.store import Key, View
from ctxhost.store.rows import Attempt, Endpoint, Job, Message
from ctxhost.webhooks import outbox

OLD_SECRET_KEPT_MS = 86_400_000
DISABLE_AFTER_MS = 5 * 86_400_000
TEST_EVENT = "webhook.test"


class EndpointNotFound(NotFound):
    code = "webhook_not_found"
    remediation = "Configure one with PUT /v1/{app_id}/ai/meetings/webhook."


class DeliveryNotFound(NotFound):
    code = "delivery_not_found"
    remediation = "GET /v1/{app_id}/ai/meetings/webhook/deliveries lists this app's deliveries."


@dataclass(frozen=True, slots=True, kw_only=True)
class PutEndpoint:
    """Set where an app's events go; `fresh_secret` is taken when one is asked for or none is there.

    Returns the endpoint and whether the fresh secret was taken. The one before it signs too, for a day.
    """

    account: str
    app: str
    url: str
    events: str
    """Space-separated, or empty to keep what was chosen."""
    default_events: str
    fresh_secret: str
    """Sealed."""
    rotate: bool

    def reads(self) -> Iterable[Key]:
        return [(Endpoint, self.app)]

    def apply(self, view: View) -> tuple[Endpoint, bool]:
        stored = view.get(Endpoint, self.app)
        if stored is None:
            endpoint, minted = self._first(view.now_ms), True
        else:
            endpoint = stored._replace(
                url=self.url,
                events=self.events or stored.events,
                failing_since_ms=0,
                disabled_ms=0,
                updated_ms=view.now_ms,
            )
            minted = self.rotate
            if minted:
                endpoint = endpoint._replace(
                    secret=self.fresh_secret,
                    old_secret=stored.secret,
                    old_secret_until_ms=view.now_ms + OLD_SECRET_KEPT_MS,
                )
        view.put(endpoint)
        return endpoint, minted

    def _first(self, now_ms: int) -> Endpoint:
        return Endpoint(
            id=self.app,
            account=self.account,
            url=self.url,
            events=self.events or self.default_events,
            secret=self.fresh_secret,
            old_secret="",
            old_secret_until_ms=0,
            failing_since_ms=0,
            disabled_ms=0,
            updated_ms=now_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteEndpoint:
    """Nothing is sent any more; what was owed is given up when its turn comes. Again has no effect."""

    account: str
    app: str

    def reads(self) -> Iterable[Key]:
        return [(Endpoint, self.app)]

    def apply(self, view: View) -> None:
        view.delete(Endpoint, self.app)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTest:
    """Owe the endpoint a test event, whatever it has chosen."""

    account: str
    app: str
    ref: str
    body: str

    def reads(self) -> Iterable[Key]:
        return [(Message, outbox.message_id(self.ref, TEST_EVENT)), *outbox.reads(bot=self.ref, app=self.app)]

    def apply(self, view: View) -> Message:
        if view.get(Endpoint, self.app) is None:
            raise EndpointNotFound("This app has no webhook endpoint.")
        message = Message(
            id=outbox.message_id(self.ref, TEST_EVENT),
            account=self.account,
            app=self.app,
            bot=self.ref,
            rank=0,
            event=TEST_EVENT,
            body=self.body,
            state="queued",
            attempts=0,
            created_ms=view.now_ms,
            done_ms=0,
        )
        view.put(message)
        outbox.ask_delivery(view, account=self.account, app=self.app, bot=self.ref, due_ms=view.now_ms)
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Owe a message once more, with all its attempts before it."""

    account: str
    app: str
    message: str
    bot: str

    def reads(self) -> Iterable[Key]:
        return [(Message, self.message), *outbox.reads(bot=self.bot, app=self.app)]

    def apply(self, view: View) -> Message:
        stored = view.get(Message, self.message)
        if stored is None or stored.app != self.app:
            raise DeliveryNotFound("There is no such delivery in this app.")
        if view.get(Endpoint, self.app) is None:
            raise EndpointNotFound("This app has no webhook endpoint.")
        stored = stored._replace(state="queued", attempts=0, done_ms=0)
        view.put(stored)
        outbox.ask_delivery(view, account=self.account, app=self.app, bot=self.bot, due_ms=view.now_ms)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What an attempt left behind."""

    message: Message
    endpoint: Endpoint | None
    """As it is now: what the next attempt goes by."""
    recovered: bool
    """The endpoint answers again that had failed before."""
    is_alone: bool
    """Nothing was asked for meanwhile: the rest of the queue is as it was."""
    ended: bool
    """The job has ended with this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteAttempt:
    """What came of one attempt. One that is no step of the schedule uses none up."""

    account: str
    app: str
    message: str
    job: Job
    """As it was claimed."""
    ends_job: bool
    """Whether the queue is empty behind this message: then the job ends with it, once it has left for good."""
    attempt_id: str
    url: str
    status: int
    outcome: str
    """`delivered`, or what went wrong."""
    answer: str
    took_ms: int
    is_step: bool
    is_last: bool
    """Whether a failure now gives the message up."""
    disable: bool

    def reads(self) -> Iterable[Key]:
        return [(Message, self.message), (Endpoint, self.app), (Job, self.job.id)]

    def apply(self, view: View) -> Noted:
        message = view.get(Message, self.message)
        if message is None:
            raise DeliveryNotFound("There is no such delivery in this app.")
        view.append(self._row(view.now_ms))
        delivered = self.outcome == "delivered"
        before, after = self._note_endpoint(view, delivered=delivered)
        message = message._replace(attempts=message.attempts + self.is_step)
        if delivered:
            message = message._replace(state="delivered", done_ms=view.now_ms)
        elif message.state == "queued" and (self.is_last or (after is not None and after.disabled_ms)):
            message = message._replace(state="dead", done_ms=view.now_ms)
        view.put(message)
        job = view.get(Job, self.job.id)
        ends = self.ends_job and message.state != "queued"
        if ends:
            jobs.FinishJob(job=self.job, due_ms=None).apply(view)
        return Noted(
            message=message,
            endpoint=view.get(Endpoint, self.app),
            recovered=delivered and before is not None and before.failing_since_ms > 0,
            is_alone=job is not None and job.generation == self.job.generation,
            ended=ends,
        )

    def _row(self, now_ms: int) -> Attempt:
        return Attempt(
            id=self.attempt_id,
            account=self.account,
            app=self.app,
            message=self.message,
            url=self.url,
            status=self.status,
            outcome=self.outcome,
            answer=self.answer,
            took_ms=self.took_ms,
            at_ms=now_ms,
        )

    def _note_endpoint(self, view: View, *, delivered: bool) -> tuple[Endpoint | None, Endpoint | None]:
        """The endpoint before and after; one that was moved meanwhile is not judged by its old address."""
        before = view.get(Endpoint, self.app)
        if before is None or before.url != self.url:
            return None, None
        after = self._judged(before, view.now_ms, delivered=delivered)
        if after != before:
            view.put(after)
        return before, after

    def _judged(self, endpoint: Endpoint, now_ms: int, *, delivered: bool) -> Endpoint:
        if delivered:
            return endpoint._replace(failing_since_ms=0)
        since_ms = endpoint.failing_since_ms or now_ms
        disable = self.disable or now_ms - since_ms >= DISABLE_AFTER_MS
        return endpoint._replace(
            failing_since_ms=since_ms, disabled_ms=endpoint.disabled_ms or (now_ms if disable else 0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """There is nowhere to send the message to."""

    account: str
    message: str

    def reads(self) -> Iterable[Key]:
        return [(Message, self.message)]

    def apply(self, view: View) -> None:
        message = view.get(Message, self.message)
        if message is not None and message.state == "queued":
            view.put(message._replace(state="dead", done_ms=view.now_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class TryNow:
    """The endpoint answers again, or is another: what waits for a later attempt need not wait."""

    account: str
    app: str
    bots: tuple[str, ...]

    def reads(self) -> Iterable[Key]:
        return [jobs.job_key(outbox.DELIVER, bot) for bot in self.bots]

    def apply(self, view: View) -> None:
        for bot in self.bots:
            if view.get(*jobs.job_key(outbox.DELIVER, bot)) is not None:
                outbox.ask_delivery(view, account=self.account, app=self.app, bot=bot, due_ms=view.now_ms)
