"""WS-Security for SOAP providers that verify who calls: key from the secret, the rest from the settings."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.templates import Facts
from schemas.problem import Malformed, ProviderUnavailable
from security.keys import PrivateKey, SigningKey
from security.ws_security import sign_ws_security


class SoapSigning:
    """Signs envelopes with keys from secrets, each read once: reading an RSA key costs more than signing with it."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        #: By the SHA-256 of the secret, so that the secret itself is not kept once more.
        self._keys: OrderedDict[bytes, tuple[PrivateKey, str]] = OrderedDict()
        self._lock = threading.Lock()

    def sign(self, envelope: bytes, wanted: object, facts: Facts) -> bytes:
        """The envelope with a Security header. Raises ProviderUnavailable: ``endpoint-invalid``,
        ``endpoint-secret-missing``."""
        options = _signing_options(wanted)
        private_key, certificate = self._key(facts.pem().encode())
        try:
            return sign_ws_security(envelope, private_key, certificate, facts.moment, **options)
        except ValueError:  # a Security header from a template as well, or a block to sign that is not there
            raise ProviderUnavailable("endpoint-invalid", setting="ws_security") from None
        except Malformed:
            raise ProviderUnavailable("endpoint-secret-missing") from None

    def _key(self, pem: bytes) -> tuple[PrivateKey, str]:
        digest = hashlib.sha256(pem).digest()
        with self._lock:
            if digest not in self._keys:
                self._keys[digest] = _read_key(pem)
                if len(self._keys) > self._most:
                    self._keys.popitem(last=False)
            return self._keys[digest]


def _read_key(pem: bytes) -> tuple[PrivateKey, str]:
    """The private key in a PEM text and the certificate beside it. Raises ProviderUnavailable."""
    try:
        private_key = load_pem_private_key(pem, None)
        certificate = SigningKey.from_pem(pem).certificate_pem
    except (ValueError, TypeError, Malformed):
        raise ProviderUnavailable("endpoint-secret-missing") from None
    if not certificate or not isinstance(private_key, PrivateKey):
        raise ProviderUnavailable("endpoint-secret-missing")
    return private_key, certificate


def _signing_options(wanted: object) -> dict[str, Any]:
    """Arguments for the signature from the setting ``ws_security``. Raises ProviderUnavailable for what is no such."""
    options: dict[str, Any] = dict(wanted) if isinstance(wanted, Mapping) else {"": None}
    algorithm = options.pop("algorithm", "rsa-sha256")
    blocks = options.pop("signed_blocks", ())
    lifetime = options.pop("lifetime_seconds", 300)
    must_understand = options.pop("must_understand", True)
    fits = (
        not options
        and algorithm in ("rsa-sha256", "rsa-pss-sha256", "ecdsa-sha256")
        and isinstance(blocks, list | tuple)
        and all(isinstance(block, str) for block in blocks)
        and type(lifetime) is int
        and 0 < lifetime <= 3600
        and isinstance(must_understand, bool)
    )
    if not fits:
        raise ProviderUnavailable("endpoint-invalid", setting="ws_security")
    return {
        "pss": algorithm == "rsa-pss-sha256",
        "signed_blocks": frozenset(blocks),
        "lifetime_seconds": lifetime,
        "must_understand": must_understand,
    }
