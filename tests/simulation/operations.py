"""Operations on the ledger, drawn from few accounts, leases and keys so that they meet, and from hostile values.

`choose` picks one of several options: Hypothesis, or a seeded generator.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from tests.contract.engines import SQLITE, Engine
from tests.simulation.world import HOSTS, START_MS, World, furnished

from ctxhost.ledger.commands import (
    Adjust,
    Charge,
    Extend,
    Grant,
    OpenAccount,
    Refund,
    Release,
    Reserve,
    Reset,
    SetTerms,
    Tick,
    Trim,
    Waive,
)

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
TTL_S = 60
ACCOUNTS = ("prepaid", "monthly")
KEYS = tuple(f"k{n}" for n in range(8))
LEASES = tuple((account, f"{account}-{n}") for account in ACCOUNTS for n in range(6))
LINES = (("recording",), ("recording", "transcription"), ("transcription", "recording", "summary"))
LINE = ("recording", "transcription")
AMOUNTS = (0, 1, 5, 10, 30, 70, 100)
HOSTILE = (-1, True, 1.5, 10**15, 10**15 + 1, 2**63, "5", None)
SHORT_JUMPS = (0, SECOND, 10 * SECOND)
TTL_JUMPS = tuple(TTL_S * SECOND + ms for ms in (-SECOND, -1, 0, 1, SECOND))
JUMPS = (*SHORT_JUMPS, *SHORT_JUMPS, *TTL_JUMPS, DAY, 31 * DAY, -SECOND, -HOUR)
PERIODS = ("2026-12", "2027-01", "2027-02")


def an_account(choose: Choose) -> str:
    return str(choose((*ACCOUNTS * 6, "nobody", "")))


def a_lease(choose: Choose) -> dict[str, str]:
    """A lease and the account that it belongs to, or now and then another one."""
    account, lease = choose(LEASES)
    return {"account": choose((*(account,) * 12, *ACCOUNTS, "nobody")), "lease": lease}


def a_line(choose: Choose) -> str:
    return str(choose((*LINE * 4, "summary", "unheard-of")))


def a_refund(choose: Choose) -> Refund:
    own = a_lease(choose)
    return Refund(account=own["account"], charge=f"{own['lease']}/{a_line(choose)}", amount=choose(AMOUNTS))


COMMANDS: dict[str, Callable[[Choose], Any]] = {
    "open": lambda choose: OpenAccount(
        account=choose((*ACCOUNTS, "third")),
        owner=choose(("ann", "bob")),
        monthly_allowance=choose((0, 60)),
        floor=choose((0, -20)),
    ),
    "terms": lambda choose: SetTerms(
        account=an_account(choose), monthly_allowance=choose((0, 60, 60, 25)), floor=choose((0, -20))
    ),
    "grant": lambda choose: Grant(
        account=an_account(choose), key=choose(KEYS), amount=choose(AMOUNTS), note=choose(("", "", "", "gift"))
    ),
    "adjust": lambda choose: Adjust(
        account=an_account(choose),
        key=choose(KEYS),
        amount=choose((1, 10, -1, -10, -100)),
        note=choose(("", "seconds")),
    ),
    "refund": a_refund,
    "reset": lambda choose: Reset(account=an_account(choose), period=choose(PERIODS), amount=choose((0, 25, 60))),
    "tick": lambda choose: Tick(account=an_account(choose)),
    "reserve": lambda choose: Reserve(
        **a_lease(choose),
        app="app",
        purpose="meetings",
        amount=choose(AMOUNTS),
        dimensions=choose(LINES),
        rate_card="{}",
        paid_for_s=30,
        hold_s=choose((1, TTL_S, TTL_S, 600)),
    ),
    "extend": lambda choose: Extend(
        **a_lease(choose),
        target=choose(AMOUNTS),
        paid_until_ms=START_MS + choose((0, 60, 90)) * SECOND,
        give_up_at_ms=choose((0, START_MS + 2 * TTL_S * SECOND)),
    ),
    "trim": lambda choose: Trim(**a_lease(choose), target=choose(AMOUNTS)),
    "charge": lambda choose: Charge(
        **a_lease(choose), dimension=a_line(choose), quantity=choose((44, 44, 44, 0)), amount=choose(AMOUNTS)
    ),
    "waive": lambda choose: Waive(**a_lease(choose), dimension=a_line(choose)),
    "release": lambda choose: Release(**a_lease(choose)),
}
OFTEN = ("grant", *("reserve",) * 4, "extend", *("charge",) * 5, "waive", "release")


HOSTILE_FIELDS = {"amount", "target", "quantity", "monthly_allowance", "hold_s", "paid_for_s", "paid_until_ms"}
OTHER_VALUES: dict[str, Sequence[Any]] = {
    "account": (*ACCOUNTS, "nobody"),
    "owner": ("ann", "bob"),
    "amount": AMOUNTS,
    "target": AMOUNTS,
    "quantity": (0, 44, 45),
    "note": ("", "gift", "other"),
    "app": ("app", "other"),
    "purpose": ("meetings", "chat"),
    "dimensions": LINES,
    "dimension": (*LINE, "summary", "unheard-of"),
    "rate_card": ("{}", '{"recording": 1}'),
    "paid_for_s": (30, 31),
    "hold_s": (TTL_S, 600),
    "period": PERIODS,
}


def command(choose: Choose) -> Any:
    return COMMANDS[choose((*COMMANDS, *OFTEN))](choose)


def changed(choose: Choose, before: Any) -> Any:
    """A past command with another value in one field: its key is used for something else."""
    name = choose([one.name for one in fields(before) if one.name in OTHER_VALUES] or ["account"])
    return replace(before, **{name: choose(OTHER_VALUES[name])})


def hostile(choose: Choose) -> Any:
    """A command with a value in it that is no amount or lies at the edge of what is allowed."""
    asked = command(choose)
    names = [one.name for one in fields(asked) if one.name in HOSTILE_FIELDS]
    return replace(asked, **{choose(names): choose(HOSTILE)}) if names else asked


async def walk(seed: int, *, steps: int, races: bool = True, watch: bool = False, engine: Engine = SQLITE) -> str:
    """A seeded run of everything at once. Returns the hash of its trace; a failure tells its seed."""
    chance = random.Random(seed)
    world = await furnished(engine, watch=watch)
    done: list[Any] = []
    try:
        for n in range(steps):
            try:
                await step(world, chance, done, races=races)
            except BaseException as error:
                error.add_note(f"seed {seed}, step {n}, after {done[-3:]}")
                raise
        await world.close()
    finally:
        await world.abandon()
    return world.seal()


async def step(world: World, chance: random.Random, done: list[Any], *, races: bool) -> None:
    what = chance.choices(("command", "again", "changed", "hostile", "jump", "sweep", "race", "restart"),
                          (60, 10, 7, 2, 6, 5, 10 if races else 0, 1))[0]  # fmt: skip
    past = chance.choice(done) if done else command(chance.choice)
    if what == "jump":
        world.jump(chance.choice(JUMPS))
    elif what == "sweep":
        await world.sweep(HOSTS if races else 1)
    elif what == "restart":
        await world.restart(crash=chance.random() < 0.5)
    elif what == "race":
        await world.race(racers(chance, past))
    else:
        asked = {"again": lambda: past, "changed": lambda: changed(chance.choice, past)}.get(
            what, lambda: (hostile if what == "hostile" else command)(chance.choice)
        )()
        done.append(asked)
        await world.do(asked, host=chance.randrange(HOSTS))


def racers(chance: random.Random, past: Any) -> list[tuple[int, Any]]:
    """Two to four commands at both hosts, often the same new one twice."""
    fresh = command(chance.choice)
    asked = [fresh, chance.choice([fresh, fresh, command(chance.choice)])]
    asked += chance.choice([[], [past], [command(chance.choice), fresh]])
    return [(n % HOSTS, one) for n, one in enumerate(asked)]
