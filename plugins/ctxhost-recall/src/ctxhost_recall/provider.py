"""The adapter: Recall's bots in the host's words."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from ctxhost.errors import ProviderTimeout, Refusal
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import (
    API_VERSION,
    BotRecord,
    BotRequest,
    End,
    MeetingPrices,
    MeetingProvider,
    Phase,
    Problem,
    ProviderEvent,
    Step,
    UnknownBot,
)
from ctxhost_recall import creation
from ctxhost_recall.client import Api, Call, Method, Reply, Silent, Unreachable, nonsense, segment
from ctxhost_recall.fields import Malformed, is_id, items, mapping
from ctxhost_recall.limits import Deadline, Limiter, TooFast
from ctxhost_recall.problems import problems_of, problems_of_answer, unreachable
from ctxhost_recall.reasons import CALL_IS_OVER, NOT_IN_A_CALL
from ctxhost_recall.records import BotFacts, Session, bot_of, read_bot, to_record
from ctxhost_recall.requests import BOT_KEY, create_body
from ctxhost_recall.settings import NAME, RecallSettings
from ctxhost_recall.transcripts import Transcripts, listed
from ctxhost_recall.webhooks import read_event

log = logging.getLogger("ctxhost.recall")

CALL_DEADLINE_S = 8
"""How long a read, a search or a wish to leave may take, below the host's own patience."""
IDEMPOTENCY_WINDOW_S = 3_000
"""Recall keeps the answer of a key for an hour; what is repeated close to its end would be a second bot."""
MAX_PAGES = 20
REMEMBERED = 10_000
CALLED_OFF = "cancelled_before_joining"

K = TypeVar("K")
V = TypeVar("V")


class RecallProvider(MeetingProvider):
    """Implements `ctxhost.meetings.provider.MeetingProvider`."""

    name = NAME
    api_version = API_VERSION
    idempotency_window_s = IDEMPOTENCY_WINDOW_S
    minimum_timeouts_s: Mapping[str, int] = MappingProxyType(
        {"waiting_room_timeout_s": 30, "no_one_joined_timeout_s": 30}
    )

    def __init__(self, services: Services, settings: RecallSettings) -> None:
        assert settings.api_key is not None, "without a key there is no adapter"
        self.prices = MeetingPrices(
            recording_nano_usd_per_hour=500_000_000,
            transcription_nano_usd_per_hour=150_000_000,
            cost_nano_usd_per_hour=settings.cost_nano_usd_per_hour,
        )
        self.create_deadline_s = settings.create_deadline_s
        self._clock = services.clock
        self._settings = settings
        self._webhook_keys = settings.webhook_keys
        limiter = Limiter(services.clock, services.rate, percent=settings.rate_limit_percent)
        key = settings.api_key.get_secret_value()
        self._api = Api(services.http, services.clock, limiter, base_url=settings.base_url, key=key)
        self._transcripts = Transcripts(self._api, settings)
        self._keys: OrderedDict[tuple[str, int], creation.Keys] = OrderedDict()
        """Of the bots whose making was not answered."""
        self._called_off: OrderedDict[str, int] = OrderedDict()
        """Bots that were deleted before they came, which Recall knows nothing of any more, and when."""
        if not self._webhook_keys:
            log.warning("MEETINGS_WEBHOOK_SECRET is not set: Recall's webhooks are refused, bots are polled")

    async def create(self, request: BotRequest) -> str:
        wish = (request.bot, request.attempt)
        keys = self._keys.get(wish) or creation.Keys(*wish)
        body = create_body(request, self._settings, now_ms=self._clock.now_ms())
        deadline = Deadline(self._clock, seconds=self._settings.create_deadline_s)
        _remember(self._keys, wish, keys)
        try:
            provider_id = await creation.make(self._api, body, keys, deadline)
        except ProviderTimeout:
            raise
        except Refusal:
            self._keys.pop(wish, None)
            raise
        self._keys.pop(wish, None)
        return provider_id

    async def find(self, bot: str) -> Sequence[str]:
        deadline = Deadline(self._clock, seconds=CALL_DEADLINE_S)
        query = {f"metadata__{BOT_KEY}": bot}
        found: list[str] = []
        for _ in range(MAX_PAGES):
            reply = await self._api.ask(Call(method="GET", path="/bot/", scope="list", query=query), deadline)
            if not reply.is_success:
                raise nonsense(f"a search is answered {reply.status}")
            ids, following = _read_page(reply, bot)
            found += [provider_id for provider_id in ids if provider_id not in found]
            if following is None:
                return found
            query = following
        raise nonsense("a search has no end")

    async def read(self, provider_id: str) -> BotRecord:
        called_off_ms = self._called_off.get(provider_id)
        if called_off_ms is not None:
            return _never_came(called_off_ms)
        deadline = Deadline(self._clock, seconds=CALL_DEADLINE_S)
        facts = await self._facts(provider_id, deadline)
        sessions = [await self._with_audio(facts, session, deadline) for session in facts.sessions]
        transcripts = {}
        for session in sessions:
            if (artifact := await self._transcripts.of(facts, session, deadline)) is not None:
                transcripts[session.id] = artifact
        return to_record(replace(facts, sessions=sessions), transcripts, now_ms=self._clock.now_ms())

    async def leave(self, provider_id: str) -> None:
        """Leave the call, or be deleted while it is only scheduled. In between Recall may refuse both: ask again."""
        if provider_id in self._called_off:
            return
        deadline = Deadline(self._clock, seconds=CALL_DEADLINE_S)
        reply = await self._about("POST", provider_id, "leave_call/", deadline)
        if reply.is_success or reply.code == CALL_IS_OVER:
            return
        if reply.code != NOT_IN_A_CALL:
            raise nonsense(f"a wish to leave is answered {reply.status} {reply.code}")
        deleted = await self._about("DELETE", provider_id, "", deadline)
        if deleted.is_success:
            _remember(self._called_off, provider_id, self._clock.now_ms())
        elif deleted.status not in (400, 405, 409):
            raise nonsense(f"a deletion is answered {deleted.status} {deleted.code}")

    async def delete_media(self, provider_id: str) -> None:
        """Delete everything that a bot recorded, for good. Raises `UnknownBot`."""
        if provider_id in self._called_off:
            return
        deadline = Deadline(self._clock, seconds=CALL_DEADLINE_S)
        reply = await self._about("POST", provider_id, "delete_media/", deadline)
        # It is never asked again, so what answers must be Recall: with the bot, or with nothing.
        if not reply.is_success or not (reply.status == 204 or isinstance(reply.body, dict)):
            raise nonsense(f"a deletion of media is answered {reply.status} {reply.code}")

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        return read_event(headers, body, keys=self._webhook_keys, now_ms=now_ms)

    def problems(self) -> Sequence[Problem]:
        """For `ctxhost doctor`."""
        return list(problems_of(self._settings))

    async def probe(self) -> Sequence[Problem]:
        """For `ctxhost doctor`: whether Recall takes the key at this address."""
        call = Call(method="GET", path="/bot/", scope="list", query={f"metadata__{BOT_KEY}": "none"})
        try:
            reply = await self._api.attempt(call, Deadline(self._clock, seconds=CALL_DEADLINE_S))
        except (TooFast, Unreachable, Silent) as error:
            return [unreachable(self._settings, type(error).__name__)]
        return list(problems_of_answer(self._settings, reply.status, is_recalls=isinstance(reply.body, dict)))

    async def run(self) -> None:
        """There is nothing to do by itself: the host asks."""

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _facts(self, provider_id: str, deadline: Deadline) -> BotFacts:
        reply = await self._about("GET", provider_id, "", deadline)
        if not reply.is_success:
            raise nonsense(f"a bot is answered {reply.status}")
        try:
            facts = read_bot(reply.body, now_ms=self._clock.now_ms())
        except Malformed as error:
            raise nonsense(str(error)) from None
        if facts.id != provider_id:
            raise nonsense("it is about another bot")
        return facts

    async def _with_audio(self, facts: BotFacts, session: Session, deadline: Deadline) -> Session:
        """A session with its sound file, which not every version of Recall lists among the shortcuts."""
        if facts.recording != "audio_only" or session.state != "done" or session.media is not None:
            return session
        return replace(session, media=await listed(self._api, "audio_mixed", session.id, deadline))

    async def _about(self, method: Method, provider_id: str, rest: str, deadline: Deadline) -> Reply:
        """A call about one bot. Raises `UnknownBot`, and what `Api.ask` raises."""
        if not is_id(provider_id):
            raise UnknownBot(provider_id)
        path = f"/bot/{segment(provider_id)}/{rest}"
        reply = await self._api.ask(Call(method=method, path=path, scope="one"), deadline)
        if reply.status == 404:
            # A 404 that is not the API's own says that this is not Recall at all.
            if not isinstance(reply.body, dict):
                raise nonsense("it has no such page; check MEETINGS_BASE_URL")
            raise UnknownBot(provider_id)
        return reply


def _remember(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)


def _read_page(reply: Reply, bot: str) -> tuple[list[str], dict[str, str] | None]:
    """The bots of a page that are ours, whatever the filter did, and the query of the next page."""
    try:
        page = mapping(reply.body, "page")
        found = [bot_of(entry) for entry in items(page, "results")]
        following = page.get("next")
        if following is None:
            query = None
        elif isinstance(following, str):
            # Only the query counts: the key goes nowhere but to the address that the operator gave.
            query = dict(parse_qsl(urlsplit(following).query, max_num_fields=50))
        else:
            raise Malformed("next is not a link")
    except ValueError as error:
        raise nonsense(str(error)) from None
    return [provider_id for provider_id, ours in found if ours == bot], query


def _never_came(at_ms: int) -> BotRecord:
    """The record of a bot that was deleted before it was due."""
    return BotRecord(
        steps=[
            Step(phase=Phase.ENDED, at_ms=at_ms, end=End.LEFT, reason=CALLED_OFF),
            Step(phase=Phase.DONE, at_ms=at_ms),
        ]
    )
