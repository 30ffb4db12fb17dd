"""Recorded calls are other people's: what is to be deleted goes, everywhere, and takes no money with it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import httpx
import pytest
from tests.simulation.conftest import World
from tests.simulation.scripted import SIGNED, admitted, artifact, ended, event, recording

from ctxhost.errors import BotNotFound, ProviderError
from ctxhost.meetings.commands import BotNotEnded, NoteUrls
from ctxhost.meetings.media import BOOKS_AGAIN_MS
from ctxhost.meetings.model import MeetingBot
from ctxhost.meetings.provider import BotRecord, UnknownBot
from ctxhost.meetings.requests import parse_list
from ctxhost.store import Key, Query, View, queries
from ctxhost.store.rows import TABLES, Bot, History, InboundEvent

LINK = "https://media.example"
AMOUNTS = {"recording": (44, 7_333_333), "transcription": (44, 2_200_000)}


async def delete(world: World, bot: str) -> None:
    await world.sim.host.meetings.delete_media(world.tenant.app.id, bot)


async def shown(world: World, bot: str) -> MeetingBot:
    return await world.sim.get(world.tenant, bot)


async def told(world: World, bot: str) -> list[str]:
    """What the bot's history says."""
    return [step.code for step in await world.sim.host.meetings.history(world.tenant.app.id, bot)]


async def row(world: World, bot: str) -> Bot:
    found = await world.sim.host.store.read(queries.by_id(Bot, bot))
    assert found is not None
    return found


async def everything_kept(world: World) -> str:
    """Every row of every table."""
    names = [table.name for table in TABLES]
    return "\n".join([str(await world.sim.host.store.read(Query(f"select * from {name}", list))) for name in names])


def life(now_ms: int, *, state: str = "done") -> BotRecord:
    """A call of 44 s that is over."""
    started_ms, stopped_ms = now_ms - 50_000, now_ms - 6_000
    media, speech = (artifact(name, state, updated_ms=now_ms) for name in ("media", "speech"))  # type: ignore[arg-type]
    return BotRecord(
        steps=[*admitted(started_ms), *ended(stopped_ms, finished=state == "done")],
        recordings=[recording(started_ms, stopped_ms, media, speech)],
        urls_expire_ms=now_ms + 3_600_000,
    )


async def scripted_bot(world: World, *, state: str = "done") -> tuple[str, str]:
    """A scripted bot whose call is over: its id, and the provider's. Its webhook told of a link."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    provider_id = f"p{len(world.scripted.records)}.{bot.id}"
    world.sim.clock.advance(seconds=60)
    world.scripted.records[provider_id] = life(world.sim.clock.now_ms(), state=state)
    await world.sim.host.inbound.receive("scripted", SIGNED, event("e1", provider_id=provider_id, bot=f"{LINK}/words"))
    await world.sim.do_due()
    return bot.id, provider_id


async def charged(world: World, bot: str) -> dict[str, tuple[int, int]]:
    return {line: amount for (lease, line), amount in (await world.charged()).items() if lease == bot}


async def test_nothing_of_ours_leads_to_it_any_more(world: World) -> None:
    """No row of any table has a link left, and the provider has nothing; bot, history and charges stay as they were."""
    bot, provider_id = await scripted_bot(world)
    before = await shown(world, bot)
    assert before.recording_url
    assert before.transcript_url
    assert LINK in await everything_kept(world)
    await delete(world, bot)
    assert (None, None) == ((await shown(world, bot)).recording_url, (await shown(world, bot)).transcript_url)
    await world.sim.run()
    after = await shown(world, bot)

    assert [provider_id] == world.scripted.deleted
    assert LINK not in await everything_kept(world)
    assert (before.status, before.duration_seconds, before.completed_at) == (
        after.status,
        after.duration_seconds,
        after.completed_at,
    )
    assert "media.deleted" == (await told(world, bot))[-1]
    assert AMOUNTS == await charged(world, bot)
    await world.check_quiet()


async def test_the_fakes_files_are_gone(world: World) -> None:
    """With the provider for practice: what could be downloaded before cannot be afterwards, also after a restart."""
    bot = await world.sim.start(world.tenant, provider="fake")
    await world.sim.run()
    done = await shown(world, bot.id)
    links = [done.recording_url or "", done.transcript_url or ""]

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(world.sim.host.asgi)
        async with httpx.AsyncClient(transport=transport) as http:
            return [(await http.get(link)).status_code for link in links]

    assert [200, 200] == await statuses()
    await delete(world, bot.id)
    await world.sim.run()
    assert [404, 404] == await statuses()
    await world.sim.restart()
    assert [404, 404] == await statuses()
    assert "media.deleted" == (await told(world, bot.id))[-1]
    await world.check_quiet()


@pytest.mark.parametrize("when", ["joining", "recording"])
async def test_what_may_still_be_recorded_cannot_be_deleted(world: World, when: str) -> None:
    """A bot that has not left is refused with its own code, and nothing is stored."""
    bot = await world.sim.start(world.tenant, provider="scripted")
    if when == "recording":
        provider_id, now_ms = f"p1.{bot.id}", world.sim.clock.now_ms()
        world.scripted.records[provider_id] = BotRecord(steps=admitted(now_ms))
        await world.sim.run(for_s=60)
    with pytest.raises(BotNotEnded) as refusal:
        await delete(world, bot.id)

    assert (409, "bot_not_ended") == (refusal.value.status, refusal.value.code)
    assert when in refusal.value.message
    assert 0 == (await row(world, bot.id)).media_unwanted_ms


async def test_what_is_not_billed_yet_is_billed_first(world: World) -> None:
    """Deleted right after the call, it costs what it would have cost; no link is ever shown."""
    bot, provider_id = await scripted_bot(world, state="processing")
    assert "ended" == (await shown(world, bot)).status
    await delete(world, bot)
    await world.sim.run(for_s=3 * BOOKS_AGAIN_MS // 1_000)
    assert [] == world.scripted.deleted
    assert "ended" == (await shown(world, bot)).status

    now_ms = world.sim.clock.now_ms()
    ready = life(now_ms)
    steps = [*world.scripted.records[provider_id].steps, ready.steps[-1]]
    started_ms = steps[0].at_ms
    facts = recording(started_ms, started_ms + 44_000, ready.recordings[0].media, ready.recordings[0].transcript)
    world.scripted.records[provider_id] = BotRecord(
        steps=steps, recordings=[facts], urls_expire_ms=ready.urls_expire_ms
    )
    await world.sim.run()
    done = await shown(world, bot)

    assert ("done", None, None) == (done.status, done.recording_url, done.transcript_url)
    assert [provider_id] == world.scripted.deleted
    assert AMOUNTS == await charged(world, bot)
    assert LINK not in await everything_kept(world)
    await world.check_quiet()


async def test_a_provider_that_fails_is_asked_again(world: World) -> None:
    """However long it is down, and through a restart of the host: the wish is kept until it is obeyed."""
    bot, provider_id = await scripted_bot(world)
    asked: list[str] = []

    def fails(told: str) -> None:
        asked.append(told)
        raise ProviderError("down")

    world.scripted.before_delete = fails
    await delete(world, bot)
    await world.sim.run(for_s=3_600)
    assert len(asked) > 10
    assert LINK not in await everything_kept(world)  # of ours, all has gone at once
    assert "media.deleted" not in await told(world, bot)
    await world.sim.restart()
    world.scripted.before_delete = lambda provider_id: None
    await world.sim.run()

    assert [provider_id] == world.scripted.deleted
    assert "media.deleted" == (await told(world, bot))[-1]
    await world.check_quiet()


async def test_again_has_no_effect(world: World) -> None:
    """Asked for twice, before and after it was done, it is done once."""
    bot, provider_id = await scripted_bot(world)
    for _ in range(2):
        await delete(world, bot)
    await world.sim.run()
    await delete(world, bot)
    await world.sim.run()

    assert [provider_id] == world.scripted.deleted
    assert 1 == (await told(world, bot)).count("media.deleted")
    await world.check_quiet()


async def test_later_news_bring_no_link_back(world: World) -> None:
    """A reading and a webhook that come afterwards, as providers tell of deletions, change nothing."""
    bot, provider_id = await scripted_bot(world)
    await delete(world, bot)
    await world.sim.run()
    told_late = event("e2", provider_id=provider_id, bot=f"{LINK}/words")
    await world.sim.host.inbound.receive("scripted", SIGNED, told_late)
    await world.sim.run()
    kept = await world.sim.host.store.read(queries.by_id(InboundEvent, "scripted/e2"))

    assert kept is not None
    assert "" == kept.body
    assert LINK not in await everything_kept(world)
    assert AMOUNTS == await charged(world, bot)


async def test_links_that_are_minted_meanwhile_are_not_kept(world: World) -> None:
    """A GET that was on its way when the media were deleted shows none, and later ones ask for none."""
    bot, _ = await scripted_bot(world)
    world.sim.clock.advance(seconds=7_200)  # its links have expired, so the provider is asked for new ones
    fresh = {"media": f"{LINK}/new", "rec": f"{LINK}/new", "speech": f"{LINK}/new"}
    minted = NoteUrls(
        account=world.tenant.account,
        bot=bot,
        recording_urls=fresh,
        transcript_urls=fresh,
        urls_expire_ms=world.sim.clock.now_ms() + 3_600_000,
    )
    await delete(world, bot)
    late = await world.sim.host.store.write(minted)

    assert ("", "", 0) == (late.recording_url, late.transcript_url, late.urls_expire_ms)
    world.scripted.on_read = lambda provider_id: pytest.fail("it is asked for links to what was deleted")
    assert (await shown(world, bot)).recording_url is None


async def test_a_bot_that_its_provider_has_lost_has_nothing_to_delete(world: World) -> None:
    """It is asked for some time, for one answer may be wrong; then it is taken for gone."""
    bot, provider_id = await scripted_bot(world)
    del world.scripted.records[provider_id]
    await delete(world, bot)
    await world.sim.run(for_s=300)
    assert "media.deleted" not in await told(world, bot)
    await world.sim.run()

    assert "media.deleted" == (await told(world, bot))[-1]
    await world.check_quiet()


async def test_one_wrong_answer_does_not_end_a_wish(world: World) -> None:
    """However long ago it was made: a bot that its provider does not know for a moment is asked for again."""
    bot, provider_id = await scripted_bot(world, state="processing")
    await delete(world, bot)
    await world.sim.run(for_s=1_200)
    wrong = [UnknownBot(provider_id)]

    def answers_wrong_once(_: str) -> None:
        if wrong:
            raise wrong.pop()

    world.scripted.before_delete = answers_wrong_once
    await world.sim.run()

    assert not wrong
    assert {provider_id} == set(world.scripted.deleted)
    assert "media.deleted" == (await told(world, bot))[-1]


async def test_what_comes_late_is_deleted_too(world: World) -> None:
    """A transcript that was not there in time, and comes after the deletion: the wish holds for it as well."""
    bot, provider_id = await scripted_bot(world, state="processing")
    world.sim.clock.advance(seconds=1_900)  # nothing came in time
    await world.sim.do_due()
    assert "done" == (await shown(world, bot)).status
    await delete(world, bot)
    await world.sim.run(for_s=600)
    early = len(world.scripted.deleted)
    assert early
    record = world.scripted.records[provider_id]
    (fact,) = record.recordings
    late = artifact("speech", updated_ms=world.sim.clock.now_ms())
    world.scripted.records[provider_id] = replace(record, recordings=[replace(fact, transcript=late)])
    await world.sim.run()

    assert len(world.scripted.deleted) > early
    assert "media.deleted" == (await told(world, bot))[-1]
    assert LINK not in await everything_kept(world)
    await world.check_quiet()


async def test_a_bot_that_was_never_made_has_nothing_to_delete(world: World) -> None:
    """The wish is granted: there is nothing."""

    def refuses(_: object) -> None:
        raise ProviderError("no")

    world.scripted.before_create = refuses
    with pytest.raises(ProviderError):
        await world.sim.start(world.tenant, provider="scripted")
    world.scripted.before_create = lambda request: None
    (bot,) = (await world.sim.host.meetings.list(world.tenant.app.id, parse_list([]))).bots
    await delete(world, bot.id)
    await world.sim.run()

    assert "media.deleted" in await told(world, bot.id)
    assert [] == world.scripted.deleted
    await world.check_quiet()


@dataclass(frozen=True)
class _Note:
    """A line of history that a newer host writes."""

    step: History

    @property
    def account(self) -> str:
        return self.step.account

    def reads(self) -> Iterable[Key]:
        return [(History, self.step.id)]

    def apply(self, view: View) -> None:
        view.put(self.step)


async def test_a_history_that_a_newer_host_wrote_can_be_read(world: World) -> None:
    """While hosts are upgraded one after the other, an older one shows what it does not know yet."""
    bot, _ = await scripted_bot(world)
    line = History(f"{bot}/later", world.tenant.account, bot, "bot.later", "", world.sim.clock.now_ms())
    await world.sim.host.store.write(_Note(line))

    assert "bot.later" == (await told(world, bot))[-1]


async def test_another_apps_bot_is_not_there(world: World) -> None:
    """Its media stay."""
    bot, _ = await scripted_bot(world)
    stranger = await world.sim.open_tenant("stranger")
    with pytest.raises(BotNotFound):
        await world.sim.host.meetings.delete_media(stranger.app.id, bot)

    assert 0 == (await row(world, bot)).media_unwanted_ms
