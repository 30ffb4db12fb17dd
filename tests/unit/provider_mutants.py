"""The fake provider broken on purpose, one way at a time, each as an author might do it by mistake."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from ctxhost.errors import InsufficientCredits, InvalidRequest, ProviderError, ProviderTimeout
from ctxhost.hookspecs import Services
from ctxhost.ids import new_uuid
from ctxhost.meetings.provider import (
    BotRecord,
    BotRequest,
    End,
    MeetingPrices,
    Phase,
    ProviderEvent,
    RecordingFact,
    Step,
    UnknownBot,
    UnreadableWebhook,
)
from ctxhost_fake.harness import FakeHarness
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import FakeSettings
from ctxhost_fake.state import keep_secret


@dataclass(frozen=True)
class Mutant:
    """A broken provider, and the promise that it breaks."""

    kind: type[FakeProvider]
    breaks: str


MUTANTS: dict[str, Mutant] = {}


def breaks(promise: str) -> Callable[[type[FakeProvider]], type[FakeProvider]]:
    def noted(kind: type[FakeProvider]) -> type[FakeProvider]:
        MUTANTS[kind.__name__] = Mutant(kind, promise)
        return kind

    return noted


@breaks("describes_itself")
class PricesAreFloats(FakeProvider):
    def __init__(self, services: Services, settings: FakeSettings) -> None:
        super().__init__(services, settings)
        dollars: float = 0.5
        self.prices = MeetingPrices(
            recording_nano_usd_per_hour=dollars * 1e9,  # type: ignore[arg-type]
            transcription_nano_usd_per_hour=0,
            cost_nano_usd_per_hour=0,
        )


@breaks("the_same_attempt_makes_no_second_bot")
class EachCreateMakesABot(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        made = len(await self.find(request.bot))
        return await super().create(replace(request, attempt=request.attempt + made))


@breaks("a_bot_is_found_by_the_host_s_own_id")
class FindsNothing(FakeProvider):
    async def find(self, bot: str) -> Sequence[str]:
        return []


@breaks("other_bots_are_other_bots")
class FindsEverything(FakeProvider):
    async def find(self, bot: str) -> Sequence[str]:
        return [life.birth.id for life in self._state.lives()]


@breaks("a_lookup_gives_nobody_else_s_bot")
class FindsByPrefix(FakeProvider):
    async def find(self, bot: str) -> Sequence[str]:
        return [life.birth.id for life in self._state.lives() if life.birth.bot.startswith(bot)]


@breaks("a_lookup_gives_nobody_else_s_bot")
class BelievesMetadata(FakeProvider):
    async def find(self, bot: str) -> Sequence[str]:
        claimed = [life.birth.id for life in self._state.lives() if bot in life.birth.metadata.values()]
        return [*await super().find(bot), *claimed]


@breaks("an_unknown_bot_is_unknown")
class UnknownIsAKeyError(FakeProvider):
    async def read(self, provider_id: str) -> BotRecord:
        try:
            return await super().read(provider_id)
        except UnknownBot as error:
            raise KeyError(provider_id) from error


@breaks("an_unknown_bot_is_unknown")
class UnknownIsEmpty(FakeProvider):
    async def read(self, provider_id: str) -> BotRecord:
        try:
            return await super().read(provider_id)
        except UnknownBot:
            return BotRecord(steps=[])


@breaks("silence_is_not_a_refusal")
class SilenceIsARefusal(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        try:
            return await super().create(request)
        except ProviderTimeout as error:
            raise ProviderError("no answer") from error


@breaks("a_refusal_makes_no_bot")
class RefusesWhatItMakes(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        try:
            return await super().create(request)
        except ProviderError:
            await super().create(replace(request, metadata={}))
            raise


@breaks("a_refusal_makes_no_bot")
class RefusesInAnothersWords(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        try:
            return await super().create(request)
        except ProviderError as error:
            raise InsufficientCredits(required_nano_usd=1, available_nano_usd=0) from error


@breaks("strange_wishes_are_taken_or_refused")
class BreaksOnEmoji(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        request.bot_name.encode("latin-1")
        return await super().create(request)


class _Reads(FakeProvider):
    """Changes what is read."""

    async def read(self, provider_id: str) -> BotRecord:
        return self.changed(await super().read(provider_id))

    def changed(self, record: BotRecord) -> BotRecord:
        raise NotImplementedError

    @staticmethod
    def with_recordings(record: BotRecord, change: Callable[[RecordingFact], RecordingFact]) -> BotRecord:
        return replace(record, recordings=[change(recording) for recording in record.recordings])


@breaks("a_history_only_grows_while_it_is_watched")
class ForgetsTheFirstSteps(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, steps=record.steps[-2:])


@breaks("a_history_only_grows_while_it_is_watched")
class EndsTwice(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        ends = [step for step in record.steps if step.phase is Phase.ENDED]
        return replace(record, steps=[*record.steps, *ends])


@breaks("every_life_is_told_to_its_end")
class NeverDone(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, steps=[step for step in record.steps if step.phase is not Phase.DONE])


@breaks("a_history_only_grows_while_it_is_watched")
class DoneWhenItEnds(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        steps = [step for step in record.steps if step.phase is not Phase.DONE]
        if not steps:
            return record
        return replace(record, steps=[Step(phase=Phase.DONE, at_ms=steps[0].at_ms), *steps])


@breaks("every_life_is_told_to_its_end")
class SecondsForMilliseconds(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, steps=[replace(step, at_ms=step.at_ms // 1_000) for step in record.steps])


@breaks("every_life_is_told_to_its_end")
class EveryEndIsOver(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        steps = [replace(step, end=End.OVER) if step.end else step for step in record.steps]
        return replace(record, steps=steps)


@breaks("every_life_is_told_to_its_end")
class EndsWithoutAnEnd(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, steps=[replace(step, end=None) for step in record.steps])


@breaks("recorded_seconds_are_facts")
class RecordingGrowsForEver(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        now_ms = self._clock.now_ms()
        return self.with_recordings(record, lambda fact: replace(fact, completed_ms=now_ms))


@breaks("recorded_seconds_are_facts")
class CostShrinks(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, cost_seconds=record.cost_seconds // len(record.steps) if record.steps else 0)


@breaks("recorded_seconds_are_facts")
class CostIsInMilliseconds(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, cost_seconds=record.cost_seconds * 1_000)


@breaks("recorded_seconds_are_facts")
class LinksBeforeItIsDone(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        link = "https://media.example/soon.mp4"
        return self.with_recordings(record, lambda fact: replace(fact, media=replace(fact.media, url=link)))


@breaks("what_failed_is_told_as_failed")
class FailuresAreSilent(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        return replace(record, recordings=[fact for fact in record.recordings if fact.media.state != "failed"])


@breaks("what_was_asked_for_is_delivered")
class AlwaysTranscribes(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        return await super().create(replace(request, transcript=True))


@breaks("what_was_asked_for_is_delivered")
class AlwaysRecords(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        return await super().create(replace(request, recording="mp4"))


@breaks("a_scheduled_bot_waits")
class ComesAtOnce(FakeProvider):
    async def create(self, request: BotRequest) -> str:
        return await super().create(replace(request, join_at_ms=None))


@breaks("a_bot_leaves_when_it_is_told_to")
class Stays(FakeProvider):
    async def leave(self, provider_id: str) -> None:
        self._life(provider_id)


@breaks("a_bot_leaves_when_it_is_told_to")
class LeavesOnce(FakeProvider):
    async def leave(self, provider_id: str) -> None:
        if self._life(provider_id).leave_at_ms is not None:
            raise UnknownBot(provider_id)
        await super().leave(provider_id)


@breaks("a_bot_that_was_not_told_stays")
class AllLeave(FakeProvider):
    async def leave(self, provider_id: str) -> None:
        self._life(provider_id)
        for life in list(self._state.lives()):
            await super().leave(life.birth.id)


@breaks("artifacts_are_downloaded_by_a_plain_get")
class LinksGoNowhere(FakeProvider):
    def __init__(self, services: Services, settings: FakeSettings) -> None:
        super().__init__(services, settings)
        self.mount = None


@breaks("only_the_provider_s_own_webhooks_count")
class BelievesEverybody(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        stamped = headers.get("webhook-timestamp", "")
        return ProviderEvent(id=headers.get("webhook-id", stamped), kind="any", provider_id="")


@breaks("only_the_provider_s_own_webhooks_count")
class BelievesOldNews(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        stamp = headers.get("webhook-timestamp", "")
        signed_ms = int(stamp) * 1_000 if stamp.isascii() and stamp.isdigit() and len(stamp) < 13 else now_ms
        return super().verify(headers, body, now_ms=signed_ms)


@breaks("only_the_provider_s_own_webhooks_count")
class BelievesAnUnsignedId(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        return replace(super().verify(headers, body, now_ms=now_ms), id=headers.get("user-agent", ""))


@breaks("order_and_repeats_change_nothing")
class EachDeliveryIsAnEvent(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        return replace(super().verify(headers, body, now_ms=now_ms), id=new_uuid())


@breaks("order_and_repeats_change_nothing")
class RefusesRepeats(FakeProvider):
    _seen: frozenset[str] = frozenset()

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        event = super().verify(headers, body, now_ms=now_ms)
        if event.id in self._seen:
            raise UnreadableWebhook("seen before")
        self._seen |= {event.id}
        return event


@breaks("a_webhook_names_its_bot")
class NamesNoBot(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        return replace(super().verify(headers, body, now_ms=now_ms), provider_id="")


@breaks("what_cannot_be_read_is_told_so")
class BadJsonIsAValueError(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        try:
            return super().verify(headers, body, now_ms=now_ms)
        except UnreadableWebhook as error:
            raise ValueError("not JSON") from error


@breaks("nothing_that_is_sent_breaks_verify")
class MissingHeadersAreAKeyError(FakeProvider):
    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        _ = headers["webhook-id"]
        return super().verify(headers, body, now_ms=now_ms)


@breaks("secrets_show_nowhere")
class LogsItsKey(FakeProvider):
    def __init__(self, services: Services, settings: FakeSettings) -> None:
        super().__init__(services, settings)
        self._folder = services.data_dir / self.name

    async def create(self, request: BotRequest) -> str:
        logging.getLogger("fake").debug("making %s with %s", request.bot, keep_secret(self._folder))
        return await super().create(request)


@breaks("secrets_show_nowhere")
class ShowsItsKey(FakeProvider):
    def __init__(self, services: Services, settings: FakeSettings) -> None:
        super().__init__(services, settings)
        self.secret = keep_secret(services.data_dir / self.name)


@breaks("deleted_media_are_gone")
class DeletesNothing(FakeProvider):
    async def delete_media(self, provider_id: str) -> None:
        self._life(provider_id)


@breaks("deleted_media_are_gone")
class DeletesOnce(FakeProvider):
    async def delete_media(self, provider_id: str) -> None:
        if self._life(provider_id).erased_ms is not None:
            raise UnknownBot(provider_id)
        await super().delete_media(provider_id)


@breaks("deleted_media_are_gone")
class ForgetsThatItDeleted(FakeProvider):
    async def delete_media(self, provider_id: str) -> None:
        self._state._lives[provider_id] = replace(self._life(provider_id), erased_ms=self._clock.now_ms())


@breaks("deleted_media_are_gone")
class DeletesTheRecordAlone(_Reads):
    _hidden: frozenset[str] = frozenset()

    async def delete_media(self, provider_id: str) -> None:
        self._hidden |= {life.birth.id for life in [self._life(provider_id)]}

    async def read(self, provider_id: str) -> BotRecord:
        record = await FakeProvider.read(self, provider_id)
        return self.changed(record) if provider_id in self._hidden else record

    def changed(self, record: BotRecord) -> BotRecord:
        gone: Any = {"state": "failed", "url": "", "reason": "deleted"}
        return self.with_recordings(
            replace(record, urls_expire_ms=0),
            lambda fact: replace(
                fact,
                media=replace(fact.media, **gone),
                transcript=fact.transcript and replace(fact.transcript, **gone),
            ),
        )


@breaks("deleted_media_are_gone")
class DeletesTheHistory(_Reads):
    def changed(self, record: BotRecord) -> BotRecord:
        is_deleted = any(fact.media.reason == "deleted" for fact in record.recordings)
        return replace(record, recordings=[]) if is_deleted else record


@breaks("nobody_else_s_media_are_deleted")
class DeletesEverybodysMedia(FakeProvider):
    async def delete_media(self, provider_id: str) -> None:
        self._life(provider_id)
        for life in list(self._state.lives()):
            await super().delete_media(life.birth.id)


@breaks("nobody_else_s_media_are_deleted")
class DeletesWhatIsNotThere(FakeProvider):
    async def delete_media(self, provider_id: str) -> None:
        if self._state.life(provider_id) is not None:
            await super().delete_media(provider_id)


class CallingHarness(FakeHarness):
    """A world with an API that answers, for mutants that call one."""

    async def answer(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={})


class _Calls(FakeProvider):
    """Asks an API before it does anything."""

    def __init__(self, services: Services, settings: FakeSettings) -> None:
        super().__init__(services, settings)
        self._http = services.http

    async def ask(self) -> int:
        return (await self._http.get("https://api.example/")).status_code


@breaks("an_outage_is_told_as_one")
class ClientErrorsLeak(_Calls):
    async def read(self, provider_id: str) -> BotRecord:
        await self.ask()
        return await super().read(provider_id)


@breaks("an_outage_is_told_as_one")
class AnOutageFindsNothing(_Calls):
    async def find(self, bot: str) -> Sequence[str]:
        try:
            is_up = await self.ask() == 200
        except httpx.HTTPError:
            is_up = False
        return await super().find(bot) if is_up else []


@breaks("an_outage_is_told_as_one")
class AWrongKeyLosesBots(_Calls):
    async def read(self, provider_id: str) -> BotRecord:
        try:
            status = await self.ask()
        except httpx.HTTPError as error:
            raise ProviderTimeout("no answer") from error
        if 400 <= status < 500:
            raise UnknownBot(provider_id)
        return await super().read(provider_id)


@breaks("an_outage_while_a_bot_is_made_is_told_as_one")
class AWrongKeyIsTheCallersFault(_Calls):
    async def create(self, request: BotRequest) -> str:
        try:
            status = await self.ask()
        except httpx.HTTPError as error:
            raise ProviderTimeout("no answer") from error
        if status == 401:
            raise InvalidRequest.of("meetingUrl", "was refused", "refused")
        return await super().create(request)


@breaks("an_outage_while_a_bot_is_made_is_told_as_one")
class SilenceAfterMakingIsARefusal(_Calls):
    async def create(self, request: BotRequest) -> str:
        made = await super().create(request)
        try:
            await self.ask()
        except httpx.HTTPError as error:
            raise ProviderError("no answer") from error
        return made


@breaks("what_could_not_be_deleted_is_told_so")
class AnOutageDeletesNothing(_Calls):
    async def delete_media(self, provider_id: str) -> None:
        try:
            is_up = await self.ask() == 200
        except httpx.HTTPError:
            is_up = False
        if is_up:
            await super().delete_media(provider_id)


@breaks("what_could_not_be_deleted_is_told_so")
class AnOutageLosesBotsOnDeletion(_Calls):
    async def delete_media(self, provider_id: str) -> None:
        try:
            status = await self.ask()
        except httpx.HTTPError as error:
            raise ProviderTimeout("no answer") from error
        if status != 200:
            raise UnknownBot(provider_id)
        await super().delete_media(provider_id)
