"""Promises about making bots and finding them again: one wish, one bot, and nobody else's."""

import re

import anyio

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout
from ctxhost.ids import new_uuid
from ctxhost.meetings.provider import API_VERSION, Phase, UnknownBot
from ctxhost.testing.provider_suite.harness import Life
from ctxhost.testing.provider_suite.records import end_of
from ctxhost.testing.provider_suite.trial import TIMEOUTS_S, TROUBLE, NotPlayed, Trial, demand, refusal_of

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_HOSTILE_IDS = ("", "..", "../bots", "a/b", "%2e%2e%2f", "?x=1", "#", "*", "%", "' or 1=1 --", "\x00", "é", "x" * 5_000)


async def describes_itself(trial: Trial) -> None:
    """Name, version, prices and limits are of the right form."""
    provider = trial.provider
    demand(
        isinstance(provider.name, str) and _NAME.fullmatch(provider.name),
        f"the name is {provider.name!r}",
        mend="it is in URLs and ids: lower-case letters, digits, - and _, beginning with a letter.",
    )
    demand(
        provider.api_version == API_VERSION,
        f"it speaks version {provider.api_version!r}; this is version {API_VERSION}",
        mend="set `api_version = 1` once you have read what has changed.",
    )
    for field in ("recording", "transcription", "cost"):
        price = getattr(provider.prices, f"{field}_nano_usd_per_hour")
        demand(
            type(price) is int and 0 <= price <= 10**15,
            f"prices.{field}_nano_usd_per_hour is {price!r}",
            mend="prices are ints of nano-dollars per hour before markup: $0.50 is 500_000_000.",
        )
    demand(
        type(provider.idempotency_window_s) is int and provider.idempotency_window_s >= 0,
        f"idempotency_window_s is {provider.idempotency_window_s!r}",
        mend="whole seconds; 0 when your provider does not promise that a repeated create makes no second bot.",
    )
    for name, least in provider.minimum_timeouts_s.items():
        demand(
            name in TIMEOUTS_S and type(least) is int and 1 <= least <= 86_400,
            f"minimum_timeouts_s has {name}={least!r}",
            mend=f"the names are {', '.join(TIMEOUTS_S)}; the values whole seconds.",
        )
    for host, platform in provider.platforms.items():
        demand(
            isinstance(host, str) and host == host.lower() and "." in host and "/" not in host and platform,
            f"platforms has {host!r}: {platform!r}",
            mend="map bare host names, in lower case, to the name of a platform.",
        )


async def a_bot_is_found_by_the_host_s_own_id(trial: Trial) -> None:
    """`find` gives the provider's id of what `create` made, also after a restart of the host."""
    request, provider_id = await trial.born()
    for when in ("right after `create`", "after a restart of the host"):
        found = await trial.find(request.bot)
        demand(
            found == [provider_id],
            f"`create` returned {provider_id!r}, but {when} `find` gives {found}",
            mend="keep `request.bot` at the provider (metadata, a label, an external id) and look it up there.",
        )
        await trial.restart()


async def the_same_attempt_makes_no_second_bot(trial: Trial) -> None:
    """(bot, attempt) gives one bot within the window, asked again, by a restarted host, and twice at the same time."""
    if trial.provider.idempotency_window_s == 0:
        raise NotPlayed("the provider's idempotency_window_s is 0: a `create` is never repeated")
    mend = "send (bot, attempt) as an idempotency key, or look the bot up first; else let idempotency_window_s be 0."
    request, first = await trial.born()
    again = await trial.create(request)
    await trial.restart()
    ids = {first, again, await trial.create(request)}
    demand(len(ids) == 1, f"the same bot and attempt gave {sorted(ids)}", mend=mend)
    request = await trial.prepared(Life.HAPPY)
    told: list[str] = []

    async def create() -> None:
        told.append(await trial.create(request))

    async with anyio.create_task_group() as together:
        together.start_soon(create)
        together.start_soon(create)
    found = await trial.find(request.bot)
    demand(len({*told, *found}) == 1, f"two calls at the same time gave {told}, `find` gives {found}", mend=mend)


async def other_bots_are_other_bots(trial: Trial) -> None:
    """Bots made at the same time for different apps have ids of their own, and each is found alone."""
    requests = [await trial.prepared(Life.HAPPY, app=f"app_{n}") for n in range(8)]
    ids: dict[str, str] = {}

    async def create(n: int) -> None:
        ids[requests[n].bot] = await trial.create(requests[n])

    async with anyio.create_task_group() as together:
        for n in range(len(requests)):
            together.start_soon(create, n)
    demand(
        len(set(ids.values())) == len(requests),
        f"{len(requests)} bots have the ids {sorted(ids.values())}",
        mend="the idempotency key is (bot, attempt), nothing less.",
    )
    for bot, provider_id in ids.items():
        found = await trial.find(bot)
        demand(
            found == [provider_id],
            f"`find` gives {found} for the bot whose id is {provider_id!r}",
            mend="filter by the whole of `bot`, and compare what comes back: it may be another tenant's.",
        )


async def a_lookup_gives_nobody_else_s_bot(trial: Trial) -> None:
    """`find` compares whole ids, and believes nothing that a user wrote into the metadata."""
    victim, _ = await trial.born(app="app_victim")
    claimed = {"bot": victim.bot, "bot_id": victim.bot, "external_id": victim.bot, "app": victim.app}
    _, claiming = await trial.born(app="app_other", metadata=claimed)
    demand(
        claiming not in await trial.find(victim.bot),
        "a bot whose metadata names another bot is found as that bot",
        mend="keep the host's id where users' metadata cannot reach, such as below a key of your own prefix `bb_`.",
    )
    strangers = (new_uuid(), victim.bot[:-1], victim.bot.replace("-", ""), f"{victim.bot}0", "", "*", "%", "_" * 36)
    for stranger in strangers:
        found = await trial.find(stranger)
        demand(
            found == [],
            f"`find({stranger!r})` gives {found}, although no bot was made for it",
            mend="compare the whole id, and answer [] for what you do not know.",
        )


async def an_unknown_bot_is_unknown(trial: Trial) -> None:
    """Reading or dismissing a bot that the provider does not have raises `UnknownBot`, whatever the id looks like."""
    _, known = await trial.born()
    for stranger in (new_uuid(), f"{known}0", *_HOSTILE_IDS):
        for name, call in (("read", trial.read), ("leave", trial.leave)):
            refusal = await refusal_of(call, stranger)
            demand(
                isinstance(refusal, UnknownBot),
                f"`{name}({stranger!r:.60})` gave {type(refusal).__name__ if refusal else 'an answer'}",
                mend="raise UnknownBot for an id that is not there; quote ids before you put them into a URL.",
            )


async def a_refusal_makes_no_bot(trial: Trial) -> None:
    """What `create` refuses with says what the caller can do, and no bot comes of it."""
    played = [life for life in (Life.REFUSED, Life.BAD_URL, Life.FULL) if life in trial.harness.lives]
    if not played:
        raise NotPlayed("the harness's `lives` leaves out refused, bad_url and full")
    for life in played:
        request = await trial.prepared(life)
        refusal = await refusal_of(trial.create, request)
        demand(
            refusal is not None and not isinstance(refusal, ProviderTimeout),
            f"{life.value}: `create` gave {type(refusal).__name__ if refusal else 'a bot'}",
            mend="an answer that was read in full and made no bot is InvalidRequest, ProviderBusy or ProviderError.",
        )
        _check_refusal(life, refusal)
        found = await trial.find(request.bot)
        demand(
            found == [],
            f"{life.value}: `create` refused with {type(refusal).__name__}, but `find` gives {found}",
            mend="a refusal returns the hold: raise one only where the provider said that it made no bot.",
        )


def _check_refusal(life: Life, refusal: Exception | None) -> None:
    if life is Life.BAD_URL:
        fields = [list(detail["path"])[:1] for detail in getattr(refusal, "details", ())]
        demand(
            isinstance(refusal, InvalidRequest) and ["meetingUrl"] in fields,
            f"bad_url: `create` raised {type(refusal).__name__} about {fields}",
            mend='raise InvalidRequest.of("meetingUrl", message, code): the caller can mend it.',
        )
    elif life is Life.FULL:
        wait_s = getattr(refusal, "retry_after_s", None)
        demand(
            isinstance(refusal, ProviderBusy) and (wait_s is None or (type(wait_s) is int and 0 < wait_s <= 86_400)),
            f"full: `create` raised {type(refusal).__name__} with retry_after_s={wait_s!r}",
            mend="raise ProviderBusy(message, retry_after_s=…) with whole seconds: the caller may come back.",
        )
    else:
        demand(
            isinstance(refusal, ProviderError | InvalidRequest),
            f"refused: `create` raised {type(refusal).__name__}",
            mend="raise ProviderError for a refusal that nobody but the operator can mend.",
        )


async def silence_is_not_a_refusal(trial: Trial) -> None:
    """A `create` that was not answered says that nothing is known; what it made is found, once."""
    request = await trial.prepared(Life.SILENT_MADE)
    error = await refusal_of(trial.create, request)
    demand(
        error is None or isinstance(error, ProviderTimeout),
        f"the provider was silent, and `create` raised {type(error).__name__}",
        mend="raise ProviderTimeout when no whole answer came: the bot may be there, so its hold must stay.",
    )
    found = await trial.find(request.bot)
    demand(
        len(found) == 1,
        f"the bot was made although `create` was not answered, and `find` gives {found}",
        mend="send the host's bot id with the create, so that `find` knows it without the answer.",
    )
    if trial.provider.idempotency_window_s:
        again = await trial.create(request)
        demand(
            [again] == found == await trial.find(request.bot),
            f"`find` gave {found}, and repeating the attempt gave {again!r}",
            mend="repeat with the same idempotency key: it must lead to the same bot.",
        )
    await _check_alive(trial, found[0])


async def _check_alive(trial: Trial, provider_id: str) -> None:
    readings = await trial.watch(provider_id)
    demand(readings[-1].has(Phase.DONE), "the bot that was found does not live", mend="see `read`.")
    end_of(readings[-1])


async def what_was_lost_never_was(trial: Trial) -> None:
    """When an unanswered `create` made nothing, nothing is found."""
    request = await trial.prepared(Life.SILENT_LOST)
    error = await refusal_of(trial.create, request)
    demand(
        isinstance(error, ProviderTimeout),
        f"the provider was silent and made no bot, and `create` gave {type(error).__name__ if error else 'a bot'}",
        mend="raise ProviderTimeout when no whole answer came.",
    )
    found = await trial.find(request.bot)
    demand(found == [], f"no bot was made, but `find` gives {found}", mend="report what the provider has, no wishes.")


async def strange_wishes_are_taken_or_refused(trial: Trial) -> None:
    """Whatever the host lets through, `create` makes a bot of it or refuses; it does not break."""
    texts = ("😀 العربية", "'; drop table bots; --", "<script>&amp;</script>", "{{x}} ${x} %s", "a\u202eb", ".")
    wishes: list[dict[str, object]] = [{"bot_name": text, "metadata": {"note": text, text: "key"}} for text in texts]
    wishes += [
        {"metadata": {f"k{n}": "v" * 500 for n in range(30)}},
        {"metadata": {"id": "1", "bot": "x", "__proto__": "y", "constructor": "", "fake": "é" * 500}},
        {"metadata": {}, "automatic_leave": {}},
        {"meeting_url": f"{trial.harness.meeting_url}?pwd={'a' * 1_900}"},
        {"bot_name": "x" * 64, "app": "app_" + "f" * 24},
    ]
    for wish in wishes:
        request = await trial.prepared(Life.HAPPY, **wish)
        refusal = await refusal_of(trial.create, request)
        found = await trial.find(request.bot)
        demand(
            isinstance(refusal, (InvalidRequest, *TROUBLE)) if not found else refusal is None and len(found) == 1,
            f"for {str(wish)[:200]} `create` gave {type(refusal).__name__ if refusal else 'a bot'}, `find` {found}",
            mend="shorten or drop what your provider does not take, or raise InvalidRequest naming the field.",
        )
