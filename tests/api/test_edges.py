"""Where the API meets the rest: mounted in another program, over its caps, with two providers, and full."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.api.scripted import Offering, ScriptedProvider, life
from tests.api.stand import BASE_URL, GOOD, OpenStand, Stand, refusal

from ctxhost.clock import rfc3339
from ctxhost.host import Host
from ctxhost.settings import MeetingSettings


async def test_the_app_can_be_mounted_in_another(open_stand: OpenStand) -> None:
    """Below a prefix everything works as at the top, also what the host asks of itself."""
    stand = await open_stand(base_url=f"{BASE_URL}/inner")

    async def handler(_: object, ctx: object) -> object:
        url = f"{ctx.env['BUTTERBASE_API_URL']}/health/live"  # type: ignore[attr-defined]
        return (await ctx.http.get(url)).json()  # type: ignore[attr-defined]

    stand.host.functions.register(stand.app.id, "f", handler, auth="none")
    outer = Starlette(routes=[Mount("/inner", app=stand.host.asgi)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url=f"{BASE_URL}/inner") as client:
        assert {"status": "ok"} == (await client.get("/health/live")).json()
        assert {"bots": [], "nextCursor": None} == (await client.get(stand.bots, headers=stand.auth)).json()
        assert 200 == (await client.get("/docs")).status_code
        assert (404, "not_found") == refusal(await client.get("/nothing"))
        assert {"status": "ok"} == (await client.post(f"/v1/{stand.app.id}/fn/f")).json()
    assert stand.host.outgoing.own_address(f"{BASE_URL}/inner/fn/hook")
    assert stand.host.outgoing.own_address(f"{BASE_URL}/inner/health/live") is False


async def test_the_operators_cap_on_waiting_bots_holds(open_stand: OpenStand) -> None:
    """One more than may wait is refused with a time to come back; a `joinAt` of the past, or soon, is no way around."""
    stand = await open_stand(meetings=MeetingSettings(unadmitted_limit=1))
    await stand.start()
    refused = [
        await stand.call("POST", stand.bots, json={**GOOD, **when})
        for when in ({}, {"joinAt": "2001-01-01T00:00:00Z"}, {"joinAt": rfc3339(stand.clock.now_ms() + 60_000)})
    ]

    assert [(429, "rate_limited")] * 3 == [refusal(response) for response in refused]
    assert ["30"] * 3 == [response.headers["retry-after"] for response in refused]
    assert 65_000_000 == await stand.held()


async def test_a_bot_may_be_asked_of_one_provider_by_name(open_stand: OpenStand) -> None:
    """Where several are installed the operator's choice is the default, and a caller may name another."""
    first, second = ScriptedProvider("first"), ScriptedProvider("second")
    stand = await open_stand(offered=[Offering(first, second)], meetings=MeetingSettings(provider="second"))

    assert "second" == (await stand.start())["provider"]
    assert "first" == (await stand.start(provider="first"))["provider"]
    assert (1, 1) == (len(first.created), len(second.created))


async def test_a_provider_that_was_chosen_and_is_not_there(open_stand: OpenStand) -> None:
    """New bots are refused and the status says so."""
    stand = await open_stand(meetings=MeetingSettings(provider="missing"))

    assert (501, "provider_unavailable") == refusal(await stand.call("POST", stand.bots, json=GOOD))
    assert {"available": False} == (await stand.client.get("/v1/ai/meetings/_status")).json()


async def test_a_host_that_is_full_says_when_to_come_back(stand: Stand) -> None:
    """A store that takes no more is 503 with Retry-After, for reads and for writes."""
    await stand.host.store.aclose()
    response = await stand.call("GET", stand.bots)

    assert (503, "overloaded") == refusal(response)
    assert 1 <= int(response.headers["retry-after"])


async def test_what_was_told_survives_a_restart(stand: Stand) -> None:
    """A second host on the same file answers for the bots, keys, webhooks and journal of the first."""
    bot = (await stand.start())["id"]
    stand.provider.records["p1"] = life(stand.clock.now_ms() + 1_000)
    stand.clock.advance(seconds=100)
    await stand.host.jobs.run_due()
    await stand.call("PUT", stand.webhook, json={"forward_url": "https://8.8.8.8/"})
    journal = f"/v1/{stand.app.id}/credits/entries"
    paths = [stand.bots, f"{stand.bots}/{bot}", f"{stand.bots}/usage", stand.webhook, journal]
    answers = [(await stand.call("GET", path)).json() for path in paths]
    await stand.host.store.aclose()
    plugins = [Offering(ScriptedProvider())]
    async with (
        Host(stand.host.settings, plugins=plugins, clock=stand.clock, work=False) as host,
        httpx.AsyncClient(transport=httpx.ASGITransport(host.asgi), base_url=BASE_URL, headers=stand.auth) as client,
    ):
        assert answers == [(await client.get(path)).json() for path in paths]


@pytest.mark.parametrize("path", ["/health/live", "/v1/ai/meetings/_status", "/docs", "/openapi.json", "/"])
async def test_a_head_is_a_get_without_its_body(stand: Stand, path: str) -> None:
    """Monitors ask so."""
    assert 200 == (await stand.client.head(path)).status_code
