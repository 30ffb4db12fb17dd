"""Hallway itself, as small as it can be: its API, its bots' lives, and the webhooks that it sends."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from ctxhost.testing.provider_suite import Life

KEY = "hw-key-0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(b"hallway signs with these 32 byte").decode()
CALL = [(0, "dialling", ""), (5, "lobby", ""), (20, "inside", ""), (25, "recording", "")]
OVER = [*CALL, (85, "out", "call_over"), (110, "filed", "")]
LIVES: Mapping[Life, list[tuple[int, str, str]]] = {
    Life.NOT_ADMITTED: [*CALL[:2], (125, "out", "lobby_timeout"), (126, "filed", "")],
    Life.KICKED: [*CALL, (60, "out", "thrown_out"), (80, "filed", "")],
    Life.FAILED: [CALL[0], (5, "out", "no_such_call"), (5, "filed", "")],
    Life.NOBODY_CAME: [*CALL[:3], (140, "out", "nobody_there"), (141, "filed", "")],
}
SPEECH = [
    {
        "participant": {"name": "Ada"},
        "words": [{"text": "Hello.", "start_timestamp": {"relative": 0.5}, "end_timestamp": {"relative": 1.0}}],
    }
]


def signed(body: bytes, *, event_id: str, now_ms: int) -> dict[str, str]:
    """The headers of a webhook of Hallway's."""
    content = f"{event_id}.{now_ms // 1_000}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(now_ms // 1_000),
        "webhook-signature": f"v1,{signature}",
    }


@dataclass
class Bot:
    id: str
    wish: dict[str, Any]
    life: Life
    start_ms: int
    told_ms: int | None = None
    erased_ms: int | None = None
    sent: int = 0

    def history(self) -> list[tuple[int, str, str]]:
        """Everything that happens, in ms; what would come after a dismissal does not."""
        acts = [(self.start_ms + s * 1_000, state, why) for s, state, why in LIVES.get(self.life, OVER)]
        if self.wish["record"] == "nothing":
            acts = [act for act in acts if act[1] != "recording"]
        out_ms = next(at_ms for at_ms, state, _ in acts if state == "out")
        if self.told_ms is not None and self.told_ms < out_ms:
            before = [act for act in acts if act[0] <= self.told_ms]
            return [*before, (self.told_ms, "out", "dismissed"), (self.told_ms + 25_000, "filed", "")]
        return acts

    def at(self, state: str) -> int | None:
        return next((at_ms for at_ms, seen, _ in self.history() if seen == state), None)


@dataclass
class Hallway:
    """`answer` is the API at `now_ms`; `due` are the webhooks that were not sent yet."""

    lives: dict[str, Life] = field(default_factory=dict)
    """By the label that the bot will have."""
    bots: dict[str, Bot] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def answer(self, request: httpx.Request, now_ms: int) -> httpx.Response:
        path = request.url.path
        if path.startswith("/files/"):
            _, _, bot_id, name = path.split("/")
            gone = int(request.url.params["until"]) <= now_ms or self.bots[bot_id].erased_ms is not None
            return httpx.Response(403 if gone else 200, content=json.dumps(SPEECH) if name == "speech" else b"media")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return httpx.Response(401, json={"error": "key"})
        if path == "/bots":
            return self._create(request, now_ms) if request.method == "POST" else self._search(request)
        bot = self.bots.get(path.split("/")[2])
        if bot is None:
            return httpx.Response(404, json={"error": "no such bot"})
        if path.endswith("/dismiss"):
            bot.told_ms = bot.told_ms or now_ms
            return httpx.Response(202, json={})
        if request.method == "DELETE":
            bot.erased_ms = bot.erased_ms or now_ms
            return httpx.Response(200, json={})
        return httpx.Response(200, json=_shown(bot, now_ms))

    def due(self, now_ms: int) -> list[tuple[str, bytes]]:
        """Event ids and bodies of what has happened since it was asked last."""
        found = []
        for bot in self.bots.values():
            acts = [act for act in bot.history() if act[0] <= now_ms]
            for _, state, _ in acts[bot.sent :]:
                told = {"kind": f"bot.{state}", "bot": bot.id, "label": bot.wish["label"]}
                found.append((f"ev-{bot.id}-{state}", json.dumps(told).encode()))
            bot.sent = max(bot.sent, len(acts))
        return found

    def _create(self, request: httpx.Request, now_ms: int) -> httpx.Response:
        wish, key = json.loads(request.content), request.headers["idempotency-key"]
        if key in self.keys:
            return httpx.Response(201, json={"id": self.keys[key]})
        life = self.lives.get(wish["label"], Life.HAPPY)
        if life is Life.SILENT_LOST:
            raise httpx.ReadTimeout("silence", request=request)
        refusals = {
            Life.REFUSED: httpx.Response(403, json={"error": "this account may not"}),
            Life.BAD_URL: httpx.Response(422, json={"field": "meeting_url"}),
            Life.FULL: httpx.Response(429, headers={"retry-after": "30"}, json={"error": "full"}),
        }
        if life in refusals:
            return refusals[life]
        start_ms = _ms(wish["dial_at"]) if wish["dial_at"] else now_ms
        bot = Bot(f"hw-{len(self.bots) + 1:04}", wish, life, start_ms)
        self.bots[bot.id], self.keys[key] = bot, bot.id
        if life is Life.SILENT_MADE:
            raise httpx.ReadTimeout("silence", request=request)
        return httpx.Response(201, json={"id": bot.id})

    def _search(self, request: httpx.Request) -> httpx.Response:
        wanted = request.url.params["label"]
        found = [
            {"id": b.id, "label": b.wish["label"]} for b in self.bots.values() if b.wish["label"].startswith(wanted)
        ]
        return httpx.Response(200, json={"bots": found})


def _shown(bot: Bot, now_ms: int) -> dict[str, Any]:
    acts = [(at_ms, state, why) for at_ms, state, why in bot.history() if at_ms <= now_ms]
    until_ms = now_ms + 3_600_000
    began_ms, out_ms, filed_ms = bot.at("dialling"), bot.at("out"), bot.at("filed")
    source = "inside" if bot.wish["record"] == "nothing" else "recording"
    from_ms = bot.at(source)
    has_content = from_ms is not None and bot.life is not Life.NOBODY_CAME and from_ms <= now_ms
    ready_ms = (filed_ms or 0) - 5_000

    def artifact(name: str, breaks: bool) -> dict[str, Any]:
        if now_ms < ready_ms or out_ms is None:
            return {"id": f"{bot.id}-{name}", "state": "working", "at": _iso(from_ms)}
        if bot.erased_ms is not None:
            return {"id": f"{bot.id}-{name}", "at": _iso(bot.erased_ms), "state": "broken", "why": "deleted"}
        link = f"https://api.hallway.example/files/{bot.id}/{name}?until={until_ms}"
        done = {"state": "broken", "why": "noise"} if breaks else {"state": "ready", "link": link}
        return {"id": f"{bot.id}-{name}", "at": _iso(ready_ms), **done}

    speech = None
    if bot.wish["transcribe"] and has_content:
        speech = artifact("speech", bot.life in (Life.TRANSCRIPT_FAILED, Life.RECORDING_FAILED))
    recordings = []
    if has_content and source == "recording":
        to_ms = out_ms if out_ms is not None and out_ms <= now_ms else None
        media = artifact("media", bot.life is Life.RECORDING_FAILED)
        recordings = [
            {"id": f"{bot.id}-r", "from": _iso(from_ms), "to": _iso(to_ms), "file": media, "transcript": speech}
        ]
    last_ms = min(now_ms, filed_ms or now_ms)
    return {
        "id": bot.id,
        "label": bot.wish["label"],
        "history": [{"state": state, "at": _iso(at_ms), "why": why} for at_ms, state, why in acts],
        "recordings": recordings,
        "transcript": None if recordings else speech,
        "links_until": _iso(until_ms),
        "billed_s": max(last_ms - began_ms, 0) // 1_000 if began_ms is not None else 0,
    }


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1_000, UTC).isoformat()


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1_000)
