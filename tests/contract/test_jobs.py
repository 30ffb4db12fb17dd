"""What every engine promises about claiming jobs."""

import asyncio

import pytest
from tests.contract.commands import Do, Put, PutMany, job

from ctxhost.clock import ManualClock
from ctxhost.jobs import FinishJob, ask, job_key
from ctxhost.store import Store, queries
from ctxhost.store.rows import PLATFORM, Job


async def claim(store: Store, *, limit: int = 100, per_lane: int = 100, hold_s: int = 60) -> list[str]:
    jobs, _ = await store.claim(["work"], limit=limit, per_lane=per_lane, hold_s=hold_s)
    return [claimed.ref for claimed in jobs]


async def put_jobs(store: Store, *jobs: Job) -> None:
    await store.write(PutMany(jobs))


async def test_jobs_are_claimed_when_due(store: Store, clock: ManualClock) -> None:
    """A job is taken once its time has come, the earliest first, and with what it needs to run."""
    now = clock.now_ms()
    await put_jobs(store, job("b", due_ms=now - 1), job("a", due_ms=now), job("later", due_ms=now + 1))

    jobs, next_ms = await store.claim(["work"], limit=10, per_lane=10, hold_s=60)
    assert ["b", "a"] == [claimed.ref for claimed in jobs]
    assert (1, now + 60_000) == (jobs[0].attempts, jobs[0].claimed_until_ms)
    assert now + 1 == next_ms


async def test_only_the_kinds_asked_for_are_claimed(store: Store, clock: ManualClock) -> None:
    """A host that cannot do a kind of work leaves it alone, and does not wake for it."""
    await put_jobs(
        store, job("mail", kind="mail", due_ms=clock.now_ms()), job("m2", kind="mail", due_ms=clock.now_ms() + 5)
    )

    assert ([], None) == await store.claim(["work"], limit=10, per_lane=10, hold_s=60)
    assert ([], None) == await store.claim([], limit=10, per_lane=10, hold_s=60)


async def test_the_next_time_to_look(store: Store, clock: ManualClock) -> None:
    """A claim says from when on there is more: at once when the limit cut it short, else when a claim ends."""
    now = clock.now_ms()
    await put_jobs(store, job("a", due_ms=now), job("b", due_ms=now))

    _, next_ms = await store.claim(["work"], limit=1, per_lane=10, hold_s=60)
    assert next_ms is not None
    assert next_ms <= now
    _, next_ms = await store.claim(["work"], limit=1, per_lane=10, hold_s=30)
    assert now + 30_000 == next_ms


async def test_two_claimers_never_get_the_same_job(store: Store, other: Store, clock: ManualClock) -> None:
    """Jobs are shared out among hosts that claim at the same time: each goes to one."""
    await put_jobs(store, *[job(f"{n:02}", due_ms=clock.now_ms()) for n in range(60)])
    taken = await asyncio.gather(*[claim(host, limit=7) for _ in range(5) for host in (store, other)])

    refs = [ref for some in taken for ref in some]
    assert sorted({f"{n:02}" for n in range(60)}) == sorted(refs)


async def test_a_claim_ends_at_its_deadline(store: Store, other: Store, clock: ManualClock) -> None:
    """The job of a host that died is taken by another one, not a moment before its claim ends."""
    await put_jobs(store, job("a", due_ms=clock.now_ms()))
    assert ["a"] == await claim(store, hold_s=60)

    clock.advance(ms=59_999)
    assert [] == await claim(other)
    clock.advance(ms=1)
    assert ["a"] == await claim(other)
    stored = await store.read(queries.by_id(Job, "work/a"))
    assert stored is not None
    assert 2 == stored.attempts


async def test_a_lane_runs_no_more_than_its_share(store: Store, clock: ManualClock) -> None:
    """At most `per_lane` jobs of a lane are claimed at once, over all claims; a finished one makes room."""
    await put_jobs(store, *[job(f"{n}", due_ms=clock.now_ms() + n, lane="slow") for n in range(-5, 0)])

    assert ["-5", "-4"] == await claim(store, per_lane=2)
    assert [] == await claim(store, per_lane=2)
    running = await store.read(queries.by_id(Job, "work/-5"))
    assert running is not None
    await store.write(FinishJob(job=running, due_ms=None))
    assert ["-3"] == await claim(store, per_lane=2)


async def test_a_crowded_lane_does_not_starve_another(store: Store, clock: ManualClock) -> None:
    """However many jobs of one lane wait before it, another lane's job gets its turn."""
    now = clock.now_ms()
    await put_jobs(store, *[job(f"slow{n}", due_ms=now - 10, lane="slow") for n in range(200)])
    await put_jobs(store, job("quick", due_ms=now, lane="quick"))

    rounds = [await claim(store, limit=4, per_lane=2) for _ in range(2)]
    assert "quick" in rounds[0] + rounds[1]
    assert 3 == len(rounds[0] + rounds[1])


async def test_a_wish_that_came_during_a_run_stays(store: Store, clock: ManualClock) -> None:
    """A job that was asked for again while it ran is not ended by that run."""
    await put_jobs(store, job("a", due_ms=clock.now_ms()))
    (claimed,), _ = await store.claim(["work"], limit=1, per_lane=1, hold_s=60)

    def again(view: object) -> None:
        ask(view, kind="work", ref="a", account=PLATFORM, lane="lane", due_ms=clock.now_ms())  # type: ignore[arg-type]

    await store.write(Do(again, keys=(job_key("work", "a"),)))
    assert [] == await claim(store)
    await store.write(FinishJob(job=claimed, due_ms=None))
    assert ["a"] == await claim(store)


async def test_jobs_wake_their_host(store: Store, clock: ManualClock) -> None:
    """A commit that put jobs calls the wakers; one that did not, or a waker that fails, harms nothing."""
    woken: list[str] = []
    store.on_jobs(lambda: woken.append("woken"))
    await store.write(Put(job("a", due_ms=clock.now_ms())))
    await asyncio.sleep(0)
    assert ["woken"] == woken

    await store.write(Do(lambda view: view.delete(Job, "work/a"), keys=((Job, "work/a"),)))
    await asyncio.sleep(0)
    assert ["woken"] == woken


@pytest.mark.parametrize("other_lives", [False, True])
async def test_the_jobs_of_a_dead_host_come_back_at_once(
    store: Store, other: Store, clock: ManualClock, other_lives: bool
) -> None:
    """A host that starts alone takes over at once; while another one lives, its claims stand."""
    await put_jobs(store, job("a", due_ms=clock.now_ms()))
    await other.recover()
    assert ["a"] == await claim(other)
    if not other_lives:
        await other.aclose()

    await store.recover()
    assert ([] if other_lives else ["a"]) == await claim(store)
