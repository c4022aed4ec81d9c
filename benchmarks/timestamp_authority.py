"""A timestamp authority of our own (RFC 3161): certificates made here, answers by ``openssl ts``, a real HTTP server.

It answers as the authorities of certificate vendors do; on loopback, under names that nobody owns.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from benchmarks.certificates import Issued, Key, issue, new_root

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


class AuthorityMissing(RuntimeError):
    """There is no openssl on this machine."""


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
