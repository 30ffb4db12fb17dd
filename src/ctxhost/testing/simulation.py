"""A whole host in one process, on a clock that is moved by hand: a call of three hours takes as long as its work does.

Nothing runs by itself. `run` does what is due (jobs, deliveries, renewals, the webhooks of providers that can be
driven) and jumps the clock to what comes next, so the same calls give the same outcome.
"""

import inspect
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from ctxhost.clock import ManualClock
from ctxhost.egress import Answer
from ctxhost.egress.guard import LOOPBACK
from ctxhost.host import Host
from ctxhost.meetings.model import MeetingBot
from ctxhost.meetings.requests import parse_start
from ctxhost.settings import EgressSettings, Settings
from ctxhost.store import queries
from ctxhost.store.rows import App
from ctxhost.tenants.secrets import new_key_text
from ctxhost.testing.inbox import Inbox
from ctxhost.webhooks.delivery import Send
from ctxhost.webhooks.requests import PutWebhook

FIVE_USD = 5_000_000_000
MAX_JUMPS = 20_000
"""A host that has not come to rest after so many jumps of the clock never will."""
MEETING_URL = "https://zoom.us/j/1234567890"
Condition = Callable[[], bool | Awaitable[bool]]


class NeverHappened(AssertionError):
    """All is quiet, and what was waited for has not come."""


@runtime_checkable
class Driven(Protocol):
    """A provider whose webhooks can be sent by hand; any other must send its own."""

    def next_event_ms(self) -> int | None:
        """When the next webhook is due to be sent; None: there is none to come."""
        ...

    async def deliver_due(self) -> int:
        """Send every webhook that is due now."""
        ...


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner with credit, an app and a service key."""

    account: str
    app: App
    key: str


class Simulation:
    """`async with Simulation(plugins=[…]) as sim:`; see the package for an example.

    Args:
        folder: where the database and the files are; left out, a temporary folder.
        plugins: the plugins that are loaded, and no others.
        plugin_settings: settings by plugin name.
        settings: any other settings of the host, by name.
        clock: a clock that several simulations share.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        plugins: Iterable[object] = (),
        plugin_settings: Mapping[str, Mapping[str, Any]] | None = None,
        clock: ManualClock | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or ManualClock()
        self._folder = folder
        self._plugins = list(plugins)
        self._given = {"plugins": {name: dict(given) for name, given in (plugin_settings or {}).items()}, **settings}
        self._inboxes: dict[str, Inbox] = {}
        self._files = AsyncExitStack()
        self._opened = AsyncExitStack()
        self._tenants = 0
        self.bots: list[str] = []
        """The ids of the bots that were started, oldest first."""

    @property
    def host(self) -> Host:
        """The host, with `work=False`."""
        return self._host

    async def __aenter__(self) -> Self:
        if self._folder is None:
            self._folder = Path(self._files.enter_context(tempfile.TemporaryDirectory(prefix="ctxhost-")))
        told: dict[str, Any] = {
            "database": self._folder / "ctxhost.db",
            "data_dir": self._folder / "data",
            "encryption_keys": new_key_text(),
            "rate_limits": False,
            "egress": EgressSettings(allow_http=True, allow_networks=LOOPBACK),
        }
        self.settings = Settings(**{**told, **self._given})
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()
        await self._files.aclose()

    async def _open(self) -> None:
        host = _SimulatedHost(self.settings, plugins=self._plugins, clock=self.clock, work=False)
        host.inboxes = self._inboxes
        self._host = await self._opened.enter_async_context(host)

    async def restart(self) -> None:
        """Close the host and open another one on the same files."""
        await self._opened.aclose()
        await self._open()
        await self._host.store.recover()

    async def open_tenant(self, name: str = "", *, credits_nano_usd: int = FIVE_USD) -> Tenant:
        """An account with top-up credit, an app and a key for it."""
        self._tenants += 1
        name = name or f"owner{self._tenants}"
        account = await self._host.ledger.open_account(name)
        if credits_nano_usd:
            await self._host.credits.grant(account.id, credits_nano_usd, key="first")
        app = await self._host.tenants.create_app(account.id, name)
        key, _ = await self._host.tenants.create_key(account.id, name=name)
        return Tenant(account.id, app, key)

    async def receive(self, tenant: Tenant, *, events: Sequence[str] | None = None, rotate: bool = False) -> Inbox:
        """Send the app's events to an inbox; asked for again it is the same inbox."""
        url = f"http://127.0.0.1/inbox/{tenant.app.id}"
        told: dict[str, Any] = {"forward_url": url, "rotate_secret": rotate}
        if events is not None:
            told["events"] = list(events)
        put = await self._host.webhooks.put(tenant.app, PutWebhook.model_validate(told))
        inbox = self._inboxes.setdefault(url, Inbox(url, ""))
        inbox.secret = put.secret or inbox.secret
        return inbox

    async def start(self, tenant: Tenant, *, idempotency_key: str | None = None, **request: Any) -> MeetingBot:
        """Send a bot, as `POST /v1/{app_id}/ai/meetings` does; `request` has that body's own names."""
        asked = parse_start({"meetingUrl": MEETING_URL, **request}, now_ms=self.clock.now_ms())
        started = await self._host.meetings.start(tenant.app, asked, idempotency_key=idempotency_key)
        self.bots.append(started.bot.id)
        return started.bot

    async def get(self, tenant: Tenant, bot: str) -> MeetingBot:
        """The bot as it is now."""
        return await self._host.meetings.get(tenant.app.id, bot)

    async def run(self, until: Condition | None = None, *, for_s: float | None = None) -> None:
        """Do what is due and move the clock to what comes next, until `until` holds, `for_s` is over or all is quiet.

        Raises:
            NeverHappened: `until` does not hold and there is nothing more to do, or no time; or it never gets quiet.
        """
        end_ms = None if for_s is None else self.clock.now_ms() + int(for_s * 1_000)
        for _ in range(MAX_JUMPS):
            await self.do_due()
            if until is not None and await _holds(until):
                return
            next_ms = await self.next_due_ms()
            if next_ms is None or (end_ms is not None and next_ms > end_ms):
                break
            self.clock.set(max(next_ms, self.clock.now_ms()))
        else:
            raise NeverHappened(f"It is not quiet after {MAX_JUMPS} jumps of the clock.")
        if end_ms is not None:
            self.clock.set(max(end_ms, self.clock.now_ms()))
        if until is not None:
            raise NeverHappened("It is quiet, and what was waited for has not come.")

    async def do_due(self) -> None:
        """Do everything that is due now, and what that makes due; the clock stands."""
        while True:
            done = await self._host.jobs.run_due()
            for provider in self._driven():
                due_ms = provider.next_event_ms()
                if due_ms is not None and due_ms <= self.clock.now_ms():
                    await provider.deliver_due()
                    done += 1
            if not done:
                return

    async def next_due_ms(self) -> int | None:
        """When the next thing is due; None: all is quiet."""
        jobs = await self._host.store.read(queries.jobs())
        due = [max(job.due_ms, job.claimed_until_ms) for job in jobs]
        events = [provider.next_event_ms() for provider in self._driven()]
        return min([*due, *(event_ms for event_ms in events if event_ms is not None)], default=None)

    def _driven(self) -> list[Driven]:
        return [provider for provider in self._host.providers.values() if isinstance(provider, Driven)]


class _SimulatedHost(Host):
    """Delivers to inboxes in process; every other way out is the host's own."""

    inboxes: Mapping[str, Inbox]

    def _way_of_deliveries(self) -> Send:
        return self._to_inbox

    async def _to_inbox(
        self, url: str, *, content: bytes, headers: Mapping[str, str], timeout_s: float, max_answer_bytes: int
    ) -> Answer:
        inbox = self.inboxes.get(url)
        if inbox is None:
            return await self.outgoing.send(
                url, content=content, headers=headers, timeout_s=timeout_s, max_answer_bytes=max_answer_bytes
            )
        status = await inbox.take(headers, content, at_ms=self.clock.now_ms())
        return Answer(status, inbox.answer_headers, b"", 0)


async def _holds(condition: Condition) -> bool:
    answer = condition()
    return bool(await answer) if inspect.isawaitable(answer) else bool(answer)
