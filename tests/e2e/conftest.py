"""What the tests of real hosts ask for: receivers that end with their test, and a database for several hosts."""

from collections.abc import Iterator
from contextlib import ExitStack
from secrets import token_hex

import pytest
from tests.e2e.outside import OpenReceiver, Receiver
from tests.postgres import server


@pytest.fixture
def open_receiver() -> Iterator[OpenReceiver]:
    """Opens receivers."""
    with ExitStack() as stack:

        def opened(*, after_s: float = 0) -> Receiver:
            receiver = Receiver(after_s=after_s)
            stack.callback(receiver.close)
            return receiver

        yield opened


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database on PostgreSQL."""
    name = f"hosts-{token_hex(4)}"
    yield server().create(name)
    server().drop(name)
