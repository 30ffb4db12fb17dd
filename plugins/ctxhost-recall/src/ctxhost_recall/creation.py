"""Making one bot: repeated while that is safe, until an answer counts or the time is up.

A key stands for one attempt that can make a bot. Recall keeps a key's answer for an hour and gives it again, also a
507: so a new key is used after a 507, and only then. Everything else is repeated under the same key.
"""

import logging
from dataclasses import dataclass
from typing import Any

from ctxhost.errors import InvalidRequest, ProviderError, ProviderTimeout, Refusal
from ctxhost_recall.client import (
    BUSY_RETRY_AFTER_S,
    OUR_ACCOUNT,
    OVERLOADED,
    Api,
    Call,
    Reply,
    Silent,
    Unreachable,
    account_refused,
    back_off,
    busy,
)
from ctxhost_recall.fields import Malformed
from ctxhost_recall.limits import Deadline, TooFast
from ctxhost_recall.records import bot_of

log = logging.getLogger("ctxhost.recall")

DEPLETED_WAIT_S = 30
NOBODY_KNOWS = "Recall does not say whether it has sent the bot."
FIELD_OF = {
    "meeting_url": "meetingUrl",
    "bot_name": "botName",
    "join_at": "joinAt",
    "metadata": "metadata",
    "automatic_leave": "automaticLeave",
}
"""From the fields that Recall may refuse to the caller's own."""
LINK_CODES = ("teams_blacklisted_tenant",)
"""Slugs that speak about the meeting itself."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not yet: ask again after a wait."""

    wait_s: float
    otherwise: Refusal
    """What to say when there is no time for that."""
    new_key: bool = False
    may_exist: bool = False
    """The call may have made the bot all the same."""


@dataclass(slots=True)
class Keys:
    """The keys of one wish for a bot, in order; kept between calls so that a repetition goes on where it was."""

    bot: str
    attempt: int
    spent: int = 0
    is_open: bool = False
    """Whether a call under the current key may have made the bot."""

    @property
    def current(self) -> str:
        return f"{self.bot}.{self.attempt}.{self.spent}"


async def make(api: Api, body: Any, keys: Keys, deadline: Deadline) -> str:
    """Make the bot; returns Recall's id.

    Raises:
        InvalidRequest: Recall will never take this.
        ProviderBusy, ProviderError: it made no bot.
        ProviderTimeout: nobody can say yet.
    """
    for pause_s in back_off():
        was_open, keys.is_open = keys.is_open, True  # whoever stops waiting now leaves it open
        outcome = await _attempt(api, body, keys, deadline, pause_s)
        if isinstance(outcome, str):
            return outcome
        if isinstance(outcome, Refusal):
            if was_open and not isinstance(outcome, InvalidRequest):  # judged before the key was looked at
                raise ProviderTimeout(NOBODY_KNOWS) from outcome
            raise outcome
        keys.is_open = not outcome.new_key and (was_open or outcome.may_exist)
        keys.spent += outcome.new_key
        if not deadline.allows(outcome.wait_s):
            raise ProviderTimeout(NOBODY_KNOWS) if keys.is_open else outcome.otherwise
        await deadline.wait(outcome.wait_s)
    raise AssertionError("unreachable: the back-off has no end")


async def _attempt(api: Api, body: Any, keys: Keys, deadline: Deadline, wait_s: float) -> str | Refusal | Again:
    call = Call(method="POST", path="/bot/", scope="create", body=body, key=keys.current)
    try:
        reply = await api.attempt(call, deadline)
    except TooFast as error:
        return Again(error.wait_s, busy(error.wait_s))
    except Unreachable:
        return Again(wait_s, ProviderError("Recall cannot be reached."))
    except Silent:
        return Again(wait_s, ProviderTimeout("Recall does not answer in time."), may_exist=True)
    return _judge(reply, wait_s)


def _judge(reply: Reply, wait_s: float) -> str | Refusal | Again:
    if reply.is_success:
        return _made(reply)
    if reply.status == 507:
        wait_s = reply.retry_after_s or DEPLETED_WAIT_S
        return Again(wait_s, busy(wait_s), new_key=True)
    if reply.status == 429:
        wait_s = reply.retry_after_s or BUSY_RETRY_AFTER_S
        return Again(wait_s, busy(wait_s))
    if reply.status in OVERLOADED or reply.status == 409:
        silence = ProviderTimeout(f"Recall does not say what became of the bot: it answers {reply.status}.")
        return Again(max(wait_s, reply.retry_after_s or 0), silence, may_exist=True)
    if reply.status in OUR_ACCOUNT:
        return account_refused()
    if reply.status == 400:
        return _refused(reply)
    log.error("Recall answers %d to a new bot: check MEETINGS_BASE_URL", reply.status)
    return ProviderError(f"Recall answers {reply.status} to a new bot.")


def _made(reply: Reply) -> str | Refusal:
    try:
        return bot_of(reply.body)[0]
    except Malformed:
        log.warning("Recall took a bot, but its answer cannot be read")
        return ProviderTimeout("Recall's answer cannot be read; the bot will be looked for.")


def _refused(reply: Reply) -> Refusal:
    if reply.code in LINK_CODES:
        return InvalidRequest.of("meetingUrl", "the provider's bots are not let into this meeting", reply.code)
    faults = [field for field in FIELD_OF if isinstance(reply.body, dict) and field in reply.body]
    if faults:
        field = FIELD_OF[faults[0]]
        return InvalidRequest.of(field, "the provider does not take this", f"invalid_{faults[0]}")
    log.error("Recall refuses a bot as this adapter writes it (400 %s)", reply.code)
    return ProviderError("The meeting provider refuses this bot.")
