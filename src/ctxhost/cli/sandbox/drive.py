"""The run itself: spawn the bots by the documented calls, follow their lives, gather what can be seen."""

import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import httpx

from ctxhost.cli.sandbox.evidence import Delivery, Download, Evidence, Json, Part, Story, is_signed_message, signed_body
from ctxhost.cli.sandbox.stand import Stand
from ctxhost.cli.sandbox.tap import Arrival
from ctxhost.cli.stand import WEBHOOK_FUNCTION, SetUpFailed
from ctxhost.ledger.verify import verify as verify_books

MEETING = "https://zoom.us/j/1234567890"
LOOK_EVERY_S = 0.1
TERMINAL = ("done", "fatal")
PARTS = (
    Part(name="happy", function="spawn-bot", script="happy"),
    Part(name="happy, by HTTP", function="spawn-bot-http", script="happy"),
    Part(name="no meeting", function="spawn-bot", script="fatal_on_join"),
    Part(name="no transcript", function="spawn-bot", script="transcript_failed"),
)


@dataclass(slots=True, kw_only=True)
class _Bot:
    """A bot while its life is followed."""

    part: Part
    spawned_s: float
    answer_status: int
    answer: Json
    row_before: Json
    seen_s: dict[str, float]
    status: str = ""

    @property
    def id(self) -> str:
        return str(self.answer.get("bot_id", ""))


async def drive(stand: Stand, *, deadline_s: float, tell: Callable[[str], None]) -> Evidence:
    """Live through all parts. Returns also when the deadline comes first: the checks will say what is missing.

    `tell` hears how far they are, again and again.

    Raises:
        SetUpFailed: the host does not answer as its documents say.
    """
    started_s = time.monotonic()
    before = await _credits(stand)
    bots = [await _spawn(stand, PARTS[0])]
    held = await _credits(stand)
    bots += [await _spawn(stand, part) for part in PARTS[1:]]
    with anyio.move_on_after(deadline_s) as limit:
        await _follow(stand, bots, tell)
    return await _gather(stand, bots, before, held, started_s=started_s, settled=not limit.cancelled_caught)


async def _spawn(stand: Stand, part: Part) -> _Bot:
    body: dict[str, Any] = {"meetingUrl": MEETING}
    if part.script != "happy":
        body["metadata"] = {"fake_script": part.script}
    spawned_s = time.monotonic()
    answer = await stand.anyone.post(f"/fn/{part.function}", json=body)
    told = _json(answer)
    seen_s = {told["status"]: time.monotonic() - spawned_s} if "status" in told else {}
    return _Bot(
        part=part,
        spawned_s=spawned_s,
        answer_status=answer.status_code,
        answer=told,
        row_before=await _row(stand, told.get("bot_id", "")),
        seen_s=seen_s,
    )


async def _follow(stand: Stand, bots: Sequence[_Bot], tell: Callable[[str], None]) -> None:
    """Look until every bot has come to its end and its events have been tried."""
    made = [bot for bot in bots if bot.id]
    while any(bot.status not in TERMINAL for bot in made) or not await _all_tried(stand):
        for bot in made:
            if bot.status not in TERMINAL:
                await _look(stand, bot)
        tell(f"The bots are in their meetings; the first is {bots[0].status or 'on its way'} …")
        await anyio.sleep(LOOK_EVERY_S)


async def _look(stand: Stand, bot: _Bot) -> None:
    status = (await _get(stand, f"ai/meetings/{bot.id}"))["status"]
    bot.status = status
    bot.seen_s.setdefault(status, time.monotonic() - bot.spawned_s)


async def _all_tried(stand: Stand) -> bool:
    """Whether no event is still on its first way. One that was refused holds back those behind it, for longer."""
    found = (await _get(stand, "ai/meetings/webhook/deliveries?limit=100"))["deliveries"]
    refused = {each["bot_id"] for each in found if each["state"] == "queued" and each["attempts"]}
    return all(each["state"] != "queued" or each["bot_id"] in refused for each in found)


async def _gather(
    stand: Stand, bots: Sequence[_Bot], before: Json, held: Json, *, started_s: float, settled: bool
) -> Evidence:
    arrived = list(stand.tap.arrivals)
    journal = (await _get(stand, "credits/entries?limit=100"))["entries"]
    stories = [await _story(stand, bot, arrived, journal) for bot in bots]
    happy = stories[0].bot
    return Evidence(
        stories=stories,
        recording=await _download(stand, happy.get("recordingUrl")),
        transcript=await _download(stand, happy.get("transcriptUrl")),
        talk=await _talk(stand, bots[0].id),
        credits_before=before,
        credits_held=held,
        credits_after=await _credits(stand),
        usage=(await _get(stand, "ai/meetings/usage"))["rows"],
        estimate_usd=[
            (await _get(stand, f"ai/meetings/_estimate?durationMinutes=30{more}"))["usd"]
            for more in ("", "&transcript=false")
        ],
        forged_status=await _forge(stand, bots[0].id),
        findings=[finding.what for finding in await verify_books(stand.host.store)],
        settled=settled,
        took_s=time.monotonic() - started_s,
    )


async def _story(stand: Stand, bot: _Bot, arrived: Sequence[Arrival], journal: Sequence[Json]) -> Story:
    now_ms = stand.host.clock.now_ms()
    deliveries = [_delivery(stand, arrival, now_ms) for arrival in arrived]
    return Story(
        part=bot.part,
        answer_status=bot.answer_status,
        answer=bot.answer,
        bot=await _get(stand, f"ai/meetings/{bot.id}") if bot.id else {},
        events=(await _get(stand, f"ai/meetings/{bot.id}/events"))["events"] if bot.id else [],
        seen_s=bot.seen_s,
        deliveries=[delivery for delivery in deliveries if delivery.bot == bot.id],
        row_before=bot.row_before,
        row_after=await _row(stand, bot.id),
        charges=[line for line in journal if line["kind"] == "charge" and line["lease_id"] == bot.id],
    )


def _delivery(stand: Stand, arrival: Arrival, now_ms: int) -> Delivery:
    secret, headers = stand.webhook_secret, arrival.headers
    expected, given = signed_body(secret, arrival.body), headers.get("x-bb-signature", "")
    return Delivery(
        event=headers.get("x-bb-event", ""),
        webhook_id=headers.get("webhook-id", ""),
        bot=json.loads(arrival.body)["data"]["bot"]["id"],
        status=arrival.status,
        body_signed=hmac.compare_digest(expected.encode(), given.encode()),
        message_signed=is_signed_message(secret, headers, arrival.body, now_ms=now_ms),
    )


async def _forge(stand: Stand, bot_id: str) -> int:
    """An event that somebody else signs; how the app's function answers."""
    body = json.dumps({"event": "bot.done", "data": {"bot": {"id": bot_id, "metadata": {}}}}).encode()
    headers = {"x-bb-event": "bot.done", "x-bb-signature": signed_body("wsec_of-a-forger", body)}
    answer = await stand.anyone.post(f"/fn/{WEBHOOK_FUNCTION}", content=body, headers=headers)
    return answer.status_code


async def _download(stand: Stand, url: str | None) -> Download | None:
    if not url:
        return None
    answer = await stand.anyone.get(url)
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    return Download(status=answer.status_code, media_type=media_type, content=answer.content)


async def _talk(stand: Stand, bot_id: str) -> str:
    answer = await stand.api.get(f"/v1/{stand.tenant.app.id}/ai/meetings/{bot_id}/transcript?format=text")
    return answer.text if answer.is_success else ""


async def _row(stand: Stand, bot_id: str) -> Json:
    """What the app remembers of a bot, asked for as its owner would."""
    answer = await stand.api.get("/fn/meetings")
    rows = answer.json() if answer.is_success else []
    return next((row for row in rows if row["bot_id"] == bot_id), {})


async def _credits(stand: Stand) -> Json:
    return await _get(stand, "credits")


async def _get(stand: Stand, path: str) -> Json:
    answer = await stand.api.get(f"/v1/{stand.tenant.app.id}/{path}")
    if not answer.is_success:
        raise SetUpFailed(f"GET {answer.request.url} answered {answer.status_code}: {answer.text}")
    return _json(answer)


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    """With amounts as they are written, not as the nearest float; empty when it is no JSON object."""
    try:
        found = json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
