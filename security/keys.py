"""Keys: what signs, what verifies, and the ring of the bus's own keys.

A :class:`Signer` may be software (:class:`SigningKey`) or hardware: nothing above this room sees a private key. A
:class:`KeyDirectory` answers whose key a ``kid`` names; the registry implements it for partners, :class:`KeyRing` for
the bus itself.

Names: ``key_id`` is the RFC 7638 thumbprint of the public key, base64url; ``thumbprint`` is the SHA-256 of the DER
certificate, base64url (``x5t#S256``, RFC 7515 section 4.1.8).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import from_wire, to_wire, utc_now
from schemas.problem import Malformed
from security import base64url

Algorithm = Literal["ES256", "PS256", "RS256"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

#: Smallest RSA modulus in bits that may sign anything here (TCVN and NIST SP 800-131A agree on 2048 as the floor).
MIN_RSA_BITS = 2048
#: Largest: verifying with a 16 Kibit key costs milliseconds, which a hostile certificate could make us pay per message.
MAX_RSA_BITS = 4096
#: Size of the RSA keys that we create.
NEW_RSA_BITS = 3072
#: RSASSA-PSS as PS256 fixes it (RFC 7518, section 3.5): MGF1 with SHA-256 and a salt of exactly 32 bytes.
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
#: RSA-OAEP-256 (RFC 7518, section 4.3).
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
#: How long a new key of the bus signs before its certificate ends.
RING_KEY_DAYS = 730

_ECDSA = ec.ECDSA(hashes.SHA256())
_SHA256 = hashes.SHA256()


class Signer(Protocol):
    """Something that signs as one key. Implementations are safe under threads."""

    @property
    def key_id(self) -> str: ...

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def thumbprint(self) -> str:
        """``x5t#S256`` of the key's certificate; empty when it has none (such a key cannot sign manifests)."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature in JWS form (RFC 7518): for ES256 the 64 bytes r ‖ s, not DER."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeyRecord:
    """A known public key: whose it is, and from when to when its signatures count."""

    key_id: str
    public_key: PublicKey
    #: ES256 for P-256 keys; PS256 for RSA keys (which also verify RS256 where the legacy flag allows it).
    algorithm: Algorithm
    thumbprint: str
    system: SystemCode
    agency: AgencyCode
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    #: May it also sign for agencies whose code lies below its own?
    speaks_for_children: bool = False
    #: Agencies below by the registry's tree whose codes do not show it (merged communes keep their old codes).
    also_speaks_for: frozenset[AgencyCode] = frozenset()
    #: True for the bus's own keys: they may vouch for callers that do not sign (grade *attested*).
    attests: bool = False

    def speaks_for(self, agency: AgencyCode) -> bool:
        if agency == self.agency:
            return True
        below = agency.startswith(self.agency + ".") or agency in self.also_speaks_for
        return self.speaks_for_children and below


class KeyDirectory(Protocol):
    """Whose key is this? Implementations answer from memory: they are asked once per message."""

    def find_key(self, key_id: str) -> PublicKeyRecord | None: ...


class SigningKey:
    """A private key in memory with its certificate, if it has one. Immutable and safe under threads."""

    __slots__ = ("_private_key", "algorithm", "certificate_pem", "key_id", "thumbprint")

    def __init__(self, private_key: PrivateKey, certificate_pem: str = "") -> None:
        """Raises Malformed(key-weak, key-certificate-mismatch) for what may not sign here."""
        self._private_key = private_key
        self.algorithm: Algorithm = algorithm_of(private_key.public_key())
        self.key_id = key_id_of(private_key.public_key())
        self.certificate_pem = certificate_pem
        self.thumbprint = ""
        if certificate_pem:
            certificate = _certificate(certificate_pem.encode("ascii", "replace"))
            if certificate.public_key() != private_key.public_key():
                raise Malformed("key-certificate-mismatch")
            self.thumbprint = certificate_thumbprint(certificate)

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id!r}, algorithm={self.algorithm!r})"

    @classmethod
    def generate(cls, algorithm: Algorithm = "ES256", *, name: str = "lgsp", days: int = RING_KEY_DAYS) -> SigningKey:
        """A fresh P-256 (ES256) or RSA-3072 (PS256) key with a certificate that it signs itself.

        The self-signed certificate gives the key its ``x5t#S256``; replace it with one of an authority by
        :meth:`with_certificate`.
        """
        private_key: PrivateKey
        if algorithm == "ES256":
            private_key = ec.generate_private_key(ec.SECP256R1())
        else:
            private_key = rsa.generate_private_key(public_exponent=65537, key_size=NEW_RSA_BITS)
        return cls(private_key, self_signed_certificate(private_key, name=name, days=days))

    @classmethod
    def from_pem(cls, pem: bytes, *, password: bytes | None = None, certificate_pem: str = "") -> SigningKey:
        """A key from PEM (PKCS#8, SEC 1 or PKCS#1, encrypted or not); a certificate in the same text comes along.

        Raises Malformed(key-unreadable) for a wrong password too: the two are told apart by nobody but the owner.
        """
        try:
            private_key = serialization.load_pem_private_key(pem, password=password)
        except (ValueError, TypeError):
            raise Malformed("key-unreadable") from None
        if not certificate_pem:
            certificate_pem = _first_certificate(pem)
        return cls(_checked_private_key(private_key), certificate_pem)

    @classmethod
    def from_pkcs12(cls, data: bytes, *, password: bytes | None) -> SigningKey:
        """A key and its certificate from a PKCS#12 file (``.p12``, ``.pfx``), as the government authority hands out."""
        try:
            private_key, certificate, _ = pkcs12.load_key_and_certificates(data, password)
        except ValueError:
            raise Malformed("key-unreadable") from None
        if private_key is None or certificate is None:
            raise Malformed("key-unreadable")
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        return cls(_checked_private_key(private_key), pem)

    @classmethod
    def load(cls, path: Path, *, password: bytes | None = None) -> SigningKey:
        """A key from a file, PEM or PKCS#12 by its content. Raises OSError, Malformed(key-unreadable)."""
        data = path.read_bytes()
        if data.lstrip().startswith(b"-----BEGIN"):
            return cls.from_pem(data, password=password)
        return cls.from_pkcs12(data, password=password)

    def save(self, path: Path, *, password: bytes | None = None) -> None:
        """Write key and certificate as PEM, readable by its owner alone (0600), whole or not at all."""
        write_private_file(path, self.to_pem(password=password))

    def to_pem(self, *, password: bytes | None = None) -> bytes:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        key = self._private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return key + self.certificate_pem.encode("ascii")

    def with_certificate(self, certificate_pem: str) -> SigningKey:
        """The same key under another certificate."""
        return SigningKey(self._private_key, certificate_pem)

    def agree(self, peer: ec.EllipticCurvePublicKey) -> bytes:
        """What this key and ``peer``'s owner alone know (ECDH). Raises ValueError for a key of another kind."""
        if not isinstance(self._private_key, ec.EllipticCurvePrivateKey):
            raise ValueError("not a key that agrees on others")
        return self._private_key.exchange(ec.ECDH(), peer)

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was encrypted for this key (RSA-OAEP with SHA-256). Raises ValueError."""
        if not isinstance(self._private_key, rsa.RSAPrivateKey):
            raise ValueError("not a key that decrypts")
        return self._private_key.decrypt(wrapped, OAEP)

    @property
    def public_key(self) -> PublicKey:
        return self._private_key.public_key()

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._private_key, rsa.RSAPrivateKey):
            return self._private_key.sign(data, PSS, _SHA256)
        r, s = decode_dss_signature(self._private_key.sign(data, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class KeyRing:
    """The bus's own keys: one signs now, older ones still verify what they signed.

    On disk a directory: ``ring.json`` (names, dates, which is current) and one PEM file per key, all 0600. A ring may
    stand wherever a :class:`Signer` is asked for in this room: each signature takes the key that is current then.
    Reads are safe under threads; :meth:`rotate` and :meth:`reload` swap the whole state at once.
    """

    def __init__(self, directory: Path, system: SystemCode) -> None:
        """Open an existing ring. Raises FileNotFoundError when there is none, Malformed(key-unreadable)."""
        self._directory = directory
        self._system = system
        self._lock = threading.Lock()
        self._stamp = 0
        self._current: SigningKey
        self._records: dict[str, PublicKeyRecord] = {}
        self._certificates: dict[str, str] = {}
        self.reload()

    @classmethod
    def create(cls, directory: Path, system: SystemCode, *, algorithm: Algorithm = "ES256") -> KeyRing:
        """A new ring with one key. Raises FileExistsError when the directory has a ring already."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (directory / "ring.json").exists():
            raise FileExistsError(str(directory / "ring.json"))
        key = SigningKey.generate(algorithm, name=system)
        key.save(directory / f"{key.key_id}.pem")
        entry = {"key_id": key.key_id, "signs_from": to_wire(utc_now())}
        try:
            _write_json(directory / "ring.json", {"current": key.key_id, "keys": [entry]}, new=True)
        except FileExistsError:
            (directory / f"{key.key_id}.pem").unlink()
            raise
        return cls(directory, system)

    @classmethod
    def open_or_create(cls, directory: Path, system: SystemCode, *, algorithm: Algorithm = "ES256") -> KeyRing:
        try:
            return cls.create(directory, system, algorithm=algorithm)
        except FileExistsError:
            return cls(directory, system)

    @property
    def current(self) -> SigningKey:
        return self._current

    @property
    def system(self) -> SystemCode:
        return self._system

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self._records.get(key_id)

    def certificate_pem(self, key_id: str) -> str | None:
        return self._certificates.get(key_id)

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """All public keys as a JWK Set (RFC 7517), the current one first: what partners and verifiers trust."""
        records = sorted(self._records.values(), key=lambda record: record.key_id != self._current.key_id)
        return {
            "keys": [
                jwk_of(record.public_key)
                | {"kid": record.key_id, "use": "sig", "alg": record.algorithm, "x5t#S256": record.thumbprint}
                for record in records
            ]
        }

    def rotate(self, *, now: datetime, algorithm: Algorithm = "ES256", overlap: timedelta | None = None) -> SigningKey:
        """Make a new key current. The old one signs no more; what it signs until ``now + overlap`` still counts.

        The overlap (one hour unless told) is for the processes that have not reloaded yet: they go on with the old
        key, and nobody refuses them.
        """
        key = SigningKey.generate(algorithm, name=self._system)
        key.save(self._directory / f"{key.key_id}.pem")
        with self._lock:
            ring = _read_json(self._directory / "ring.json")
            for entry in ring["keys"]:
                entry.setdefault("signs_until", to_wire(now + (overlap or timedelta(hours=1))))
            ring["keys"].append({"key_id": key.key_id, "signs_from": to_wire(now)})
            ring["current"] = key.key_id
            _write_json(self._directory / "ring.json", ring)
        self.reload()
        return self._current

    def revoke(self, key_id: str, *, now: datetime) -> None:
        """Signatures of this key from ``now`` on count no more. Raises KeyError; ValueError for the current key."""
        if key_id == self._current.key_id:
            raise ValueError("rotate first: the current key cannot be revoked")
        with self._lock:
            ring = _read_json(self._directory / "ring.json")
            entry = {e["key_id"]: e for e in ring["keys"]}[key_id]
            entry["revoked_at"] = to_wire(now)
            _write_json(self._directory / "ring.json", ring)
        self.reload()

    def reload_if_changed(self) -> bool:
        """Take over what another process rotated. Costs one ``stat``; call it every few seconds."""
        if (self._directory / "ring.json").stat().st_mtime_ns == self._stamp:
            return False
        self.reload()
        return True

    def reload(self) -> None:
        with self._lock:
            stamp = (self._directory / "ring.json").stat().st_mtime_ns
            ring = _read_json(self._directory / "ring.json")
            keys = {entry["key_id"]: self._load(entry["key_id"]) for entry in ring["keys"]}
            self._records = {e["key_id"]: self._record(keys[e["key_id"]], e) for e in ring["keys"]}
            self._certificates = {key.key_id: key.certificate_pem for key in keys.values()}
            self._current = keys[ring["current"]]
            self._stamp = stamp

    def _load(self, key_id: str) -> SigningKey:
        key = SigningKey.load(self._directory / f"{key_id}.pem")
        if key.key_id != key_id or not key.certificate_pem:
            raise Malformed("key-unreadable")
        return key

    def _record(self, key: SigningKey, entry: dict[str, str]) -> PublicKeyRecord:
        certificate = x509.load_pem_x509_certificate(key.certificate_pem.encode("ascii"))
        until = certificate.not_valid_after_utc
        if "signs_until" in entry:
            until = min(until, from_wire(entry["signs_until"]))
        return PublicKeyRecord(
            key_id=key.key_id,
            public_key=key.public_key,
            algorithm=key.algorithm,
            thumbprint=key.thumbprint,
            system=self._system,
            agency=self._system.agency,
            not_before=certificate.not_valid_before_utc,
            not_after=until,
            revoked_at=from_wire(entry["revoked_at"]) if "revoked_at" in entry else None,
            attests=True,
        )


# --- facts about keys ------------------------------------------------------------------------------------------------


def jwk_of(public_key: PublicKey) -> dict[str, str]:
    """The members of the JWK that make its RFC 7638 thumbprint, in that RFC's order (lexicographic)."""
    if isinstance(public_key, rsa.RSAPublicKey):
        numbers = public_key.public_numbers()
        return {"e": _uint(numbers.e), "kty": "RSA", "n": _uint(numbers.n)}
    point = public_key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url.encode(point.x.to_bytes(32, "big")),
        "y": base64url.encode(point.y.to_bytes(32, "big")),
    }


def key_id_of(public_key: PublicKey) -> str:
    """RFC 7638 thumbprint with SHA-256, base64url."""
    canonical = json.dumps(jwk_of(public_key), separators=(",", ":"), sort_keys=True)
    return base64url.encode(hashlib.sha256(canonical.encode("ascii")).digest())


def algorithm_of(public_key: object) -> Algorithm:
    """The one algorithm a key of this kind signs with here. Raises Malformed(key-weak)."""
    return "PS256" if isinstance(checked_public_key(public_key), rsa.RSAPublicKey) else "ES256"


def checked_public_key(public_key: object) -> PublicKey:
    """The same key when it may be used here: P-256, or RSA of 2048 to 4096 bits. Raises Malformed(key-weak)."""
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1):
        return public_key
    if isinstance(public_key, rsa.RSAPublicKey):
        bits, exponent = public_key.key_size, public_key.public_numbers().e
        if MIN_RSA_BITS <= bits <= MAX_RSA_BITS and exponent >= 65537:
            return public_key
    raise Malformed("key-weak", minimum=MIN_RSA_BITS, maximum=MAX_RSA_BITS)


def certificate_thumbprint(certificate: x509.Certificate) -> str:
    return base64url.encode(certificate.fingerprint(hashes.SHA256()))


def self_signed_certificate(private_key: PrivateKey, *, name: str, days: int) -> str:
    """A certificate that says no more than "this key", PEM. It starts five minutes ago, for clocks that lag."""
    start = utc_now() - timedelta(minutes=5)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    certificate = builder.sign(private_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _checked_private_key(private_key: object) -> PrivateKey:
    if isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        checked_public_key(private_key.public_key())
        return private_key
    raise Malformed("key-weak", minimum=MIN_RSA_BITS, maximum=MAX_RSA_BITS)


def _first_certificate(pem: bytes) -> str:
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        return ""
    return _certificate(pem).public_bytes(serialization.Encoding.PEM).decode("ascii")


def _certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in a PEM text."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion):
        raise Malformed("certificate-unreadable") from None


def _uint(value: int) -> str:
    return base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


# --- private files ---------------------------------------------------------------------------------------------------


def write_private_file(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write ``data`` so that only its owner can read it (0600), and so that no reader sees half of it.

    With ``new`` an existing file is left as it is and FileExistsError raised: of several processes that start at once
    on an empty folder exactly one makes the keys. The file is never readable by others, not even between creation and
    chmod: mkstemp creates it 0600.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_json(path: Path, document: dict[str, Any], *, new: bool = False) -> None:
    write_private_file(path, json.dumps(document, indent=2).encode("ascii"), new=new)


def _read_json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document
