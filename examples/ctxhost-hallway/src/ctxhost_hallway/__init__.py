"""Hallway's meeting bots for ctxhost. The provider is offered when `plugins.hallway.api_key` is set."""

from collections.abc import Callable

from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import MeetingProvider
from ctxhost_hallway.provider import HallwayProvider
from ctxhost_hallway.settings import read_settings


@hookimpl
def register_meeting_providers(register: Callable[[MeetingProvider], None], services: Services) -> None:
    settings = read_settings(services.plugin_settings.get("hallway", {}))
    if settings.api_key is not None:
        register(HallwayProvider(services, settings))
