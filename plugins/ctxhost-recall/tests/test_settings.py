"""What the operator says, and when the adapter offers itself."""

from pathlib import Path
from typing import Any

import httpx
import pytest

import ctxhost_recall
from ctxhost.clock import ManualClock
from ctxhost.doctor import examine
from ctxhost.errors import SettingsError
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import Examined, MeetingProvider, Probed
from ctxhost.plugins import load_plugins
from ctxhost.rates import LocalRates
from ctxhost.settings import Settings
from ctxhost_recall.emulator import Fault, cut, garbage, overloaded, refused, throttled
from ctxhost_recall.settings import RecallSettings, read_settings

SECRET = "whsec_uVjstrRSKq+hmqhhKSFEt979xzBqccxU"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine takes part."""
    for name in RecallSettings.model_fields:
        monkeypatch.delenv(f"MEETINGS_{name.upper()}", raising=False)


def offered(folder: Path, **settings: Any) -> list[MeetingProvider]:
    services = Services(
        clock=ManualClock(),
        base_url="http://host.test",
        data_dir=folder,
        http=httpx.AsyncClient(verify=False),
        plugin_settings={"recall": settings},
        rate=LocalRates(ManualClock()).open,
    )
    plugins = load_plugins([ctxhost_recall])
    found = list(plugins.meeting_providers(services).values())
    if plugins.broken:
        raise AssertionError(plugins.broken)
    return found


def test_without_a_key_there_is_no_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open-source mode is the absence of a key; an empty one is none."""
    monkeypatch.setenv("MEETINGS_API_KEY", "")
    monkeypatch.setenv("MEETINGS_WEBHOOK_SECRET", SECRET)

    assert [] == offered(tmp_path)


def test_a_key_in_the_environment_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is offered under its name."""
    monkeypatch.setenv("MEETINGS_API_KEY", "key")

    assert ["recall"] == [provider.name for provider in offered(tmp_path)]


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has its variable; what is set for the plugin wins."""
    monkeypatch.setenv("MEETINGS_BASE_URL", "https://eu-central-1.recall.ai/")
    monkeypatch.setenv("MEETINGS_RETENTION_HOURS", "72")
    settings = read_settings({"retention_hours": "24"})

    assert ("https://eu-central-1.recall.ai", 24) == (settings.base_url, settings.retention_hours)


def test_the_defaults() -> None:
    """us-east-1, a week, and Recall's own transcription afterwards."""
    settings = read_settings({})

    assert ("https://us-east-1.recall.ai", 168, "recallai_async") == (
        settings.base_url,
        settings.retention_hours,
        settings.transcription,
    )


@pytest.mark.parametrize(
    ("text", "nano_usd"), [(None, 500_000_000), ("0.70", 700_000_000), ("$0.123456789", 123_456_789), ("0", 0)]
)
def test_what_recall_bills_is_a_setting(tmp_path: Path, text: str | None, nano_usd: int) -> None:
    """Exact to the nano-dollar; what users are charged does not change with it."""
    given = {} if text is None else {"cost_usd_per_hour": text}
    (provider,) = offered(tmp_path, api_key="key", **given)

    assert nano_usd == provider.prices.cost_nano_usd_per_hour
    assert 500_000_000 == provider.prices.recording_nano_usd_per_hour


def test_several_webhook_secrets() -> None:
    """With spaces or commas between."""
    assert 3 == len(read_settings({"webhook_secret": f"{SECRET} {SECRET},{SECRET}"}).webhook_keys)


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://us-east-1.recall.ai"},
        {"base_url": "https://us-east-1.recall.ai/api/v1"},
        {"base_url": "https://key@us-east-1.recall.ai"},
        {"base_url": "us-east-1"},
        {"retention_hours": 0},
        {"cost_usd_per_hour": "half a dollar"},
        {"cost_usd_per_hour": "-0.5"},
        {"cost_usd_per_hour": 0.5},
        {"transcription": "whisper"},
        {"api_key": "key", "webhook_secret": "canary-secret"},
        {"api_kee": "canary-secret"},
    ],
    ids=str,
)
def test_mistakes_are_named(given: dict[str, Any]) -> None:
    """A wrong or unknown setting is told by name, without its value."""
    with pytest.raises(SettingsError) as error:
        read_settings(given)

    assert "canary" not in str(error.value)
    assert next(iter(given)) in str(error.value) or "webhook secret" in str(error.value)


def test_no_secret_in_a_repr() -> None:
    """Neither the key nor a webhook secret shows when settings are printed."""
    shown = repr(read_settings({"api_key": "canary-key", "webhook_secret": SECRET}))

    assert "canary-key" not in shown
    assert SECRET not in shown


def problems(folder: Path, **settings: Any) -> list[tuple[str, str]]:
    """What and mend of each problem of a provider that has these settings, beside those that are right."""
    (provider,) = offered(folder, **{"api_key": "key", "webhook_secret": SECRET, **settings})
    assert isinstance(provider, Examined)
    return [(problem.what, problem.mend) for problem in provider.problems()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base_url": "https://us-west-2.recall.ai"},
        {"base_url": "https://EU-central-1.recall.ai"},
        {"base_url": "https://ap-northeast-1.recall.ai:443"},
        {"base_url": "http://127.0.0.1:8899"},
        {"base_url": "http://localhost:8899"},
        {"rate_limit_percent": 100},
        {"transcription_language": "de", "transcription": "recallai_streaming"},
        {"transcription": "deepgram_streaming"},
    ],
    ids=str,
)
def test_nothing_is_wrong_where_nothing_is(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Recall's regions and this machine are known addresses; what has an effect is no problem."""
    assert [] == problems(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "what", "mend"),
    [
        pytest.param({"webhook_secret": None}, "no webhook secret", "MEETINGS_WEBHOOK_SECRET", id="no-secret"),
        pytest.param({"webhook_secret": " , "}, "no webhook secret", "MEETINGS_WEBHOOK_SECRET", id="blank-secret"),
        pytest.param({"base_url": "https://us-east-2.recall.ai"}, "https://us-east-2.recall.ai is none of",
                     "us-west-2.recall.ai", id="no-such-region"),
        pytest.param({"base_url": "https://us-east-1.recall.ai.example"}, "is none of Recall's regions",
                     "MEETINGS_BASE_URL", id="elsewhere"),
        pytest.param({"api_key": "Token canary"}, "does not look like an API key", "MEETINGS_API_KEY", id="with-token"),
        pytest.param({"api_key": "canary\n"}, "does not look like an API key", "MEETINGS_API_KEY", id="line-end"),
        pytest.param({"api_key": "whsec_canary"}, "does not look like an API key", "MEETINGS_API_KEY", id="wrong-one"),
        pytest.param({"rate_limit_percent": 101}, "101 %", "MEETINGS_RATE_LIMIT_PERCENT", id="too-fast"),
        pytest.param({"transcription_language": "de", "transcription": "deepgram_streaming"}, "'de' is not passed on",
                     "MEETINGS_TRANSCRIPTION_LANGUAGE", id="deaf-to-language"),
    ],
)  # fmt: skip
def test_a_problem_is_named_with_what_mends_it(tmp_path: Path, settings: dict[str, Any], what: str, mend: str) -> None:
    """One problem each, told without the secrets."""
    ((told, mended),) = problems(tmp_path, **settings)

    assert what in told
    assert mend in mended
    assert "canary" not in told + mended


async def test_the_doctor_tells_them(tmp_path: Path) -> None:
    """`ctxhost doctor` passes on what the adapter knows of its settings."""
    settings = Settings(database=tmp_path / "none.db", data_dir=tmp_path, plugins={"recall": {"api_key": "key"}})
    findings = await examine(settings, plugins=[ctxhost_recall], clock=ManualClock())
    (finding,) = [finding for finding in findings if finding.about == "provider"]

    assert finding.what.startswith("recall: There is no webhook secret")
    assert "MEETINGS_WEBHOOK_SECRET" in finding.mend


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [({}, False), ({"create_deadline_s": 30}, True), ({"create_deadline_s": 29.5}, False)],
    ids=str,
)
async def test_a_deadline_beyond_the_hosts_patience_is_told(
    tmp_path: Path, settings: dict[str, Any], is_told: bool
) -> None:
    """The host's 30 s must be more than the adapter's own deadline."""
    given = {"api_key": "key", "webhook_secret": SECRET, **settings}
    host = Settings(database=tmp_path / "none.db", data_dir=tmp_path, plugins={"recall": given})
    findings = await examine(host, plugins=[ctxhost_recall], clock=ManualClock())

    assert is_told == any("CTXHOST_MEETINGS__CREATE_TIMEOUT_S" in finding.mend for finding in findings)


async def probed(stand: Any, **settings: Any) -> list[tuple[str, str]]:
    provider = stand.open(**settings)
    assert isinstance(provider, Probed)
    return [(problem.what, problem.mend) for problem in await provider.probe()]


async def test_a_key_of_this_region_is_taken(stand: Any) -> None:
    """Recall answers, and nothing is said; a busy minute is no fault of the settings."""
    assert [] == await probed(stand)
    stand.emulator.fail("list", throttled())
    assert [] == await probed(stand)


async def test_a_key_of_another_region_is_told(stand: Any) -> None:
    """It looks like a wrong key: both are named, and every region; the key is not."""
    ((what, mend),) = await probed(stand, api_key="canary")

    assert "401" in what
    assert "another region" in what
    assert "us-west-2.recall.ai" in mend
    assert "canary" not in what + mend


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (refused(402, "payment_required"), "out of credit"),
        (refused(403, "request_blocked"), "firewall"),
        (garbage(b"<h1>Hello</h1>"), "is not Recall"),
        (overloaded(), "is not Recall, or Recall is in trouble"),
        (cut(), "does not answer"),
    ],
)
async def test_what_recall_says_against_the_settings_is_told(stand: Any, fault: Fault, what: str) -> None:
    """One problem each."""
    stand.emulator.fail("list", fault)
    ((told, _),) = await probed(stand)

    assert what in told


async def test_the_doctor_asks_recall_unless_it_is_offline(stand: Any, tmp_path: Path) -> None:
    """A key that Recall does not know is among the findings, and only where the network may be asked."""
    given = {"api_key": "wrong", "webhook_secret": SECRET, "base_url": stand.url}
    host = Settings(database=tmp_path / "none.db", data_dir=tmp_path, plugins={"recall": given})
    for http in (stand.http, None):
        findings = await examine(host, plugins=[ctxhost_recall], clock=ManualClock(), http=http)
        assert (http is not None) == any("refuses the key" in finding.what for finding in findings)
