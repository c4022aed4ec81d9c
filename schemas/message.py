"""The values that travel: Envelope → Message, with its Manifest, and the Receipt that answers it.

An :class:`Envelope` is what came through the door: bytes and headers that nobody has checked. A :class:`Message`
exists only after step 2 (identify): its sender is proven and its manifest binds the very bytes of its body.
All values are frozen and safe to share between threads; times are aware UTC.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.problem import Malformed

T = TypeVar("T")

SHA256_HEX = re.compile(r"[0-9a-f]{64}")
#: A message to every commune of a province and every department fits; a broadcast to the country is several messages.
MAX_RECEIVERS = 1000
MAX_ATTACHMENTS = 100
#: Lengths in a manifest stay exact in every JSON reader (RFC 8259, section 6: 2^53 - 1).
MAX_LENGTH = 2**53 - 1
#: 9999-12-31T23:59:59Z, the last second that a datetime can hold.
MAX_NUMERIC_DATE = 253402300799


class Direction(StrEnum):
    REQUEST = "request"
    REPLY = "reply"


class Grade(StrEnum):
    """Who vouches for the manifest: its sender (*signed*), or the bus for a caller it identified (*attested*)."""

    SIGNED = "signed"
    ATTESTED = "attested"


class Means(StrEnum):
    """How a caller proved who it is."""

    MANIFEST = "manifest"
    TOKEN = "token"
    CERTIFICATE = "certificate"
    #: A provider that does not sign its replies: the bus itself called its registered endpoint.
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who stands at the door: a registered system speaking for its agency."""

    agency: AgencyCode
    system: SystemCode
    means: Means
    #: RFC 7638 thumbprint of the key that proved it; empty for a token.
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One arrival, unchecked: the body as received and the headers the bus understands, names in lower case."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    received_at: datetime
    #: W3C trace context of this arrival, ``00-<32 hex>-<16 hex>-<2 hex>``.
    traceparent: str

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentReference:
    """A file that travels beside the message, named by its digest."""

    sha256: str
    length: int
    name: str = ""
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the sender promises about one message: the small object that is signed.

    Digests are lower-case hex SHA-256, lengths are bytes, ``issued_at`` has whole seconds (JWT ``iat``, RFC 7519).
    The wire form is the JSON object written by :meth:`to_claims`, carried as a compact JWS with
    ``typ: lgsp-evidence+jws``.
    """

    message_id: MessageId
    sender: AgencyCode
    receivers: tuple[AgencyCode, ...]
    service: ServiceCode
    service_version: int
    issued_at: datetime
    content_type: str
    body_sha256: str
    body_length: int
    direction: Direction = Direction.REQUEST
    purpose: str = ""
    schema_id: str = ""
    schema_sha256: str = ""
    attachments: tuple[AttachmentReference, ...] = ()
    dossier: DossierCode | None = None
    #: The officer or account on whose behalf the sender acts (population look-ups must name one).
    user: str = ""
    #: In a reply: SHA-256 of the request's manifest (its exact signed JSON).
    request_manifest_sha256: str = ""
    #: In a manifest written by the bus for a caller that does not sign: how it was identified, and which system it is.
    attested_means: Means | None = None
    attested_system: SystemCode | None = None
    version: int = 1

    def to_claims(self) -> dict[str, Any]:
        """The JSON object to sign, keys in wire order, absent facts left out."""
        claims: dict[str, Any] = {
            "version": self.version,
            "message_id": self.message_id,
            "direction": self.direction.value,
            "sender": self.sender,
            "receivers": list(self.receivers),
            "service": self.service,
            "service_version": self.service_version,
            "iat": int(self.issued_at.timestamp()),
            "content_type": self.content_type,
            "body": {"sha256": self.body_sha256, "length": self.body_length},
        }
        if self.purpose:
            claims["purpose"] = self.purpose
        if self.dossier is not None:
            claims["dossier"] = self.dossier
        if self.user:
            claims["user"] = self.user
        if self.schema_id:
            claims["schema"] = {"id": self.schema_id, "sha256": self.schema_sha256}
        if self.attachments:
            claims["attachments"] = [
                {"sha256": a.sha256, "length": a.length, "name": a.name, "content_type": a.content_type}
                for a in self.attachments
            ]
        if self.request_manifest_sha256:
            claims["request"] = {"manifest_sha256": self.request_manifest_sha256}
        if self.attested_means is not None:
            claims["attested"] = {"means": self.attested_means.value, "system": self.attested_system}
        return claims

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Manifest:
        """The manifest in a signed JSON object. Raises Malformed naming the first member that is missing or wrong;
        unknown members are refused too, so that nothing signed is ever silently ignored."""
        read = _ClaimsReader(claims)
        body = read.section("body", required=True)
        schema = read.section("schema")
        request = read.section("request")
        attested = read.section("attested")
        manifest = cls(
            version=read.integer("version", low=1, high=1),
            message_id=read.made("message_id", MessageId),
            direction=read.made("direction", Direction),
            sender=read.made("sender", AgencyCode),
            receivers=tuple(read.made_list("receivers", AgencyCode, low=1, high=MAX_RECEIVERS)),
            service=read.made("service", ServiceCode),
            service_version=read.integer("service_version", low=1, high=9999),
            issued_at=datetime.fromtimestamp(read.integer("iat", low=0, high=MAX_NUMERIC_DATE), UTC),
            content_type=read.text("content_type", high=100),
            body_sha256=body.digest("sha256"),
            body_length=body.integer("length", low=0, high=MAX_LENGTH),
            purpose=read.text("purpose", high=100, default=""),
            dossier=read.made("dossier", DossierCode) if "dossier" in claims else None,
            user=read.text("user", high=100, default=""),
            schema_id=schema.text("id", high=300) if schema else "",
            schema_sha256=schema.digest("sha256") if schema else "",
            attachments=tuple(
                AttachmentReference(
                    sha256=item.digest("sha256"),
                    length=item.integer("length", low=0, high=MAX_LENGTH),
                    name=item.text("name", high=200, default=""),
                    content_type=item.text("content_type", high=100, default="application/octet-stream"),
                )
                for item in read.sections("attachments", high=MAX_ATTACHMENTS)
            ),
            request_manifest_sha256=request.digest("manifest_sha256") if request else "",
            attested_means=attested.made("means", Means) if attested else None,
            attested_system=attested.made("system", SystemCode) if attested else None,
        )
        for section in (read, body, schema, request, attested):
            if section:
                section.refuse_the_unread()
        return manifest

    def facts_sha256(self) -> str:
        """Digest of everything the manifest says but when it was signed.

        Two manifests with the same facts are the same message: a sender that signs again before it repeats a message
        after a long outage gets its first receipt, not a conflict.
        """
        claims = self.to_claims()
        del claims["iat"]
        return sha256_hex(json.dumps(claims, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message whose sender is proven and whose manifest matches its body. Made by ``security.identity`` only."""

    manifest: Manifest
    #: The compact JWS as received (or as written by the bus for an attested message).
    manifest_jws: str
    #: SHA-256 over the exact signed JSON of the manifest, lower-case hex: the message's name in the evidence.
    manifest_sha256: str
    grade: Grade
    principal: Principal
    body: bytes
    received_at: datetime
    traceparent: str

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The bus's signed word that a message is recorded (given only after the disk has it)."""

    message_id: MessageId
    state: str
    received_at: datetime
    receivers: tuple[AgencyCode, ...]
    #: RFC 6962 leaf hash of the evidence entry, lower-case hex.
    leaf: str
    #: Compact JWS (``typ: lgsp-receipt+jws``) by the bus over the same facts and the manifest's digest.
    receipt: str


#: Digest of no bytes at all.
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def sha256_hex(data: bytes) -> str:
    """Lower-case hex SHA-256, the spelling of every digest on the bus."""
    return hashlib.sha256(data).hexdigest()


class _ClaimsReader:
    """Reads members of a JSON object strictly and remembers which were read."""

    __slots__ = ("_claims", "_path", "_seen")

    def __init__(self, claims: Any, path: str = "") -> None:
        if not isinstance(claims, Mapping):
            raise Malformed("manifest-invalid", member=path or "(root)")
        self._claims = claims
        self._path = path
        self._seen: set[str] = set()

    def integer(self, name: str, *, low: int, high: int) -> int:
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name)
        return value

    def text(self, name: str, *, high: int, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > high:
            raise self._wrong(name)
        return value

    def digest(self, name: str) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not SHA256_HEX.fullmatch(value):
            raise self._wrong(name)
        return value

    def made(self, name: str, make: Callable[[str], T]) -> T:
        return self._make(name, self._take(name), make)

    def made_list(self, name: str, make: Callable[[str], T], *, low: int, high: int) -> list[T]:
        values = self._take(name)
        if not isinstance(values, list) or not low <= len(values) <= high or len(set(map(str, values))) != len(values):
            raise self._wrong(name)
        return [self._make(name, value, make) for value in values]

    def section(self, name: str, *, required: bool = False) -> _ClaimsReader | None:
        if not required and name not in self._claims:
            return None
        return _ClaimsReader(self._take(name), name)

    def sections(self, name: str, *, high: int) -> list[_ClaimsReader]:
        values = self._take(name, [])
        if not isinstance(values, list) or len(values) > high:
            raise self._wrong(name)
        return [_ClaimsReader(value, name) for value in values]

    def refuse_the_unread(self) -> None:
        if len(self._seen) != len(self._claims):
            raise Malformed("manifest-unknown-member", section=self._path or "(root)")

    def _take(self, name: str, default: Any = None) -> Any:
        self._seen.add(name)
        value = self._claims.get(name, default)
        if name not in self._claims:
            self._seen.discard(name)
        return value

    def _make(self, name: str, value: Any, make: Callable[[str], T]) -> T:
        if not isinstance(value, str):
            raise self._wrong(name)
        try:
            return make(value)
        except (ValueError, Malformed):
            raise self._wrong(name) from None

    def _wrong(self, name: str) -> Malformed:
        return Malformed("manifest-invalid", member=f"{self._path}.{name}".lstrip("."))
