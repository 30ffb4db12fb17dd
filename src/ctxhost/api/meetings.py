"""Meeting bots over HTTP."""

from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import Response

from ctxhost.ai.namespace import usage_row
from ctxhost.api import models
from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.examples import BOT, EVENTS, NEW_BOT, USAGE
from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, HeaderParam, Operation
from ctxhost.clock import rfc3339
from ctxhost.errors import (
    BotNotFound,
    IdempotencyConflict,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    ProviderBusy,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    Refusal,
)
from ctxhost.meetings import transcript
from ctxhost.meetings.commands import BotNotEnded
from ctxhost.meetings.requests import (
    Estimate,
    GetTranscript,
    ListBots,
    StartBot,
    parse_estimate,
    parse_idempotency_key,
    parse_list,
    parse_start,
    parse_transcript,
)
from ctxhost.money import usd_number
from ctxhost.store.rows import History
from ctxhost.tenants.service import SCOPE_AI

BOTS: Final = "/v1/{app_id}/ai/meetings"
BOT_PATH: Final = f"{BOTS}/{{bot_id}}"
MAX_TRANSCRIPT_BYTES: Final = 32 * 1024 * 1024
_IDEMPOTENCY_KEY: Final = HeaderParam(
    name="Idempotency-Key",
    description="Repeating a call with the same key and body within 24 hours gives the first answer again, with"
    " `Idempotent-Replayed: true`, and starts no second bot.",
    schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$"},
)
_MEDIA_TYPES: Final = {
    "json": "application/json",
    "text": "text/plain",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
}


class MediaDeleted(Refusal):
    """What the bot recorded was deleted."""

    status, type, code = 410, "invalid_request_error", "media_deleted"
    remediation = "It cannot be had any more; nothing is to be done."


class TranscriptNotReady(NotFound):
    """There is no transcript of this bot, or none yet."""

    code = "transcript_not_ready"
    remediation = "Wait for the event transcript.done; a bot started with `transcript: false` never has one."


async def start(call: HostCall) -> Response:
    meetings, now_ms = call.host.meetings, call.host.clock.now_ms()
    asked = parse_start(await call.json(), now_ms=now_ms, extra_hosts=meetings.extra_hosts)
    key = _idempotency_key(call.request)
    started = await meetings.start(call.caller.app, asked, idempotency_key=key)
    headers = {"idempotent-replayed": "true"} if started.replayed else None
    return json_response(started.bot.to_wire(), headers=headers)


def _idempotency_key(request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1:
        raise InvalidRequest.of("Idempotency-Key", "Must be given once", "duplicate")
    return parse_idempotency_key(keys[0]) if keys else None


async def get(call: HostCall) -> Response:
    bot = await call.host.meetings.get(call.caller.app.id, call.path("bot_id"))
    return json_response(bot.to_wire())


async def list_bots(call: HostCall) -> Response:
    page = await call.host.meetings.list(call.caller.app.id, parse_list(call.query()))
    return json_response({"bots": [bot.to_wire() for bot in page.bots], "nextCursor": page.next_cursor})


async def stop(call: HostCall) -> Response:
    await call.host.meetings.stop(call.caller.app.id, call.path("bot_id"))
    return Response(status_code=204)


async def delete_media(call: HostCall) -> Response:
    await call.host.meetings.delete_media(call.caller.app.id, call.path("bot_id"))
    return Response(status_code=204)


async def estimate(call: HostCall) -> Response:
    asked = parse_estimate(call.query())
    return json_response({"usd": usd_number(call.host.meetings.estimate(asked, app=call.caller.app.id))})


async def usage(call: HostCall) -> Response:
    rows = await call.host.meetings.usage(call.caller.app.id)
    return json_response({"rows": [usage_row(row).to_wire() for row in rows]})


async def status(call: HostCall) -> Response:
    return json_response({"available": call.host.meetings.available})


async def events(call: HostCall) -> Response:
    history = await call.host.meetings.history(call.caller.app.id, call.path("bot_id"))
    return json_response({"events": [_event(step) for step in history]})


def _event(step: History) -> dict[str, str | None]:
    return {"event": step.code, "subCode": step.sub_code or None, "at": rfc3339(step.at_ms)}


async def get_transcript(call: HostCall) -> Response:
    asked = parse_transcript(call.query())
    app, bot_id = call.caller.app.id, call.path("bot_id")
    bot = await call.host.meetings.get(app, bot_id)
    if bot.transcript_url is None:
        row = await call.host.meetings.find(app, bot_id)
        if row.media_unwanted_ms:
            raise MediaDeleted("This bot's media were deleted.")
        if row.transcript_state == "done":
            raise ProviderError("The provider could not be asked for the transcript.")
        raise TranscriptNotReady("This bot has no transcript, or none yet.")
    raw = await call.host.outgoing.download(bot.transcript_url, limit_bytes=MAX_TRANSCRIPT_BYTES)
    content = await anyio.to_thread.run_sync(_converted, raw, asked.format)
    return Response(content, media_type=_MEDIA_TYPES[asked.format])


def _converted(raw: bytes, form: transcript.Format) -> bytes:
    try:
        return transcript.convert(raw, form)
    except transcript.NotATranscript as error:
        raise ProviderError(f"The provider's transcript cannot be read: {error}.") from error


_UPSTREAM: Final = (ProviderError, ProviderBusy, ProviderTimeout)

OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="POST",
        path=BOTS,
        name="startBot",
        handler=start,
        summary="Send a bot into a meeting",
        description="Holds credit for the first five minutes, then sends the bot. It is `joining` when this answers.",
        tag="meetings",
        answers={200: Answer(description="The bot.", model=models.MeetingBot, example=NEW_BOT)},
        body=StartBot,
        body_example={"meetingUrl": "https://zoom.us/j/1234567890", "botName": "Acme Notetaker"},
        headers=[_IDEMPOTENCY_KEY],
        refusals=[ProviderUnavailable, IdempotencyConflict, InsufficientCredits, RateLimited, *_UPSTREAM],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=BOTS,
        name="listBots",
        handler=list_bots,
        summary="List this app's bots",
        description="Newest first. The provider is not asked, so links may have expired; get the bot for fresh ones.",
        tag="meetings",
        answers={
            200: Answer(
                description="A page of bots.", model=models.BotList, example={"bots": [BOT], "nextCursor": None}
            )
        },
        query=ListBots,
        refusals=[ProviderUnavailable],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=BOT_PATH,
        name="getBot",
        handler=get,
        summary="Get one bot",
        description="Its links are fresh; they are null while the provider cannot be reached.",
        tag="meetings",
        answers={200: Answer(description="The bot.", model=models.MeetingBot, example=BOT)},
        refusals=[ProviderUnavailable, BotNotFound],
        scope=SCOPE_AI,
    ),
    Operation(
        method="DELETE",
        path=BOT_PATH,
        name="stopBot",
        handler=stop,
        summary="Make a bot leave",
        description="The wish is stored and carried out until the provider obeys. A bot that has ended stays as it is.",
        tag="meetings",
        answers={204: Answer(description="It will leave, or has left.", media_type=None)},
        refusals=[ProviderUnavailable, BotNotFound],
        scope=SCOPE_AI,
    ),
    Operation(
        method="DELETE",
        path=f"{BOT_PATH}/media",
        name="deleteBotMedia",
        handler=delete_media,
        summary="Delete what a bot recorded",
        description="For good: its recordings and transcripts at the provider, and every link to them here, which is"
        " gone at once. The wish is stored and carried out until the provider obeys; the bot's history then says"
        " `media.deleted`. The bot itself, its history and what was charged stay as they are.",
        tag="meetings",
        answers={204: Answer(description="They will be deleted, or are.", media_type=None)},
        refusals=[ProviderUnavailable, BotNotFound, BotNotEnded],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=f"{BOT_PATH}/transcript",
        name="getTranscript",
        handler=get_transcript,
        summary="Read a bot's transcript",
        description="As JSON exactly what `transcriptUrl` gives; else speaker-labelled text, WebVTT or SubRip.",
        tag="meetings",
        answers={
            200: Answer(
                description="The transcript.",
                media_type=_MEDIA_TYPES["json"],
                more_media_types=[media for form, media in _MEDIA_TYPES.items() if form != "json"],
            )
        },
        query=GetTranscript,
        refusals=[ProviderUnavailable, BotNotFound, TranscriptNotReady, MediaDeleted, *_UPSTREAM],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=f"{BOT_PATH}/events",
        name="listBotEvents",
        handler=events,
        summary="Read a bot's history",
        tag="meetings",
        answers={200: Answer(description="What happened, oldest first.", model=models.BotEvents, example=EVENTS)},
        refusals=[ProviderUnavailable, BotNotFound],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=f"{BOTS}/_estimate",
        name="estimateCost",
        handler=estimate,
        summary="Predict what a session costs",
        tag="meetings",
        answers={200: Answer(description="US dollars.", model=models.Estimated, example={"usd": 0.39})},
        query=Estimate,
        refusals=[ProviderUnavailable],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=f"{BOTS}/usage",
        name="listUsage",
        handler=usage,
        summary="List this app's last 100 charges",
        tag="meetings",
        answers={200: Answer(description="Newest first.", model=models.Usage, example=USAGE)},
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path="/v1/ai/meetings/_status",
        name="meetingsStatus",
        handler=status,
        summary="Ask whether meeting bots are available",
        tag="meetings",
        answers={
            200: Answer(
                description="Whether there is a provider.", model=models.Availability, example={"available": True}
            )
        },
        auth="none",
    ),
]
