"""ctxhost: a function runtime whose `ctx` sends bots into meetings, paid from one prepaid ledger.

Embed it with `async with Host(Settings(…)) as host:`. What a provider plugin implements is in
`ctxhost.meetings.provider`, what verifies a webhook in `ctxhost.webhooks.signing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ctxhost.clock import Clock, ManualClock, WallClock
from ctxhost.errors import (
    AppNotFound,
    BotNotFound,
    CtxhostError,
    HandlerFailed,
    HandlerTimeout,
    IdempotencyConflict,
    InsufficientCredits,
    InsufficientScope,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    LedgerConflict,
    MethodNotAllowed,
    MissingCredentials,
    NotAuthorized,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PluginError,
    ProviderBusy,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateExceeded,
    RateLimited,
    Refusal,
    SettingsError,
    StoreError,
)
from ctxhost.functions.queryerror import QueryError
from ctxhost.money import NANO_PER_USD, parse_usd, usd_text

if TYPE_CHECKING:
    from ctxhost.functions.context import Context
    from ctxhost.hookspecs import Services, hookimpl
    from ctxhost.host import Host
    from ctxhost.ledger.ledger import Balance
    from ctxhost.meetings.model import MeetingBot
    from ctxhost.settings import EgressSettings, MeetingSettings, RetentionSettings, Settings
    from ctxhost.tenants.secrets import new_key_text

__all__ = [
    "NANO_PER_USD",
    "AppNotFound",
    "Balance",
    "BotNotFound",
    "Clock",
    "Context",
    "CtxhostError",
    "EgressSettings",
    "HandlerFailed",
    "HandlerTimeout",
    "Host",
    "IdempotencyConflict",
    "InsufficientCredits",
    "InsufficientScope",
    "InternalError",
    "InvalidApiKey",
    "InvalidRequest",
    "LedgerConflict",
    "ManualClock",
    "MeetingBot",
    "MeetingSettings",
    "MethodNotAllowed",
    "MissingCredentials",
    "NotAuthorized",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "PluginError",
    "ProviderBusy",
    "ProviderError",
    "ProviderTimeout",
    "ProviderUnavailable",
    "QueryError",
    "RateExceeded",
    "RateLimited",
    "Refusal",
    "RetentionSettings",
    "Services",
    "Settings",
    "SettingsError",
    "StoreError",
    "WallClock",
    "hookimpl",
    "new_key_text",
    "parse_usd",
    "usd_text",
]

_ON_DEMAND = {
    "Balance": "ctxhost.ledger.ledger",
    "Context": "ctxhost.functions.context",
    "EgressSettings": "ctxhost.settings",
    "Host": "ctxhost.host",
    "MeetingBot": "ctxhost.meetings.model",
    "MeetingSettings": "ctxhost.settings",
    "RetentionSettings": "ctxhost.settings",
    "Services": "ctxhost.hookspecs",
    "Settings": "ctxhost.settings",
    "hookimpl": "ctxhost.hookspecs",
    "new_key_text": "ctxhost.tenants.secrets",
}
"""Names that are imported when they are first used: whoever needs an error or an amount does not load a whole host."""

if not TYPE_CHECKING:  # a type checker would take it for a promise that any name is there

    def __getattr__(name: str) -> object:
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_ON_DEMAND[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
