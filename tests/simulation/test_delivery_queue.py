"""What changes while a bot's queue is being worked off counts from the very next message on."""

from collections.abc import Awaitable, Callable, Mapping

import pytest
from tests.simulation.conftest import World
from tests.simulation.test_delivery import ALL, happy_bot, message

from ctxhost.webhooks.outbox import message_id
from ctxhost.webhooks.signing import sign_body


def during(event: str, change: Callable[[], Awaitable[object]]) -> Callable[[Mapping[str, str], bytes], Awaitable[int]]:
    """Accept everything; the first time that `event` comes, something else happens before it is answered."""
    left = [change]

    async def answer(headers: Mapping[str, str], body: bytes) -> int:
        if headers["x-bb-event"] == event and left:
            await left.pop()()
        return 200

    return answer


async def test_a_rotation_counts_from_the_next_message_on(world: World) -> None:
    """URL and secret are read anew for each attempt."""
    bot, old = await happy_bot(world), world.inbox.secret
    world.inbox.behaviour = during(ALL[1], lambda: world.sim.receive(world.tenant, rotate=True))
    await world.sim.run()

    assert ALL == world.inbox.events(bot)
    new = world.inbox.secret
    assert old != new
    for received, secret in zip(world.inbox.accepted, (old, old, new, new), strict=True):
        assert sign_body(secret, received.body) == received.headers["x-bb-signature"]


async def test_after_a_delete_nothing_more_is_sent(world: World) -> None:
    """An endpoint that goes while its messages leave gets the one under way and no other."""
    bot = await happy_bot(world)
    world.inbox.behaviour = during(ALL[1], lambda: world.sim.host.webhooks.delete(world.tenant.app))
    await world.sim.run()

    assert ALL[:2] == world.inbox.events(bot)
    assert ["delivered", "delivered", "dead", "dead"] == [(await message(world, bot, event)).state for event in ALL]
    await world.check_quiet()


@pytest.mark.parametrize("place", [1, 3])
async def test_what_is_queued_meanwhile_takes_its_own_place(world: World, place: int) -> None:
    """A message that ranks before those still waiting leaves before them; behind the last one it is not forgotten."""
    bot = await happy_bot(world)
    first = message_id(bot, ALL[0])
    again = during(ALL[place], lambda: world.sim.host.webhooks.resend(world.tenant.app, first))
    world.inbox.behaviour = again
    await world.sim.run()

    assert [*ALL[: place + 1], ALL[0], *ALL[place + 1 :]] == world.inbox.events(bot)
    await world.check_quiet()
