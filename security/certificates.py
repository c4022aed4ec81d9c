"""Certificates: reading what a partner hands in, following it to an authority, and the sandbox's own authority.

A certificate here binds a key to a system; trust in the binding comes from the registry (an operator or an authority
vouched for it), never from what a message carries along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import Malformed
from security.keys import (
    Algorithm,
    PublicKey,
    PublicKeyRecord,
    SigningKey,
    algorithm_of,
    certificate_thumbprint,
    checked_public_key,
    key_id_of,
    write_private_file,
)

#: Largest certificate text that is read at all, in bytes; real ones have one to three thousand.
MAX_PEM_LENGTH = 32 * 1024
SANDBOX_AUTHORITY_DAYS = 3650
#: Intermediate authorities between a certificate and a trusted one (the government's tree has two levels).
_MAX_CHAIN_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says that matters here; the registry keeps it as ``registry.model.Certificate``."""

    key_id: str
    #: Written anew from what was read, so that equal certificates have equal texts.
    pem: str
    thumbprint: str
    not_before: datetime
    not_after: datetime
    algorithm: Algorithm
    public_key: PublicKey
    #: RFC 4514 text, for people.
    subject: str
    issuer: str


def read_certificate(pem: str) -> CertificateFacts:
    """The first certificate in a PEM text.

    Raises Malformed(certificate-unreadable); Malformed(key-weak) for RSA under 2048 bits and curves but P-256.
    """
    certificate = _parse(pem)
    public_key = checked_public_key(_public_key_of(certificate))
    return CertificateFacts(
        key_id=key_id_of(public_key),
        pem=_pem(certificate),
        thumbprint=certificate_thumbprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        algorithm=algorithm_of(public_key),
        public_key=public_key,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
    )


def key_record(
    facts: CertificateFacts,
    system: SystemCode,
    *,
    revoked_at: datetime | None = None,
    speaks_for_children: bool = False,
) -> PublicKeyRecord:
    """The certificate as an entry of a key directory. Build it once, not per message: parsing costs 100 µs."""
    return PublicKeyRecord(
        key_id=facts.key_id,
        public_key=facts.public_key,
        algorithm=facts.algorithm,
        thumbprint=facts.thumbprint,
        system=system,
        agency=system.agency,
        not_before=facts.not_before,
        not_after=facts.not_after,
        revoked_at=revoked_at,
        speaks_for_children=speaks_for_children,
    )


def check_path(pem: str, authorities: Sequence[str], now: datetime, *, intermediates: Sequence[str] = ()) -> None:
    """Does the certificate lead to one of the trusted authorities at this moment?

    Path validation of ``cryptography`` (RFC 5280 with the Web PKI's rules for authorities): signatures, validity,
    basic constraints, key usage, path length. The end certificate may carry any extensions: those of the government
    authority do not follow the Web PKI. Says nothing of revocation. Raises Malformed(certificate-unreadable,
    certificate-untrusted).
    """
    roots = [_parse(authority) for authority in authorities]
    if not roots:
        raise Malformed("certificate-untrusted")
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(roots))
        .time(now)
        .max_chain_depth(_MAX_CHAIN_DEPTH)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )
    try:
        verifier.verify(_parse(pem), [_parse(intermediate) for intermediate in intermediates])
    except verification.VerificationError:
        raise Malformed("certificate-untrusted") from None


class SandboxAuthority:
    """A certificate authority for the sandbox and for tests. Its key lies unencrypted on disk: never use it in earnest.

    On disk: ``authority.key`` (key and certificate, 0600) and ``authority.pem`` (certificate, for everybody).
    """

    def __init__(self, directory: Path) -> None:
        """Open an existing authority. Raises FileNotFoundError, Malformed(key-unreadable)."""
        data = (directory / "authority.key").read_bytes()
        self._private_key = _authority_key(data)
        self._certificate = _parse(data.decode("ascii"))
        self.certificate_pem = _pem(self._certificate)

    @classmethod
    def create(cls, directory: Path, name: str) -> SandboxAuthority:
        """A new authority with a P-256 key. Raises FileExistsError when the directory has one already."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (directory / "authority.key").exists():
            raise FileExistsError(str(directory / "authority.key"))
        private_key = ec.generate_private_key(ec.SECP256R1())
        certificate_pem = _pem(_authority_certificate(private_key, name)).encode("ascii")
        key_pem = private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private_file(directory / "authority.key", key_pem + certificate_pem, new=True)
        (directory / "authority.pem").write_bytes(certificate_pem)
        return cls(directory)

    @classmethod
    def open_or_create(cls, directory: Path, name: str) -> SandboxAuthority:
        try:
            return cls.create(directory, name)
        except FileExistsError:
            return cls(directory)

    def issue(self, system: SystemCode, key: SigningKey, days: int = 365) -> str:
        """A certificate for a system's key, PEM. The system's code is its common name and a URN in its alternative
        names (``urn:lgsp:system:H99.15/mot-cua``)."""
        start = utc_now() - timedelta(minutes=5)
        end = min(start + timedelta(days=days), self._certificate.not_valid_after_utc)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, system[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_messages=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:lgsp:system:{system}")]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private_key.public_key()), critical=False
            )
        )
        return _pem(builder.sign(self._private_key, hashes.SHA256()))

    def issue_key(self, system: SystemCode, *, algorithm: Algorithm = "ES256", days: int = 365) -> SigningKey:
        """A fresh key with its certificate from this authority, for sandbox systems."""
        key = SigningKey.generate(algorithm, name=system)
        return key.with_certificate(self.issue(system, key, days))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _authority_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        private_key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise Malformed("key-unreadable") from None
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise Malformed("key-unreadable")
    return private_key


def _authority_certificate(private_key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    start = utc_now() - timedelta(minutes=5)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    key_identifier = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=SANDBOX_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_messages=False), critical=True)
        .add_extension(key_identifier, critical=False)
        .sign(private_key, hashes.SHA256())
    )


def _key_usage(*, signs_messages: bool) -> x509.KeyUsage:
    """A system's key signs messages, an authority's key signs certificates and revocation lists; nothing else."""
    return x509.KeyUsage(
        digital_signature=signs_messages,
        content_commitment=signs_messages,
        key_cert_sign=not signs_messages,
        crl_sign=not signs_messages,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _parse(pem: str) -> x509.Certificate:
    try:
        if len(pem) > MAX_PEM_LENGTH:
            raise ValueError("too long")
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except (ValueError, x509.InvalidVersion):
        raise Malformed("certificate-unreadable") from None


def _public_key_of(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("certificate-unreadable") from None
