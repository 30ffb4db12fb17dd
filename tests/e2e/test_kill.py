"""`kill -9` of a real host at many moments of its bots' lives: the books and the messages of an undisturbed run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.flow import expected_messages, killed, undisturbed
from tests.e2e.hosts import hosts_on
from tests.e2e.outside import OpenReceiver

SEED = 20_261_121
KILLS = 32


def test_kill_9_at_any_moment(tmp_path: Path, open_receiver: OpenReceiver) -> None:
    """The same charged lines, pool balances, ends and set of webhook ids as an undisturbed run; nothing held."""
    calm, rough = open_receiver(), open_receiver()
    database = str(tmp_path / "rough.db")
    with ThreadPoolExecutor(1) as pool:
        calmly = pool.submit(undisturbed, tmp_path / "calm", calm)
        with hosts_on(database, tmp_path / "rough", rough) as caller:
            after = killed(caller, database, rough, kills=KILLS, seed=SEED)
        before = calmly.result()

    assert before.charges == after.charges
    assert before.pools == after.pools
    assert before.ends == after.ends
    expected = expected_messages(after, calm)
    assert expected == rough.received
    assert set(expected) == set(after.messages)
