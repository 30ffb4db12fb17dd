"""The scripts: what can become of a bot, and what can become of its webhooks. Times are seconds of the script."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ctxhost.meetings.provider import End

Creation = Literal["made", "refused", "bad_url", "full", "times_out", "lost"]
Welcome = Literal["admitted", "ignored", "denied", "no_meeting"]

JOINING_S = 4
"""From joining to the waiting room."""
SETUP_S = 3
"""From being admitted to recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One life. The first seconds and the timeouts are the same for all."""

    about: str
    """What happens, for a person."""
    creation: Creation = "made"
    welcome: Welcome = "admitted"
    waits_s: int = 6
    """In the waiting room, until it is let in or sent away."""
    records_s: int | None = 44
    """From the start of the recording to the end of the call; None: nobody comes."""
    end: End = End.OVER
    reason: str = "timeout_exceeded_everyone_left"
    media_fails: bool = False
    transcript_fails: bool = False
    media_after_s: int = 3
    """From the end of the call until the recording is ready."""
    transcript_after_s: int = 8
    done_after_s: int = 10


LIVES: Mapping[str, Script] = MappingProxyType(
    {
        "happy": Script(
            about="Waits 6 s, is let in, records 44 s until everyone has left; both artifacts are delivered."
        ),
        "waiting_room_admitted": Script(about="As `happy`, after 30 s in the waiting room.", waits_s=30),
        "never_admitted": Script(about="Nobody lets it in; it leaves at its waiting-room timeout.", welcome="ignored"),
        "denied": Script(about="Is turned away after 8 s in the waiting room.", welcome="denied", waits_s=8),
        "kicked_while_recording": Script(
            about="Is removed from the call after 22 s of recording; what it recorded is delivered later.",
            records_s=22,
            end=End.KICKED,
            reason="bot_kicked_from_call",
            media_after_s=10,
            transcript_after_s=20,
            done_after_s=22,
        ),
        "fatal_on_join": Script(about="Finds no meeting behind the link and breaks down.", welcome="no_meeting"),
        "transcript_failed": Script(about="As `happy`, but the transcript fails.", transcript_fails=True),
        "recording_failed": Script(
            about="As `happy`, but the recording fails, and its transcript with it.",
            media_fails=True,
            transcript_fails=True,
        ),
        "nobody_came": Script(
            about="Is let in, and leaves at its no-one-joined timeout with nothing recorded.", records_s=None
        ),
        "three_hours": Script(about="As `happy`, with 10,800 s of recording.", records_s=10_800),
        "spawn_refused": Script(about="`create` raises `ProviderError`; there is no bot.", creation="refused"),
        "bad_url": Script(
            about="`create` raises `InvalidRequest` on `meetingUrl`; there is no bot.", creation="bad_url"
        ),
        "provider_full": Script(
            about="`create` raises `ProviderBusy` with 30 s to wait; there is no bot.", creation="full"
        ),
        "create_times_out": Script(
            about="`create` raises `ProviderTimeout` although the bot is made; it lives as `happy`.",
            creation="times_out",
        ),
        "create_lost": Script(about="`create` raises `ProviderTimeout`; there is no bot.", creation="lost"),
    }
)
"""Every life, by the name that the setting `script` and the metadata key `fake_script` take."""

WEBHOOKS: Mapping[str, str] = MappingProxyType(
    {
        "ok": "Each is sent once, when it happens.",
        "lost": "None is ever sent.",
        "some_lost": "About half of them are never sent.",
        "late": "Each is sent 20 to 120 s of the script late.",
        "duplicated": "Each is sent two or three times, with the same `webhook-id`.",
        "reordered": "They are held back and sent three by three, shuffled.",
    }
)
"""What can become of webhooks, by the name that the metadata key `fake_webhooks` takes."""


class UnknownScript(ValueError):
    """A name is none of `LIVES` and none of `WEBHOOKS`."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The part that a bot plays; `webhooks` are sorted names of accidents, empty when all goes well."""

    script: str
    webhooks: tuple[str, ...] = ()


def read_cast(name: str, *, webhooks: str | None = None, default: str = "happy") -> Cast:
    """The part behind `happy`, `happy+late+duplicated` or `late`; what it leaves open is as in `default`.

    Args:
        webhooks: overrides the accidents in `name`; `ok` stands for none.

    Raises:
        UnknownScript: naming what is unknown.
    """
    script, accidents = _split(name)
    fallback, its_accidents = _split(default)
    if webhooks is not None:
        unwanted, accidents = _split(webhooks)
        if unwanted is not None:
            raise UnknownScript(f"{unwanted!r} is a life, not something that happens to webhooks")
    chosen = its_accidents if accidents is None else accidents
    return Cast(script or fallback or "happy", tuple(sorted((chosen or set()) - {"ok"})))


def _split(name: str) -> tuple[str | None, set[str] | None]:
    """The life and the accidents in a name; None for what it does not say."""
    parts = name.split("+")
    if unknown := [part for part in parts if part not in LIVES and part not in WEBHOOKS]:
        raise UnknownScript(f"there is no {unknown[0][:64]!r}; there are {', '.join([*LIVES, *WEBHOOKS])}")
    lives = [part for part in parts if part in LIVES]
    if len(lives) > 1:
        raise UnknownScript(f"a bot has one life, not {' and '.join(lives)}"[:200])
    accidents = {part for part in parts if part in WEBHOOKS}
    return (lives[0] if lives else None), (accidents or None)
