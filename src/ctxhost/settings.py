"""What an operator can set: by environment variables `CTXHOST_…` (nested ones with `__`), or in code."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_TOKEN = re.compile(r"[!-~]{16,}")


def is_url(database: Path | str) -> bool:
    """Whether it names a PostgreSQL database; anything else is the path of a file."""
    return str(database).startswith(("postgresql://", "postgres://"))


class MeetingSettings(BaseModel):
    """How meeting bots are run."""

    model_config = ConfigDict(extra="forbid")

    provider: str | None = Field(None, description="The provider to use when several are installed.")
    provider_by_app: dict[str, str] = Field({}, description="Apps that use another provider: app id to provider.")
    markup_percent: int = Field(20, ge=0, le=1_000, description="Added to the provider's list prices.")
    default_bot_name: str = Field("Butterbase Notetaker", min_length=1, max_length=64)
    unadmitted_limit: int = Field(10, ge=1, description="Bots of one account that wait to be let in, at most.")
    live_limit: int = Field(100, ge=1, description="Bots of one account that are joining or in a call, at most.")
    waiting_room_limit_s: int = Field(1_800, ge=30, description="The longest that a bot may wait to be let in.")
    call_limit_s: int = Field(86_400, ge=60, description="The longest call that is paid for.")
    artifact_wait_s: int = Field(1_800, ge=1, description="How long after a call its artifacts are awaited.")
    create_timeout_s: float = Field(30, gt=0, description="How long a spawn waits for the provider.")


class RetentionSettings(BaseModel):
    """How long is kept what is not the books, in days. A week is longer than any retry of either side."""

    model_config = ConfigDict(extra="forbid")

    message_days: int = Field(30, ge=7, description="Messages that were delivered or given up; then none is resent.")
    attempt_days: int = Field(30, ge=7, description="The log of delivery attempts.")
    inbound_event_days: int = Field(30, ge=7, description="Webhooks of providers; the same id is known that long.")
    bot_days: int | None = Field(None, ge=7, description="Finished bots and their history. Left out: for ever.")


class EgressSettings(BaseModel):
    """Where the host and its handlers may send requests."""

    model_config = ConfigDict(extra="forbid")

    allow_http: bool = Field(False, description="Allow http:// forward URLs.")
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="Networks that are allowed although they are not public."
    )


class Settings(BaseSettings):
    """The settings of one host."""

    model_config = SettingsConfigDict(env_prefix="CTXHOST_", env_nested_delimiter="__", extra="forbid")

    database: Path | str = Field(
        Path("ctxhost.db"), description="The SQLite file, or the postgresql:// URL of a database.", repr=False
    )
    database_pooled: bool = Field(
        False, description="Before PostgreSQL stands a pooler in transaction mode, such as PgBouncer."
    )
    apps_database: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="postgresql:// URL of a server for apps' databases, as a role that makes them. Else: files.",
        repr=False,
    )
    data_dir: Path = Field(Path(".ctxhost"), description="Where apps' databases and plugins' files are kept.")
    base_url: str = Field("http://127.0.0.1:8787", description="Where this host is reached from outside.")
    encryption_keys: SecretStr | None = Field(None, description="Key ring for secrets at rest: id:base64,id:base64 …")
    default_app: str | None = Field(None, description="The app whose functions /fn/… answers on an unknown host name.")
    rate_limits: bool = Field(True, description="Limit bad keys per address and calls per key.")
    max_body_bytes: int = Field(1_048_576, ge=1_024)
    drain_s: float = Field(
        10, ge=0, description="How long a closing host waits for calls, deliveries and background work under way."
    )
    metrics_token: SecretStr | None = Field(
        None, description="The bearer token that GET /metrics asks for, 16 characters or more; without it: no metrics."
    )
    meetings: MeetingSettings = MeetingSettings()
    retention: RetentionSettings = RetentionSettings()
    egress: EgressSettings = EgressSettings()
    plugins: dict[str, dict[str, Any]] = Field({}, description="Settings of plugins, by plugin name.")

    @field_validator("database", mode="before")
    @classmethod
    def _path_or_url(cls, value: object) -> object:
        return Path(value) if isinstance(value, str) and not is_url(value) else value

    @field_validator("metrics_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("needs 16 or more letters, digits and signs of ASCII; `openssl rand -hex 16` makes some")
        return token
