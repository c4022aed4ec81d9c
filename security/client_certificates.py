"""A client certificate that a TLS proxy has verified: whose is it? (RFC 9440)

::

    Client-Cert: :MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6…:        DER in base64 between colons, one certificate

The proxy has seen that the caller holds the private key and which authority signed the certificate. Whose it is says
the registry, which knows the very certificates of its members: an authority may sign for many others.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from schemas.problem import Malformed, NotIdentified
from security.certificates import CertificateFacts, read_certificate
from security.keys import KeyDirectory, PublicKeyRecord
from security.signing import check_key_window

#: RFC 8941: a byte sequence, and nothing after it. Two headers of that name arrive joined by a comma and are none.
_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
#: Longest header that is looked at; certificates have one to three thousand bytes.
_MAX_LENGTH = 16 * 1024


def identify_by_certificate(header: str, keys: KeyDirectory, now: datetime) -> PublicKeyRecord:
    """The registered key of the certificate in a ``Client-Cert`` header that a trusted proxy has written.

    Raises NotIdentified: client-certificate-unreadable, client-certificate-unknown, key-not-yet-valid, key-expired,
    key-revoked.
    """
    facts = _certificate(header)
    key = keys.find_key(facts.key_id)
    # The bus's own keys vouch for others; nobody at the door is the bus.
    if key is None or key.thumbprint != facts.thumbprint or key.attests:
        raise NotIdentified("client-certificate-unknown")
    check_key_window(key, now)
    return key


@lru_cache(maxsize=1024)
def _certificate(header: str) -> CertificateFacts:
    """The same callers come again and again, and reading a certificate costs 150 µs. A refusal is not remembered."""
    match = _BYTE_SEQUENCE.fullmatch(header.strip()) if len(header) <= _MAX_LENGTH else None
    if match is None:
        raise NotIdentified("client-certificate-unreadable")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(match[1], validate=True))
        return read_certificate(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    except (ValueError, binascii.Error, x509.InvalidVersion, UnsupportedAlgorithm, Malformed):
        raise NotIdentified("client-certificate-unreadable") from None
