"""What every meeting provider must keep, as a suite of tests. Write a harness, subclass the suite:

class AcmeHarness(ProviderHarness):
    def make(self, services): return AcmeProvider(services, …)
    async def prepare(self, request, life): …
    async def sign(self, body, *, event_id, now_ms): …


class TestAcme(ProviderSuite):
    def make_harness(self, folder): return AcmeHarness(folder)

It needs pytest, and nothing else of yours: no account at your provider, no network, no waiting.
"""

from ctxhost.testing.provider_suite.harness import JumpingClock, Life, Outage, ProviderHarness, Webhook
from ctxhost.testing.provider_suite.suite import PROMISES, ProviderSuite
from ctxhost.testing.provider_suite.trial import BrokenPromise, NotPlayed, Promise, Trial, keep

__all__ = [
    "PROMISES",
    "BrokenPromise",
    "JumpingClock",
    "Life",
    "NotPlayed",
    "Outage",
    "Promise",
    "ProviderHarness",
    "ProviderSuite",
    "Trial",
    "Webhook",
    "keep",
]
