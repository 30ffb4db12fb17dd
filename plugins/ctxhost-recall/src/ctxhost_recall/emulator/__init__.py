"""Recall's API, emulated: to test against, and to try the adapter offline (`python -m ctxhost_recall.emulator`)."""

from ctxhost_recall.emulator.app import Emulator, Seen
from ctxhost_recall.emulator.faults import Fault, cut, depleted, garbage, overloaded, refused, silent, throttled
from ctxhost_recall.emulator.life import STORIES, Story
from ctxhost_recall.emulator.serving import serve
from ctxhost_recall.emulator.webhooks import Event, Knobs, events_of, signed_headers
from ctxhost_recall.emulator.world import STORY_KEY

__all__ = [
    "STORIES",
    "STORY_KEY",
    "Emulator",
    "Event",
    "Fault",
    "Knobs",
    "Seen",
    "Story",
    "cut",
    "depleted",
    "events_of",
    "garbage",
    "overloaded",
    "refused",
    "serve",
    "signed_headers",
    "silent",
    "throttled",
]
