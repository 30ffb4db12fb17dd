"""ctxhost: a function runtime whose `ctx` sends bots into meetings, paid from one prepaid ledger.

Embed it with `async with Host(Settings(…)) as host:`. What a provider plugin implements is in
`ctxhost.meetings.provider`, what verifies a webhook in `ctxhost.webhooks.signing`.
"""

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
from ctxhost.functions.context import Context
from ctxhost.functions.queryerror import QueryError
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.host import Host
from ctxhost.ledger.ledger import Balance
from ctxhost.meetings.model import MeetingBot
from ctxhost.money import NANO_PER_USD, parse_usd, usd_text
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
