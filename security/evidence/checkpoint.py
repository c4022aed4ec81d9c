"""Checkpoints: the log's signed word about its size and root, in the C2SP text formats (tlog-checkpoint, signed-note).

::

    lgsp.h99.example/evidence                      origin: the log's name, also the name of its key
    20852163                                       size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=   root, base64 of 32 bytes
                                                   (empty line)
    — lgsp.h99.example/evidence Az3grlgtzPICa5OS…  base64 of key hash (4 bytes) ‖ Ed25519 signature (64 bytes)

The signature covers the text up to and with the newline before the empty line. The same format is read by the public
witness and monitor tools. The dash is U+2014.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.problem import Malformed
from security.evidence.tree import HASH_LENGTH
from security.keys import write_private_file

#: signed-note: the type byte of Ed25519 keys.
_ED25519 = b"\x01"
_NAME = re.compile(r"[!-*,-~]{1,200}")  # printable ASCII without space and plus
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURE_LINE = re.compile(r"— ([!-*,-~]{1,200}) ([A-Za-z0-9+/]+={0,2})")
_MAX_NOTE_LENGTH = 64 * 1024
_MAX_SIGNATURES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head, with the note that carries it."""

    origin: str
    size: int
    root: bytes
    #: The whole signed note, exact text.
    note: str


class NoteSigner(Protocol):
    """What signs checkpoints: software below, or an HSM with Ed25519."""

    @property
    def name(self) -> str: ...

    @property
    def key_hash(self) -> bytes: ...

    @property
    def verifier(self) -> NoteVerifier: ...

    def sign(self, text: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """The public half of a log's key. Text form ("vkey"): ``name+hash8hex+base64(0x01 ‖ public key)``."""

    name: str
    public_key: bytes

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{_to_base64(_ED25519 + self.public_key)}"

    @property
    def key_hash(self) -> bytes:
        return hashlib.sha256(self.name.encode("utf-8") + b"\n" + _ED25519 + self.public_key).digest()[:4]

    @classmethod
    def parse(cls, vkey: str) -> NoteVerifier:
        """Raises Malformed(checkpoint-unreadable)."""
        name, _, rest = vkey.partition("+")
        key_hash, _, encoded = rest.partition("+")
        data = _from_base64(encoded)
        if not _NAME.fullmatch(name) or len(data) != 33 or data[:1] != _ED25519:
            raise Malformed("checkpoint-unreadable")
        verifier = cls(name, data[1:])
        if verifier.key_hash.hex() != key_hash:
            raise Malformed("checkpoint-unreadable")
        return verifier

    def holds(self, signature: bytes, text: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class NoteKey:
    """An Ed25519 key that signs notes under a name. Immutable and safe under threads."""

    __slots__ = ("_private_key", "key_hash", "name", "verifier")

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError("a log's name is printable ASCII without space and plus")
        self.name = name
        self._private_key = private_key
        self.verifier = NoteVerifier(name, private_key.public_key().public_bytes_raw())
        self.key_hash = self.verifier.key_hash

    def __repr__(self) -> str:
        return f"NoteKey({str(self.verifier)!r})"

    @classmethod
    def generate(cls, name: str) -> NoteKey:
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, name: str) -> NoteKey:
        """Raises OSError, Malformed(key-unreadable)."""
        return cls.from_pem(path.read_bytes(), name)

    @classmethod
    def from_pem(cls, pem: bytes, name: str) -> NoteKey:
        """Raises Malformed(key-unreadable)."""
        try:
            private_key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise Malformed("key-unreadable") from None
        if not isinstance(private_key, Ed25519PrivateKey):
            raise Malformed("key-unreadable")
        return cls(name, private_key)

    @classmethod
    def load_or_create(cls, path: Path, name: str) -> NoteKey:
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process was quicker: its key is ours
                cls.generate(name).save(path)
        return cls.load(path, name)

    def derived_key(self, purpose: str) -> bytes:
        """Another secret of 32 bytes, the same as long as the log has this key; it tells nothing of the key."""
        label = b"lgsp derived key\x00" + purpose.encode("utf-8")
        return hmac.digest(self._private_key.private_bytes_raw(), label, "sha256")

    def save(self, path: Path) -> None:
        """PEM (PKCS#8), readable by its owner alone. Raises FileExistsError: a log's key is never replaced."""
        pem = self._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private_file(path, pem, new=True)

    def sign(self, text: bytes) -> bytes:
        return self._private_key.sign(text)


def sign_checkpoint(origin: str, size: int, root: bytes, signer: NoteSigner) -> Checkpoint:
    text = f"{origin}\n{size}\n{_to_base64(root)}\n"
    signature = signer.sign(text.encode("utf-8"))
    note = f"{text}\n— {signer.name} {_to_base64(signer.key_hash + signature)}\n"
    return Checkpoint(origin=origin, size=size, root=root, note=note)


def parse_checkpoint(note: str) -> Checkpoint:
    """The tree head in a note, its signatures not verified. Raises Malformed(checkpoint-unreadable).

    Extension lines are taken and ignored, as tlog-checkpoint asks.
    """
    text, _ = _split_note(note)
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
        raise Malformed("checkpoint-unreadable")
    root = _from_base64(lines[2])
    if len(root) != HASH_LENGTH:
        raise Malformed("checkpoint-unreadable")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root, note=note)


def verify_checkpoint(note: str, origin: str, verifier: NoteVerifier) -> Checkpoint:
    """The tree head of the log ``origin``, signed by its key. Signatures of keys that are not asked about (witnesses)
    are left alone; a wrong signature under the key that is asked about is fatal.

    Raises Malformed(checkpoint-unreadable).
    """
    text, signatures = _split_note(note)
    ours = [s for name, key_hash, s in signatures if name == verifier.name and key_hash == verifier.key_hash]
    if not ours or not all(verifier.holds(signature, text.encode("utf-8")) for signature in ours):
        raise Malformed("checkpoint-unreadable")
    checkpoint = parse_checkpoint(note)
    if checkpoint.origin != origin:
        raise Malformed("checkpoint-unreadable")
    return checkpoint


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The signed text, and (name, key hash, signature) of each signature line."""
    body, blank, tail = note.rpartition("\n\n")
    if not blank or len(note) > _MAX_NOTE_LENGTH or not tail.endswith("\n"):
        raise Malformed("checkpoint-unreadable")
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise Malformed("checkpoint-unreadable")
    lines = tail[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise Malformed("checkpoint-unreadable")
    signatures = []
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        data = _from_base64(match[2]) if match else b""
        if match is None or len(data) < 5:
            raise Malformed("checkpoint-unreadable")
        signatures.append((match[1], data[:4], data[4:]))
    return body + "\n", signatures


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("checkpoint-unreadable") from None
    if _to_base64(data) != text:
        raise Malformed("checkpoint-unreadable")
    return data
