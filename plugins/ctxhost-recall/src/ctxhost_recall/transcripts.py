"""A transcript for every finished recording: asked for once, and again until it is known to exist, but never twice.

Nothing is kept on disk: Recall itself is asked what there is before anything is asked for, and the recording's own id
is the key of the wish, so that two hosts, a silence or a restart make no second one.
"""

import logging
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from ctxhost.errors import Refusal
from ctxhost.meetings.provider import Artifact
from ctxhost_recall.client import Api, Call, Reply, nonsense, segment
from ctxhost_recall.fields import Malformed, items, mapping
from ctxhost_recall.limits import Deadline
from ctxhost_recall.records import BotFacts, Session, read_artifact
from ctxhost_recall.requests import AFTER_THE_RECORDING, transcription
from ctxhost_recall.settings import RecallSettings

log = logging.getLogger("ctxhost.recall")

REMEMBERED = 10_000
DELETED = "deleted"
_BEST_FIRST = ("done", "processing", "failed")


class Transcripts:
    """Finds and orders the transcripts of recordings."""

    def __init__(self, api: Api, settings: RecallSettings) -> None:
        self._api = api
        self._settings = settings
        self._known: OrderedDict[str, Artifact] = OrderedDict()
        """The latest sight of a transcript by its recording, without its link, to look at it directly next time."""

    async def of(self, facts: BotFacts, session: Session, deadline: Deadline) -> Artifact | None:
        """A session's transcript; None while it is not known whether there is one, or when none is wanted.

        An answer that cannot be had leaves it open: the bot's other facts do not wait for it.
        """
        if session.transcript is not None or facts.transcribe != AFTER_THE_RECORDING or not _is_there(session):
            return session.transcript
        try:
            found = await self._find(session.id, deadline) or await self._order(facts.id, session.id, deadline)
        except Refusal as refusal:
            log.warning("the transcript of recording %s is left open: %s", session.id, refusal)
            return None
        if found is not None:
            self._remember(session.id, found)
        return found

    async def _find(self, recording: str, deadline: Deadline) -> Artifact | None:
        known = self._known.get(recording)
        if known is None:
            return await listed(self._api, "transcript", recording, deadline)
        if not known.id:  # it was refused
            return known
        call = Call(method="GET", path=f"/transcript/{segment(known.id)}/", scope="one")
        reply = await self._api.ask(call, deadline)
        if reply.status == 404:
            return Artifact(id=known.id, state="failed", reason=DELETED)
        return _artifact(reply)

    async def _order(self, bot: str, recording: str, deadline: Deadline) -> Artifact | None:
        call = Call(
            method="POST",
            path=f"/recording/{segment(recording)}/create_transcript/",
            scope=f"transcribe/{bot}",
            body=transcription(AFTER_THE_RECORDING, self._settings),
            key=recording,
        )
        reply = await self._api.ask(call, deadline)
        if reply.status == 409:  # the same wish is being carried out
            return None
        if reply.status in (400, 404):
            log.warning("Recall transcribes recording %s not: %d %s", recording, reply.status, reply.code)
            return Artifact(id="", state="failed", reason=reply.code or "refused")
        return _artifact(reply)

    def _remember(self, recording: str, artifact: Artifact) -> None:
        self._known[recording] = replace(artifact, url="")
        self._known.move_to_end(recording)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _is_there(session: Session) -> bool:
    """Whether there is a recording to be transcribed; of one that was deleted nothing must be made again."""
    is_deleted = session.media is not None and session.media.reason == DELETED
    return session.state == "done" and not is_deleted


async def listed(api: Api, kind: str, recording: str, deadline: Deadline) -> Artifact | None:
    """The best artifact of a kind (`transcript`, `audio_mixed`, …) that a recording has. Raises as `Api.ask`."""
    call = Call(method="GET", path=f"/{kind}/", scope="list", query={"recording_id": recording})
    found = _listed(await api.ask(call, deadline), recording)
    return min(found, key=lambda artifact: _BEST_FIRST.index(artifact.state), default=None)


def _artifact(reply: Reply) -> Artifact:
    if not reply.is_success:
        raise nonsense(f"a transcript is answered {reply.status}")
    try:
        return read_artifact(reply.body)
    except Malformed as error:
        raise nonsense(str(error)) from None


def _listed(reply: Reply, recording: str) -> list[Artifact]:
    """The page's artifacts that are this recording's: a filter that is not obeyed must not give another's."""
    if not reply.is_success:
        raise nonsense(f"a list is answered {reply.status}")
    try:
        results: list[Any] = list(items(mapping(reply.body, "page"), "results"))
        return [read_artifact(entry) for entry in results if _recording_of(entry) in ("", recording)]
    except Malformed as error:
        raise nonsense(str(error)) from None


def _recording_of(entry: Any) -> str:
    recording = mapping(entry, "artifact").get("recording")
    found = recording.get("id") if isinstance(recording, dict) else None
    return found if isinstance(found, str) else ""
