"""The published provider suite is worth something: it passes what is right and names what is not."""

from pathlib import Path

import pytest
from tests.unit.provider_mutants import MUTANTS, CallingHarness

from ctxhost.meetings.provider import End
from ctxhost.testing.provider_suite import PROMISES, BrokenPromise, Life, keep


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_broken_provider_breaks_a_promise(tmp_path: Path, name: str) -> None:
    """The promise that a deliberate fault goes against fails, and says what mends it."""
    mutant = MUTANTS[name]
    async with CallingHarness(tmp_path) as harness:
        harness.kind = mutant.kind
        with pytest.raises(BrokenPromise) as broken:
            await keep(PROMISES[mutant.breaks], harness)

    assert "\n  To mend it: " in str(broken.value)


def test_every_promise_says_what_it_is() -> None:
    """An author reads in each promise what is wanted."""
    assert [] == [name for name, promise in PROMISES.items() if not (promise.__doc__ or "").endswith(".")]


def test_the_documentation_names_everything_that_an_author_meets() -> None:
    """docs/providers.md has each call, each life that a world may play, each end and each row of who pays."""
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    calls = [f"### {name}\n" for name in ("create", "find", "read", "leave", "verify")]
    rows = [*(f"| `{life}` |" for life in Life), *(f"| `{end.name}` |" for end in End)]
    settings = ["CTXHOST_MEETINGS__PROVIDER_BY_APP", "--meeting-provider", "ctxhost plugins new", "sends_webhooks"]

    assert [] == [wanted for wanted in [*calls, *rows, *settings] if wanted not in text]
