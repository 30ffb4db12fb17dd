"""The fake keeps what every provider must keep."""

from pathlib import Path

from ctxhost.testing.provider_suite import ProviderSuite
from ctxhost_fake.harness import FakeHarness


class TestFake(ProviderSuite):
    def make_harness(self, folder: Path) -> FakeHarness:
        return FakeHarness(folder)
