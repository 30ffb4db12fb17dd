"""The simulation is worth something: it notices every way of breaking the ledger that we could think of. (I23)"""

import sqlite3

import psycopg
import pytest
from tests.contract.engines import ENGINES
from tests.simulation.mutants import MUTANTS
from tests.simulation.operations import walk

SEEDS = range(5)
STEPS = 200
NOTICED = (AssertionError, sqlite3.IntegrityError, psycopg.IntegrityError, ValueError)
"""By the simulation's own reckoning, by the database, or by the store: an entry is appended that is there already."""


async def first_failing_seed(engine: str) -> int | None:
    for seed in SEEDS:
        try:
            await walk(seed, steps=STEPS, watch=True, engine=ENGINES[engine])
        except NOTICED:
            return seed
    return None


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_ledger_as_it_is_passes_every_seed(engine: str) -> None:
    """Nothing is noticed where nothing is broken."""
    assert await first_failing_seed(engine) is None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mutant", list(MUTANTS))
async def test_a_broken_ledger_is_noticed(mutant: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the same seeds fails."""
    MUTANTS[mutant](monkeypatch)

    assert await first_failing_seed(engine) is not None
