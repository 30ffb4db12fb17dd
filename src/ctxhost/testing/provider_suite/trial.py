"""One trial of a provider: what a promise is tried with, and how a broken one is told."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout
from ctxhost.ids import new_uuid
from ctxhost.meetings.provider import (
    Artifact,
    BadWebhook,
    BotRecord,
    BotRequest,
    DeletesMedia,
    MeetingProvider,
    Phase,
    ProviderEvent,
    UnknownBot,
    UnreadableWebhook,
)
from ctxhost.testing.provider_suite.harness import Life, ProviderHarness, Webhook

T = TypeVar("T")

ANSWER_WITHIN_S = 20
"""Of real time: nothing in a trial waits for a real clock."""
TROUBLE = (ProviderError, ProviderBusy, ProviderTimeout)
"""What a call may say when the provider's API is in trouble."""
TIMEOUTS_S = {
    "waiting_room_timeout_s": 120,
    "no_one_joined_timeout_s": 120,
    "everyone_left_timeout_s": 30,
    "in_call_not_recording_timeout_s": 600,
}
_ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "create": (InvalidRequest, *TROUBLE),
    "find": TROUBLE,
    "read": (*TROUBLE, UnknownBot),
    "leave": (*TROUBLE, UnknownBot),
    "delete_media": (*TROUBLE, UnknownBot),
}


class BrokenPromise(AssertionError):
    """A promise that the provider does not keep: what was seen, and what mends it."""

    def __init__(self, what: str, *, mend: str) -> None:
        super().__init__(f"{what}\n  To mend it: {mend}")


class NotPlayed(Exception):
    """The harness says that its world cannot play what this promise is tried with."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A record, and when it was read."""

    at_ms: int
    record: BotRecord

    def has(self, phase: Phase) -> bool:
        return any(step.phase is phase for step in self.record.steps)

    @property
    def artifacts(self) -> list[Artifact]:
        """Everything that can be downloaded one day."""
        found = [self.record.transcript]
        for recording in self.record.recordings:
            found += [recording.media, recording.transcript]
        return [artifact for artifact in found if artifact is not None]

    @property
    def is_awaited(self) -> bool:
        return any(artifact.state == "processing" for artifact in self.artifacts)


def demand(holds: object, what: str, *, mend: str) -> None:
    """Raise `BrokenPromise` unless it holds."""
    if not holds:
        raise BrokenPromise(what, mend=mend)


class Trial:
    """A provider in its world. The calls check the types of answers, and that no other error comes than may."""

    def __init__(self, harness: ProviderHarness) -> None:
        self.harness = harness
        self.provider: MeetingProvider = harness.open()
        self.began_ms = self.now_ms()

    def now_ms(self) -> int:
        return self.harness.clock.now_ms()

    async def restart(self) -> None:
        """The host stops and is started again: from now on the provider is another one on the same world."""
        with anyio.fail_after(ANSWER_WITHIN_S):
            await self.provider.aclose()
        self.provider = self.harness.open()

    def request(self, **facts: Any) -> BotRequest:
        """A request for a bot of its own."""
        told: dict[str, Any] = {
            "bot": new_uuid(),
            "app": "app_one",
            "attempt": 1,
            "meeting_url": self.harness.meeting_url,
            "platform": "zoom",
            "bot_name": "Notetaker",
            "transcript": True,
            "recording": self.harness.recordings and next(iter(self.harness.recordings)),
            "join_at_ms": None,
            "automatic_leave": dict(TIMEOUTS_S),
            "metadata": {"customer": "c-1"},
        }
        return BotRequest(**{**told, **facts})

    async def prepared(self, life: Life, **facts: Any) -> BotRequest:
        """A request whose bot will live `life`. Raises `NotPlayed`."""
        if life not in self.harness.lives:
            raise NotPlayed(f"the harness's `lives` leaves out {life.value}")
        asked = facts.get("recording")
        if asked is not None and asked not in self.harness.recordings:
            raise NotPlayed(f"the harness's `recordings` leaves out {asked}")
        return await self.harness.prepare(self.request(**facts), life)

    async def born(self, life: Life = Life.HAPPY, **facts: Any) -> tuple[BotRequest, str]:
        """A bot that lives `life`, and its id at the provider."""
        request = await self.prepared(life, **facts)
        return request, await self.create(request)

    async def create(self, request: BotRequest) -> str:
        provider_id = await self._ask("create", lambda: self.provider.create(request))
        demand(
            isinstance(provider_id, str) and 0 < len(provider_id) <= 256 and provider_id.isprintable(),
            f"`create` returned {provider_id!r}",
            mend="return the provider's own id of the bot, a printable text of 1 to 256 characters.",
        )
        return provider_id

    async def find(self, bot: str) -> Sequence[str]:
        found = await self._ask("find", lambda: self.provider.find(bot))
        demand(
            isinstance(found, list | tuple) and all(isinstance(provider_id, str) for provider_id in found),
            f"`find` returned {found!r}",
            mend="return a list of provider ids, an empty one when there is no bot.",
        )
        return list(found)

    async def read(self, provider_id: str) -> Reading:
        record = await self._ask("read", lambda: self.provider.read(provider_id))
        demand(isinstance(record, BotRecord), f"`read` returned {record!r}", mend="return a `BotRecord`.")
        return Reading(self.now_ms(), record)

    async def leave(self, provider_id: str) -> None:
        await self._ask("leave", lambda: self.provider.leave(provider_id))

    async def delete_media(self, provider_id: str) -> None:
        """Only where the provider `DeletesMedia`."""
        provider = self.provider
        assert isinstance(provider, DeletesMedia)
        await self._ask("delete_media", lambda: provider.delete_media(provider_id))

    def verify(self, webhook: Webhook, *, now_ms: int | None = None) -> ProviderEvent | Exception:
        """The event, or the `BadWebhook` or `UnreadableWebhook` that was raised."""
        seen_ms = webhook.at_ms if now_ms is None else now_ms
        try:
            event = self.provider.verify(webhook.headers, webhook.body, now_ms=seen_ms)
        except (BadWebhook, UnreadableWebhook) as told:
            return told
        except Exception as error:
            raise BrokenPromise(
                f"`verify` raised {_told(error)} for the headers {dict(webhook.headers)!r:.300} and the body"
                f" {webhook.body!r:.300}",
                mend="raise BadWebhook for what your provider did not sign, UnreadableWebhook for what it did but"
                " cannot be read, and nothing else: anybody can send anything to that address.",
            ) from error
        parts = (event.id, event.kind, event.provider_id, event.bot) if isinstance(event, ProviderEvent) else (None,)
        demand(
            all(isinstance(part, str) for part in parts),
            f"`verify` returned {event!r} for the body {webhook.body!r:.300}",
            mend="return a ProviderEvent whose fields are texts; what the body does not say in that form is ''.",
        )
        return event

    async def watch(self, provider_id: str, *, until: Callable[[Reading], bool] | None = None) -> list[Reading]:
        """Read at every step of the clock until `until` holds (left out: until nothing more is to come)."""
        readings = [await self.read(provider_id)]
        over = until or (lambda reading: reading.has(Phase.DONE) and not reading.is_awaited)
        for _ in range(0, self.harness.life_s, self.harness.step_s):
            if over(readings[-1]):
                return readings
            await self.harness.advance(seconds=self.harness.step_s)
            readings.append(await self.read(provider_id))
        raise BrokenPromise(
            f"after {self.harness.life_s} s of watching the bot's steps are {_phases(readings[-1])}"
            f"{', and an artifact is still processing' if readings[-1].is_awaited else ''}",
            mend="report every step that the provider knows of, Phase.DONE at the last, and each artifact until it is"
            " done or failed; or raise the harness's `life_s`, or let its world play what `prepare` was asked for.",
        )

    async def _ask(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        allowed = _ERRORS[name]
        try:
            with anyio.fail_after(ANSWER_WITHIN_S):
                return await call()
        except NotImplementedError:
            raise
        except allowed:
            raise
        except TimeoutError:
            raise BrokenPromise(
                f"`{name}` has not returned after {ANSWER_WITHIN_S} s",
                mend="wait on `services.clock` only, and give up after some tries.",
            ) from None
        except Exception as error:
            raise BrokenPromise(
                f"`{name}` raised {_told(error)}",
                mend=f"it may raise {', '.join(kind.__name__ for kind in allowed)}, and nothing else: translate your"
                " client's errors at one place.",
            ) from error


async def refusal_of(call: Callable[..., Awaitable[object]], *args: object) -> Exception | None:
    """The allowed error that a call raises, if it raises one."""
    try:
        await call(*args)
    except (InvalidRequest, *TROUBLE, UnknownBot) as error:
        return error
    return None


Promise = Callable[[Trial], Awaitable[None]]
"""Tries one promise. Raises `BrokenPromise`, or `NotPlayed`."""


async def keep(promise: Promise, harness: ProviderHarness) -> None:
    """Try one promise in a world of its own.

    Raises:
        BrokenPromise: with what was seen and what mends it, whatever it was that went wrong.
        NotPlayed: the harness cannot play it.
    """
    try:
        await promise(Trial(harness))
    except (BrokenPromise, NotPlayed):
        raise
    except NotImplementedError as error:
        raise _unwritten(error) from error
    except Exception as error:
        raise BrokenPromise(
            f"{_told(error)} was raised at {_place(error)} where nothing was to go wrong",
            mend="see the traceback above.",
        ) from error


def _phases(reading: Reading) -> str:
    return ", ".join(step.phase.value for step in reading.record.steps) or "none"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}({error!s:.200})"


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _unwritten(error: NotImplementedError) -> BrokenPromise:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_code.co_qualname if trace else "a method"
    return BrokenPromise(f"`{name}` is not written yet ({_place(error)})", mend=f"write it: {error}")
