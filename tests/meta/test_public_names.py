"""What `import ctxhost` shows."""

import subprocess
import sys
from types import ModuleType

import ctxhost
from ctxhost import errors


def test_every_public_name_is_listed() -> None:
    """`ctxhost.__all__` is sorted and is exactly what a user can see."""
    seen = {name for name, value in vars(ctxhost).items() if name[0] != "_" and not isinstance(value, ModuleType)}

    assert sorted(seen, key=_as_ruff_sorts) == ctxhost.__all__


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


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
