"""A meeting provider that lives on the user's machine: scripted bots, signed webhooks, playable artifacts.

It offers itself only when the operator has set `plugins.fake.enabled`.
"""

from collections.abc import Callable

from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import MeetingProvider
from ctxhost_fake.provider import NAME, FakeProvider
from ctxhost_fake.settings import read_settings


@hookimpl
def register_meeting_providers(register: Callable[[MeetingProvider], None], services: Services) -> None:
    settings = read_settings(services.plugin_settings.get(NAME, {}))
    if settings.enabled:
        register(FakeProvider(services, settings))
