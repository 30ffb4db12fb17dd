"""The pytest plugin of ctxhost: `pytest --meeting-provider MODULE:HARNESS` tries a provider without a test file.

It stands beside the package, so that a run of pytest that does not use it imports nothing of ctxhost.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--meeting-provider",
        metavar="MODULE:HARNESS",
        help="Run nothing but ctxhost's suite for meeting providers, on this ProviderHarness.",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("meeting_provider"):
        from importlib.util import find_spec

        suite = find_spec("ctxhost.testing.provider_suite.given")
        assert suite is not None
        assert suite.origin is not None
        config.args[:] = [suite.origin]
