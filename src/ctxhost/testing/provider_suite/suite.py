"""The suite as a class of tests."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ctxhost.testing.provider_suite import deletion, delivery, lives, starting, trouble, webhooks
from ctxhost.testing.provider_suite.harness import ProviderHarness
from ctxhost.testing.provider_suite.trial import BrokenPromise, NotPlayed, Promise, keep

PROMISES: Mapping[str, Promise] = MappingProxyType(
    {
        promise.__name__: promise
        for promise in (
            starting.describes_itself,
            starting.a_bot_is_found_by_the_host_s_own_id,
            starting.the_same_attempt_makes_no_second_bot,
            starting.other_bots_are_other_bots,
            starting.a_lookup_gives_nobody_else_s_bot,
            starting.an_unknown_bot_is_unknown,
            starting.a_refusal_makes_no_bot,
            starting.silence_is_not_a_refusal,
            starting.what_was_lost_never_was,
            starting.strange_wishes_are_taken_or_refused,
            lives.every_life_is_told_to_its_end,
            lives.a_history_only_grows_while_it_is_watched,
            lives.reading_changes_nothing,
            lives.recorded_seconds_are_facts,
            delivery.what_was_asked_for_is_delivered,
            delivery.what_failed_is_told_as_failed,
            lives.a_bot_leaves_when_it_is_told_to,
            lives.a_bot_that_was_not_told_stays,
            lives.a_scheduled_bot_waits,
            delivery.artifacts_are_downloaded_by_a_plain_get,
            deletion.deleted_media_are_gone,
            deletion.nobody_else_s_media_are_deleted,
            deletion.what_could_not_be_deleted_is_told_so,
            webhooks.a_webhook_names_its_bot,
            webhooks.order_and_repeats_change_nothing,
            webhooks.only_the_provider_s_own_webhooks_count,
            webhooks.what_cannot_be_read_is_told_so,
            webhooks.nothing_that_is_sent_breaks_verify,
            trouble.an_outage_is_told_as_one,
            trouble.an_outage_while_a_bot_is_made_is_told_as_one,
            trouble.secrets_show_nowhere,
        )
    }
)
"""Everything that a provider promises, by name; each promise's docstring says what."""


class ProviderSuite:
    """Subclass it in your tests, as `class TestAcme(ProviderSuite)`, and write `make_harness`."""

    def make_harness(self, folder: Path) -> ProviderHarness:
        """Your provider's world, for one test; `folder` is empty and the test's own."""
        raise NotImplementedError("return your ProviderHarness")

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        """The loop that a host runs on."""
        return "asyncio", {"use_uvloop": True}

    @pytest.fixture
    async def harness(self, tmp_path: Path, anyio_backend: object) -> AsyncIterator[ProviderHarness]:
        async with self.make_harness(tmp_path) as harness:
            yield harness

    @pytest.mark.anyio
    @pytest.mark.parametrize("promise", PROMISES)
    async def test_keeps_its_promise(self, harness: ProviderHarness, promise: str) -> None:
        """One promise of `PROMISES`, tried in a world of its own."""
        __tracebackhide__ = True
        try:
            await keep(PROMISES[promise], harness)
        except NotPlayed as why:
            pytest.skip(str(why))
        except BrokenPromise as broken:
            if broken.__cause__ is None or isinstance(broken.__cause__, NotImplementedError):
                pytest.fail(str(broken), pytrace=False)  # all is said; a traceback would hide it
            raise
