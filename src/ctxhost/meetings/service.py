"""The face of meetings: what the REST API and `ctx.ai.meetings` call."""

import base64
import binascii
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from ctxhost.background import Background
from ctxhost.errors import BotNotFound, InvalidRequest, ProviderUnavailable
from ctxhost.ledger.ledger import Ledger
from ctxhost.meetings.commands import NoteUrls, WantMediaDeleted, WantStop
from ctxhost.meetings.lifecycle import RANK_OF_STEP, UNKNOWN_RANK
from ctxhost.meetings.model import PURPOSE, MeetingBot, cost_of, rate_card, shown
from ctxhost.meetings.provider import DeletesMedia, MeetingProvider
from ctxhost.meetings.requests import Estimate, ListBots, StartBot
from ctxhost.meetings.spawn import Spawner
from ctxhost.settings import MeetingSettings
from ctxhost.store import Store, queries
from ctxhost.store.rows import App, Bot, Entry, History

log = logging.getLogger("ctxhost.meetings")

FRESH_FOR_MS = 60_000
MINT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Started:
    """The bot as it was first answered; `replayed` when an earlier call with the same key made it."""

    bot: MeetingBot
    replayed: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Bots, newest first; `next_cursor` is None on the last page."""

    bots: Sequence[MeetingBot]
    next_cursor: str | None


class Meetings:
    """Meeting bots of all apps. Every call names the app; another app's bot is not there."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        settings: MeetingSettings,
        providers: Mapping[str, MeetingProvider],
        background: Background,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._settings = settings
        self._providers = providers
        self._background = background
        self._spawner = Spawner(store, settings, providers)

    @property
    def spawner(self) -> Spawner:
        return self._spawner

    @property
    def available(self) -> bool:
        """Whether there is a provider to send bots with."""
        chosen = self._settings.provider
        return bool(self._providers) if chosen is None else chosen in self._providers

    def available_to(self, app: str) -> bool:
        """Whether there is a provider to send this app's bots with."""
        chosen = self._settings.provider_by_app.get(app)
        return self.available if chosen is None else chosen in self._providers

    def require_provider(self) -> None:
        """Raises `ProviderUnavailable` in open-source mode."""
        if not self._providers:
            raise ProviderUnavailable("No meeting provider is configured on this deployment.")

    def provider(self, name: str | None = None, *, app: str = "") -> MeetingProvider:
        """The provider asked for, or the operator's choice for the app, or for all, or the only one.

        Raises:
            ProviderUnavailable: there is none.
            InvalidRequest: there is none of that name.
        """
        self.require_provider()
        if name is not None:
            if name not in self._providers:
                raise InvalidRequest.of("provider", f"{name!r} is not installed here", "unknown_provider")
            return self._providers[name]
        settings = self._settings
        chosen = settings.provider_by_app.get(app) or settings.provider or min(self._providers)
        if chosen not in self._providers:
            raise ProviderUnavailable(f"The meeting provider {chosen!r} is not available on this deployment.")
        return self._providers[chosen]

    @property
    def extra_hosts(self) -> Mapping[str, str]:
        """Hosts that the installed providers can join beyond the well-known platforms."""
        return {host: name for provider in self._providers.values() for host, name in provider.platforms.items()}

    async def start(self, app: App, request: StartBot, *, idempotency_key: str | None = None) -> Started:
        """Send a bot into a meeting. Holds credit first; see `Spawner.start` for the refusals."""
        provider = self.provider(request.provider, app=app.id)
        spawned = await self._background.finish(
            lambda: self._spawner.start(app, provider, request, idempotency_key=idempotency_key)
        )
        return Started(shown(spawned.bot), spawned.replayed)

    async def get(self, app: str, bot_id: str) -> MeetingBot:
        """One bot, its links fresh. Raises `ProviderUnavailable`, `BotNotFound`."""
        self.require_provider()
        bot = await self.find(app, bot_id)
        has_links = bot.recording_url or bot.transcript_url
        if has_links and bot.urls_expire_ms <= self._store.now_ms() + FRESH_FOR_MS:
            bot = await self._background.finish(lambda: self._with_fresh_links(bot))
        return shown(bot)

    async def find(self, app: str, bot_id: str) -> Bot:
        """The bot's row. Raises `BotNotFound` also for a malformed id and for a bot of another app."""
        known = await self._store.read(queries.by_id(Bot, bot_id))
        if known is None or known.app != app:
            raise BotNotFound("There is no such bot in this app.")
        return known

    async def _with_fresh_links(self, bot: Bot) -> Bot:
        provider = self._providers.get(bot.provider)
        is_expired = bot.urls_expire_ms <= self._store.now_ms()
        without = bot._replace(recording_url="", transcript_url="") if is_expired else bot
        if provider is None:
            return without
        try:
            with anyio.fail_after(MINT_TIMEOUT_S):
                record = await provider.read(bot.provider_id)
        except Exception:
            log.exception("%s could not be asked for the links of bot %s", bot.provider, bot.id)
            return without
        speech = [record.transcript, *(recording.transcript for recording in record.recordings)]
        return await self._store.write(
            NoteUrls(
                account=bot.account,
                bot=bot.id,
                recording_urls={r.id: r.media.url for r in record.recordings if r.media.state == "done"},
                transcript_urls={a.id: a.url for a in speech if a is not None and a.state == "done"},
                urls_expire_ms=record.urls_expire_ms,
            )
        )

    async def list(self, app: str, request: ListBots) -> Page:
        """A page of an app's bots. The provider is not asked."""
        before = _decode_cursor(request.cursor) if request.cursor is not None else None
        self.require_provider()
        bots = await self._store.read(
            queries.bots_page(app, status=request.status, before=before, limit=request.limit + 1)
        )
        more = len(bots) > request.limit
        bots = bots[: request.limit]
        return Page([shown(bot) for bot in bots], _encode_cursor(bots[-1]) if more else None)

    async def stop(self, app: str, bot_id: str) -> None:
        """Wish that a bot leaves; carried out until the provider obeys. A bot that has ended stays as it is."""
        self.require_provider()
        bot = await self.find(app, bot_id)
        await self._background.finish(lambda: self._store.write(WantStop(account=bot.account, bot=bot.id)))

    async def delete_media(self, app: str, bot_id: str) -> None:
        """Wish that what a bot recorded is deleted, for good; carried out until the provider obeys.

        The bot has no links from now on; its history says `media.deleted` once the provider has obeyed. Nothing is
        refunded.

        Raises:
            BotNotFound: there is no such bot in this app.
            BotNotEnded: it may still record.
            ProviderUnavailable: its provider is here, and cannot delete.
        """
        self.require_provider()
        bot = await self.find(app, bot_id)
        provider = self._providers.get(bot.provider)
        if provider is not None and not isinstance(provider, DeletesMedia):
            raise ProviderUnavailable(
                f"The meeting provider {bot.provider!r} cannot delete what its bots recorded.",
                remediation="Ask the operator to have it deleted at the provider.",
            )
        await self._background.finish(lambda: self._store.write(WantMediaDeleted(account=bot.account, bot=bot.id)))

    def estimate(self, request: Estimate, *, app: str = "") -> int:
        """What a session costs with the provider that the app uses, in nano-dollars."""
        provider = self.provider(app=app)
        card = rate_card(provider.prices, transcript=request.transcript, markup_percent=self._settings.markup_percent)
        return cost_of(card, request.duration_minutes * 60)

    async def usage(self, app: str) -> Sequence[Entry]:
        """The last 100 charges of an app's bots, newest first."""
        return await self._ledger.usage(app, PURPOSE)

    async def history(self, app: str, bot_id: str) -> Sequence[History]:
        """What has happened to a bot, oldest first."""
        self.require_provider()
        bot = await self.find(app, bot_id)
        steps = await self._store.read(queries.history(bot.id))
        return sorted(steps, key=lambda step: (step.at_ms, RANK_OF_STEP.get(step.code, UNKNOWN_RANK)))


def _encode_cursor(bot: Bot) -> str:
    return base64.urlsafe_b64encode(f"{bot.created_ms}:{bot.id}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        created, _, bot = text.partition(":")
        if not created.isascii() or not created.isdigit() or len(created) > 15:
            raise ValueError(text)
        return int(created), str(uuid.UUID(bot))
    except (ValueError, binascii.Error):
        raise InvalidRequest.of("cursor", "is not one that a page of this list gave", "invalid_cursor") from None
