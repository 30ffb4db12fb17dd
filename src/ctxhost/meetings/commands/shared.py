"""What the commands share: how a bot is saved, told of, followed and told to leave."""

import json
from collections.abc import Iterable

from ctxhost import jobs
from ctxhost.errors import BotNotFound
from ctxhost.meetings.lifecycle import OVER, RANK_OF_EVENT, UNADMITTED, Happening
from ctxhost.store import Key, View
from ctxhost.store.rows import Bot, BotTally, History, Lease
from ctxhost.webhooks import outbox

SPAWN = "spawn"
READ = "read"
RENEW = "renew"
DELETE_MEDIA = "delete_media"
LEAVE = "leave"
"""Its reference is a bot, or the handle (`provider/provider id`) of one that nobody wants."""

SCHEDULED_AHEAD_MS = 600_000


def handle_id(provider: str, provider_id: str) -> str:
    return f"{provider}/{provider_id}"


def bot_reads(bot: str, account: str) -> list[Key]:
    """What `get_bot` and `save` look at, and the bot's lease."""
    return [(Bot, bot), (Lease, bot), (BotTally, account)]


def telling_reads(bot: str, app: str) -> list[Key]:
    """What `tell` looks at."""
    return [*outbox.reads(bot=bot, app=app), *((History, history_id(bot, event)) for event in RANK_OF_EVENT)]


def job_reads(ref: str, *kinds: str) -> Iterable[Key]:
    """What asking for a job of each kind, or cancelling it, looks at."""
    return [jobs.job_key(kind, ref) for kind in kinds]


def get_bot(view: View, bot_id: str) -> Bot:
    """Raises `BotNotFound` for one that was forgotten since it was asked for."""
    bot = view.get(Bot, bot_id)
    if bot is None:
        raise BotNotFound("There is no such bot in this app.")
    return bot


def save(view: View, bot: Bot) -> None:
    """Write a bot and keep its account's tally true."""
    before, after = _counts(view.get(Bot, bot.id)), _counts(bot)
    view.put(bot)
    if before != after:
        tally = view.get(BotTally, bot.account) or BotTally(bot.account, bot.account, 0, 0)
        view.put(
            tally._replace(
                waiting=tally.waiting - before[0] + after[0],
                live=tally.live - before[1] + after[1],
            )
        )


def is_scheduled(bot: Bot) -> bool:
    """Whether it joins so much later than it was asked for that it does not count as waiting to be let in."""
    return bot.join_at_ms > bot.created_ms + SCHEDULED_AHEAD_MS


def _counts(bot: Bot | None) -> tuple[int, int]:
    if bot is None:
        return 0, 0
    return int(bot.status in UNADMITTED and not is_scheduled(bot)), int(bot.status not in OVER)


def history_id(bot: str, event: str) -> str:
    return f"{bot}/{event}"


def tell(view: View, bot: Bot, happening: Happening) -> None:
    """Write a line of the bot's history and owe the message, both once."""
    if view.get(History, history_id(bot.id, happening.event)) is not None:
        return
    view.put(
        History(
            id=history_id(bot.id, happening.event),
            account=bot.account,
            bot=bot.id,
            code=happening.event,
            sub_code=happening.sub_code,
            at_ms=happening.at_ms,
        )
    )
    outbox.queue(
        view,
        account=bot.account,
        app=bot.app,
        bot=bot.id,
        event=happening.event,
        rank=RANK_OF_EVENT[happening.event],
        body=outbox.event_body(
            happening.event,
            bot=bot.id,
            metadata=json.loads(bot.metadata),
            code=happening.code,
            sub_code=happening.sub_code,
            at_ms=happening.at_ms,
            recording=happening.recording,
            transcript=happening.transcript,
        ),
        not_before_ms=outbox.may_leave_ms(bot.answered_ms, view.now_ms),
    )


def answered(view: View, bot: Bot) -> Bot:
    """The call that made the bot is answered now: what waits for that may go, after the grace."""
    if bot.answered_ms:
        return bot
    if view.get(*jobs.job_key(outbox.DELIVER, bot.id)) is not None:
        due_ms = outbox.may_leave_ms(view.now_ms, view.now_ms)
        outbox.ask_delivery(view, account=bot.account, app=bot.app, bot=bot.id, due_ms=due_ms)
    return bot._replace(answered_ms=view.now_ms)


def ask(view: View, kind: str, bot: Bot, *, due_ms: int) -> None:
    """Have a job of a kind done for a bot. Kinds do not share lanes: reading slowly delays nobody's leaving."""
    lane = f"{kind}/{bot.account if kind == RENEW else bot.provider}"
    jobs.ask(view, kind=kind, ref=bot.id, account=bot.account, lane=lane, due_ms=due_ms)


def ask_leave(view: View, bot: Bot, *, handle: str = "") -> None:
    """Have the bot, or another one of its provider that nobody wants, told to leave until it has."""
    lane = f"{LEAVE}/{bot.provider}"
    jobs.ask(view, kind=LEAVE, ref=handle or bot.id, account=bot.account, lane=lane, due_ms=view.now_ms)


def want_stop(view: View, bot: Bot, reason: str) -> Bot:
    """Store the wish that a bot leaves. One that is not known at its provider yet is told as soon as it is."""
    bot = bot._replace(stop_reason=reason)
    view.put(bot)
    if bot.provider_id:
        ask_leave(view, bot)
    return bot
