"""Making a bot: exactly one, or a clear answer that there is none, whatever Recall does."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ctxhost.errors import InvalidRequest, ProviderBusy, ProviderError, ProviderTimeout
from ctxhost.meetings.provider import BotRequest
from ctxhost_recall.emulator import Fault, cut, depleted, garbage, overloaded, refused, silent, throttled

Ask = Callable[..., BotRequest]


def keys(stand: Any) -> list[str]:
    return [seen.headers["idempotency-key"] for seen in stand.emulator.calls("create")]


async def test_a_bot_is_made(stand: Any, asked: Ask) -> None:
    """The id that comes back is the one bot that Recall has, with our ids beside the user's metadata."""
    made = await stand.open().create(asked())

    assert [made] == list(stand.emulator.bots)
    told = stand.emulator.bots[made].wish.metadata
    assert {
        "bb_bot_id": asked().bot,
        "bb_app_id": "app_1",
        "meeting": "m-9001",
        "bb_recording": "mp4",
        "bb_transcribe": "recallai_async",
    } == told


async def test_the_same_attempt_makes_no_second_bot(stand: Any, asked: Ask) -> None:
    """Repeating (bot, attempt), also from another process, answers with the same bot."""
    first = await stand.open().create(asked())

    assert first == await stand.open().create(asked())
    assert 1 == len(stand.emulator.bots)


async def test_507_twice_then_success(stand: Any, asked: Ask) -> None:
    """Each 507 is waited out as long as it says, and its key is spent: another is used."""
    stand.emulator.fail("create", depleted(retry_after_s=5), times=2)

    made = await stand.open().create(asked())

    assert [made] == list(stand.emulator.bots)
    assert 10_000 == stand.clock.waited_ms
    assert 3 == len(set(keys(stand)))


async def test_507_without_a_wait_is_tried_again_after_30_s(stand: Any, asked: Ask) -> None:
    """Recall's own advice, where there is time for it."""
    stand.emulator.fail("create", depleted(retry_after_s=None))

    await stand.open(create_deadline_s=60).create(asked())

    assert 30_000 == stand.clock.waited_ms


async def test_507_for_ever_is_busy(stand: Any, asked: Ask) -> None:
    """At the deadline the caller is told how long to wait; there is no bot, and nothing was waited beyond it."""
    stand.emulator.fail("create", depleted(retry_after_s=10), times=None)

    with pytest.raises(ProviderBusy) as refusal:
        await stand.open().create(asked())

    assert 10 == refusal.value.retry_after_s
    assert 20_000 == stand.clock.waited_ms
    assert not stand.emulator.bots


async def test_429_is_waited_out_under_the_same_key(stand: Any, asked: Ask) -> None:
    """Too many calls is no answer about the bot."""
    stand.emulator.fail("create", throttled(7))

    made = await stand.open().create(asked())

    assert [made] == list(stand.emulator.bots)
    assert 7_000 == stand.clock.waited_ms
    assert 1 == len(set(keys(stand)))


async def test_429_beyond_the_deadline_is_busy(stand: Any, asked: Ask) -> None:
    """What cannot be waited for is handed to the caller."""
    stand.emulator.fail("create", throttled(3_000))

    with pytest.raises(ProviderBusy) as refusal:
        await stand.open().create(asked())

    assert (3_000, 0) == (refusal.value.retry_after_s, stand.clock.waited_ms)


@pytest.mark.parametrize("told", ["-1", "1000000000000", "Wed, 21 Oct 2026 07:28:00 GMT", "junk", "0"])
async def test_a_retry_after_of_junk_stays_within_bounds(stand: Any, asked: Ask, told: str) -> None:
    """Whatever stands in Retry-After, the wait is sane and the caller gets a sane one."""
    stand.emulator.fail("create", Fault(status=429, headers={"retry-after": told}), times=None)

    with pytest.raises(ProviderBusy) as refusal:
        await stand.open().create(asked())

    assert refusal.value.retry_after_s in (1, 10)
    assert stand.clock.waited_ms <= 25_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"meeting_url": ["Enter a valid URL."]}, "meetingUrl", id="link"),
        pytest.param({"code": "teams_blacklisted_tenant", "detail": "no"}, "meetingUrl", id="tenant"),
        pytest.param({"join_at": ["too far"]}, "joinAt", id="join_at"),
    ],
)
async def test_400_is_the_callers(stand: Any, asked: Ask, body: Any, field: str) -> None:
    """What Recall refuses of the caller's own fields is a 400 of ours on that field."""
    stand.emulator.fail("create", Fault(status=400, body=body))

    with pytest.raises(InvalidRequest) as refusal:
        await stand.open().create(asked())

    assert [field] == refusal.value.details[0]["path"]


async def test_400_about_our_own_fields_is_not_the_callers(stand: Any, asked: Ask) -> None:
    """A mistake of the adapter is a 502, in the log."""
    stand.emulator.fail("create", Fault(status=400, body={"recording_config": ["no"]}))

    with pytest.raises(ProviderError):
        await stand.open().create(asked())


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_account_is_the_operators_alarm(
    stand: Any, asked: Ask, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller hears of a provider's error; the operator's log says what to look at, without the key."""
    stand.emulator.fail("create", refused(status, "authentication_failed"), times=None)

    with pytest.raises(ProviderError), caplog.at_level(logging.ERROR, "ctxhost.recall"):
        await stand.open().create(asked())

    assert any(record.levelno == logging.ERROR and str(status) in record.getMessage() for record in caplog.records)
    assert stand.emulator.api_key not in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(overloaded(502, takes_effect=True), id="502-after"),
        pytest.param(overloaded(503), id="503-before"),
        pytest.param(overloaded(504, takes_effect=True), id="504-after"),
        pytest.param(cut(takes_effect=True), id="cut-after"),
        pytest.param(cut(), id="cut-before"),
    ],
)
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(stand: Any, asked: Ask, fault: Fault) -> None:
    """Whether or not the first call made the bot, there is exactly one in the end."""
    stand.emulator.fail("create", fault)

    made = await stand.open().create(asked())

    assert [made] == list(stand.emulator.bots)
    assert 1 == len(set(keys(stand)))


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
async def test_silence_is_an_unknown_outcome(
    stand: Any, asked: Ask, takes_effect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller is never told that there is no bot while there may be one; what was made is found, or made once."""
    monkeypatch.setattr("ctxhost_recall.client.ATTEMPT_TIMEOUT_S", 0.15)
    stand.emulator.fail("create", silent(takes_effect=takes_effect))
    provider = stand.open(create_deadline_s=0.4)

    with pytest.raises(ProviderTimeout):
        await provider.create(asked())

    assert takes_effect == bool(await provider.find(asked().bot))
    await provider.create(asked())
    assert 1 == len(stand.emulator.bots)


async def test_an_overload_until_the_deadline_is_an_unknown_outcome(stand: Any, asked: Ask) -> None:
    """A machine in front that answers 503 does not know whether the one behind has made a bot."""
    stand.emulator.fail("create", overloaded(503), times=None)

    with pytest.raises(ProviderTimeout):
        await stand.open().create(asked())

    assert stand.clock.waited_ms <= 25_000


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize(
    "lost", [httpx.Response(502), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut")], ids=str
)
async def test_a_refusal_after_a_silence_is_an_unknown_outcome(stand: Any, asked: Ask, lost: Any, status: int) -> None:
    """What is judged before the key is looked at says nothing about the call before."""
    # The emulator would give the kept answer again; here the front judges first.
    provider = stand.answering(lost, *[httpx.Response(status) for _ in range(40)])
    with pytest.raises(ProviderTimeout):
        await provider.create(asked())


async def test_a_silence_is_remembered(stand: Any, asked: Ask) -> None:
    """Asked again later and then refused for other reasons, it is still not known whether there is a bot."""
    provider = stand.answering(*[httpx.ReadTimeout("late") for _ in range(5)], httpx.Response(429), create_deadline_s=9)
    for _ in range(2):
        with pytest.raises(ProviderTimeout):
            await provider.create(asked())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html>", id="html"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"id": 7}', id="wrong-type"),
        pytest.param(b'{"id": "../../x"}', id="path"),
        pytest.param(b'{"id": "\\ud800"}', id="surrogate"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"id": "b-1"}' + b" " * (8 * 1024 * 1024), id="huge"),
    ],
)
async def test_success_that_cannot_be_read_is_an_unknown_outcome(stand: Any, asked: Ask, content: bytes) -> None:
    """A 201 says that there is a bot, whatever is behind it."""
    stand.emulator.fail("create", garbage(content, status=201))

    with pytest.raises(ProviderTimeout):
        await stand.open().create(asked())


async def test_a_compressed_answer_is_not_unpacked(stand: Any, asked: Ask) -> None:
    """None was asked for; a bomb is not opened."""
    stand.emulator.fail("create", garbage(b"\x1f\x8b" + b"0" * 100, status=201, content_encoding="gzip"))

    with pytest.raises(ProviderTimeout):
        await stand.open().create(asked())


async def test_nothing_sent_is_a_known_refusal(stand: Any, asked: Ask) -> None:
    """Where no connection could be made there can be no bot."""
    refused_connections = [httpx.ConnectError("refused") for _ in range(40)]

    with pytest.raises(ProviderError):
        await stand.answering(*refused_connections).create(asked())


async def test_an_unknown_outcome_goes_on_with_the_key_it_was_left_with(stand: Any, asked: Ask) -> None:
    """After a spent key and a silence, the repetition does not start again with the spent key."""
    stand.emulator.fail("create", depleted(retry_after_s=1))
    stand.emulator.fail("create", overloaded(502, takes_effect=True))
    stand.emulator.fail("create", overloaded(502), times=0)
    provider = stand.open(create_deadline_s=1.2)

    with pytest.raises(ProviderTimeout):
        await provider.create(asked())
    made = await provider.create(asked())

    assert [made] == list(stand.emulator.bots)
    assert ["0", "1", "1"] == [key.rpartition(".")[2] for key in keys(stand)]


async def test_409_is_asked_again(stand: Any, asked: Ask) -> None:
    """The same key in flight: its answer is waited for."""
    stand.emulator.fail("create", refused(409, "conflict"), times=2)

    made = await stand.open().create(asked())

    assert [made] == list(stand.emulator.bots)


async def test_a_redirect_is_not_followed(stand: Any, asked: Ask) -> None:
    """The key goes to the operator's address and nowhere else."""
    stand.emulator.fail("create", Fault(status=307, body=b"", headers={"location": "http://127.0.0.2/"}))

    with pytest.raises(ProviderError):
        await stand.open().create(asked())
