"""A webhook endpoint that remembers what it was sent."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery attempt as the endpoint saw it."""

    id: str
    """The `webhook-id`."""
    event: str
    bot: str
    headers: Mapping[str, str]
    body: bytes
    """The raw bytes that were signed."""
    at_ms: int
    status: int
    """What was answered."""

    @property
    def data(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


Behaviour = Callable[[Mapping[str, str], bytes], Awaitable[int]]
"""From the headers and the raw body of a delivery to the status to answer with."""


@dataclass(eq=False)
class Inbox:
    """The endpoint of one app. Set `behaviour` to answer anything but 200; what it raises is what sending it raises."""

    url: str
    secret: str
    """The `wsec_…` secret that deliveries are signed with."""
    attempts: list[Received] = field(default_factory=list)
    behaviour: Behaviour | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> Sequence[Received]:
        """The attempts that were answered 2xx, in the order of their arrival."""
        return [attempt for attempt in self.attempts if 200 <= attempt.status < 300]

    def events(self, bot: str | None = None) -> Sequence[str]:
        """The events that were accepted, of one bot or of all."""
        return [received.event for received in self.accepted if bot in (None, received.bot)]

    async def take(self, headers: Mapping[str, str], body: bytes, *, at_ms: int) -> int:
        """Called for each delivery attempt; returns the status to answer with."""
        status = 200 if self.behaviour is None else await self.behaviour(headers, body)
        event = json.loads(body)
        self.attempts.append(
            Received(
                id=headers["webhook-id"],
                event=event["event"],
                bot=event["data"]["bot"]["id"],
                headers=dict(headers),
                body=body,
                at_ms=at_ms,
                status=status,
            )
        )
        return status
