"""Finding plugins and collecting what they offer. A broken plugin is reported by name; the host lives."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

import pluggy

from ctxhost import hookspecs
from ctxhost.errors import PluginError
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import API_VERSION, MeetingProvider

log = logging.getLogger("ctxhost.plugins")

GROUP = "ctxhost"


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be used, and why."""

    name: str
    why: str


class Plugins:
    """The plugins of one host."""

    def __init__(self, manager: pluggy.PluginManager, broken: Iterable[BrokenPlugin]) -> None:
        self._manager = manager
        self._broken = list(broken)

    @property
    def broken(self) -> tuple[BrokenPlugin, ...]:
        return tuple(self._broken)

    @property
    def names(self) -> list[str]:
        return sorted(name for name, plugin in self._manager.list_name_plugin() if plugin is not None)

    def meeting_providers(self, services: Services) -> Mapping[str, MeetingProvider]:
        """Every provider on offer, by name. Each plugin is called under its own guard."""
        found: dict[str, MeetingProvider] = {}
        for name, plugin in self._manager.list_name_plugin():
            try:
                found |= self._offered_by(plugin, services, found)
            except Exception as error:  # noqa: BLE001 - one plugin's fault stays its own
                self._report(name, error)
        return MappingProxyType(found)

    def _offered_by(
        self, plugin: object, services: Services, taken: Mapping[str, MeetingProvider]
    ) -> dict[str, MeetingProvider]:
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        hook = self._manager.subset_hook_caller("register_meeting_providers", others)
        offered: dict[str, MeetingProvider] = {}

        def register(provider: MeetingProvider) -> None:
            _check_provider(provider, {**taken, **offered})
            offered[provider.name] = provider

        hook(register=register, services=services)
        return offered

    def _report(self, name: str, error: Exception) -> None:
        log.exception("plugin %s is left out: %s", name, error, exc_info=error)
        self._broken.append(BrokenPlugin(name, f"{type(error).__name__}: {error}"))


def load_plugins(given: Iterable[object] | None = None) -> Plugins:
    """Plugins from the installed distributions, or exactly those given.

    Raises:
        PluginError: an implementation names a hook or an argument that does not exist.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    broken: list[BrokenPlugin] = []
    if given is not None:
        for plugin in given:
            manager.register(plugin, name=_name_of(plugin))
    else:
        broken = [problem for point in entry_points(group=GROUP) if (problem := _load(manager, point)) is not None]
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(str(error)) from error
    return Plugins(manager, broken)


def _load(manager: pluggy.PluginManager, point: EntryPoint) -> BrokenPlugin | None:
    try:
        manager.register(point.load(), name=point.name)
    except Exception as error:
        distribution = point.dist.name if point.dist else "an unknown distribution"
        log.exception("plugin %s of %s cannot be loaded", point.name, distribution)
        return BrokenPlugin(point.name, f"{type(error).__name__}: {error} (from {distribution})")
    return None


def _name_of(plugin: object) -> str:
    return getattr(plugin, "__name__", type(plugin).__name__)


def _check_provider(provider: MeetingProvider, taken: Mapping[str, MeetingProvider]) -> None:
    if provider.name in taken:
        raise PluginError(f"there are two meeting providers named {provider.name!r}")
    if provider.api_version != API_VERSION:
        raise PluginError(f"{provider.name} speaks version {provider.api_version}; this host speaks {API_VERSION}")
