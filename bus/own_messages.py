"""Messages of the bus itself: as its member system, signed with its own key.

They take the way of every message (``bus.intake``): the bus's agency needs grants like any other member, the payload
must fit its service, and the evidence has it. Whoever sends one names it by what does not change: sent again after a
crash it is the same message, which has the same receipt and is delivered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from registry.model import Service
from schemas.identifiers import AgencyCode, DossierCode, MessageId, SystemCode
from schemas.message import Envelope, Manifest, sha256_hex
from security.keys import KeyRing
from security.signing import sign_manifest


def own_envelope(
    ring: KeyRing,
    system: SystemCode,
    *,
    message_id: MessageId,
    receivers: Sequence[AgencyCode],
    service: Service,
    body: bytes,
    content_type: str,
    traceparent: str,
    now: datetime,
    purpose: str = "",
    dossier: DossierCode | None = None,
) -> Envelope:
    """The message as it stands at the door."""
    manifest = Manifest(
        message_id=message_id,
        sender=system.agency,
        receivers=tuple(receivers),
        service=service.code,
        service_version=service.version,
        issued_at=now.replace(microsecond=0),
        content_type=content_type,
        body_sha256=sha256_hex(body),
        body_length=len(body),
        purpose=purpose,
        dossier=dossier,
    )
    return Envelope(
        body=body,
        content_type=content_type,
        headers={"lgsp-manifest": sign_manifest(manifest, ring)},
        received_at=now,
        traceparent=traceparent,
    )
