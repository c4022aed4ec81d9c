"""Step 2, identify: from an envelope that anybody may have sent to a message whose sender is proven.

Two grades of evidence (``schemas.message.Grade``):

*signed*    the header ``Lgsp-Manifest`` carries the sender's own manifest, signed with a registered key;
*attested*  the caller shows a bearer token or a client certificate and plain headers, or a WS-Security signature over
            its SOAP message, or is a partner that has proven itself by its own protocol; the bus writes the manifest,
            says in it how the caller was identified, and signs it with its own key.

The order is a security argument: the cheap look at headers first, then the proof of the sender, and only for a proven
sender the digest of a body that may be large.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import (
    MAX_RECEIVERS,
    Direction,
    Envelope,
    Grade,
    Manifest,
    Means,
    Message,
    Principal,
)
from schemas.problem import Malformed, NotIdentified, UnknownService
from schemas.soap import EXCHANGE_BLOCK, SECURITY_BLOCK, SoapEnvelope, exchange_headers
from security.client_certificates import identify_by_certificate
from security.keys import KeyDirectory
from security.once import UseOnce
from security.signing import MAX_COMPACT_LENGTH, SignerSource, sign_manifest, split_compact, verify_manifest
from security.tokens import TokenAuthority
from security.ws_security import SeenSignatures, verify_ws_security

#: Highest version of a service that is open to callers, None when there is none.
LatestVersion = Callable[[ServiceCode], int | None]

#: RFC 9530: ``sha-256=:<base64>:`` among the members of a structured-field dictionary.
_CONTENT_DIGEST_MEMBER = re.compile(r"\s*([a-z0-9*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*")
_MAX_DIGEST_HEADER = 500
_MAX_PLAIN_TEXT = 100
#: Facts of a message that the signed Exchange block says or leaves out.
_SIGNED_FACTS = frozenset(
    {"lgsp-service", "lgsp-receiver", "lgsp-message-id", "lgsp-dossier", "lgsp-purpose", "lgsp-user"}
)


class Identification:
    """Decides who sent an envelope. One instance serves all threads."""

    def __init__(
        self,
        keys: KeyDirectory,
        tokens: TokenAuthority,
        signer: SignerSource,
        latest_version: LatestVersion,
        *,
        clock_skew_seconds: int = 300,
        allow_rs256: bool = False,
        admits: Callable[[SystemCode], bool] = lambda _: True,
        use_once: UseOnce | None = None,
    ) -> None:
        """``admits`` says whether a system is still a member in good standing: a token lives some minutes longer than
        the standing of its owner. ``use_once`` remembers for all processes which signatures were used."""
        self._admits = admits
        self._keys = keys
        self._tokens = tokens
        self._signer = signer
        self._latest_version = latest_version
        self._clock_skew_seconds = clock_skew_seconds
        self._allow_rs256 = allow_rs256
        self._seen_signatures = SeenSignatures(use_once=use_once)

    def identify(self, envelope: Envelope) -> Message:
        """The message in the envelope, its sender proven and its body bound to the manifest.

        Raises NotIdentified (unsigned, token-…, key-…, body-digest-mismatch and the others of
        ``security.signing.verify_manifest`` and ``security.ws_security.verify_ws_security``), Malformed for headers
        that cannot be read, UnknownService when an attested caller names a service without a version and none is open.

        The first proof that is offered counts: manifest, token, WS-Security, client certificate (which a connection has
        whatever it carries). One that fails is not saved by another.
        """
        if envelope.presenter is not None:
            return self._attested(envelope, envelope.presenter)
        if "lgsp-manifest" in envelope.headers:
            return self._signed(envelope, envelope.headers["lgsp-manifest"])
        principal = self.identify_caller(
            envelope.headers, envelope.received_at, envelope.soap, envelope.client_certificate
        )
        if principal.means is Means.WS_SECURITY:
            envelope = _with_signed_facts(envelope)
        return self._attested(envelope, principal)

    def identify_caller(
        self, headers: Mapping[str, str], now: datetime, soap: SoapEnvelope | None = None, client_certificate: str = ""
    ) -> Principal:
        """Who asks: the owner of the bearer token, of the key that signed the SOAP message, of the client certificate.

        Alone it serves calls that carry no message (status, inbox, attachments). ``headers`` has lower-case names,
        ``client_certificate`` is what a trusted proxy says of it. Raises NotIdentified: unsigned, token-invalid,
        token-expired, and those of ``verify_ws_security`` and ``identify_by_certificate``.
        """
        if "authorization" not in headers:
            if soap is not None and SECURITY_BLOCK in soap.blocks:
                return self._by_signature(soap, now)
            if client_certificate:
                return self._by_certificate(client_certificate, now)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotIdentified("unsigned")
        principal = self._tokens.verify(token.strip(), now)
        if not self._admits(principal.system):
            raise NotIdentified("token-invalid")
        return principal

    def _by_signature(self, soap: SoapEnvelope, now: datetime) -> Principal:
        """Who signed Body, Timestamp and, if there is one, the Exchange block."""
        block = soap.blocks.get(EXCHANGE_BLOCK)
        # With a signed id it is a message, which may come again: the answer is its receipt. Anything else counts once.
        repeatable = block is not None and "lgsp-message-id" in exchange_headers(block)
        key = verify_ws_security(
            soap,
            self._keys,
            now,
            self._clock_skew_seconds,
            signed_blocks=frozenset() if block is None else frozenset({EXCHANGE_BLOCK}),
            seen=None if repeatable else self._seen_signatures,
        )
        if not self._admits(key.system):
            raise NotIdentified("ws-security-certificate-unknown")
        return Principal(agency=key.agency, system=key.system, means=Means.WS_SECURITY, key_id=key.key_id)

    def _by_certificate(self, header: str, now: datetime) -> Principal:
        """Who holds the certificate that the TLS connection was opened with."""
        key = identify_by_certificate(header, self._keys, now)
        if not self._admits(key.system):
            raise NotIdentified("client-certificate-unknown")
        return Principal(agency=key.agency, system=key.system, means=Means.CERTIFICATE, key_id=key.key_id)

    def _signed(self, envelope: Envelope, jws: str) -> Message:
        # 1. The proof
        verified = verify_manifest(
            jws, self._keys, envelope.received_at, self._clock_skew_seconds, allow_rs256=self._allow_rs256
        )
        manifest, key = verified.manifest, verified.key
        if manifest.attested_means is not None:
            # Only the bus attests, and it does not write to itself: somebody sends back what he was given.
            raise NotIdentified("attestation-not-yours")
        if manifest.direction is not Direction.REQUEST:
            raise NotIdentified("direction-not-request")
        if envelope.addressed_service not in ("", manifest.service, f"{manifest.service}/{manifest.service_version}"):
            raise NotIdentified("service-differs-from-address")
        # 2. The body it vouches for
        if manifest.body_length != len(envelope.body):
            raise NotIdentified("body-length-mismatch")
        if _media_type(manifest.content_type) != _media_type(envelope.content_type):
            raise NotIdentified("content-type-mismatch")
        digest = hashlib.sha256(envelope.body)
        if digest.hexdigest() != manifest.body_sha256:
            raise NotIdentified("body-digest-mismatch")
        _check_content_digest(envelope.headers, digest.digest())
        if not {file.reference.sha256 for file in envelope.attached} <= {a.sha256 for a in manifest.attachments}:
            raise Malformed("attachment-not-in-manifest")
        return Message(
            manifest=manifest,
            manifest_jws=jws,
            manifest_sha256=verified.payload_sha256,
            grade=Grade.SIGNED,
            principal=Principal(agency=manifest.sender, system=key.system, means=Means.MANIFEST, key_id=key.key_id),
            body=envelope.body,
            received_at=envelope.received_at,
            traceparent=envelope.traceparent,
        )

    def _attested(self, envelope: Envelope, principal: Principal) -> Message:
        manifest = self._written_manifest(envelope, principal)
        jws = sign_manifest(manifest, self._signer)
        if len(jws) > MAX_COMPACT_LENGTH:  # many attachments with long names: nobody would read it
            raise Malformed("manifest-too-long", limit=MAX_COMPACT_LENGTH)
        return Message(
            manifest=manifest,
            manifest_jws=jws,
            manifest_sha256=hashlib.sha256(split_compact(jws).payload).hexdigest(),
            grade=Grade.ATTESTED,
            principal=principal,
            body=envelope.body,
            received_at=envelope.received_at,
            traceparent=envelope.traceparent,
        )

    def _written_manifest(self, envelope: Envelope, principal: Principal) -> Manifest:
        """The manifest that the bus writes for a caller that does not sign.

        The message id must come from the caller: a retry that made the bus invent a new one would be a new message.
        """
        headers = envelope.headers
        service, version = self._service(_required(headers, "lgsp-service"))
        message_id = MessageId(_required(headers, "lgsp-message-id"))
        receivers = _receivers(_required(headers, "lgsp-receiver"))
        dossier = headers.get("lgsp-dossier", "")
        digest = hashlib.sha256(envelope.body)
        _check_content_digest(headers, digest.digest())
        return Manifest(
            message_id=message_id,
            sender=principal.agency,
            receivers=receivers,
            service=service,
            service_version=version,
            # The wire form has whole seconds.
            issued_at=datetime.fromtimestamp(int(envelope.received_at.timestamp()), UTC),
            content_type=_plain_text("content-type", envelope.content_type),
            body_sha256=digest.hexdigest(),
            body_length=len(envelope.body),
            purpose=_plain_text("lgsp-purpose", headers.get("lgsp-purpose", "")),
            dossier=DossierCode(dossier) if dossier else None,
            user=_plain_text("lgsp-user", headers.get("lgsp-user", "")),
            attachments=tuple(file.reference for file in envelope.attached),
            attested_means=principal.means,
            attested_system=principal.system,
        )

    def _service(self, text: str) -> tuple[ServiceCode, int]:
        code, slash, version = text.partition("/")
        service = ServiceCode(code)
        if slash:
            if not re.fullmatch(r"[1-9][0-9]{0,3}", version):
                raise Malformed("header-invalid", header="Lgsp-Service")
            return service, int(version)
        latest = self._latest_version(service)
        if latest is None:
            raise UnknownService("no-open-version")
        return service, latest


def _with_signed_facts(envelope: Envelope) -> Envelope:
    """The same arrival, whose facts are those of the signed Exchange block and of nothing else: nobody signed the HTTP
    headers or the address, and a captured signature must not serve for another receiver, service or id."""
    block = None if envelope.soap is None else envelope.soap.blocks.get(EXCHANGE_BLOCK)
    kept = {name: value for name, value in envelope.headers.items() if name not in _SIGNED_FACTS}
    return replace(envelope, headers=kept if block is None else kept | exchange_headers(block))


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise Malformed("header-missing", header=name.title())
    return value


def _receivers(text: str) -> tuple[AgencyCode, ...]:
    if text.count(",") >= MAX_RECEIVERS:
        raise Malformed("header-invalid", header="Lgsp-Receiver")
    receivers = tuple(AgencyCode(part.strip()) for part in text.split(","))
    if len(set(receivers)) != len(receivers):
        raise Malformed("header-invalid", header="Lgsp-Receiver")
    return receivers


def _plain_text(name: str, text: str) -> str:
    """A header's text as it may enter a manifest: short, and without control characters (a log line is one line)."""
    if len(text) > _MAX_PLAIN_TEXT or not text.isprintable():
        raise Malformed("header-invalid", header=name.title())
    return text


def _media_type(content_type: str) -> str:
    """Type and subtype alone: a client library that adds ``; charset=utf-8`` has not changed the body."""
    return content_type.partition(";")[0].strip().lower()


def _check_content_digest(headers: Mapping[str, str], sha256: bytes) -> None:
    """RFC 9530: every ``sha-256`` must be the body's; other algorithms are the sender's business.

    Raises Malformed(content-digest-unreadable, content-digest-mismatch).
    """
    header = headers.get("content-digest")
    if header is None:
        return
    if len(header) > _MAX_DIGEST_HEADER:
        raise Malformed("content-digest-unreadable")
    for member in header.split(","):
        parsed = _CONTENT_DIGEST_MEMBER.fullmatch(member)
        if parsed is None:
            raise Malformed("content-digest-unreadable")
        if parsed[1] == "sha-256" and _decoded(parsed[2]) != sha256:
            raise Malformed("content-digest-mismatch")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Malformed("content-digest-unreadable") from None
