"""The door for providers' webhooks: what is not the provider's is refused, all else is kept, and looked at once."""

import json
from typing import Any

import httpx
import pytest
from tests.api.scripted import SIGNATURE, life
from tests.api.stand import Stand, refusal

from ctxhost.api.inbound import MAX_WEBHOOK_BYTES
from ctxhost.store import queries

DOOR = "/v1/ai/meetings/_webhooks/scripted"


async def tell(stand: Stand, event: str = "e1", bot: str = "p1", **more: Any) -> httpx.Response:
    """An event of the provider's."""
    body = json.dumps({"id": event, "kind": "bot.done", "bot": bot}).encode()
    return await stand.client.post(DOOR, **{"content": body, "headers": SIGNATURE, **more})


async def kept(stand: Stand) -> list[str]:
    ids = await stand.host.store.read(queries.ids("select id from inbound_event order by id"))
    return list(ids)


@pytest.mark.parametrize(
    ("path", "headers", "content", "expected"),
    [
        pytest.param(DOOR, {}, b"{}", (401, "invalid_signature"), id="no-signature"),
        pytest.param(DOOR, {"x-scripted-signature": "wrong"}, b"{}", (401, "invalid_signature"), id="wrong-signature"),
        pytest.param(DOOR, {}, b"not json", (401, "invalid_signature"), id="signature-wins-over-content"),
        pytest.param(DOOR, SIGNATURE, b"not json", (400, "invalid_request"), id="signed-but-not-json"),
        pytest.param(DOOR, SIGNATURE, b"", (400, "invalid_request"), id="signed-but-empty"),
        pytest.param(DOOR, SIGNATURE, b"x" * (MAX_WEBHOOK_BYTES + 1), (413, "payload_too_large"), id="too-large"),
        pytest.param("/v1/ai/meetings/_webhooks/nobody", SIGNATURE, b"{}", (404, "not_found"), id="no-such-provider"),
    ],
)
async def test_what_is_not_an_event_is_refused(
    stand: Stand, path: str, headers: dict[str, str], content: bytes, expected: tuple[int, str]
) -> None:
    """The adapter looks at the raw bytes; nothing of what it refuses is kept."""
    assert expected == refusal(await stand.client.post(path, headers=headers, content=content))
    assert [] == await kept(stand)


async def test_an_event_makes_the_host_look(stand: Stand) -> None:
    """200 and `ok`; the bot's record is read, and what it says is true from then on."""
    bot = (await stand.start())["id"]
    stand.provider.records["p1"] = life(stand.clock.now_ms() + 1_000)
    response = await tell(stand)
    stand.clock.advance(seconds=50)
    await stand.host.jobs.run_due()

    assert (200, b'{"ok":true}') == (response.status_code, response.content)
    assert "done" == (await stand.get(bot))["status"]


async def test_the_same_event_twice_has_one_effect(stand: Stand) -> None:
    """Answered alike, kept once, read once."""
    await stand.start()
    stand.provider.records["p1"] = life(stand.clock.now_ms())
    for _ in range(2):
        assert b'{"ok":true}' == (await tell(stand)).content
        await stand.host.jobs.run_due()

    assert ["scripted/e1"] == await kept(stand)
    assert 1 == stand.provider.reads


async def test_an_event_of_nobodys_bot_is_kept(stand: Stand) -> None:
    """It may be of a bot that another host made, or of a kind that nobody knows: 200, and nothing else."""
    response = await tell(stand, bot="p99")
    await stand.host.jobs.run_due()

    assert (200, ["scripted/e1"], 0) == (response.status_code, await kept(stand), stand.provider.reads)


async def test_a_webhook_needs_no_key_and_takes_none(stand: Stand) -> None:
    """Its signature is its credential; the API's own key does not replace it."""
    response = await tell(stand, headers=stand.auth)

    assert (401, "invalid_signature") == refusal(response)
    assert "www-authenticate" not in response.headers
