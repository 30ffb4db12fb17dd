"""The adapter at its protocol: creating, finding, reading, leaving, refusing, and surviving a restart."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout, Refusal, SettingsError
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import API_VERSION, BotRequest, End, MeetingProvider, Phase, UnknownBot
from ctxhost.plugins import load_plugins
from ctxhost.settings import Settings
from ctxhost_fake.provider import FakeProvider
from ctxhost_fake.settings import read_settings

Asked = Callable[..., BotRequest]


def phases(record: Any) -> list[str]:
    return [str(step.phase) for step in record.steps]


def services_with(stand: Any, settings: dict[str, Any]) -> Services:
    lent = stand.services
    return Services(
        clock=lent.clock,
        base_url=lent.base_url,
        data_dir=lent.data_dir,
        http=lent.http,
        plugin_settings={"fake": settings},
        rate=lent.rate,
    )


async def test_it_comes_through_the_entry_point_only_when_enabled(stand: Any) -> None:
    """Installed is not enabled: without the setting there is no provider and no file."""
    plugins = load_plugins()

    assert {} == plugins.meeting_providers(services_with(stand, {}))
    assert [] == list(stand.folder.iterdir())
    offered = plugins.meeting_providers(services_with(stand, {"enabled": True}))
    assert {"fake"} == set(offered)
    assert () == plugins.broken
    await offered["fake"].aclose()


async def test_a_setting_that_is_unknown_disables_the_plugin_by_name(stand: Any) -> None:
    """The host lives, and says which setting it is."""
    plugins = load_plugins()

    assert {} == plugins.meeting_providers(services_with(stand, {"enabled": True, "spede": 2}))
    (broken,) = plugins.broken
    assert "plugins.fake.spede" in broken.why


@pytest.mark.parametrize(
    "wrong",
    [
        {"enabled": "yes"},
        {"enabled": "1"},
        {"enabled": 1},
        {"speed": 0},
        {"speed": float("inf")},
        {"speed": float("nan")},
        {"speed": "fast"},
        {"speed": "NaN"},
        {"speed": True},
        {"script": "hapy"},
        {"capacity": -1},
        {"artifact_url_ttl_s": 0},
        {"seed": 1.5},
    ],
)
def test_settings_are_strict(wrong: dict[str, Any]) -> None:
    """A value of another type or range is refused, and its setting is named."""
    (name,) = wrong

    with pytest.raises(SettingsError, match=rf"plugins\.fake\.{name}"):
        read_settings(wrong)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host reads from its environment is text; each setting still gets its type."""
    for name, value in {"ENABLED": "true", "SPEED": "12", "SCRIPT": "denied+late", "CAPACITY": "3"}.items():
        monkeypatch.setenv(f"CTXHOST_PLUGINS__FAKE__{name}", value)

    told = read_settings(Settings().plugins["fake"])
    assert (True, 12.0, "denied+late", 3) == (told.enabled, told.speed, told.script, told.capacity)


async def test_it_is_a_meeting_provider_with_recalls_prices(stand: Any) -> None:
    """$0.50 and $0.15 an hour, in nano-dollars."""
    provider: MeetingProvider = stand.open()

    assert ("fake", API_VERSION, 3_600) == (provider.name, provider.api_version, provider.idempotency_window_s)
    prices = provider.prices
    assert (500_000_000, 150_000_000) == (prices.recording_nano_usd_per_hour, prices.transcription_nano_usd_per_hour)
    assert 500_000_000 == prices.cost_nano_usd_per_hour


async def test_repeating_a_create_makes_no_second_bot(stand: Any, asked: Asked) -> None:
    """The same (bot, attempt) is the same bot, however often and however parallel it is asked for; another n is not."""
    provider = stand.open()
    answers: list[str] = []

    async def create() -> None:
        answers.append(await provider.create(asked()))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(create)
    stand.clock.advance(seconds=30)
    await create()

    assert 1 == len(set(answers))
    assert [answers[0]] == await provider.find("bot-1")
    second = await provider.create(asked(attempt=2))
    assert [answers[0], second] == await provider.find("bot-1")


async def test_many_bots_made_at_once_are_all_kept(stand: Any, asked: Asked) -> None:
    """Writers that share a transaction each get their own bot on disk."""
    provider = stand.open()
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(provider.create, asked(bot=f"bot-{number}"))

    again = stand.open()
    assert 50 == len([found for number in range(50) for found in await again.find(f"bot-{number}")])


async def test_a_killed_host_finds_the_same_bots(stand: Any, asked: Asked) -> None:
    """Nothing was closed; a new process reads the same history, repeats no bot and keeps the wish to leave."""
    first = stand.open(speed=12)
    kept, left = await first.create(asked()), await first.create(asked(bot="bot-2"))
    stand.clock.advance(seconds=2)
    await first.leave(left)
    stand.clock.advance(seconds=10)
    before = [await first.read(kept), await first.read(left)]

    second = stand.open(speed=1, seed=9, script="denied")  # settings of new bots; those that live keep theirs
    assert before == [await second.read(kept), await second.read(left)]
    assert kept == await second.create(asked())
    assert [left] == await second.find("bot-2")


async def test_ids_come_from_the_seed_and_the_bot(stand: Any, asked: Asked, tmp_path: Path) -> None:
    """Another folder with the same seed gives the same ids; another seed gives others."""
    other = type(stand)(tmp_path / "other")
    provider, same, different = stand.open(), other.open(), type(stand)(tmp_path / "third").open(seed=1)

    ids = [await p.create(asked()) for p in (provider, same, different)]
    assert ids[0] == ids[1] != ids[2]
    await same.aclose()
    await different.aclose()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("spawn_refused", ProviderError),
        ("bad_url", InvalidRequest),
        ("provider_full", ProviderBusy),
        ("create_lost", ProviderTimeout),
    ],
)
async def test_scripts_that_make_no_bot(stand: Any, asked: Asked, script: str, error: type[Refusal]) -> None:
    """The answer is the script's, again at every repeat; no bot is made and nothing is sent."""
    provider = stand.open()

    for _ in range(2):
        with pytest.raises(error):
            await provider.create(asked(script=script))
    assert [] == await provider.find("bot-1")
    assert provider.next_event_ms() is None


async def test_refusals_say_what_their_callers_need(stand: Any, asked: Asked) -> None:
    """The field of a bad URL, and how long a full provider wants to be left alone."""
    provider = stand.open()

    with pytest.raises(InvalidRequest) as bad:
        await provider.create(asked(script="bad_url"))
    assert [["meetingUrl"]] == [detail["path"] for detail in bad.value.details]
    with pytest.raises(ProviderBusy) as full:
        await provider.create(asked(script="provider_full"))
    assert 30 == full.value.retry_after_s


async def test_a_create_that_times_out_has_made_its_bot(stand: Any, asked: Asked) -> None:
    """The outcome is unknown to the caller; `find` shows the bot, and a repeat of the key gives it."""
    provider = stand.open()

    with pytest.raises(ProviderTimeout):
        await provider.create(asked(script="create_times_out"))
    (found,) = await provider.find("bot-1")
    assert found == await provider.create(asked(script="create_times_out"))
    assert ["joining"] == phases(await provider.read(found))


@pytest.mark.parametrize("key", ["fake_script", "fake_webhooks"])
async def test_an_unknown_script_is_refused_by_the_metadata(stand: Any, asked: Asked, key: str) -> None:
    """A misspelt script is the caller's mistake, not a happy life."""
    provider = stand.open()

    with pytest.raises(InvalidRequest) as refused:
        await provider.create(asked(metadata={key: "hapy"}))
    assert [["metadata"]] == [detail["path"] for detail in refused.value.details]
    assert [] == await provider.find("bot-1")


async def test_the_setting_chooses_for_those_who_do_not(stand: Any, asked: Asked) -> None:
    """`script` is the default, `fake_script` the exception."""
    provider = stand.open(script="fatal_on_join")
    chosen, other = await provider.create(asked()), await provider.create(asked(bot="bot-2", script="denied"))
    stand.clock.advance(seconds=60)

    assert ["joining", "ended", "done"] == phases(await provider.read(chosen))
    assert ["joining", "waiting_room", "ended", "done"] == phases(await provider.read(other))


async def test_capacity_counts_the_living(stand: Any, asked: Asked) -> None:
    """A full provider refuses new bots, repeats known ones, and has room again when a call is over."""
    provider = stand.open(capacity=1)
    first = await provider.create(asked())

    with pytest.raises(ProviderBusy):
        await provider.create(asked(bot="bot-2"))
    assert first == await provider.create(asked())
    stand.clock.advance(seconds=57)
    await provider.create(asked(bot="bot-2"))


async def test_leaving_is_obeyed_once_and_then_quietly(stand: Any, asked: Asked) -> None:
    """The first wish decides the end; a repeat, or one after the end, changes nothing."""
    provider = stand.open()
    left, over = await provider.create(asked()), await provider.create(asked(bot="bot-2"))
    stand.clock.advance(seconds=20)
    await provider.leave(left)
    stand.clock.advance(seconds=100)
    before = [await provider.read(left), await provider.read(over)]
    await provider.leave(left)
    await provider.leave(over)

    assert before == [await provider.read(left), await provider.read(over)]
    assert [End.LEFT, End.OVER] == [step.end for record in before for step in record.steps if step.phase is Phase.ENDED]


async def test_what_was_read_while_a_bot_is_told_to_leave_stands(stand: Any, asked: Asked) -> None:
    """A reader that comes while the wish is being written sees the life as it is cut, or as it was: never both."""
    provider = stand.open()
    bot = await provider.create(asked())
    stand.clock.advance(ms=12_999)
    seen = []

    async def read() -> None:
        stand.clock.advance(ms=1)  # the recording would begin now
        seen.append(await provider.read(bot))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(provider.leave, bot)
        tasks.start_soon(read)

    assert ["joining", "waiting_room", "in_call", "ended"] == phases(seen[0])


async def test_an_unknown_bot_is_said_to_be_unknown(stand: Any) -> None:
    """`read` and `leave` know only what was made here."""
    provider: FakeProvider = stand.open()

    with pytest.raises(UnknownBot):
        await provider.read("nobody")
    with pytest.raises(UnknownBot):
        await provider.leave("nobody")
    assert [] == await provider.find("nobody")


async def test_the_secret_is_made_once_and_for_its_owner_alone(stand: Any) -> None:
    """The same key after a restart, in a file and a folder that nobody else may read."""
    stand.open()
    file = stand.folder / "fake" / "secret"
    first = file.read_text()
    stand.open()

    assert first == file.read_text()
    assert first.startswith("whsec_")
    assert (0o600, 0o700) == (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode))
    assert ["secret"] == [path.name for path in file.parent.iterdir() if path.name.startswith("secret")]
