"""Large files sealed for somebody else: written and read in one pass, in little memory, and whole or not at all.

::

    "lgsp-sealed/1\\n" ‖ length (4 bytes) ‖ header ‖ HMAC of all before it (32 bytes) ‖ chunk ‖ chunk ‖ …

    header   {"recipients": [{"kind": "x25519" | "scrypt", …, "wrapped": …}], "salt": …}
    chunk    AES-256-GCM of 64 KiB, the last of 0 to 64 KiB; nonce: number (11 bytes) ‖ 1 in the last, else 0

A fresh file key is wrapped for each recipient: under a passphrase (scrypt, RFC 7914) or a public key (X25519 and HKDF,
as age does it), so that whoever makes a file need not be able to open it. The chunks are the STREAM construction
(Hoang, Reyhanitabar, Rogaway, Vizár 2015): no chunk can be changed, moved, left out, repeated or added unseen, and a
file that ends early has no last chunk.

What this does not say is who made the file: anybody may seal for a public key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from schemas.codec import canonical_json, read_json
from schemas.problem import Malformed
from security import base64url
from security.keys import write_private_file

MAGIC: Final = b"lgsp-sealed/1\n"
CHUNK_BYTES: Final = 64 * 1024
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_MAC_BYTES: Final = 32
#: A header holds a stanza of some 150 bytes for each recipient.
_MOST_HEADER_BYTES: Final = 16 * 1024
_MOST_RECIPIENTS: Final = 20
#: What wraps a file key wraps nothing else ever: its salt or its ephemeral key is fresh.
_ONLY_NONCE: Final = bytes(12)
#: scrypt with 2^17, 8, 1 takes 128 MiB and some 0.4 s a try. A header that asks for more than 2^20 (1 GiB) attacks.
SCRYPT_LOG_N: Final = 17
_MOST_LOG_N: Final = 20
_LEAST_PASSPHRASE: Final = 12
#: Text form of a public key: this, then base64url of the key and four bytes of its digest, for a slip of the pen here
#: would make files that nobody can open.
_RECIPIENT_PREFIX: Final = "lgsp-backup-"
_CHECK_BYTES: Final = 4


class Recipient(Protocol):
    """Somebody who shall be able to open a file."""

    def wrap(self, file_key: bytes) -> dict[str, Any]:
        """The stanza of the header that gives the file key to this recipient alone."""
        ...


class Opener(Protocol):
    """What may open a file."""

    def unwrap(self, stanza: dict[str, Any]) -> bytes | None:
        """The file key, None when the stanza is for others. Raises KeyError, TypeError, ValueError for nonsense."""
        ...


class Passphrase:
    """Seals and opens by a phrase that people keep. Immutable."""

    def __init__(self, phrase: bytes, *, log_n: int = SCRYPT_LOG_N) -> None:
        """Raises Malformed(backup-passphrase-short): whoever gets the file may try phrases for years."""
        if len(phrase) < _LEAST_PASSPHRASE:
            raise Malformed("backup-passphrase-short", minimum=_LEAST_PASSPHRASE)
        self._phrase = phrase
        self._log_n = log_n

    def wrap(self, file_key: bytes) -> dict[str, Any]:
        salt = secrets.token_bytes(_SALT_BYTES)
        wrapped = AESGCM(self._key(salt, self._log_n)).encrypt(_ONLY_NONCE, file_key, b"scrypt")
        return {
            "kind": "scrypt",
            "log_n": self._log_n,
            "salt": base64url.encode(salt),
            "wrapped": base64url.encode(wrapped),
        }

    def unwrap(self, stanza: dict[str, Any]) -> bytes | None:
        if stanza["kind"] != "scrypt":
            return None
        if type(stanza["log_n"]) is not int or not 1 <= stanza["log_n"] <= _MOST_LOG_N:
            raise ValueError("a price that nobody pays")
        key = self._key(base64url.decode(stanza["salt"]), stanza["log_n"])
        return _unwrapped(key, stanza, b"scrypt")

    def _key(self, salt: bytes, log_n: int) -> bytes:
        return Scrypt(salt=salt, length=_KEY_BYTES, n=1 << log_n, r=8, p=1).derive(self._phrase)


@dataclass(frozen=True, slots=True)
class BackupRecipient:
    """The public half of a :class:`BackupKey`. ``str()`` gives the text that is handed out."""

    public_key: bytes

    def __str__(self) -> str:
        check = hashlib.sha256(MAGIC + self.public_key).digest()[:_CHECK_BYTES]
        return _RECIPIENT_PREFIX + base64url.encode(self.public_key + check)

    @classmethod
    def parse(cls, text: str) -> BackupRecipient:
        """Raises Malformed(backup-recipient-invalid)."""
        try:
            data = base64url.decode(text.strip().removeprefix(_RECIPIENT_PREFIX))
        except ValueError:
            data = b""
        recipient = cls(data[:_KEY_BYTES])
        if len(data) != _KEY_BYTES + _CHECK_BYTES or str(recipient) != text.strip():
            raise Malformed("backup-recipient-invalid")
        return recipient

    def wrap(self, file_key: bytes) -> dict[str, Any]:
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public_key))
        wrapped = AESGCM(_agreed(shared, public, self.public_key)).encrypt(_ONLY_NONCE, file_key, b"x25519")
        return {"kind": "x25519", "ephemeral": base64url.encode(public), "wrapped": base64url.encode(wrapped)}


class BackupKey:
    """The private half: opens what was sealed for it. Immutable."""

    def __init__(self, private_key: X25519PrivateKey) -> None:
        self._private_key = private_key
        self.recipient = BackupRecipient(private_key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"BackupKey({self.recipient})"

    @classmethod
    def generate(cls) -> BackupKey:
        return cls(X25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, *, password: bytes | None = None) -> BackupKey:
        """Raises OSError, Malformed(key-unreadable)."""
        try:
            private_key = serialization.load_pem_private_key(path.read_bytes(), password=password)
        except (ValueError, TypeError):
            raise Malformed("key-unreadable") from None
        if not isinstance(private_key, X25519PrivateKey):
            raise Malformed("key-unreadable")
        return cls(private_key)

    def save(self, path: Path, *, password: bytes | None = None) -> None:
        """PEM (PKCS#8), readable by its owner alone. Raises FileExistsError: a key is never replaced."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        pem = self._private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        write_private_file(path, pem, new=True)

    def unwrap(self, stanza: dict[str, Any]) -> bytes | None:
        if stanza["kind"] != "x25519":
            return None
        ephemeral = base64url.decode(stanza["ephemeral"])
        shared = self._private_key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        return _unwrapped(_agreed(shared, ephemeral, self.recipient.public_key), stanza, b"x25519")


class SealedWriter:
    """Seals what is written to it. Not safe under threads. Without :meth:`close` the file opens for nobody."""

    def __init__(self, file: BinaryIO, recipients: Sequence[Recipient]) -> None:
        """Writes the header. Raises ValueError without recipients, or with more than a header holds."""
        if not 0 < len(recipients) <= _MOST_RECIPIENTS:
            raise ValueError("a sealed file has one to twenty recipients")
        file_key, salt = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_SALT_BYTES)
        stanzas = [recipient.wrap(file_key) for recipient in recipients]
        header = canonical_json({"recipients": stanzas, "salt": base64url.encode(salt)})
        opening = MAGIC + len(header).to_bytes(4, "big") + header
        file.write(opening + _mac(file_key, opening))
        self._file = file
        self._cipher = AESGCM(_payload_key(file_key, salt))
        self._held = bytearray()
        self._number = 0

    def write(self, data: bytes) -> None:
        self._held += data
        # A full chunk waits until it is known not to be the last.
        while len(self._held) > CHUNK_BYTES:
            self._seal(bytes(self._held[:CHUNK_BYTES]), last=False)
            del self._held[:CHUNK_BYTES]

    def close(self) -> None:
        """Write the last chunk. The file itself stays open, for its owner to flush."""
        self._seal(bytes(self._held), last=True)
        self._held.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), chunk, None))
        self._number += 1


class SealedReader:
    """Opens what :class:`SealedWriter` sealed, chunk by chunk. Not safe under threads.

    Each byte that :meth:`read` returns is authentic and in its place; that nothing is missing behind it is known when
    :meth:`end` has returned.
    """

    def __init__(self, file: BinaryIO, opener: Opener) -> None:
        """Raises Malformed(backup-unreadable) for another kind of file, Malformed(backup-key-wrong),
        Malformed(backup-damaged)."""
        opening = file.read(len(MAGIC) + 4)
        length = int.from_bytes(opening[len(MAGIC) :], "big")
        if opening[: len(MAGIC)] != MAGIC or length > _MOST_HEADER_BYTES:
            raise Malformed("backup-unreadable")
        header = file.read(length)
        stanzas, salt = _read_header(header)
        file_key = _file_key(stanzas, opener)
        if not hmac.compare_digest(file.read(_MAC_BYTES), _mac(file_key, opening + header)):
            raise Malformed("backup-damaged")
        self._file = file
        self._cipher = AESGCM(_payload_key(file_key, salt))
        self._number = 0
        self._next = file.read(CHUNK_BYTES + _TAG_BYTES)
        self._open = memoryview(b"")
        self._ended = False

    def read(self, length: int) -> bytes:
        """Exactly so many bytes. Raises Malformed(backup-damaged), also where the file ends before."""
        pieces: list[bytes] = []
        while length > 0:
            if not self._open:
                self._open = memoryview(self._chunk())
            piece = bytes(self._open[:length])
            self._open = self._open[length:]
            length -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Nothing was left out and nothing follows. Raises Malformed(backup-damaged)."""
        if not self._number:  # a file that holds nothing is one empty chunk, which nobody has read
            self._chunk()
        if self._open or not self._ended:
            raise Malformed("backup-damaged")

    def _chunk(self) -> bytes:
        if self._ended:
            raise Malformed("backup-damaged")
        sealed, self._next = self._next, self._file.read(CHUNK_BYTES + _TAG_BYTES)
        last = not self._next
        try:
            chunk = self._cipher.decrypt(_nonce(self._number, last=last), sealed, None)
        except (InvalidTag, ValueError):
            raise Malformed("backup-damaged") from None
        self._number += 1
        self._ended = last
        if not chunk and self._number > 1:
            raise Malformed("backup-damaged")
        return chunk


def _read_header(header: bytes) -> tuple[list[dict[str, Any]], bytes]:
    try:
        document = read_json(header)
        stanzas, salt = document["recipients"], base64url.decode(document["salt"])
        scrypts = sum(stanza["kind"] == "scrypt" for stanza in stanzas)
    except (Malformed, ValueError, KeyError, TypeError):
        raise Malformed("backup-damaged") from None
    # Each passphrase stanza costs memory and time before anything is known to be authentic.
    if not isinstance(stanzas, list) or len(stanzas) > _MOST_RECIPIENTS or scrypts > 1:
        raise Malformed("backup-damaged")
    return stanzas, salt


def _file_key(stanzas: Sequence[dict[str, Any]], opener: Opener) -> bytes:
    for stanza in stanzas:
        try:
            file_key = opener.unwrap(stanza)
        except (ValueError, KeyError, TypeError):
            raise Malformed("backup-damaged") from None
        if file_key is not None:
            return file_key
    raise Malformed("backup-key-wrong")


def _unwrapped(key: bytes, stanza: dict[str, Any], kind: bytes) -> bytes | None:
    try:
        file_key = AESGCM(key).decrypt(_ONLY_NONCE, base64url.decode(stanza["wrapped"]), kind)
    except InvalidTag:
        return None
    return file_key if len(file_key) == _KEY_BYTES else None


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _mac(file_key: bytes, opening: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), opening, "sha256")


def _payload_key(file_key: bytes, salt: bytes) -> bytes:
    return _derived(file_key, salt, b"payload")


def _agreed(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return _derived(shared, ephemeral + recipient, b"x25519")


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt, b"lgsp-sealed/1 " + purpose).derive(secret)
