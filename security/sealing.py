"""Sealing for one reader: a document that only the holder of a private key can open (JWE, RFC 7516, compact form).

::

    base64url(header) . base64url(wrapped key) . base64url(nonce) . base64url(ciphertext) . base64url(tag)

    header: {"alg", "enc": "A256GCM", "kid", "typ", "cty"?, "epk"?}      always protected

``alg`` follows the reader's key: ECDH-ES+A256KW for P-256, RSA-OAEP-256 for RSA (RFC 7518, sections 4.3 and 4.6).
Nothing else is made and nothing else is read: no compression, no password, no direct key, no header beside the
protected one. Sealing proves nothing of who sealed; what is inside is signed for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from schemas.codec import read_json
from schemas.problem import Malformed
from security import base64url
from security.keys import OAEP, PublicKey, checked_public_key, jwk_of, key_id_of

_AGREEMENT: Final = "ECDH-ES+A256KW"
_TRANSPORT: Final = "RSA-OAEP-256"
_ENCRYPTION: Final = "A256GCM"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MAX_HEADER_CHARACTERS: Final = 4096
_NEEDED: Final = frozenset({"alg", "enc", "kid", "typ"})


class Unsealer(Protocol):
    """The private half, in software (:class:`security.keys.SigningKey`) or hardware. Safe under threads."""

    @property
    def key_id(self) -> str: ...

    def agree(self, peer: ec.EllipticCurvePublicKey) -> bytes:
        """ECDH with this key. Raises ValueError when it is of another kind."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """RSA-OAEP-256 with this key. Raises ValueError when it is of another kind, or the text was not for it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was inside, and the media type that the sealer gave it."""

    content: bytes
    content_type: str


def seal(content: bytes, reader: PublicKey, *, typ: str, content_type: str = "") -> str:
    """``content`` for the holder of ``reader``'s private key. ``typ`` says what it is, so that one sealed thing cannot
    stand for another. Two seals of one content have nothing in common. Raises Malformed(key-weak)."""
    reader = checked_public_key(reader)
    header: dict[str, Any] = {"alg": "", "enc": _ENCRYPTION, "kid": key_id_of(reader), "typ": typ}
    if content_type:
        header["cty"] = content_type
    content_key = AESGCM.generate_key(256)
    if isinstance(reader, ec.EllipticCurvePublicKey):
        header["alg"] = _AGREEMENT
        once = ec.generate_private_key(ec.SECP256R1())
        header["epk"] = jwk_of(once.public_key())
        wrapped = aes_key_wrap(_agreed_key(once.exchange(ec.ECDH(), reader)), content_key)
    else:
        header["alg"] = _TRANSPORT
        wrapped = reader.encrypt(content_key, OAEP)
    segment = base64url.encode(json.dumps(header, separators=(",", ":")).encode("ascii"))
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(content_key).encrypt(nonce, content, segment.encode("ascii"))
    parts = (wrapped, nonce, sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
    return ".".join((segment, *map(base64url.encode, parts)))


def unseal(sealed: str, keys: Iterable[Unsealer], *, typ: str) -> Opened:
    """What was sealed for one of these keys.

    Raises Malformed: ``sealed-unreadable`` for what is no seal of ours, another ``typ`` or changed on its way (which of
    these is for nobody to learn), ``sealed-for-another-key`` when none of the keys is meant.
    """
    parts = sealed.split(".")
    if len(parts) != 5 or len(parts[0]) > _MAX_HEADER_CHARACTERS:
        raise Malformed("sealed-unreadable")
    try:
        header = read_json(base64url.decode(parts[0]), max_depth=3)
        wrapped, nonce, ciphertext, tag = map(base64url.decode, parts[1:])
    except (ValueError, Malformed):
        raise Malformed("sealed-unreadable") from None
    if not _is_ours(header, typ) or len(nonce) != _NONCE_BYTES or len(tag) != _TAG_BYTES:
        raise Malformed("sealed-unreadable")
    key = next((key for key in keys if key.key_id == header["kid"]), None)
    if key is None:
        raise Malformed("sealed-for-another-key")
    try:
        content_key = _unwrapped(header, wrapped, key)
        content = AESGCM(content_key).decrypt(nonce, ciphertext + tag, parts[0].encode("ascii"))
    except (ValueError, TypeError, KeyError, InvalidTag, InvalidUnwrap, Malformed):
        raise Malformed("sealed-unreadable") from None
    return Opened(content=content, content_type=header.get("cty", ""))


def _is_ours(header: object, typ: str) -> bool:
    if not isinstance(header, dict):
        return False
    allowed = _NEEDED | {"cty"} | ({"epk"} if header.get("alg") == _AGREEMENT else set())
    texts = all(isinstance(value, str) for name, value in header.items() if name != "epk")
    return (
        header.keys() >= _NEEDED
        and header.keys() <= allowed
        and texts
        and header["enc"] == _ENCRYPTION
        and header["typ"] == typ
    )


def _unwrapped(header: Mapping[str, Any], wrapped: bytes, key: Unsealer) -> bytes:
    if header["alg"] == _AGREEMENT:
        content_key = aes_key_unwrap(_agreed_key(key.agree(_point(header["epk"]))), wrapped)
    elif header["alg"] == _TRANSPORT:
        content_key = key.unwrap(wrapped)
    else:
        raise ValueError("not one of ours")
    if len(content_key) != 32:
        raise ValueError("not a key of 256 bits")
    return content_key


def _point(jwk: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    """A point off the curve is refused here: it would give the private key away bit by bit."""
    if jwk["kty"] != "EC" or jwk["crv"] != "P-256":
        raise ValueError("not a point of P-256")
    x, y = (int.from_bytes(base64url.decode(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _agreed_key(secret: bytes) -> bytes:
    """RFC 7518, section 4.6.2, with neither PartyUInfo nor PartyVInfo."""
    algorithm = _AGREEMENT.encode("ascii")
    lengths = [len(algorithm), 0, 0, 256]
    number = [value.to_bytes(4, "big") for value in lengths]
    information = number[0] + algorithm + number[1] + number[2] + number[3]
    return ConcatKDFHash(algorithm=hashes.SHA256(), length=32, otherinfo=information).derive(secret)
