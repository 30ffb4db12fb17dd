"""Who is calling: the service key, the app that it is for, and what the key may do; refused in one fixed order."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from starlette.requests import HTTPConnection, Request

from ctxhost.api.limits import Limiter, network_of
from ctxhost.api.routing import Call, Operation
from ctxhost.egress.router import IN_PROCESS
from ctxhost.errors import InsufficientScope, InvalidApiKey, MissingCredentials, NotAuthorized, RateLimited
from ctxhost.logs import note
from ctxhost.store.rows import App, ServiceKey
from ctxhost.tenants.service import KEY_PREFIX, SCOPE_ALL

if TYPE_CHECKING:
    from ctxhost.host import Host

BAD_KEYS_PER_MINUTE: Final = 30
CALLS_PER_MINUTE: Final = 6_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was proven, and the app that it was used for."""

    key: ServiceKey
    app: App


HostCall: TypeAlias = "Call[Host, Caller]"
HostOperation: TypeAlias = "Operation[Host, Caller]"


class Door:
    """Lets callers of one host in. With `settings.rate_limits` off it counts nothing."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._bad_keys = Limiter(host.clock, per_minute=BAD_KEYS_PER_MINUTE)
        self._calls = Limiter(host.clock, per_minute=CALLS_PER_MINUTE)

    async def authorize(self, request: Request, operation: HostOperation) -> Caller:
        """The caller of an app-scoped operation.

        Raises:
            RateLimited, MissingCredentials, InvalidApiKey, AppNotFound, NotAuthorized, InsufficientScope
        """
        key = await self.key(request)
        app = await self._host.tenants.app(request.path_params["app_id"])
        check_owner(key, app)
        note(app=app.id)
        if operation.scope is not None and not {operation.scope, SCOPE_ALL} & set(key.scopes.split()):
            raise InsufficientScope(f"This key lacks the scope {operation.scope}.")
        return Caller(key, app)

    async def key(self, request: Request) -> ServiceKey:
        """The valid key of a request. Raises `RateLimited`, `MissingCredentials`, `InvalidApiKey`."""
        address = _address(request)
        self._refuse_if_over(self._bad_keys, address, "Too many invalid keys came from this address.")
        text = bearer_key(request)
        if text is None:
            raise MissingCredentials("This call needs a service key.")
        try:
            key = await self._host.tenants.authenticate(text)
        except InvalidApiKey:
            self._count(self._bad_keys, address)
            raise
        self._refuse_if_over(self._calls, key.id, "This key has made too many calls.")
        self._count(self._calls, key.id)
        return key

    def _refuse_if_over(self, limiter: Limiter, name: str, message: str) -> None:
        if wait_s := limiter.wait_s(name):
            raise RateLimited(message, retry_after_s=wait_s)

    def _count(self, limiter: Limiter, name: str) -> None:
        # The host's own handlers share an address: one app's bad key must not shut out the others.
        if self._host.settings.rate_limits and name != IN_PROCESS:
            limiter.spend(name)


def bearer_key(request: HTTPConnection) -> str | None:
    """The service key that a request carries, or None when it carries nothing that looks like one."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    text = text.strip()
    is_key = scheme.lower() == "bearer" and text.startswith(KEY_PREFIX) and len(text) > len(KEY_PREFIX)
    return text if is_key and " " not in text else None


def check_owner(key: ServiceKey, app: App) -> None:
    """Raises `NotAuthorized` for a key of another owner, and for one that is bound to another app."""
    if key.account != app.account or key.app not in ("", app.id):
        raise NotAuthorized("This key is not for this app.")


def _address(request: HTTPConnection) -> str:
    return network_of(request.client.host) if request.client else ""
