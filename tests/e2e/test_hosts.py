"""Two real hosts on one PostgreSQL: either may die or be restarted at any moment, and nobody can tell afterwards."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM

import anyio
from tests.e2e.books import Books, settled_books
from tests.e2e.flow import expected_messages, killed, undisturbed
from tests.e2e.hosts import hosts_on, wait_for
from tests.e2e.outside import OpenReceiver
from tests.e2e.rolling import calling

SEED = 20_261_122
KILLS = 26
RESTARTS = 6
DELIVERY_TAKES_S = 0.25
SETTLED_WITHIN_S = 30
"""Half of a claim, which a dead host's jobs do not wait for."""


def test_one_of_two_killed_at_any_moment(tmp_path: Path, open_receiver: OpenReceiver, database: str) -> None:
    """The same charged lines, pool balances, ends and set of webhook ids as one host's undisturbed run on SQLite."""
    calm, rough = open_receiver(), open_receiver()
    with ThreadPoolExecutor(1) as pool:
        calmly = pool.submit(undisturbed, tmp_path / "calm", calm)
        with hosts_on(database, tmp_path / "rough", rough, count=2) as caller:
            after = killed(caller, database, rough, kills=KILLS, seed=SEED)
        before = calmly.result()

    assert before.charges == after.charges
    assert before.pools == after.pools
    assert before.ends == after.ends
    expected = expected_messages(after, calm)
    assert expected == rough.received
    assert set(expected) == set(after.messages)


def test_the_other_host_takes_over(tmp_path: Path, open_receiver: OpenReceiver, database: str) -> None:
    """What a killed host was doing is done by the one that lives, long before the claims end."""
    names = [f"{number}.happy" for number in range(4)]
    receiver = open_receiver(after_s=SETTLED_WITHIN_S)
    with hosts_on(database, tmp_path / "hosts", receiver, count=2) as caller:
        victim, survivor = caller.hosts
        victim.begin()
        victim.await_up()
        caller.start_bots(names)
        assert set(names) == set(caller.started)
        wait_for(lambda: bool(receiver.received), within_s=SETTLED_WITHIN_S, what="no delivery is out")
        survivor.begin()
        survivor.await_up()
        under_way = dict(receiver.times)
        victim.kill()
        receiver.hurry()

        async def settled() -> Books:
            return await settled_books(database, names, receiver, within_s=SETTLED_WITHIN_S)

        books = anyio.run(settled, backend_options={"use_uvloop": True})

    assert under_way
    assert all(receiver.times[name] > times for name, times in under_way.items())
    assert {"delivered"} == set(books.messages.values())


def test_a_rolling_restart_loses_nothing(tmp_path: Path, open_receiver: OpenReceiver, database: str) -> None:
    """No call is cut off, what was acknowledged has its effect, and each message reaches its receiver once."""
    receiver = open_receiver(after_s=DELIVERY_TAKES_S)
    with hosts_on(database, tmp_path / "hosts", receiver, count=2) as caller:
        for host in caller.hosts:
            host.begin()
            host.await_up()
        with calling(caller.hosts, caller.key) as clients:
            for n in range(RESTARTS):
                host = caller.hosts[n % 2]
                assert 0 == host.end(SIGTERM)
                host.begin()
                host.await_up()
        assert [] == clients.faults

        async def settled() -> Books:
            return await settled_books(database, clients.started, receiver, within_s=SETTLED_WITHIN_S)

        books = anyio.run(settled, backend_options={"use_uvloop": True})

    assert clients.started == books.ids
    assert {"done"} == {status for status, _, _ in books.ends.values()}
    assert clients.stopped
    assert set(books.messages) == set(receiver.times)
    assert {1} == set(receiver.times.values())
