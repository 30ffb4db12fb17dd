"""The fake's world, as the published provider suite sees it. Needs pytest; nothing else here imports it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ctxhost.hookspecs import Services
from ctxhost.meetings.provider import BotRequest
from ctxhost.testing.provider_suite import Life, ProviderHarness
from ctxhost.webhooks.signing import decode_secret
from ctxhost_fake.provider import SCRIPT_KEY, FakeProvider
from ctxhost_fake.settings import FakeSettings
from ctxhost_fake.state import keep_secret
from ctxhost_fake.webhooks import signed_headers

SCRIPTS: Mapping[Life, str] = {
    Life.HAPPY: "happy",
    Life.NOT_ADMITTED: "never_admitted",
    Life.KICKED: "kicked_while_recording",
    Life.FAILED: "fatal_on_join",
    Life.NOBODY_CAME: "nobody_came",
    Life.TRANSCRIPT_FAILED: "transcript_failed",
    Life.RECORDING_FAILED: "recording_failed",
    Life.REFUSED: "spawn_refused",
    Life.BAD_URL: "bad_url",
    Life.FULL: "provider_full",
    Life.SILENT_MADE: "create_times_out",
    Life.SILENT_LOST: "create_lost",
}


class FakeHarness(ProviderHarness):
    """The world of the fake is the fake itself: a script in the metadata, a clock that it looks at."""

    kind: type[FakeProvider] = FakeProvider

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secrets = [keep_secret(folder / "fake")]

    def make(self, services: Services) -> FakeProvider:
        return self.kind(services, FakeSettings(enabled=True))

    async def prepare(self, request: BotRequest, life: Life) -> BotRequest:
        return replace(request, metadata={**request.metadata, SCRIPT_KEY: SCRIPTS[life]})

    async def sign(self, body: bytes, *, event_id: str, now_ms: int) -> Mapping[str, str]:
        key = decode_secret(self.secrets[0])
        return signed_headers(key=key, message_id=event_id, now_ms=now_ms, body=body)

    async def advance(self, *, seconds: int) -> None:
        end_ms = self.clock.now_ms() + seconds * 1_000
        provider = self.provider
        assert isinstance(provider, FakeProvider)
        while (due_ms := provider.next_event_ms()) is not None and due_ms <= end_ms:
            self.clock.set(max(due_ms, self.clock.now_ms()))
            await provider.deliver_due()
        self.clock.set(end_ms)
