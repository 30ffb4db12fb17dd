"""Recall.ai's meeting bots for ctxhost.

The provider is offered when there is a key: `MEETINGS_API_KEY` in the environment, or `plugins.recall.api_key`.
"""

from collections.abc import Callable

from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.provider import MeetingProvider
from ctxhost_recall.provider import RecallProvider
from ctxhost_recall.settings import NAME, read_settings


@hookimpl
def register_meeting_providers(register: Callable[[MeetingProvider], None], services: Services) -> None:
    settings = read_settings(services.plugin_settings.get(NAME, {}))
    if settings.api_key is not None:
        register(RecallProvider(services, settings))
