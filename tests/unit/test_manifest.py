"""The manifest of an app folder: what it may say, and how a mistake in it is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ctxhost.errors import SettingsError
from ctxhost.functions.manifest import HttpTrigger, ManifestError, load_manifest

WriteApp = Callable[..., Path]

FULL = """
[app]
name = "meeting-notes"
subdomain = "notes"
schema = "tables.json"
[env]
GREETING = "hi"
[functions.spawn-bot]
file = "functions/spawn.py"
timeout_s = 5
[functions.meetings-webhook.trigger]
type = "http"
[functions.meetings-webhook.trigger.config]
path = "/hooks/meetings"
auth = "none"
[functions.meetings-webhook.env]
X = "y"
"""

TRIGGER = """
[functions.{name}.trigger]
type = "http"
[functions.{name}.trigger.config]
{config}
"""


@pytest.fixture
def write_app(tmp_path: Path) -> WriteApp:
    def write(manifest: str, *files: str) -> Path:
        folder = tmp_path / "app"
        folder.mkdir()
        (folder / "ctxhost.toml").write_text(manifest)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("")
        return folder

    return write


def with_trigger(config: str, *, name: str = "a") -> str:
    return '[app]\nname = "x"\n' + TRIGGER.format(name=name, config=config)


def test_everything_a_manifest_can_say_is_read(write_app: WriteApp) -> None:
    """Names, files, timeouts, triggers and values arrive as written, functions in the file's order."""
    folder = write_app(FULL, "tables.json", "functions/spawn.py", "functions/meetings_webhook.py")

    manifest = load_manifest(folder)

    assert ("meeting-notes", "notes") == (manifest.name, manifest.subdomain)
    assert folder / "tables.json" == manifest.schema_file
    assert {"GREETING": "hi"} == manifest.env
    spawn, webhook = manifest.functions
    assert ("spawn-bot", folder / "functions/spawn.py", 5, None) == (
        spawn.name,
        spawn.file,
        spawn.timeout_s,
        spawn.trigger,
    )
    assert HttpTrigger(method="POST", path="/hooks/meetings", auth="none") == webhook.trigger
    assert ({"X": "y"}, 30) == (webhook.env, webhook.timeout_s)


def test_the_defaults_of_a_small_manifest(write_app: WriteApp) -> None:
    """The file follows from the name, schema.json is taken when it is there, a written trigger wants credentials."""
    folder = write_app(with_trigger('path = "/a"', name="my-fn"), "functions/my_fn.py", "schema.json")

    manifest = load_manifest(folder)

    assert folder / "schema.json" == manifest.schema_file
    assert folder / "functions/my_fn.py" == manifest.functions[0].file
    assert HttpTrigger(method="POST", path="/a", auth="required") == manifest.functions[0].route
    assert () == manifest.warnings()


def test_an_app_may_have_neither_schema_nor_functions(write_app: WriteApp) -> None:
    """A name is all that an app must have."""
    manifest = load_manifest(write_app('[app]\nname = "empty"'))

    assert (None, ()) == (manifest.schema_file, manifest.functions)


def test_a_function_without_a_trigger_is_open_and_whoever_deploys_it_is_warned(write_app: WriteApp) -> None:
    """It answers POST /<name> without credentials, and `warnings` says so by name."""
    manifest = load_manifest(write_app('[app]\nname = "x"\n[functions.spawn-bot]', "functions/spawn_bot.py"))

    assert HttpTrigger(method="POST", path="/spawn-bot", auth="none") == manifest.functions[0].route
    (warning,) = manifest.warnings()
    assert "POST /fn/spawn-bot" in warning


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        pytest.param("[app\nname = 1", "line 1", id="not-toml"),
        pytest.param("[env]", "app: is required", id="no-app"),
        pytest.param('[app]\nname = "x"\ncolour = "red"', "app.colour: unknown key", id="unknown-key"),
        pytest.param('[app]\nname = "x"\n[extra]', "extra: unknown key", id="unknown-table"),
        pytest.param("[app]\nname = 3\n[functions.a]\nb = 1", "and 1 more", id="counts-the-rest"),
        pytest.param('[app]\nname = "x"\nsubdomain = "A.b"', "app.subdomain", id="bad-subdomain"),
        pytest.param('[app]\nname = "x"\n[env]\nA = 1', "env.A", id="value-not-text"),
        pytest.param('[app]\nname = "x"\n[env]\nBUTTERBASE_APP_ID = "y"', "set by the host", id="platform-value"),
        pytest.param('[app]\nname = "x"\n[env]\n"A B" = "y"', "env.A B", id="bad-value-name"),
        pytest.param('[app]\nname = "x"\n[functions.Up]', "functions.Up", id="bad-function-name"),
        pytest.param('[app]\nname = "x"\n[functions.a]\ntimeout_s = 0', "functions.a.timeout_s", id="no-time"),
        pytest.param('[app]\nname = "x"\n[functions.a]\ntimeout_s = true', "functions.a.timeout_s", id="true-is-not-1"),
        pytest.param('[app]\nname = "x"\n[functions.a]\nfile = "no.py"', "functions.a.file: there is no", id="no-file"),
        pytest.param('[app]\nname = "x"\n[functions.a]\nfile = "../b.py"', "outside", id="file-outside"),
        pytest.param('[app]\nname = "x"\n[functions.a]\nfile = "/etc/hosts"', "outside", id="file-absolute"),
        pytest.param('[app]\nname = "x"\nschema = "no.json"', "app.schema: there is no", id="no-schema"),
        pytest.param(with_trigger('path = "a"'), "trigger.config.path", id="path-without-slash"),
        pytest.param(with_trigger('path = "/a/../b"'), "segments", id="path-with-dots"),
        pytest.param(with_trigger('path = "/a?b"'), "trigger.config.path", id="path-with-query"),
        pytest.param(with_trigger('path = "/a"\nmethod = "*"'), "trigger.config.method", id="any-method"),
        pytest.param(with_trigger('path = "/a"\nauth = "maybe"'), "trigger.config.auth", id="bad-auth"),
        pytest.param(with_trigger('method = "GET"'), "trigger.config.path: is required", id="no-path"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_names_file_and_key(write_app: WriteApp, manifest: str, says: str) -> None:
    """Whoever wrote the manifest can mend it from the message alone."""
    folder = write_app(manifest, "functions/a.py")

    with pytest.raises(ManifestError) as caught:
        load_manifest(folder)

    message = str(caught.value)
    assert message.startswith(f"{folder / 'ctxhost.toml'}: ")
    assert says in message
    assert "\n" not in message
    assert isinstance(caught.value, SettingsError)


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    """A folder that is not an app is refused by the name of what it lacks."""
    with pytest.raises(ManifestError, match=r"ctxhost\.toml: cannot be read"):
        load_manifest(tmp_path)


def test_a_link_that_leads_out_of_the_folder_is_refused(write_app: WriteApp, tmp_path: Path) -> None:
    """A file is where it really lies."""
    folder = write_app('[app]\nname = "x"\n[functions.a]\nfile = "a.py"')
    (tmp_path / "outside.py").write_text("")
    (folder / "a.py").symlink_to(tmp_path / "outside.py")

    with pytest.raises(ManifestError, match="outside"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        pytest.param("[functions.b]", with_trigger('path = "/b"'), True, id="with-a-triggerless-one"),
        pytest.param("[functions.b]", with_trigger('path = "/b"\nmethod = "GET"'), False, id="other-method"),
    ],
)
def test_a_method_and_path_lead_to_one_function(write_app: WriteApp, first: str, second: str, clash: bool) -> None:
    """Two functions at one place are refused; another method at the same path is another place."""
    folder = write_app(second + first, "functions/a.py", "functions/b.py")

    if clash:
        with pytest.raises(ManifestError, match=r"functions\.b: POST /b is taken by a"):
            load_manifest(folder)
    else:
        assert ["a", "b"] == [spec.name for spec in load_manifest(folder).functions]


def test_the_sandbox_has_a_manifest_that_loads() -> None:
    """The app that everybody sees first is deployable, and its one warning is about its open spawn functions."""
    manifest = load_manifest(Path(__file__).parents[2] / "sandbox")

    assert ["spawn-bot", "spawn-bot-http", "meetings-webhook", "meetings"] == [s.name for s in manifest.functions]
    assert 2 == len(manifest.warnings())
    assert manifest.schema_file is not None
