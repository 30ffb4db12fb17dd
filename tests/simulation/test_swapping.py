"""Several providers at once: who is chosen, what a bot keeps when its provider goes, and that a broken one is alone."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from tests.simulation.outages import RING
from tests.simulation.scripted import Scripted, admitted, artifact, ended, recording

from ctxhost import plugins as plugins_module
from ctxhost.clock import ManualClock
from ctxhost.errors import InvalidRequest, PluginError, ProviderUnavailable
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.host import Host
from ctxhost.ledger.verify import verify
from ctxhost.meetings.commands import SpawnCreated
from ctxhost.meetings.provider import BotRecord, MeetingProvider
from ctxhost.meetings.requests import parse_list, parse_start
from ctxhost.settings import MeetingSettings
from ctxhost.store import queries
from ctxhost.store.rows import Handle, Lease
from ctxhost.testing import Simulation, Tenant

GIVEN_UP_S = 40 * 3_600


class Offering:
    """A plugin that offers the given providers."""

    def __init__(self, *providers: MeetingProvider) -> None:
        self._providers = providers

    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        for provider in self._providers:
            register(provider)


def simulation(folder: Path, clock: ManualClock, *offered: MeetingProvider, **meetings: Any) -> Simulation:
    """A host on the files of a folder; opened again it is the same one, with what is installed then."""
    return Simulation(
        folder,
        plugins=[Offering(*offered)],
        clock=clock,
        encryption_keys=RING,
        meetings=MeetingSettings(call_limit_s=3_600, **meetings),
    )


@pytest.fixture
def alpha(clock: ManualClock) -> Scripted:
    return Scripted(clock, "alpha")


@pytest.fixture
def beta(clock: ManualClock) -> Scripted:
    return Scripted(clock, "beta")


def into_the_call(provider: Scripted, bot: str) -> str:
    """Have a bot be in its call and record."""
    (provider_id,) = [known for known in provider.records if known.endswith(bot)]
    now_ms = provider.clock.now_ms()
    running = recording(now_ms, 0, artifact("m", "processing"))
    provider.records[provider_id] = BotRecord(steps=admitted(now_ms), recordings=[running])
    return provider_id


def over(provider: Scripted, provider_id: str, *, finished: bool = True) -> None:
    """Have its call end, everything delivered, or nothing yet."""
    record, now_ms = provider.records[provider_id], provider.clock.now_ms()
    state = "done" if finished else "processing"
    (fact,) = record.recordings
    made = replace(fact, completed_ms=now_ms, media=artifact("m", state), transcript=artifact("t", state))  # type: ignore[arg-type]
    provider.records[provider_id] = replace(
        record,
        steps=[*record.steps, *ended(now_ms, finished=finished)],
        recordings=[made],
        urls_expire_ms=now_ms + 3_600_000,
    )


async def days_pass(sim: Simulation) -> None:
    """A host that is down for so long that no fact can come any more, and then works again."""
    await sim.run(for_s=1_000)
    sim.clock.advance(seconds=GIVEN_UP_S)
    await sim.run(for_s=1_000)


async def held(sim: Simulation, tenant: Tenant) -> int:
    return (await sim.host.ledger.balance(tenant.account)).account.held


async def charges(sim: Simulation, tenant: Tenant) -> dict[str, int]:
    entries = await sim.host.ledger.entries(tenant.account, limit=1_000)
    return {entry.dimension: entry.quantity for entry in entries if entry.kind == "charge"}


async def check_quiet(sim: Simulation, tenant: Tenant) -> None:
    """Nothing is held, nothing is left to do, and the books are right."""
    await sim.host.ledger.sweep()
    assert 0 == await held(sim, tenant)
    assert [] == await sim.host.store.read(queries.jobs())
    assert [] == await verify(sim.host.store)


async def test_the_call_the_app_and_the_setting_choose(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """What a call names goes before what its app is given, and that before what all are given."""
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        first, second = await sim.open_tenant(), await sim.open_tenant()
    meetings = {"provider": "beta", "provider_by_app": {first.app.id: "alpha"}}
    async with simulation(tmp_path, clock, alpha, beta, **meetings) as sim:
        chosen = [
            (await sim.start(first)).provider,
            (await sim.start(first, provider="beta")).provider,
            (await sim.start(second)).provider,
            (await sim.start(second, provider="alpha")).provider,
        ]
        with pytest.raises(InvalidRequest, match="gamma"):
            await sim.start(first, provider="gamma")

    assert ["alpha", "beta", "beta", "alpha"] == chosen
    assert (2, 2) == (len(alpha.records), len(beta.records))


async def test_a_choice_that_is_not_installed_concerns_its_app_alone(
    tmp_path: Path, clock: ManualClock, beta: Scripted
) -> None:
    """An app whose provider is not there is refused; every other app, and a call that names one, go on."""
    async with simulation(tmp_path, clock, beta) as sim:
        first, second = await sim.open_tenant(), await sim.open_tenant()
    async with simulation(tmp_path, clock, beta, provider_by_app={first.app.id: "alpha"}) as sim:
        meetings = sim.host.meetings
        assert (False, True) == (meetings.available_to(first.app.id), meetings.available_to(second.app.id))
        with pytest.raises(ProviderUnavailable, match="alpha"):
            await sim.start(first)
        assert "beta" == (await sim.start(second)).provider
        assert "beta" == (await sim.start(first, provider="beta")).provider
        assert 0 == await held(sim, first) - await held(sim, second)


async def test_a_bot_keeps_the_provider_that_it_was_born_with(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """Another choice concerns new bots alone: those that live are followed, and paid for, where they are."""
    async with simulation(tmp_path, clock, alpha, beta, provider="alpha") as sim:
        tenant = await sim.open_tenant()
        bot = await sim.start(tenant)
        provider_id = into_the_call(alpha, bot.id)
        await sim.run(for_s=90)
    async with simulation(tmp_path, clock, alpha, beta, provider="beta") as sim:
        assert "beta" == (await sim.start(tenant)).provider
        over(alpha, provider_id)
        await sim.run(for_s=400)
        ended_as = await sim.get(tenant, bot.id)

        assert ("alpha", "done", 90) == (ended_as.provider, ended_as.status, ended_as.duration_seconds)
        assert {"recording": 90, "transcription": 90} == await charges(sim, tenant)


async def test_bots_of_a_provider_that_is_gone_stay_readable(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """Without its plugin a bot is got, listed and stopped; its links are null once they have expired."""
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant()
        finished, live = await sim.start(tenant, provider="alpha"), await sim.start(tenant, provider="alpha")
        over(alpha, into_the_call(alpha, finished.id))
        into_the_call(alpha, live.id)
        await sim.run(for_s=120)
        assert "https://media.example/m" == (await sim.get(tenant, finished.id)).recording_url
    async with simulation(tmp_path, clock, beta) as sim:
        await sim.run(for_s=4_000)
        seen = await sim.get(tenant, finished.id)
        assert ("done", None, None) == (seen.status, seen.recording_url, seen.transcript_url)
        assert "recording" == (await sim.get(tenant, live.id)).status
        await sim.host.meetings.stop(tenant.app.id, live.id)
        page = await sim.host.meetings.list(tenant.app.id, parse_list([]))
        assert [live.id, finished.id] == [bot.id for bot in page.bots]


async def test_money_for_a_provider_that_is_gone_returns_when_no_fact_can_come(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """The hold stays as long as the bot may be in its call; then it returns, uncharged, and its owner is told."""
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant(credits_nano_usd=100_000_000_000)
        bot = await sim.start(tenant, provider="alpha")
        into_the_call(alpha, bot.id)
        await sim.run(for_s=120)
        lease = await sim.host.store.read(queries.by_id(Lease, bot.id))
        assert lease is not None
    async with simulation(tmp_path, clock, beta) as sim:
        inbox = await sim.receive(tenant, rotate=True)
        await sim.run(for_s=(lease.give_up_at_ms - clock.now_ms()) / 1_000 - 400)
        assert await held(sim, tenant) > 0
        assert "recording" == (await sim.get(tenant, bot.id)).status

        await sim.run(for_s=1_000)
        ended_as = await sim.get(tenant, bot.id)
        assert ("fatal", "provider_gone") == (ended_as.status, ended_as.status_reason)
        assert ["bot.fatal"] == inbox.events(bot.id)
        assert {} == await charges(sim, tenant)
        await check_quiet(sim, tenant)


async def test_a_provider_that_comes_back_in_time_is_believed(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """A plugin that was away for a day changes nothing about what its bots cost."""
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant(credits_nano_usd=100_000_000_000)
        bot = await sim.start(tenant, provider="alpha")
        provider_id = into_the_call(alpha, bot.id)
        await sim.run(for_s=60)
        over(alpha, provider_id)
    async with simulation(tmp_path, clock, beta) as sim:
        await sim.run(for_s=7_200)
        clock.advance(seconds=80_000)
        await sim.do_due()
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        await sim.run()
        assert "done" == (await sim.get(tenant, bot.id)).status
        assert {"recording": 60, "transcription": 60} == await charges(sim, tenant)
        await check_quiet(sim, tenant)


@pytest.mark.parametrize(
    ("moment", "stopped", "request_", "status", "reason"),
    [
        pytest.param("joining", False, {}, "fatal", "provider_gone", id="joining"),
        pytest.param("joining", True, {}, "done", "cancelled", id="stopped-before-admission"),
        pytest.param("in_call", True, {}, "fatal", "provider_gone", id="stopped-in-the-call"),
        pytest.param("in_call", True, {"recording": False}, "fatal", "provider_gone", id="stopped-not-recording"),
        pytest.param("ended", False, {}, "done", "everyone_left", id="artifacts-awaited"),
    ],
)
async def test_nobody_pays_for_what_nobody_knows(
    tmp_path: Path,
    clock: ManualClock,
    alpha: Scripted,
    beta: Scripted,
    moment: str,
    stopped: bool,
    request_: dict[str, Any],
    status: str,
    reason: str,
) -> None:
    """Wherever a bot was when its provider went: it gets an end, no line is charged, and nothing goes on for ever."""
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant(credits_nano_usd=100_000_000_000)
        bot = await sim.start(tenant, provider="alpha", **request_)
        if moment != "joining":
            provider_id = into_the_call(alpha, bot.id)
            await sim.run(for_s=120)
            if moment == "ended":
                over(alpha, provider_id, finished=False)
                await sim.run(for_s=330)
    async with simulation(tmp_path, clock, beta) as sim:
        if stopped:
            await sim.host.meetings.stop(tenant.app.id, bot.id)
        await days_pass(sim)
        ended_as = await sim.get(tenant, bot.id)

        assert (status, reason) == (ended_as.status, ended_as.status_reason)
        assert (None, None) == (ended_as.recording_url, ended_as.transcript_url)
        assert {} == await charges(sim, tenant)
        await check_quiet(sim, tenant)


async def test_an_unwanted_bot_of_a_provider_that_is_gone_is_forgotten_at_last(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """Nobody can be told to leave without a plugin: the wish ends when no bot can be there any more."""
    alpha.is_obedient = False
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant(credits_nano_usd=100_000_000_000)
        bot = await sim.start(tenant, provider="alpha")
        second = alpha.add(bot.id)
        await sim.host.store.write(SpawnCreated(account=tenant.account, bot=bot.id, handle=f"alpha/{second}"))
        await sim.do_due()
        assert second in alpha.told_to_leave
    async with simulation(tmp_path, clock, beta) as sim:
        await days_pass(sim)
        await check_quiet(sim, tenant)
        assert await sim.host.store.read(queries.by_id(Handle, f"alpha/{second}")) is None


async def test_a_provider_that_can_never_be_read_keeps_nobody_waiting(
    tmp_path: Path, clock: ManualClock, alpha: Scripted, beta: Scripted
) -> None:
    """One whose `read` always fails delays no other's bots, and its own are closed when no fact can come any more."""

    def fail(provider_id: str) -> None:
        raise RuntimeError("out of order")

    alpha.on_read = fail
    async with simulation(tmp_path, clock, alpha, beta) as sim:
        tenant = await sim.open_tenant(credits_nano_usd=100_000_000_000)
        stuck = [await sim.start(tenant, provider="alpha") for _ in range(3)]
        healthy = await sim.start(tenant, provider="beta")
        provider_id = into_the_call(beta, healthy.id)
        await sim.run(for_s=70)
        over(beta, provider_id)
        await sim.run(for_s=400)
        assert "done" == (await sim.get(tenant, healthy.id)).status
        assert {"recording": 70, "transcription": 70} == await charges(sim, tenant)

        await days_pass(sim)
        ends = {(bot.status, bot.status_reason) for bot in [await sim.get(tenant, bot.id) for bot in stuck]}
        assert {("fatal", "provider_unreachable")} == ends
        await check_quiet(sim, tenant)


class Broken(Scripted):
    """Fails at whatever it does by itself."""

    async def run(self) -> None:
        raise RuntimeError("out of order")

    async def aclose(self) -> None:
        raise RuntimeError("stuck")


async def test_a_provider_that_falls_over_leaves_the_host_and_the_others_alone(
    tmp_path: Path, clock: ManualClock, beta: Scripted
) -> None:
    """A `run` that raises at once and an `aclose` that raises at the end: bots of another are sent all the same."""
    settings = simulation(tmp_path, clock)
    async with settings:
        tenant = await settings.open_tenant()
    async with Host(settings.settings, plugins=[Offering(Broken(clock, "alpha"), beta)], clock=clock) as host:
        await anyio.wait_all_tasks_blocked()
        asked = parse_start({"meetingUrl": "https://zoom.us/j/1", "provider": "beta"}, now_ms=clock.now_ms())
        started = await host.meetings.start(tenant.app, asked)

    assert "joining" == started.bot.status


class RaisesInItsHook:
    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None]) -> None:
        raise RuntimeError("out of order")


class ExitsInItsHook:
    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None]) -> None:
        sys.exit(3)


class MisspellsItsHook:
    @hookimpl
    def register_meeting_provider(self, register: Callable[[MeetingProvider], None]) -> None:
        """Nobody calls this."""


class TakesAName:
    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        register(Scripted(ManualClock(), "beta"))


class OffersNonsense:
    @hookimpl
    def register_meeting_providers(self, register: Callable[[Any], None]) -> None:
        register("not a provider")


def installed(monkeypatch: pytest.MonkeyPatch, found: dict[str, object]) -> None:
    """Have plugins be found as if they were installed; an exception is raised when its plugin is imported."""
    module: Any = ModuleType("installed_plugins")
    for name, plugin in found.items():
        if not isinstance(plugin, BaseException):
            setattr(module, name, plugin)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    points = [_Point(name, f"{module.__name__}:{name}", "ctxhost", plugin) for name, plugin in found.items()]

    def entry_points(*, group: str) -> Sequence[EntryPoint]:
        assert "ctxhost" == group
        return points

    monkeypatch.setattr(plugins_module, "entry_points", entry_points)


class _Point(EntryPoint):
    def __init__(self, name: str, value: str, group: str, plugin: object) -> None:
        super().__init__(name, value, group)
        vars(self)["plugin"] = plugin

    def load(self) -> Any:
        plugin = vars(self)["plugin"]
        if isinstance(plugin, BaseException):
            raise plugin
        return super().load()


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        pytest.param(ImportError("no module named nowhere"), "nowhere", id="import-error"),
        pytest.param(SystemExit(3), "SystemExit: 3", id="exits-when-imported"),
        pytest.param(RaisesInItsHook(), "out of order", id="hook-raises"),
        pytest.param(ExitsInItsHook(), "SystemExit: 3", id="hook-exits"),
        pytest.param(MisspellsItsHook(), "register_meeting_provider'", id="misspelt-hook"),
        pytest.param(TakesAName(), "two meeting providers named 'beta'", id="name-taken"),
        pytest.param(OffersNonsense(), "AttributeError", id="nonsense"),
    ],
)
async def test_a_broken_plugin_is_reported_and_alone(
    tmp_path: Path, clock: ManualClock, beta: Scripted, monkeypatch: pytest.MonkeyPatch, plugin: object, told: str
) -> None:
    """Whatever an installed plugin does while the host starts: it is named with the reason, and the others serve."""
    installed(monkeypatch, {"good": Offering(beta), "bad": plugin})
    async with simulation(tmp_path, clock) as sim:
        settings = sim.settings
    async with Host(settings, clock=clock, work=False) as host:
        (broken,) = host.plugins.broken
        assert ["beta"] == list(host.providers)
        assert host.providers["beta"] is beta

    assert "bad" == broken.name
    assert told in broken.why


async def test_a_plugin_that_is_given_with_a_misspelt_hook_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    """A program that hands the host a plugin hears of its mistake at once."""
    async with simulation(tmp_path, clock) as sim:
        settings = sim.settings
    with pytest.raises(PluginError, match="register_meeting_provider"):
        async with Host(settings, plugins=[MisspellsItsHook()], clock=clock, work=False):
            pass
