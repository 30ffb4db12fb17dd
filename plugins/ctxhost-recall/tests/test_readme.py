"""The README tells the truth."""

from pathlib import Path
from typing import get_args

from ctxhost_recall.emulator import STORIES, STORY_KEY, Emulator, faults
from ctxhost_recall.settings import RecallSettings, Transcription

README = (Path(__file__).parent.parent / "README.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the first table behind a header cell, by the name in their first cell."""
    table = README.partition(f"| {heading} |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {cell[0].strip("| `"): [c.strip("| ") for c in cell[1:]] for cell in cells}


def test_the_table_of_settings_is_the_model() -> None:
    """Every setting with its default and its description."""
    told = rows("setting")

    assert list(RecallSettings.model_fields) == list(told)
    for name, field in RecallSettings.model_fields.items():
        assert {"None": "none"}.get(str(field.default), str(field.default)) == told[name][0].strip("`")
        assert field.description == told[name][1]


def test_the_table_of_stories_is_the_emulators() -> None:
    """Every life with its own words, in its order, and the key that chooses it."""
    assert {name: [story.about] for name, story in STORIES.items()} == rows("story")
    assert f'"{STORY_KEY}"' in README


def test_every_transcription_is_named() -> None:
    """What `transcription` may be."""
    assert [] == [name for name in get_args(Transcription) if f"`{name}`" not in README]


def test_the_knobs_are_there() -> None:
    """Every fault and every knob that the text names."""
    emulator = Emulator()
    assert all(hasattr(faults, name) for name in ("depleted", "throttled", "overloaded", "refused", "silent", "cut"))
    assert all(hasattr(emulator.webhooks, name) for name in ("lost", "copies", "order", "family", "old_secrets"))
    assert all(hasattr(emulator.shapes, name) for name in ("starts_with_ready", "lists_audio", "links_are_late"))
    assert (True, 100) == (emulator.gate.enforces_rates, emulator.api.page_size)
