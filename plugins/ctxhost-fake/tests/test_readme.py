"""The README tells the truth."""

import re
from pathlib import Path

from ctxhost_fake.scripts import LIVES, WEBHOOKS
from ctxhost_fake.settings import FakeSettings
from ctxhost_fake.webhooks import RETRY_AFTER_S

README = (Path(__file__).parent.parent / "README.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the first table behind a header cell, by the name in their first cell."""
    table = README.partition(f"| {heading} |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {cell[0].strip("| `"): [c.strip("| ") for c in cell[1:]] for cell in cells}


def test_the_table_of_lives_is_the_scripts() -> None:
    """Every life with its own words, in its order."""
    assert {name: [script.about] for name, script in LIVES.items()} == rows("script")


def test_the_table_of_webhooks_is_the_scripts() -> None:
    """Every accident with its own words."""
    assert {name: [about] for name, about in WEBHOOKS.items()} == rows("webhooks")


def test_the_table_of_settings_is_the_model() -> None:
    """Every setting with its default and its description."""
    told = rows("setting")

    assert list(FakeSettings.model_fields) == list(told)
    for name, field in FakeSettings.model_fields.items():
        default = {"False": "false", "None": "none"}.get(str(field.default), str(field.default))
        assert default == told[name][0].strip('`"')
        assert field.description == told[name][1]


def test_the_retries_are_those_of_the_code() -> None:
    """The waits in the text are the waits."""
    waits = re.search(r"repeated after ([\d, \nand]+) s", README)

    assert waits is not None
    assert list(RETRY_AFTER_S) == [int(number) for number in re.findall(r"\d+", waits[1])]
