"""Dossiers ready to be sent: signed and spelled out as HTTP, so that a measured run spends nothing on making them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uuid6

from benchmarks.load import http_request
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode
from schemas.message import Manifest
from security.keys import Signer
from security.signing import sign_manifest

EXAMPLE = Path(__file__).resolve().parent.parent / "schemas" / "examples" / "dossier.json"
#: Dossier codes are spread over this many departments, so that order per dossier never makes one line of all.
PREFIXES = tuple(f"H99.{number}" for number in range(15, 23))
#: What the hand-made pipeline asks its callers for.
USER, PASSWORD = "one-stop", "invented-for-the-benchmark"
_CODE_IN_EXAMPLE = b"H99.15-260423-0001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """One dossier and its names; the body is the example with its own code in it, about 3 KB."""

    message_id: MessageId
    code: DossierCode
    body: bytes


def make_dossiers(count: int, *, messages_per_dossier: int = 1) -> list[Dossier]:
    """``count`` dossiers with UUIDv7 message ids. Raises RuntimeError when the example does not name its code."""
    example = EXAMPLE.read_bytes()
    if _CODE_IN_EXAMPLE not in example:
        raise RuntimeError("the example dossier has another code than the benchmark replaces")
    today = f"{datetime.now(UTC):%y%m%d}"
    dossiers = []
    for index in range(count):
        turn, prefix = divmod(index // messages_per_dossier, len(PREFIXES))
        code = DossierCode(f"{PREFIXES[prefix]}-{today}-{turn + 1:05d}")
        body = example.replace(_CODE_IN_EXAMPLE, code.encode("ascii"))
        dossiers.append(Dossier(message_id=MessageId(str(uuid6.uuid7())), code=code, body=body))
    return dossiers


def signed_requests(
    dossiers: Sequence[Dossier],
    signer: Signer,
    *,
    sender: AgencyCode,
    receivers: Sequence[AgencyCode],
    service: ServiceCode,
    service_version: int = 1,
    purpose: str = "",
    path: str = "/v1/exchange",
) -> list[bytes]:
    """Requests for the bus, each with its own signed manifest (about 60 µs each to make).

    Manifests are issued now: use them within the bus's clock window (five minutes), and once.
    """
    issued_at = datetime.now(UTC).replace(microsecond=0)
    requests = []
    for dossier in dossiers:
        manifest = Manifest(
            message_id=dossier.message_id,
            sender=sender,
            receivers=tuple(receivers),
            service=service,
            service_version=service_version,
            issued_at=issued_at,
            content_type="application/json",
            body_sha256=hashlib.sha256(dossier.body).hexdigest(),
            body_length=len(dossier.body),
            purpose=purpose,
            dossier=dossier.code,
        )
        headers = {"Content-Type": "application/json", "Lgsp-Manifest": sign_manifest(manifest, signer)}
        requests.append(http_request(path, dossier.body, headers=headers))
    return requests


def basic_requests(dossiers: Sequence[Dossier], *, user: str, password: str, path: str = "/dossiers") -> list[bytes]:
    """The same dossiers for a pipeline that knows basic authentication and no signatures."""
    authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    headers = {"Content-Type": "application/json", "Authorization": authorization}
    return [
        http_request(path, dossier.body, headers={**headers, "X-Message-Id": dossier.message_id})
        for dossier in dossiers
    ]
