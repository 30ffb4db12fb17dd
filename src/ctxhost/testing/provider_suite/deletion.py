"""Promises about deleting what was recorded, for a provider that can."""

from collections.abc import Sequence

import httpx

from ctxhost.meetings.provider import BotRecord, DeletesMedia, UnknownBot
from ctxhost.testing.provider_suite.records import check_artifacts, check_steps
from ctxhost.testing.provider_suite.trial import NotPlayed, Reading, Trial, demand, refusal_of


async def deleted_media_are_gone(trial: Trial) -> None:
    """What was deleted is in no record and at no link, again and after a restart; nothing else of the bot changes."""
    _skip_unless_it_can(trial)
    since_ms = trial.now_ms()
    _, provider_id = await trial.born()
    before = (await trial.watch(provider_id))[-1]
    links = _links(before)
    demand(links, "a happy life left nothing that could be deleted", mend="see `read`.")
    await trial.harness.advance(seconds=trial.harness.step_s)
    for _ in range(2):
        await _delete(trial, provider_id)
    await _check_gone(trial, before, provider_id, links, since_ms=since_ms)
    await trial.restart()
    await _check_gone(trial, before, provider_id, links, since_ms=since_ms)


async def nobody_else_s_media_are_deleted(trial: Trial) -> None:
    """Deleting one bot's media leaves every other's, and one that is not there is told so."""
    _skip_unless_it_can(trial)
    _, one = await trial.born(app="app_one")
    _, other = await trial.born(app="app_other")
    await trial.watch(one)
    kept = (await trial.watch(other))[-1]
    await _delete(trial, one)
    again = await trial.read(other)
    demand(
        _states(again) == _states(kept) and not await _dead(trial, _links(again)),
        f"another bot's media were deleted, and this one's are {_states(again)}",
        mend="address exactly the bot whose provider id was given.",
    )
    refusal = await refusal_of(trial.delete_media, f"{other}0")
    demand(
        isinstance(refusal, UnknownBot),
        f"`delete_media` of a bot that is not there gave {type(refusal).__name__ if refusal else 'no error'}",
        mend="raise UnknownBot for an id that is not there.",
    )


async def what_could_not_be_deleted_is_told_so(trial: Trial) -> None:
    """While its API is in trouble `delete_media` says so, unless the media are gone all the same."""
    _skip_unless_it_can(trial)
    if not trial.harness.outages:
        raise NotPlayed("the harness's `outages` is empty")
    for outage in sorted(trial.harness.outages):
        _, provider_id = await trial.born()
        await trial.watch(provider_id)
        trial.harness.outage = outage
        try:
            refusal = await refusal_of(trial.delete_media, provider_id)
        finally:
            trial.harness.outage = None
        states = _states(await trial.read(provider_id))
        demand(
            not isinstance(refusal, UnknownBot) and (refusal is not None or "done" not in states),
            f"{outage.value}: `delete_media` {f'raised {type(refusal).__name__}' if refusal else 'returned quietly'},"
            f" and the artifacts are {states}",
            mend="raise ProviderError, ProviderBusy or ProviderTimeout until the provider has obeyed: the host asks"
            " again, and believes a quiet return.",
        )


def _skip_unless_it_can(trial: Trial) -> None:
    if not isinstance(trial.provider, DeletesMedia):
        raise NotPlayed("the provider has no `delete_media`")


async def _delete(trial: Trial, provider_id: str) -> None:
    refusal = await refusal_of(trial.delete_media, provider_id)
    demand(
        refusal is None,
        f"`delete_media` raised {type(refusal).__name__} for a bot whose call is over",
        mend="return quietly when the media are gone, also when they were before: the host asks until it has obeyed.",
    )


async def _check_gone(trial: Trial, before: Reading, provider_id: str, links: Sequence[str], *, since_ms: int) -> None:
    after = await trial.read(provider_id)
    check_steps(after, since_ms=since_ms)
    check_artifacts(after, since_ms=since_ms)
    demand(
        "done" not in _states(after),
        f"the media were deleted, and the artifacts are {_states(after)}",
        mend="what was deleted is `failed`, with the reason `deleted`.",
    )
    demand(
        _lasting(after.record) == _lasting(before.record),
        f"before the media were deleted the record had {_lasting(before.record)}, and now {_lasting(after.record)}",
        mend="the history and the recordings' times stay: they were billed.",
    )
    alive = [link for link in links if link not in await _dead(trial, links)]
    demand(
        not alive,
        f"after the deletion {len(alive)} links still work: {[link.partition('?')[0] for link in alive]}",
        mend="delete the files themselves; what your plugin keeps or serves of them, too.",
    )


async def _dead(trial: Trial, links: Sequence[str]) -> list[str]:
    """Those that lead to nothing."""
    found = []
    for link in links:
        try:
            response = await trial.harness.http.get(link)
        except httpx.HTTPError:
            found.append(link)
        else:
            if not response.is_success:
                found.append(link)
    return found


def _links(reading: Reading) -> list[str]:
    return [artifact.url for artifact in reading.artifacts if artifact.url]


def _states(reading: Reading) -> list[str]:
    return [artifact.state for artifact in reading.artifacts]


def _lasting(record: BotRecord) -> object:
    return list(record.steps), [(r.id, r.started_ms, r.completed_ms) for r in record.recordings]
