"""What is wrong with a host as it is configured, and what mends it. Looks only; nothing is changed by it.

Plugins are asked for their providers in a folder of their own that is thrown away, so that a host that runs meanwhile
is not disturbed.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path

import anyio
import httpx

from ctxhost.clock import Clock, WallClock
from ctxhost.egress import EgressPolicy, UrlRefused, check_url
from ctxhost.errors import SettingsError, StoreError
from ctxhost.hookspecs import Services
from ctxhost.ledger.verify import verify
from ctxhost.meetings.provider import Examined, MeetingProvider, Persistent, Probed, Problem
from ctxhost.plugins import Plugins, load_plugins
from ctxhost.rates import LocalRates
from ctxhost.settings import MeetingSettings, Settings, is_url
from ctxhost.store import Query, Store
from ctxhost.store.open import open_store
from ctxhost.store.rows import Endpoint
from ctxhost.tenants.secrets import KeyRing

FAKE = "fake"
SKEW_MS = 30_000
ANSWER_WITHIN_S = 5
PROBED_WITHIN_S = 10
NEW_KEY = 'export CTXHOST_ENCRYPTION_KEYS="k1:$(openssl rand -base64 32)", and keep it'


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    about: str
    """encryption_key, database, ledger, plugin, provider, settings, base_url, clock or webhook."""
    what: str
    mend: str
    """The command or the setting that mends it."""


@contextlib.asynccontextmanager
async def asked(settings: Settings, plugins: Plugins, *, clock: Clock) -> AsyncIterator[Mapping[str, MeetingProvider]]:
    """The providers that plugins offer with these settings, for looking at; nothing of theirs runs."""
    with tempfile.TemporaryDirectory(prefix="ctxhost-doctor-") as folder:
        async with httpx.AsyncClient() as client:
            services = Services(
                clock=clock,
                base_url=settings.base_url.rstrip("/"),
                data_dir=Path(folder),
                http=client,
                plugin_settings=settings.plugins,
                rate=LocalRates(clock).open,
            )
            providers = plugins.meeting_providers(services)
            try:
                yield providers
            finally:
                for provider in providers.values():
                    with contextlib.suppress(Exception):
                        await provider.aclose()


async def examine(
    settings: Settings,
    *,
    plugins: Iterable[object] | None = None,
    clock: Clock | None = None,
    http: httpx.AsyncClient | None = None,
) -> list[Finding]:
    """Everything that is wrong. `http` left out, nothing is asked over the network."""
    clock = clock or WallClock()
    loaded = load_plugins(plugins)
    findings = [*_of_key(settings)]
    async with asked(settings, loaded, clock=clock) as providers:
        findings += _of_plugins(loaded, settings, providers)
        findings += _of_choice(settings.meetings, providers)
        findings += _of_address(settings, providers)
        findings += _of_providers(providers)
        findings += _of_deadlines(settings.meetings, providers)
        if http is not None:
            findings += await _of_services(providers)
    findings += await _of_database(settings, clock)
    if http is not None:
        findings += await _of_network(settings, http, clock)
    return findings


def _of_key(settings: Settings) -> Iterator[Finding]:
    if settings.encryption_keys is None:
        yield Finding(about="encryption_key", what="There is no encryption key; the host does not start.", mend=NEW_KEY)
        return
    try:
        KeyRing.parse(settings.encryption_keys.get_secret_value())
    except SettingsError as error:
        yield Finding(about="encryption_key", what=str(error), mend="mend CTXHOST_ENCRYPTION_KEYS")


def _of_plugins(loaded: Plugins, settings: Settings, providers: Mapping[str, MeetingProvider]) -> Iterator[Finding]:
    found = {facts.name: facts for facts in loaded.found}
    for broken in loaded.broken:
        distribution = found[broken.name].distribution or f"the plugin {broken.name}"
        mend = f"upgrade or uninstall {distribution} (pip), or tell its author"
        if broken.why.startswith("SettingsError"):
            mend = f"mend that setting: CTXHOST_PLUGINS__{broken.name.upper()}__…, or as {distribution} names it"
        yield Finding(about="plugin", what=f"The plugin {broken.name} is left out: {broken.why}", mend=mend)
    for name in sorted(set(settings.plugins) - set(found) - set(providers)):
        yield Finding(
            about="settings",
            what=f"There are settings for a plugin {name!r}, which is not installed.",
            mend=f"install it, or unset CTXHOST_PLUGINS__{name.upper()}__…",
        )


def _of_choice(meetings: MeetingSettings, providers: Mapping[str, MeetingProvider]) -> Iterator[Finding]:
    installed = ", ".join(sorted(providers)) or "none"
    if not providers:
        yield Finding(
            about="provider",
            what="There is no meeting provider: ctx.ai.meetings answers provider_unavailable.",
            mend="pip install ctxhost-recall and set MEETINGS_API_KEY, or set CTXHOST_PLUGINS__FAKE__ENABLED=true to"
            " try it offline; `ctxhost plugins list` shows what is installed",
        )
    elif meetings.provider is None and len(providers) > 1:
        yield Finding(
            about="provider",
            what=f"Several meeting providers are on offer ({installed}) and none is chosen: {min(providers)} is used.",
            mend="set CTXHOST_MEETINGS__PROVIDER to one of them",
        )
    if meetings.provider is not None and meetings.provider not in providers:
        yield Finding(
            about="provider",
            what=f"The chosen meeting provider {meetings.provider!r} is not on offer; on offer: {installed}.",
            mend="set its key, or set CTXHOST_MEETINGS__PROVIDER to one that is on offer",
        )
    for app, name in sorted(meetings.provider_by_app.items()):
        if name not in providers:
            yield Finding(
                about="provider",
                what=f"The meeting provider {name!r} of the app {app} is not on offer; on offer: {installed}.",
                mend="set its key, or mend CTXHOST_MEETINGS__PROVIDER_BY_APP",
            )


def _of_address(settings: Settings, providers: Mapping[str, MeetingProvider]) -> Iterator[Finding]:
    url = _parsed(settings.base_url)
    if url is None or url.scheme not in ("http", "https") or not url.host:
        yield Finding(
            about="base_url",
            what=f"{settings.base_url!r} is not a URL at which a host can be reached.",
            mend="set CTXHOST_BASE_URL to https://…",
        )
        return
    outside = sorted(set(providers) - {FAKE})
    if outside and _is_local(url.host):
        yield Finding(
            about="base_url",
            what=f"{settings.base_url} is no address on the internet: webhooks of {', '.join(outside)} do not arrive.",
            mend="set CTXHOST_BASE_URL to the public https:// address, and give the provider"
            f" …/v1/ai/meetings/_webhooks/{outside[0]}",
        )


def _of_providers(providers: Mapping[str, MeetingProvider]) -> Iterator[Finding]:
    for name, provider in sorted(providers.items()):
        if not isinstance(provider, Examined):
            continue
        try:
            told = [(problem.what, problem.mend) for problem in provider.problems()]
        except Exception as error:  # noqa: BLE001 - its fault is what is to be told
            told = [(f"it cannot be examined ({type(error).__name__})", "tell its author")]
        for what, mend in told:
            yield Finding(about="provider", what=f"{name}: {what}", mend=mend)


def _of_deadlines(meetings: MeetingSettings, providers: Mapping[str, MeetingProvider]) -> Iterator[Finding]:
    """A spawn that the host stops waiting for is answered without its outcome, and the bot is looked for afterwards."""
    for name, provider in sorted(providers.items()):
        if isinstance(provider, Persistent) and provider.create_deadline_s >= meetings.create_timeout_s:
            yield Finding(
                about="provider",
                what=f"{name}: the making of a bot is tried for {provider.create_deadline_s:g} s, and the host waits"
                f" {meetings.create_timeout_s:g} s: callers hear of a full provider that their bot is joining.",
                mend="set CTXHOST_MEETINGS__CREATE_TIMEOUT_S to some seconds more, or that provider's deadline to less",
            )


async def _of_services(providers: Mapping[str, MeetingProvider]) -> Sequence[Finding]:
    """What the services behind the providers say."""
    findings: list[Finding] = []
    for name, provider in sorted(providers.items()):
        if not isinstance(provider, Probed):
            continue
        try:
            with anyio.fail_after(PROBED_WITHIN_S):
                told = await provider.probe()
        except Exception as error:  # noqa: BLE001 - its fault is what is to be told
            told = [Problem(what=f"it cannot be probed ({type(error).__name__})", mend="tell its author")]
        findings += [Finding(about="provider", what=f"{name}: {problem.what}", mend=problem.mend) for problem in told]
    return findings


async def _of_database(settings: Settings, clock: Clock) -> list[Finding]:
    database = settings.database
    if not is_url(database) and not await anyio.Path(database).exists():
        mend = "name another with CTXHOST_DATABASE, or begin one with `ctxhost credits open-account`"
        return [Finding(about="database", what=f"There is no database at {database}.", mend=mend)]
    try:
        store = await open_store(database, clock=clock, is_pooled=settings.database_pooled)
    except StoreError as error:
        mend = "do what it says, or name another database with CTXHOST_DATABASE"
        return [Finding(about="database", what=str(error), mend=mend)]
    try:
        return [
            *await _of_books(store),
            *await _of_clocks(store, clock, is_server=is_url(database)),
            *await _of_endpoints(store, settings),
        ]
    except StoreError as error:
        mend = "restore it from a backup; `ctxhost ledger verify` says whether the books are right"
        return [Finding(about="database", what=str(error), mend=mend)]
    finally:
        await store.aclose(drain_s=1)


async def _of_books(store: Store) -> Sequence[Finding]:
    mend = "stop the host, keep the database, and look at `ctxhost ledger verify --json` and the account's entries"
    return [
        Finding(about="ledger", what=f"Account {finding.account}: {finding.what}.", mend=mend)
        for finding in await verify(store)
    ]


async def _of_clocks(store: Store, clock: Clock, *, is_server: bool) -> Sequence[Finding]:
    latest = "select coalesce(max(clock_ms), 0) from account"
    server = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"
    found = [("the ledger's clock is", await store.read(Query(latest, _only)), False)]
    if is_server:
        found.append(("the database's clock is", await store.read(Query(server, _only)), True))
    now_ms = clock.now_ms()
    mend = "set the clock right (timedatectl set-ntp true)"
    return [
        Finding(about="clock", what=f"{whose} {(at_ms - now_ms) / 1_000:+.0f} s from this machine's.", mend=mend)
        for whose, at_ms, both_ways in found
        if at_ms - now_ms > SKEW_MS or (both_ways and now_ms - at_ms > SKEW_MS)
    ]


def _only(rows: Sequence[tuple[int]]) -> int:
    return int(rows[0][0])


async def _of_endpoints(store: Store, settings: Settings) -> Sequence[Finding]:
    """Endpoints that would be refused today: they were set under another policy."""
    egress = settings.egress
    policy = EgressPolicy(allow_http=egress.allow_http, allow_networks=egress.allow_networks)
    sql = f"select {', '.join(Endpoint._fields)} from endpoint order by id"  # noqa: S608 - names of our own
    findings = []
    for endpoint in await store.read(Query(sql, lambda rows: list(map(Endpoint._make, rows)))):
        if endpoint.url.startswith(f"{settings.base_url.rstrip('/')}/"):
            continue
        try:
            check_url(endpoint.url, policy)
        except UrlRefused as refused:
            mend = "set another with PUT /v1/{app_id}/ai/meetings/webhook, or allow it with CTXHOST_EGRESS__…"
            what = f"The forward URL of the app {endpoint.id} is refused now: {refused.message}"
            findings.append(Finding(about="webhook", what=what, mend=mend))
        if endpoint.disabled_ms:
            what = f"The endpoint of the app {endpoint.id} is disabled: its deliveries failed, or it answered 410."
            mend = "mend the receiver, then PUT /v1/{app_id}/ai/meetings/webhook again"
            findings.append(Finding(about="webhook", what=what, mend=mend))
    return findings


async def _of_network(settings: Settings, http: httpx.AsyncClient, clock: Clock) -> Sequence[Finding]:
    """Whether somebody answers at the base URL, and what time it is there."""
    url = f"{settings.base_url.rstrip('/')}/health/live"
    try:
        answer = await http.get(url, timeout=ANSWER_WITHIN_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"Nothing answers at {url}: {error or type(error).__name__}."
        mend = "start `ctxhost serve`, or set CTXHOST_BASE_URL to where it is reached; --offline skips this"
        return [Finding(about="base_url", what=what, mend=mend)]
    findings = []
    if answer.status_code != 200 or "application/json" not in answer.headers.get("content-type", ""):
        what = f"What answers at {url} ({answer.status_code}) is not a ctxhost."
        findings.append(
            Finding(about="base_url", what=what, mend="mend CTXHOST_BASE_URL, or the proxy before the host")
        )
    off_ms = _date_ms(answer, default_ms=clock.now_ms()) - clock.now_ms()
    if abs(off_ms) > SKEW_MS:
        what = f"The clock at {settings.base_url} is {off_ms / 1_000:+.0f} s from this machine's."
        findings.append(Finding(about="clock", what=what, mend="set the clocks right (timedatectl set-ntp true)"))
    return findings


def _date_ms(answer: httpx.Response, *, default_ms: int) -> int:
    try:
        return int(parsedate_to_datetime(answer.headers["date"]).timestamp() * 1_000)
    except (KeyError, ValueError):
        return default_ms


def _parsed(url: str) -> httpx.URL | None:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return None


def _is_local(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local"))
    return not address.is_global
