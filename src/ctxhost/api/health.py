"""Whether the host lives, and whether work may be sent to it: for the probes of whatever runs it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.responses import Response

from ctxhost.api import models
from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, Operation
from ctxhost.errors import Refusal
from ctxhost.store import Query

if TYPE_CHECKING:
    from ctxhost.host import Host

log = logging.getLogger("ctxhost.health")

ANSWER_WITHIN_S: Final = 1.0
"""How long the database may take for a trifle."""
FRESH_S: Final = 1.0
"""How long what it answered is told again without asking."""
RETRY_AFTER_S: Final = 2
_TRIFLE: Final[Query[int]] = Query("select 1", len)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `problem` is for the caller and names no address, `reason` is for the log."""

    name: str
    took_ms: int = 0
    problem: str = ""
    reason: str = ""

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "ok": not self.problem, "took_ms": self.took_ms}


class NotReady(Refusal):
    """The host should not be sent work now."""

    status, code = 503, "not_ready"
    remediation = "Send the work to another host, and ask again after the seconds in Retry-After."

    def __init__(self, message: str, *, checks: Sequence[Check]) -> None:
        super().__init__(message, retry_after_s=RETRY_AFTER_S)
        self.checks = tuple(checks)

    def facts(self) -> Mapping[str, Any]:
        return {"checks": [check.told() for check in self.checks]}


class _Probe:
    """One trifle asked of the database, and however many wait for its answer."""

    def __init__(self) -> None:
        self._asked_s = anyio.current_time()
        self._ended_s = 0.0
        self._ended = anyio.Event()
        self._reason = ""

    @property
    def is_stale(self) -> bool:
        """Whether it has ended so long ago that the database is asked anew. One that hangs stays the only one."""
        return self._ended.is_set() and anyio.current_time() - self._ended_s >= FRESH_S

    async def ask(self, host: "Host") -> None:
        try:
            await host.store.read(_TRIFLE)
        except Exception as error:  # noqa: BLE001 - whatever it is, the log has it
            self._reason = str(error) or type(error).__name__
        self._ended_s = anyio.current_time()
        self._ended.set()

    async def check(self) -> Check:
        """Its answer, or that there was none in time."""
        left_s = self._asked_s + ANSWER_WITHIN_S - anyio.current_time()
        if left_s > 0 and not self._ended.is_set():
            with anyio.move_on_after(left_s):
                await self._ended.wait()
        took_s = (self._ended_s if self._ended.is_set() else anyio.current_time()) - self._asked_s
        reason = self._reason
        if not reason and took_s > ANSWER_WITHIN_S:
            reason = f"no answer within {ANSWER_WITHIN_S:g} s"
        problem = "The database does not answer." if reason else ""
        return Check("database", round(took_s * 1_000), problem, reason)


class Readiness:
    """What one host's probes share: the database is asked once, however many ask and however long it is silent."""

    def __init__(self) -> None:
        self._probe: _Probe | None = None
        self._told = ""

    async def checks(self, host: "Host") -> Sequence[Check]:
        """Every check in order, up to the first that fails."""
        checks = [_opened(host)]
        if not checks[-1].problem:
            checks.append(_serving(host))
        if not checks[-1].problem:
            checks.append(await self._database(host))
        self._log(checks[-1])
        return checks

    async def _database(self, host: "Host") -> Check:
        if self._probe is None or self._probe.is_stale:
            probe = self._probe = _Probe()
            # The host's own work: a prober that hangs up must not leave a read behind that nobody counts.
            host.background.start(lambda: probe.ask(host))
        return await self._probe.check()

    def _log(self, last: Check) -> None:
        """Say what is wrong when it begins and when it changes, not at every probe."""
        if last.problem == self._told:
            return
        if last.problem:
            log.warning("not ready: %s (%s)", last.problem, last.reason)
        else:
            log.info("ready")
        self._told = last.problem


def _opened(host: "Host") -> Check:
    problem = "" if host.is_open else "The host is not open."
    return Check("open", problem=problem, reason="its database is being opened and migrated, or it has ended")


def _serving(host: "Host") -> Check:
    problem = "The host is stopping." if host.is_draining else ""
    return Check("serving", problem=problem, reason="what is under way is let out, nothing new is taken")


async def live(_: HostCall) -> Response:
    return json_response({"status": "ok"})


def operations() -> list[HostOperation]:
    """The two probes of one host."""
    readiness = Readiness()

    async def ready(call: HostCall) -> Response:
        checks = await readiness.checks(call.host)
        if checks[-1].problem:
            raise NotReady(checks[-1].problem, checks=checks)
        return json_response({"status": "ready", "checks": [check.told() for check in checks]})

    example = {"status": "ready", "checks": [{"name": "database", "ok": True, "took_ms": 1}]}
    return [
        Operation(
            method="GET",
            path="/health/live",
            name="live",
            handler=live,
            summary="Ask whether the host answers",
            description="Looks at nothing: restart a host that does not answer this.",
            tag="service",
            answers={200: Answer(description="It does.", model=models.Alive, example={"status": "ok"})},
            auth="none",
        ),
        Operation(
            method="GET",
            path="/health/ready",
            name="ready",
            handler=ready,
            summary="Ask whether the host takes work",
            description="Whether it is open, is not stopping, and its database answers: else send work elsewhere.",
            tag="service",
            answers={200: Answer(description="It does.", model=models.Ready, example=example)},
            refusals=[NotReady],
            auth="none",
        ),
    ]
