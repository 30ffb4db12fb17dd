"""What an operator can set for this plugin, under `plugins.fake`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ctxhost.errors import SettingsError
from ctxhost_fake.scripts import UnknownScript, read_cast


def _from_text(value: Any) -> Any:
    """What an environment variable says: its text is JSON, as in `true` and `12`."""
    return json.loads(value) if isinstance(value, str) else value


def _known_script(name: str) -> str:
    try:
        read_cast(name)
    except UnknownScript as error:
        raise ValueError(str(error)) from None
    return name


_Flag = Annotated[bool, BeforeValidator(_from_text)]
_Whole = Annotated[int, BeforeValidator(_from_text)]
_Number = Annotated[float, BeforeValidator(_from_text)]


class FakeSettings(BaseModel):
    """Strict: an unknown setting is refused, and 1 is not true. Text from the environment is read as JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    enabled: _Flag = Field(False, description="Offer this provider. It sends no bot into any real meeting.")
    speed: _Number = Field(1, gt=0, le=100_000, description="The waits of the scripts are divided by this.")
    seed: _Whole = Field(0, description="Another seed gives other ids, other talk and other webhook accidents.")
    script: Annotated[str, AfterValidator(_known_script)] = Field(
        "happy", description="The life of a bot whose metadata has no `fake_script`."
    )
    artifact_url_ttl_s: _Whole = Field(3_600, ge=1, description="How long a download link works.")
    capacity: _Whole | None = Field(None, ge=0, description="Refuse new bots while so many live; none: no limit.")


def read_settings(given: Mapping[str, Any]) -> FakeSettings:
    """The settings as the operator wrote them.

    Raises:
        SettingsError: names the settings that are unknown or wrong.
    """
    try:
        return FakeSettings.model_validate(dict(given))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        told = "; ".join(f"plugins.fake.{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)
        raise SettingsError(told) from None
