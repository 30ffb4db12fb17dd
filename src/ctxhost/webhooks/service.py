"""The face of an app's webhook: where its events go, what became of each, and one more try."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxhost.background import Background
from ctxhost.egress import EgressPolicy, UrlRefused, check_resolved
from ctxhost.errors import InvalidRequest
from ctxhost.ids import new_id, new_secret
from ctxhost.store import Store, queries
from ctxhost.store.rows import App, Attempt, Endpoint, Message
from ctxhost.tenants.secrets import KeyRing
from ctxhost.webhooks import outbox
from ctxhost.webhooks.commands import (
    TEST_EVENT,
    DeleteEndpoint,
    DeliveryNotFound,
    EndpointNotFound,
    PutEndpoint,
    QueueTest,
    Resend,
)
from ctxhost.webhooks.delivery import SECRET_PLACE, try_now
from ctxhost.webhooks.requests import DEFAULT_EVENTS, PutWebhook

_PREFIX = "wsec_"
_NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Put:
    """An endpoint that was set; `secret` only when it was made now, and never again."""

    endpoint: Endpoint
    secret: str | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message and its attempts, oldest first."""

    message: Message
    attempts: Sequence[Attempt]


OwnAddress = Callable[[str], bool | None]
"""Whether a URL is the host's own: True for its function paths, False for any other path of it, None elsewhere."""


class Webhooks:
    """The webhook endpoints of all apps."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        policy: EgressPolicy,
        own_address: OwnAddress,
        background: Background,
    ) -> None:
        self._store = store
        self._ring = ring
        self._policy = policy
        self._own_address = own_address
        self._background = background

    async def put(self, app: App, request: PutWebhook) -> Put:
        """Set the forward URL; a secret is minted when asked for or when there was none.

        Raises:
            InvalidRequest: a URL that may not be used.
        """
        await self._check(request.forward_url)
        secret = new_secret(_PREFIX)
        command = PutEndpoint(
            account=app.account,
            app=app.id,
            url=request.forward_url,
            events=" ".join(request.events or ()),
            default_events=" ".join(DEFAULT_EVENTS),
            fresh_secret=self._ring.seal(secret, app=app.id, **SECRET_PLACE),
            rotate=request.rotate_secret,
        )
        endpoint, minted = await self._background.finish(lambda: self._put(command))
        return Put(endpoint, secret if minted else None)

    async def _put(self, command: PutEndpoint) -> tuple[Endpoint, bool]:
        """Whoever sets an endpoint has mended it: what waits to be tried again is tried at once."""
        written = await self._store.write(command)
        await try_now(self._store, account=command.account, app=command.app)
        return written

    async def _check(self, url: str) -> None:
        own = self._own_address(url)
        if own:
            return
        if own is False:
            raise InvalidRequest.of("forward_url", "of this host only function paths may be used", "own_address")
        try:
            await check_resolved(url, self._policy)
        except UrlRefused as refused:
            raise InvalidRequest.of("forward_url", refused.message, refused.reason_code) from None

    async def get(self, app: str) -> Endpoint:
        """Raises `EndpointNotFound`."""
        endpoint = await self._store.read(queries.by_id(Endpoint, app))
        if endpoint is None:
            raise EndpointNotFound("This app has no webhook endpoint.")
        return endpoint

    async def delete(self, app: App) -> None:
        command = DeleteEndpoint(account=app.account, app=app.id)
        await self._background.finish(lambda: self._store.write(command))

    async def test(self, app: App) -> Message:
        """Owe the endpoint a test event. Raises `EndpointNotFound`."""
        now_ms = self._store.now_ms()
        body = outbox.event_body(TEST_EVENT, bot=_NOBODY, metadata={}, code="test", sub_code="", at_ms=now_ms)
        text = json.dumps(body, separators=(",", ":"))
        command = QueueTest(account=app.account, app=app.id, ref=new_id("test"), body=text)
        return await self._background.finish(lambda: self._store.write(command))

    async def deliveries(
        self, app: str, *, before: tuple[int, str] | None = None, limit: int = 20
    ) -> Sequence[Delivered]:
        """An app's messages, newest first, each with its attempts."""
        messages = await self._store.read(queries.messages_page(app, before=before, limit=limit))
        if not messages:
            return []
        attempts: dict[str, list[Attempt]] = {message.id: [] for message in messages}
        for attempt in await self._store.read(queries.attempts(*attempts)):
            attempts[attempt.message].append(attempt)
        return [Delivered(message, attempts[message.id]) for message in messages]

    async def resend(self, app: App, message_id: str) -> Message:
        """Owe a message once more. Raises `DeliveryNotFound`, `EndpointNotFound`."""
        message = await self._store.read(queries.by_id(Message, message_id))
        if message is None or message.app != app.id:
            raise DeliveryNotFound("There is no such delivery in this app.")
        command = Resend(account=app.account, app=app.id, message=message.id, bot=message.bot)
        return await self._background.finish(lambda: self._store.write(command))
