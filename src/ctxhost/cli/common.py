"""What the commands share: settings, the database, and how a mistake is told."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
from pydantic import ValidationError
from pydantic_settings import SettingsError as UnreadableSetting

from ctxhost.errors import CtxhostError, SettingsError
from ctxhost.ledger.ledger import Ledger
from ctxhost.money import parse_usd, usd_text
from ctxhost.settings import Settings, is_url
from ctxhost.store import Store
from ctxhost.store.open import open_store as open_any_store
from ctxhost.tenants.secrets import KeyRing
from ctxhost.tenants.service import Tenants

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

NO_KEYS = (
    "There is no encryption key. Set CTXHOST_ENCRYPTION_KEYS, for example: "
    'export CTXHOST_ENCRYPTION_KEYS="k1:$(openssl rand -base64 32)"; keep it, stored secrets open with nothing else.'
)


class Usd(click.ParamType[int]):
    """An amount of US dollars as a person types it; the command gets nano-dollars."""

    name = "usd"

    def __init__(self, *, minimum: int | None = None) -> None:
        self._minimum = minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            amount = parse_usd(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._minimum is not None and amount < self._minimum:
            self.fail(f"an amount here is at least {usd_text(self._minimum)}", param, ctx)
        return amount


SIGNED_USD = Usd()
USD = Usd(minimum=0)
POSITIVE_USD = Usd(minimum=1)


class DatabaseName(click.ParamType[Path | str]):
    """The path of a file, or a URL, which a path would spoil."""

    name = "file or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        return value if isinstance(value, Path) or is_url(value) else Path(value)


def database_option(command: Command) -> Command:
    """`--database`, for a command that opens it."""
    return click.option(
        "--database",
        type=DatabaseName(),
        help="The SQLite file, or a postgresql:// URL.  [env: CTXHOST_DATABASE; default: ctxhost.db]",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`, for a command that prints a list."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def key_option(command: Command) -> Command:
    """`--key`, for a write that has one effect per key."""
    return click.option("--key", help="The same key again has no second effect. Left out, one is made and printed.")(
        command
    )


def fresh_key(key: str | None) -> str:
    return key or f"cli-{secrets.token_hex(8)}"


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's async part. A mistake of the operator becomes one line on stderr and exit code 1."""
    with told():
        return anyio.run(work, backend_options={"use_uvloop": True})


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what a person can mend into `click.ClickException`; anything else is a bug and keeps its traceback."""
    try:
        yield
    except Exception as error:
        first = _leaf(error)
        if isinstance(first, CtxhostError):
            raise click.ClickException(" ".join(str(first).split())) from error
        if isinstance(first, OSError) and first.filename is not None:
            raise click.ClickException(f"{first.filename} cannot be used: {first.strerror}.") from error
        raise


def _leaf(error: BaseException) -> BaseException:
    """The error itself, out of the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def load_settings(**given: Any) -> Settings:
    """The settings of the environment; what is given and not None goes before.

    Raises:
        SettingsError: names the variable that is wrong.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise SettingsError("; ".join(f"{_variable(fault['loc'])}: {fault['msg']}" for fault in faults)) from None
    except UnreadableSetting as error:
        raise SettingsError(f"{error}; write it as JSON, or name its parts with CTXHOST_…__…") from None


def _variable(place: tuple[int | str, ...]) -> str:
    return f"CTXHOST_{'__'.join(map(str, place)).upper()}"


def key_ring(settings: Settings) -> KeyRing:
    """Raises `SettingsError` that says how to make a key."""
    if settings.encryption_keys is None:
        raise SettingsError(NO_KEYS)
    return KeyRing.parse(settings.encryption_keys.get_secret_value())


@contextlib.asynccontextmanager
async def open_store(database: Path | str, *, create: bool = False) -> AsyncIterator[Store]:
    """The database alone: safe beside a host that is running on it.

    Raises:
        StoreError: it cannot be used.
        SettingsError: it is not there, and `create` is false.
    """
    if not create and not is_url(database) and not await anyio.Path(database).exists():
        raise SettingsError(
            f"There is no database at {database}. Name another with --database, or begin one with"
            " `ctxhost credits open-account`."
        )
    store = await open_any_store(database, is_pooled=load_settings().database_pooled)
    try:
        yield store
    finally:
        await store.aclose()


def with_ledger(database: Path | str | None, work: Callable[[Ledger], Awaitable[T]], *, create: bool = False) -> T:
    """Do something with the ledger of a database."""

    async def opened() -> T:
        async with open_store(load_settings(database=database).database, create=create) as store:
            return await work(Ledger(store))

    return run(opened)


def with_tenants(database: Path | str | None, work: Callable[[Tenants], Awaitable[T]]) -> T:
    """Do something with the apps, keys and secrets of a database."""

    async def opened() -> T:
        settings = load_settings(database=database)
        ring = key_ring(settings)
        async with open_store(settings.database) as store:
            return await work(Tenants(store, ring))

    return run(opened)
