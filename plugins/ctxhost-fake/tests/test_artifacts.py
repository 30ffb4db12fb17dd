"""Artifacts: they download by their URL alone, for a while, and are what they say they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxhost.clock import rfc3339
from ctxhost.meetings.provider import BotRecord, BotRequest
from ctxhost_fake.artifacts import ASSETS
from ctxhost_fake.talk import transcript

Asked = Callable[..., BotRequest]


async def lived(stand: Any, provider: Any, request: BotRequest) -> BotRecord:
    """The record of a bot whose life is over."""
    bot = await provider.create(request)
    await stand.play(provider)
    record: BotRecord = await provider.read(bot)
    return record


async def test_both_artifacts_download_by_a_plain_get(stand: Any, asked: Asked) -> None:
    """No header, no credentials: the bytes, with their type."""
    record = await lived(stand, stand.open(), asked())
    (fact,) = record.recordings
    assert fact.transcript is not None
    media, words = await stand.http.get(fact.media.url), await stand.http.get(fact.transcript.url)

    assert (200, "video/mp4") == (media.status_code, media.headers["content-type"])
    assert (ASSETS / "recording.mp4").read_bytes() == media.content
    assert (200, "application/json") == (words.status_code, words.headers["content-type"])
    assert words.json()


async def test_audio_alone_is_an_mp3(stand: Any, asked: Asked) -> None:
    """`audio_only` leaves no video behind."""
    record = await lived(stand, stand.open(), asked(recording="audio_only"))
    media = await stand.http.get(record.recordings[0].media.url)

    assert "audio/mpeg" == media.headers["content-type"]
    assert (ASSETS / "recording.mp3").read_bytes() == media.content


@pytest.mark.parametrize("artifact", ["media", "transcript"])
async def test_head_and_ranges_work(stand: Any, asked: Asked, artifact: str) -> None:
    """A player can look before it loads, and load a part."""
    record = await lived(stand, stand.open(), asked())
    url = getattr(record.recordings[0], artifact).url
    whole, head = await stand.http.get(url), await stand.http.head(url)
    part = await stand.http.get(url, headers={"range": "bytes=4-11"})

    assert (200, b"", str(len(whole.content))) == (head.status_code, head.content, head.headers["content-length"])
    assert "bytes" == head.headers["accept-ranges"]
    assert (206, whole.content[4:12]) == (part.status_code, part.content)
    beyond = await stand.http.get(url, headers={"range": "bytes=99999999-"})
    assert 416 == beyond.status_code


async def test_a_url_works_until_it_expires_and_is_minted_anew(stand: Any, asked: Asked) -> None:
    """Until the second that the record names, and not in it; the next reading has a fresh one."""
    provider = stand.open(artifact_url_ttl_s=60)
    record = await lived(stand, provider, asked())
    url = record.recordings[0].media.url

    assert record.urls_expire_ms <= stand.clock.now_ms() + 60_000
    stand.clock.set(record.urls_expire_ms - 1)
    assert 200 == (await stand.http.get(url)).status_code
    stand.clock.advance(ms=1)
    assert 403 == (await stand.http.get(url)).status_code
    (bot,) = await provider.find("bot-1")
    fresh = (await provider.read(bot)).recordings[0].media.url
    assert 200 == (await stand.http.get(fresh)).status_code


async def test_a_changed_url_is_refused(stand: Any, asked: Asked) -> None:
    """Another time, another file, another bot, another signature, none: always 403."""
    provider = stand.open()
    record = await lived(stand, provider, asked())
    other = (await lived(stand, provider, asked(bot="bot-2"))).recordings[0].media.url
    url = record.recordings[0].media.url
    plain, _, signature = url.partition("&signature=")
    expires = url.partition("expires=")[2].partition("&")[0]

    for changed in [
        url.replace(f"expires={expires}", f"expires={int(expires) + 1}"),
        url.replace("recording.mp4", "transcript.json"),
        f"{other.partition('?')[0]}?{url.partition('?')[2]}",
        f"{plain}&signature={signature[::-1]}",
        f"{plain}&signature=é",
        plain,
        url.partition("?")[0],
    ]:
        assert 403 == (await stand.http.get(changed)).status_code


async def test_a_signature_counts_only_for_a_real_time(stand: Any) -> None:
    """Even signed by us, what is not a number of seconds opens nothing."""
    artifacts = stand.open()._artifacts
    for expires in ("never", "-1", "1e12", "9" * 400, "99999999999"[::-1] + "٣"):
        path = "/artifacts/x/recording.mp4"
        url = f"{stand.services.base_url}/plugins/fake{path}"
        params = {"expires": expires, "signature": artifacts._sign(path, expires)}
        assert 403 == (await stand.http.get(url, params=params)).status_code


async def test_what_is_not_there_is_not_found(stand: Any, asked: Asked) -> None:
    """A well-signed URL to an unknown bot, to a file that is not ready, or that is not this bot's, is 404."""
    provider = stand.open()
    bot = await provider.create(asked())
    failed = await provider.create(asked(bot="bot-2", script="recording_failed"))
    expires_s = stand.clock.now_ms() // 1_000 + 600

    async def status(provider_id: str, file: str) -> int:
        url = provider._artifacts.url(provider_id, file, expires_s=expires_s)
        answer: int = (await stand.http.get(url)).status_code
        return answer

    assert 404 == await status(bot, "recording.mp4")
    stand.clock.advance(seconds=67)
    assert 200 == await status(bot, "recording.mp4")
    assert [404] * 4 == [
        await status(bot, "recording.mp3"),
        await status(bot, "secret"),
        await status("nobody", "recording.mp4"),
        await status(failed, "transcript.json"),
    ]


async def test_a_transcript_is_as_long_as_its_recording_and_the_same_after_a_restart(stand: Any, asked: Asked) -> None:
    """Cut at 10 s by a wish to leave, its words end within those 10 s; the next process serves the same bytes."""
    provider = stand.open()
    bot = await provider.create(asked())
    stand.clock.advance(seconds=23)
    await provider.leave(bot)
    stand.clock.advance(seconds=20)
    (fact,) = (await provider.read(bot)).recordings
    assert fact.transcript is not None
    first = await stand.http.get(fact.transcript.url)
    again = await stand.open().read(bot)

    ends = [word["end_timestamp"]["relative"] for said in first.json() for word in said["words"]]
    assert 5 < max(ends) <= 10
    assert rfc3339(fact.started_ms) <= first.json()[0]["words"][0]["start_timestamp"]["absolute"]
    assert first.content == (await stand.http.get(again.recordings[0].transcript.url)).content


@pytest.mark.parametrize("duration_s", [0, 1, 10, 44, 300, 10_800])
def test_a_transcript_has_recalls_form(duration_s: int) -> None:
    """Utterances in order; words with relative seconds and absolute times, none after the end."""
    started_ms = 1_780_000_000_000
    said = transcript(seed=0, bot="bot-1", started_ms=started_ms, duration_ms=duration_s * 1_000)
    clock_s = 0.0

    for utterance in said:
        assert {"participant", "words"} == set(utterance)
        assert {"id", "name", "is_host", "platform", "extra_data", "email"} == set(utterance["participant"])
        for word in utterance["words"]:
            assert {"text", "start_timestamp", "end_timestamp"} == set(word)
            start, end = word["start_timestamp"], word["end_timestamp"]
            assert clock_s <= start["relative"] < end["relative"] <= duration_s
            assert rfc3339(started_ms + round(start["relative"] * 1_000)) == start["absolute"]
            clock_s = end["relative"]
    if duration_s >= 44:
        people = {utterance["participant"]["id"]: utterance["participant"] for utterance in said}
        assert len(people) in (2, 3)
        assert 1 == sum(person["is_host"] for person in people.values())
        assert clock_s > duration_s - 3
        assert "Bye." == said[-1]["words"][-1]["text"]
    json.dumps(said, allow_nan=False)


def test_a_transcript_depends_on_seed_and_bot_alone() -> None:
    """The same gives the same, another bot talks otherwise."""

    def talk(seed: int, bot: str) -> str:
        return json.dumps(transcript(seed=seed, bot=bot, started_ms=0, duration_ms=60_000))

    assert talk(0, "a") == talk(0, "a")
    assert 3 == len({talk(0, "a"), talk(0, "b"), talk(1, "a")})


def boxes(data: bytes) -> dict[str, bytes]:
    """The boxes of an MP4 by type; the sizes must add up to the whole."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8].decode("ascii")
        assert 8 <= size <= len(data) - at
        found[kind] = found.get(kind, b"") + data[at + 8 : at + size]
        at += size
    return found


def test_the_video_is_an_mp4_of_44_seconds_with_picture_and_sound() -> None:
    """Its boxes parse to the last byte: brand, 44 s, an H.264 and an AAC track, and the media they point at."""
    top = boxes((ASSETS / "recording.mp4").read_bytes())
    movie = boxes(top["moov"])
    header = movie["mvhd"]
    scale, duration = int.from_bytes(header[12:16]), int.from_bytes(header[16:20])

    assert b"isom" == top["ftyp"][:4]
    assert 44 == duration / scale
    assert b"vide" in movie["trak"]
    assert b"soun" in movie["trak"]
    assert b"avc1" in movie["trak"]
    assert b"mp4a" in movie["trak"]
    assert 10_000 < len(top["mdat"])


def test_the_audio_is_an_mp3_of_44_seconds() -> None:
    """MPEG 2.5 layer III at 8 kbit/s and 8 kHz: frames of 72 bytes and 72 ms, one after the other to the end."""
    data = (ASSETS / "recording.mp3").read_bytes()
    frames = [data[at : at + 72] for at in range(0, len(data), 72)]

    assert {b"\xff\xe3\x18"} == {frame[:3] for frame in frames}
    assert 72 == len(frames[-1])
    assert 44 == pytest.approx(len(frames) * 0.072, abs=0.3)


@pytest.mark.parametrize("name", ["recording.mp4", "recording.mp3"])
def test_the_media_are_small(name: str) -> None:
    """They are part of the source tree."""
    assert Path(ASSETS / name).stat().st_size <= 60_000
