"""The adapter keeps what every provider must keep, against the emulator."""

from pathlib import Path

from ctxhost.testing.provider_suite import ProviderSuite
from ctxhost_recall.emulator.harness import RecallHarness


class TestRecall(ProviderSuite):
    def make_harness(self, folder: Path) -> RecallHarness:
        return RecallHarness(folder)
