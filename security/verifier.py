#!/usr/bin/env python3
"""Does this evidence hold? An offline verifier in one file, for anybody: a court, an auditor, the other agency.

    python verifier.py BUNDLE  --trust TRUST.json [--body FILE] [--language vi|en]
    python verifier.py RECEIPT --trust TRUST.json

BUNDLE is an evidence bundle (``GET /v1/exchange/{message_id}/evidence``), RECEIPT a receipt alone (compact JWS text).
TRUST is the file that the bus publishes once (``lgsp evidence trust``): its public keys and its log's key; get it by a
way that you trust, everything else is proven from it. Exit code 0: it holds. 1: it does not. 2: it could not be tried.

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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

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
                authorities=tuple(
                    x509.load_pem_x509_certificate(pem.encode("ascii")) for pem in document.get("authorities", ())
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, Refuted):
            raise Refuted("trust-unreadable") from None


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
    # 5. The body is the one that was signed for
    bodies = [b for b in (_bundled_body(bundle), body) if b is not None]
    for one in bodies:
        if hashlib.sha256(one).hexdigest() != manifest["body"]["sha256"] or len(one) != manifest["body"]["length"]:
            raise Refuted("body-wrong")
    findings.append("body-is-signed" if bodies else "body-not-checked")
    return {"manifest": manifest, "receipt": receipt, "entries": entries, "log_size": size}


def _read_bundle(data: bytes) -> dict[str, Any]:
    """The bundle, if the file is its one canonical spelling: so that no byte of it is free to be changed."""
    try:
        bundle = json.loads(data, object_pairs_hook=_no_duplicates)
        members = bundle.keys() - {"body"}
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
    parser.add_argument("--body", type=Path, help="payload to compare / nội dung cần đối chiếu")
    parser.add_argument("--language", choices=("vi", "en"), help="one language only / chỉ một ngôn ngữ")
    options = parser.parse_args(arguments)
    try:
        data, trust_data = _read_file(options.file), _read_file(options.trust)
        body = _read_file(options.body) if options.body else None
        trust = Trust.read(trust_data)
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
