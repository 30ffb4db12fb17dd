"""Finding plugins and collecting what they offer. A broken plugin is reported by name; the host lives."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

import pluggy

from ctxhost import hookspecs
from ctxhost.errors import PluginError
from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import API_VERSION, MeetingProvider
from ctxhost.observe import Observer
from ctxhost.observe.observers import check_observer

log = logging.getLogger("ctxhost.plugins")

GROUP = "ctxhost"

# A plugin that calls sys.exit() is broken too, and must not take the host with it.
_FAULTS = (Exception, SystemExit)


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be used, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFacts:
    """A plugin as it was found. `distribution` and `version` are empty for one that was not installed but given."""

    name: str
    distribution: str
    version: str
    hooks: Sequence[str]
    providers: Sequence[str]
    """What it offered when it was asked; none when its key is not set."""


class Plugins:
    """The plugins of one host."""

    def __init__(self, manager: pluggy.PluginManager, broken: Iterable[BrokenPlugin]) -> None:
        self._manager = manager
        self._broken = list(broken)
        self._origins: dict[str, EntryPoint] = {}
        self._offers: dict[str, Sequence[str]] = {}

    @property
    def broken(self) -> tuple[BrokenPlugin, ...]:
        return tuple(self._broken)

    @property
    def names(self) -> list[str]:
        return sorted(name for name, plugin in self._manager.list_name_plugin() if plugin is not None)

    @property
    def found(self) -> Sequence[PluginFacts]:
        """Every plugin that was found, by name, the broken ones included."""
        names = {*self.names, *self._origins, *(broken.name for broken in self._broken)}
        return [self._facts(name) for name in sorted(names)]

    def _facts(self, name: str) -> PluginFacts:
        origin, plugin = self._origins.get(name), self._manager.get_plugin(name)
        callers = (self._manager.get_hookcallers(plugin) or ()) if plugin is not None else ()
        return PluginFacts(
            name=name,
            distribution=origin.dist.name if origin and origin.dist else "",
            version=origin.dist.version if origin and origin.dist else "",
            hooks=sorted(caller.name for caller in callers),
            providers=self._offers.get(name, ()),
        )

    def load_installed(self) -> None:
        """Load every installed plugin, each under its own guard."""
        for point in entry_points(group=GROUP):
            if point.name in self._origins:
                self._report(point.name, PluginError(f"{_origin(point)} offers a plugin of a name that is taken"))
                continue
            self._origins[point.name] = point
            try:
                self.add(point.load(), name=point.name)
            except _FAULTS as error:
                self._report(point.name, error, origin=_origin(point))

    def add(self, plugin: object, *, name: str) -> None:
        """Take a plugin in.

        Raises:
            PluginError: it implements a hook, or takes an argument, that does not exist, or its name is taken.
        """
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(name=name)
            raise PluginError(str(error)) from error
        except ValueError as error:
            raise PluginError(f"there are two plugins named {name!r}") from error

    def meeting_providers(self, services: Services) -> Mapping[str, MeetingProvider]:
        """Every provider on offer, by name. Each plugin is called under its own guard."""
        found: dict[str, MeetingProvider] = {}
        for name, plugin in self._manager.list_name_plugin():
            try:
                offered = self._offered_by(plugin, services, found)
                self._offers[name] = sorted(offered)
                found |= offered
            except _FAULTS as error:
                self._report(name, error)
        return MappingProxyType(found)

    def _offered_by(
        self, plugin: object, services: Services, taken: Mapping[str, MeetingProvider]
    ) -> dict[str, MeetingProvider]:
        hook = self._hook_of(plugin, "register_meeting_providers")
        offered: dict[str, MeetingProvider] = {}

        def register(provider: MeetingProvider) -> None:
            _check_provider(provider, {**taken, **offered})
            offered[provider.name] = provider

        hook(register=register, services=services)
        return offered

    def observers(self, services: Services) -> Sequence[Observer]:
        """Every observer on offer. Each plugin is called under its own guard."""
        found: list[Observer] = []
        for name, plugin in self._manager.list_name_plugin():
            offered: list[Observer] = []

            def register(observer: Observer, offered: list[Observer] = offered) -> None:
                check_observer(observer)
                offered.append(observer)

            try:
                self._hook_of(plugin, "register_observers")(register=register, services=services)
                found += offered
            except _FAULTS as error:
                self._report(name, error)
        return found

    def _hook_of(self, plugin: object, hook: str) -> pluggy.HookCaller:
        """A hook of this plugin alone."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        return self._manager.subset_hook_caller(hook, others)

    def _report(self, name: str, error: BaseException, *, origin: str = "") -> None:
        log.error("plugin %s is left out: %s", name, error, exc_info=error)
        self._broken.append(BrokenPlugin(name, f"{type(error).__name__}: {error}{origin and f' (from {origin})'}"))


def load_plugins(given: Iterable[object] | None = None) -> Plugins:
    """Plugins from the installed distributions, or exactly those given.

    Raises:
        PluginError: one of those given implements a hook, or takes an argument, that does not exist. An installed one
            is reported as broken.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, [])
    if given is None:
        plugins.load_installed()
    else:
        for plugin in given:
            plugins.add(plugin, name=_name_of(plugin))
    return plugins


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def _name_of(plugin: object) -> str:
    return getattr(plugin, "__name__", type(plugin).__name__)


def _check_provider(provider: MeetingProvider, taken: Mapping[str, MeetingProvider]) -> None:
    if provider.name in taken:
        raise PluginError(f"there are two meeting providers named {provider.name!r}")
    if provider.api_version != API_VERSION:
        raise PluginError(f"{provider.name} speaks version {provider.api_version}; this host speaks {API_VERSION}")
