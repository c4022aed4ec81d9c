"""A timestamp authority of our own (RFC 3161): certificates made here, answers by ``openssl ts``, a real HTTP server.

It answers as the authorities of certificate vendors do; on loopback, under names that nobody owns.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY = "1.2.3.4.1"
_CONFIGURATION = """\
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/stamper.pem
signer_key = {folder}/stamper.key
signer_digest = {digest}
default_policy = {policy}
other_policies = 1.2.3.4.2
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = {named_by}
"""
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class AuthorityMissing(RuntimeError):
    """There is no openssl on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def new_root(name: str) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    return issue(name, key, None, authority=True, days=(-30, 30))


def issue(
    name: str,
    key: Key,
    issuer: Issued | None,
    *,
    authority: bool = False,
    usages: Sequence[x509.ObjectIdentifier] = (),
    usages_are_critical: bool = True,
    days: tuple[float, float] = (-1, 30),
    path_length: int | None = None,
    hosts: Sequence[x509.GeneralName] = (),
) -> Issued:
    """A certificate of this issuer, or of its own; good from and until so many days from now."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_key_usage(authority), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=usages_are_critical)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return Issued(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class TimestampServer:
    """The authority with its files below ``folder``. It may be stopped and started again, on the same port."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Issued | None = None,
        key: Key | None = None,
        digest: str = "sha256",
        named_by: str = "sha256",
    ) -> None:
        """Raises AuthorityMissing."""
        self._openssl = shutil.which("openssl")
        if self._openssl is None:
            raise AuthorityMissing("openssl is not here; on Debian or Ubuntu: apt install openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.root = root or new_root("CA dau thoi gian mau")
        key = key or ec.generate_private_key(ec.SECP256R1())
        self.stamper = issue("TSA mau", key, self.root, usages=[ExtendedKeyUsageOID.TIME_STAMPING])
        self.roots_file = folder / "roots.pem"
        self.roots_file.write_bytes(self.root.pem)
        (folder / "stamper.pem").write_bytes(self.stamper.pem)
        (folder / "stamper.key").write_bytes(self.stamper.key_pem)
        (folder / "serial").write_text("01\n")
        self._configuration = folder / "tsa.cnf"
        text = _CONFIGURATION.format(folder=folder, digest=digest, policy=POLICY, named_by=named_by)
        self._configuration.write_text(text)
        self._serial = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        #: How many questions came over HTTP.
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tsa"

    def reply(self, query: bytes) -> bytes:
        """The answer to a question, both in DER."""
        with self._serial:  # openssl counts in a file
            asked = self._folder / "asked.tsq"
            asked.write_bytes(query)
            command = [
                str(self._openssl),
                "ts",
                "-reply",
                "-config",
                str(self._configuration),
                "-queryfile",
                str(asked),
            ]
            return subprocess.run(command, capture_output=True, check=True).stdout

    def start(self) -> None:
        authority = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                authority.asked += 1
                answer = authority.reply(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Connection", "close")  # who stops it must not wait for those who are connected
                self.end_headers()
                self.wfile.write(answer)
                self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: whoever wants to know asks."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Answering)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nothing listens any more. Safe to repeat."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
