"""Promises about what a call leaves behind: recordings and transcripts, asked for, failed, and downloaded."""

import httpx

from ctxhost.meetings import transcript
from ctxhost.meetings.provider import Artifact, BotRecord
from ctxhost.testing.provider_suite.harness import Life
from ctxhost.testing.provider_suite.lives import BILLED, lived
from ctxhost.testing.provider_suite.records import check_history
from ctxhost.testing.provider_suite.trial import BrokenPromise, NotPlayed, Reading, Trial, demand


async def what_was_asked_for_is_delivered(trial: Trial) -> None:
    """Each kind of recording, with and without a transcript, leaves what was asked for and nothing else."""
    for kind in trial.harness.recordings:
        for wanted in (True, False):
            if kind == "off" and not wanted:
                continue
            last = (await lived(trial, Life.HAPPY, recording=kind, transcript=wanted))[-1].record
            _check_delivery(last, f"recording={kind!r}, transcript={wanted}", kind=kind, wanted=wanted)


def _check_delivery(record: BotRecord, asked: str, *, kind: str, wanted: bool) -> None:
    media = [recording.media.state for recording in record.recordings]
    demand(
        "done" not in media if kind == "off" else media and set(media) == {"done"},
        f"{asked}: the recordings are {media}",
        mend="ask your provider for what `request.recording` says; `off` stores no media at all.",
    )
    of_recordings = [r.transcript for r in record.recordings if r.transcript is not None]
    speech = of_recordings if kind != "off" else [record.transcript]
    states = [artifact.state for artifact in speech if artifact is not None]
    demand(
        (states and set(states) == {"done"}) if wanted else not states and record.transcript is None,
        f"{asked}: the transcripts are {states}",
        mend="a transcript belongs to its recording, or to the record itself where nothing is recorded; none is made,"
        f" nor reported, when `request.transcript` is false: {BILLED}",
    )


async def what_failed_is_told_as_failed(trial: Trial) -> None:
    """An artifact that failed says so and is not billed; what a kicked bot recorded is still delivered."""
    played = 0
    for life in (Life.TRANSCRIPT_FAILED, Life.RECORDING_FAILED, Life.NOBODY_CAME, Life.KICKED):
        if life in trial.harness.lives:
            played += 1
            _check_failed(life, (await lived(trial, life))[-1].record)
    if not played:
        raise NotPlayed("the harness's `lives` leaves out every life in which something fails")


def _check_failed(life: Life, record: BotRecord) -> None:
    media = [recording.media.state for recording in record.recordings]
    speech = [recording.transcript.state for recording in record.recordings if recording.transcript]
    expected = {
        Life.TRANSCRIPT_FAILED: (media and set(media) == {"done"} and set(speech) == {"failed"}),
        Life.RECORDING_FAILED: (media and set(media) == {"failed"} and "done" not in speech),
        Life.NOBODY_CAME: ("done" not in media and "done" not in speech),
        Life.KICKED: (media and set(media) == {"done"}),
    }
    demand(
        expected[life],
        f"{life.value}: at the end the media are {media} and the transcripts {speech}",
        mend=f"report `failed` for what will never come, `done` for what can be downloaded: {BILLED}",
    )


async def artifacts_are_downloaded_by_a_plain_get(trial: Trial) -> None:
    """Every URL works without credentials, holds no secret, and a later reading gives one that works then."""
    _, provider_id = await trial.born()
    reading = (await trial.watch(provider_id))[-1]
    await _check_urls(trial, reading)
    expires_in_s = (reading.record.urls_expire_ms - trial.now_ms()) // 1_000
    if expires_in_s <= 7 * 86_400:
        await trial.harness.advance(seconds=expires_in_s + 60)
        again = await trial.read(provider_id)
        check_history([reading, again], since_ms=trial.began_ms)
        await _check_urls(trial, again)


async def _check_urls(trial: Trial, reading: Reading) -> None:
    for artifact in reading.artifacts:
        shown = artifact.url.partition("?")[0]
        for secret in trial.harness.secrets:
            demand(
                secret not in artifact.url, f"{shown} holds a secret", mend="users see these URLs; sign, don't tell."
            )
        try:
            response = await trial.harness.http.get(artifact.url)
        except httpx.HTTPError as error:
            raise BrokenPromise(
                f"GET {shown} failed: {type(error).__name__}({error})",
                mend="the URL must answer a plain GET; let your harness's `answer` serve it.",
            ) from error
        demand(
            response.status_code == 200 and response.content,
            f"GET {shown} answered {response.status_code} with {len(response.content)} bytes",
            mend="give URLs that work without credentials; serve the file through `mount` where the provider's do not.",
        )
    for artifact in _speech(reading.record):
        raw = (await trial.harness.http.get(artifact.url)).content
        try:
            transcript.parse(raw)
        except transcript.NotATranscript as error:
            raise BrokenPromise(
                f"the transcript cannot be read: {error}; it begins {raw[:80]!r}",
                mend="transcripts are a JSON list of {participant: {name}, words: [{text, start_timestamp: {relative},"
                " end_timestamp: {relative}}]}; convert, and serve yours through `mount`.",
            ) from error


def _speech(record: BotRecord) -> list[Artifact]:
    found = [record.transcript, *(recording.transcript for recording in record.recordings)]
    return [artifact for artifact in found if artifact is not None and artifact.state == "done"]
