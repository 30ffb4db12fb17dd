"""What can be done to apps, their keys and their secrets. Each is under the lock of the owner's account."""

from collections.abc import Iterable
from dataclasses import dataclass

from ctxhost.errors import AppNotFound, InvalidRequest, NotFound
from ctxhost.ledger.commands import get_account
from ctxhost.store import Key, View
from ctxhost.store.rows import App, Secret, ServiceKey


class KeyNotFound(NotFound):
    code = "key_not_found"
    remediation = "`ctxhost keys list` shows the keys there are."


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApp:
    """Make an app of an account; the same id again answers the same app."""

    app: App

    @property
    def account(self) -> str:
        return self.app.account

    def reads(self) -> Iterable[Key]:
        return [(App, self.app.id)]

    def apply(self, view: View) -> App:
        get_account(view, self.account)
        stored = view.get(App, self.app.id)
        if stored is not None:
            if stored.account != self.account:
                raise InvalidRequest.of("app", "this id is taken", "taken")
            return stored
        app = self.app._replace(created_ms=view.now_ms)
        view.put(app)
        return app


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFolder:
    """Say where an app's manifest and functions are."""

    account: str
    app: str
    folder: str

    def reads(self) -> Iterable[Key]:
        return [(App, self.app)]

    def apply(self, view: View) -> App:
        stored = _own_app(view, self.account, self.app)._replace(folder=self.folder)
        view.put(stored)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """Keep a new key's hash."""

    key: ServiceKey

    @property
    def account(self) -> str:
        return self.key.account

    def reads(self) -> Iterable[Key]:
        keys: list[Key] = [(ServiceKey, self.key.id)]
        return [*keys, (App, self.key.app)] if self.key.app else keys

    def apply(self, view: View) -> ServiceKey:
        get_account(view, self.account)
        if self.key.app:
            _own_app(view, self.account, self.key.app)
        key = self.key._replace(created_ms=view.now_ms)
        view.put(key)
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey:
    """End a key now; again has no effect."""

    account: str
    key: str

    def reads(self) -> Iterable[Key]:
        return [(ServiceKey, self.key)]

    def apply(self, view: View) -> ServiceKey:
        stored = view.get(ServiceKey, self.key)
        if stored is None or stored.account != self.account:
            raise KeyNotFound("There is no such key on this account.")
        stored = stored._replace(revoked_ms=stored.revoked_ms or view.now_ms)
        view.put(stored)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSecret:
    """Keep a sealed value of an app."""

    secret: Secret

    @property
    def account(self) -> str:
        return self.secret.account

    def reads(self) -> Iterable[Key]:
        return [(Secret, self.secret.id), (App, self.secret.app)]

    def apply(self, view: View) -> None:
        _own_app(view, self.account, self.secret.app)
        view.put(self.secret._replace(updated_ms=view.now_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSecret:
    """Keep a sealed value unless there is one already; returns the one that stays."""

    secret: Secret

    @property
    def account(self) -> str:
        return self.secret.account

    def reads(self) -> Iterable[Key]:
        return [(Secret, self.secret.id), (App, self.secret.app)]

    def apply(self, view: View) -> Secret:
        _own_app(view, self.account, self.secret.app)
        stored = view.get(Secret, self.secret.id)
        if stored is None:
            stored = self.secret._replace(updated_ms=view.now_ms)
            view.put(stored)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSecret:
    """Forget a value; again has no effect."""

    account: str
    app: str
    id: str

    def reads(self) -> Iterable[Key]:
        return [(Secret, self.id), (App, self.app)]

    def apply(self, view: View) -> None:
        _own_app(view, self.account, self.app)
        view.delete(Secret, self.id)


def _own_app(view: View, account: str, app_id: str) -> App:
    app = view.get(App, app_id)
    if app is None or app.account != account:
        raise AppNotFound("There is no such app on this account.")
    return app
