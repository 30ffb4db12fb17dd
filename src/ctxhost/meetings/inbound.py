"""A provider's webhook: raw bytes in, verified, kept with its id, and its bot looked at. It never charges anything."""

from collections.abc import Mapping
from dataclasses import replace

from ctxhost.errors import InvalidRequest, NotFound, Refusal
from ctxhost.meetings.commands import NoteEvent, handle_id
from ctxhost.meetings.provider import BadWebhook, MeetingProvider, ProviderEvent, UnreadableWebhook
from ctxhost.store import Store, queries
from ctxhost.store.rows import PLATFORM, Bot, Handle


class BadProviderSignature(Refusal):
    """The webhook is not the provider's."""

    status, type, code = 401, "authentication_error", "invalid_signature"
    remediation = "Sign the raw body with the secret that this host was given for the provider."


class Inbound:
    """Receives the webhooks of every installed provider."""

    def __init__(self, store: Store, providers: Mapping[str, MeetingProvider]) -> None:
        self._store = store
        self._providers = providers

    async def receive(self, provider_name: str, headers: Mapping[str, str], body: bytes) -> None:
        """Verify and keep a webhook. Unknown kinds and events of nobody's bot are kept too.

        Raises:
            NotFound: no such provider is installed.
            BadProviderSignature: missing, wrong or stale signature.
            InvalidRequest: correctly signed, but not the JSON that it should be.
        """
        provider = self._providers.get(provider_name)
        if provider is None:
            raise NotFound("There is no such provider here.")
        event = _storable(self._verified(provider, headers, body))
        account, bot, adopt = await self._resolve(provider, event)
        await self._store.write(
            NoteEvent(
                account=account,
                id=f"{provider.name}/{event.id}",
                provider=provider.name,
                bot=bot,
                kind=event.kind,
                body=_text(body),
                adopt=adopt,
            )
        )

    def _verified(self, provider: MeetingProvider, headers: Mapping[str, str], body: bytes) -> ProviderEvent:
        try:
            return provider.verify(headers, body, now_ms=self._store.now_ms())
        except BadWebhook:
            raise BadProviderSignature("The webhook's signature is missing, wrong or stale.") from None
        except UnreadableWebhook as error:
            raise InvalidRequest.of("body", f"not a webhook that can be read: {error}", "invalid_json") from None

    async def _resolve(self, provider: MeetingProvider, event: ProviderEvent) -> tuple[str, str, str]:
        """Whose event it is: account, bot, and the handle to adopt, if any.

        Only this provider's own bots count. Metadata counts only while the bot has no handle: it is how an event finds
        a bot whose making was not answered yet, or one that was given up and came to be all the same.
        """
        handle = handle_id(provider.name, event.provider_id)
        if event.provider_id and (known := await self._store.read(queries.by_id(Handle, handle))):
            return known.account, known.bot if known.wanted else "", ""
        bot = await self._store.read(queries.by_id(Bot, event.bot)) if event.bot else None
        if bot is None or not event.provider_id or bot.provider != provider.name or bot.provider_id:
            return PLATFORM, "", ""
        return bot.account, bot.id, handle


def _storable(event: ProviderEvent) -> ProviderEvent:
    """JSON can spell what no database takes as text."""
    values = {
        name: _text(getattr(event, name).encode("utf-8", "replace")) for name in ("id", "kind", "provider_id", "bot")
    }
    return replace(event, **values)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").replace("\x00", "\ufffd")
