"""Reading, finding, leaving, and the transcripts, against the emulator over real HTTP."""

import base64
import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from ctxhost.errors import ProviderBusy, ProviderError, ProviderTimeout, Refusal
from ctxhost.meetings.provider import BotRecord, BotRequest, End, Phase, UnknownBot
from ctxhost_recall.emulator import STORIES, cut, garbage, overloaded, refused, silent, throttled

Ask = Callable[..., BotRequest]

HAPPY_S = 20 + 10 + 6 + 44
"""From joining to the end of a happy bot's call."""


async def make(stand: Any, asked: Ask, **facts: Any) -> tuple[Any, str]:
    provider = stand.open()
    return provider, await provider.create(asked(**facts))


def ends(record: BotRecord) -> list[tuple[End | None, str]]:
    return [(step.end, step.reason) for step in record.steps if step.phase is Phase.ENDED]


async def test_a_whole_life(stand: Any, asked: Ask) -> None:
    """Read at its end: every step, the recording with its link, the transcript asked for, found and delivered."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    first = await provider.read(bot)
    stand.clock.advance(seconds=61)
    last = await provider.read(bot)

    assert [(End.OVER, "timeout_exceeded_everyone_left")] == ends(first) == ends(last)
    (recording,) = last.recordings
    assert 44_000 == recording.completed_ms - recording.started_ms
    assert ("done", "done") == (recording.media.state, recording.transcript.state)
    assert "processing" == first.recordings[0].transcript.state
    assert HAPPY_S + 5 == last.cost_seconds
    for url in (recording.media.url, recording.transcript.url):
        assert 200 == (await stand.http.get(url)).status_code


async def test_a_link_is_fresh_for_as_long_as_it_says(stand: Any, asked: Ask) -> None:
    """Until `urls_expire_ms` it downloads; Recall's own end comes later."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    record = await provider.read(bot)
    stand.clock.set(record.urls_expire_ms)
    in_time = await stand.http.get(record.recordings[0].media.url)
    stand.clock.advance(seconds=600)
    too_late = await stand.http.get(record.recordings[0].media.url)

    assert (200, 403) == (in_time.status_code, too_late.status_code)
    assert 200 == (await stand.http.get((await provider.read(bot)).recordings[0].media.url)).status_code


async def test_done_without_a_link_is_not_done(stand: Any, asked: Ask) -> None:
    """Nobody is told of an artifact that cannot be downloaded yet."""
    provider, bot = await make(stand, asked, transcript=False)
    stand.clock.advance(seconds=HAPPY_S + 4)
    stand.emulator.shapes.links_are_late = True
    early = await provider.read(bot)
    stand.emulator.shapes.links_are_late = False

    assert ("processing", 0) == (early.recordings[0].media.state, early.urls_expire_ms)
    assert "done" == (await provider.read(bot)).recordings[0].media.state


async def test_a_transcript_is_asked_for_once(stand: Any, asked: Ask) -> None:
    """However often and by however many it is read: one wish, under the recording's id."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    async with anyio.create_task_group() as tasks:
        for reader in (provider, provider, stand.open(), stand.open()):
            tasks.start_soon(reader.read, bot)
    await stand.open().read(bot)

    assert 1 == len(stand.emulator.world.ordered)
    recording = stand.emulator.world.ordered[0].capture.id
    assert {recording} == {seen.headers["idempotency-key"] for seen in stand.emulator.calls("order")}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(overloaded(502, takes_effect=True), id="502-after"),
        pytest.param(overloaded(503), id="503-before"),
        pytest.param(cut(takes_effect=True), id="cut-after"),
        pytest.param(throttled(3_000), id="429"),
        pytest.param(refused(409, "conflict"), id="409"),
        pytest.param(refused(401, "authentication_failed"), id="401"),
        pytest.param(garbage(b"<html>", takes_effect=True), id="html"),
    ],
)
async def test_a_transcript_whose_wish_goes_wrong(stand: Any, asked: Ask, fault: Any) -> None:
    """The bot's other facts do not wait for it; it is asked for again until it is known to exist, and never twice."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    stand.emulator.fail("order", fault)

    record = await provider.read(bot)
    assert ("done", "processing") == (record.recordings[0].media.state, record.recordings[0].transcript.state)
    stand.clock.advance(seconds=3_700)
    await provider.read(bot)
    stand.clock.advance(seconds=61)
    assert "done" == (await provider.read(bot)).recordings[0].transcript.state
    assert 1 == len(stand.emulator.world.ordered)


async def test_a_transcript_that_is_refused_for_good(stand: Any, asked: Ask) -> None:
    """It has failed, with Recall's word for it; nobody asks again."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    stand.emulator.fail("order", refused(400, "audio_is_empty"))

    for _ in range(2):
        transcript = (await provider.read(bot)).recordings[0].transcript
        assert ("failed", "audio_is_empty") == (transcript.state, transcript.reason)
    assert 1 == len(stand.emulator.calls("order"))


async def test_a_transcript_that_fails(stand: Any, asked: Ask) -> None:
    """Its recording is delivered all the same."""
    stand.emulator.tell(STORIES["transcript_failed"])
    provider, bot = await make(stand, asked)
    for wait_s in (HAPPY_S + 4, 61):
        stand.clock.advance(seconds=wait_s)
        record = await provider.read(bot)

    assert ("done", "failed") == (record.recordings[0].media.state, record.recordings[0].transcript.state)
    assert "internal_error" == record.recordings[0].transcript.reason


async def test_two_recordings(stand: Any, asked: Ask) -> None:
    """Each has its own times, its own file and its own transcript."""
    stand.emulator.tell(STORIES["two_recordings"])
    provider, bot = await make(stand, asked)
    for wait_s in (200, 61):
        stand.clock.advance(seconds=wait_s)
        record = await provider.read(bot)

    assert [44_000, 30_000] == [r.completed_ms - r.started_ms for r in record.recordings]
    assert 4 == len({a.id for r in record.recordings for a in (r.media, r.transcript) if a.state == "done"})
    assert 2 == len(stand.emulator.world.ordered)


async def test_recording_off(stand: Any, asked: Ask) -> None:
    """No recording, and the transcript that is made while the bot listens."""
    provider, bot = await make(stand, asked, recording="off")
    stand.clock.advance(seconds=HAPPY_S + 10)
    record = await provider.read(bot)

    assert (0, "done") == (len(record.recordings), record.transcript.state)
    assert Phase.RECORDING not in [step.phase for step in record.steps]
    assert not stand.emulator.calls("order")


async def test_recording_off_and_no_transcript(stand: Any, asked: Ask) -> None:
    """It only sits in the call, for as long as the others do, and is not sent out for not recording."""
    stand.emulator.tell(STORIES["three_hours"])
    provider, bot = await make(stand, asked, recording="off", transcript=False)
    stand.clock.advance(seconds=11_000)
    record = await provider.read(bot)

    assert [(End.OVER, "timeout_exceeded_everyone_left")] == ends(record)
    assert (0, None) == (len(record.recordings), record.transcript)


@pytest.mark.parametrize("lists_audio", [True, False])
async def test_sound_alone(stand: Any, asked: Ask, lists_audio: bool) -> None:
    """The MP3 is found among the shortcuts, or where older versions keep it."""
    stand.emulator.shapes.lists_audio = lists_audio
    provider, bot = await make(stand, asked, recording="audio_only", transcript=False)
    stand.clock.advance(seconds=HAPPY_S + 4)
    record = await provider.read(bot)

    media = record.recordings[0].media
    assert "done" == media.state
    assert (await stand.http.get(media.url)).content.startswith(b"ID3")


async def test_a_streaming_provider_by_setting(stand: Any, asked: Ask) -> None:
    """It is configured at the bot's making, and nothing is asked for afterwards."""
    provider = stand.open(transcription="deepgram_streaming")
    bot = await provider.create(asked())
    stand.clock.advance(seconds=HAPPY_S + 10)

    assert "done" == (await provider.read(bot)).recordings[0].transcript.state
    assert not stand.emulator.calls("order")
    assert {"deepgram_streaming": {}} == stand.emulator.calls("create")[0].body["recording_config"]["transcript"][
        "provider"
    ]


@pytest.mark.parametrize(
    ("story", "end", "reason"),
    [
        ("never_admitted", End.NOT_ADMITTED, "timeout_exceeded_waiting_room"),
        ("denied", End.NOT_ADMITTED, "bot_kicked_from_waiting_room"),
        ("kicked", End.KICKED, "bot_kicked_from_call"),
        ("fatal", End.FAILED, "google_meet_knocking_disabled"),
        ("broken", End.FAILED, "bot_errored"),
        ("nobody_came", End.ALONE, "timeout_exceeded_noone_joined"),
        ("not_permitted", End.OVER, "timeout_exceeded_recording_permission_denied"),
        ("host_ended", End.OVER, "call_ended_by_host"),
    ],
)
async def test_how_calls_end(stand: Any, asked: Ask, story: str, end: End, reason: str) -> None:
    """The reason on call_ended is the end's, also when `done` has come since."""
    stand.emulator.tell(STORIES[story])
    provider, bot = await make(stand, asked, transcript=False)
    stand.clock.advance(seconds=4_000)

    assert [(end, reason)] == ends(await provider.read(bot))


async def test_leaving_a_call(stand: Any, asked: Ask) -> None:
    """It leaves at once, by our wish; a second wish, and one for a bot that is gone, is quiet."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=50)
    await provider.leave(bot)
    await provider.leave(bot)

    assert [(End.LEFT, "bot_received_leave_call")] == ends(await provider.read(bot))
    stand.clock.advance(seconds=60)
    await provider.leave(bot)


async def test_leaving_while_it_waits(stand: Any, asked: Ask) -> None:
    """A bot in the waiting room goes."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=25)
    await provider.leave(bot)

    assert [(End.LEFT, "bot_received_leave_call")] == ends(await provider.read(bot))


async def test_calling_off_a_scheduled_bot(stand: Any, asked: Ask) -> None:
    """It is deleted at Recall and never comes; the host is told that it has left, though Recall knows it no more."""
    provider, bot = await make(stand, asked, join_at_ms=stand.clock.now_ms() + 3_600_000)
    assert BotRecord(steps=[], recordings=[]) == await provider.read(bot)
    await provider.leave(bot)
    await provider.leave(bot)

    assert not stand.emulator.bots
    assert [(End.LEFT, "cancelled_before_joining")] == ends(await provider.read(bot))
    with pytest.raises(UnknownBot):
        await stand.open().read(bot)


@pytest.mark.parametrize("status", [400, 405, 409])
async def test_a_deletion_that_comes_too_late(stand: Any, asked: Ask, status: int) -> None:
    """Between scheduled and dispatched Recall may refuse both; the host asks again."""
    provider, bot = await make(stand, asked, join_at_ms=stand.clock.now_ms() + 3_600_000)
    stand.emulator.fail("delete", refused(status, "cannot_delete_bot"))
    await provider.leave(bot)

    assert [] == ends(await provider.read(bot))
    await provider.leave(bot)
    assert not stand.emulator.bots


async def test_a_bot_that_recall_does_not_know(stand: Any) -> None:
    """Said as such, for every call about one; an id that could be none of Recall's is not even sent."""
    provider = stand.open()
    for call in (provider.read, provider.leave, provider.delete_media):
        for bot in ("7c1e0a52-4b0f-4c3e-9f0a-2d6a51b8e001", "../recording", "a/b", "", "\ud800"):
            with pytest.raises(UnknownBot):
                await call(bot)
    assert 3 == len(stand.emulator.seen)


async def test_a_wrong_address_is_not_a_lost_bot(stand: Any) -> None:
    """A 404 page says that this is not Recall: the host must not take its bots for lost."""
    stand.emulator.fail("read", garbage(b"<h1>Not Found</h1>", status=404))

    with pytest.raises(ProviderError):
        await stand.open().read("7c1e0a52-4b0f-4c3e-9f0a-2d6a51b8e001")


async def test_deleting_media(stand: Any, asked: Ask) -> None:
    """The files are gone, and the record says so."""
    provider, bot = await make(stand, asked, transcript=False)
    stand.clock.advance(seconds=HAPPY_S + 4)
    before = (await provider.read(bot)).recordings[0].media
    await provider.delete_media(bot)
    after = (await provider.read(bot)).recordings[0].media

    assert ("done", "failed", "deleted") == (before.state, after.state, after.reason)
    assert 403 == (await stand.http.get(before.url)).status_code


async def test_deleted_media_are_not_made_again(stand: Any, asked: Ask) -> None:
    """A reading afterwards finds no transcript, and asks for none."""
    provider, bot = await make(stand, asked)
    stand.clock.advance(seconds=HAPPY_S + 4)
    await provider.read(bot)
    stand.clock.advance(seconds=60)
    before = (await provider.read(bot)).recordings[0]
    assert before.transcript is not None
    assert "done" == before.transcript.state
    await provider.delete_media(bot)
    after = await provider.read(bot)

    assert [] == [a.url for r in after.recordings for a in (r.media, r.transcript) if a is not None and a.url]
    assert 1 == len(stand.emulator.world.ordered)


@pytest.mark.parametrize("status", [200, 204, 404])
async def test_a_deletion_is_believed_to_recall_alone(stand: Any, status: int) -> None:
    """A page of another server in its place leaves the wish open; nothing as an answer is the answer of a deletion."""
    answer = httpx.Response(status, content=b"<h1>Hello</h1>" if status != 204 else b"")
    provider = stand.answering(answer)
    bot = "7c1e0a52-4b0f-4c3e-9f0a-2d6a51b8e001"
    if status == 204:
        await provider.delete_media(bot)
        return
    with pytest.raises(ProviderError):
        await provider.delete_media(bot)


async def test_media_go_when_the_retention_is_over(stand: Any, asked: Ask) -> None:
    """168 hours by default, and the record has no link from then on."""
    provider, bot = await make(stand, asked, transcript=False)
    stand.clock.advance(seconds=HAPPY_S + 4 + 168 * 3_600)
    record = await provider.read(bot)

    assert ("failed", "", 0) == (
        record.recordings[0].media.state,
        record.recordings[0].media.url,
        record.urls_expire_ms,
    )


async def test_finding_our_bots(stand: Any, asked: Ask) -> None:
    """By our id in the metadata, over all pages, and none of anybody else's."""
    stand.emulator.api.page_size = 2
    provider = stand.open()
    mine = [await provider.create(asked(attempt=n)) for n in range(5)]
    await provider.create(asked(bot="another-bot"))

    assert sorted(mine) == sorted(await provider.find(asked().bot))
    assert [] == await provider.find("nobody")
    assert ["1", "2", "3"] == [seen.query.get("page", "1") for seen in stand.emulator.calls("list")][:3]


async def test_a_filter_that_is_not_obeyed(stand: Any, asked: Ask) -> None:
    """A list of everybody's bots is not taken for ours."""
    page = {
        "next": None,
        "results": [{"id": "b-1", "metadata": {"bb_bot_id": "another"}}, {"id": "b-2", "metadata": None}],
    }

    assert [] == await stand.answering(httpx.Response(200, json=page)).find("ours")


async def test_the_next_page_is_asked_of_the_same_address(stand: Any) -> None:
    """A link to somewhere else does not carry the key there."""
    page: dict[str, Any] = {"next": "https://evil.test/api/v1/bot/?page=2", "results": []}
    asked: list[httpx.URL] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        body = page if len(asked) == 1 else {**page, "next": None}
        return httpx.Response(200, stream=httpx.Response(200, json=body).stream)

    provider = stand.open(http=httpx.AsyncClient(transport=httpx.MockTransport(handle)))
    assert [] == await provider.find("ours")
    assert ["127.0.0.1", "127.0.0.1"] == [url.host for url in asked]
    assert "2" == asked[1].params["page"]


async def test_a_list_without_end(stand: Any) -> None:
    """It is given up."""
    pages = [httpx.Response(200, json={"next": "?page=2", "results": []}) for _ in range(20)]

    with pytest.raises(ProviderError):
        await stand.answering(*pages).find("ours")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(overloaded(503), ProviderError, id="503"),
        pytest.param(throttled(60), ProviderBusy, id="429"),
        pytest.param(refused(401, "authentication_failed"), ProviderError, id="401"),
        pytest.param(cut(), ProviderTimeout, id="cut"),
        pytest.param(garbage(b"<html>"), ProviderError, id="html"),
        pytest.param(garbage(b"null"), ProviderError, id="null"),
        pytest.param(garbage(b'{"id": "another", "status_changes": []}'), ProviderError, id="another-bot"),
        pytest.param(garbage(b"", status=418), ProviderError, id="418"),
        pytest.param(garbage(b"x", content_encoding="gzip"), ProviderError, id="gzip"),
    ],
)
async def test_reading_goes_wrong(stand: Any, asked: Ask, fault: Any, error: type[Exception]) -> None:
    """Each failure is one of the host's errors, within the time that there is."""
    provider, bot = await make(stand, asked)
    stand.emulator.fail("read", fault, times=None)

    with pytest.raises(error):
        await provider.read(bot)
    assert stand.clock.waited_ms <= 8_000


async def test_reading_is_repeated_while_there_is_time(stand: Any, asked: Ask) -> None:
    """A moment's trouble is not the host's."""
    provider, bot = await make(stand, asked)
    for fault in (overloaded(502), cut(), throttled(2)):
        stand.emulator.fail("read", fault)

    assert 1 == len((await provider.read(bot)).steps)


async def test_silence_is_a_timeout(stand: Any, asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading does not hang."""
    provider, bot = await make(stand, asked)
    monkeypatch.setattr("ctxhost_recall.client.ATTEMPT_TIMEOUT_S", 0.1)
    monkeypatch.setattr("ctxhost_recall.provider.CALL_DEADLINE_S", 0.2)
    stand.emulator.fail("read", silent(), times=None)

    with pytest.raises(ProviderTimeout):
        await provider.read(bot)


async def test_no_get_has_a_body(stand: Any, asked: Ask) -> None:
    """Recall blocks one that has."""
    provider, bot = await make(stand, asked)
    await provider.read(bot)
    await provider.find("ours")

    assert {200} == {seen.status for operation in ("read", "list") for seen in stand.emulator.calls(operation)}


async def test_secrets_stay_secret(stand: Any, asked: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """No log line and no error names the key or a webhook secret, whatever goes wrong."""
    secret = "whsec_" + base64.b64encode(b"canary" * 6).decode()
    said = []
    with caplog.at_level(logging.DEBUG):
        for fault in (refused(401, "x"), garbage(b"junk", status=400), overloaded(), cut(), garbage(b"{}")):
            stand.emulator.fail("create", fault, times=None)
            stand.emulator.fail("read", fault, times=None)
            provider = stand.open(webhook_secret=secret)
            for call in (provider.create(asked()), provider.read("b-1")):
                with pytest.raises(Refusal) as error:
                    await call
                said.append(repr(error.value))

    told = caplog.text + "".join(said) + repr(vars(provider))
    assert secret not in told
    assert f"Token {stand.emulator.api_key}" not in told
