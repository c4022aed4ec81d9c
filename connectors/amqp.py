"""The mailbox: what is due for a member that consumes from the broker, sealed for its registered key.

::

    queue   lgsp.member.<system>
    body    JWE of the payload, typ lgsp-payload+jwe, cty the payload's own media type    (security/sealing.py)
    properties  content_type application/jose, message_id = the message's id, persistent
    headers lgsp-manifest   JWE of the manifest (a JWS), typ lgsp-manifest+jwe: a manifest names files and officials
            lgsp-receipt    the bus's receipt (a JWS): digests, codes and moments only
            traceparent     W3C Trace Context

Both are sealed for one key: of the certificates of the member that are valid now the one that became valid last. The
broker, its disks and its operators' pages hold nothing that says what a message is about.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from connectors.base import Letter, Mailboxes, Parcel, Reply
from connectors.http import HttpClient
from registry.model import Certificate, Endpoint
from schemas.moment import utc_now
from schemas.problem import ProviderRejected, ProviderUnavailable
from security.certificates import read_certificate
from security.keys import PublicKey
from security.sealing import seal

PAYLOAD_TYPE = "lgsp-payload+jwe"
MANIFEST_TYPE = "lgsp-manifest+jwe"
SEALED_CONTENT_TYPE = "application/jose"
#: Headers of a letter travel in one frame, of 128 KiB by the broker's default; this leaves it some room.
MAX_HEADER_BYTES = 120_000


class AmqpConnector:
    """Puts parcels into members' mailboxes. Safe under threads."""

    def __init__(self, _http: HttpClient | None = None) -> None:
        self._mailboxes: Mailboxes | None = None

    def put_into(self, mailboxes: Mailboxes) -> None:
        """See :class:`connectors.base.UsesMailboxes`."""
        self._mailboxes = mailboxes

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. Returns when the mailbox has it; the reply is empty.

        Raises ProviderUnavailable ``sealing-key-missing`` while the member has no valid certificate: it may register
        one, and the message waits.
        """
        if self._mailboxes is None:
            raise ProviderUnavailable("mailbox-unreachable")
        self._mailboxes.put(letter_of(parcel, utc_now()), endpoint.timeout_seconds)
        return Reply()

    def close(self) -> None:
        """The mailboxes belong to who gave them."""


def letter_of(parcel: Parcel, now: datetime) -> Letter:
    """The parcel, sealed. Raises ProviderUnavailable, and ProviderRejected ``mail-too-large``."""
    if parcel.system is None:
        raise ProviderUnavailable("receiver-not-connected")
    key = sealing_key(parcel.system.certificates, now)
    if key is None:
        raise ProviderUnavailable("sealing-key-missing")
    headers = {
        "lgsp-manifest": seal(parcel.manifest_jws.encode("ascii"), key, typ=MANIFEST_TYPE),
        "lgsp-receipt": parcel.receipt_jws,
        "traceparent": parcel.traceparent,
    }
    if sum(map(len, headers.values())) > MAX_HEADER_BYTES:
        raise ProviderRejected("mail-too-large")
    body = seal(parcel.body, key, typ=PAYLOAD_TYPE, content_type=parcel.manifest.content_type)
    return Letter(
        mailbox=parcel.system.code,
        message_id=parcel.manifest.message_id,
        body=body.encode("ascii"),
        content_type=SEALED_CONTENT_TYPE,
        headers=headers,
    )


def sealing_key(certificates: tuple[Certificate, ...], now: datetime) -> PublicKey | None:
    """The key to seal for: the newest that counts now."""
    valid = [
        held
        for held in certificates
        if held.not_before <= now <= held.not_after and (held.revoked_at is None or now < held.revoked_at)
    ]
    return _public_key(max(valid, key=lambda held: held.not_before).pem) if valid else None


@lru_cache(maxsize=1024)
def _public_key(pem: str) -> PublicKey:
    """Parsed once: it costs as much as sealing does."""
    return read_certificate(pem).public_key
