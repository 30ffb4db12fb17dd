"""`ctxhost apps` and `ctxhost keys`, on a real database."""

from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Refused

SANDBOX = Path(__file__).parents[2] / "sandbox"


@pytest.fixture
def app(cli: Cli, account: str) -> str:
    """An app without a folder."""
    cli.ok("apps", "create", account, "notes", "--id", "app_notes")
    return "app_notes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The smallest app folder."""
    made = tmp_path / "app"
    (made / "functions").mkdir(parents=True)
    (made / "ctxhost.toml").write_text('[app]\nname = "notes"\nsubdomain = "notes"\n[functions.hello]\n')
    (made / "functions" / "hello.py").write_text("async def handler(request, ctx):\n    return {}\n")
    return made


def test_an_app_is_made_and_listed(cli: Cli, account: str) -> None:
    """With an id of its own unless one is given; the same id again is the same app."""
    made = cli.facts("apps", "create", account, "notes")
    named = cli.facts("apps", "create", account, "drafts", "--id", "app_drafts")

    assert made["app"].startswith("app_")
    assert named == cli.facts("apps", "create", account, "drafts", "--id", "app_drafts")
    assert {made["app"], "app_drafts"} == {row["app"] for row in cli.rows("apps", "list", "--account", account)}
    assert [] == cli.rows("apps", "list", "--account", "acct_other")


def test_an_app_is_made_from_a_folder(cli: Cli, account: str) -> None:
    """The worked example deploys: its routes are shown, and functions that anybody may call are warned of."""
    result = cli("apps", "create", account, "meeting-notes", "--folder", str(SANDBOX))

    assert 0 == result.exit_code, result.output
    assert "POST /fn/spawn-bot " in result.stdout
    assert "GET /fn/meetings " in result.stdout
    assert "Warning: function spawn-bot has no trigger" in result.stderr
    (row,) = cli.rows("apps", "list")
    assert ("meeting-notes", str(SANDBOX)) == (row["subdomain"], row["folder"])


@pytest.mark.parametrize(("option", "field"), [("--id", "app"), ("--subdomain", "subdomain")])
def test_a_malformed_name_is_refused(account: str, refused: Refused, option: str, field: str) -> None:
    """In one line that names the field."""
    told = refused("apps", "create", account, "notes", option, "No Good")

    assert told.startswith(f"Error: {field}: ")


def test_a_folder_is_deployed(cli: Cli, app: str, folder: Path) -> None:
    """Its functions are shown; the host serves it from there."""
    assert "POST /fn/hello" in cli.ok("apps", "deploy", app, str(folder))
    assert [str(folder)] == [row["folder"] for row in cli.rows("apps", "list")]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        pytest.param("functions/hello.py", "x = (\n", "hello.py:1: SyntaxError", id="syntax"),
        pytest.param("ctxhost.toml", "[app]\n", "app.name", id="manifest"),
        pytest.param("schema.json", "{", "schema.json", id="schema"),
    ],
)
def test_a_folder_that_cannot_be_served_is_not_deployed(
    cli: Cli, app: str, folder: Path, refused: Refused, file: str, text: str, told: str
) -> None:
    """One line says what to mend, and the app keeps what it had."""
    (folder / file).write_text(text)

    assert told in refused("apps", "deploy", app, str(folder))
    assert [None] == [row["folder"] for row in cli.rows("apps", "list")]


def test_an_unknown_app_is_not_deployed(account: str, folder: Path, refused: Refused) -> None:
    """One line."""
    assert "Error: There is no such app." == refused("apps", "deploy", "app_nobody", str(folder))


def test_values_are_set_listed_and_forgotten(cli: Cli, app: str) -> None:
    """Only their names are ever shown; a value may come from a pipe, so that no shell remembers it."""
    cli.ok("apps", "env", "set", app, "OPENAI_API_KEY", stdin="sk-very-secret\n")
    cli.ok("apps", "env", "set", app, "PAGE", "20", "--function", "hello")

    assert [{"name": "OPENAI_API_KEY", "function": None}, {"name": "PAGE", "function": "hello"}] == cli.rows(
        "apps", "env", "list", app
    )
    assert "sk-very-secret" not in cli.ok("apps", "env", "list", app)
    assert b"sk-very-secret" not in cli.database.read_bytes()
    cli.ok("apps", "env", "delete", app, "PAGE", "--function", "hello")
    assert ["OPENAI_API_KEY"] == [row["name"] for row in cli.rows("apps", "env", "list", app)]


def test_a_value_that_is_not_there_is_not_forgotten(app: str, refused: Refused) -> None:
    """A typing mistake does not look like success."""
    assert "Error: NOPE was not set." == refused("apps", "env", "delete", app, "NOPE")


def test_the_platforms_own_values_cannot_be_set(cli: Cli, app: str) -> None:
    """They would have no effect."""
    assert 2 == cli("apps", "env", "set", app, "BUTTERBASE_API_URL", "http://elsewhere").exit_code


def test_a_key_is_shown_once(cli: Cli, account: str) -> None:
    """The list shows how it begins; the database does not have it."""
    facts = cli.facts("keys", "create", account, "--name", "laptop")
    (row,) = cli.rows("keys", "list", account)

    assert facts["key"].startswith("bb_sk_")
    assert ("laptop", "valid", ["*"]) == (row["name"], row["state"], row["scopes"])
    assert facts["key"].startswith(row["begins_with"])
    assert facts["key"] not in cli.ok("keys", "list", account)
    assert facts["key"].encode() not in cli.database.read_bytes()


def test_a_key_is_revoked_by_how_it_begins(cli: Cli, account: str, refused: Refused) -> None:
    """Again has no effect; an unknown one is said to be unknown."""
    key = cli.facts("keys", "create", account)["key"]
    (row,) = cli.rows("keys", "list", account)
    first = cli.ok("keys", "revoke", account, row["begins_with"])

    assert first == cli.ok("keys", "revoke", account, key)
    assert ["revoked"] == [row["state"] for row in cli.rows("keys", "list", account)]
    assert "Error: 0 keys of this account match." == refused("keys", "revoke", account, "bb_sk_none")


def test_a_key_may_be_narrow(cli: Cli, account: str, app: str, refused: Refused) -> None:
    """Bound to a scope, an app and a time; an app of nobody's is refused."""
    cli.ok("keys", "create", account, "--scope", "ai:gateway", "--app", app, "--expires-in-days", "1")
    (row,) = cli.rows("keys", "list", account)

    assert (["ai:gateway"], app) == (row["scopes"], row["app"])
    assert row["created"] < row["expires"]
    assert "no such app" in refused("keys", "create", account, "--app", "app_nobody")


def test_without_an_encryption_key_it_says_how_to_make_one(account: str, refused: Refused) -> None:
    """For every command that could need it."""
    told = refused("apps", "list", CTXHOST_ENCRYPTION_KEYS=None)

    assert "CTXHOST_ENCRYPTION_KEYS" in told
    assert "openssl rand -base64 32" in told
