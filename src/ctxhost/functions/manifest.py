"""`ctxhost.toml`: what an app folder deploys.

[app]
name = "meeting-notes"
subdomain = "meeting-notes"      # optional: the host name's first label that leads to this app
schema = "schema.json"           # optional: schema.json is taken when it exists
[env]                            # plain values for every function; secrets are set with the CLI and kept encrypted
GREETING = "hi"
[functions.spawn-bot]            # no trigger: answers POST /fn/spawn-bot without credentials
file = "functions/spawn_bot.py"  # the default: functions/<name with - as _>.py
timeout_s = 30
[functions.notes.trigger]
type = "http"
[functions.notes.trigger.config]
method = "GET"                   # default POST
path = "/notes"
auth = "required"                # required (default) | optional | none
[functions.notes.env]
PAGE_SIZE = "20"
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from ctxhost.errors import SettingsError
from ctxhost.functions.documents import StrictModel, first_problem

MANIFEST_FILE: Final = "ctxhost.toml"
PLATFORM_ENV: Final = frozenset({"BUTTERBASE_API_URL", "BUTTERBASE_APP_ID"})
"""The values of `ctx.env` that the host sets; an app cannot shadow them."""

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
Auth: TypeAlias = Literal["required", "optional", "none"]


class ManifestError(SettingsError):
    """The manifest cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTrigger:
    """Where a function answers, below `/fn`, and who may call it there."""

    method: Method
    path: str
    auth: Auth


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """One function as its author declared it. `file` is absolute and lies inside the app's folder."""

    name: str
    file: Path
    timeout_s: int
    trigger: HttpTrigger | None
    env: Mapping[str, str]

    @property
    def route(self) -> HttpTrigger:
        """Its trigger, or what a function without one answers: POST /<name>, open to everybody."""
        return self.trigger or HttpTrigger(method="POST", path=f"/{self.name}", auth="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An app folder's declaration; `functions` keep the order of the file."""

    name: str
    subdomain: str | None
    folder: Path
    schema_file: Path | None
    env: Mapping[str, str]
    functions: tuple[FunctionSpec, ...]

    def warnings(self) -> tuple[str, ...]:
        """What whoever deploys this should know: one line for each function that anybody may call unknowingly."""
        return tuple(
            f"function {spec.name} has no trigger: POST /fn/{spec.name} answers anybody, without credentials"
            for spec in self.functions
            if spec.trigger is None
        )


def _env_name(name: str) -> str:
    if name in PLATFORM_ENV:
        raise ValueError("is set by the host and cannot be given here")
    return name


def _plain_path(path: str) -> str:
    if any(segment in {".", ".."} for segment in path.split("/")):
        raise ValueError("a path has no . or .. segments")
    return path


_Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"), AfterValidator(_env_name)]
_Env = dict[_EnvName, Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=32_768)]]
_Path = Annotated[
    str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)+$", max_length=256), AfterValidator(_plain_path)
]
_File = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]+$")]


class _Config(StrictModel):
    method: Method = "POST"
    path: _Path
    auth: Auth = "required"


class _Trigger(StrictModel):
    type: Literal["http"]
    config: _Config


class _Function(StrictModel):
    file: _File | None = None
    timeout_s: int = Field(default=30, ge=1, le=900)
    trigger: _Trigger | None = None
    env: _Env = Field(default_factory=dict)


class _App(StrictModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
    subdomain: _Label | None = None
    schema_: _File | None = Field(default=None, alias="schema")


class _Document(StrictModel):
    app: _App
    env: _Env = Field(default_factory=dict)
    functions: dict[_Label, _Function] = Field(default_factory=dict)


def load_manifest(folder: Path) -> Manifest:
    """Read and check `ctxhost.toml` of an app folder.

    Raises:
        ManifestError: missing, not TOML, an unknown key, a wrong value, a file that is missing or outside the folder,
            two functions at one method and path.
    """
    source = folder / MANIFEST_FILE
    try:
        document = _Document.model_validate(tomllib.loads(source.read_text("utf-8")))
        return _manifest(document, folder.resolve())
    except OSError as exc:
        raise ManifestError(f"{source}: cannot be read ({exc.strerror})") from exc
    except ValidationError as exc:
        raise ManifestError(f"{source}: {first_problem(exc)}") from exc
    except ValueError as exc:  # TOML, UTF-8, and our own checks below
        raise ManifestError(f"{source}: {exc}") from exc


def _manifest(document: _Document, folder: Path) -> Manifest:
    functions = tuple(_function(name, raw, folder) for name, raw in document.functions.items())
    _refuse_shared_routes(functions)
    return Manifest(
        name=document.app.name,
        subdomain=document.app.subdomain,
        folder=folder,
        schema_file=_schema_file(document.app.schema_, folder),
        env=MappingProxyType(document.env),
        functions=functions,
    )


def _function(name: str, raw: _Function, folder: Path) -> FunctionSpec:
    file = raw.file or f"functions/{name.replace('-', '_')}.py"
    return FunctionSpec(
        name=name,
        file=_inside(folder, file, key=f"functions.{name}.file"),
        timeout_s=raw.timeout_s,
        trigger=HttpTrigger(**raw.trigger.config.model_dump()) if raw.trigger else None,
        env=MappingProxyType(raw.env),
    )


def _schema_file(given: str | None, folder: Path) -> Path | None:
    if given is None and not (folder / "schema.json").exists():
        return None
    return _inside(folder, given or "schema.json", key="app.schema")


def _inside(folder: Path, file: str, *, key: str) -> Path:
    # Resolved, so that neither `..` nor a symbolic link leads out.
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"{key}: {file} lies outside the app's folder")
    if not path.is_file():
        raise ValueError(f"{key}: there is no file {file}")
    return path


def _refuse_shared_routes(functions: tuple[FunctionSpec, ...]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for place, name in _routes(functions):
        if place in taken:
            raise ValueError(f"functions.{name}: {' '.join(place)} is taken by {taken[place]}")
        taken[place] = name


def _routes(functions: tuple[FunctionSpec, ...]) -> Iterator[tuple[tuple[str, str], str]]:
    for spec in functions:
        yield (spec.route.method, spec.route.path), spec.name
