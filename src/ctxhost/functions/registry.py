"""Which functions there are: those of app folders, and those that the embedding program registers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request

from ctxhost.errors import MethodNotAllowed, NotFound
from ctxhost.functions.loader import load_handler
from ctxhost.functions.manifest import FunctionSpec, HttpTrigger, Manifest, load_manifest
from ctxhost.functions.schema import Schema, load_schema

HandlerFunction = Callable[[Request, Any], Awaitable[object]]

DEFAULT_TIMEOUT_S = 30


class FunctionNotFound(NotFound):
    code = "function_not_found"
    remediation = "Check the path; the app's ctxhost.toml lists its functions and their paths."


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A handler that is ready to be called."""

    app: str
    name: str
    handler: HandlerFunction
    route: HttpTrigger
    timeout_s: int
    env: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"function {self.name} of {self.app}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What an app folder came to when it was read."""

    manifest: Manifest
    schema: Schema | None
    functions: Sequence[Function]


async def read_folder(app: str, folder: Path) -> Deployment:
    """Read and load an app folder; nothing that was loaded before is disturbed.

    Raises:
        ManifestError, SchemaError: the folder's files cannot be used.
        HandlerLoadError: a function's file cannot be loaded.
    """
    return await anyio.to_thread.run_sync(_read_folder, app, folder)


def _read_folder(app: str, folder: Path) -> Deployment:
    manifest = load_manifest(folder)
    schema = load_schema(manifest.schema_file) if manifest.schema_file else None
    functions = [_function(app, manifest, spec) for spec in manifest.functions]
    return Deployment(manifest=manifest, schema=schema, functions=functions)


def _function(app: str, manifest: Manifest, spec: FunctionSpec) -> Function:
    return Function(
        app=app,
        name=spec.name,
        handler=load_handler(spec.file, spec.name),
        route=spec.route,
        timeout_s=spec.timeout_s,
        env=spec.env,
    )


class Registry:
    """The functions of every app, found by path or by name."""

    def __init__(self) -> None:
        self._deployed: dict[str, Deployment] = {}
        self._registered: dict[str, dict[str, Function]] = {}

    def deploy(self, app: str, deployment: Deployment) -> None:
        """Replace an app's folder functions, all at once."""
        self._deployed[app] = deployment

    def deployment(self, app: str) -> Deployment | None:
        return self._deployed.get(app)

    def register(self, function: Function) -> None:
        """Add a function of the embedding program; one of the same name is replaced."""
        self._registered.setdefault(function.app, {})[function.name] = function

    def functions(self, app: str) -> Sequence[Function]:
        """Those registered first, then those of the folder."""
        deployed = self._deployed.get(app)
        registered = self._registered.get(app, {})
        return [
            *registered.values(),
            *(f for f in (deployed.functions if deployed else ()) if f.name not in registered),
        ]

    def named(self, app: str, name: str) -> Function:
        """Raises `FunctionNotFound`."""
        for function in self.functions(app):
            if function.name == name:
                return function
        raise FunctionNotFound(f"This app has no function named {name[:100]}.")

    def routed(self, app: str, method: str, path: str) -> Function:
        """The function that a trigger's method and path bind, else the one that the path names.

        Raises:
            FunctionNotFound: nothing answers at this path.
            MethodNotAllowed: something does, by another method.
        """
        functions = self.functions(app)
        found = [f for f in functions if f.route.path == path] or [f for f in functions if f"/{f.name}" == path]
        if not found:
            raise FunctionNotFound(f"This app has no function at {path[:100]}.")
        for function in found:
            if function.route.method == method:
                return function
        allow = sorted({function.route.method for function in found})
        raise MethodNotAllowed(f"{method[:20]} is not the method of this function.", allow=allow)
