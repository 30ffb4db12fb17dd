"""A host of one's own on this machine: what `dev` and `sandbox` set up before anybody calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

import ctxhost
from ctxhost.egress import LOOPBACK
from ctxhost.errors import CtxhostError, InvalidApiKey, SettingsError
from ctxhost.functions.manifest import MANIFEST_FILE
from ctxhost.host import Host
from ctxhost.money import NANO_PER_USD
from ctxhost.settings import EgressSettings, MeetingSettings, Settings
from ctxhost.store.rows import App
from ctxhost.tenants.secrets import load_or_create_key_file

START_CREDIT_NANO_USD = 5 * NANO_PER_USD
DEFAULT_SPEED = 8.0
"""A happy life of 67 s is over in less than 9."""
WEBHOOK_FUNCTION = "meetings-webhook"
WEBHOOK_SECRET = "MEETINGS_WEBHOOK_SECRET"  # noqa: S105 - a name, not a value


class GivenSettings(Settings):
    """Settings that ignore the environment: the same stand on every machine."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class StandFolder:
    """Where a stand keeps its files; only its owner may read it."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "ctxhost.db"

    @property
    def key_file(self) -> Path:
        return self.path / "key"

    @property
    def env_file(self) -> Path:
        return self.path / "env"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    def make(self) -> None:
        """Raises `SettingsError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"The folder {self.path} cannot be made: {error.strerror}.") from error


def stand_settings(
    folder: StandFolder,
    *,
    base_url: str,
    default_app: str,
    speed: float,
    markup_percent: int = 20,
    database: Path | str | None = None,
    apps_database: str | None = None,
) -> Settings:
    """Loopback only, a key file of its own, the fake provider; databases in the folder unless others are named.

    Raises `SettingsError`.
    """
    load_or_create_key_file(folder.key_file)
    return GivenSettings(
        database=folder.database if database is None else database,
        apps_database=apps_database,
        data_dir=folder.path / "data",
        base_url=base_url,
        encryption_keys=SecretStr(folder.key_file.read_text("ascii").strip()),
        default_app=default_app,
        rate_limits=False,
        meetings=MeetingSettings(provider="fake", markup_percent=markup_percent),
        egress=EgressSettings(allow_http=True, allow_networks=LOOPBACK),
        plugins={"fake": {"enabled": True, "speed": speed}},
    )


def app_folder(given: Path | None) -> Path:
    """The folder of the worked example, unless another is given. Raises `SettingsError`."""
    package = Path(ctxhost.__file__).parent
    # Where one is, in a clone, and as an installed wheel carries it.
    places = [Path("sandbox"), package.parents[1] / "sandbox", package / "example_app"]
    for folder in [given] if given is not None else places:
        if (folder / MANIFEST_FILE).is_file():
            return folder.resolve()
    missing = given if given is not None else Path("sandbox")
    raise SettingsError(f"There is no {MANIFEST_FILE} in {missing}; name an app folder with --app.")


def require_fake(host: Host) -> None:
    """Raises `SettingsError` when the fake provider is not installed."""
    if "fake" not in host.providers:
        raise SettingsError("The fake meeting provider is not installed: pip install ctxhost-fake (or make sandbox).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An owner's account, one app of it, and a key that opens it."""

    account: str
    app: App
    key: str


async def make_tenant(
    host: Host, name: str, *, owner: str, credit_nano_usd: int, folder: Path | None = None, stored_key: str = ""
) -> Tenant:
    """The tenant `acct_<name>` with `app_<name>`; made again it is the same one.

    `stored_key` is kept when it still opens the account, else a new one is made.
    """
    account = (await host.ledger.open_account(owner, account=f"acct_{name}")).id
    if credit_nano_usd:
        await host.ledger.grant(account, credit_nano_usd, key="start", note="to begin with")
    app = await host.tenants.create_app(account, owner, app=f"app_{name}")
    if folder is not None and app.folder != str(folder):
        app = await host.tenants.set_folder(app, folder)
    return Tenant(account=account, app=app, key=await make_key(host, account, stored=stored_key))


async def make_key(host: Host, account: str, *, stored: str = "") -> str:
    """A key that opens the account: the stored one while it does."""
    try:
        if stored and (await host.tenants.authenticate(stored)).account == account:
            return stored
    except InvalidApiKey:
        pass
    return (await host.tenants.create_key(account, name="stand"))[0]


class SetUpFailed(CtxhostError):
    """The API did not answer as the stand needs it."""


async def point_webhook(
    client: httpx.AsyncClient, app: str, *, url: str, rotate: bool, events: Sequence[str] | None = None
) -> str | None:
    """Have an app's events sent to `url`, through the API; the secret when one was made. Raises `SetUpFailed`."""
    body: dict[str, Any] = {"forward_url": url, "rotate_secret": rotate}
    if events is not None:
        body["events"] = list(events)
    answer = await client.put(f"/v1/{app}/ai/meetings/webhook", json=body)
    if not answer.is_success:
        raise SetUpFailed(f"The webhook could not be set: {answer.status_code} {answer.text}")
    secret: str | None = answer.json()["secret"]
    return secret


async def set_env(host: Host, app: App, values: Mapping[str, str]) -> None:
    """Give an app's functions their secrets."""
    async with anyio.create_task_group() as together:
        for name, value in values.items():
            together.start_soon(host.tenants.set_env, app, name, value)


def api_client(base_url: str, key: str) -> httpx.AsyncClient:
    """A caller from outside, with a service key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30, trust_env=False)
