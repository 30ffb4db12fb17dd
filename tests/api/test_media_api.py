"""Deleting what a bot recorded, over HTTP and from a handler's ctx."""

import pytest
from tests.api.scripted import Offering, ScriptedProvider, life
from tests.api.stand import OpenStand, Stand, refusal

from ctxhost.errors import BotNotFound, ProviderError
from ctxhost.meetings.commands import BotNotEnded


async def finished(stand: Stand) -> str:
    """A bot whose call is over and settled."""
    bot = str((await stand.start())["id"])
    stand.provider.records["p1"] = life(stand.clock.now_ms() + 1_000)
    await stand.work(seconds=90)
    assert "done" == (await stand.get(bot))["status"]
    return bot


async def test_media_are_deleted(stand: Stand) -> None:
    """204, again too; the links are gone at once, the transcript answers 410, and the history says when it was done."""
    bot = await finished(stand)
    before = await stand.get(bot)
    assert before["recordingUrl"]
    answers = [await stand.call("DELETE", f"{stand.bots}/{bot}/media") for _ in range(2)]
    assert [(204, b""), (204, b"")] == [(answer.status_code, answer.content) for answer in answers]
    assert {**before, "recordingUrl": None, "transcriptUrl": None} == await stand.get(bot)
    assert (410, "media_deleted") == refusal(await stand.call("GET", f"{stand.bots}/{bot}/transcript"))
    await stand.work(seconds=2)

    assert ["p1"] == stand.provider.deleted
    told = (await stand.call("GET", f"{stand.bots}/{bot}/events")).json()["events"]
    assert ("media.deleted", None) == (told[-1]["event"], told[-1]["subCode"])
    assert 2 == len((await stand.call("GET", f"{stand.bots}/usage")).json()["rows"])


async def test_a_provider_that_is_down_is_not_the_callers_matter(stand: Stand) -> None:
    """The wish is taken with 204 and carried out later, as a wish to leave is."""
    bot = await finished(stand)
    stand.provider.delete_error = ProviderError("down")
    assert 204 == (await stand.call("DELETE", f"{stand.bots}/{bot}/media")).status_code
    await stand.work(seconds=2)
    stand.provider.delete_error = None
    await stand.work(seconds=30)

    assert ["p1"] == stand.provider.deleted


async def test_before_the_end_it_is_refused(stand: Stand) -> None:
    """409 with a code of its own while the bot may still record."""
    bot = (await stand.start())["id"]

    assert (409, "bot_not_ended") == refusal(await stand.call("DELETE", f"{stand.bots}/{bot}/media"))


async def test_a_bot_of_another_app_is_not_there(stand: Stand) -> None:
    """A sister app's, a malformed id and an unknown one are the same 404."""
    bot = await finished(stand)
    paths = [f"/v1/{stand.sister.id}/ai/meetings/{bot}", f"{stand.bots}/nonsense", f"{stand.bots}/{'0' * 36}"]
    for path in paths:
        assert (404, "bot_not_found") == refusal(await stand.call("DELETE", f"{path}/media"))

    assert (await stand.get(bot))["recordingUrl"]


async def test_a_provider_that_cannot_delete(open_stand: OpenStand) -> None:
    """It is said, not taken as a wish that can never be granted."""
    stand = await open_stand(offered=[Offering(ScriptedProvider())])
    bot = (await stand.start())["id"]

    assert (501, "provider_unavailable") == refusal(await stand.call("DELETE", f"{stand.bots}/{bot}/media"))


async def test_without_a_provider(bare: Stand) -> None:
    """501 in open-source mode, as for every other call about bots."""
    assert (501, "provider_unavailable") == refusal(await bare.call("DELETE", f"{bare.bots}/{'0' * 36}/media"))


async def test_a_handler_deletes_too(stand: Stand) -> None:
    """`ctx.ai.meetings.delete_media` does the same, with the same refusals."""
    ctx = await stand.host.context(stand.app.id)
    bot = (await stand.start())["id"]
    with pytest.raises(BotNotEnded):
        await ctx.ai.meetings.delete_media(bot)
    with pytest.raises(BotNotFound):
        await ctx.ai.meetings.delete_media("nonsense")
    stand.provider.records["p1"] = life(stand.clock.now_ms() + 1_000)
    await stand.work(seconds=90)
    await ctx.ai.meetings.delete_media(bot)
    await stand.work(seconds=2)

    assert ["p1"] == stand.provider.deleted
    assert (await ctx.ai.meetings.get(bot)).transcript_url is None
