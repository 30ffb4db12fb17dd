"""Artifacts at URLs that expire: a plain GET, HEAD or Range request downloads them, nothing but the URL is needed."""

import hashlib
import hmac
import json
import re
import secrets
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from ctxhost.clock import Clock
from ctxhost_fake.life import MEDIA_FILES, TRANSCRIPT_FILE, Birth, Life, Outcome, plan, visible_ms
from ctxhost_fake.state import State
from ctxhost_fake.talk import transcript

ASSETS = Path(__file__).parent / "assets"

_MEDIA_TYPES = {"recording.mp4": "video/mp4", "recording.mp3": "audio/mpeg", TRANSCRIPT_FILE: "application/json"}
_EXPIRES = re.compile(r"[0-9]{1,12}")


class Artifacts:
    """Mints the URLs and serves them. `app` is to be mounted at `url`."""

    def __init__(self, *, clock: Clock, url: str, key: bytes, folder: Path, state: State) -> None:
        self._clock = clock
        self._url = url
        self._key = hmac.digest(key, b"artifacts", hashlib.sha256)
        self._folder = folder
        self._state = state
        self.app = Starlette(routes=[Route("/artifacts/{provider_id}/{file}", self._serve)])

    def url(self, provider_id: str, file: str, *, expires_s: int) -> str:
        """A URL that works until `expires_s`, in Unix seconds."""
        path = f"/artifacts/{provider_id}/{file}"
        return f"{self._url}{path}?expires={expires_s}&signature={self._sign(path, str(expires_s))}"

    def erase(self, provider_id: str) -> None:
        """Delete what was written of a bot's transcript."""
        self._transcript_file(provider_id).unlink(missing_ok=True)

    async def _serve(self, request: Request) -> Response:
        provider_id, file = request.path_params["provider_id"], request.path_params["file"]
        if not self._may(request, f"/artifacts/{provider_id}/{file}"):
            return PlainTextResponse("This link has expired, or was changed.\n", 403)
        life = self._state.life(provider_id)
        found = None if life is None else _outcome(life, file, self._clock.now_ms())
        if life is None or found is None:
            return PlainTextResponse("There is no such artifact.\n", 404)
        path = ASSETS / file if file != TRANSCRIPT_FILE else await to_thread.run_sync(self._talk, life.birth, found)
        return FileResponse(path, media_type=_MEDIA_TYPES[file], headers={"cache-control": "private"})

    def _may(self, request: Request, path: str) -> bool:
        expires, signature = request.query_params.get("expires", ""), request.query_params.get("signature", "")
        right = hmac.compare_digest(self._sign(path, expires).encode(), signature.encode("utf-8", "replace"))
        return right and bool(_EXPIRES.fullmatch(expires)) and self._clock.now_ms() < int(expires) * 1_000

    def _sign(self, path: str, expires: str) -> str:
        content = f"{path}?{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()

    def _talk(self, birth: Birth, outcome: Outcome) -> Path:
        """The file of a transcript, written when it is first wanted; it never changes."""
        path = self._transcript_file(birth.id)
        if not path.exists():
            said = transcript(
                seed=birth.seed,
                bot=birth.bot,
                started_ms=birth.start_ms + outcome.start_ms,
                duration_ms=outcome.stop_ms - outcome.start_ms,
            )
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = path.with_suffix(f".{secrets.token_hex(4)}")
            part.write_text(json.dumps(said, ensure_ascii=False))
            part.replace(path)
        return path

    def _transcript_file(self, provider_id: str) -> Path:
        return self._folder / f"{provider_id}.json"


def _outcome(life: Life, file: str, now_ms: int) -> Outcome | None:
    """What the file tells of, if it is ready."""
    planned = plan(life)
    outcome = planned.transcript if file == TRANSCRIPT_FILE else planned.media
    is_its_own = file in (TRANSCRIPT_FILE, MEDIA_FILES.get(life.birth.recording))
    if outcome is None or not is_its_own or outcome.state != "done" or life.erased_ms is not None:
        return None
    return outcome if visible_ms(life.birth, outcome.offset_ms) <= now_ms else None
