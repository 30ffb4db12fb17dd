"""What log lines carry, and what they never show."""

import base64
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import psycopg
import pytest

from ctxhost.background import Background
from ctxhost.cli.logs import LogFormat, set_up_logs
from ctxhost.errors import StoreError
from ctxhost.logs import Redactor, carrying, note, secrets_of

KEY_BYTES = base64.b64encode(b"\xf0" * 32).decode()
PASSWORD = "corr/ect:horse@bat"
SECRETS = {
    "service key": "bb_sk_ThisMustNotBeSeen0123456789",
    "bearer token": "Bearer abc.def-ghi/jkl",
    "webhook secret": "wsec_ThisMustNotBeSeen",
    "provider's webhook secret": "whsec_VGhpc011c3ROb3RCZVNlZW4=",
    "provider key": "plain-looking-provider-key",
    "encryption key": f"k1:{KEY_BYTES}",
    "encryption key alone": KEY_BYTES,
    "database URL": f"postgresql://ctxhost:{PASSWORD}@db.internal/ctxhost",
    "another database's URL": "postgresql://other:hunter2hunter2@db.internal/other?sslpassword=hunter3hunter3",
    "conninfo": "host=db.internal password='hunter4 hunter4' user=ctxhost",
    "signed URL": "https://media.example/r.mp4?X-Amz-Signature=ThisMustNotBeSeen&X-Amz-Expires=60#at",
    "signed path": "/r.mp4?X-Amz-Signature=ThisMustNotBeSeen",
    "settings": '{"api_key": "ThisMustNotBeSeen"}',
}
HEARTS = (
    "ThisMustNotBeSeen",
    "VGhpc011c3ROb3RCZVNlZW4",
    "abc.def-ghi",
    "plain-looking-provider-key",
    KEY_BYTES,
    "horse",
    "hunter",
)
"""What of them must be seen nowhere."""


class Broken(logging.LoggerAdapter[logging.Logger]):
    """Anything whose text has a secret in it."""

    def __init__(self, text: str) -> None:
        super().__init__(logging.getLogger("x"))
        self._text = text

    def __repr__(self) -> str:
        return f"<thing of {self._text!r}>"


def _in_an_error(log: logging.Logger, text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")


def _in_the_error_below(log: logging.Logger, text: str) -> None:
    try:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise StoreError("a plain sentence") from error
    except StoreError as error:
        log.warning("failed", exc_info=error.__cause__)


def _in_an_error_that_explains_itself(log: logging.Logger, text: str) -> None:
    try:
        raise StoreError(f"cannot be used: {text}")
    except StoreError:
        log.exception("failed")


WAYS: dict[str, Callable[[logging.Logger, str], None]] = {
    "message": lambda log, text: log.info(text),
    "argument": lambda log, text: log.info("it is %s.", text),
    "repr": lambda log, text: log.info("it is %r.", text),
    "quoted": lambda log, text: log.info('it is "%s".', text),
    "in a dict": lambda log, text: log.info("it is %s", {"value": [text]}),
    "in an object": lambda log, text: log.warning("it is %r", Broken(text)),
    "in JSON": lambda log, text: log.info("it is %s", json.dumps({"v": text})),
    "arguments that do not fit": lambda log, text: log.info("it is %d", text),
    "carried": lambda log, text: log.info("it", extra={"function": text}),
    "error": _in_an_error,
    "error below": _in_the_error_below,
    "error that explains itself": _in_an_error_that_explains_itself,
}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What set-up logs write; the environment has secrets."""
    form: LogFormat = getattr(request, "param", "json")
    monkeypatch.setenv("MEETINGS_API_KEY", SECRETS["provider key"])
    monkeypatch.setenv("CTXHOST_ENCRYPTION_KEYS", f"k2:{base64.b64encode(b'new!' * 8).decode()},k1:{KEY_BYTES}")
    monkeypatch.setenv("CTXHOST_DATABASE", SECRETS["database URL"])
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    try:
        set_up_logs(form=form, level="debug")
        yield stream
    finally:
        root.handlers = handlers
        root.setLevel(level)


def _lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.mark.parametrize("written", ["plain", "json"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_logged(written: io.StringIO, way: str, secret: str) -> None:
    """However it strays into a line: in words, arguments, errors or tracebacks."""
    log = logging.getLogger("ctxhost.test")
    theirs = [handler for handler in logging.root.handlers if type(handler) is not logging.StreamHandler]
    for handler in theirs:  # pytest's own raise what ours must bear
        logging.root.removeHandler(handler)
    WAYS[way](log, SECRETS[secret])

    text = written.getvalue()
    assert text
    assert [] == [heart for heart in HEARTS if heart in text]
    assert "Logging error" not in text


@pytest.mark.parametrize(
    "url",
    [
        SECRETS["database URL"],
        f"postgresql://ctxhost:{PASSWORD}@127.0.0.1:1/ctxhost",
        f"postgresql://ctxhost:{PASSWORD.replace('/', '%2F').replace('@', '%40')}@127.0.0.1:1/ctxhost",
        f"postgresql://ctxhost@127.0.0.1:1/ctxhost?password={PASSWORD}&bad",
    ],
)
def test_an_error_of_the_database_shows_no_piece_of_its_url(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A password that is not written as a URL wants it is taken apart by whoever reads the URL, and quoted."""
    monkeypatch.setenv("CTXHOST_DATABASE", url)
    monkeypatch.setattr("sys.stderr", written)
    set_up_logs(form="json")
    with pytest.raises(psycopg.Error) as caught:
        psycopg.connect(url, connect_timeout=2)
    logging.getLogger("ctxhost.store").error("%s", caught.value, exc_info=caught.value)

    text = written.getvalue()
    assert text
    assert [] == [piece for piece in ("horse", "ect:", "/ect", "corr/") if piece in text]


def test_a_secret_in_nested_settings_is_known() -> None:
    """Plugins' settings are JSON in one variable, or parts of it."""
    environment = {
        "CTXHOST_PLUGINS": '{"recall": {"api_key": "nested-secret", "region": "us-west-2", "hosts": ["visible"]}}',
        "CTXHOST_PLUGINS__OTHER__TOKEN": "another-secret",
        "HOME": "/root",
    }

    assert ["nested-secret", "another-secret"] == list(secrets_of(environment))


@pytest.mark.parametrize(
    "line",
    [
        "the database cannot be reached; it is tried again",
        "app_notes: added the table meetings",
        "GET /v1/{app_id}/ai/meetings/{bot_id} 200, 3 ms",
        "job deliver/5f0c7b9a-8f6e-4a50-9d3c-0c4b3a1e2d4f failed: timed out; again in 5 s",
        "ctxhost serves http://127.0.0.1:8787 (API docs: http://127.0.0.1:8787/docs)",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "What did it say? Nothing = good.",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    """A log that hides too much helps nobody."""
    assert line == Redactor(secrets_of(os.environ))(line)


HOSTILE = (
    "a.",
    "a-",
    "_-",
    "a+",
    "a://",
    "://",
    "://x?",
    "a://b:",
    "?a",
    "&a=",
    "token ",
    "token:",
    'password="',
    "basic ",
)


@pytest.mark.parametrize("piece", [*HOSTILE, "A" * 43, "\\\\", " ", "a"])
@pytest.mark.parametrize("start", ["", "password=", "a://", "bearer"])
def test_no_line_keeps_the_host_for_long(start: str, piece: str) -> None:
    """A handler may log, or fail with, what a stranger has sent: its cost grows with its length, and no faster."""
    redact = Redactor(SECRETS.values())
    line = start + piece * (50_000 // len(piece))
    began_s = time.process_time()
    redact(line)

    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize(
    "line", ["password='ThisMustNotBeSeen and", 'épassword="ThisMustNotBeSeen', "key_bb_sk_ThisMustNotBeSeen"]
)
def test_a_secret_in_a_line_that_was_cut_off_is_cut_too(line: str) -> None:
    """Or that something stands before, which is no letter of English."""
    assert "ThisMustNotBeSeen" not in Redactor()(line)


async def test_lines_of_a_request_carry_its_id(written: io.StringIO) -> None:
    """Those of its own code, of a library, of tasks and threads that it starts, and of work that goes on after it."""
    done = anyio.Event()

    async def after() -> None:
        await done.wait()
        logging.getLogger("a.library").info("after")

    async with anyio.create_task_group() as tasks:
        background = Background(tasks)
        with carrying(request_id="req_1"):
            logging.getLogger("ctxhost.api").info("own")
            note(app="app_1")
            await anyio.to_thread.run_sync(logging.getLogger("a.library").info, "thread")
            background.start(after)
            with carrying(request_id="req_2", app=""):
                logging.getLogger("ctxhost.api").info("inner")
        logging.getLogger("ctxhost.api").info("nobody's")
        done.set()

    carried = {line["message"]: (line.get("request_id"), line.get("app")) for line in _lines(written)}
    assert {
        "own": ("req_1", None),
        "thread": ("req_1", "app_1"),
        "inner": ("req_2", None),
        "nobody's": (None, None),
        "after": ("req_1", "app_1"),
    } == {name: found for name, found in carried.items() if "asyncio" not in name.lower()}


def test_what_a_line_says_itself_goes_before(written: io.StringIO) -> None:
    """`ctx.log` names its app and function whatever the task around it is."""
    with carrying(app="app_outer", function="outer"):
        logging.LoggerAdapter(logging.getLogger("f"), {"app": "app_inner", "function": ""}).info("hello")

    (line,) = _lines(written)
    assert ("app_inner", "outer") == (line["app"], line["function"])
