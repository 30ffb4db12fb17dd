"""Facts as Recall writes them: the bot object, recordings, artifacts, webhooks, downloads."""

from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel

from ctxhost_recall.emulator.checks import AutomaticLeave
from ctxhost_recall.emulator.life import Capture
from ctxhost_recall.emulator.world import Artifact, ArtifactKind, Bot, World

SHORTCUTS: tuple[ArtifactKind, ...] = (
    "video_mixed",
    "transcript",
    "participant_events",
    "meeting_metadata",
    "audio_mixed",
)
ASYNC_PROVIDERS = (
    "assembly_ai_async",
    "deepgram_async",
    "gladia_v2_async",
    "rev_async",
    "speechmatics_async",
    "recallai_async",
)
_PLATFORMS = {"zoom": "zoom", "google": "google_meet", "microsoft": "microsoft_teams", "live": "microsoft_teams"}


class Shapes:
    """Writes what is known at a time. `link` makes the URL of an artifact's file."""

    def __init__(self, world: World, links: "Links") -> None:
        self._world = world
        self._links = links
        self.starts_with_ready = True
        """Whether a new bot's history has its `ready` entry, or is empty."""
        self.lists_audio = True
        """Whether `audio_mixed` is among the shortcuts, as it is since 2025."""
        self.links_are_late = False
        """Whether a finished artifact has no link (yet)."""

    def bot(self, bot: Bot, now_ms: int, base_url: str) -> dict[str, Any]:
        """A bot object."""
        wish, started = bot.wish, now_ms > bot.birth.start_ms
        history = bot.history(now_ms)
        return {
            "id": bot.id,
            "meeting_url": _meeting(wish.meeting_url),
            "bot_name": wish.bot_name,
            "join_at": None if started or wish.join_at is None else rest_time(bot.birth.start_ms),
            "recording_config": _echo(bot.config),
            "status_changes": [
                {"code": c.code, "message": None, "created_at": rest_time(c.at_ms), "sub_code": c.sub_code}
                for c in history
                if self.starts_with_ready or c.code != "ready"
            ],
            "recordings": [self.recording(bot, capture, now_ms, base_url) for capture in bot.captures(now_ms)],
            "output_media": None,
            "automatic_video_output": None,
            "automatic_audio_output": None,
            "chat": None,
            "automatic_leave": (wish.automatic_leave or AutomaticLeave()).model_dump(mode="json"),
            "variant": None,
            "calendar_meetings": [],
            "zoom": None,
            "google_meet": None,
            "slack_team": None,
            "breakout_room": None,
            "metadata": wish.metadata,
        }

    def recording(self, bot: Bot, capture: Capture, now_ms: int, base_url: str) -> dict[str, Any]:
        """A recording as it stands in a bot object."""
        code, sub_code, updated_ms = recording_state(bot, capture, now_ms)
        deleted_ms = bot.deleted_ms(capture)
        found: dict[str, Any] = dict.fromkeys(SHORTCUTS)
        for artifact in self._world.artifacts(bot, capture):
            if artifact.kind != "audio_mixed" or self.lists_audio:
                found[artifact.kind] = self.artifact(artifact, now_ms, base_url)
        return {
            "id": capture.id,
            "created_at": rest_time(capture.started_ms),
            "started_at": rest_time(capture.started_ms),
            "completed_at": rest_time(capture.completed_ms) if capture.completed_ms <= now_ms else None,
            "expires_at": None if deleted_ms is None else rest_time(deleted_ms),
            "status": {"code": code, "sub_code": sub_code, "updated_at": rest_time(updated_ms)},
            "media_shortcuts": found,
            "metadata": bot.config.metadata,
        }

    def artifact(self, artifact: Artifact, now_ms: int, base_url: str, *, whole: bool = False) -> dict[str, Any]:
        """An artifact as a shortcut, or (`whole`) as its own endpoint gives it."""
        code, sub_code, updated_ms = artifact.state(now_ms)
        is_linked = code == "done" and not self.links_are_late
        link = self._links.link(base_url, artifact.id, now_ms) if is_linked else None
        shown: dict[str, Any] = {
            "id": artifact.id,
            "created_at": rest_time(artifact.created_ms),
            "status": {"code": code, "sub_code": sub_code, "updated_at": rest_time(updated_ms)},
            "metadata": {},
            "data": _data(artifact.kind, link),
        }
        if artifact.kind in ("video_mixed", "audio_mixed"):
            shown["format"] = "mp4" if artifact.kind == "video_mixed" else "mp3"
        if artifact.kind == "transcript":
            chosen = artifact.wish.provider.model_dump(exclude_unset=True)
            shown["provider"] = {**dict.fromkeys(ASYNC_PROVIDERS), **chosen}
            shown["diarization"] = _dump(artifact.wish.diarization)
            shown["metadata"] = artifact.wish.metadata
        if whole:
            shown["recording"] = {"id": artifact.capture.id, "metadata": artifact.bot.config.metadata}
        return shown


class Links(Protocol):
    """Where links come from that expire."""

    def link(self, base_url: str, artifact_id: str, now_ms: int) -> str:
        """A URL of an artifact's file, minted at a time."""
        ...


def recording_state(bot: Bot, capture: Capture, now_ms: int) -> tuple[str, str | None, int]:
    """Code, sub_code and since when."""
    deleted_ms = bot.deleted_ms(capture)
    if deleted_ms is not None and deleted_ms <= now_ms:
        return "deleted", None, deleted_ms
    if now_ms < capture.ready_ms:
        return "processing", None, capture.started_ms
    return ("failed", "internal_error", capture.ready_ms) if capture.fails else ("done", None, capture.ready_ms)


def rest_time(ms: int) -> str:
    """Times of the REST API: microseconds and `Z`."""
    return webhook_time(ms).replace("+00:00", "Z")


def webhook_time(ms: int) -> str:
    """Times in webhooks: microseconds and `+00:00`."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="microseconds")


def event_body(
    kind: str,
    bot: Bot,
    *,
    sub_code: str | None,
    at_ms: int,
    capture: Capture | None = None,
    artifact: Artifact | None = None,
) -> dict[str, Any]:
    """The body of a webhook."""
    code = kind.partition(".")[2]
    data: dict[str, Any] = {"data": {"code": code, "sub_code": sub_code, "updated_at": webhook_time(at_ms)}}
    if artifact is not None:
        data[artifact.kind] = {"id": artifact.id, "metadata": {}}
    if capture is not None:
        data["recording"] = {"id": capture.id, "metadata": bot.config.metadata}
        if kind == "recording.failed":
            data["data"]["error"] = {"code": "INTERNAL_ERROR", "message": "capture stopped"}
    data["bot"] = {"id": bot.id, "metadata": bot.wish.metadata}
    return {"event": kind, "data": data}


def transcript_file(capture: Capture) -> list[dict[str, Any]]:
    """A transcript as it downloads: two speakers, a word a second, for as long as the recording is."""
    seconds = (capture.completed_ms - capture.started_ms) // 1_000
    names = ("Dana Ortiz", "Lee Park")
    said: list[dict[str, Any]] = []
    for n, start_s in enumerate(range(0, seconds, 10)):
        words = [_word(capture, s) for s in range(start_s, min(start_s + 10, seconds))]
        speaker = {"id": 100 * (n % 2 + 1), "name": names[n % 2], "is_host": n % 2 == 0, "platform": "desktop"}
        said.append({"participant": {**speaker, "extra_data": None, "email": None}, "words": words})
    return said


def _word(capture: Capture, second: int) -> dict[str, Any]:
    def moment(relative: float) -> dict[str, Any]:
        return {"relative": relative, "absolute": rest_time(capture.started_ms + int(relative * 1_000))}

    return {"text": f"word{second}", "start_timestamp": moment(second), "end_timestamp": moment(second + 0.8)}


def _data(kind: str, link: str | None) -> dict[str, Any]:
    if kind == "participant_events":
        names = ("participant_events_download_url", "speaker_timeline_download_url", "participants_download_url")
        return dict.fromkeys(names, link)
    if kind == "meeting_metadata":
        return {"title": None, "zoom": None}
    if kind == "transcript":
        return {"download_url": link, "provider_data_download_url": None}
    return {"download_url": link}


def _meeting(url: str) -> dict[str, Any]:
    """A meeting's link comes back taken apart."""
    parts = urlsplit(url)
    labels = (parts.hostname or "").split(".")
    platform = next((name for label, name in _PLATFORMS.items() if label in labels), "webex")
    return {"meeting_id": parts.path.rpartition("/")[2], "platform": platform}


def _echo(config: BaseModel) -> dict[str, Any]:
    """The configuration with Recall's defaults filled in; what is on shows its metadata."""
    shown = config.model_dump(mode="json")
    for name, value in shown.items():
        if value == {} and name != "metadata":
            shown[name] = {"metadata": {}}
    return shown


def _dump(model: BaseModel | None) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(mode="json")
