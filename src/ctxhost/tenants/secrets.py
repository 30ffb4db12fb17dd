"""Secrets at rest: AES-256-GCM under a ring of keys, each ciphertext bound to where it belongs.

A sealed text is `v1.<key id>.<base64url of nonce and ciphertext>`. App, kind, name and key id are authenticated with
it, so it opens only in its own place.
"""

import base64
import binascii
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ctxhost.errors import CtxhostError, SettingsError

KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_CHANGED = "This secret was changed, or belongs to another place."
_HOW_TO = (
    "Write the encryption keys as `id:key`, separated by commas, the newest first; "
    "a key is the base64 of 32 random bytes (`openssl rand -base64 32`)."
)


class SecretUnreadable(CtxhostError):
    """A stored secret cannot be opened: tampered with, moved to another place, or its key is gone."""


class KeyRing:
    """Encryption keys by id. The first one seals; all of them open."""

    __slots__ = ("_ciphers", "_newest")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take raw 32-byte keys by id, the newest first.

        Raises:
            SettingsError: no key, a bad id, or a key of another length.
        """
        if not keys:
            raise SettingsError(f"There is no encryption key. {_HOW_TO}")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise SettingsError(f"An encryption key's id has 1 to 32 letters, digits, - or _. {_HOW_TO}")
            if len(key) != KEY_BYTES:
                raise SettingsError(f"The encryption key {key_id!r} has {len(key)} bytes instead of 32. {_HOW_TO}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._newest = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read `id:base64key,id:base64key,…`.

        Raises:
            SettingsError: empty, malformed, a short key, or an id twice.
        """
        keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            key_id, colon, encoded = entry.partition(":")
            if not colon:
                raise SettingsError(f"An encryption key has no id. {_HOW_TO}")
            if key_id in keys:
                raise SettingsError(f"The encryption key id {key_id!r} is there twice. {_HOW_TO}")
            keys[key_id] = _decoded_key(encoded)
        return cls(keys)

    @classmethod
    def generate(cls) -> "KeyRing":
        """A ring of one new random key, for tests and throw-away hosts."""
        return cls.parse(new_key_text())

    def seal(self, plaintext: str, *, app: str, kind: str, name: str) -> str:
        """Encrypt under the newest key, for this place only. Every call gives another text."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(
            nonce, plaintext.encode("utf-8", "surrogatepass"), _context(app, kind, name, self._newest)
        )
        return f"v1.{self._newest}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, *, app: str, kind: str, name: str) -> str:
        """Decrypt what `seal` made for the same place.

        Raises:
            SecretUnreadable: changed, from another place, or sealed with a key that the ring does not hold.
        """
        key_id, data = _parted(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretUnreadable(f"This secret was sealed with the key {key_id!r}, which the key ring does not hold.")
        try:
            plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _context(app, kind, name, key_id))
        except (InvalidTag, ValueError):
            raise SecretUnreadable(_CHANGED) from None
        return plain.decode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"<KeyRing of {', '.join(self._ciphers)}>"


def new_key_text() -> str:
    """One new random key, in the form that `KeyRing.parse` reads."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return f"k{secrets.token_hex(4)}:{key}"


def load_or_create_key_file(path: Path) -> KeyRing:
    """The key ring in a file that only its owner may read; made, durably and at once, when it is not there.

    Two processes that start together get the same ring.

    Raises:
        SettingsError: others may read the file, or it holds no valid key. It is never overwritten.
    """
    if not path.exists():
        _create_key_file(path)
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"The key file {path} cannot be read: {exc}") from exc
    if mode & 0o077:
        raise SettingsError(f"The key file {path} can be read by others; run `chmod 600 {path}`.")
    try:
        return KeyRing.parse(text)
    except SettingsError as exc:
        raise SettingsError(f"The key file {path} is damaged; restore it from a backup. {exc}") from None


def _create_key_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    except OSError as exc:
        raise SettingsError(f"The key file {path} cannot be made: {exc}") from exc
    try:
        with os.fdopen(handle, "w") as file:
            file.write(new_key_text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, leaves a file alone that another process has put there meanwhile.
        os.link(draft, path)
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decoded_key(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"An encryption key is not base64. {_HOW_TO}") from None


def _parted(sealed: str) -> tuple[str, bytes]:
    """Key id and nonce-with-ciphertext."""
    version, _, rest = sealed.partition(".")
    key_id, _, encoded = rest.partition(".")
    if version != "v1" or not _KEY_ID.fullmatch(key_id):
        raise SecretUnreadable("This is not a sealed secret.")
    try:
        data = base64.urlsafe_b64decode(encoded)
    except (binascii.Error, ValueError):
        raise SecretUnreadable(_CHANGED) from None
    # Decoding forgives stray characters; there is only one right spelling.
    if base64.urlsafe_b64encode(data).decode() != encoded:
        raise SecretUnreadable(_CHANGED)
    return key_id, data


def _context(*parts: str) -> bytes:
    """The parts, each behind its length, so that no two lists of parts give the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
