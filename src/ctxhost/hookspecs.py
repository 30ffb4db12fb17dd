"""The hooks that a plugin may implement. They are synchronous and only collect; what they collect is async.

A plugin is a distribution with an entry point in the group `ctxhost`. Implementations take the arguments they need by
name and give none a default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pluggy

from ctxhost.clock import Clock
from ctxhost.meetings.provider import MeetingProvider

hookspec = pluggy.HookspecMarker("ctxhost")
hookimpl = pluggy.HookimplMarker("ctxhost")


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


@hookspec
def register_meeting_providers(register: Callable[[MeetingProvider], None], services: Services) -> None:
    """Offer meeting providers. Called once, while the host starts.

    Call `register(adapter)` once per adapter; offer none when the adapter's key is not set. A name that is taken, or an
    `api_version` that this host does not speak, raises `PluginError`. An exception disables this plugin alone: the host
    reports it and starts.
    """
