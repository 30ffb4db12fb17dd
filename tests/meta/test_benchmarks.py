"""A benchmark that no longer runs proves nothing: each of them, as small as it gets."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

import pytest
from benchmarks import MODULES, Bench, servers
from benchmarks.__main__ import table_of
from benchmarks.engines import Engine, Files, Postgres
from tests.postgres import server

ON_SQLITE = {"spawn", "inbound"}
"""What they start is started on PostgreSQL by another benchmark."""
WITH_PROCESSES = {"deliveries"}
"""One shows that processes start; the others use threads in their place, which is much quicker."""


@contextmanager
def in_thread(live: servers.Live, serve: servers.Serve[Any], given: tuple[Any, ...]) -> Iterator[Connection]:
    ours, its = Pipe()
    thread = Thread(target=servers.run, args=(live, its, serve, given))
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_still_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered measures something, and its table can be printed."""
    module = import_module(f"benchmarks.{name}")
    engine: Engine = Files() if name in ON_SQLITE else Postgres(server())
    if name not in WITH_PROCESSES:
        monkeypatch.setattr(servers, "started", in_thread)

    figures = list(module.measure(Bench(effort="tiny", engines=[engine])))

    assert any(figure.value > 0 for figure in figures)
    assert all(figure.baseline > 0 for figure in figures)
    assert len(figures) == table_of(module.TITLE, figures).row_count
