"""Loading a handler file: what is demanded of it, and how each mistake is told."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.requests import Request

from ctxhost.functions.loader import HandlerLoadError, load_handler

Write = Callable[[str, str], Path]
GOOD = "async def handler(request, ctx):\n    return {answer!r}\n"
REQUEST = Request({"type": "http", "method": "POST", "path": "/", "headers": []})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as where handlers are served

    def write_file(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_file


def modules_of_handlers() -> set[str]:
    return {name for name in sys.modules if name.startswith("_ctxhost_handler_")}


async def test_a_handler_answers(write: Write) -> None:
    """A loaded handler is called with request and ctx and gives what the author's function gives."""
    handler = load_handler(
        write("a.py", "async def handler(request, ctx):\n    return [request.method, ctx]\n"), "my-fn"
    )

    assert ["POST", "the ctx"] == await handler(REQUEST, "the ctx")
    assert "my-fn" == handler.name


async def test_a_load_never_disturbs_an_earlier_one(write: Write) -> None:
    """The old code keeps answering after the file was changed and loaded again, or broken and refused."""
    path = write("a.py", GOOD.format(answer="one"))
    first = load_handler(path, "f")
    write("a.py", GOOD.format(answer="two"))  # the same size within the same second: cached bytecode would be stale
    second = load_handler(path, "f")
    write("a.py", "async def")
    with pytest.raises(HandlerLoadError):
        load_handler(path, "f")

    assert ("one", "two") == (await first(REQUEST, None), await second(REQUEST, None))


async def test_a_file_imports_the_files_next_to_it_and_each_load_has_its_own(write: Write) -> None:
    """`from .helpers import x` works, also late, inside a call; a later load sees a later helper."""
    write("helpers.py", "word = 'old'\n")
    path = write("a.py", "async def handler(request, ctx):\n    from .helpers import word\n    return word\n")
    eager = write("b.py", "from .helpers import word\nasync def handler(request, ctx):\n    return word\n")
    early_late, early = load_handler(path, "f"), load_handler(eager, "g")
    assert "old" == await early_late(REQUEST, None)
    write("helpers.py", "word = 'new'\n")

    assert ("old", "old") == (await early_late(REQUEST, None), await early(REQUEST, None))
    assert "new" == await load_handler(eager, "g")(REQUEST, None)


def test_nothing_of_a_handler_is_importable_by_accident(write: Write, tmp_path: Path) -> None:
    """Neither the file nor its folder appear under a name that other code could import, and no bytecode is left."""
    write("helpers.py", "")
    handler = load_handler(write("only_here.py", "from . import helpers\n" + GOOD.format(answer=1)), "f")

    with pytest.raises(ModuleNotFoundError):
        __import__("only_here")
    assert "helpers" not in sys.modules
    assert str(tmp_path) not in sys.path
    assert not (tmp_path / "__pycache__").exists()
    assert handler.name == "f"


def test_a_handler_that_is_gone_leaves_no_module(write: Write) -> None:
    """Reloading for days does not pile modules up, nor does a failed load."""
    before = modules_of_handlers()
    handler = load_handler(write("a.py", GOOD.format(answer=1)), "f")
    assert 2 == len(modules_of_handlers() - before)
    del handler
    with pytest.raises(HandlerLoadError):
        load_handler(write("b.py", "1 / 0"), "f")
    gc.collect()

    assert before == modules_of_handlers()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        pytest.param("x = 1\nasync def handler(:\n", 2, "SyntaxError: invalid syntax", id="syntax"),
        pytest.param(
            "\n\nimport no_such_thing\n", 3, "ModuleNotFoundError: No module named 'no_such_thing'", id="import"
        ),
        pytest.param("from .absent import x\n", 1, "ModuleNotFoundError", id="sibling-missing"),
        pytest.param("import os\n\nos.environ['NO SUCH']\n", 3, "KeyError: 'NO SUCH'", id="top-level-raises"),
        pytest.param("raise SystemExit\n", 1, "SystemExit", id="exits"),
        pytest.param("x = 1\n", None, "it has no `async def handler(request, ctx)`", id="no-handler"),
        pytest.param("\ndef handler(request, ctx):\n    pass\n", 2, "must be `async def`", id="sync"),
        pytest.param("async def handler(request, ctx):\n    yield 1\n", 1, "must not yield", id="generator"),
        pytest.param("handler = 3\n", None, "must be `async def`", id="not-a-function"),
        pytest.param("async def handler(request):\n    pass\n", 1, "must take (request, ctx)", id="too-few"),
        pytest.param("async def handler(a, b, c):\n    pass\n", 1, "must take (request, ctx)", id="too-many"),
        pytest.param("async def handler(*, request, ctx):\n    pass\n", 1, "must take", id="keyword-only"),
        pytest.param("x = '\0'\n", None, "null bytes", id="nul"),
    ],
)
def test_each_mistake_is_told_with_file_and_line(write: Write, text: str, line: int | None, says: str) -> None:
    """One readable line that says what to mend and where."""
    path = write("broken.py", text)

    with pytest.raises(HandlerLoadError) as caught:
        load_handler(path, "f")

    assert (path, line) == (caught.value.file, caught.value.line)
    assert says in caught.value.reason
    assert f"{path}{f':{line}' if line else ''}: {caught.value.reason}" == str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_sibling_is_told_at_the_sibling(write: Write) -> None:
    """The line to mend is in the imported file."""
    helper = write("helpers.py", "\n1 / 0\n")

    with pytest.raises(HandlerLoadError) as caught:
        load_handler(write("a.py", "from . import helpers\n"), "f")

    assert (helper, 2) == (caught.value.file, caught.value.line)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that was deleted is named."""
    with pytest.raises(HandlerLoadError, match=r"gone\.py: there is no such file"):
        load_handler(tmp_path / "gone.py", "f")


def test_optional_further_parameters_are_fine(write: Write) -> None:
    """What can be called with two arguments is a handler."""
    path = write("a.py", "async def handler(request, ctx, verbose=False):\n    return verbose\n")

    assert "f" == load_handler(path, "f").name
