"""Promises about webhooks: only the provider's own count, and what one says does not depend on when it comes."""

import random
from collections.abc import Mapping, Sequence
from itertools import islice, permutations

from ctxhost.meetings.provider import BadWebhook, MeetingProvider, ProviderEvent, UnreadableWebhook
from ctxhost.testing.provider_suite.harness import Life, Webhook
from ctxhost.testing.provider_suite.hostile import changed_json
from ctxhost.testing.provider_suite.records import check_history
from ctxhost.testing.provider_suite.trial import NotPlayed, Trial, demand

MUTATIONS = 3_000
ORDERS = 120
_NOT_JSON = (
    b"",
    b"not json",
    b"{",
    b'{"a":1}x',
    b"\xff\xfe",
    b"\x00",
    b"NaN,",
    b"[" * 100_000,
    b"<html></html>",
    b"'a'",
)
_NOT_AN_EVENT = (b"[]", b"{}", b"null", b"true", b"7", b'"text"', b"[" * 50 + b"]" * 50, b'{"event":{}}', b"9" * 5_000)
_MATERIAL = "".join(map(chr, range(32, 127))) + "é😀\x00\r\n"


async def _sent(trial: Trial, **facts: object) -> tuple[str, str, Sequence[Webhook]]:
    """The webhooks of a happy life: the bot, its provider id, and what was sent, oldest first."""
    if not trial.harness.sends_webhooks:
        raise NotPlayed("the harness says that the provider sends no webhooks")
    demand(
        type(trial.provider).verify is not MeetingProvider.verify,
        "`verify` is not written",
        mend="write it, or set the harness's `sends_webhooks = False`: the bots are read at intervals then.",
    )
    before = len(trial.harness.webhooks)
    request, provider_id = await trial.born(Life.HAPPY, **facts)
    await trial.watch(provider_id)
    sent = trial.harness.webhooks[before:]
    demand(
        sent,
        "no webhook was sent in a happy life",
        mend="let your world post them to {base_url}/v1/ai/meetings/_webhooks/{name} through `services.http`, or append"
        " them to the harness's `webhooks`; or set `sends_webhooks = False`.",
    )
    return request.bot, provider_id, sent


def _event(trial: Trial, webhook: Webhook) -> ProviderEvent:
    event = trial.verify(webhook)
    demand(
        isinstance(event, ProviderEvent),
        f"a webhook of the provider's own gave {type(event).__name__}: {webhook.body!r:.200}",
        mend="verify the raw body, as it came, with the provider's secret and `now_ms`.",
    )
    assert isinstance(event, ProviderEvent)
    return event


async def a_webhook_names_its_bot(trial: Trial) -> None:
    """An event has an id and a kind, and leads to the bot that it is about and to no other."""
    bot, provider_id, sent = await _sent(trial)
    events = [_event(trial, webhook) for webhook in sent]
    for event in events:
        demand(
            event.id and event.kind and event.id.isprintable() and len(event.id) <= 500,
            f"an event has the id {event.id!r} and the kind {event.kind!r}",
            mend="take the id that the provider repeats when it sends an event again, and its name of what happened.",
        )
        demand(
            event.provider_id in ("", provider_id) and event.bot in ("", bot),
            f"an event of bot {provider_id!r} says provider_id={event.provider_id!r}, bot={event.bot!r}",
            mend="`provider_id` is the id that `create` returned, `bot` is `request.bot`; '' where the event has none.",
        )
    demand(
        any(event.provider_id for event in events),
        "no event of a whole life names its bot",
        mend="fill `provider_id`: without it an event says nothing to the host.",
    )
    bodies: dict[str, bytes] = {}
    for event, webhook in zip(events, sent, strict=True):
        demand(
            bodies.setdefault(event.id, webhook.body) == webhook.body,
            f"two different webhooks have the event id {event.id!r}",
            mend="an id belongs to one event: the host acts on an id once.",
        )


async def order_and_repeats_change_nothing(trial: Trial) -> None:
    """In any order and any number the same webhooks give the same events; telling of them changes no bot."""
    _, provider_id, sent = await _sent(trial)
    expected = {webhook.body: _event(trial, webhook) for webhook in sent}
    before = await trial.read(provider_id)
    dice = random.Random(1)  # noqa: S311 - must repeat, not be secret
    firsts = sent[:4]
    orders: list[Sequence[Webhook]] = [*islice(permutations(firsts), 24)]
    orders += [dice.sample(sent, len(sent)) for _ in range(ORDERS - len(orders))]
    for number, order in enumerate(orders):
        if number in (40, 80):
            await trial.restart()
        for webhook in (*order, *order[::2]):
            event = trial.verify(webhook)
            demand(
                event == expected[webhook.body],
                f"a webhook gave {expected[webhook.body]} at first, and {event!r} when it came again",
                mend="`verify` keeps no memory: the host knows which events it has seen. An event's id is the"
                " provider's, the same at every delivery.",
            )
    check_history([before, await trial.read(provider_id)], since_ms=trial.began_ms)


async def only_the_provider_s_own_webhooks_count(trial: Trial) -> None:
    """Without the right signature, over these very bytes and from about now, nothing is believed."""
    _, _, sent = await _sent(trial)
    mend = "compare a signature over the raw bytes, with the secret, in constant time; raise BadWebhook."
    for webhook in sent[:3]:
        event = _event(trial, webhook)
        bare = {name: value for name, value in webhook.headers.items() if name.lower() == "content-type"}
        forged = [Webhook(bare, webhook.body, webhook.at_ms), Webhook({}, webhook.body, webhook.at_ms)]
        forged += [Webhook(webhook.headers, body, webhook.at_ms) for body in _tampered(webhook.body)]
        for forgery in forged:
            demand(
                isinstance(trial.verify(forgery), BadWebhook),
                f"a webhook that the provider never sent is believed: headers {sorted(forgery.headers)}, body"
                f" {forgery.body!r:.120}",
                mend=mend,
            )
        for minutes in (-60, -10, 10, 60, 60 * 24 * 365):
            told = trial.verify(webhook, now_ms=webhook.at_ms + minutes * 60_000)
            demand(
                isinstance(told, BadWebhook),
                f"a webhook is believed {minutes} minutes after it was signed",
                mend="check the signed timestamp against `now_ms`, both ways, within 5 minutes.",
            )
        _check_headers(trial, webhook, event)


def _tampered(body: bytes) -> Sequence[bytes]:
    return (body + b" ", b" " + body, body[:-1], body[1:], body.swapcase(), b"{}", b"", body + body)


def _check_headers(trial: Trial, webhook: Webhook, event: ProviderEvent) -> None:
    """A changed header is refused, or of no account: what the event says is covered by the signature."""
    for name, value in webhook.headers.items():
        for changed in (value + "x", value[:-1], value[::-1], "", "0", value.upper(), f"{value},{value}"):
            if changed == value:
                continue
            told = trial.verify(Webhook({**webhook.headers, name: changed}, webhook.body, webhook.at_ms))
            demand(
                isinstance(told, BadWebhook) or told == event,
                f"with the header {name} changed from {value!r:.80} to {changed!r:.80} the webhook gives {told!r:.200}"
                f" instead of {event}",
                mend="believe no header that the signature does not cover, the event's id above all.",
            )


async def what_cannot_be_read_is_told_so(trial: Trial) -> None:
    """A rightly signed body that is not the JSON that it should be is `UnreadableWebhook`, or an event of no bot."""
    _, _, sent = await _sent(trial)
    now_ms = trial.now_ms()
    for body in _NOT_JSON:
        told = trial.verify(await _signed(trial, body, now_ms))
        demand(
            isinstance(told, UnreadableWebhook),
            f"the rightly signed body {body[:40]!r} gave {told!r:.200}",
            mend="raise UnreadableWebhook when the signature is right and the body is not JSON: the answer is 400.",
        )
    bodies = [*_NOT_AN_EVENT, *(changed for webhook in sent[:2] for changed in changed_json(webhook.body))]
    for body in bodies:
        told = trial.verify(await _signed(trial, body, now_ms))
        demand(
            not isinstance(told, BadWebhook),
            f"the rightly signed body {body[:120]!r} gave BadWebhook",
            mend="the signature was right: raise UnreadableWebhook, or return an event of a kind that you do not know.",
        )


async def _signed(trial: Trial, body: bytes, now_ms: int) -> Webhook:
    headers = await trial.harness.sign(body, event_id="msg_suite", now_ms=now_ms)
    return Webhook(headers, body, now_ms)


async def nothing_that_is_sent_breaks_verify(trial: Trial) -> None:
    """Thousands of mutated headers and bodies are refused, or are of no account; none raises anything else."""
    _, _, sent = await _sent(trial)
    expected = [_event(trial, webhook) for webhook in sent]
    dice = random.Random(2)  # noqa: S311 - must repeat, not be secret
    for _ in range(MUTATIONS):
        number = dice.randrange(len(sent))
        webhook = sent[number]
        mutant = Webhook(_mutated_headers(webhook.headers, dice), webhook.body, webhook.at_ms)
        if dice.random() < 0.5:
            mutant = Webhook(mutant.headers, _mutated_body(webhook.body, dice), webhook.at_ms)
        told = trial.verify(mutant)
        demand(
            isinstance(told, BadWebhook) or (mutant.body == webhook.body and told == expected[number]),
            f"headers {dict(mutant.headers)!r:.400} and body {mutant.body!r:.120} gave {told!r:.200}",
            mend="whatever is not exactly what the provider signed is BadWebhook.",
        )


def _mutated_headers(headers: Mapping[str, str], dice: random.Random) -> Mapping[str, str]:
    changed = dict(headers)
    for _ in range(dice.randint(0, 2)):
        name = dice.choice(list(headers))
        match dice.randrange(5):
            case 0:
                changed.pop(name, None)
            case 1:
                changed[name] = "".join(dice.choices(_MATERIAL, k=dice.choice((0, 1, 9, 300))))
            case 2:
                changed[name] = ",".join([headers[name]] * dice.randint(2, 20))
            case 3:
                place = dice.randrange(len(headers[name]) + 1)
                changed[name] = headers[name][:place] + dice.choice(_MATERIAL) + headers[name][place:]
            case 4:
                changed[name.upper()] = changed.pop(name, "")
    return changed


def _mutated_body(body: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(body) + 1)
    match dice.randrange(4):
        case 0:
            return body[:place] + bytes([dice.randrange(256)]) + body[place:]
        case 1:
            return body[:place] + body[place + 1 :] if place < len(body) else body[:-1]
        case 2:
            return dice.randbytes(dice.choice((0, 1, 50)))
        case _:
            return body[:place] + body
