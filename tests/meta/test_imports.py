"""Which room may import which: the arrows of the architecture, held by reading every import of the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctxhost

ROOT = Path(ctxhost.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "money", "logs"),
    ("clock", "ids", "wire", "settings", "background"),
    ("observe",),
    ("store",),
    ("jobs", "egress", "rates"),
    ("outgoing",),
    ("ledger",),
    ("tenants",),
    ("webhooks",),
    ("meetings",),
    ("hookspecs", "plugins", "ai", "retention"),
    ("functions",),
    ("api",),
    ("host",),
    ("doctor", "backup"),
    ("cli", "testing", "__init__", "__main__"),
)
"""From the ground up. A room imports rooms below it, and itself; rooms of one layer do not meet, but for `SIBLINGS`."""

SIBLINGS = {
    ("errors", "money"),
    ("jobs", "store"),
    ("plugins", "hookspecs"),
    ("__main__", "cli"),
}
PURE = (
    "money.py",
    "ledger/rules.py",
    "meetings/artifacts.py",
    "meetings/facts.py",
    "meetings/lifecycle.py",
    "meetings/transcript.py",
    "webhooks/signing.py",
)
IO = {"aiohttp", "anyio", "asyncio", "httpx", "os", "pathlib", "socket", "sqlite3", "subprocess", "threading", "time"}
ASYNCIO = (
    "store/queue.py",
    "store/postgres.py",
    "store/postgres_hosts.py",
    "store/postgres_lanes.py",
    "store/postgres_session.py",
    "store/postgres_wire.py",
    "store/sqlite.py",
)
"""Where waiting is written with futures that a thread or a socket resolves; everywhere else it is anyio."""

LAYER_OF = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[str]:
    """Modules imported at run time, absolute; what stands below `if TYPE_CHECKING:` is not."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "ctxhost":
            yield from (f"ctxhost.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        waiting += ast.iter_child_nodes(node)


def _room(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_the_arrows_point_down(path: Path) -> None:
    """A room knows only the rooms below it, so that each can be understood, and changed, without those above."""
    mine = _room(path)
    rooms = {module.split(".")[1] for module in _imports(path) if module.startswith("ctxhost.")}
    upward = [
        room
        for room in rooms
        if room != mine
        and (mine, room) not in SIBLINGS
        and LAYER_OF.get(room, -1 if room.startswith("__") else 99) >= LAYER_OF[mine]
    ]

    assert [] == sorted(upward)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_io(name: str) -> None:
    """The rules of money, of a bot's life and of signatures can be tested, and trusted, without a world around them."""
    found = {module.split(".")[0] for module in _imports(ROOT / name)}

    assert set() == found & IO


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_waiting_is_written_with_anyio(path: Path) -> None:
    """asyncio itself is used only where a thread or a socket has to resolve a future."""
    uses_asyncio = "asyncio" in {module.split(".")[0] for module in _imports(path)}

    assert not uses_asyncio or _name(path) in ASYNCIO


@pytest.mark.parametrize(
    "path", sorted((ROOT.parent.parent / "plugins").glob("*/src/**/*.py")), ids=lambda path: path.as_posix()[-60:]
)
def test_plugins_use_public_rooms_only(path: Path) -> None:
    """A plugin of this repository gets no more of the host than one that somebody else writes."""
    allowed = {"clock", "errors", "hookspecs", "ids", "meetings", "money", "observe", "testing", "webhooks"}
    private = {"ctxhost.meetings.commands", "ctxhost.meetings.service", "ctxhost.webhooks.commands"}
    modules = [module for module in _imports(path) if module.startswith("ctxhost.")]

    assert [] == [m for m in modules if m.split(".")[1] not in allowed or m in private]
