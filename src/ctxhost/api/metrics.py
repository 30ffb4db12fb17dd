"""`GET /metrics` for Prometheus: what this host has counted, and totals that the database knows."""

import hmac
import logging
from typing import TYPE_CHECKING, Final

import anyio
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.routing import Answer, Operation
from ctxhost.errors import InvalidApiKey, NotFound
from ctxhost.observe.metrics import DueJobs, Metrics, Totals
from ctxhost.store import queries

if TYPE_CHECKING:
    from ctxhost.host import Host

log = logging.getLogger(__name__)

PATIENCE_S: Final = 2
"""How long a scrape waits for the database; without its totals the rest is told all the same."""
COUNTED_AT_MOST: Final = 10_000
"""Due jobs, and queued messages: counting a backlog must not add to it."""


class InvalidMetricsToken(InvalidApiKey):
    """The call does not carry the operator's token."""

    code = "invalid_metrics_token"
    remediation = "Send `Authorization: Bearer` with the host's CTXHOST_METRICS_TOKEN."


class _Reading:
    """The totals while they are being read, for everybody who waits for them."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._totals: Totals | None = None

    async def run(self, host: "Host") -> None:
        try:
            self._totals = await _totals(host)
        except Exception as error:  # noqa: BLE001 - a database that is away shows as database_up 0
            log.warning("the totals for metrics could not be read: %s", error)
        finally:
            self._done.set()

    @property
    def is_over(self) -> bool:
        return self._done.is_set()

    async def wait(self) -> Totals | None:
        with anyio.move_on_after(PATIENCE_S):
            await self._done.wait()
        return self._totals


class Scrapes:
    """Answers scrapes. The database is asked once at a time, however many scrapes come."""

    def __init__(self, host: "Host", metrics: Metrics) -> None:
        self._host = host
        self._metrics = metrics
        self._reading: _Reading | None = None

    async def answer(self, accept: str) -> Response:
        """The metrics, in the form that `accept` asks for."""
        totals = await self._read()
        make_text, media_type = self._metrics.shown(accept=accept, totals=totals)
        return Response(await anyio.to_thread.run_sync(make_text), headers={"content-type": media_type})

    async def _read(self) -> Totals | None:
        """The totals as of now, or None. It goes on in the host, so that an impatient scraper interrupts nothing."""
        if self._reading is None or self._reading.is_over:
            reading = _Reading()
            try:
                self._host.background.start(lambda: reading.run(self._host))
            except RuntimeError:  # the host has closed
                return None
            self._reading = reading
        return await self._reading.wait()


async def _totals(host: "Host") -> Totals:
    now_ms = host.store.now_ms()
    found = await host.store.read(queries.totals(limit=COUNTED_AT_MOST))
    due = await host.store.read(queries.due_jobs(now_ms, limit=COUNTED_AT_MOST))
    return Totals(
        bots_live=found.bots_live,
        bots_waiting=found.bots_waiting,
        messages_queued=found.messages_queued,
        held_nano_usd=found.held_nano_usd,
        balance_nano_usd=found.balance_nano_usd,
        jobs_due={kind: DueJobs(count=jobs, oldest_s=(now_ms - oldest_ms) / 1_000) for kind, jobs, oldest_ms in due},
    )


async def get(call: HostCall) -> Response:
    scrapes, token = call.host.scrapes, call.host.settings.metrics_token
    if scrapes is None or token is None:
        raise NotFound("There is nothing at /metrics.")
    if not _is_known(call.request, token):
        raise InvalidMetricsToken("This call does not carry the metrics token.")
    return await scrapes.answer(call.request.headers.get("accept", ""))


def _is_known(request: Request, token: SecretStr) -> bool:
    """Whether the call carries the token; how long that takes tells nothing of it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    return is_same and scheme.lower() == "bearer"


OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        handler=get,
        summary="What the host has counted, for Prometheus",
        tag="service",
        answers={200: Answer(description="The metrics.", media_type="text/plain")},
        refusals=[InvalidMetricsToken],
        auth="none",
        listed=False,
    )
]
