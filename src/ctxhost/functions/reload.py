"""Serve an app folder as it is edited: what changed is deployed, what cannot be is told, and the old code goes on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from watchfiles import awatch

from ctxhost.functions.loader import HandlerLoadError
from ctxhost.functions.runtime import Functions
from ctxhost.store.rows import App

SETTLE_MS = 200
"""Changes that come together, as an editor or a checkout makes them, are one."""
LINES_AROUND = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a file that cannot be used; `at_fault` marks the one meant."""

    number: int
    text: str
    at_fault: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What became of an app folder that was deployed again."""

    app: str
    changed: Sequence[Path]
    """The files that changed; none when it was asked for."""
    functions: Sequence[str] = ()
    warnings: Sequence[str] = ()
    problem: str = ""
    """Why it could not be used; what was served before still is. Empty: it is served now."""
    excerpt: Sequence[Line] = ()
    """Where in the author's code the problem is, when that is known."""

    @property
    def succeeded(self) -> bool:
        return not self.problem


async def reload(functions: Functions, app: App, *, changed: Sequence[Path] = ()) -> Reload:
    """Deploy an app's folder again. Never raises for what its author can mend."""
    try:
        deployment = await functions.deploy(app)
    except HandlerLoadError as error:
        excerpt = await anyio.to_thread.run_sync(_excerpt, error.file, error.line)
        return Reload(app=app.id, changed=changed, problem=str(error), excerpt=excerpt)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the folder, the next change is looked at
        return Reload(app=app.id, changed=changed, problem=str(error) or type(error).__name__)
    return Reload(
        app=app.id,
        changed=changed,
        functions=[function.name for function in deployment.functions],
        warnings=deployment.manifest.warnings(),
    )


async def watch(functions: Functions, app: App, tell: Callable[[Reload], Awaitable[None]]) -> None:
    """Deploy the app's folder whenever a file in it changes, and tell what came of it. Runs until cancelled."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_set_when_cancelled, stop)
        async for found in awatch(app.folder, debounce=SETTLE_MS, stop_event=stop):
            changed = sorted({Path(path) for _, path in found})
            await tell(await reload(functions, app, changed=changed))


async def _set_when_cancelled(event: anyio.Event) -> None:
    # The watching thread cannot be cancelled; it looks at this instead.
    try:
        await anyio.sleep_forever()
    finally:
        event.set()


def _excerpt(file: Path, line: int | None) -> list[Line]:
    if line is None:
        return []
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    first = max(line - LINES_AROUND, 1)
    shown = lines[first - 1 : line + LINES_AROUND]
    return [Line(number=first + n, text=text, at_fault=first + n == line) for n, text in enumerate(shown)]
