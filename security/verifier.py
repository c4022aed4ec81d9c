#!/usr/bin/env python3
"""Does this evidence hold? An offline verifier in one file, for anybody: a court, an auditor, the other agency.

    python verifier.py BUNDLE  --trust TRUST.json [--body FILE] [--timestamp-authority ROOTS.pem] [--language vi|en]
    python verifier.py RECEIPT --trust TRUST.json

BUNDLE is an evidence bundle (``GET /v1/exchange/{message_id}/evidence``), RECEIPT a receipt alone (compact JWS text).
TRUST is the file that the bus publishes once (``lgsp evidence trust``): its public keys and its log's key; get it by a
way that you trust, everything else is proven from it. Exit code 0: it holds. 1: it does not. 2: it could not be tried.
A bundle may carry the word of a timestamp authority (RFC 3161) on when the log was already so. ROOTS are certificates
of that authority, got from itself: then not even the bus could have dated its log back. Whether its certificate was
revoked is not looked up here.

It needs Python 3.11 or newer and the package ``cryptography``, nothing of the bus: it is a second reading of the
formats, written apart from the code that produces them. There is no network access and nothing is written.

Tệp này kiểm tra bằng chứng ngoại tuyến. Mã thoát 0: bằng chứng đúng; 1: bằng chứng sai; 2: không kiểm tra được.
"""

# ruff: noqa: T201 (a command that speaks to people)

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Run as a script, Python puts this folder first on its path, and the bus's secrets.py beside us would pass for the
    # standard library's. Nothing of this folder is needed.
    del sys.path[0]

import argparse
import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID

BUNDLE_FORMAT = "lgsp-evidence-bundle/1"
TRUST_FORMAT = "lgsp-trust/1"
#: A bundle may carry its body (2 MiB, a third more in base64) and many deliveries.
MAX_FILE_BYTES = 64 * 1024 * 1024

_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_BUNDLE_MEMBERS = {
    "format", "message_id", "manifest", "sender_certificate", "receipt", "bus_key", "checkpoint", "entries"
}  # fmt: skip
_ENTRY_MEMBERS = {"position", "entry", "proof"}
_NOTE_LINE = re.compile(r"— ([!-*,-~]+) ([A-Za-z0-9+/]+={0,2})")

#: What is said about each finding: English, Vietnamese.
WORDING: dict[str, tuple[str, str]] = {
    "receipt-signed": (
        "The receipt is signed by the bus.",
        "Biên nhận có chữ ký hợp lệ của trục.",
    ),
    "manifest-signed": (
        "The manifest is signed by the key in the sender's certificate.",
        "Bản kê khai được ký bằng khóa trong chứng thư của bên gửi.",
    ),
    "manifest-attested": (
        "The manifest is written and signed by the bus, which identified the sender by other means.",
        "Bản kê khai do trục lập và ký; trục đã xác định bên gửi bằng cách khác.",
    ),
    "certificate-from-authority": (
        "The sender's certificate was issued by a trusted authority.",
        "Chứng thư của bên gửi do tổ chức chứng thực tin cậy cấp.",
    ),
    "receipt-for-manifest": (
        "The receipt is for this very manifest.",
        "Biên nhận đúng là của bản kê khai này.",
    ),
    "checkpoint-signed": (
        "The log's checkpoint is signed by the log's key.",
        "Điểm kiểm được ký bằng khóa của nhật ký.",
    ),
    "entries-in-log": (
        "Every entry is in the log that the checkpoint names.",
        "Mọi bản ghi đều nằm trong nhật ký mà điểm kiểm nêu.",
    ),
    "timestamp-holds": (
        "A timestamp authority has confirmed when the log already had this checkpoint.",
        "Tổ chức cấp dấu thời gian đã xác nhận thời điểm nhật ký đã có điểm kiểm này.",
    ),
    "timestamp-not-checked": (
        "There is a timestamp for this very checkpoint; who gave it was not checked: no authority was named.",
        "Có dấu thời gian cho đúng điểm kiểm này; chưa kiểm tra ai cấp vì không nêu tổ chức cấp dấu thời gian tin cậy.",
    ),
    "timestamp-missing": (
        "No timestamp authority has confirmed the time; it is the bus's own word.",
        "Chưa có tổ chức cấp dấu thời gian nào xác nhận thời điểm; đó chỉ là lời của trục.",
    ),
    "body-is-signed": (
        "The body is exactly the one that the manifest was signed for.",
        "Nội dung đúng là nội dung đã ký trong bản kê khai.",
    ),
    "body-not-checked": (
        "The body is not in the bundle and was not given; its digest stands, itself it was not checked.",
        "Không có nội dung trong gói và không được cung cấp; chỉ có mã băm, nội dung chưa được kiểm tra.",
    ),
    "file-unreadable": (
        "The file is not a bundle or receipt in its exact form.",
        "Tệp không phải gói bằng chứng hay biên nhận đúng dạng.",
    ),
    "trust-unreadable": (
        "The trust file cannot be read.",
        "Không đọc được tệp tin cậy.",
    ),
    "jws-unreadable": (
        "A signed part cannot be read.",
        "Không đọc được phần đã ký.",
    ),
    "bus-key-unknown": (
        "The bus key that signed is not in the trust file.",
        "Khóa của trục đã ký không có trong tệp tin cậy.",
    ),
    "bus-key-out-of-time": (
        "The bus key was not good when it signed.",
        "Khóa của trục không còn hiệu lực khi ký.",
    ),
    "receipt-signature-wrong": (
        "The receipt's signature does not hold.",
        "Chữ ký của biên nhận không hợp lệ.",
    ),
    "manifest-signature-wrong": (
        "The manifest's signature does not hold.",
        "Chữ ký của bản kê khai không hợp lệ.",
    ),
    "certificate-wrong": (
        "The certificate is not the one that the manifest names, or was not valid when it was signed.",
        "Chứng thư không phải chứng thư mà bản kê khai nêu, hoặc không có hiệu lực khi ký.",
    ),
    "certificate-not-from-authority": (
        "The sender's certificate does not come from a trusted authority.",
        "Chứng thư của bên gửi không do tổ chức chứng thực tin cậy cấp.",
    ),
    "receipt-for-another": (
        "The receipt is for another manifest.",
        "Biên nhận thuộc về bản kê khai khác.",
    ),
    "checkpoint-wrong": (
        "The checkpoint is not signed by a trusted log key.",
        "Điểm kiểm không được ký bằng khóa nhật ký tin cậy.",
    ),
    "entry-wrong": (
        "An entry of the log is about something else, or the entry of acceptance is missing.",
        "Bản ghi nhật ký nói về việc khác, hoặc thiếu bản ghi tiếp nhận.",
    ),
    "entry-not-in-log": (
        "An entry is not in the log that the checkpoint names.",
        "Có bản ghi không nằm trong nhật ký mà điểm kiểm nêu.",
    ),
    "timestamp-wrong": (
        "The timestamp is not one of this checkpoint in its exact form, or its signature does not hold.",
        "Dấu thời gian không đúng dạng, không thuộc điểm kiểm này, hoặc chữ ký không hợp lệ.",
    ),
    "timestamp-not-from-authority": (
        "The timestamp does not come from a trusted authority, or its certificate was not good for it at that time.",
        "Dấu thời gian không do tổ chức tin cậy cấp, hoặc chứng thư của tổ chức không dùng được vào thời điểm đó.",
    ),
    "body-wrong": (
        "The body is not the one that the manifest was signed for.",
        "Nội dung không phải nội dung đã ký trong bản kê khai.",
    ),
}


class Refuted(Exception):
    """The evidence does not hold; the code is a key of :data:`WORDING`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(WORDING[code][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the evidence holds, what was found on the way (codes of :data:`WORDING`), and the proven facts."""

    holds: bool
    findings: tuple[str, ...]
    facts: dict[str, Any]

    def sentences(self, language: str = "en") -> list[str]:
        return [WORDING[code][1 if language == "vi" else 0] for code in self.findings]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusKey:
    """A key of the bus as the trust file names it; times are seconds since 1970."""

    jwk: dict[str, Any]
    public_key: _PublicKey
    signs_from: int
    signs_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the verifier believes without proof."""

    bus_keys: dict[str, BusKey]
    #: Log keys by (name, key hash).
    log_keys: dict[tuple[str, bytes], Ed25519PublicKey]
    authorities: tuple[x509.Certificate, ...]
    #: Roots of timestamp authorities; none: timestamps are read, and not believed.
    timestamp_authorities: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, data: bytes) -> Trust:
        """Raises Refuted(trust-unreadable)."""
        try:
            document = json.loads(data, object_pairs_hook=_no_duplicates)
            if document["format"] != TRUST_FORMAT:
                raise ValueError("another format")
            keys = [_bus_key(jwk) for jwk in document["bus_keys"]]
            return cls(
                bus_keys={key.jwk["kid"]: key for key in keys},
                log_keys=dict(_log_key(vkey) for vkey in document["log_keys"]),
                authorities=_certificates(document.get("authorities", ())),
                timestamp_authorities=_certificates(document.get("timestamp_authorities", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError, Refuted):
            raise Refuted("trust-unreadable") from None

    def believing(self, pem: bytes) -> Trust:
        """The same with these roots of timestamp authorities, too. Raises Refuted(trust-unreadable)."""
        try:
            roots = tuple(x509.load_pem_x509_certificates(pem))
        except ValueError:
            raise Refuted("trust-unreadable") from None
        return replace(self, timestamp_authorities=(*self.timestamp_authorities, *roots))


# --- the two things that can be verified -----------------------------------------------------------------------------


def verify_bundle(data: bytes, trust: Trust, body: bytes | None = None) -> Verdict:
    """Verify a bundle. ``body`` is the payload when it is known from elsewhere. Never raises for bad evidence."""
    findings: list[str] = []
    try:
        facts = _check_bundle(data, trust, body, findings)
    except Refuted as refuted:
        return Verdict(holds=False, findings=(*findings, refuted.code), facts={})
    except Exception:  # A reader that stumbles over hostile input has verified nothing.
        return Verdict(holds=False, findings=(*findings, "file-unreadable"), facts={})
    return Verdict(holds=True, findings=tuple(findings), facts=facts)


def verify_receipt(text: str, trust: Trust) -> Verdict:
    """Verify a receipt alone: that the bus said this, not that its log says the same. Never raises for a bad one."""
    try:
        claims = _check_receipt(text, trust)
    except Refuted as refuted:
        return Verdict(holds=False, findings=(refuted.code,), facts={})
    except Exception:  # as above
        return Verdict(holds=False, findings=("file-unreadable",), facts={})
    return Verdict(holds=True, findings=("receipt-signed",), facts=claims)


def verify_file(data: bytes, trust: Trust, body: bytes | None = None) -> Verdict:
    """Verify whichever of the two this file is. One newline at the end of a receipt is allowed."""
    if data.startswith(b"{"):
        return verify_bundle(data, trust, body)
    try:
        return verify_receipt(data.decode("ascii").removesuffix("\n"), trust)
    except UnicodeDecodeError:
        return Verdict(holds=False, findings=("file-unreadable",), facts={})


def _check_bundle(data: bytes, trust: Trust, body: bytes | None, findings: list[str]) -> dict[str, Any]:
    bundle = _read_bundle(data)
    # 1. The receipt is the bus's word
    receipt = _check_receipt(bundle["receipt"], trust)
    header, _, _ = _split(bundle["receipt"])
    if bundle["bus_key"] != _public_part(trust.bus_keys[header["kid"]].jwk):
        raise Refuted("bus-key-unknown")
    findings.append("receipt-signed")
    # 2. The manifest is the sender's word
    manifest, manifest_sha256 = _check_manifest(bundle, trust, findings)
    # 3. They speak of the same message
    _check_same_message(bundle, manifest, manifest_sha256, receipt)
    findings.append("receipt-for-manifest")
    # 4. The log remembers it
    size, root = _check_checkpoint(bundle["checkpoint"], trust)
    findings.append("checkpoint-signed")
    entries = [_check_entry(item, size, root) for item in bundle["entries"]]
    _check_entries(bundle, manifest, manifest_sha256, receipt, entries)
    findings.append("entries-in-log")
    # 5. Somebody else says since when
    stamped = _check_timestamp(bundle, trust, findings)
    # 6. The body is the one that was signed for
    bodies = [b for b in (_bundled_body(bundle), body) if b is not None]
    for one in bodies:
        if hashlib.sha256(one).hexdigest() != manifest["body"]["sha256"] or len(one) != manifest["body"]["length"]:
            raise Refuted("body-wrong")
    findings.append("body-is-signed" if bodies else "body-not-checked")
    return {"manifest": manifest, "receipt": receipt, "entries": entries, "log_size": size, **stamped}


def _read_bundle(data: bytes) -> dict[str, Any]:
    """The bundle, if the file is its one canonical spelling: so that no byte of it is free to be changed."""
    try:
        bundle = json.loads(data, object_pairs_hook=_no_duplicates)
        members = bundle.keys() - {"body", "timestamp"}
        texts = _BUNDLE_MEMBERS - {"bus_key", "entries"}
        if members != _BUNDLE_MEMBERS or bundle["format"] != BUNDLE_FORMAT or canonical_json(bundle) != data:
            raise ValueError("another format")
        if not all(isinstance(bundle[name], str) for name in texts) or not isinstance(bundle["entries"], list):
            raise ValueError("another format")
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise Refuted("file-unreadable") from None
    return dict(bundle)


def canonical_json(document: Any) -> bytes:
    """The one spelling of a bundle: names in order, one space of indent, UTF-8, a newline at the end."""
    text = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def _check_receipt(jws: str, trust: Trust) -> dict[str, Any]:
    header, claims, _ = _split(jws)
    key = trust.bus_keys.get(header["kid"])
    if key is None:
        raise Refuted("bus-key-unknown")
    if header["typ"] != "lgsp-receipt+jws" or header["x5t#S256"] != key.jwk.get("x5t#S256"):
        raise Refuted("receipt-signature-wrong")
    if not _signature_holds(jws, header["alg"], key.public_key):
        raise Refuted("receipt-signature-wrong")
    _check_time(claims, key)
    return claims


def _check_manifest(bundle: dict[str, Any], trust: Trust, findings: list[str]) -> tuple[dict[str, Any], str]:
    header, manifest, payload = _split(bundle["manifest"])
    certificate = _certificate(bundle["sender_certificate"])
    thumbprint = _to_base64url(certificate.fingerprint(hashes.SHA256()))
    if header["x5t#S256"] != thumbprint:
        raise Refuted("certificate-wrong")
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise Refuted("certificate-wrong")
    if header["kid"] != _key_id(public_key):
        raise Refuted("certificate-wrong")
    if header["typ"] != "lgsp-evidence+jws" or not _signature_holds(bundle["manifest"], header["alg"], public_key):
        raise Refuted("manifest-signature-wrong")
    if not certificate.not_valid_before_utc <= _moment(manifest) <= certificate.not_valid_after_utc:
        raise Refuted("certificate-wrong")
    if "attested" in manifest:
        key = trust.bus_keys.get(header["kid"])
        if key is None:
            raise Refuted("bus-key-unknown")
        _check_time(manifest, key)
        findings.append("manifest-attested")
    else:
        findings.append("manifest-signed")
        if trust.authorities:
            _check_issuer(certificate, trust.authorities)
            findings.append("certificate-from-authority")
    return manifest, hashlib.sha256(payload).hexdigest()


def _check_same_message(
    bundle: dict[str, Any], manifest: dict[str, Any], manifest_sha256: str, receipt: dict[str, Any]
) -> None:
    same = bundle["message_id"] == manifest.get("message_id") == receipt.get("message_id")
    same = same and receipt.get("manifest_sha256") == manifest_sha256
    body = manifest.get("body")
    if not same or not isinstance(body, dict) or not {"sha256", "length"} <= body.keys():
        raise Refuted("receipt-for-another")


def _check_checkpoint(note: str, trust: Trust) -> tuple[int, bytes]:
    """Size and root of the log, from a signed note. Every signature on it must be by a trusted key and hold: a line
    that nobody can check is a line that anybody could change."""
    body, blank, tail = note.rpartition("\n\n")
    lines = body.split("\n")
    text = (body + "\n").encode("utf-8")
    matches = [_NOTE_LINE.fullmatch(line) for line in tail.removesuffix("\n").split("\n")]
    if not blank or not tail.endswith("\n") or len(lines) != 3 or not re.fullmatch("[1-9][0-9]{0,18}", lines[1]):
        raise Refuted("checkpoint-wrong")
    names = set()
    for match in matches:
        signature = _from_base64(match[2], "checkpoint-wrong") if match else b""
        key = trust.log_keys.get((match[1], signature[:4])) if match else None
        if key is None or match is None or match[1] in names:
            raise Refuted("checkpoint-wrong")
        names.add(match[1])
        try:
            key.verify(signature[4:], text)
        except InvalidSignature:
            raise Refuted("checkpoint-wrong") from None
    root = _from_base64(lines[2], "checkpoint-wrong")
    # The log's own key bears the log's name; the others are witnesses.
    if lines[0] not in names or len(root) != 32:
        raise Refuted("checkpoint-wrong")
    return int(lines[1]), root


def _check_entry(item: Any, size: int, root: bytes) -> dict[str, Any]:
    """One entry of the log with its proof of inclusion (RFC 9162, 2.1.3.2)."""
    try:
        position, proof = item["position"], [_from_base64(text, "entry-not-in-log") for text in item["proof"]]
        entry: bytes = item["entry"].encode("utf-8")
        facts = json.loads(entry, object_pairs_hook=_no_duplicates)
        if item.keys() != _ENTRY_MEMBERS or type(position) is not int or not isinstance(facts, dict):
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refuted("entry-wrong") from None
    leaf = hashlib.sha256(b"\x00" + entry).digest()
    if not inclusion_holds(leaf, position, size, proof, root):
        raise Refuted("entry-not-in-log")
    return {**facts, "position": position, "leaf": leaf.hex()}


def _check_entries(
    bundle: dict[str, Any],
    manifest: dict[str, Any],
    manifest_sha256: str,
    receipt: dict[str, Any],
    entries: Sequence[dict[str, Any]],
) -> None:
    """All entries are about this message, and the one of acceptance is the one that the receipt promised."""
    about = all(
        e.get("message_id") == manifest["message_id"] and e.get("manifest_sha256") == manifest_sha256 for e in entries
    )
    accepted = [e for e in entries if e.get("kind") == "accepted"]
    positions = {e["position"] for e in entries}
    if not about or len(accepted) != 1 or len(positions) != len(entries):
        raise Refuted("entry-wrong")
    header, _, _ = _split(bundle["manifest"])
    first = accepted[0]
    signer = header["kid"] if "attested" not in manifest else first.get("key_id")
    expected = (receipt.get("leaf"), manifest.get("sender"), manifest["body"]["sha256"], signer)
    if (first["leaf"], first.get("sender"), first.get("body_sha256"), first.get("key_id")) != expected:
        raise Refuted("entry-wrong")


def _check_timestamp(bundle: dict[str, Any], trust: Trust, findings: list[str]) -> dict[str, Any]:
    if "timestamp" not in bundle:
        findings += ["timestamp-missing"] if trust.timestamp_authorities else []
        return {}
    token = _from_base64(bundle["timestamp"], "timestamp-wrong")
    stamp = read_timestamp(token, bundle["checkpoint"])
    if not trust.timestamp_authorities:
        findings.append("timestamp-not-checked")
        return {}
    authority = believe_timestamp(stamp, trust.timestamp_authorities)
    findings.append("timestamp-holds")
    told = {"at": stamp.at.isoformat(), "policy": stamp.policy, "serial": stamp.serial, "authority": authority}
    return {"timestamp": told}


def inclusion_holds(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    if not 0 <= index < size or any(len(h) != 32 for h in (leaf, root, *proof)):
        return False
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = hashlib.sha256(b"\x01" + sibling + current).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            current = hashlib.sha256(b"\x01" + current + sibling).digest()
        node, last = node >> 1, last >> 1
    return last == 0 and current == root


# --- signatures, keys, certificates ----------------------------------------------------------------------------------


def _split(jws: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, claims and exact payload of a compact JWS, not verified. Raises Refuted(jws-unreadable)."""
    try:
        segments = jws.split(".")
        if len(segments) != 3 or not jws.isascii():
            raise ValueError("not compact")
        header_bytes, payload, _ = (_from_base64url(segment) for segment in segments)
        header = json.loads(header_bytes, object_pairs_hook=_no_duplicates)
        claims = json.loads(payload, object_pairs_hook=_no_duplicates)
        if not isinstance(header, dict) or header.keys() != {"alg", "typ", "kid", "x5t#S256"}:
            raise ValueError("another header")
        if not all(isinstance(value, str) for value in header.values()) or not isinstance(claims, dict):
            raise ValueError("another form")
    except (ValueError, RecursionError):
        raise Refuted("jws-unreadable") from None
    return header, claims, payload


def _signature_holds(jws: str, algorithm: str, public_key: _PublicKey) -> bool:
    signing_input, _, last = jws.rpartition(".")
    signature, data = _from_base64url(last), signing_input.encode("ascii")
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            if algorithm != "ES256" or not isinstance(public_key.curve, ec.SECP256R1) or len(signature) != 64:
                return False
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public_key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
            return True
        if public_key.key_size < 2048 or algorithm not in ("PS256", "RS256"):
            return False
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        public_key.verify(signature, data, pss if algorithm == "PS256" else padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _bus_key(jwk: dict[str, Any]) -> BusKey:
    public_key = _key_of_jwk(jwk)
    if _key_id(public_key) != jwk["kid"]:
        raise ValueError("kid is not the key's thumbprint")
    return BusKey(
        jwk=jwk,
        public_key=public_key,
        signs_from=int(jwk.get("signs_from", 0)),
        signs_until=int(jwk.get("signs_until", 2**63)),
    )


def _public_part(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in ("signs_from", "signs_until")}


def _key_of_jwk(jwk: dict[str, Any]) -> _PublicKey:
    def number(name: str) -> int:
        return int.from_bytes(_from_base64url(jwk[name]), "big")

    if jwk["kty"] == "EC" and jwk["crv"] == "P-256":
        return ec.EllipticCurvePublicNumbers(number("x"), number("y"), ec.SECP256R1()).public_key()
    if jwk["kty"] == "RSA":
        return rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
    raise ValueError("another kind of key")


def _key_id(public_key: _PublicKey) -> str:
    """RFC 7638 thumbprint."""
    if isinstance(public_key, rsa.RSAPublicKey):
        modulus, exponent = public_key.public_numbers().n, public_key.public_numbers().e
        members = {"e": _uint(exponent, 0), "kty": "RSA", "n": _uint(modulus, 0)}
    else:
        point = public_key.public_numbers()
        members = {"crv": "P-256", "kty": "EC", "x": _uint(point.x, 32), "y": _uint(point.y, 32)}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _to_base64url(hashlib.sha256(canonical.encode("ascii")).digest())


def _log_key(vkey: str) -> tuple[tuple[str, bytes], Ed25519PublicKey]:
    """A verifier key of C2SP signed-note: ``name+hash+base64(0x01 ‖ key)``."""
    name, key_hash, encoded = vkey.split("+", 2)
    data = _from_base64(encoded, "trust-unreadable")
    computed = hashlib.sha256(name.encode("utf-8") + b"\n" + data).digest()[:4]
    if data[:1] != b"\x01" or computed.hex() != key_hash:
        raise ValueError("not an Ed25519 note key")
    return (name, computed), Ed25519PublicKey.from_public_bytes(data[1:])


def _certificate(pem: str) -> x509.Certificate:
    """The certificate, if the text is its one canonical PEM spelling."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        if certificate.public_bytes(serialization.Encoding.PEM).decode("ascii") != pem:
            raise ValueError("not canonical")
    except (ValueError, x509.InvalidVersion):
        raise Refuted("certificate-wrong") from None
    return certificate


def _check_issuer(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
            return
        except (ValueError, TypeError, InvalidSignature):
            continue
    raise Refuted("certificate-not-from-authority")


def _certificates(pems: Sequence[str]) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificate(pem.encode("ascii")) for pem in pems)


def _check_time(claims: dict[str, Any], key: BusKey) -> None:
    issued = claims.get("iat")
    if type(issued) is not int or not key.signs_from <= issued <= key.signs_until:
        raise Refuted("bus-key-out-of-time")


def _moment(claims: dict[str, Any]) -> datetime:
    issued = claims.get("iat")
    if type(issued) is not int or not 0 <= issued <= 253402300799:
        raise Refuted("certificate-wrong")
    return datetime.fromtimestamp(issued, UTC)


def _bundled_body(bundle: dict[str, Any]) -> bytes | None:
    if "body" not in bundle:
        return None
    if not isinstance(bundle["body"], str):
        raise Refuted("body-wrong")
    return _from_base64(bundle["body"], "body-wrong")


# --- timestamps (RFC 3161, a CMS SignedData around a TSTInfo) ---------------------------------------------------------
#
#   ContentInfo  { signedData, [0] SignedData { version, digestAlgorithms, { id-ct-TSTInfo, [0] OCTET STRING TSTInfo },
#                  [0] certificates, [1] crls?, { SignerInfo } } }
#   SignerInfo   { version, { issuer, serial }, digestAlgorithm, [0] signedAttrs, signatureAlgorithm, signature, … }
#   TSTInfo      { 1, policy, { algorithm, imprint }, serial, genTime, accuracy?, ordering?, nonce?, [0] tsa?, [1]? }

#: A token with three certificates has about 5 KB.
MAX_TOKEN_BYTES = 64 * 1024
_LONGEST_CHAIN = 6
_INTEGER, _OCTETS, _OID, _TIME, _SEQUENCE, _SET, _TAG_0, _TAG_1 = 0x02, 0x04, 0x06, 0x18, 0x30, 0x31, 0xA0, 0xA1
_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_SHA1, _SHA256 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    _SHA256: hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
#: The signature that goes with each hash: sha…WithRSAEncryption (PKCS #1 v1.5; or rsaEncryption), ecdsa-with-SHA….
_PLAIN_RSA = "1.2.840.113549.1.1.1"
_RSA = {name: f"1.2.840.113549.1.1.{number}" for name, number in zip(_HASHES, (11, 12, 13), strict=True)}
_ECDSA = {name: f"1.2.840.10045.4.3.{number}" for name, number in zip(_HASHES, (2, 3, 4), strict=True)}
_GENERALIZED_TIME = re.compile(rb"([0-9]{14})(?:\.([0-9]{1,6}))?Z")
#: What comes of bytes that are no token and no certificate, or not such as are wanted here.
_UNFIT = (
    *(ValueError, TypeError, IndexError, OverflowError, InvalidSignature, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension),
)
#: Extensions of a certificate that this reader understands; another one that is critical makes it worthless here.
_UNDERSTOOD = {"2.5.29.15", "2.5.29.19", "2.5.29.37"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a token says, and what it takes to believe it."""

    at: datetime
    policy: str
    serial: int
    nonce: int | None
    info: bytes
    signer: Sequence[_Item]
    certificates: Sequence[x509.Certificate]


class _Item(NamedTuple):
    """One value of DER: its tag, what it holds, and all of its bytes."""

    tag: int
    content: bytes
    whole: bytes


def read_timestamp(token: bytes, note: str) -> Stamp:
    """A token over SHA-256 of this checkpoint's note, not verified. Raises Refuted(timestamp-wrong)."""
    try:
        info, signer, certificates = _read_token(token)
        [stated] = _items(info)
        version, policy, imprint, serial, at, *more = _inside(stated, _SEQUENCE)
        algorithm, digest = _inside(imprint, _SEQUENCE)
        _must(version.whole == b"\x02\x01\x01")
        _must(_algorithm(algorithm) == _SHA256 and digest.tag == _OCTETS)
        _must(digest.content == hashlib.sha256(note.encode("utf-8")).digest())
        extensions = [each for item in more if item.tag == _TAG_1 for each in _items(item.content)]
        _must(all(len(_inside(each, _SEQUENCE)) == 2 for each in extensions))  # none of them critical
        return Stamp(
            at=_generalized_time(at),
            policy=_oid(policy),
            serial=_integer(serial),
            nonce=next((_integer(item) for item in more if item.tag == _INTEGER), None),
            info=info,
            signer=signer,
            certificates=certificates,
        )
    except _UNFIT:
        raise Refuted("timestamp-wrong") from None


def believe_timestamp(stamp: Stamp, roots: Sequence[x509.Certificate]) -> str:
    """The name of the authority that signed it; its certificate leads to one of these roots and was good at that time.
    Raises Refuted(timestamp-wrong, timestamp-not-from-authority)."""
    try:
        leaf = _check_signer(stamp)
    except _UNFIT:
        raise Refuted("timestamp-wrong") from None
    try:
        _check_stamper(leaf)
        _check_path(leaf, stamp, roots)
    except _UNFIT:
        raise Refuted("timestamp-not-from-authority") from None
    return leaf.subject.rfc4514_string()


def _read_token(token: bytes) -> tuple[bytes, list[_Item], list[x509.Certificate]]:
    """The TSTInfo, the parts of the one SignerInfo, and the certificates that came along."""
    _must(len(token) <= MAX_TOKEN_BYTES)
    [outer] = _items(token)
    content_type, tagged = _inside(outer, _SEQUENCE)
    [signed] = _inside(tagged, _TAG_0)
    version, algorithms, encapsulated, *optional, signers = _inside(signed, _SEQUENCE)
    inner_type, inner = _inside(encapsulated, _SEQUENCE)
    [octets] = _inside(inner, _TAG_0)
    [signer] = _inside(signers, _SET)
    _must(_oid(content_type) == _SIGNED_DATA and _oid(inner_type) == _TST_INFO and octets.tag == _OCTETS)
    [algorithm] = _inside(algorithms, _SET)
    parts = _inside(signer, _SEQUENCE)
    _must(version.whole == b"\x02\x01\x03" and _algorithm(algorithm) == _algorithm(parts[2]))
    _must([item.tag for item in optional] in ([], [_TAG_0], [_TAG_1], [_TAG_0, _TAG_1]))
    brought = [each.whole for item in optional if item.tag == _TAG_0 for each in _items(item.content)]
    return octets.content, parts, [x509.load_der_x509_certificate(der) for der in brought]


def _check_signer(stamp: Stamp) -> x509.Certificate:
    """The certificate that the signed attributes name, once its key has verified them and they name this TSTInfo."""
    version, who, digest_algorithm, attributes, signature_algorithm, signature, *_ = stamp.signer
    _must(version.whole == b"\x02\x01\x01" and attributes.tag == _TAG_0 and signature.tag == _OCTETS)
    issuer, serial = _inside(who, _SEQUENCE)
    hash_name, algorithm = _algorithm(digest_algorithm), _algorithm(signature_algorithm)
    named = _HASHES.get(hash_name)
    if named is None:
        raise ValueError("another hash")
    signed: dict[str, _Item] = {}
    for each in _items(attributes.content):
        kind, values = _inside(each, _SEQUENCE)
        _must(_oid(kind) not in signed)
        [signed[_oid(kind)]] = _inside(values, _SET)
    leaf = _named_certificate(signed, stamp.certificates)
    _must(leaf.serial_number == _integer(serial) and leaf.issuer.public_bytes() == issuer.whole)
    digest = hashlib.new(named.name, stamp.info).digest()
    absent = _Item(0, b"", b"")
    _must(_oid(signed.get(_CONTENT_TYPE, absent)) == _TST_INFO)
    _must(signed.get(_MESSAGE_DIGEST, absent)[:2] == (_OCTETS, digest))
    # What is signed has the tag of a SET, whatever it is tagged with here (RFC 5652, 5.4).
    data, key = b"\x31" + attributes.whole[1:], leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey) and algorithm in (_PLAIN_RSA, _RSA[hash_name]) and key.key_size >= 2048:
        key.verify(signature.content, data, padding.PKCS1v15(), named)
    elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == _ECDSA[hash_name]:
        key.verify(signature.content, data, ec.ECDSA(named))
    else:
        raise ValueError("another signature")
    return leaf


def _named_certificate(signed: dict[str, _Item], certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Whose hash is in the attribute signing-certificate (RFC 5035): nobody can put another one in its place."""
    statement = signed.get(_SIGNING_CERTIFICATE_V2) or signed.get(_SIGNING_CERTIFICATE)
    if statement is None:
        raise ValueError("the certificate is not named")
    [first, *_] = _items(_inside(statement, _SEQUENCE)[0].content)
    parts = _inside(first, _SEQUENCE)
    kind = _SHA256 if _SIGNING_CERTIFICATE_V2 in signed else _SHA1
    if parts[0].tag == _SEQUENCE:
        kind = _algorithm(parts.pop(0))
    _must(parts[0].tag == _OCTETS and (kind in _HASHES or kind == _SHA1))
    name = "sha1" if kind == _SHA1 else _HASHES[kind].name
    for each in certificates:
        der = each.public_bytes(serialization.Encoding.DER)
        if hashlib.new(name, der, usedforsecurity=False).digest() == parts[0].content:
            return each
    raise ValueError("the certificate is not there")


def _check_stamper(leaf: x509.Certificate) -> None:
    """RFC 3161, 2.3: its key signs timestamps and nothing else."""
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    _must(usage.critical and list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING])


def _check_path(leaf: x509.Certificate, stamp: Stamp, roots: Sequence[x509.Certificate]) -> None:
    """From the certificate over those that came along to a root, each good at the time that was stamped."""
    current = leaf
    for below in range(_LONGEST_CHAIN):
        _must(current.not_valid_before_utc <= stamp.at <= current.not_valid_after_utc)
        _must(all(not each.critical or each.oid.dotted_string in _UNDERSTOOD for each in current.extensions))
        for root in roots:
            if root == current:
                return
            if _is_issued_by(current, root, below):
                _must(root.not_valid_before_utc <= stamp.at <= root.not_valid_after_utc)
                return
        others = (each for each in stamp.certificates if each != current)
        current = next((each for each in others if _is_issued_by(current, each, below)), current)
    raise ValueError("it leads to no root")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate, below: int) -> bool:
    """Signed by a certificate authority that may have so many others below it."""
    try:
        limits = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usages = [each.value for each in issuer.extensions if isinstance(each.value, x509.KeyUsage)]
        certificate.verify_directly_issued_by(issuer)
    except _UNFIT:
        return False
    return (
        limits.ca
        and (limits.path_length is None or limits.path_length >= below)
        and (not usages or usages[0].key_cert_sign)
    )


def _items(data: bytes) -> list[_Item]:
    """Values of DER, one after the other: lengths are definite and as short as can be."""
    items, at = [], 0
    while at < len(data):
        _must(len(data) - at >= 2 and data[at] & 0x1F != 0x1F)
        length, start = data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            _must(1 <= count <= 3 and data[start : start + 1] != b"\0")
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
            _must(length >> 8 * (count - 1) and length > 0x7F)
        _must(start + length <= len(data))
        items.append(_Item(data[at], data[start : start + length], data[at : start + length]))
        at = start + length
    return items


def _inside(item: _Item, tag: int) -> list[_Item]:
    _must(item.tag == tag)
    return _items(item.content)


def _integer(item: _Item) -> int:
    _must(item.tag == _INTEGER and item.content != b"")
    return int.from_bytes(item.content, "big", signed=True)


def _oid(item: _Item) -> str:
    _must(item.tag == _OID and item.content != b"" and not item.content[-1] & 0x80)
    numbers, number = [], 0
    for byte in item.content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _algorithm(item: _Item) -> str:
    """Its name; it has no parameters, or NULL."""
    name, *parameters = _inside(item, _SEQUENCE)
    _must([each.whole for each in parameters] in ([], [b"\x05\0"]))
    return _oid(name)


def _generalized_time(item: _Item) -> datetime:
    match = _GENERALIZED_TIME.fullmatch(item.content)
    if item.tag != _TIME or match is None:
        raise ValueError("not a time")
    whole = datetime.strptime(match[1].decode("ascii"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - made UTC in the next line
    return whole.replace(microsecond=int((match[2] or b"0").ljust(6, b"0")), tzinfo=UTC)


def _must(holds: object) -> None:
    if not holds:
        raise ValueError("another form")


# --- exact spellings -------------------------------------------------------------------------------------------------


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def _from_base64(text: str, code: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Refuted(code) from None
    if base64.b64encode(data).decode("ascii") != text:
        raise Refuted(code)
    return data


def _from_base64url(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
    if _to_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _uint(value: int, length: int) -> str:
    return _to_base64url(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


# --- command line ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify evidence of the bus offline. Kiểm tra bằng chứng ngoại tuyến.")
    parser.add_argument("file", type=Path, help="bundle or receipt / gói bằng chứng hoặc biên nhận")
    parser.add_argument("--trust", type=Path, required=True, help="trust file of the bus / tệp tin cậy của trục")
    parser.add_argument(
        "--timestamp-authority", type=Path, help="its roots (PEM) / chứng thư gốc của tổ chức cấp dấu thời gian (PEM)"
    )
    parser.add_argument("--body", type=Path, help="payload to compare / nội dung cần đối chiếu")
    parser.add_argument("--language", choices=("vi", "en"), help="one language only / chỉ một ngôn ngữ")
    options = parser.parse_args(arguments)
    try:
        data, trust_data = _read_file(options.file), _read_file(options.trust)
        body = _read_file(options.body) if options.body else None
        trust = Trust.read(trust_data)
        if options.timestamp_authority:
            trust = trust.believing(_read_file(options.timestamp_authority))
    except (OSError, ValueError) as problem:
        print(f"Cannot read the files / Không đọc được tệp: {type(problem).__name__}", file=sys.stderr)
        return 2
    except Refuted as refuted:
        print(" / ".join(WORDING[refuted.code]), file=sys.stderr)
        return 2
    verdict = verify_file(data, trust, body)
    _print_verdict(verdict, [options.language] if options.language else ["vi", "en"])
    return 0 if verdict.holds else 1


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError("too large")
    return data


def _print_verdict(verdict: Verdict, languages: Sequence[str]) -> None:
    for language in languages:
        yes, no = ("ĐÚNG: bằng chứng hợp lệ.", "SAI: bằng chứng không hợp lệ.")
        if language == "en":
            yes, no = ("YES: the evidence holds.", "NO: the evidence does not hold.")
        sentences = verdict.sentences(language)
        for number, sentence in enumerate(sentences, start=1):
            failed = not verdict.holds and number == len(sentences)
            print(f"  {'✗' if failed else '✓'} {sentence}")
        print(yes if verdict.holds else no)


if __name__ == "__main__":
    # A console of another character set must not turn a verdict into a crash.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.exit(main())
