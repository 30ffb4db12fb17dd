"""Load a handler file: `async def handler(request, ctx)`.

A file may import the files next to it, relatively: `from .helpers import greet`. Each load is a world of its own: the
file and what it imports that way are executed anew, under a package name that nobody else knows, so a load never
disturbs an earlier one, and two functions share no module state. The modules go when the `Handler` goes.
"""

import importlib.util
import inspect
import secrets
import sys
import traceback
import types
import weakref
from collections.abc import Awaitable, Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request

from ctxhost.errors import CtxhostError

_PREFIX: Final = "_ctxhost_handler_"


class HandlerLoadError(CtxhostError):
    """A handler file cannot be used. `line` is None where the file as a whole is at fault."""

    def __init__(self, reason: str, *, file: Path, line: int | None = None) -> None:
        super().__init__(f"{file}{f':{line}' if line else ''}: {reason}")
        self.reason = reason
        self.file = file
        self.line = line


class Handler:
    """A loaded handler, called as `await handler(request, ctx)`."""

    def __init__(self, name: str, file: Path, call: Callable[[Request, Any], Awaitable[object]]) -> None:
        self.name = name
        self.file = file
        self._call = call

    def __call__(self, request: Request, ctx: Any) -> Awaitable[object]:
        return self._call(request, ctx)

    def __repr__(self) -> str:
        return f"<Handler {self.name} from {self.file}>"


class _FreshSource(SourceFileLoader):
    """Compiles every time: cached bytecode is matched by whole seconds and size, which misses a quick edit."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


class _Siblings(MetaPathFinder):
    """Finds the files next to a handler, for that handler's package alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith(_PREFIX):
            return None
        finders = (FileFinder(folder, (_FreshSource, [".py"])) for folder in path)
        return next((spec for finder in finders if (spec := finder.find_spec(fullname))), None)


def load_handler(path: Path, function_name: str) -> Handler:
    """Execute a handler file and return its handler. Blocking: it runs the file's top level.

    Raises:
        HandlerLoadError: unreadable, a syntax error, an error while it is executed, or not an
            `async def handler(request, ctx)`.
    """
    path = path.resolve()
    if not any(isinstance(finder, _Siblings) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Siblings())
    package = _PREFIX + secrets.token_hex(8)
    try:
        call = _checked(_executed(path, package), path)
    except BaseException:
        _forget(package)
        raise
    handler = Handler(function_name, path, call)
    weakref.finalize(handler, _forget, package).atexit = False
    return handler


def _executed(path: Path, package: str) -> types.ModuleType:
    home = types.ModuleType(package)
    home.__path__ = [str(path.parent)]
    sys.modules[package] = home
    name = f"{package}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FreshSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:  # the author's code may raise anything
        raise _load_error(exc, path) from exc
    return module


def _load_error(exc: BaseException, path: Path) -> HandlerLoadError:
    reason = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if isinstance(exc, SyntaxError) and exc.filename is not None:
        return HandlerLoadError(f"{type(exc).__name__}: {exc.msg}", file=Path(exc.filename), line=exc.lineno)
    if isinstance(exc, OSError) and not path.is_file():
        return HandlerLoadError("there is no such file", file=path)
    # The innermost line that the author wrote: the handler's file or one next to it.
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if Path(frame.filename).parent == path.parent]
    if frames:
        return HandlerLoadError(reason, file=Path(frames[-1].filename), line=frames[-1].lineno)
    return HandlerLoadError(reason, file=path)


def _checked(module: types.ModuleType, path: Path) -> Callable[[Request, Any], Awaitable[object]]:
    found: object = getattr(module, "handler", None)
    if found is None:
        raise HandlerLoadError("it has no `async def handler(request, ctx)`", file=path)
    code = getattr(found, "__code__", None)
    line = code.co_firstlineno if code is not None else None
    if not callable(found) or not inspect.iscoroutinefunction(found):
        raise HandlerLoadError("handler must be `async def` and must not yield", file=path, line=line)
    try:
        inspect.signature(found).bind(None, None)
    except TypeError:
        raise HandlerLoadError("handler must take (request, ctx)", file=path, line=line) from None
    return found


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
