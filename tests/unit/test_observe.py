"""Observers: told of everything, unable to harm anything."""

import importlib
import inspect
import logging
import re
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from ctxhost.errors import HandlerTimeout, InsufficientCredits, PluginError, ProviderBusy
from ctxhost.hookspecs import Services, hookimpl
from ctxhost.meetings.commands import Replay
from ctxhost.meetings.provider import UnknownBot
from ctxhost.observe import CallRecord, JobRecord, Observer, ProviderRecord, Record, Watch, WriteRecord, records
from ctxhost.observe.observers import SLOW_S, Observers
from ctxhost.observe.wrappers import watched_handler, watched_provider
from ctxhost.plugins import load_plugins

WRITE = WriteRecord(command="Charge", account="acct", outcome="ok", took_s=0.01)
JOB = JobRecord(kind="read", outcome="ok", late_s=0, took_s=0.1)
Fault = Callable[[], BaseException]


def watching() -> tuple[Watch, list[Record]]:
    watch, told = Watch(), list[Record]()
    watch.add(told.append)
    return watch, told


@pytest.mark.parametrize("fault", [RuntimeError("broken"), SystemExit(3)], ids=["exception", "exit"])
def test_an_observer_that_raises_harms_nobody(fault: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The others are told all the same, and the log says it once for each kind of record."""
    observers, told = Observers(), list[Record]()

    def broken(_: Record) -> None:
        raise fault

    observers.add(broken)
    observers.add(told.append)
    for record in (WRITE, WRITE, JOB, WRITE):
        observers.tell(record)

    assert [WRITE, WRITE, JOB, WRITE] == told
    assert ["WriteRecord", "JobRecord"] == [line.args[1] for line in caplog.records if isinstance(line.args, tuple)]
    assert all("broken" in line.getMessage() and line.exc_info for line in caplog.records)


def test_an_observer_that_blocks_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """An operator learns who stops the host, and is not told a thousand times a second."""
    observers = Observers()

    def sleepy(_: Record) -> None:
        time.sleep(SLOW_S * 1.2)

    observers.add(sleepy)
    observers.tell(WRITE)
    observers.tell(WRITE)

    assert ["WARNING"] == [line.levelname for line in caplog.records]
    assert "sleepy" in caplog.text


async def _waits(_: Record) -> None:
    """Nobody would wait for it."""


class _Waits:
    async def __call__(self, record: Record) -> None:
        """Neither for this one."""


@pytest.mark.parametrize("observer", [_waits, _Waits(), "print"], ids=["coroutine", "object", "text"])
def test_what_is_no_plain_function_is_refused(observer: Any) -> None:
    """A coroutine that nobody awaits would lose everything in silence."""
    with pytest.raises(PluginError, match="plain function"):
        Watch().add(observer)


@pytest.mark.parametrize("observer", [print, list[Record]().append, partial(print, end=""), lambda record: None])
def test_any_plain_function_is_taken(observer: Observer) -> None:
    """Built-in, bound, partial or anonymous."""
    watch = Watch()
    watch.add(observer)

    assert watch.is_on


def test_nobody_listens() -> None:
    """A new watch is off, and what happens under it leaves nothing."""
    watch = Watch()
    with watch.during("write", "Charge", partial(WriteRecord, command="Charge", account="")):
        pass

    assert not watch.is_on


@pytest.mark.parametrize(
    ("raised", "outcome", "is_failure"),
    [
        pytest.param(InsufficientCredits(required_nano_usd=2, available_nano_usd=1), "insufficient_credits", False),
        pytest.param(ProviderBusy("full"), "provider_busy", True),
        pytest.param(HandlerTimeout("slow"), "handler_timeout", True),
        pytest.param(Replay("bot"), "replayed", False),
        pytest.param(UnknownBot("p1"), "unknown_bot", False),
        pytest.param(ValueError("bug"), "error", True),
        pytest.param(KeyboardInterrupt(), "cancelled", False),
    ],
)
def test_how_it_went_is_what_was_raised(raised: BaseException, outcome: str, is_failure: bool) -> None:
    """A refusal has its code; what is the caller's own doing is no failure; and it is raised on."""
    watch, told = watching()
    with (
        pytest.raises(type(raised)),
        watch.during("write", "X", partial(WriteRecord, command="X", account="a")) as seen,
    ):
        raise raised

    (record,) = told
    assert isinstance(record, WriteRecord)
    assert (outcome, is_failure) == (record.outcome, seen.is_failure)
    assert record.took_s > 0


async def test_a_run_is_told_with_how_late_it_was() -> None:
    """From when it was due; what fails or is cut off is told as such."""

    @dataclass(frozen=True)
    class Job:
        kind: str
        due_ms: int

    async def handler(job: Job) -> int:
        if job.kind == "broken":
            raise ValueError(job)
        if job.kind == "endless":
            await anyio.sleep_forever()
        return 7

    watch, told = watching()
    run = watched_handler(handler, watch, now_ms=lambda: 5_000)
    assert 7 == await run(Job("good", 3_500))
    with pytest.raises(ValueError, match="broken"):
        await run(Job("broken", 9_000))
    with anyio.move_on_after(0):
        await run(Job("endless", 5_000))

    found = [(r.kind, r.outcome, r.late_s) for r in told if isinstance(r, JobRecord)]
    assert [("good", "ok", 1.5), ("broken", "error", 0), ("endless", "cancelled", 0)] == found


async def test_an_adapter_is_watched_and_stays_itself() -> None:
    """Its coroutines are told of, whichever they are; all else is the adapter's own, also what it becomes later."""

    class Adapter:
        name = "acme"
        prices = 1

        async def read(self, provider_id: str, *, fresh: bool = False) -> str:
            if provider_id == "gone":
                raise UnknownBot(provider_id)
            return f"{provider_id}{fresh}"

        def verify(self) -> str:
            return "verified"

    watch, told = watching()
    adapter = Adapter()
    watched = watched_provider(adapter, watch)
    assert ("p1True", "verified", 1) == (await watched.read("p1", fresh=True), watched.verify(), watched.prices)
    adapter.prices = 2
    with pytest.raises(UnknownBot):
        await watched.read("gone")

    found = [(r.provider, r.operation, r.outcome) for r in told if isinstance(r, ProviderRecord)]
    assert [("acme", "read", "ok"), ("acme", "read", "unknown_bot")] == found
    assert 2 == watched.prices
    assert (True, False) == (_can(watched, "read"), _can(watched, "delete_media"))
    assert adapter is watched_provider(adapter, Watch())


def _can(adapter: object, name: str) -> bool:
    """As newer Pythons look for what a runtime-checkable protocol names: without asking `__getattr__`."""
    return inspect.getattr_static(adapter, name, None) is not None


@pytest.mark.parametrize("kind", records.Record.__args__, ids=lambda kind: kind.__name__)
def test_a_record_cannot_be_changed(kind: Any) -> None:
    """Every observer gets the same one."""
    record = kind(**{field.name: 1 for field in fields(kind)})

    with pytest.raises(FrozenInstanceError):
        record.took_s = 2
    assert not hasattr(record, "__dict__")


class _Observing:
    """A plugin that offers observers."""

    def __init__(self, *observers: Any) -> None:
        self._observers = observers

    @hookimpl
    def register_observers(self, register: Callable[[Observer], None], services: Services) -> None:
        for observer in self._observers:
            register(observer)


class _Broken:
    @hookimpl
    def register_observers(self, register: Callable[[Observer], None]) -> None:
        register(print)
        raise RuntimeError("no backend")


def test_plugins_offer_observers(caplog: pytest.LogCaptureFixture) -> None:
    """One that fails is left out whole, and named; the others are there."""
    caplog.set_level(logging.ERROR)
    plugins = load_plugins([_Observing(print), _Broken()])
    services: Any = None

    assert [print] == list(plugins.observers(services))
    assert [("_Broken", "RuntimeError: no backend")] == [(broken.name, broken.why) for broken in plugins.broken]


def test_a_plugin_that_offers_a_coroutine_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, as any broken plugin."""
    plugins = load_plugins([_Observing(_waits)])
    services: Any = None

    assert [] == list(plugins.observers(services))
    assert "plain function" in plugins.broken[0].why


def test_the_page_shows_an_observer_that_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever types off docs/operations.md has an observer, and a plugin that offers it."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    blocks = dict(re.findall(r"^```python (\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    (tmp_path / "typed_off.py").write_text(blocks["observer"] + blocks["plugin"])
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("typed_off")
    services: Any = None
    (observer,) = load_plugins([module]).observers(services)
    told: dict[str, Any] = {field.name: "" for field in fields(CallRecord)}
    observer(CallRecord(**{**told, "code": "bot_not_found"}))
    observer(CallRecord(**told))
    observer(WRITE)

    assert {"bot_not_found": 1} == module.refused
