"""`ctxhost serve`: the host as a server."""

import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import click

from ctxhost.cli.common import database_option, key_ring, load_settings, run
from ctxhost.cli.logs import LogFormat, last_words, set_up_logs
from ctxhost.cli.server import listen, serving, settle_heap, until_stopped, url_of
from ctxhost.functions.reload import Reload, reload
from ctxhost.host import Host
from ctxhost.settings import Settings, is_url

log = logging.getLogger("ctxhost.serve")

HOST = "127.0.0.1"
PORT = 8787


@click.command()
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0 takes a free one.")
@database_option
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Apps' databases, plugins' files.")
@click.option("--base-url", help="Where this host is reached from outside.  [env: CTXHOST_BASE_URL]")
@click.option("--log-format", type=click.Choice(["plain", "json"]), default="plain", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option(
    "--access-log/--no-access-log",
    default=None,
    help="A line per call: method, route, status, time; never the query.  [default: with --log-format json]",
)
def serve(
    host: str,
    port: int,
    database: Path | str | None,
    data_dir: Path | None,
    base_url: str | None,
    log_format: LogFormat,
    log_level: str,
    access_log: bool | None,
) -> None:
    """Run the host until SIGTERM or Ctrl-C. Every setting comes from an environment variable CTXHOST_….

    SIGHUP deploys every app's folder again. Stopping lets calls, deliveries and background work end, for at most
    CTXHOST_DRAIN_S seconds (10), and keeps what is owed: a restart, or another host, goes on with it. A second SIGTERM
    or Ctrl-C ends it at once.

    \b
    Example:
      export CTXHOST_ENCRYPTION_KEYS="k1:$(openssl rand -base64 32)"
      ctxhost serve --port 8787 --database /var/lib/ctxhost/ctxhost.db
      ctxhost serve --log-format json     # a JSON object per line, with request ids
    """
    is_json = log_format == "json"
    set_up_logs(
        level=log_level,
        form=log_format,
        access_log=is_json if access_log is None else access_log,
        hidden=[str(database)] if database and is_url(database) else [],
    )
    tell = log.info if is_json else click.echo

    async def work() -> None:
        settings = load_settings(database=database, data_dir=data_dir, base_url=base_url)
        key_ring(settings)
        with listen(host, port) as listening:
            if "base_url" not in settings.model_fields_set:
                settings = settings.model_copy(update={"base_url": url_of(host, listening)})
            await _serve(settings, listening, tell)

    with last_words(log_format):
        run(work)


async def _serve(settings: Settings, listening: socket.socket, tell: Callable[[str], object]) -> None:
    async with (
        until_stopped() as signals,
        Host(settings, served=True) as host,
        serving(host.asgi, listening, drain_s=settings.drain_s),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_deploy_when_told, host)
        settle_heap()
        log.info("meeting providers: %s", ", ".join(host.providers) or "none (open-source mode)")
        tell(f"ctxhost serves {host.base_url} (API docs: {host.base_url}/docs)")
        log.info("%s: stopping", await signals.first())
        host.start_draining()
        tasks.cancel_scope.cancel()
    log.info("stopped")


async def _deploy_when_told(host: Host) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as received:
        async for _ in received:
            for app in await host.tenants.apps():
                if app.folder:
                    _log_reload(await reload(host.functions, app))


def _log_reload(outcome: Reload) -> None:
    if outcome.succeeded:
        log.info("%s is deployed again: %s", outcome.app, ", ".join(outcome.functions) or "no function")
    else:
        log.error("%s is not deployed again, the old code goes on: %s", outcome.app, outcome.problem)
