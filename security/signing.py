"""Manifests and receipts as signed text: compact JWS (RFC 7515), read so strictly that only one reading is left.

::

    BASE64URL(header) . BASE64URL(payload) . BASE64URL(signature)

    header    {"alg": "ES256", "typ": "lgsp-evidence+jws", "kid": "<RFC 7638>", "x5t#S256": "<certificate>"}
    payload   the claims, JSON
    signature over the ASCII text "header.payload"; for ES256 64 bytes r ‖ s

The header has exactly these four members. What is not there cannot be abused: no ``jku``, ``x5u``, ``jwk`` or ``x5c``
(a stranger would name his own key), no ``crit`` (we know no extension, so RFC 7515 has us refuse), no ``b64``.
The algorithm is decided by the registered key; the header may only agree with it.

ECDSA signatures are malleable: from a valid one anybody can make a second (r, n - s). Both verify, as RFC 7518 demands,
so the text of a JWS is never a unique name for anything: that is ``payload_sha256``.

Written on ``cryptography`` directly: joserfc takes 1.6 times as long per ES256 verification and accepts non-canonical
base64url. The tests hold this file against joserfc in both directions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from schemas.codec import read_json
from schemas.message import MAX_NUMERIC_DATE, Manifest, Message
from schemas.moment import to_wire
from schemas.problem import Malformed, NotIdentified
from security import base64url
from security.keys import PSS, Algorithm, KeyDirectory, KeyRing, PublicKey, PublicKeyRecord, Signer

MANIFEST_TYPE = "lgsp-evidence+jws"
RECEIPT_TYPE = "lgsp-receipt+jws"
#: Largest manifest as compact JWS, in characters. HTTP servers stop reading header lines not far above.
MAX_COMPACT_LENGTH = 16 * 1024
#: Our headers take about 200 characters.
MAX_HEADER_LENGTH = 1024

SignerSource = Signer | KeyRing
FindKey = Callable[[str], PublicKeyRecord | None]

_ALLOWED: frozenset[str] = frozenset({"ES256", "PS256"})
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid", "x5t#S256"})
_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)
_PKCS1 = padding.PKCS1v15()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest whose signature holds, and the key that made it."""

    manifest: Manifest
    #: SHA-256 over the exact signed JSON, lower-case hex.
    payload_sha256: str
    key: PublicKeyRecord


class ProtectedHeader(NamedTuple):
    """What the header of a JWS says, once it has passed every rule that depends on the header alone."""

    algorithm: Algorithm
    key_id: str
    thumbprint: str


class CompactSignature(NamedTuple):
    """A compact JWS taken apart, not yet verified."""

    header_segment: str
    signing_input: bytes
    payload: bytes
    signature: bytes


# --- manifests -------------------------------------------------------------------------------------------------------


def sign_manifest(manifest: Manifest, signer: SignerSource) -> str:
    """The manifest as compact JWS, ready for the header ``Lgsp-Manifest``. Raises ValueError for a key without a
    certificate: nobody could check ``x5t#S256``."""
    return sign_compact(_to_json(manifest.to_claims()), MANIFEST_TYPE, signer)


def verify_manifest(
    jws: str,
    keys: KeyDirectory,
    now: datetime,
    clock_skew_seconds: int = 300,
    *,
    allow_rs256: bool = False,
) -> VerifiedManifest:
    """The manifest in ``jws``, proven to be signed by a registered key that may speak for its sender.

    Nothing of the payload is read before the signature holds. Raises Malformed for what cannot be read, and
    NotIdentified with a reason for all else: algorithm-not-allowed, header-not-allowed, key-unknown, key-not-yet-valid,
    key-expired, key-revoked, certificate-mismatch, signature-invalid, manifest-expired, manifest-from-future,
    key-of-another-agency, attestation-not-yours.
    """
    # 1. Take it apart
    parts = split_compact(jws)
    header = read_header(parts.header_segment, MANIFEST_TYPE)
    # 2. Whose key, and may it sign now
    key = registered_key(header, keys.find_key, now, allow_rs256=allow_rs256)
    # 3. Does the signature hold
    if not signature_holds(key.public_key, header.algorithm, parts.signature, parts.signing_input):
        raise NotIdentified("signature-invalid")
    # 4. What was signed
    manifest = Manifest.from_claims(read_json(parts.payload))
    # 5. Now, and by one who may
    skew = timedelta(seconds=clock_skew_seconds)
    if manifest.issued_at < now - skew:
        raise NotIdentified("manifest-expired", limit_seconds=clock_skew_seconds)
    if manifest.issued_at > now + skew:
        raise NotIdentified("manifest-from-future", limit_seconds=clock_skew_seconds)
    if manifest.attested_means is not None:
        if not key.attests:
            raise NotIdentified("attestation-not-yours")
    elif not key.speaks_for(manifest.sender):
        raise NotIdentified("key-of-another-agency")
    return VerifiedManifest(manifest=manifest, payload_sha256=hashlib.sha256(parts.payload).hexdigest(), key=key)


# --- receipts --------------------------------------------------------------------------------------------------------


def receipt_claims(message: Message, *, state: str, leaf: str, recorded_at: datetime) -> dict[str, Any]:
    """What a receipt says. ``leaf`` is the RFC 6962 leaf hash of the *accepted* entry, lower-case hex."""
    return {
        "version": 1,
        "message_id": message.manifest.message_id,
        "manifest_sha256": message.manifest_sha256,
        "state": state,
        "received_at": to_wire(message.received_at),
        "receivers": list(message.manifest.receivers),
        "leaf": leaf,
        "iat": int(recorded_at.timestamp()),
    }


def sign_receipt(claims: Mapping[str, Any], signer: SignerSource) -> str:
    """The bus's word as compact JWS. ``claims`` must have ``iat`` (whole seconds); see :func:`receipt_claims`."""
    if type(claims.get("iat")) is not int:
        raise ValueError("a receipt needs iat")
    return sign_compact(_to_json(claims), RECEIPT_TYPE, signer)


def verify_receipt(jws: str, find_key: FindKey) -> dict[str, Any]:
    """The claims of a receipt that one of our keys signed while it was good; receipts themselves never expire.

    Raises Malformed and NotIdentified as :func:`verify_manifest` does.
    """
    parts = split_compact(jws)
    header = read_header(parts.header_segment, RECEIPT_TYPE)
    key = find_key(header.key_id)
    if key is None:
        raise NotIdentified("key-unknown")
    if not signature_holds(key.public_key, header.algorithm, parts.signature, parts.signing_input):
        raise NotIdentified("signature-invalid")
    claims = read_json(parts.payload)
    if not isinstance(claims, dict) or not is_numeric_date(claims.get("iat")):
        raise Malformed("receipt-unreadable")
    registered_key(header, find_key, datetime.fromtimestamp(claims["iat"], UTC))
    return claims


# --- compact JWS -----------------------------------------------------------------------------------------------------


def sign_compact(payload: bytes, typ: str, signer: SignerSource) -> str:
    """``payload`` signed as compact JWS of the given ``typ`` with our four-member header."""
    key = signer.current if isinstance(signer, KeyRing) else signer
    if not key.thumbprint:
        raise ValueError("a key without a certificate cannot sign here")
    signing_input = f"{_header_segment(key.algorithm, typ, key.key_id, key.thumbprint)}.{base64url.encode(payload)}"
    return f"{signing_input}.{base64url.encode(key.sign(signing_input.encode('ascii')))}"


def split_compact(jws: str) -> CompactSignature:
    """The three segments, payload and signature decoded. Raises NotIdentified(manifest-missing) for no text at all,
    Malformed(manifest-too-long, manifest-unreadable)."""
    if not jws:
        raise NotIdentified("manifest-missing")
    if len(jws) > MAX_COMPACT_LENGTH:
        raise Malformed("manifest-too-long", limit=MAX_COMPACT_LENGTH)
    segments = jws.split(".")
    if len(segments) != 3 or not jws.isascii():
        raise Malformed("manifest-unreadable")
    header, payload, signature = segments
    try:
        return CompactSignature(
            header_segment=header,
            signing_input=jws[: len(header) + 1 + len(payload)].encode("ascii"),
            payload=base64url.decode(payload),
            signature=base64url.decode(signature),
        )
    except ValueError:
        raise Malformed("manifest-unreadable") from None


@lru_cache(maxsize=4096)
def read_header(segment: str, typ: str) -> ProtectedHeader:
    """The header in a segment of text. The same sender sends the same header each time, so the answer is kept.

    Raises Malformed(manifest-unreadable), NotIdentified(algorithm-not-allowed, header-not-allowed).
    """
    header = _header_object(segment)
    if header.get("alg") not in _ALLOWED | {"RS256"}:
        raise NotIdentified("algorithm-not-allowed")
    if header.keys() != _HEADER_MEMBERS or not all(isinstance(value, str) for value in header.values()):
        raise NotIdentified("header-not-allowed")
    if header["typ"] != typ:
        raise NotIdentified("header-not-allowed")
    return ProtectedHeader(cast(Algorithm, header["alg"]), header["kid"], header["x5t#S256"])


def registered_key(
    header: ProtectedHeader, find_key: FindKey, now: datetime, *, allow_rs256: bool = False
) -> PublicKeyRecord:
    """The key that the header names, if it may sign this way at ``now``. Raises NotIdentified."""
    key = find_key(header.key_id)
    if key is None:
        raise NotIdentified("key-unknown")
    if header.algorithm != key.algorithm:
        legacy = allow_rs256 and header.algorithm == "RS256" and key.algorithm == "PS256"
        if not legacy:
            raise NotIdentified("algorithm-not-allowed")
    if header.thumbprint != key.thumbprint:
        raise NotIdentified("certificate-mismatch")
    check_key_window(key, now)
    return key


def check_key_window(key: PublicKeyRecord, now: datetime) -> None:
    """Raises NotIdentified(key-not-yet-valid, key-expired, key-revoked)."""
    if now < key.not_before:
        raise NotIdentified("key-not-yet-valid")
    if now > key.not_after:
        raise NotIdentified("key-expired")
    if key.revoked_at is not None and now >= key.revoked_at:
        raise NotIdentified("key-revoked")


def signature_holds(public_key: PublicKey, algorithm: Algorithm, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` (JWS form) is this key's over ``data`` under this algorithm. Never raises."""
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            # 64 bytes exactly: DER and shortened integers are other texts for the same signature (RFC 7518, 3.4).
            if algorithm != "ES256" or len(signature) != 64:
                return False
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public_key.verify(encode_dss_signature(r, s), data, _ECDSA)
        else:
            if algorithm == "ES256":
                return False
            public_key.verify(signature, data, PSS if algorithm == "PS256" else _PKCS1, _SHA256)
    except InvalidSignature:
        return False
    return True


def is_numeric_date(value: object) -> bool:
    """Whole seconds since 1970 that a datetime can hold (RFC 7519, NumericDate, without fractions)."""
    return type(value) is int and 0 <= value <= MAX_NUMERIC_DATE


@lru_cache(maxsize=256)
def _header_segment(algorithm: str, typ: str, key_id: str, thumbprint: str) -> str:
    return base64url.encode(_to_json({"alg": algorithm, "typ": typ, "kid": key_id, "x5t#S256": thumbprint}))


def _header_object(segment: str) -> dict[str, Any]:
    if len(segment) > MAX_HEADER_LENGTH:
        raise Malformed("manifest-unreadable")
    try:
        header = read_json(base64url.decode(segment), max_depth=3)
    except (ValueError, Malformed):
        raise Malformed("manifest-unreadable") from None
    if not isinstance(header, dict):
        raise Malformed("manifest-unreadable")
    return header


def _to_json(claims: Mapping[str, Any]) -> bytes:
    return json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
