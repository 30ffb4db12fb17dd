"""The adapter: Hallway's bots in the host's words."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ctxhost.errors import ProviderError
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import (
    Artifact,
    BadWebhook,
    BotRecord,
    BotRequest,
    End,
    MeetingPrices,
    MeetingProvider,
    Phase,
    Problem,
    ProviderEvent,
    RecordingFact,
    Step,
    UnknownBot,
    UnreadableWebhook,
)
from ctxhost.webhooks.signing import BadSignature, verify
from ctxhost_hallway.api import Api
from ctxhost_hallway.settings import HallwaySettings

PHASES = {
    "dialling": Phase.JOINING,
    "lobby": Phase.WAITING_ROOM,
    "inside": Phase.IN_CALL,
    "recording": Phase.RECORDING,
    "out": Phase.ENDED,
    "filed": Phase.DONE,
}
ENDS = {
    "call_over": End.OVER,
    "nobody_there": End.ALONE,
    "dismissed": End.LEFT,
    "lobby_timeout": End.NOT_ADMITTED,
    "thrown_out": End.KICKED,
    "no_such_call": End.FAILED,
}
"""Hallway's reasons; any that is not listed is a failure."""
RECORDS = {"mp4": "video", "audio_only": "audio", "off": "nothing"}


class HallwayProvider(MeetingProvider):
    """Implements `ctxhost.meetings.provider.MeetingProvider`."""

    name = "hallway"
    prices = MeetingPrices(
        recording_nano_usd_per_hour=400_000_000,
        transcription_nano_usd_per_hour=100_000_000,
        cost_nano_usd_per_hour=300_000_000,
    )
    idempotency_window_s = 3_600

    def __init__(self, services: Services, settings: HallwaySettings) -> None:
        assert settings.api_key is not None, "without a key there is no adapter"
        self._settings = settings
        self._api = Api(services.http, base_url=settings.base_url, key=settings.api_key.get_secret_value())

    async def create(self, request: BotRequest) -> str:
        wish = {
            "label": request.bot,
            "tenant": request.app,
            "call": request.meeting_url,
            "name": request.bot_name,
            "record": RECORDS[request.recording],
            "transcribe": request.transcript,
            "dial_at": _told(request.join_at_ms),
            "patience_s": dict(request.automatic_leave),
            "notes": dict(request.metadata),
        }
        headers = {"idempotency-key": f"{request.bot}.{request.attempt}"}
        made = await self._api.ask("POST", "/bots", json=wish, headers=headers)
        return _text(made, "id")

    async def find(self, bot: str) -> Sequence[str]:
        found = await self._api.ask("GET", "/bots", params={"label": bot})
        return [_text(entry, "id") for entry in _list(found, "bots") if _text(entry, "label") == bot]

    async def read(self, provider_id: str) -> BotRecord:
        told = await self._about("GET", provider_id)
        speech = told.get("transcript")
        return BotRecord(
            steps=[_step(entry) for entry in _list(told, "history")],
            recordings=[_recording(entry) for entry in _list(told, "recordings")],
            transcript=_artifact(speech) if speech else None,
            urls_expire_ms=_ms(told.get("links_until")),
            cost_seconds=_whole(told.get("billed_s")),
        )

    async def leave(self, provider_id: str) -> None:
        await self._about("POST", provider_id, "/dismiss")

    async def delete_media(self, provider_id: str) -> None:
        await self._about("DELETE", provider_id, "/files")

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> ProviderEvent:
        try:
            signed = verify(headers=headers, body=body, secrets=self._settings.webhook_keys, now_ms=now_ms)
        except BadSignature:
            raise BadWebhook from None
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise UnreadableWebhook("it is not JSON") from None
        fields = told if isinstance(told, dict) else {}
        kind, bot, label = (fields.get(name) for name in ("kind", "bot", "label"))
        if not isinstance(kind, str) or not kind:
            raise UnreadableWebhook("it names no kind")
        return ProviderEvent(
            id=signed.id,
            kind=kind,
            provider_id=bot if isinstance(bot, str) else "",
            bot=label if isinstance(label, str) else "",
        )

    def problems(self) -> Sequence[Problem]:
        """For `ctxhost doctor`."""
        if self._settings.webhook_secret is not None:
            return []
        mend = "set CTXHOST_PLUGINS__HALLWAY__WEBHOOK_SECRET to the whsec_… of Hallway's dashboard"
        return [Problem(what="no webhook secret: webhooks are refused, bots are only polled", mend=mend)]

    async def _about(self, method: str, provider_id: str, rest: str = "") -> dict[str, Any]:
        """A call about one bot; an id goes into a URL only when it can be one of theirs."""
        if not provider_id.startswith("hw-") or len(provider_id) > 100:
            raise UnknownBot(provider_id)
        told: dict[str, Any] = await self._api.ask(method, f"/bots/{quote(provider_id, safe='')}{rest}")
        return told


def _step(entry: Any) -> Step:
    state, why = _text(entry, "state"), _text(entry, "why")
    if state not in PHASES:
        raise ProviderError(f"Hallway has a state {state[:40]!r} that this plugin does not know.")
    phase = PHASES[state]
    end = ENDS.get(why, End.FAILED) if phase is Phase.ENDED else None
    return Step(phase=phase, at_ms=_ms(entry["at"]), end=end, reason=why)


def _recording(entry: Any) -> RecordingFact:
    speech = entry.get("transcript")
    return RecordingFact(
        id=_text(entry, "id"),
        started_ms=_ms(entry.get("from")),
        completed_ms=_ms(entry.get("to")),
        media=_artifact(entry["file"]),
        transcript=_artifact(speech) if speech else None,
    )


def _artifact(entry: Any) -> Artifact:
    state = {"ready": "done", "broken": "failed"}.get(_text(entry, "state"), "processing")
    return Artifact(
        id=_text(entry, "id"),
        state=state,  # type: ignore[arg-type]
        url=_text(entry, "link") if state == "done" else "",
        updated_ms=_ms(entry.get("at")),
        reason=_text(entry, "why"),
    )


def _list(told: Any, name: str) -> list[Any]:
    found = told.get(name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ProviderError(f"Hallway's answer has no list {name!r}.")
    return found


def _text(told: Any, name: str) -> str:
    found = told.get(name)
    if found is not None and not isinstance(found, str):
        raise ProviderError(f"Hallway's answer has no text {name!r}.")
    return found or ""


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def _ms(moment: Any) -> int:
    """From their time, `2026-06-11T19:18:53.734+00:00` or null, to ours."""
    try:
        return round(datetime.fromisoformat(moment).timestamp() * 1_000) if moment else 0
    except (TypeError, ValueError):
        raise ProviderError("Hallway's answer has a time that is none.") from None


def _told(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1_000, UTC).isoformat()
