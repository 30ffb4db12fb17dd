"""Downloads, at links that need no credentials and expire."""

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxhost_recall.emulator.shapes import transcript_file
from ctxhost_recall.emulator.world import Unknown, World

LINK_LIFE_S = 21_600
FILES = {
    "video_mixed": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "audio_mixed": b"ID3\x04\x00\x00\x00\x00\x00\x00",
}
"""The beginnings of real files; nothing plays."""
_DENIED = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code></Error>"


class Media:
    """Mints the links and serves what they lead to."""

    def __init__(self, world: World, *, secret: str) -> None:
        self._world = world
        self._secret = secret.encode()

    def link(self, base_url: str, artifact_id: str, now_ms: int) -> str:
        until = str(now_ms // 1_000 + LINK_LIFE_S)
        signature = self._sign(artifact_id, until)
        return f"{base_url}/_media/{artifact_id}?X-Amz-Expires={LINK_LIFE_S}&until={until}&X-Amz-Signature={signature}"

    async def serve(self, request: Request) -> Response:
        """The file, or a 403 in XML."""
        now_ms = self._world.clock.now_ms()
        artifact_id = request.path_params["id"]
        try:
            artifact = self._world.artifact(artifact_id)
        except Unknown:
            artifact = None
        if artifact is None or artifact.state(now_ms)[0] != "done" or not self._allows(request, artifact_id, now_ms):
            return Response(_DENIED, 403, media_type="application/xml")
        if artifact.kind in FILES:
            return Response(FILES[artifact.kind], media_type="application/octet-stream")
        return JSONResponse(transcript_file(artifact.capture) if artifact.kind == "transcript" else [])

    def _allows(self, request: Request, artifact_id: str, now_ms: int) -> bool:
        until = request.query_params.get("until", "")
        right, given = self._sign(artifact_id, until), request.query_params.get("X-Amz-Signature", "")
        return hmac.compare_digest(right.encode(), given.encode("utf-8", "replace")) and now_ms < int(until) * 1_000

    def _sign(self, artifact_id: str, until: str) -> str:
        content = f"{artifact_id}?{until}".encode("utf-8", "replace")
        return hmac.new(self._secret, content, hashlib.sha256).hexdigest()
