"""The suite for the harness that `pytest --meeting-provider MODULE:HARNESS` names. Collected by that option alone."""

from pathlib import Path
from pkgutil import resolve_name

import pytest

from ctxhost.testing.provider_suite.harness import ProviderHarness
from ctxhost.testing.provider_suite.suite import ProviderSuite


class TestMeetingProvider(ProviderSuite):
    @pytest.fixture(autouse=True)
    def given(self, pytestconfig: pytest.Config) -> None:
        self._kind = resolve_name(pytestconfig.getoption("meeting_provider"))

    def make_harness(self, folder: Path) -> ProviderHarness:
        harness = self._kind(folder)
        assert isinstance(harness, ProviderHarness), f"{self._kind!r} makes no ProviderHarness"
        return harness
