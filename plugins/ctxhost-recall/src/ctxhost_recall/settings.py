"""What an operator can set: `MEETINGS_…` in the environment, or under `plugins.recall`, which wins."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ctxhost.errors import SettingsError
from ctxhost.money import parse_usd
from ctxhost.webhooks.signing import decode_secret

NAME = "recall"

Transcription = Literal[
    "recallai_async",
    "recallai_streaming",
    "meeting_captions",
    "assembly_ai_async_chunked",
    "assembly_ai_v3_streaming",
    "aws_transcribe_streaming",
    "deepgram_streaming",
    "gladia_v2_streaming",
    "rev_streaming",
    "speechmatics_streaming",
]


def _origin(url: str) -> str:
    """The key goes wherever this leads, so it is an origin and, beyond this machine, https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("give Recall's address of your region, such as https://us-east-1.recall.ai")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("give the host alone, without a path")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must start with https://")
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL names it, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _price(text: str) -> str:
    """Dollars as text, so that no float ever touches money."""
    if parse_usd(text) < 0:
        raise ValueError("an amount is not negative")
    return text


class RecallSettings(BaseSettings):
    """Strict about names under `plugins.recall`; empty variables of the environment count as not set."""

    model_config = SettingsConfigDict(
        env_prefix="MEETINGS_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    api_key: SecretStr | None = Field(
        None, description="Recall's API key of one region. Without it there is no adapter."
    )
    base_url: Annotated[str, AfterValidator(_origin)] = Field(
        "https://us-east-1.recall.ai", description="Recall's address of the region that the key belongs to."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="One or several `whsec_…`, with spaces or commas between; without it bots are only polled."
    )
    transcription: Transcription = Field(
        "recallai_async", description="How a recorded bot is transcribed: after the recording, or while it runs."
    )
    transcription_language: str = Field(
        "auto", min_length=1, max_length=16, description="What Recall's own transcription is told about the language."
    )
    retention_hours: int = Field(168, ge=1, le=8_760, description="How long Recall keeps what a bot recorded.")
    cost_usd_per_hour: Annotated[str, AfterValidator(_price)] = Field(
        "0.50", description="What Recall bills for an hour of a bot, in US dollars: booked beside every bot."
    )
    create_deadline_s: float = Field(
        25, gt=0, description="How long a create is tried; keep it below the host's `meetings.create_timeout_s`."
    )
    rate_limit_percent: int = Field(
        90, ge=1, le=1_000, description="The share of Recall's published rates that all hosts of one store use at most."
    )

    @property
    def cost_nano_usd_per_hour(self) -> int:
        return parse_usd(self.cost_usd_per_hour)

    @property
    def webhook_keys(self) -> Sequence[bytes]:
        """The key bytes of every webhook secret. Raises `SettingsError`."""
        if self.webhook_secret is None:
            return ()
        return [decode_secret(s) for s in self.webhook_secret.get_secret_value().replace(",", " ").split()]


def read_settings(given: Mapping[str, Any]) -> RecallSettings:
    """The settings as the operator wrote them.

    Raises:
        SettingsError: names the settings that are unknown or wrong, never their values.
    """
    try:
        settings = RecallSettings(**given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"plugins.{NAME}.{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)
        raise SettingsError(told) from None
    if settings.api_key is not None:
        _ = settings.webhook_keys  # a wrong secret is told now, not at the first webhook
    return settings
