"""`ctxhost doctor`: what is wrong is named, with what mends it, and what is right is not."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from tests.cli.conftest import Cli
from tests.contract.engines import POSTGRES, postgres_url

from ctxhost.clock import ManualClock, WallClock
from ctxhost.doctor import examine
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.ids import new_id
from ctxhost.ledger.ledger import Ledger
from ctxhost.meetings.provider import MeetingPrices, MeetingProvider, Problem
from ctxhost.settings import EgressSettings, MeetingSettings, Settings
from ctxhost.store.rows import Endpoint
from ctxhost.store.sqlite import SqliteStore
from ctxhost.tenants.secrets import new_key_text


class Outside(MeetingProvider):
    """A provider that has an opinion of its settings."""

    name = "outside"
    prices = MeetingPrices(recording_nano_usd_per_hour=0, transcription_nano_usd_per_hour=0, cost_nano_usd_per_hour=0)

    def __init__(self, *problems: Problem) -> None:
        self._problems = problems

    async def create(self, request: Any) -> str:
        raise AssertionError("a doctor only looks")

    async def find(self, bot: str) -> Sequence[str]:
        raise AssertionError("a doctor only looks")

    read = leave = create  # type: ignore[assignment]

    def problems(self) -> Sequence[Problem]:
        return self._problems


class Offering:
    def __init__(self, *providers: MeetingProvider) -> None:
        self._providers = providers

    @hookimpl
    def register_meeting_providers(self, register: Callable[[MeetingProvider], None], services: Services) -> None:
        for provider in self._providers:
            register(provider)


@pytest.fixture
async def healthy(tmp_path: Path, clock: ManualClock) -> dict[str, Any]:
    """Settings of a host that nothing is wrong with, with an account that has moved money."""
    store = SqliteStore(tmp_path / "ctxhost.db", clock=clock)
    account = await Ledger(store).open_account("ada")
    await Ledger(store).grant(account.id, 5, key="first")
    await store.aclose()
    return {
        "database": tmp_path / "ctxhost.db",
        "data_dir": tmp_path / "data",
        "base_url": "https://host.example",
        "encryption_keys": new_key_text(),
    }


class Doctor:
    """`await doctor(settings…)` gives (about, what, mend) of each finding."""

    def __init__(self, healthy: dict[str, Any], clock: ManualClock) -> None:
        self.settings, self.clock = healthy, clock
        self.plugins: list[object] = [Offering(Outside())]
        self.http: httpx.AsyncClient | None = None

    async def __call__(self, **settings: Any) -> list[tuple[str, str, str]]:
        findings = await examine(
            Settings(**{**self.settings, **settings}), plugins=self.plugins, clock=self.clock, http=self.http
        )
        return [(finding.about, finding.what, finding.mend) for finding in findings]


@pytest.fixture
def doctor(healthy: dict[str, Any], clock: ManualClock) -> Doctor:
    return Doctor(healthy, clock)


async def test_nothing_is_wrong_where_nothing_is(doctor: Doctor) -> None:
    """A host that is set up rightly has no findings, and looking changes no file."""
    folder = doctor.settings["database"].parent
    before = doctor.settings["database"].read_bytes()

    assert [] == await doctor()
    assert before == doctor.settings["database"].read_bytes()
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("settings", "about", "what", "mend"),
    [
        pytest.param({"encryption_keys": None}, "encryption_key", "no encryption key", "openssl rand", id="no-key"),
        pytest.param({"encryption_keys": "k1:c2hvcnQ="}, "encryption_key", "bytes instead of 32", "ENCRYPTION_KEYS",
                     id="short-key"),
        pytest.param({"base_url": "http://127.0.0.1:8787"}, "base_url", "webhooks of outside do not arrive",
                     "CTXHOST_BASE_URL", id="loopback"),
        pytest.param({"base_url": "http://10.1.2.3"}, "base_url", "no address on the internet", "CTXHOST_BASE_URL",
                     id="private-address"),
        pytest.param({"base_url": "host.example"}, "base_url", "not a URL", "https://", id="no-url"),
        pytest.param({"meetings": MeetingSettings(provider="other")}, "provider", "'other' is not on offer",
                     "CTXHOST_MEETINGS__PROVIDER", id="chosen-missing"),
        pytest.param({"meetings": MeetingSettings(provider_by_app={"app_1": "other"})}, "provider",
                     "'other' of the app app_1", "PROVIDER_BY_APP", id="chosen-by-app-missing"),
        pytest.param({"plugins": {"ghost": {"key": 1}}}, "settings", "plugin 'ghost', which is not installed",
                     "CTXHOST_PLUGINS__GHOST", id="settings-of-nothing"),
        pytest.param({"database": Path("/nowhere/ctxhost.db")}, "database", "no database at", "open-account",
                     id="no-database"),
    ],
)  # fmt: skip
async def test_a_wrong_setting_is_named(
    doctor: Doctor, settings: dict[str, Any], about: str, what: str, mend: str
) -> None:
    """One wrong setting is one finding, which says what mends it."""
    ((found_about, found_what, found_mend),) = await doctor(**settings)

    assert about == found_about
    assert what in found_what
    assert mend in found_mend


async def test_no_provider_is_told(doctor: Doctor) -> None:
    """Open-source mode is allowed, and told to whoever asks why nothing happens."""
    doctor.plugins = []
    ((about, _, mend),) = await doctor()

    assert "provider" == about
    assert "MEETINGS_API_KEY" in mend


async def test_several_providers_and_no_choice_are_told(doctor: Doctor) -> None:
    """With several on offer the one that is used by default is named; choosing one is enough."""
    other = Outside()
    other.name = "another"
    doctor.plugins = [Offering(Outside(), other)]
    ((_, what, mend),) = await doctor()

    assert "another is used" in what
    assert "CTXHOST_MEETINGS__PROVIDER" in mend
    assert [] == await doctor(meetings=MeetingSettings(provider="outside"))


async def test_a_provider_tells_of_its_own_problems(doctor: Doctor) -> None:
    """What a provider knows of its settings is passed on; one that fails at it is told too."""
    doctor.plugins = [Offering(Outside(Problem(what="no webhook secret", mend="set ACME_SECRET")))]
    assert [("provider", "outside: no webhook secret", "set ACME_SECRET")] == await doctor()

    doctor.plugins = [Offering(Outside(cast("Any", None)))]
    assert [("provider", "outside: it cannot be examined (AttributeError)", "tell its author")] == await doctor()


async def test_a_plugin_that_raises_is_told_with_the_reason(doctor: Doctor) -> None:
    """A plugin that is left out is no secret of the log."""

    class Broken:
        @hookimpl
        def register_meeting_providers(self, register: Callable[[MeetingProvider], None]) -> None:
            raise RuntimeError("out of order")

    doctor.plugins = [Offering(Outside()), Broken()]
    ((about, what, mend),) = await doctor()

    assert "plugin" == about
    assert "Broken" in what
    assert "out of order" in what
    assert "its author" in mend


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("insert into _sqlite_migrations (migration_set, name, applied_at) values ('ctxhost', '9999_later', '2030')",
         "newer ctxhost"),
        ("drop table _sqlite_migrations", "another program"),
    ],
    ids=["newer", "not-ours"],
)  # fmt: skip
async def test_a_database_that_cannot_be_used_is_told(doctor: Doctor, damage: str, what: str) -> None:
    """A newer or a foreign database is a finding, no crash."""
    with closing(sqlite3.connect(doctor.settings["database"])) as db, db:
        db.execute(damage)
    db.close()
    ((about, found, _),) = await doctor()

    assert "database" == about
    assert what in found


async def test_a_damaged_database_is_told(doctor: Doctor) -> None:
    """Bytes that are no database are a finding, no crash."""
    doctor.settings["database"].write_bytes(b"this is no database at all" * 100)
    ((about, what, _),) = await doctor()

    assert "database" == about
    assert "cannot be used" in what


async def test_books_that_do_not_add_up_are_told(doctor: Doctor) -> None:
    """A balance that its journal does not explain is a finding of the ledger."""
    with closing(sqlite3.connect(doctor.settings["database"])) as db, db:
        db.execute("update account set credits = credits + 1 where id <> ''")
    db.close()
    ((about, what, mend),) = await doctor()

    assert "ledger" == about
    assert "journal" in what
    assert "ledger verify" in mend


async def test_a_clock_behind_the_ledger_s_is_told(doctor: Doctor) -> None:
    """The ledger's clock never goes back: a machine's clock that was set back is wrong by that much."""
    doctor.clock.advance(seconds=-3_600)
    ((about, what, _),) = await doctor()

    assert ("clock", "the ledger's clock is +3600 s from this machine's.") == (about, what)


@pytest.mark.parametrize("ahead_s", [0, -20, 10, -600, 600])
async def test_a_clock_that_is_not_the_database_s_is_told(doctor: Doctor, postgres: str, ahead_s: int) -> None:
    """On PostgreSQL the database's clock decides: a machine's that is off either way is named, a little is allowed."""
    doctor.clock.set(WallClock().now_ms() + ahead_s * 1_000)
    told = [what for about, what, _ in await doctor(database=postgres) if about == "clock"]
    found = [re.fullmatch(r"the database's clock is ([+-]\d+) s from this machine's\.", what) for what in told]

    assert (abs(ahead_s) > 30) == bool(found)
    assert all(match and -15 <= int(match[1]) + ahead_s <= 15 for match in found)  # a busy machine answers late


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[str]:
    """A PostgreSQL database with the schema in it."""
    yield await anyio.to_thread.run_sync(postgres_url, tmp_path)
    POSTGRES.discard(tmp_path)


async def test_an_endpoint_that_today_s_policy_refuses_is_told(doctor: Doctor) -> None:
    """A URL that was set under another policy is named; the operator's networks and the host's own paths are not."""
    await _point(doctor, "http://127.0.0.1:9000/hook")
    ((about, what, mend),) = await doctor()
    assert "webhook" == about
    assert "is refused now" in what
    assert "CTXHOST_EGRESS" in mend
    allowed = EgressSettings(allow_http=True, allow_networks=(ip_network("127.0.0.0/8"),))
    assert [] == await doctor(egress=allowed)

    await _point(doctor, f"{doctor.settings['base_url']}/fn/hook")
    assert 1 == len(await doctor())


async def _point(doctor: Doctor, url: str) -> None:
    row = Endpoint(new_id("app"), "", url, "bot.done", "sealed", "", 0, 0, 0, 1)
    with closing(sqlite3.connect(doctor.settings["database"])) as db, db:
        marks = ", ".join("?" * len(row))
        db.execute(f"insert into endpoint ({', '.join(row._fields)}) values ({marks})", row)
    db.close()


@pytest.mark.parametrize(
    ("answer", "about", "what"),
    [
        (httpx.ConnectError("refused"), "base_url", "Nothing answers"),
        (httpx.Response(200, html="<html>"), "base_url", "is not a ctxhost"),
        (httpx.Response(502, json={}), "base_url", "(502) is not a ctxhost"),
        (httpx.Response(200, json={}, headers={"date": "Thu, 28 May 2026 21:26:40 GMT"}), "clock", "+3600 s"),
    ],
    ids=["silence", "another-page", "a-proxy", "clock"],
)
async def test_what_answers_at_the_base_url_is_told(
    doctor: Doctor, answer: httpx.Response | Exception, about: str, what: str
) -> None:
    """Silence, another server's page and another server's time are findings."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert "https://host.example/health/live" == str(request.url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as doctor.http:
        ((found_about, found_what, _),) = await doctor()

    assert about == found_about
    assert what in found_what


async def test_a_host_that_answers_at_its_base_url_is_right(doctor: Doctor) -> None:
    """A host's own answer, at this machine's time, is no finding."""
    right = httpx.Response(200, json={"status": "ok"}, headers={"date": "Thu, 28 May 2026 20:26:50 GMT"})
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: right)) as doctor.http:
        assert [] == await doctor()


def test_the_command_exits_1_when_anything_is_wrong(cli: Cli) -> None:
    """For scripts: the exit code, and the findings as JSON; for people, each with what mends it."""
    cli.ok("credits", "open-account", "Acme Inc", "--account", "acct_acme")
    wrong = cli("doctor", "--offline", "--json")
    told = cli("doctor", "--offline")
    right = cli("doctor", "--offline", CTXHOST_PLUGINS__FAKE__ENABLED="true")

    assert (1, ["provider"]) == (wrong.exit_code, [finding["about"] for finding in json.loads(wrong.stdout)])
    assert (1, "1 thing is wrong.") == (told.exit_code, told.stdout.splitlines()[-1])
    assert "to mend it: " in told.stdout
    assert (0, "Nothing is wrong.\n") == (right.exit_code, right.stdout)


def test_a_setting_that_cannot_be_read_is_a_finding(cli: Cli) -> None:
    """Even settings that no host can be made of are told in the same form."""
    result = cli("doctor", "--offline", "--json", CTXHOST_MEETINGS__MARKUP_PERCENT="much")
    (finding,) = json.loads(result.stdout)

    assert (1, "settings") == (result.exit_code, finding["about"])
    assert "CTXHOST_MEETINGS__MARKUP_PERCENT" in finding["what"]
