"""Every error a caller can meet: one root, facts as fields, a stable code.

CtxhostError
├── SettingsError            the host cannot start as it is configured
├── StoreError               the database refuses: too new, damaged, in use
├── PluginError              a plugin broke its contract
├── HandlerError             a handler failed, or did not answer in time
├── RateExceeded             a rate has no permit in time
└── Refusal                  an answer: an HTTP status, an OpenAI-shaped type, a code, a next step
    ├── RateLimited 429  MissingCredentials InvalidApiKey 401  NotAuthorized InsufficientScope 403
    ├── AppNotFound BotNotFound NotFound 404  MethodNotAllowed 405
    ├── PayloadTooLarge 413  InvalidRequest 400
    ├── IdempotencyConflict LedgerConflict 409  InsufficientCredits 402
    ├── ProviderUnavailable 501  ProviderError 502  ProviderBusy 503  ProviderTimeout 504
    ├── HandlerFailed 500  HandlerTimeout 504  Overloaded 503
    └── InternalError 500
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict

from ctxhost.money import usd_number


class CtxhostError(Exception):
    """The root of every error that this package raises on purpose."""


class SettingsError(CtxhostError):
    """The host cannot start as it is configured; the message says which setting to mend."""


class StoreError(CtxhostError):
    """The database cannot be used: newer than the code, damaged, or not writable."""


class PluginError(CtxhostError):
    """A plugin broke its contract; the message names it."""


class RateExceeded(CtxhostError):
    """A rate that hosts share has no permit before the caller's deadline; nothing was taken."""

    def __init__(self, *, wait_s: float) -> None:
        super().__init__(f"the next call may be made in {wait_s:.0f} s")
        self.wait_s = wait_s


class Detail(TypedDict):
    """One thing that is wrong with a request; `path` starts with the wire name of the field."""

    path: Sequence[str | int]
    message: str
    code: str


class Refusal(CtxhostError):
    """A refused call. Nothing was changed."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str] = "internal_error"
    remediation: str = "Retry with backoff; if it persists, tell the operator the x-request-id of this response."

    def __init__(self, message: str, *, remediation: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        if remediation is not None:
            self.remediation = remediation

    def facts(self) -> Mapping[str, Any]:
        """What this refusal adds to `error` beyond message, type, code and remediation."""
        return {}

    def headers(self) -> Mapping[str, str]:
        """Response headers that belong to this refusal."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


class InternalError(Refusal):
    """The host failed; the log has the traceback under the response's x-request-id."""


class RateLimited(Refusal):
    status, type, code = 429, "rate_limit_error", "rate_limited"
    remediation = "Wait for the seconds in Retry-After, then call again."


class MissingCredentials(Refusal):
    status, type, code = 401, "authentication_error", "missing_credentials"
    remediation = "Send the header `Authorization: Bearer bb_sk_…` with a service key of the app's owner."


class InvalidApiKey(Refusal):
    status, type, code = 401, "authentication_error", "invalid_api_key"
    remediation = "Check that the key is complete and was not revoked, or create a new one with `ctxhost keys create`."


class NotAuthorized(Refusal):
    status, type, code = 403, "permission_error", "not_authorized"
    remediation = "Use a service key that belongs to the owner of this app."


class InsufficientScope(Refusal):
    status, type, code = 403, "permission_error", "insufficient_scope"
    remediation = "Use a key with the scope `ai:gateway` or `*`."


class NotFound(Refusal):
    status, type, code = 404, "invalid_request_error", "not_found"
    remediation = "Compare the path with the API's own description at /openapi.json."


class AppNotFound(NotFound):
    code = "app_not_found"
    remediation = "Check the app id in the path; `ctxhost apps list` shows the ones there are."


class BotNotFound(NotFound):
    code = "bot_not_found"
    remediation = "Check the bot id; GET /v1/{app_id}/ai/meetings lists this app's bots."


class MethodNotAllowed(Refusal):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"
    remediation = "Use one of the methods that the Allow header names."

    def __init__(self, message: str, *, allow: Sequence[str]) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> Mapping[str, str]:
        return {"allow": ", ".join(self.allow)}


class PayloadTooLarge(Refusal):
    status, type, code = 413, "invalid_request_error", "payload_too_large"
    remediation = "Send a smaller body."


class InvalidRequest(Refusal):
    """The only 400; `details` is never empty."""

    status, type, code = 400, "invalid_request_error", "invalid_request"
    remediation = "Correct the fields that error.details names, then call again."

    def __init__(self, message: str, *, details: Sequence[Detail]) -> None:
        super().__init__(message)
        self.details = list(details)

    @classmethod
    def of(cls, field: str, message: str, code: str) -> "InvalidRequest":
        """A refusal of one field."""
        return cls(f"{field}: {message}", details=[{"path": [field], "message": message, "code": code}])

    def facts(self) -> Mapping[str, Any]:
        return {"details": [{**detail, "path": list(detail["path"])} for detail in self.details]}


class IdempotencyConflict(Refusal):
    status, type, code = 409, "invalid_request_error", "idempotency_conflict"
    remediation = "Repeat the first request unchanged, or use a new Idempotency-Key for a different one."


class LedgerConflict(Refusal):
    """A ledger key was used before with another value; `field` is the first that differs."""

    status, type, code = 409, "invalid_request_error", "ledger_conflict"
    remediation = "Use a new key for a new operation."

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field

    def facts(self) -> Mapping[str, Any]:
        return {"field": self.field}


class InsufficientCredits(Refusal):
    """The account cannot cover a hold."""

    status, type, code = 402, "billing_error", "insufficient_credits"
    remediation = "Add credit to the account, or wait for open leases to return theirs."

    def __init__(self, *, required_nano_usd: int, available_nano_usd: int) -> None:
        required, available = usd_number(required_nano_usd), usd_number(available_nano_usd)
        super().__init__(f"This needs ${required} of credit held up front; ${available} is available.")
        self.required_nano_usd = required_nano_usd
        self.available_nano_usd = available_nano_usd

    def facts(self) -> Mapping[str, Any]:
        return {
            "required_usd": usd_number(self.required_nano_usd),
            "available_usd": usd_number(self.available_nano_usd),
        }


class ProviderUnavailable(Refusal):
    """No adapter for the primitive is installed and configured here."""

    status, code = 501, "provider_unavailable"
    remediation = "Ask the operator to configure a provider plugin for this primitive."


class ProviderError(Refusal):
    """The provider refused or answered nonsense."""

    status, code = 502, "provider_error"
    remediation = "Retry with backoff; if it persists, ask the operator to look at the provider."


class ProviderBusy(Refusal):
    """The provider has no room right now."""

    status, code = 503, "provider_busy"
    remediation = "Wait for the seconds in Retry-After, then call again."


class ProviderTimeout(Refusal):
    """The provider did not answer in time."""

    status, code = 504, "provider_timeout"


class HandlerFailed(Refusal):
    """A handler raised, or returned something that is not a response."""

    status, code = 500, "handler_error"
    remediation = "Look at the function's log; it has the traceback."


class HandlerTimeout(Refusal):
    """A handler did not answer within its timeout."""

    status, code = 504, "handler_timeout"
    remediation = "Move slow work to ctx.wait_until, or raise the function's timeout_s."


class Overloaded(Refusal):
    """The host is full; nothing was written."""

    status, code = 503, "overloaded"
    remediation = "Wait for the seconds in Retry-After, then call again."

    def __init__(self, message: str = "The host is busy.", *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
