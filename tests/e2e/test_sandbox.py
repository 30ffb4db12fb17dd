"""`ctxhost sandbox`: the worked example from end to end, as a stranger runs it; and proof that its checks can fail."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.postgres import server

ROOT = Path(__file__).parents[2]
WITHIN_S = 60


def _sandbox(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ctxhost", "sandbox", "--app", str(ROOT / "sandbox"), *args],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "CTXHOST_MEETINGS__MARKUP_PERCENT": "77"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def test_the_worked_example_keeps_every_promise(tmp_path: Path) -> None:
    """Exit code 0; the report has the life, the deliveries, the row and the books with their exact figures.

    Settings of the surroundings change nothing, and nothing is left behind.
    """
    ran = _sandbox("--speed", "40", folder=tmp_path)

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "" == ran.stderr
    assert "joining → waiting_room → in_call → recording → ended → done" in ran.stdout
    for event in ("bot.in_call_recording", "recording.done", "transcript.done", "bot.done"):
        assert re.search(rf"{event} +msg_\S+ +200 +✓ verified +✓ both forms", ran.stdout)
    assert re.search(r"no meeting\s+bot\.fatal ", ran.stdout)
    assert re.search(r" transcript\.failed ", ran.stdout)
    assert re.search(r"held when the bot was sent +\$0\.065 ", ran.stdout)
    assert re.search(r'recording, 44 s +\$0\.007333333 +usage row "0\.007333"', ran.stdout)
    assert re.search(r'transcription, 44 s +\$0\.0022 +usage row "0\.002200"', ran.stdout)
    assert re.search(r"charged for its call +\$0\.009533333 ", ran.stdout)
    assert re.search(r"balance +\$4\.973600001 +\$0\.00 held", ran.stdout)
    assert re.search(r"video/mp4, [\d,]+ bytes", ran.stdout)
    assert re.search(r"All \d+ promises are kept", ran.stdout)
    assert "✗" not in ran.stdout
    assert [] == list(tmp_path.iterdir())


def test_the_worked_example_on_postgresql(tmp_path: Path) -> None:
    """The same promises with books and the app's tables on PostgreSQL; a database in use is refused in a line."""
    books, apps = server().create("sandbox_books"), server().create("sandbox_apps")
    elsewhere = ["--database", books, "--apps-database", apps]
    ran = _sandbox("--speed", "40", *elsewhere, folder=tmp_path)

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "" == ran.stderr
    assert re.search(r"balance +\$4\.973600001 +\$0\.00 held", ran.stdout)
    assert re.search(r"All \d+ promises are kept", ran.stdout)

    again = _sandbox(*elsewhere, folder=tmp_path)
    assert 0 != again.returncode
    assert "The database is in use" in again.stderr


@pytest.mark.parametrize(
    ("broken", "promise", "seen"),
    [
        pytest.param("secret", "the app's function finds every signature right", "was answered 401", id="secret"),
        pytest.param("event", "the events of “happy” are accepted in order", "recording.done, bot.done", id="event"),
        pytest.param("price", "$0.009533333 are charged for its call", "0.009930556", id="price"),
    ],
)
def test_what_is_broken_is_seen_and_said(tmp_path: Path, broken: str, promise: str, seen: str) -> None:
    """A wrong secret, a dropped event, a changed price: exit code 1, the promise, and what was seen instead."""
    ran = _sandbox("--speed", "40", "--break", broken, folder=tmp_path)
    told = ran.stdout.partition("What was promised")[2]

    assert 1 == ran.returncode, ran.stdout + ran.stderr
    assert f"✗ {promise}" in told
    assert seen in told
    assert f"promises are not kept. The {broken} was broken on purpose." in told


def test_what_does_not_end_in_time_is_a_failure(tmp_path: Path) -> None:
    """A bot that lives longer than the deadline fails the run instead of hanging it."""
    ran = _sandbox("--speed", "1", "--deadline", "1", folder=tmp_path)

    assert 1 == ran.returncode
    assert "✗ every bot came to its end in time" in ran.stdout


def test_the_folder_is_kept_when_asked_for(tmp_path: Path) -> None:
    """`--keep` leaves database, keys and artifacts to look into."""
    ran = _sandbox("--speed", "40", "--keep", folder=tmp_path)
    (kept,) = tmp_path.iterdir()

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert {"ctxhost.db", "key", "data"} <= {path.name for path in kept.iterdir()}
