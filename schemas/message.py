"""The values that travel: Envelope → Message, with its Manifest, and the Receipt that answers it.

An :class:`Envelope` is what came through the door: bytes and headers that nobody has checked. A :class:`Message`
exists only after step 2 (identify): its sender is proven and its manifest binds the very bytes of its body.
All values are frozen and safe to share between threads; times are aware UTC.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from schemas.codec import canonical_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.problem import Malformed

if TYPE_CHECKING:
    from schemas.soap import SoapEnvelope

T = TypeVar("T")

SHA256_HEX = re.compile(r"[0-9a-f]{64}")
#: Every commune and department of a province fits (Hà Nội had 636 units); where codes are long, the manifest's own
#: limit of 16 KiB comes first. A broadcast to the country is several messages.
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
    TOKEN = "token"  # noqa: S105 - the name of a means, no secret
    CERTIFICATE = "certificate"
    #: An X.509 signature over Body, Timestamp and the bus's header block of a SOAP message.
    WS_SECURITY = "ws-security"
    #: A partner that calls in a protocol of its own, whose digest or session its receiver has checked.
    PARTNER = "partner"
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
class AttachmentReference:
    """A file that travels beside the message, named by its digest."""

    sha256: str
    length: int
    name: str = ""
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    """A file named in an envelope. ``content``: it came along; None: it was uploaded before."""

    reference: AttachmentReference
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One arrival, unchecked: the body as received and the headers the bus understands, names in lower case."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    received_at: datetime
    #: W3C trace context of this arrival, ``00-<32 hex>-<16 hex>-<2 hex>``.
    traceparent: str
    #: Files that the sender names beside the payload; a manifest of its own names them as well.
    attached: tuple[AttachedFile, ...] = ()
    #: The service whose own address it came to, ``code`` or ``code/version``; empty at an address that serves all.
    addressed_service: str = ""
    #: Who brings it, where a receiver of ``connectors/`` has proven that by the partner's own protocol.
    presenter: Principal | None = None
    #: The SOAP envelope that it came in, for those who identify its sender by it. The body is the payload all the same.
    soap: SoapEnvelope | None = field(default=None, repr=False, compare=False)
    #: What a trusted TLS proxy says of the caller's client certificate (the header ``Client-Cert``, RFC 9440).
    client_certificate: str = field(default="", repr=False)

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Where a body comes from that the bus translated (XML to JSON, one partner's shape to another's): the digest and
    length of the bytes that its author sent."""

    content_type: str
    sha256: str
    length: int
    #: SHA-256 of the author's own manifest (its exact signed JSON); empty when the author does not sign.
    manifest_sha256: str = ""


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
    #: In a manifest written by the bus over a body that it translated.
    translated: Translation | None = None
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
        if self.translated is not None:
            origin = self.translated
            claims["translated"] = {
                "content_type": origin.content_type,
                "sha256": origin.sha256,
                "length": origin.length,
            }
            if origin.manifest_sha256:
                claims["translated"]["manifest_sha256"] = origin.manifest_sha256
        return claims

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Manifest:
        """The manifest in a signed JSON object. Raises Malformed naming the first member that is missing or wrong;
        unknown members are refused too, so that nothing signed is ever silently ignored."""
        body = _section(_known(claims, _MEMBERS, "(root)"), "body")
        schema = _section(claims, "schema") if "schema" in claims else None
        request = _section(claims, "request") if "request" in claims else None
        attested = _section(claims, "attested") if "attested" in claims else None
        translated = _section(claims, "translated") if "translated" in claims else None
        if translated is not None and attested is None:  # only the bus translates, and it says for whom
            raise _wrong("translated")
        return cls(
            version=_integer(claims, "version", low=1, high=1),
            message_id=_made(claims, "message_id", MessageId),
            direction=_made(claims, "direction", Direction),
            sender=_made(claims, "sender", _agency),
            receivers=_receivers(claims),
            service=_made(claims, "service", _service),
            service_version=_integer(claims, "service_version", low=1, high=9999),
            issued_at=datetime.fromtimestamp(_integer(claims, "iat", low=0, high=MAX_NUMERIC_DATE), UTC),
            content_type=_text(claims, "content_type", high=100),
            body_sha256=_digest(body, "sha256", "body"),
            body_length=_integer(body, "length", low=0, high=MAX_LENGTH, section="body"),
            purpose=_text(claims, "purpose", high=100) if "purpose" in claims else "",
            dossier=_made(claims, "dossier", DossierCode) if "dossier" in claims else None,
            user=_text(claims, "user", high=100) if "user" in claims else "",
            schema_id="" if schema is None else _text(schema, "id", high=300, section="schema"),
            schema_sha256="" if schema is None else _digest(schema, "sha256", "schema"),
            attachments=_attachments(claims) if "attachments" in claims else (),
            request_manifest_sha256="" if request is None else _digest(request, "manifest_sha256", "request"),
            attested_means=None if attested is None else _made(attested, "means", Means, "attested"),
            attested_system=None if attested is None else _made(attested, "system", SystemCode, "attested"),
            translated=None if translated is None else _translation(translated),
        )

    def facts_sha256(self) -> str:
        """Digest of everything the manifest says but when it was signed.

        Two manifests with the same facts are the same message: a sender that signs again before it repeats a message
        after a long outage gets its first receipt, not a conflict.
        """
        claims = self.to_claims()
        del claims["iat"]
        return sha256_hex(canonical_json(claims))


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


# ---- Reading claims: plain functions over plain dicts, because a manifest is read for every message.

_SECTIONS: Final = {
    "body": frozenset({"sha256", "length"}),
    "schema": frozenset({"id", "sha256"}),
    "request": frozenset({"manifest_sha256"}),
    "attested": frozenset({"means", "system"}),
    "translated": frozenset({"content_type", "sha256", "length", "manifest_sha256"}),
}
_MEMBERS: Final = frozenset(
    {"version", "message_id", "direction", "sender", "receivers", "service", "service_version", "iat", "content_type"}
    | {"purpose", "dossier", "user", "attachments"}
    | _SECTIONS.keys()
)
_ATTACHMENT: Final = frozenset({"sha256", "length", "name", "content_type"})
#: Most messages name the same few agencies and services; a refusal is not remembered.
_agency: Final = lru_cache(maxsize=8192)(AgencyCode)
_service: Final = lru_cache(maxsize=1024)(ServiceCode)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _wrong(name: str, section: str = "") -> Malformed:
    return Malformed("manifest-invalid", member=f"{section}.{name}" if section else name)


def _known(claims: Any, members: frozenset[str], section: str) -> Mapping[str, Any]:
    """The claims, if they are an object whose every member is one of ``members``."""
    if not isinstance(claims, Mapping):
        raise Malformed("manifest-invalid", member=section)
    if not members.issuperset(claims):
        raise Malformed("manifest-unknown-member", section=section)
    return claims


def _section(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _known(claims.get(name), _SECTIONS[name], name)


def _integer(claims: Mapping[str, Any], name: str, *, low: int, high: int, section: str = "") -> int:
    value = claims.get(name)
    if type(value) is not int or not low <= value <= high:  # type(): a bool is an int, too
        raise _wrong(name, section)
    return value


def _text(claims: Mapping[str, Any], name: str, *, high: int, section: str = "") -> str:
    """Text without control characters: what is signed is also shown, logged and written into headers."""
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > high or not (value.isprintable() or _CONTROL.search(value) is None):
        raise _wrong(name, section)
    return value


def _digest(claims: Mapping[str, Any], name: str, section: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or SHA256_HEX.fullmatch(value) is None:
        raise _wrong(name, section)
    return value


def _made(claims: Mapping[str, Any], name: str, make: Callable[[str], T], section: str = "") -> T:
    value = claims.get(name)
    if not isinstance(value, str):
        raise _wrong(name, section)
    try:
        return make(value)
    except (ValueError, Malformed):
        raise _wrong(name, section) from None


def _translation(section: Mapping[str, Any]) -> Translation:
    where = "translated"
    return Translation(
        content_type=_text(section, "content_type", high=100, section=where),
        sha256=_digest(section, "sha256", where),
        length=_integer(section, "length", low=0, high=MAX_LENGTH, section=where),
        manifest_sha256=_digest(section, "manifest_sha256", where) if "manifest_sha256" in section else "",
    )


def _receivers(claims: Mapping[str, Any]) -> tuple[AgencyCode, ...]:
    values = claims.get("receivers")
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_RECEIVERS:
        raise _wrong("receivers")
    try:
        receivers = tuple([_agency(value) for value in values])
    except (Malformed, TypeError):  # TypeError: no text at all, so nothing that a cache could look up
        raise _wrong("receivers") from None
    if len(receivers) > 1 and len(set(receivers)) != len(receivers):
        raise _wrong("receivers")
    return receivers


def _attachments(claims: Mapping[str, Any]) -> tuple[AttachmentReference, ...]:
    values = claims["attachments"]
    if not isinstance(values, list) or len(values) > MAX_ATTACHMENTS:
        raise _wrong("attachments")
    return tuple([_attachment(_known(value, _ATTACHMENT, "attachments")) for value in values])


def _attachment(item: Mapping[str, Any]) -> AttachmentReference:
    where = "attachments"
    return AttachmentReference(
        sha256=_digest(item, "sha256", where),
        length=_integer(item, "length", low=0, high=MAX_LENGTH, section=where),
        name=_text(item, "name", high=200, section=where) if "name" in item else "",
        content_type=_text(item, "content_type", high=100, section=where)
        if "content_type" in item
        else "application/octet-stream",
    )
