"""What the API answers, as its description tells it; the order is that on the wire."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ctxhost.meetings.requests import BotStatus
from ctxhost.webhooks.requests import WebhookEvent


def _tidy(schema: dict[str, Any]) -> None:
    schema.pop("title", None)
    for prop in schema.get("properties", {}).values():
        prop.pop("title", None)


class Answered(BaseModel):
    """Every field is always there."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", json_schema_extra=_tidy)


class CamelAnswered(Answered):
    """One whose names are camelCase on the wire."""

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel)


class MeetingBot(CamelAnswered):
    """A meeting bot."""

    id: str
    status: BotStatus
    status_reason: str | None = Field(description="Why it ended, machine-readable.")
    started_at: str | None = Field(description="When it was admitted.")
    completed_at: str | None = Field(description="When it left the call.")
    duration_seconds: int | None = Field(description="The billed seconds.")
    recording_url: str | None = Field(description="Downloads without credentials; short-lived.")
    transcript_url: str | None = Field(description="Recall's transcript JSON; short-lived.")
    bot_name: str
    metadata: dict[str, str] = Field(description="Your own strings, as they were sent.")
    meeting_url: str
    platform: str
    provider: str
    created_at: str


class BotList(Answered):
    """A page of bots."""

    bots: list[MeetingBot]
    next_cursor: str | None = Field(alias="nextCursor", description="Null on the last page.")


class Estimated(Answered):
    """What a session would cost."""

    usd: float


class UsageRow(Answered):
    """One charge: a dimension of a completed session."""

    id: str
    dimension: str
    seconds: int
    usd_charged: str = Field(description="A decimal with six places.")
    created_at: str


class Usage(Answered):
    """The last 100 charges, newest first."""

    rows: list[UsageRow]


class Availability(Answered):
    """Whether there is a provider of meeting bots."""

    available: bool


class HistoryEvent(CamelAnswered):
    """Something that happened to a bot."""

    event: str
    sub_code: str | None
    at: str


class BotEvents(Answered):
    """A bot's history, oldest first."""

    events: list[HistoryEvent]


class WebhookPut(Answered):
    """The endpoint as it was set."""

    ok: Literal[True]
    app_id: str
    forward_url: str
    secret: str | None = Field(description="Only when it was made by this call; shown once.")


class Webhook(Answered):
    """Where an app's events go."""

    app_id: str
    forward_url: str
    events: list[WebhookEvent]
    status: Literal["active", "failing", "disabled"]
    failing_since: str | None
    disabled_at: str | None
    updated_at: str


class DeliveryAttempt(Answered):
    """One request to an endpoint."""

    at: str
    url: str
    status: int | None = Field(description="The answer's HTTP status; null when there was none.")
    outcome: str = Field(description="`delivered`, or what went wrong.")
    answer: str = Field(description="The first bytes of the answer's body.")
    took_ms: int


class Delivery(Answered):
    """An event that an endpoint is owed. `id` is the `webhook-id` of every attempt."""

    id: str
    event: str
    bot_id: str | None
    state: Literal["queued", "delivered", "dead"]
    created_at: str
    done_at: str | None
    attempts: list[DeliveryAttempt]


class DeliveryList(Answered):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None = Field(alias="nextCursor", description="Null on the last page.")


class Owed(Answered):
    """A message that was queued."""

    id: str
    event: str
    state: Literal["queued"]


class AllowancePool(Answered):
    """The part of the balance that is replaced on the first of each month, and is drawn first."""

    balance_usd: float
    monthly_usd: float
    period: str = Field(description="The UTC month it is of.")


class CreditsPool(Answered):
    """What was topped up."""

    balance_usd: float


class Pools(Answered):
    """What the balance is made of."""

    allowance: AllowancePool
    credits: CreditsPool


class OpenLease(Answered):
    """Credit that is held for work under way."""

    id: str
    app_id: str
    purpose: str
    held_usd: float
    dimensions: list[str] = Field(description="The lines that it may still be charged for.")
    created_at: str
    paid_until: str
    gives_up_at: str = Field(description="When the hold returns, if nothing is heard of the work.")


class Credits(Answered):
    """The account that pays for this app."""

    balance_usd: float
    held_usd: float
    available_usd: float = Field(description="What a new hold may take.")
    pools: Pools
    open_leases: list[OpenLease]


class JournalEntry(Answered):
    """One line of the journal: what changed a pool."""

    id: str
    kind: Literal["grant", "charge", "reset", "adjust", "refund"]
    amount_usd: float = Field(description="What was added; negative when taken. The sum of the next two.")
    allowance_usd: float
    credits_usd: float
    app_id: str | None
    lease_id: str | None
    purpose: str | None
    dimension: str | None
    quantity: int | None = Field(description="What the dimension counts: seconds, tokens, …")
    mark: Literal["over", "late"] | None
    note: str | None
    created_at: str


class Journal(Answered):
    """A page of the journal, newest first."""

    entries: list[JournalEntry]
    next_cursor: str | None = Field(alias="nextCursor", description="Null on the last page.")


class Alive(Answered):
    """The host answers."""

    status: Literal["ok"]


class HealthCheck(Answered):
    """One thing that was looked at."""

    name: Literal["open", "serving", "database"]
    ok: bool
    took_ms: int


class Ready(Answered):
    """The host takes work."""

    status: Literal["ready"]
    checks: list[HealthCheck]
