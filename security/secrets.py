"""Secrets at rest: passwords and keys of partner systems, sealed with AES-256-GCM under a master key.

::

    0x01 ‖ master key id (8 bytes) ‖ nonce (12 bytes) ‖ ciphertext and tag

The name of the secret is authenticated with it, so a sealed value copied under another name does not open. Several
master keys may be known: the current one seals, all of them open, and :meth:`SecretBox.reseal` moves old values over.
Nonces are random; a master key should be rotated long before 2^32 seals (NIST SP 800-38D, section 8.3).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.problem import Malformed
from security import base64url
from security.keys import write_private_file

_VERSION = b"\x01"
_KEY_ID_LENGTH = 8
_NONCE_LENGTH = 12
_HEADER_LENGTH = 1 + _KEY_ID_LENGTH + _NONCE_LENGTH
_KEY_LENGTH = 32


class SecretBox:
    """Seals and opens secrets. Immutable and safe under threads; rotation makes a new box."""

    def __init__(self, master_keys: list[bytes]) -> None:
        """``master_keys`` are 32 bytes each, the current one first. Raises ValueError."""
        if not master_keys or any(len(key) != _KEY_LENGTH for key in master_keys):
            raise ValueError("a master key has 32 bytes, and there must be one")
        self._ciphers = {_key_id(key): AESGCM(key) for key in master_keys}
        self._current = _key_id(master_keys[0])

    def __repr__(self) -> str:
        return f"SecretBox({len(self._ciphers)} master keys)"

    @classmethod
    def load(cls, path: Path) -> SecretBox:
        """Read a master key file. Raises OSError, Malformed(key-unreadable)."""
        return cls(_read_master_keys(path))

    @classmethod
    def load_or_create(cls, path: Path) -> SecretBox:
        """The same; a missing file is created with one fresh key, 0600."""
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process was quicker: its key is ours
                _write_master_keys(path, [secrets.token_bytes(_KEY_LENGTH)], new=True)
        return cls.load(path)

    @classmethod
    def rotate(cls, path: Path) -> SecretBox:
        """Put a fresh master key in front; the older ones still open. Reseal what is stored, then :meth:`drop_old`."""
        _write_master_keys(path, [secrets.token_bytes(_KEY_LENGTH), *_read_master_keys(path)])
        return cls.load(path)

    @classmethod
    def drop_old(cls, path: Path) -> SecretBox:
        """Forget all master keys but the current one: values that were not resealed are lost for ever."""
        _write_master_keys(path, _read_master_keys(path)[:1])
        return cls.load(path)

    def seal(self, name: str, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        prefix = _VERSION + self._current
        return prefix + nonce + self._ciphers[self._current].encrypt(nonce, secret, _bound(prefix, name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """The secret. Raises Malformed(secret-unreadable): altered, under another name, or under an unknown key."""
        key_id, nonce = sealed[1 : 1 + _KEY_ID_LENGTH], sealed[1 + _KEY_ID_LENGTH : _HEADER_LENGTH]
        cipher = self._ciphers.get(key_id)
        if sealed[:1] != _VERSION or cipher is None or len(sealed) < _HEADER_LENGTH + 16:
            raise Malformed("secret-unreadable")
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_LENGTH:], _bound(_VERSION + key_id, name))
        except InvalidTag:
            raise Malformed("secret-unreadable") from None

    def is_current(self, sealed: bytes) -> bool:
        return sealed[: 1 + _KEY_ID_LENGTH] == _VERSION + self._current

    def reseal(self, name: str, sealed: bytes) -> bytes:
        """The same secret under the current master key."""
        return self.seal(name, self.open(name, sealed))


def _bound(prefix: bytes, name: str) -> bytes:
    return prefix + name.encode("utf-8")


def _key_id(key: bytes) -> bytes:
    """Names the key and tells nothing of it: a hash with a label that nothing else here uses."""
    return hashlib.sha256(b"lgsp master key id\x00" + key).digest()[:_KEY_ID_LENGTH]


def _read_master_keys(path: Path) -> list[bytes]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return [base64url.decode(text) for text in document["master_keys"]]
    except (ValueError, KeyError, TypeError):
        raise Malformed("key-unreadable") from None


def _write_master_keys(path: Path, keys: list[bytes], *, new: bool = False) -> None:
    document = {"format": "lgsp-master-keys/1", "master_keys": [base64url.encode(key) for key in keys]}
    write_private_file(path, json.dumps(document, indent=2).encode("ascii"), new=new)
