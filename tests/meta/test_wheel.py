"""What an installed wheel must carry beside the modules: the types' marker, and the worked example."""

import shutil
import tomllib
from pathlib import Path

import pytest

import ctxhost
from ctxhost.cli.stand import app_folder

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("**/src/*/__init__.py") if ".venv" not in path.parts)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_says_that_it_is_typed(package: Path) -> None:
    """Else a type checker ignores the annotations of what is installed."""
    assert (package / "py.typed").is_file()


def test_without_a_clone_the_worked_example_is_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install ctxhost ctxhost-fake && ctxhost sandbox` finds the app where the wheel puts it."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = told["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    site = tmp_path / "python" / "site-packages"
    for source, target in included.items():
        shutil.copytree(ROOT / source, site / target)
    monkeypatch.setattr(ctxhost, "__file__", str(site / "ctxhost" / "__init__.py"))
    monkeypatch.chdir(tmp_path)

    assert site / "ctxhost" / "example_app" == app_folder(None)
