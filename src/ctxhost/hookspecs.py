"""The hooks that a plugin may implement. They are synchronous and only collect; what they collect is async.

A plugin is a distribution with an entry point in the group `ctxhost`. Implementations take the arguments they need by
name and give none a default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pluggy

from ctxhost.clock import Clock
from ctxhost.meetings.provider import MeetingProvider
from ctxhost.observe import Observer

hookspec = pluggy.HookspecMarker("ctxhost")
hookimpl = pluggy.HookimplMarker("ctxhost")


class Rate(Protocol):
    """So many calls in any window, and no more."""

    async def acquire(self, *, timeout_s: float) -> None:
        """Take a permit for one call that is made now, waiting for it as long as it may.

        Raises:
            RateExceeded: there is none in time; `wait_s` says when there may be.
        """
        ...


class OpenRate(Protocol):
    def __call__(self, name: str, *, limit: int, window_s: int) -> Rate:
        """A rate by its name, such as `acme/create`: at most `limit` calls in any window of `window_s` seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a host lends to its plugins."""

    clock: Clock
    base_url: str
    """Where this host is reached, without a trailing slash."""
    data_dir: Path
    """A folder for files that must outlive the process. It exists."""
    http: httpx.AsyncClient
    """A shared client. Requests to `base_url` may be answered in process."""
    plugin_settings: Mapping[str, Mapping[str, Any]]
    """Settings by plugin name, as the operator wrote them."""
    rate: OpenRate
    """Opens a rate that all hosts of one store share by its name."""


@hookspec
def register_meeting_providers(register: Callable[[MeetingProvider], None], services: Services) -> None:
    """Offer meeting providers. Called once, while the host starts.

    Call `register(adapter)` once per adapter; offer none when the adapter's key is not set. A name that is taken, or an
    `api_version` that this host does not speak, raises `PluginError`. An exception disables this plugin alone: the host
    reports it and starts.
    """


@hookspec
def register_observers(register: Callable[[Observer], None], services: Services) -> None:
    """Be told of what happens. Called once, while the host starts, after the providers were collected.

    Call `register(observer)` with a plain function of one record (see `ctxhost.observe`). It is called after the fact,
    on the host's event loop, and must not block. What it raises is logged, and nobody else notices. OpenTelemetry may
    be configured here too: traces go to the tracer provider that the process has when all plugins have been asked.
    """
