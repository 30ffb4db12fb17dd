"""The host: every room put together, from its settings to its ASGI app."""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self

import anyio
import httpx
from anyio.abc import TaskGroup
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ctxhost.ai.namespace import AI, MeetingsNamespace
from ctxhost.api import create_app
from ctxhost.background import Background
from ctxhost.clock import Clock, WallClock
from ctxhost.egress import (
    Answer,
    Egress,
    EgressFailed,
    EgressPolicy,
    EgressTimeout,
    Router,
    UrlRefused,
    check_url,
    read_capped,
)
from ctxhost.egress import new_client as new_http_client
from ctxhost.errors import ProviderError, ProviderTimeout, SettingsError
from ctxhost.functions.appdb import open_databases
from ctxhost.functions.context import Context
from ctxhost.functions.runtime import Functions
from ctxhost.hookspecs import Services
from ctxhost.jobs import Jobs
from ctxhost.ledger.ledger import Ledger
from ctxhost.meetings.commands import LEAVE, READ, RENEW, SPAWN
from ctxhost.meetings.follow import Follower
from ctxhost.meetings.inbound import Inbound
from ctxhost.meetings.provider import MeetingProvider
from ctxhost.meetings.service import Meetings
from ctxhost.plugins import Plugins, load_plugins
from ctxhost.settings import Settings
from ctxhost.store import Store
from ctxhost.store.open import open_store
from ctxhost.store.rows import App
from ctxhost.tenants.secrets import KeyRing
from ctxhost.tenants.service import Tenants
from ctxhost.webhooks.delivery import Delivery
from ctxhost.webhooks.outbox import DELIVER
from ctxhost.webhooks.service import Webhooks

log = logging.getLogger("ctxhost")

HOUSEKEEPING_MS = 30_000
DRAIN_S = 10


class Host:
    """One host. Use it as `async with Host(settings) as host:`.

    `plugins` left out loads the installed ones; a list loads exactly those. With `work=False` nothing runs by itself:
    a tool that only reads and writes, or a test that calls `host.jobs.run_due()`. With `served=True` the host is being
    reached at `settings.base_url` over the network, and plugins reach it there too; otherwise it answers in process.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    tenants: Tenants
    meetings: Meetings
    inbound: Inbound
    webhooks: Webhooks
    functions: Functions
    jobs: Jobs
    background: Background
    plugins: Plugins
    providers: Mapping[str, MeetingProvider]
    asgi: ASGIApp

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        plugins: Iterable[object] | None = None,
        clock: Clock | None = None,
        work: bool = True,
        served: bool = False,
    ) -> None:
        self.settings = settings or Settings()
        self.clock: Clock = clock or WallClock()
        self._given_clock = clock
        self._given_plugins = plugins
        self._work = work
        self._served = served
        self._stack = contextlib.AsyncExitStack()

    @property
    def base_url(self) -> str:
        return self.settings.base_url.rstrip("/")

    @property
    def credits(self) -> Ledger:
        """The ledger: `await host.credits.grant(account, amount_nano_usd, key=…)`."""
        return self.ledger

    async def __aenter__(self) -> Self:
        """Open the database, load plugins and app folders, start the work.

        Raises:
            SettingsError: a setting is missing or wrong.
            StoreError: the database cannot be used.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.__aexit__(*exc_info)  # type: ignore[arg-type]

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        ring = self._key_ring()
        data_dir = self.settings.data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.asgi = create_app(self)
        self._policy = EgressPolicy(
            allow_http=self.settings.egress.allow_http, allow_networks=self.settings.egress.allow_networks
        )
        self.store = await open_store(
            self.settings.database, clock=self._given_clock, is_pooled=self.settings.database_pooled
        )
        stack.push_async_callback(self.store.aclose, drain_s=DRAIN_S)
        self._egress = await stack.enter_async_context(Egress(self._policy))
        databases = await open_databases(
            self.settings.apps_database, data_dir / "apps", clock=self.clock, ledger=self.settings.database
        )
        stack.push_async_callback(databases.aclose)
        self.background = background = Background(await stack.enter_async_context(_task_group()))
        self.ledger = Ledger(self.store)
        self.tenants = Tenants(self.store, ring)
        await self._open_providers(stack, data_dir)
        self.meetings = Meetings(self.store, self.ledger, self.settings.meetings, self.providers, background)
        self.inbound = Inbound(self.store, self.providers)
        self.webhooks = Webhooks(self.store, ring, self._policy, self.own_address, background)
        self.functions = Functions(
            tenants=self.tenants,
            databases=databases,
            background=background,
            clock=self.clock,
            base_url=self.base_url,
            make_ai=lambda app: AI(MeetingsNamespace(self.meetings, app, self.clock.now_ms)),
            make_http=self._http_for_handlers,
        )
        self.jobs = self._make_jobs(ring)
        await self._deploy_apps()
        if self._work:
            await self._start_work(stack)

    def _key_ring(self) -> KeyRing:
        keys = self.settings.encryption_keys
        if keys is None:
            raise SettingsError(
                "There is no encryption key. Set CTXHOST_ENCRYPTION_KEYS to `id:key`, where key is the base64 of 32"
                " random bytes, for example k1:$(openssl rand -base64 32)."
            )
        return KeyRing.parse(keys.get_secret_value())

    async def _open_providers(self, stack: contextlib.AsyncExitStack, data_dir: Path) -> None:
        self.plugins = load_plugins(self._given_plugins)
        services = Services(
            clock=self.clock,
            base_url=self.base_url,
            data_dir=data_dir,
            http=self._egress.client if self._is_reachable() else self._http_for_handlers(),
            plugin_settings=self.settings.plugins,
        )
        self.providers = self.plugins.meeting_providers(services)
        for provider in self.providers.values():
            stack.push_async_callback(self._close_provider, provider)

    def _is_reachable(self) -> bool:
        """Whether the base URL leads here over the network, by the operator's own rules."""
        try:
            check_url(self.base_url, self._policy)
        except UrlRefused:
            return False
        return self._served

    def _http_for_handlers(self) -> httpx.AsyncClient:
        return new_http_client(Router({self.base_url: self.asgi}, elsewhere=self._egress.transport))

    def _make_jobs(self, ring: KeyRing) -> Jobs:
        jobs = Jobs(self.store, self.clock)
        follower = Follower(self.store, self.settings.meetings, self.providers)
        jobs.register(SPAWN, self.meetings.spawner.search)
        jobs.register(READ, follower.read)
        jobs.register(RENEW, follower.renew)
        jobs.register(LEAVE, follower.leave)
        jobs.register(DELIVER, Delivery(self.store, ring, self._send).deliver)
        return jobs

    async def _deploy_apps(self) -> None:
        for app in await self.tenants.apps():
            if app.folder:
                try:
                    await self.functions.deploy(app)
                except Exception:
                    log.exception("the functions of %s are not served", app.id)

    async def _start_work(self, stack: contextlib.AsyncExitStack) -> None:
        await self.store.recover()
        tasks = await stack.enter_async_context(_task_group())
        tasks.start_soon(self.jobs.run)
        tasks.start_soon(self._housekeeping)
        for provider in self.providers.values():
            tasks.start_soon(self._run_provider, provider)

    async def _housekeeping(self) -> None:
        """Return holds that the clock has given up, and forget what need not be kept, for accounts that are quiet."""
        while True:
            try:
                await self.ledger.sweep()
                await self.store.prune()
            except Exception:
                log.exception("housekeeping failed; it is tried again")
            await self.clock.sleep_until(self.clock.now_ms() + HOUSEKEEPING_MS)

    async def _run_provider(self, provider: MeetingProvider) -> None:
        try:
            await provider.run()
        except Exception:
            log.exception("the provider %s has stopped working by itself", provider.name)

    async def _close_provider(self, provider: MeetingProvider) -> None:
        try:
            await provider.aclose()
        except Exception:
            log.exception("the provider %s could not be closed", provider.name)

    def own_address(self, url: str) -> bool | None:
        """Whether a URL is this host's own: True for its function paths, False for its other paths, None elsewhere."""
        return _own_address(self.base_url, url)

    async def _send(
        self, url: str, *, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer:
        """The way out for deliveries; the host's own functions are reached in process where the network does not."""
        if self.own_address(url) and not self._is_reachable():
            return await self._send_inside(url, content, headers, timeout_s, max_answer_bytes)
        return await self._egress.post(
            url, content=content, headers=headers, timeout_s=timeout_s, max_answer_bytes=max_answer_bytes
        )

    async def _send_inside(
        self, url: str, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer:
        started_ms = self.clock.now_ms()
        try:
            with anyio.fail_after(timeout_s):
                async with self._http_for_handlers() as client:
                    response = await client.post(url, content=content, headers=dict(headers))
        except TimeoutError:
            raise EgressTimeout from None
        except httpx.HTTPError as error:
            raise EgressFailed("protocol", str(error)) from error
        took_ms = self.clock.now_ms() - started_ms
        return Answer(response.status_code, dict(response.headers), response.content[:max_answer_bytes], took_ms)

    async def download(self, url: str, *, limit_bytes: int, timeout_s: float = 30) -> bytes:
        """What a provider's link to an artifact gives; the host's own links are answered in process.

        Raises:
            ProviderTimeout: not all of it came in time.
            ProviderError: it cannot be reached, is refused, or is larger than `limit_bytes`.
        """
        try:
            with anyio.fail_after(timeout_s):
                async with self._http_for_handlers() as client, client.stream("GET", url) as response:
                    if response.status_code != 200:
                        raise ProviderError(f"The provider's link answered {response.status_code}.")
                    return await read_capped(response, limit_bytes=limit_bytes)
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderTimeout("The provider's link did not answer in time.") from None
        except (EgressFailed, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderError(f"The provider's link cannot be downloaded: {error}") from error

    async def context(self, app_id: str) -> Context:
        """A ctx for an app, outside of any handler. Raises `AppNotFound`."""
        return await self.functions.context(await self.tenants.app(app_id))

    async def invoke(self, app_id: str, name: str, request: Request) -> Response:
        """Call a function by its name, whatever its trigger says.

        Raises:
            AppNotFound, FunctionNotFound, HandlerFailed, HandlerTimeout
        """
        app = await self.tenants.app(app_id)
        return await self.functions.call(app, self.functions.registry.named(app_id, name), request, caller=None)

    async def deploy(self, app: App) -> None:
        """Serve an app's folder as it is now. Raises what `Functions.deploy` raises."""
        await self.functions.deploy(app)


@lru_cache(maxsize=1_024)  # asked at every delivery, and parsing costs more than signing
def _own_address(base_url: str, url: str) -> bool | None:
    own, other = httpx.URL(base_url), httpx.URL(url)
    if (own.scheme, own.host, own.port) != (other.scheme, other.host, other.port):
        return None
    parts = other.path.removeprefix(own.path.rstrip("/")).split("/")
    return parts[1:2] == ["fn"] or (parts[1:2] == ["v1"] and parts[3:4] == ["fn"])


@contextlib.asynccontextmanager
async def _task_group() -> AsyncIterator[TaskGroup]:
    """Tasks that end with the host: cancelled, not awaited, when it closes.

    What the body raises leaves as it is, not wrapped in a group: the body is the embedding program's code.
    """
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    try:
        yield tasks
    finally:
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)
