"""The calls that the emulated API takes, below `/api/v1`."""

from typing import Any
from urllib.parse import urlencode

from ctxhost_recall.emulator.asked import Answer, Asked, Place
from ctxhost_recall.emulator.checks import BadFields, bot_in, transcript_in
from ctxhost_recall.emulator.shapes import Shapes
from ctxhost_recall.emulator.world import Artifact, Bot, Unknown, World

PAGE = 100
FILTERS = ("join_at_after", "join_at_before", "meeting_url", "platform", "status", "page")
ARTIFACT_KINDS = ("transcript", "audio_mixed", "video_mixed")


class Api:
    """Every call in Recall's words."""

    def __init__(self, world: World, shapes: Shapes) -> None:
        self.page_size = PAGE
        self._world = world
        self._shapes = shapes

    def places(self) -> dict[str, dict[str, Place]]:
        """Path → method → what is done there."""
        places = {
            "/bot/": {"POST": Place("create", "create", self._create), "GET": Place("list", "list", self._list)},
            "/bot/{id}/": {"GET": Place("read", "one", self._read), "DELETE": Place("delete", "one", self._delete)},
            "/bot/{id}/leave_call/": {"POST": Place("leave", "one", self._leave)},
            "/bot/{id}/delete_media/": {"POST": Place("delete_media", "one", self._delete_media)},
            "/recording/{id}/create_transcript/": {"POST": Place("order", "transcribe", self._order)},
        }
        for kind in ARTIFACT_KINDS:
            places[f"/{kind}/"] = {"GET": Place("transcripts", "list", self._artifacts)}
            places[f"/{kind}/{{id}}/"] = {"GET": Place("transcript", "one", self._artifact)}
        return places

    def _create(self, asked: Asked) -> Answer:
        asked.query()
        return 201, self._shown(self._world.create(bot_in(asked.json)), asked)

    def _read(self, asked: Asked) -> Answer:
        asked.query()
        return 200, self._shown(self._world.bot(asked.id), asked)

    def _delete(self, asked: Asked) -> Answer:
        asked.query()
        self._world.delete(self._world.bot(asked.id))
        return 204, None

    def _leave(self, asked: Asked) -> Answer:
        asked.query()
        bot = self._world.bot(asked.id)
        self._world.leave(bot)
        return 200, self._shown(bot, asked)

    def _delete_media(self, asked: Asked) -> Answer:
        asked.query()
        bot = self._world.bot(asked.id)
        self._world.delete_media(bot)
        return 200, self._shown(bot, asked)

    def _list(self, asked: Asked) -> Answer:
        query = asked.query(*FILTERS, prefix="metadata__")
        unsupported = [name for name in FILTERS[:-1] if name in query]
        if unsupported:
            raise BadFields({name: ["this emulator filters by metadata alone"] for name in unsupported})
        wanted = {name.removeprefix("metadata__"): v for name, v in query.items() if name.startswith("metadata__")}
        found = [bot for bot in reversed(self._world.bots.values()) if _has(bot, wanted)]
        number, size = int(query.get("page", "1")), self.page_size

        def link(page: int) -> str:
            return f"{asked.base_url}/api/v1/bot/?{urlencode({**query, 'page': page})}"

        return 200, {
            "count": len(found),
            "next": link(number + 1) if number * size < len(found) else None,
            "previous": link(number - 1) if number > 1 else None,
            "results": [self._shown(bot, asked) for bot in found[(number - 1) * size : number * size]],
        }

    def _order(self, asked: Asked) -> Answer:
        asked.query()
        return 200, self._artifact_shown(self._world.order(asked.id, transcript_in(asked.json)), asked)

    def _artifact(self, asked: Asked) -> Answer:
        asked.query()
        artifact = self._world.artifact(asked.id)
        if asked.collection != artifact.kind:
            raise Unknown(asked.id)
        return 200, self._artifact_shown(artifact, asked)

    def _artifacts(self, asked: Asked) -> Answer:
        query = asked.query("recording_id")
        if "recording_id" not in query:
            raise BadFields({"recording_id": ["this emulator lists the artifacts of one recording alone"]})
        bot, capture = self._world.capture(query["recording_id"])
        found = [a for a in self._world.artifacts(bot, capture) if a.kind == asked.collection]
        results = [self._artifact_shown(artifact, asked) for artifact in found]
        return 200, {"next": None, "previous": None, "results": results}

    def _shown(self, bot: Bot, asked: Asked) -> dict[str, Any]:
        return self._shapes.bot(bot, self._world.clock.now_ms(), asked.base_url)

    def _artifact_shown(self, artifact: Artifact, asked: Asked) -> dict[str, Any]:
        return self._shapes.artifact(artifact, self._world.clock.now_ms(), asked.base_url, whole=True)


def _has(bot: Bot, metadata: dict[str, str]) -> bool:
    return all(bot.wish.metadata.get(name) == value for name, value in metadata.items())
