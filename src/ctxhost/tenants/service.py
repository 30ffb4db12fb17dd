"""The face of tenancy: apps, the keys that open them, and the values that only their functions see."""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from ctxhost.errors import AppNotFound, InvalidApiKey, InvalidRequest, Refusal
from ctxhost.ids import new_id, new_secret
from ctxhost.store import Store, queries
from ctxhost.store.rows import App, Secret, ServiceKey
from ctxhost.tenants.commands import (
    CreateApp,
    CreateKey,
    DeleteSecret,
    KeepSecret,
    KeyNotFound,
    PutSecret,
    RevokeKey,
    SetFolder,
)
from ctxhost.tenants.secrets import KeyRing

KEY_PREFIX = "bb_sk_"
SCOPE_ALL = "*"
SCOPE_AI = "ai:gateway"
SCOPES = (SCOPE_ALL, SCOPE_AI)
_HINT_CHARS = len(KEY_PREFIX) + 4
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_APP_ID = re.compile(r"[a-z][a-z0-9_]{2,62}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ENV = "env"
_DATABASE = "database"


class Tenants:
    """Apps, keys and secrets of every owner. An owner is an account of the ledger."""

    def __init__(self, store: Store, ring: KeyRing) -> None:
        self._store = store
        self._ring = ring

    async def create_app(
        self, account: str, name: str, *, app: str | None = None, subdomain: str = "", folder: Path | None = None
    ) -> App:
        """Make an app that `account` owns and pays for.

        Raises:
            InvalidRequest: a malformed or taken id or subdomain.
            AccountNotFound: no such account.
        """
        app_id = app or new_id("app")
        if not _APP_ID.fullmatch(app_id):
            raise InvalidRequest.of("app", "3-63 lower-case letters, digits or _, a letter first", "invalid_id")
        await self._check_subdomain(subdomain, app_id)
        row = App(
            id=app_id,
            account=account,
            name=name,
            subdomain=subdomain,
            folder=str(await anyio.Path(folder).resolve()) if folder else "",
            created_ms=0,
        )
        try:
            return await self._store.write(CreateApp(app=row))
        except Refusal:
            raise
        except Exception:
            # The database itself stops the second of two that ask for a subdomain at the same moment.
            await self._check_subdomain(subdomain, app_id)
            raise

    async def _check_subdomain(self, subdomain: str, app_id: str) -> None:
        if not subdomain:
            return
        if not _SUBDOMAIN.fullmatch(subdomain):
            raise InvalidRequest.of("subdomain", "lower-case letters, digits and - only", "invalid_subdomain")
        taken = await self._store.read(queries.app_of_subdomain(subdomain))
        if taken is not None and taken.id != app_id:
            raise InvalidRequest.of("subdomain", "another app has it", "taken")

    async def app(self, app_id: str) -> App:
        """Raises `AppNotFound`."""
        found = await self._store.read(queries.by_id(App, app_id))
        if found is None:
            raise AppNotFound("There is no such app.")
        return found

    async def app_of_subdomain(self, subdomain: str) -> App | None:
        return await self._store.read(queries.app_of_subdomain(subdomain))

    async def apps(self, account: str | None = None) -> Sequence[App]:
        """Every app, or those of one account, oldest first."""
        return await self._store.read(queries.apps(account))

    async def set_folder(self, app: App, folder: Path) -> App:
        """Say where an app's `ctxhost.toml` is."""
        command = SetFolder(account=app.account, app=app.id, folder=str(await anyio.Path(folder).resolve()))
        return await self._store.write(command)

    async def create_key(
        self,
        account: str,
        *,
        name: str = "",
        scopes: Sequence[str] = (SCOPE_ALL,),
        app: str = "",
        expires_ms: int = 0,
    ) -> tuple[str, ServiceKey]:
        """Make a service key. Its text is returned once and only here; the host keeps its hash."""
        if not scopes or any(scope not in SCOPES for scope in scopes):
            raise InvalidRequest.of("scopes", f"each is one of {', '.join(SCOPES)}", "unknown_scope")
        text = new_secret(KEY_PREFIX)
        row = ServiceKey(
            id=hash_of(text),
            account=account,
            app=app,
            name=name,
            hint=text[:_HINT_CHARS],
            scopes=" ".join(scopes),
            created_ms=0,
            expires_ms=expires_ms,
            revoked_ms=0,
        )
        return text, await self._store.write(CreateKey(key=row))

    async def keys(self, account: str) -> Sequence[ServiceKey]:
        return await self._store.read(queries.service_keys(account))

    async def revoke_key(self, account: str, key: str) -> ServiceKey:
        """End a key, named by its text, its hash or its hint. Raises `KeyNotFound`."""
        digest = hash_of(key)
        found = [row for row in await self.keys(account) if key in (row.id, row.hint) or row.id == digest]
        if len(found) != 1:
            raise KeyNotFound(f"{len(found)} keys of this account match.")
        return await self._store.write(RevokeKey(account=account, key=found[0].id))

    async def authenticate(self, key: str) -> ServiceKey:
        """Whose key it is. Looked up by its hash, so that timing tells nothing. Raises `InvalidApiKey`."""
        row = await self._store.read(queries.by_id(ServiceKey, hash_of(key)))
        now_ms = self._store.now_ms()
        if row is None or row.revoked_ms or (row.expires_ms and row.expires_ms <= now_ms):
            raise InvalidApiKey("This service key is not valid.")
        return row

    async def set_env(self, app: App, name: str, value: str, *, function: str = "") -> None:
        """Give an app's functions (or one of them) a value, encrypted at rest."""
        if not _ENV_NAME.fullmatch(name):
            raise InvalidRequest.of("name", "letters, digits and _, no digit first", "invalid_name")
        place = f"{function}/{name}" if function else name
        sealed = self._ring.seal(value, app=app.id, kind=_ENV, name=place)
        row = Secret(
            id=f"{app.id}/{_ENV}/{place}",
            account=app.account,
            app=app.id,
            kind=_ENV,
            name=place,
            sealed=sealed,
            updated_ms=0,
        )
        await self._store.write(PutSecret(secret=row))

    async def delete_env(self, app: App, name: str, *, function: str = "") -> None:
        place = f"{function}/{name}" if function else name
        await self._store.write(DeleteSecret(account=app.account, app=app.id, id=f"{app.id}/{_ENV}/{place}"))

    async def env_names(self, app: str) -> Sequence[str]:
        """`NAME` or `function/NAME`, never the values."""
        return [secret.name for secret in await self._store.read(queries.secrets(app, _ENV))]

    async def env(self, app: str, function: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The values of an app, and those of one of its functions."""
        common: dict[str, str] = {}
        own: dict[str, str] = {}
        for secret in await self._store.read(queries.secrets(app, _ENV)):
            owner, slash, name = secret.name.rpartition("/")
            if slash and owner != function:
                continue
            value = self._ring.open(secret.sealed, app=app, kind=_ENV, name=secret.name)
            (own if slash else common)[name] = value
        return common, own

    async def database_name(self, app: App) -> str:
        """The file name of the app's own database: made once, hard to guess, sealed like a secret."""
        place = f"{app.id}/{_DATABASE}/file"
        stored = await self._store.read(queries.by_id(Secret, place))
        if stored is None:
            sealed = self._ring.seal(secrets.token_hex(16), app=app.id, kind=_DATABASE, name="file")
            row = Secret(
                id=place,
                account=app.account,
                app=app.id,
                kind=_DATABASE,
                name="file",
                sealed=sealed,
                updated_ms=0,
            )
            stored = await self._store.write(KeepSecret(secret=row))
        return self._ring.open(stored.sealed, app=app.id, kind=_DATABASE, name="file")


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
