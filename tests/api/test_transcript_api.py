"""A bot's transcript over HTTP, from a provider's real pages and from ones that misbehave."""

import json
from collections.abc import Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.api.scripted import life
from tests.api.stand import BASE_URL, OpenStand, Stand, refusal

import ctxhost_fake
from ctxhost.api import meetings
from ctxhost.errors import ProviderError

TALK = json.dumps(
    [
        {
            "participant": {"name": "Dana"},
            "words": [{"text": "Hi.", "start_timestamp": {"relative": 1}, "end_timestamp": {"relative": 2}}],
        }
    ]
).encode()
Finished = Callable[[bytes | int], Awaitable[str]]


@pytest.fixture
def finished(stand: Stand) -> Finished:
    """Ends a call whose transcript is these bytes, or whose link answers this status; gives the transcript's path."""

    async def end(page: bytes | int) -> str:
        async def serve(_: Request) -> Response:
            return Response(page) if isinstance(page, bytes) else Response(status_code=page)

        stand.provider.mount = Starlette(routes=[Route("/transcript.json", serve)])
        bot = (await stand.start())["id"]
        now_ms = stand.clock.now_ms()
        stand.provider.records["p1"] = life(now_ms + 1_000, url=f"{BASE_URL}/plugins/scripted")
        stand.clock.advance(seconds=100)
        await stand.host.jobs.run_due()
        return f"{stand.bots}/{bot}/transcript"

    return end


@pytest.mark.parametrize(
    ("query", "media_type", "expected"),
    [
        ("", "application/json", TALK),
        ("?format=json", "application/json", TALK),
        ("?format=text", "text/plain; charset=utf-8", b"Dana: Hi.\n"),
        ("?format=vtt", "text/vtt; charset=utf-8", b"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Dana>Hi.</v>\n"),
        ("?format=srt", "application/x-subrip", b"1\n00:00:01,000 --> 00:00:02,000\nDana: Hi.\n"),
    ],
)
async def test_a_transcript_comes_in_four_forms(
    stand: Stand, finished: Finished, query: str, media_type: str, expected: bytes
) -> None:
    """JSON is the provider's own bytes; the others are written from it."""
    response = await stand.call("GET", await finished(TALK) + query)

    assert (200, media_type, expected) == (response.status_code, response.headers["content-type"], response.content)


@pytest.mark.parametrize("page", [b"{}", b"<html>", 403, 302, 500])
async def test_a_link_that_gives_no_transcript_is_the_providers_fault(
    stand: Stand, finished: Finished, page: bytes | int
) -> None:
    """502, never an upstream status as ours."""
    assert (502, "provider_error") == refusal(await stand.call("GET", await finished(page)))


async def test_a_transcript_has_a_size(stand: Stand, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a link gives, the host keeps no more than its limit."""
    monkeypatch.setattr(meetings, "MAX_TRANSCRIPT_BYTES", len(TALK) - 1)

    assert (502, "provider_error") == refusal(await stand.call("GET", await finished(TALK)))


async def test_before_it_is_there_it_is_not_ready(stand: Stand) -> None:
    """While the call runs, and for ever when no transcript was asked for."""
    bot = (await stand.start(transcript=False))["id"]

    assert (404, "transcript_not_ready") == refusal(await stand.call("GET", f"{stand.bots}/{bot}/transcript"))


async def test_a_provider_that_cannot_be_asked_is_not_a_missing_transcript(stand: Stand, finished: Finished) -> None:
    """When the link has expired and no fresh one can be had, that is said."""
    path = await finished(TALK)
    stand.clock.advance(seconds=86_400)
    stand.provider.read_error = ProviderError("down")

    assert (502, "provider_error") == refusal(await stand.call("GET", path))


async def test_the_fakes_transcript_downloads_and_converts(open_stand: OpenStand) -> None:
    """A whole life with the provider that is installed for practice: every form tells of the same speakers."""
    stand = await open_stand(offered=[ctxhost_fake], plugins={"fake": {"enabled": True}})
    bot = (await stand.start())["id"]
    fake = stand.host.providers["fake"]
    while (due_ms := fake.next_event_ms()) is not None:  # type: ignore[attr-defined]
        stand.clock.set(max(due_ms, stand.clock.now_ms()))
        await fake.deliver_due()  # type: ignore[attr-defined]
        await stand.host.jobs.run_due()
    path = f"{stand.bots}/{bot}/transcript"
    talk = (await stand.call("GET", path)).json()
    speakers = {part["participant"]["name"] for part in talk}
    text, vtt = [(await stand.call("GET", f"{path}?format={form}")).text for form in ("text", "vtt")]

    assert speakers == {line.partition(":")[0] for line in text.splitlines()}
    assert all(f"<v {speaker}>" in vtt for speaker in speakers)
    assert talk == (await stand.client.get((await stand.get(bot))["transcriptUrl"])).json()
