"""Secrets at rest: they open in their own place, with a key of the ring, and nowhere else."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.errors import SettingsError
from ctxhost.tenants.secrets import KeyRing, SecretUnreadable, load_or_create_key_file

KEY_A = base64.b64encode(bytes(range(32))).decode()
KEY_B = base64.b64encode(bytes(range(32, 64))).decode()
RING = KeyRing.parse(f"a:{KEY_A}")
PLACE = {"app": "app_1", "kind": "env", "name": "TOKEN"}
TEXTS = st.text(st.characters(codec=None), max_size=40)


@given(plaintext=TEXTS, app=TEXTS, kind=TEXTS, name=TEXTS)
def test_round_trip(plaintext: str, app: str, kind: str, name: str) -> None:
    """Any text comes back from any place, and is not to be seen in what is stored."""
    sealed = RING.seal(plaintext, app=app, kind=kind, name=name)

    assert plaintext == RING.open(sealed, app=app, kind=kind, name=name)
    assert sealed.startswith("v1.a.")
    assert sealed.isascii()


@given(places=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=2, max_size=2, unique=True))
def test_opens_in_no_other_place(places: list[tuple[str, str, str]]) -> None:
    """Moved to another app, kind or name, a secret is unreadable."""
    (app, kind, name), (other_app, other_kind, other_name) = places
    sealed = RING.seal("s3cret", app=app, kind=kind, name=name)

    with pytest.raises(SecretUnreadable):
        RING.open(sealed, app=other_app, kind=other_kind, name=other_name)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"app": "app_2"}, id="app"),
        pytest.param({"kind": "webhook"}, id="kind"),
        pytest.param({"name": "TOKEN2"}, id="name"),
        pytest.param({"app": "app_1e", "kind": "nv"}, id="border-between-app-and-kind"),
        pytest.param({"kind": "envT", "name": "OKEN"}, id="border-between-kind-and-name"),
        pytest.param({"app": "env", "kind": "app_1"}, id="swapped"),
    ],
)
def test_every_part_of_the_place_counts(other: dict[str, str]) -> None:
    """The parts are bound one by one, borders included."""
    sealed = RING.seal("s3cret", **PLACE)

    with pytest.raises(SecretUnreadable):
        RING.open(sealed, **(PLACE | other))


@given(data=st.data())
def test_any_change_is_noticed(data: st.DataObject) -> None:
    """No character of a sealed text can be replaced, added or dropped."""
    sealed = RING.seal("s3cret", **PLACE)
    at = data.draw(st.integers(0, len(sealed)))
    changed = sealed[:at] + data.draw(st.text(max_size=2)) + sealed[at + data.draw(st.integers(0, 2)) :]

    if changed != sealed:
        with pytest.raises(SecretUnreadable):
            RING.open(changed, **PLACE)


@pytest.mark.parametrize("text", ["", "v1", "v1.a", "v1.a.", "v1.a.AAAA", "v1..AAAA", "v2.a.AAAA", "s3cret", "v1.a.é"])
def test_what_is_not_sealed_is_unreadable(text: str) -> None:
    """Foreign text is the one error too, and is not repeated in it."""
    with pytest.raises(SecretUnreadable) as caught:
        RING.open(text, **PLACE)
    assert "s3cret" not in str(caught.value)


def test_equal_secrets_are_stored_differently() -> None:
    """Nobody sees from the table that two values are the same."""
    assert 100 == len({RING.seal("s3cret", **PLACE) for _ in range(100)})


def test_rotation() -> None:
    """A new key in front seals; the old one still opens what it sealed."""
    old = RING.seal("s3cret", **PLACE)
    rotated = KeyRing.parse(f"b:{KEY_B}, a:{KEY_A}")

    assert "s3cret" == rotated.open(old, **PLACE)
    assert rotated.seal("s3cret", **PLACE).startswith("v1.b.")


def test_missing_key_is_named() -> None:
    """Who took a key off the ring too early hears which one to put back."""
    sealed = RING.seal("s3cret", **PLACE)

    with pytest.raises(SecretUnreadable, match="'a'"):
        KeyRing.parse(f"b:{KEY_B}").open(sealed, **PLACE)


def test_key_id_is_bound() -> None:
    """The same key under another name does not open it: the id is part of what is authenticated."""
    sealed = RING.seal("s3cret", **PLACE)

    with pytest.raises(SecretUnreadable):
        KeyRing.parse(f"b:{KEY_A}").open(sealed.replace("v1.a.", "v1.b."), **PLACE)


def test_repr_shows_ids_only() -> None:
    """A key ring in a traceback or a log gives nothing away."""
    assert "<KeyRing of b, a>" == repr(KeyRing.parse(f"b:{KEY_B},a:{KEY_A}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "no encryption key", id="empty"),
        pytest.param(" , ", "no encryption key", id="commas"),
        pytest.param(KEY_A, "no id", id="no-id"),
        pytest.param(f":{KEY_A}", "id has", id="empty-id"),
        pytest.param(f"a b:{KEY_A}", "id has", id="bad-id"),
        pytest.param(f"a:{KEY_A},a:{KEY_B}", "twice", id="id-twice"),
        pytest.param("a:", "0 bytes", id="empty-key"),
        pytest.param(f"a:{base64.b64encode(bytes(31)).decode()}", "31 bytes", id="short"),
        pytest.param(f"a:{base64.b64encode(bytes(33)).decode()}", "33 bytes", id="long"),
        pytest.param(f"a:{'!' * 44}", "not base64", id="not-base64"),
        pytest.param(f"a:{'é' * 44}", "not base64", id="not-ascii"),
    ],
)
def test_unusable_rings_are_refused_with_the_way_out(text: str, says: str) -> None:
    """A host with a bad ring does not start; the message says how to make a key and never shows one."""
    with pytest.raises(SettingsError, match=says) as caught:
        KeyRing.parse(text)
    assert "openssl rand -base64 32" in str(caught.value)
    assert KEY_A not in str(caught.value)


def test_generated_rings_differ() -> None:
    """Two generated rings cannot read each other's secrets."""
    sealed = KeyRing.generate().seal("s3cret", **PLACE)

    with pytest.raises(SecretUnreadable):
        KeyRing.generate().open(sealed, **PLACE)


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The first start makes the file with mode 0600, in a folder it makes too; the next one reads the same ring."""
    path = tmp_path / "deep" / "keys"
    sealed = load_or_create_key_file(path).seal("s3cret", **PLACE)

    assert "s3cret" == load_or_create_key_file(path).open(sealed, **PLACE)
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(path.parent.iterdir())


def test_of_two_makers_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process puts there meanwhile is used, not replaced."""
    path = tmp_path / "keys"
    theirs = f"theirs:{KEY_B}"
    link = os.link

    def other_process_first(source: str, target: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(theirs)
        link(source, target)

    monkeypatch.setattr(os, "link", other_process_first)

    assert "<KeyRing of theirs>" == repr(load_or_create_key_file(path))
    assert (theirs, [path]) == (path.read_text(), list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a:short", b"\xff\xfe", b"k1:c2hvcnRlciB0aGFuIHRoaXJ0eS10d28gYnl0ZXM"]
)
def test_damaged_key_file_is_kept_and_reported(tmp_path: Path, content: bytes) -> None:
    """A half-written or foreign file is never replaced by a new key: what it sealed would be lost."""
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=str(path)):
        load_or_create_key_file(path)
    assert content == path.read_bytes()


def test_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The message has the command that mends it."""
    path = tmp_path / "keys"
    load_or_create_key_file(path)
    path.chmod(0o640)

    with pytest.raises(SettingsError, match="chmod 600"):
        load_or_create_key_file(path)


def test_key_file_in_an_impossible_place_is_a_settings_error(tmp_path: Path) -> None:
    """A folder that cannot be made stops the start with one line."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="cannot be made"):
        load_or_create_key_file(tmp_path / "file" / "keys")
