"""What an operator can set, under `plugins.hallway`: `CTXHOST_PLUGINS__HALLWAY__API_KEY=…`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from ctxhost.errors import SettingsError
from ctxhost.webhooks.signing import decode_secret


class HallwaySettings(BaseModel):
    """Strict about names; values never show."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key: SecretStr | None = None
    base_url: str = "https://api.hallway.example"
    webhook_secret: SecretStr | None = None

    @property
    def webhook_keys(self) -> list[bytes]:
        """Raises `SettingsError`."""
        return [decode_secret(self.webhook_secret.get_secret_value())] if self.webhook_secret else []


def read_settings(given: Mapping[str, Any]) -> HallwaySettings:
    """Raises `SettingsError` that names what is wrong."""
    try:
        settings = HallwaySettings.model_validate(dict(given))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"plugins.hallway.{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)
        raise SettingsError(told) from None
    _ = settings.webhook_keys  # a wrong secret is told now, not at the first webhook
    return settings
