"""Every refusal over HTTP, in the order in which they win: a call that breaks two rules hears of the first."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from tests.api.stand import GOOD, OpenStand, Stand, error_of, refusal

from ctxhost.api import auth
from ctxhost.api.auth import BAD_KEYS_PER_MINUTE
from ctxhost.errors import ProviderBusy, ProviderError
from ctxhost.store.rows import ServiceKey
from ctxhost.tenants.commands import CreateKey
from ctxhost.tenants.service import hash_of

UNKNOWN = {"authorization": "Bearer bb_sk_unknown"}
NOWHERE = "/v1/app_nowhere/ai/meetings"
HUGE = b"{" * 1_048_577
Send = Callable[[Stand], Awaitable[httpx.Response]]


async def key_without_scope(stand: Stand, account: str) -> dict[str, str]:
    """A key whose scopes do not open the API; none can be made through the front door yet."""
    text = "bb_sk_narrow"
    row = ServiceKey(hash_of(text), account, "", "", text[:10], "functions", 0, 0, 0)
    await stand.host.store.write(CreateKey(key=row))
    return {"authorization": f"Bearer {text}"}


async def send_bad_keys(stand: Stand) -> None:
    for _ in range(BAD_KEYS_PER_MINUTE):
        assert 401 == (await stand.client.get(stand.bots, headers=UNKNOWN)).status_code


async def limited_before_missing(stand: Stand) -> httpx.Response:
    await send_bad_keys(stand)
    return await stand.client.get(stand.bots)


async def missing_before_invalid(stand: Stand) -> httpx.Response:
    return await stand.client.get(stand.bots, headers={"authorization": "Token bb_sk_unknown"})


async def invalid_before_app(stand: Stand) -> httpx.Response:
    return await stand.client.get(NOWHERE, headers=UNKNOWN)


async def app_before_owner(stand: Stand) -> httpx.Response:
    return await stand.call("GET", NOWHERE)


async def owner_before_scope(stand: Stand) -> httpx.Response:
    return await stand.client.get(stand.bots, headers=await key_without_scope(stand, stand.stranger.account))


async def scope_before_size(stand: Stand) -> httpx.Response:
    headers = await key_without_scope(stand, stand.app.account)
    return await stand.client.post(stand.bots, headers=headers, content=HUGE)


async def size_before_content(stand: Stand) -> httpx.Response:
    return await stand.call("POST", stand.bots, content=HUGE)


async def content_before_provider(stand: Stand) -> httpx.Response:
    return await stand.call("POST", stand.bots, json={})


async def key_of_a_call_before_provider(stand: Stand) -> httpx.Response:
    return await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": ""})


async def query_before_provider(stand: Stand) -> httpx.Response:
    return await stand.call("GET", f"{stand.bots}?cursor=nonsense")


async def query_before_bot(stand: Stand) -> httpx.Response:
    return await stand.call("GET", f"{stand.bots}/nobody/transcript?format=docx")


async def provider_before_bot(stand: Stand) -> httpx.Response:
    return await stand.call("GET", f"{stand.bots}/nobody")


async def content_before_conflict(stand: Stand) -> httpx.Response:
    await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"})
    return await stand.call("POST", stand.bots, json={**GOOD, "botName": ""}, headers={"idempotency-key": "k"})


async def conflict_before_credit(stand: Stand) -> httpx.Response:
    await stand.call("POST", stand.bots, json=GOOD, headers={"idempotency-key": "k"})
    await stand.host.ledger.adjust(stand.app.account, -5_000_000_000, key="gone", note="gone")
    return await stand.call("POST", stand.bots, json={**GOOD, "botName": "x"}, headers={"idempotency-key": "k"})


async def credit_before_upstream(stand: Stand) -> httpx.Response:
    stand.provider.create_error = ProviderError("upstream says no")
    headers = {"authorization": f"Bearer {stand.stranger_key}"}
    return await stand.client.post(f"/v1/{stand.stranger.id}/ai/meetings", json=GOOD, headers=headers)


LIMITED: dict[str, Any] = {"rate_limits": True}
BARE: dict[str, Any] = {"offered": []}


@pytest.mark.parametrize(
    ("settings", "send", "expected"),
    [
        pytest.param(LIMITED, limited_before_missing, (429, "rate_limited"), id="1-rate_limited-wins-over-missing"),
        pytest.param({}, missing_before_invalid, (401, "missing_credentials"), id="2-missing-wins-over-invalid"),
        pytest.param({}, invalid_before_app, (401, "invalid_api_key"), id="3-invalid_key-wins-over-app_not_found"),
        pytest.param({}, app_before_owner, (404, "app_not_found"), id="4-app_not_found-wins-over-not_authorized"),
        pytest.param({}, owner_before_scope, (403, "not_authorized"), id="5-not_authorized-wins-over-scope"),
        pytest.param({}, scope_before_size, (403, "insufficient_scope"), id="6-scope-wins-over-size"),
        pytest.param({}, size_before_content, (413, "payload_too_large"), id="7-size-wins-over-content"),
        pytest.param(BARE, content_before_provider, (400, "invalid_request"), id="8-body-wins-over-provider"),
        pytest.param(BARE, key_of_a_call_before_provider, (400, "invalid_request"), id="8-header-wins-over-provider"),
        pytest.param(BARE, query_before_provider, (400, "invalid_request"), id="8-query-wins-over-provider"),
        pytest.param({}, query_before_bot, (400, "invalid_request"), id="8-query-wins-over-bot_not_found"),
        pytest.param(BARE, provider_before_bot, (501, "provider_unavailable"), id="9-provider-wins-over-bot"),
        pytest.param({}, provider_before_bot, (404, "bot_not_found"), id="10-bot_not_found"),
        pytest.param({}, content_before_conflict, (400, "invalid_request"), id="8-content-wins-over-conflict"),
        pytest.param({}, conflict_before_credit, (409, "idempotency_conflict"), id="11-conflict-wins-over-credit"),
        pytest.param({}, credit_before_upstream, (402, "insufficient_credits"), id="12-credit-wins-over-upstream"),
    ],
)
async def test_the_first_refusal_wins(
    open_stand: OpenStand, settings: dict[str, Any], send: Send, expected: tuple[int, str]
) -> None:
    """The rows of the table of refusals, each against the next."""
    stand = await open_stand(**settings)

    assert expected == refusal(await send(stand))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(ProviderError("no"), (502, "provider_error"), id="refused"),
        pytest.param(ProviderBusy("full", retry_after_s=30), (503, "provider_busy"), id="full"),
    ],
)
async def test_an_upstream_refusal_is_told_and_costs_nothing(
    stand: Stand, error: Exception, expected: tuple[int, str]
) -> None:
    """The caller hears what the provider said; the hold is back; the bot stays in the list as refused."""
    stand.provider.create_error = error
    response = await stand.call("POST", stand.bots, json=GOOD)
    listed = (await stand.call("GET", stand.bots)).json()["bots"]

    assert expected == refusal(response)
    assert ("30" if expected[0] == 503 else None) == response.headers.get("retry-after")
    assert 0 == await stand.held()
    assert [("fatal", "spawn_refused")] == [(bot["status"], bot["statusReason"]) for bot in listed]


async def test_a_refused_call_changes_nothing(stand: Stand) -> None:
    """No bot, no hold and no call to the provider, whatever the refusal."""
    for headers, body in [
        ({}, GOOD),
        (UNKNOWN, GOOD),
        ({"authorization": f"Bearer {stand.stranger_key}"}, GOOD),
        (stand.auth, {**GOOD, "x": 1}),
    ]:
        assert 400 <= (await stand.client.post(stand.bots, json=body, headers=headers)).status_code < 500

    assert [] == (await stand.call("GET", stand.bots)).json()["bots"]
    assert [] == stand.provider.created
    assert 0 == await stand.held()


async def test_too_little_credit_is_told_in_numbers(stand: Stand) -> None:
    """What is needed and what there is are JSON numbers, for a caller to reckon with."""
    await stand.host.ledger.adjust(stand.app.account, -4_980_000_000, key="spent", note="spent")
    error = error_of(await stand.call("POST", stand.bots, json=GOOD))

    assert ("billing_error", 0.065, 0.02) == (error["type"], error["required_usd"], error["available_usd"])


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer bb_sk_", "Bearer sk-123", "Basic bb_sk_x", "bb_sk_x", "Bearer bb_sk_x y"],
)
async def test_what_is_no_service_key_is_missing(stand: Stand, header: str) -> None:
    """Anything but `Bearer bb_sk_…` counts as no credentials, and the answer says which scheme is meant."""
    response = await stand.client.get(stand.bots, headers={"authorization": header})

    assert (401, "missing_credentials") == refusal(response)
    assert "Bearer" == response.headers["www-authenticate"]


async def test_a_key_that_has_ended_is_invalid(stand: Stand) -> None:
    """Revoked and expired keys are as good as unknown ones; the scheme's case does not matter."""
    short, _ = await stand.host.tenants.create_key(stand.app.account, expires_ms=stand.clock.now_ms() + 1_000)
    headers = {"authorization": f"bearer {short}"}
    assert 200 == (await stand.client.get(stand.bots, headers=headers)).status_code
    stand.clock.advance(seconds=1)
    await stand.host.tenants.revoke_key(stand.app.account, stand.key)

    assert (401, "invalid_api_key") == refusal(await stand.client.get(stand.bots, headers=headers))
    assert (401, "invalid_api_key") == refusal(await stand.call("GET", stand.bots))


async def test_a_key_that_is_bound_to_an_app_opens_that_app_alone(stand: Stand) -> None:
    """Not even another app of the same owner."""
    key, _ = await stand.host.tenants.create_key(stand.app.account, app=stand.app.id, scopes=("ai:gateway",))
    headers = {"authorization": f"Bearer {key}"}

    assert 200 == (await stand.client.get(stand.bots, headers=headers)).status_code
    assert (403, "not_authorized") == refusal(
        await stand.client.get(f"/v1/{stand.sister.id}/ai/meetings", headers=headers)
    )


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1", (404, "not_found")),
        ("GET", "/v1/{app}/ai", (404, "not_found")),
        ("GET", "/v1/{app}/ai/meetings/", (404, "not_found")),
        ("GET", "/v1/{app}/ai/meetings/b/other", (404, "not_found")),
        ("GET", "/plugins/scripted/file", (404, "not_found")),
        ("GET", "/plugins/nobody/file", (404, "not_found")),
        ("GET", "/v1/{app}/fn/nothing", (404, "function_not_found")),
        ("PUT", "/v1/{app}/ai/meetings", (405, "method_not_allowed")),
        ("POST", "/v1/{app}/ai/meetings/webhook", (405, "method_not_allowed")),
        ("DELETE", "/v1/{app}/ai/meetings/usage", (405, "method_not_allowed")),
        ("POST", "/v1/ai/meetings/_status", (405, "method_not_allowed")),
        ("GET", "/v1/ai/meetings/_webhooks/scripted", (405, "method_not_allowed")),
    ],
)
async def test_unknown_routes_and_methods_have_the_one_shape(
    stand: Stand, method: str, path: str, expected: tuple[int, str]
) -> None:
    """A client needs one way to read an error."""
    response = await stand.call(method, path.replace("{app}", stand.app.id))

    assert expected == refusal(response)
    assert (expected[0] == 405) == ("allow" in response.headers)


async def test_a_crash_has_the_one_shape(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is 500 without a word of it; the log has it all."""
    stand.provider.prices = None  # type: ignore[assignment]  # as a broken adapter might
    response = await stand.call("GET", f"{stand.bots}/_estimate?durationMinutes=1")

    assert (500, "internal_error") == refusal(response)
    assert "NoneType" not in response.text
    assert response.headers["x-request-id"] in caplog.text


async def test_a_limit_ends_when_its_time_is_over(open_stand: OpenStand) -> None:
    """An address that sent bad keys is let in again after the seconds in Retry-After; a good key waits with it."""
    stand = await open_stand(rate_limits=True)
    await send_bad_keys(stand)
    response = await stand.call("GET", stand.bots)
    assert (429, "rate_limited") == refusal(response)
    stand.clock.advance(seconds=int(response.headers["retry-after"]))

    assert 200 == (await stand.call("GET", stand.bots)).status_code


async def test_the_calls_of_one_key_are_counted(open_stand: OpenStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the key is known to be good, and before anything is said of the app; another key is not held up."""
    monkeypatch.setattr(auth, "CALLS_PER_MINUTE", 3)
    stand = await open_stand(rate_limits=True)
    for _ in range(3):
        assert 200 == (await stand.call("GET", stand.bots)).status_code
    response = await stand.call("GET", NOWHERE)
    others = await stand.client.get(NOWHERE, headers={"authorization": f"Bearer {stand.stranger_key}"})

    assert ((429, "rate_limited"), "20") == (refusal(response), response.headers["retry-after"])
    assert (404, "app_not_found") == refusal(others)


async def test_without_limits_nothing_is_counted(stand: Stand) -> None:
    """The sandbox lets a learner be wrong as often as they like."""
    for _ in range(3 * BAD_KEYS_PER_MINUTE):
        response = await stand.client.get(stand.bots, headers=UNKNOWN)

    assert (401, "invalid_api_key") == refusal(response)
