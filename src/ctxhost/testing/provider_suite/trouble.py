"""Promises for when things go wrong: the provider's trouble is told as what it is, and no secret is told at all."""

import logging
import traceback
from collections.abc import Awaitable, Callable
from functools import partial

from ctxhost.errors import InvalidRequest, ProviderTimeout
from ctxhost.meetings.provider import UnknownBot
from ctxhost.testing.provider_suite.harness import Life, Outage, Webhook
from ctxhost.testing.provider_suite.trial import TROUBLE, NotPlayed, Trial, demand, refusal_of


async def an_outage_is_told_as_one(trial: Trial) -> None:
    """While its API is in trouble every call says so, or works; and no bot is taken for one that never was."""
    if not trial.harness.outages:
        raise NotPlayed("the harness's `outages` is empty")
    request, provider_id = await trial.born()
    await trial.harness.advance(seconds=trial.harness.step_s)
    for outage in sorted(trial.harness.outages):
        trial.harness.outage = outage
        try:
            await _check_trouble(outage, "find", lambda: trial.find(request.bot))
            await _check_trouble(outage, "read", lambda: trial.read(provider_id))
            await _check_trouble(outage, "leave", lambda: trial.leave(provider_id))
        finally:
            trial.harness.outage = None
    demand(
        await trial.find(request.bot) == [provider_id],
        "after an outage the bot is not found",
        mend="remember no trouble: the next call may work.",
    )


async def _check_trouble(outage: Outage, name: str, call: Callable[[], Awaitable[object]]) -> None:
    answers: list[object] = []

    async def noted() -> None:
        answers.append(await call())

    refusal = await refusal_of(noted)
    demand(
        not isinstance(refusal, UnknownBot | InvalidRequest),
        f"{outage.value}: `{name}` raised {type(refusal).__name__}",
        mend="raise UnknownBot only when the provider itself says that it has no such bot: the host gives the bot up. A"
        " wrong key (401, 403) is the operator's matter, a ProviderError.",
    )
    demand(
        answers != [[]],
        f"{outage.value}: `find` answered that there is no bot",
        mend="raise ProviderError, ProviderBusy or ProviderTimeout: [] says that the provider looked and found none.",
    )


async def an_outage_while_a_bot_is_made_is_told_as_one(trial: Trial) -> None:
    """Whatever `create` says in an outage is true: after a refusal no bot is there."""
    if not trial.harness.outages:
        raise NotPlayed("the harness's `outages` is empty")
    for outage in sorted(trial.harness.outages):
        request = await trial.prepared(Life.HAPPY)
        trial.harness.outage = outage
        try:
            refusal = await refusal_of(trial.create, request)
        finally:
            trial.harness.outage = None
        demand(
            refusal is None or isinstance(refusal, TROUBLE),
            f"{outage.value}: `create` raised {type(refusal).__name__}",
            mend="it is no fault of the caller's: raise ProviderError, ProviderBusy or ProviderTimeout.",
        )
        demand(
            outage is not Outage.SILENT or refusal is None or isinstance(refusal, ProviderTimeout),
            f"{outage.value}: `create` raised {type(refusal).__name__}",
            mend="raise ProviderTimeout when no whole answer came: the bot may be there.",
        )
        if refusal is not None and not isinstance(refusal, ProviderTimeout):
            found = await trial.find(request.bot)
            demand(found == [], f"{outage.value}: `create` refused, but `find` gives {found}", mend="see `create`.")


class _Ear(logging.Handler):
    """Hears everything that is logged, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        shown = [record.getMessage(), repr(record.args), record.exc_text or ""]
        if record.exc_info and record.exc_info[1] is not None:
            shown += traceback.format_exception(record.exc_info[1])
        self.heard.append("\n".join(shown))


async def secrets_show_nowhere(trial: Trial) -> None:
    """Neither logs at the finest level nor errors nor a repr show what the provider was given to keep."""
    secrets = trial.harness.secrets
    if not secrets:
        raise NotPlayed("the harness's `secrets` is empty")
    ear, root = _Ear(), logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        told = await _talk(trial)
    finally:
        root.setLevel(level)
        root.removeHandler(ear)
    told += [repr(trial.provider), str(trial.provider), *map(repr, vars(trial.provider).values())]
    for where, texts in (("the log", ear.heard), ("an error or a repr", told)):
        for text in texts:
            demand(
                not any(secret in text for secret in secrets),
                f"a secret shows in {where}",
                mend="wrap secrets in pydantic.SecretStr, give objects that hold them a repr of their own, and log no"
                " headers.",
            )


async def _talk(trial: Trial) -> list[str]:
    """Have the provider do everything once, in trouble and out of it; returns what it said of itself."""
    request, provider_id = await trial.born()
    await trial.watch(provider_id)
    told: list[str] = []
    for outage in (None, *sorted(trial.harness.outages)):
        trial.harness.outage = outage
        for call in (
            partial(trial.read, "no-such-bot"),
            partial(trial.find, request.bot),
            partial(trial.leave, provider_id),
            partial(trial.create, trial.request()),
        ):
            refusal = await refusal_of(call)
            if refusal is not None:
                told += [str(refusal), repr(refusal), *traceback.format_exception(refusal)]
    trial.harness.outage = None
    if trial.harness.sends_webhooks:
        for webhook in trial.harness.webhooks[:2]:
            told.append(repr(trial.verify(Webhook(webhook.headers, b"forged", webhook.at_ms))))
            told.append(repr(trial.verify(webhook)))
    return told
