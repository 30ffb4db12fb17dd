"""Promises about what is reported of a bot's life, and about the facts that are billed."""

from dataclasses import replace

from ctxhost.meetings.provider import BotRecord, End, Phase
from ctxhost.testing.provider_suite.harness import Life
from ctxhost.testing.provider_suite.records import check_history, end_of, was_admitted
from ctxhost.testing.provider_suite.trial import Reading, Trial, demand, refusal_of

_ENDS = {
    Life.HAPPY: End.OVER,
    Life.NOT_ADMITTED: End.NOT_ADMITTED,
    Life.KICKED: End.KICKED,
    Life.FAILED: End.FAILED,
    Life.NOBODY_CAME: End.ALONE,
    Life.TRANSCRIPT_FAILED: End.OVER,
    Life.RECORDING_FAILED: End.OVER,
}
_UNADMITTED = (Life.NOT_ADMITTED, Life.FAILED)
BILLED = "what is delivered here is what users are charged for."


async def lived(trial: Trial, life: Life, **facts: object) -> list[Reading]:
    """Every reading of a life, each checked by itself and against the one before."""
    since_ms = trial.now_ms()
    _, provider_id = await trial.born(life, **facts)
    readings = await trial.watch(provider_id)
    await trial.harness.advance(seconds=trial.harness.step_s)
    readings.append(await trial.read(provider_id))
    check_history(readings, since_ms=since_ms)
    return readings


async def every_life_is_told_to_its_end(trial: Trial) -> None:
    """Each way in which a call can end is reported as what it is: it decides what users see and who pays."""
    for life, end in _ENDS.items():
        if life in trial.harness.lives:
            last = (await lived(trial, life))[-1]
            told = end_of(last).end
            demand(
                told is end,
                f"{life.value}: the end is reported as {told}",
                mend=f"report it as End.{end.name}: see what each End says, and who pays for it.",
            )
            demand(
                was_admitted(last) is (life not in _UNADMITTED),
                f"{life.value}: the history says {'that' if was_admitted(last) else 'not that'} it was in the call",
                mend="IN_CALL or RECORDING is in the history exactly when the bot was let in.",
            )


async def a_history_only_grows_while_it_is_watched(trial: Trial) -> None:
    """The steps of a life appear one after the other, and a restart of the host changes none of them."""
    readings = await lived(trial, Life.HAPPY)
    counts = [len(reading.record.steps) for reading in readings]
    demand(
        counts[0] < counts[-1] and not readings[0].has(Phase.ENDED),
        f"the history has {counts[0]} steps at the start and {counts[-1]} at the end",
        mend="report what has happened so far, and nothing that has not happened yet.",
    )
    demand(readings[-1].has(Phase.RECORDING), "RECORDING is missing", mend="report it; users wait for that event.")
    _, provider_id = await trial.born()
    before = (await trial.watch(provider_id))[-1]
    await trial.restart()
    after = await trial.read(provider_id)
    check_history([before, after], since_ms=trial.began_ms)
    demand(
        _facts(before.record) == _facts(after.record),
        f"after a restart of the host the record says {_facts(after.record)} instead of {_facts(before.record)}",
        mend="the record comes from the provider alone; a host that was restarted must decide alike.",
    )


async def reading_changes_nothing(trial: Trial) -> None:
    """Two readings at the same moment say the same; only the URLs may differ."""
    _, provider_id = await trial.born()
    for _ in range(8):
        first, second = await trial.read(provider_id), await trial.read(provider_id)
        demand(
            _facts(first.record) == _facts(second.record),
            f"two readings at one moment differ: {_facts(first.record)} and {_facts(second.record)}",
            mend="`read` asks and translates; it does nothing to the bot.",
        )
        await trial.harness.advance(seconds=trial.harness.step_s)


async def recorded_seconds_are_facts(trial: Trial) -> None:
    """A recording has its own times, inside the call; they stay 0 and open while it runs, and never change after."""
    readings = await lived(trial, Life.HAPPY)
    last = readings[-1].record
    demand(
        last.recordings and all(recording.media.state == "done" for recording in last.recordings),
        f"a happy life leaves the recordings {last.recordings}",
        mend=f"report each recording with its own times, `done` once it can be downloaded: {BILLED}",
    )
    admitted_ms = min(step.at_ms for step in last.steps if step.phase in (Phase.IN_CALL, Phase.RECORDING))
    ended_ms = end_of(readings[-1]).at_ms
    for recording in last.recordings:
        demand(
            admitted_ms - 5_000 <= recording.started_ms < recording.completed_ms <= ended_ms + 5_000,
            f"a recording from {recording.started_ms} to {recording.completed_ms} in a call from {admitted_ms} to"
            f" {ended_ms}",
            mend="take the recording's own times, not those of the file or of the whole bot.",
        )
    running = [r for reading in readings if not reading.has(Phase.ENDED) for r in reading.record.recordings]
    demand(
        all(recording.completed_ms <= ended_ms and recording.media.state != "done" for recording in running),
        "a recording is done while the call goes on",
        mend="`completed_ms` is 0 and the media `processing` while it runs.",
    )
    if trial.provider.prices.cost_nano_usd_per_hour:
        demand(last.cost_seconds > 0, "it cost nothing", mend="`cost_seconds` is what the provider bills you for.")


async def a_bot_leaves_when_it_is_told_to(trial: Trial) -> None:
    """Before it is let in and in the call: the end is LEFT, what was recorded is delivered, and again is fine."""
    for moment, reached in (("at the start", _always), ("while it records", _records)):
        since_ms = trial.now_ms()
        _, provider_id = await trial.born()
        before = await trial.watch(provider_id, until=reached)
        await trial.harness.advance(seconds=trial.harness.step_s)
        for _ in range(2):
            await _leave(trial, provider_id)
        after = await trial.watch(provider_id)
        check_history([*before, *after], since_ms=since_ms)
        await _leave(trial, provider_id)
        end = end_of(after[-1])
        demand(
            end.end is End.LEFT,
            f"told to leave {moment}, the end is reported as {end.end}",
            mend="make the provider's bot leave, and report the end as End.LEFT when your `leave` was the reason.",
        )
        if reached is _records:
            media = [recording.media.state for recording in after[-1].record.recordings]
            demand(
                media and set(media) == {"done"},
                f"told to leave while it recorded, the media are {media}",
                mend="leaving ends the recording; what was recorded is still delivered.",
            )


async def _leave(trial: Trial, provider_id: str) -> None:
    refusal = await refusal_of(trial.leave, provider_id)
    demand(
        refusal is None,
        f"`leave` raised {type(refusal).__name__} for a bot that the provider has",
        mend="return quietly when the bot is leaving or has left already: the host asks until it has obeyed.",
    )


async def a_bot_that_was_not_told_stays(trial: Trial) -> None:
    """Telling one bot to leave tells no other, whoever it belongs to."""
    _, one = await trial.born(app="app_one")
    _, other = await trial.born(app="app_other")
    await trial.leave(one)
    last = (await trial.watch(other))[-1]
    demand(
        end_of(last).end is End.OVER,
        f"another bot was told to leave, and this one's end is {end_of(last).end}",
        mend="address exactly the bot whose provider id was given.",
    )


async def a_scheduled_bot_waits(trial: Trial) -> None:
    """A bot with `join_at_ms` is in no call before it; told to leave before, it never comes."""
    join_at_ms = trial.now_ms() + 1_800_000
    _, comes = await trial.born(join_at_ms=join_at_ms)
    _, stays_away = await trial.born(join_at_ms=join_at_ms)
    for _ in range(3):
        await trial.harness.advance(seconds=300)
        for provider_id in (comes, stays_away):
            reading = await trial.read(provider_id)
            demand(
                not was_admitted(reading),
                "it is in the call before `join_at_ms`",
                mend="hand `request.join_at_ms` to the provider (ms since 1970, None: now).",
            )
    for _ in range(2):
        await _leave(trial, stays_away)
    await trial.harness.advance(seconds=960)
    last = (await trial.watch(comes))[-1]
    demand(end_of(last).end is End.OVER, "a scheduled bot did not come", mend="it joins at `join_at_ms`.")
    gone = await trial.read(stays_away)
    demand(
        not was_admitted(gone) and end_of(gone).end is End.LEFT,
        f"a scheduled bot that was told to leave has {gone.record.steps}",
        mend="`leave` calls a scheduled bot off: ENDED with End.LEFT, and nothing before.",
    )


def _facts(record: BotRecord) -> object:
    """A record without its links, which are made anew at every reading."""
    recordings = [
        replace(
            fact, media=replace(fact.media, url=""), transcript=fact.transcript and replace(fact.transcript, url="")
        )
        for fact in record.recordings
    ]
    speech = record.transcript and replace(record.transcript, url="")
    return (tuple(record.steps), recordings, speech, record.cost_seconds)


def _always(reading: Reading) -> bool:
    return True


def _records(reading: Reading) -> bool:
    return reading.has(Phase.RECORDING)
