"""What observers are given: one frozen record for each thing that has happened.

A record names things (an app, a bot, a command) and says how it went and how long it took. It never holds a body, a
URL, a secret, or what a tenant wrote. A field that has nothing to say is empty. Fields may be added in later versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRecord:
    """A command that was given to the store."""

    command: str
    """Its class, such as `StartBot` or `Charge`."""
    account: str
    outcome: str
    """`ok`, the code of its refusal, `error`, or `cancelled`: its caller stopped waiting before it was answered."""
    took_s: float
    """From asking to the answer: waiting for its batch included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A transaction that was committed, with all the commands that shared it."""

    commands: int
    lane: str
    """`main` on SQLite, `quick` or `patient` on PostgreSQL."""
    took_s: float
    charged_nano_usd: Mapping[str, int] = field(default_factory=dict)
    """What it charged, by purpose (`meetings`)."""
    provider_cost_nano_usd: Mapping[str, int] = field(default_factory=dict)
    """What it added to that which a provider will bill, by provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """An HTTP call that was answered."""

    operation: str
    """As in the OpenAPI document; empty where nothing answers."""
    route: str
    """The template of the path, such as `/v1/{app_id}/credits`."""
    function: str
    """The name of the function that was called."""
    app: str
    """Only once it is known that there is such an app."""
    method: str
    """`_OTHER` for one that HTTP does not know."""
    status: int
    """0: the client went away before there was an answer."""
    code: str
    """That of the error in the answer."""
    took_s: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRecord:
    """A function that was called, over HTTP or by `Host.invoke`."""

    app: str
    function: str
    outcome: str
    """`ok`, `handler_error`, `handler_timeout`, …, or `cancelled`: nobody waits for its answer any more."""
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One attempt to deliver a message to an app's webhook."""

    app: str
    bot: str
    message: str
    """Its `webhook-id`."""
    event: str
    status: int
    """0: no answer."""
    outcome: str
    """`delivered`, `http_503` and the like, or why there was no answer."""
    attempt: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One run of a job."""

    kind: str
    outcome: str
    """`ok`, a refusal's code, `error`, or `cancelled`: it took too long, or the host closed."""
    late_s: float
    """How long after it was due it began."""
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRecord:
    """One call of a provider's adapter."""

    provider: str
    operation: str
    """`create`, `find`, `read`, `leave`, …"""
    outcome: str
    """`ok`, a refusal's code, `unknown_bot`, `error`, or `cancelled`: it was not waited for any longer."""
    took_s: float


Record: TypeAlias = (
    WriteRecord | BatchRecord | CallRecord | FunctionRecord | DeliveryRecord | JobRecord | ProviderRecord
)
