"""What `import ctxhost` shows."""

import subprocess
import sys
from types import ModuleType

import pytest

import ctxhost
from ctxhost import errors


def test_every_public_name_is_listed() -> None:
    """`ctxhost.__all__` is sorted and is exactly what a user can see."""
    shown = {name: getattr(ctxhost, name) for name in dir(ctxhost) if name[0] != "_"}
    unlisted = ("TYPE_CHECKING", "import_module")
    seen = {name for name, value in shown.items() if name not in unlisted and not isinstance(value, ModuleType)}

    assert sorted(seen, key=_as_ruff_sorts) == ctxhost.__all__


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_a_name_that_there_is_not() -> None:
    """A typing error is told as of any other module."""
    with pytest.raises(AttributeError, match="module 'ctxhost' has no attribute 'Hosts'"):
        _ = ctxhost.Hosts  # type: ignore[attr-defined]


def test_every_error_of_the_tree_is_public() -> None:
    """Whoever embeds the host can catch every error by its name, from one place."""
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert set() == tree - set(ctxhost.__all__)


def test_the_package_is_imported_without_the_command_line() -> None:
    """An embedding program brings its own server and loads no file watcher."""
    unwanted = ("ctxhost.cli", "uvicorn", "watchfiles")
    code = f"import sys, ctxhost; print([name for name in {unwanted} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "[]" == told.stdout.strip()
