"""The host: every room put together, from its settings to its ASGI app."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ctxhost.ai.namespace import AI, MeetingsNamespace
from ctxhost.api import create_app
from ctxhost.api.metrics import Scrapes
from ctxhost.background import Background
from ctxhost.clock import Clock, SharedClock, WallClock
from ctxhost.egress import Egress, EgressPolicy
from ctxhost.errors import Overloaded, SettingsError
from ctxhost.functions.appdb import open_databases
from ctxhost.functions.context import Context
from ctxhost.functions.runtime import Functions
from ctxhost.hookspecs import Services
from ctxhost.jobs import Jobs
from ctxhost.ledger.ledger import Ledger
from ctxhost.meetings.commands import DELETE_MEDIA, LEAVE, READ, RENEW, SPAWN
from ctxhost.meetings.follow import Follower
from ctxhost.meetings.inbound import Inbound
from ctxhost.meetings.media import Eraser
from ctxhost.meetings.provider import MeetingProvider
from ctxhost.meetings.service import Meetings
from ctxhost.observe import Observer, Watch
from ctxhost.observe.metrics import Metrics
from ctxhost.observe.wrappers import watched_provider
from ctxhost.outgoing import Outgoing
from ctxhost.plugins import Plugins, load_plugins
from ctxhost.rates import SharedRates
from ctxhost.retention import Retention
from ctxhost.settings import Settings
from ctxhost.store import Store
from ctxhost.store.observed import observed
from ctxhost.store.open import open_store
from ctxhost.store.rows import App
from ctxhost.tenants.secrets import KeyRing
from ctxhost.tenants.service import Tenants
from ctxhost.webhooks.delivery import Delivery, Send
from ctxhost.webhooks.outbox import DELIVER
from ctxhost.webhooks.service import Webhooks

log = logging.getLogger("ctxhost")

HOUSEKEEPING_MS = 30_000
LAST_WRITES_S = 5
"""How long the store may take, when all else has ended, for the writes that wait."""
CLOSE_S = 10
"""How long closing may take of a store, or of a plugin, in a host that was cancelled."""


class Host:
    """One host. Use it as `async with Host(settings) as host:`.

    `plugins` left out loads the installed ones; a list loads exactly those. `observers` are told of what happens, like
    those of plugins: see `ctxhost.observe`. With `work=False` nothing runs by itself: a tool that only reads and
    writes, or a test that calls `host.jobs.run_due()`. With `served=True` the host is being reached at
    `settings.base_url` over the network, and plugins reach it there too; otherwise it answers in process.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    tenants: Tenants
    meetings: Meetings
    inbound: Inbound
    retention: Retention
    webhooks: Webhooks
    functions: Functions
    outgoing: Outgoing
    jobs: Jobs
    background: Background
    plugins: Plugins
    providers: Mapping[str, MeetingProvider]
    asgi: ASGIApp
    scrapes: Scrapes | None
    """What answers `GET /metrics`, when `settings.metrics_token` is set."""
    is_open = False
    """Whether everything is there that calls need: from the end of the opening on."""
    is_draining = False
    """Whether the host is stopping: what is under way is let out. See `start_draining`."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        plugins: Iterable[object] | None = None,
        observers: Iterable[Observer] = (),
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
        self._given_observers = tuple(observers)
        self.watch = Watch()
        self.scrapes = None
        self._stack = contextlib.AsyncExitStack()
        self._drain = anyio.CancelScope()

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
        self.is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. What is under way may end within `settings.drain_s`, unless the block was left by an exception."""
        self.start_draining()
        if kind is not None:
            self._drain.deadline = anyio.current_time()
        async with self._stack:
            with self._drain:
                await self.jobs.idle()
                await self.background.idle()

    def start_draining(self) -> None:
        """Begin to close: no job is begun from now on, and what is under way has `settings.drain_s` left.

        Leaving the block does it; call it before when something else, such as a server, must end first.
        """
        if self.is_draining:
            return
        self.is_draining = True
        # A clock that is moved by hand may stand still from now on, and what waits for it would never end.
        drain_s = self.settings.drain_s if isinstance(self.clock, WallClock) else 0
        self._drain.deadline = anyio.current_time() + drain_s
        self.jobs.stop()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        ring = self._key_ring()
        data_dir = self.settings.data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.asgi = create_app(self)
        policy = EgressPolicy(
            allow_http=self.settings.egress.allow_http, allow_networks=self.settings.egress.allow_networks
        )
        store = await open_store(
            self.settings.database, clock=self._given_clock, is_pooled=self.settings.database_pooled
        )
        self.store = observed(store, self.watch)
        if self._given_clock is None:
            self.clock = SharedClock(store.now_ms)
        stack.push_async_callback(_close, partial(self.store.aclose, drain_s=LAST_WRITES_S))
        self.outgoing = Outgoing(
            await stack.enter_async_context(Egress(policy)),
            policy,
            self.asgi,
            base_url=self.base_url,
            served=self._served,
            is_draining=lambda: self.is_draining,
            now_ms=self.clock.now_ms,
        )
        databases = await open_databases(
            self.settings.apps_database, data_dir / "apps", clock=self.clock, ledger=self.settings.database
        )
        stack.push_async_callback(_close, databases.aclose)
        self.background = background = Background(await stack.enter_async_context(_task_group()))
        self.ledger = Ledger(self.store)
        self.retention = Retention(self.store, self.settings.retention, self.clock)
        self.tenants = Tenants(self.store, ring)
        await self._open_providers(stack, data_dir)
        providers = self._watched_providers()
        self.meetings = Meetings(self.store, self.ledger, self.settings.meetings, providers, background)
        self.inbound = Inbound(self.store, providers)
        self.webhooks = Webhooks(self.store, ring, policy, self.outgoing.own_address, background)
        self.functions = Functions(
            tenants=self.tenants,
            databases=databases,
            background=background,
            clock=self.clock,
            base_url=self.base_url,
            make_ai=lambda app: AI(MeetingsNamespace(self.meetings, app, self.clock.now_ms)),
            make_http=self.outgoing.client,
            watch=self.watch,
        )
        self.jobs = self._make_jobs(ring, providers)
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
            http=self.outgoing.shared_client(),
            plugin_settings=self.settings.plugins,
            rate=SharedRates(self.store, self.clock).open,
        )
        self.providers = self.plugins.meeting_providers(services)
        for provider in self.providers.values():
            stack.push_async_callback(self._close_provider, provider)
        self._open_observers(services)

    def _open_observers(self, services: Services) -> None:
        observers = [*self._given_observers, *self.plugins.observers(services)]
        if self.settings.metrics_token is not None:
            metrics = Metrics(self.store.waiting)
            self.scrapes = Scrapes(self, metrics)
            observers.append(metrics)
        for observer in observers:
            self.watch.add(observer)
        self.watch.open_traces()
        if observers:
            self.store.on_batch(self.watch.tell)

    def _watched_providers(self) -> Mapping[str, MeetingProvider]:
        """The providers as the host's own rooms call them."""
        return {name: watched_provider(provider, self.watch) for name, provider in self.providers.items()}

    def _make_jobs(self, ring: KeyRing, providers: Mapping[str, MeetingProvider]) -> Jobs:
        jobs = Jobs(self.store, self.clock, self.watch)
        follower = Follower(self.store, self.settings.meetings, providers)
        jobs.register(SPAWN, self.meetings.spawner.search)
        jobs.register(READ, follower.read)
        jobs.register(RENEW, follower.renew)
        jobs.register(LEAVE, follower.leave)
        jobs.register(DELETE_MEDIA, Eraser(self.store, providers).delete)
        delivery = Delivery(
            self.store, ring, self._way_of_deliveries(), is_stopped=lambda: jobs.is_stopped, watch=self.watch
        )
        jobs.register(DELIVER, delivery.deliver)
        return jobs

    def _way_of_deliveries(self) -> Send:
        return self.outgoing.send

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
        tasks.start_soon(self.retention.run)
        for provider in self.providers.values():
            tasks.start_soon(self._run_provider, provider)

    async def _housekeeping(self) -> None:
        """Return holds that the clock has given up, for accounts that are quiet."""
        while True:
            try:
                await self.ledger.sweep()
            except Overloaded as error:
                log.warning("housekeeping waits: %s", error)
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
            await _close(provider.aclose)
        except Exception:
            log.exception("the provider %s could not be closed", provider.name)

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


async def _close(aclose: Callable[[], Awaitable[None]]) -> None:
    """Close properly although the host may be cancelled; but nothing may keep it for long."""
    with anyio.fail_after(CLOSE_S, shield=True):
        await aclose()


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
