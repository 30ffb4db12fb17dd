"""What callers may ask of an app's webhook: a strict model, and refusals that name the field."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ctxhost.wire import LEFT_OUT, HttpUrl, Wire, read, split_http_url

WebhookEvent = Literal[
    "bot.in_call_recording",
    "bot.done",
    "bot.fatal",
    "recording.done",
    "transcript.done",
    "transcript.failed",
    "bot.joining_call",
    "bot.in_waiting_room",
    "bot.in_call_not_recording",
    "bot.call_ended",
    "recording.failed",
    "credits.low",
]
ALL_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
DEFAULT_EVENTS = ALL_EVENTS[:6]
"""What an endpoint gets that did not choose; `ALL_EVENTS` adds the choosable ones."""


def _forward_url(url: str) -> str:
    if split_http_url(url) is None:
        raise PydanticCustomError("invalid_url", "Must be a plain http or https URL without credentials")
    return url


def _unique(events: list[WebhookEvent]) -> list[WebhookEvent]:
    if len(set(events)) != len(events):
        raise PydanticCustomError("duplicate", "Must name each event once")
    return events


class PutWebhook(Wire):
    """Where an app's events go."""

    forward_url: Annotated[HttpUrl, AfterValidator(_forward_url)] = Field(description="Where events are POSTed.")
    rotate_secret: bool = Field(default=False, description="Mint a new signing secret.")
    events: Annotated[Annotated[list[WebhookEvent], Field(min_length=1), AfterValidator(_unique)] | None, LEFT_OUT] = (
        Field(
            default=None,
            description="The events to forward; left out, the default six.",
            json_schema_extra={"uniqueItems": True},
        )
    )


def parse_webhook(data: Any) -> PutWebhook:
    """An endpoint to configure, from decoded JSON. Raises `InvalidRequest`."""
    return read(PutWebhook, data)
