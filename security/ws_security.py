"""WS-Security X.509 signatures (OASIS WSS 1.1, X.509 Token Profile): proof of the sender of a SOAP message.

::

    <wsse:Security>
      <wsse:BinarySecurityToken wsu:Id="X">   the certificate, DER in base64; it must be a registered one
      <wsu:Timestamp wsu:Id="T">              Created, Expires: at most one hour
      <ds:Signature>
        <ds:SignedInfo>                       exclusive C14N; ECDSA-SHA256, RSA-SHA256 or RSA-PSS-SHA256
          <ds:Reference URI="#B">             Body, Timestamp, the bus's block: exclusive C14N, SHA-256 or more
        <ds:SignatureValue>
        <ds:KeyInfo>                          a direct reference to the token, nothing else

XML signatures have been broken by what they leave open: a signature points to signed parts by id, and the reader takes
parts by their place. Three things close that here. The gate (:func:`schemas.soap.read_soap`) lets no id come twice. The
signature's form is an allow-list: what the picture above does not show is refused before any cryptography. And what
signxml says was signed is compared byte for byte with the Envelope's own Body, Timestamp and blocks, found by their
place, and with the payload as it will be used; only then do they count as signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import logging
import re
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from schemas.codec import read_xml
from schemas.moment import from_wire
from schemas.problem import Malformed, NotIdentified
from schemas.soap import SECURITY_BLOCK, WSSE_NS, WSU_NS, SoapEnvelope, SoapVersion, payload_bytes
from security.certificates import CertificateFacts, read_certificate
from security.keys import PSS, KeyDirectory, PrivateKey, PublicKey, PublicKeyRecord, Signer, SigningKey
from security.once import UseOnce
from security.signing import check_key_window

_Element = etree._Element

DS_NS: Final = "http://www.w3.org/2000/09/xmldsig#"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ECDSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
#: RFC 9231, section 2.3.10: PSS with MGF1, SHA-256 in both places and a salt of 32 bytes. Needs no parameters.
RSA_PSS_SHA256: Final = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
_TOKEN_PROFILE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"  # noqa: S105 - a name
_BASE64: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"

#: Longest life that a Timestamp may claim: replayed signatures are remembered for so long. Toolkits write 5 minutes.
MAX_LIFETIME_SECONDS: Final = 3600
#: Body, Timestamp, a block of the bus, the token, and some that a toolkit may add. Each costs one more parse.
MAX_REFERENCES: Final = 8
#: Largest certificate in base64; real ones have two to four thousand characters.
_MAX_TOKEN_LENGTH: Final = 16 * 1024
#: Replays remembered by a process: an hour of 25 signed calls a second, in about 15 MB.
_MAX_SEEN: Final = 100_000

_SIGNATURE_METHODS: Final = {
    ECDSA_SHA256: SignatureMethod.ECDSA_SHA256,
    RSA_SHA256: SignatureMethod.RSA_SHA256,
    RSA_PSS_SHA256: SignatureMethod.SHA256_RSA_MGF1,
}
_DIGESTS: Final = {
    digest.value: digest for digest in (DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512)
}
_WSU_ID: Final = f"{{{WSU_NS}}}Id"
_TOKEN: Final = f"{{{WSSE_NS}}}BinarySecurityToken"
_TIMESTAMP: Final = f"{{{WSU_NS}}}Timestamp"
_SIGNATURE: Final = f"{{{DS_NS}}}Signature"

# signxml writes what it canonicalises, payloads included, to its log at the level debug.
logging.getLogger("signxml").setLevel(logging.WARNING)


class SeenSignatures:
    """What was signed and has been used, until its Timestamp expires: the same signature does not count twice.

    It remembers the signed text, not the signature: from one ECDSA signature anybody can make a second. With
    ``use_once`` it is remembered where all processes look; the memory here then only saves the way there. Without, it
    is per process, and bounded: when it is full those that expire first are forgotten (only members fill it, for what
    it remembers has been verified). Safe from many threads.
    """

    def __init__(self, capacity: int = _MAX_SEEN, use_once: UseOnce | None = None) -> None:
        self._capacity = capacity
        self._use_once = use_once
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._by_end: list[tuple[float, bytes]] = []

    def use(self, signed: bytes, until: datetime, now: datetime) -> None:
        """Raises NotIdentified(ws-security-replayed) when ``signed`` has been used before."""
        with self._lock:
            while self._by_end and (self._by_end[0][0] < now.timestamp() or len(self._by_end) >= self._capacity):
                self._seen.discard(heapq.heappop(self._by_end)[1])
            if signed in self._seen:
                raise NotIdentified("ws-security-replayed")
            if self._use_once is None:
                self._remember(signed, until)
        if self._use_once is not None:  # not under the lock: it waits for a disk
            first = self._use_once(signed, until)
            with self._lock:
                self._remember(signed, until)
            if not first:
                raise NotIdentified("ws-security-replayed")

    def _remember(self, signed: bytes, until: datetime) -> None:
        if signed not in self._seen:
            self._seen.add(signed)
            heapq.heappush(self._by_end, (until.timestamp(), signed))


# ---- Verifying


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The three children of a Security header."""

    token: _Element
    timestamp: _Element
    signature: _Element


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One signed part, as the signature names it."""

    id: str
    #: Parameter of exclusive C14N; None when it is not given.
    prefixes: tuple[str, ...] | None


def verify_ws_security(
    envelope: SoapEnvelope,
    keys: KeyDirectory,
    now: datetime,
    skew_seconds: int,
    *,
    signed_blocks: frozenset[str],
    seen: SeenSignatures | None = None,
) -> PublicKeyRecord:
    """Whose key signed Body, Timestamp and ``signed_blocks`` (``{namespace}name``) of an envelope from the gate.

    With ``seen`` the same signed text counts once only (see :class:`SeenSignatures`); leave it out where a repetition
    is harmless and welcome, as it is for a message with an id.

    Raises NotIdentified: ``unsigned``, ``ws-security-parts``, ``ws-security-token``,
    ``ws-security-certificate-unknown``, ``key-not-yet-valid``, ``key-expired``, ``key-revoked``,
    ``ws-security-timestamp``, ``ws-security-expired``, ``ws-security-from-future``, ``ws-security-signature-form``,
    ``ws-security-algorithm``, ``ws-security-canonicalization``, ``ws-security-not-signed``,
    ``ws-security-signature-invalid``, ``ws-security-replayed``. Safe from many threads, about 1 ms for 4 KB.
    """
    if SECURITY_BLOCK not in envelope.blocks:
        raise NotIdentified("unsigned")
    parts = _parts(envelope.blocks[SECURITY_BLOCK])
    # 1. Whose key, and may it sign now
    certificate, key = _registered(parts.token, keys)
    check_key_window(key, now)
    # 2. Is it meant for now
    expires = _check_timestamp(parts.timestamp, now, timedelta(seconds=skew_seconds))
    # 3. What does it claim to sign, and how
    references = _references(parts, key.public_key)
    targets = _targets(envelope, parts.timestamp, signed_blocks)
    _check_named(references, targets)
    # 4. Does the signature hold
    results = _verified(envelope, certificate, len(references))
    # 5. Is what was signed what we have in hand
    _check_same(envelope, references, targets, results)
    if seen is not None:
        signed_info = etree.tostring(parts.signature[0], method="c14n", exclusive=True, with_tail=False)
        digest = hashlib.sha256(key.key_id.encode() + signed_info).digest()
        seen.use(digest, expires + timedelta(seconds=skew_seconds), now)
    return key


def _parts(security: _Element) -> _Parts:
    """Exactly one of each, in any order, and nothing else: of two tokens or signatures readers take different ones."""
    found = {str(child.tag): child for child in security}
    if len(security) != 3 or found.keys() != {_TOKEN, _TIMESTAMP, _SIGNATURE}:
        raise NotIdentified("ws-security-parts")
    return _Parts(token=found[_TOKEN], timestamp=found[_TIMESTAMP], signature=found[_SIGNATURE])


def _registered(token: _Element, keys: KeyDirectory) -> tuple[x509.Certificate, PublicKeyRecord]:
    """The certificate and the registry's record of it. A message brings its certificate along only to name it."""
    text = "".join((token.text or "").split())
    kind, encoding = token.get("ValueType", ""), token.get("EncodingType", _BASE64)
    if len(token) or not 0 < len(text) <= _MAX_TOKEN_LENGTH or (kind, encoding) != (_TOKEN_PROFILE, _BASE64):
        raise NotIdentified("ws-security-token")
    certificate, facts = _certificate(text)
    key = keys.find_key(facts.key_id)
    # The bus's own keys vouch for others over its own protocol; nobody is the bus over SOAP.
    if key is None or key.thumbprint != facts.thumbprint or key.attests:
        raise NotIdentified("ws-security-certificate-unknown")
    return certificate, key


@lru_cache(maxsize=1024)
def _certificate(text: str) -> tuple[x509.Certificate, CertificateFacts]:
    """The same senders come again and again, and reading a certificate costs 150 µs. A refusal is not remembered."""
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        return certificate, read_certificate(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    except (ValueError, binascii.Error, x509.InvalidVersion, UnsupportedAlgorithm, Malformed):
        raise NotIdentified("ws-security-token") from None


def _check_timestamp(timestamp: _Element, now: datetime, skew: timedelta) -> datetime:
    """When it expires."""
    tags = [child.tag for child in timestamp]
    if tags != [f"{{{WSU_NS}}}Created", f"{{{WSU_NS}}}Expires"]:
        raise NotIdentified("ws-security-timestamp", limit_seconds=MAX_LIFETIME_SECONDS)
    try:
        created, expires = (from_wire(_short_text(child)) for child in timestamp)
    except (ValueError, OverflowError):
        raise NotIdentified("ws-security-timestamp", limit_seconds=MAX_LIFETIME_SECONDS) from None
    if not timedelta(0) < expires - created <= timedelta(seconds=MAX_LIFETIME_SECONDS):
        raise NotIdentified("ws-security-timestamp", limit_seconds=MAX_LIFETIME_SECONDS)
    if now > expires + skew:
        raise NotIdentified("ws-security-expired")
    if now < created - skew:
        raise NotIdentified("ws-security-from-future", limit_seconds=int(skew.total_seconds()))
    return expires


def _short_text(element: _Element) -> str:
    text = (element.text or "").strip()
    if len(element) or len(text) > 40:
        raise ValueError("not a moment")
    return text


def _references(parts: _Parts, public_key: PublicKey) -> list[_Reference]:
    """What the signature names, if it has the one form that is taken here."""
    signature = _children(parts.signature, "SignedInfo", "SignatureValue", "KeyInfo")
    signed_info = signature[0]
    count = len(signed_info) - 2
    if not 1 <= count <= MAX_REFERENCES:
        raise NotIdentified("ws-security-signature-form")
    canonicalization, method, *references = _children(
        signed_info, "CanonicalizationMethod", "SignatureMethod", *["Reference"] * count
    )
    _check_key_info(signature[2], parts.token)
    if len(signature[1]) or not (signature[1].text or "").strip():
        raise NotIdentified("ws-security-signature-form")
    _prefixes(canonicalization)
    rsa_methods = (RSA_SHA256, RSA_PSS_SHA256)
    fitting = rsa_methods if isinstance(public_key, rsa.RSAPublicKey) else (ECDSA_SHA256,)
    if len(method) or method.get("Algorithm") not in fitting:
        raise NotIdentified("ws-security-algorithm")
    return [_reference(element) for element in references]


def _reference(element: _Element) -> _Reference:
    transforms, digest, value = _children(element, "Transforms", "DigestMethod", "DigestValue")
    if len(digest) or digest.get("Algorithm") not in _DIGESTS:
        raise NotIdentified("ws-security-algorithm")
    if [child.tag for child in transforms] != [f"{{{DS_NS}}}Transform"]:
        raise NotIdentified("ws-security-canonicalization")
    uri = element.get("URI", "")
    if len(value) or re.fullmatch(r"#[A-Za-z_][A-Za-z0-9_.-]{0,199}", uri) is None:
        raise NotIdentified("ws-security-signature-form")
    return _Reference(id=uri[1:], prefixes=_prefixes(transforms[0]))


def _prefixes(method: _Element) -> tuple[str, ...] | None:
    """The parameter of exclusive C14N, which is the one algorithm that this element may name."""
    if method.get("Algorithm") != EXCLUSIVE_C14N or len(method) > 1:
        raise NotIdentified("ws-security-canonicalization")
    if not len(method):
        return None
    prefixes = method[0].get("PrefixList")
    if method[0].tag != f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces" or prefixes is None or len(method[0]):
        raise NotIdentified("ws-security-canonicalization")
    return tuple(prefixes.split(" "))


def _check_key_info(key_info: _Element, token: _Element) -> None:
    """KeyInfo is a direct reference to the token. Anything else would name another key, or the same one twice."""
    reference_tag, holder_tag = f"{{{WSSE_NS}}}Reference", f"{{{WSSE_NS}}}SecurityTokenReference"
    holder = key_info[0] if len(key_info) == 1 else None
    reference = holder[0] if holder is not None and len(holder) == 1 else None
    if holder is None or reference is None or (holder.tag, reference.tag) != (holder_tag, reference_tag):
        raise NotIdentified("ws-security-signature-form")
    token_id = token.get(_WSU_ID)
    if not token_id or len(reference) or reference.get("URI") != f"#{token_id}":
        raise NotIdentified("ws-security-signature-form")


def _children(element: _Element, *names: str) -> list[_Element]:
    """The children, which must be these of XML Signature's namespace, in this order."""
    children = list(element)
    if [child.tag for child in children] != [f"{{{DS_NS}}}{name}" for name in names]:
        raise NotIdentified("ws-security-signature-form")
    return children


def _targets(envelope: SoapEnvelope, timestamp: _Element, signed_blocks: frozenset[str]) -> dict[str, _Element]:
    """What must be signed, by a name to tell: these very elements, wherever else equal ones may stand."""
    targets = {"Body": envelope.body, "Timestamp": timestamp}
    for name in sorted(signed_blocks):
        if name not in envelope.blocks:
            raise NotIdentified("ws-security-not-signed", part=name.rpartition("}")[2])
        targets[name.rpartition("}")[2]] = envelope.blocks[name]
    return targets


def _check_named(references: Sequence[_Reference], targets: dict[str, _Element]) -> None:
    """Every target is referred to, and no reference comes twice. Costs nothing, so it comes before cryptography."""
    ids = [reference.id for reference in references]
    if len(set(ids)) != len(ids):
        raise NotIdentified("ws-security-signature-form")
    for part, element in targets.items():
        if element.get(_WSU_ID) not in ids:
            raise NotIdentified("ws-security-not-signed", part=part)


def _verified(envelope: SoapEnvelope, certificate: x509.Certificate, count: int) -> Sequence[VerifyResult]:
    """What signxml found signed by this certificate's key, in the order of the references."""
    security, namespace = envelope.blocks[SECURITY_BLOCK], envelope.version.namespace
    # There may be Security headers for other actors before ours, so ours is named by its place.
    place = 1 + sum(1 for _ in security.itersiblings(SECURITY_BLOCK, preceding=True))
    config = SignatureConfiguration(
        location=f"./{{{namespace}}}Header/{SECURITY_BLOCK}[{place}]/",
        expect_references=count,
        signature_methods=frozenset(_SIGNATURE_METHODS.values()),
        digest_algorithms=frozenset(_DIGESTS.values()),
        # Validity is the registry's business (check_key_window); signxml asks again, so ask for a moment that fits.
        verification_time=certificate.not_valid_before_utc,
    )
    try:
        # validate_schema: the form has been checked more narrowly, and signxml shares one schema among threads.
        results: Any = XMLVerifier().verify(
            envelope.root, x509_cert=certificate, id_attribute="Id", validate_schema=False, expect_config=config
        )
    except (SignXMLException, ValueError, TypeError, AttributeError, LookupError, etree.LxmlError):
        raise NotIdentified("ws-security-signature-invalid") from None
    return results if isinstance(results, list) else [results]


def _check_same(
    envelope: SoapEnvelope,
    references: Sequence[_Reference],
    targets: dict[str, _Element],
    results: Sequence[VerifyResult],
) -> None:
    """Each target, canonicalised from our tree, has the very bytes that were signed under its id."""
    by_id = {reference.id: (reference, result) for reference, result in zip(references, results, strict=True)}
    for part, element in targets.items():
        reference, result = by_id[str(element.get(_WSU_ID))]
        if _canonical(element, reference.prefixes) != result.signed_data:
            raise NotIdentified("ws-security-not-signed", part=part)
    # Prefixes that stand in values alone (xsi:type) are not in the signed bytes, and whoever changes their declaration
    # on the Envelope changes the payload. So the payload that is used must follow from the signed bytes alone.
    body = by_id[str(envelope.body.get(_WSU_ID))][1].signed_xml
    if body is None or len(body) != 1 or payload_bytes(body[0]) != payload_bytes(envelope.payload):
        raise NotIdentified("ws-security-not-signed", part="Body")


def _canonical(element: _Element, prefixes: tuple[str, ...] | None) -> bytes:
    return etree.tostring(
        element,
        method="c14n",
        exclusive=True,
        with_comments=False,
        with_tail=False,
        inclusive_ns_prefixes=None if prefixes is None else list(prefixes),
    )


# ---- Signing


def sign_ws_security(
    soap: bytes,
    private_key: PrivateKey | Signer,
    certificate_pem: str,
    now: datetime,
    *,
    signed_blocks: frozenset[str] = frozenset(),
    lifetime_seconds: int = 300,
    pss: bool = False,
    must_understand: bool = True,
) -> bytes:
    """The envelope with a Security header that signs Body, Timestamp and ``signed_blocks`` (``{namespace}name``).

    P-256 keys sign with ECDSA-SHA256; RSA keys with RSA-SHA256, which every toolkit takes, or with ``pss``. A
    :class:`security.keys.Signer` signs in its own way, which for RSA is always PSS. The envelope is written anew
    (UTF-8); the canonical form of its payload does not change.

    Raises Malformed(key-certificate-mismatch, certificate-unreadable or a reason of ``read_xml``); ValueError for an
    envelope that has a Security header already or lacks one of the blocks.
    """
    facts = read_certificate(certificate_pem)
    signer = private_key if not isinstance(private_key, PrivateKey) else SigningKey(private_key, certificate_pem)
    if signer.key_id != facts.key_id:
        raise Malformed("key-certificate-mismatch")
    root = _with_wsu_prefix(read_xml(soap))
    namespace = etree.QName(root).namespace or ""
    header, body = _header_and_body(root, namespace)
    security, timestamp, token = _new_security(header, namespace, facts, now, lifetime_seconds)
    if must_understand:
        security.set(f"{{{namespace}}}mustUnderstand", "1")
    blocks = [child for child in header if child.tag in signed_blocks]
    if {child.tag for child in blocks} != signed_blocks:
        raise ValueError("the envelope lacks a block that is to be signed")
    _add_signature(security, token, [body, timestamp, *blocks], private_key, pss=pss)
    written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def _with_wsu_prefix(root: _Element) -> _Element:
    """The same envelope with the usual prefix for ids: some partners' parsers look for the text ``wsu:Id``."""
    if "wsu" in root.nsmap or None in root.nsmap:
        return root
    prefixes: Any = {**root.nsmap, "wsu": WSU_NS}
    renewed = etree.Element(root.tag, nsmap=prefixes)
    for name, value in root.items():
        renewed.set(name, value)
    renewed.extend(list(root))
    return renewed


def _header_and_body(root: _Element, namespace: str) -> tuple[_Element, _Element]:
    body = root.find(f"{{{namespace}}}Body")
    if namespace not in {version.namespace for version in SoapVersion} or body is None:
        raise ValueError("not a SOAP envelope")
    header = root.find(f"{{{namespace}}}Header")
    if header is None:
        header = etree.Element(f"{{{namespace}}}Header")
        root.insert(0, header)
    if header.find(SECURITY_BLOCK) is not None:
        raise ValueError("the envelope has a Security header already")
    return header, body


def _new_security(
    header: _Element, namespace: str, facts: CertificateFacts, now: datetime, lifetime_seconds: int
) -> tuple[_Element, _Element, _Element]:
    security = etree.SubElement(header, SECURITY_BLOCK, nsmap={"wsse": WSSE_NS, "wsu": WSU_NS})
    token = etree.SubElement(security, _TOKEN, ValueType=_TOKEN_PROFILE, EncodingType=_BASE64)
    token.text = "".join(facts.pem.splitlines()[1:-1])
    _identified(token)
    timestamp = etree.SubElement(security, _TIMESTAMP)
    _identified(timestamp)
    for name, moment in (("Created", now), ("Expires", now + timedelta(seconds=lifetime_seconds))):
        # Milliseconds and Z: the form that .NET and WSS4J write and read.
        text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
        etree.SubElement(timestamp, f"{{{WSU_NS}}}{name}").text = text.removesuffix("+00:00") + "Z"
    return security, timestamp, token


def _identified(element: _Element) -> str:
    """The element's ``wsu:Id``, a new one if it has none."""
    if element.get(_WSU_ID) is None:
        element.set(_WSU_ID, f"id-{uuid.uuid4()}")
    return str(element.get(_WSU_ID))


def _add_signature(
    security: _Element,
    token: _Element,
    parts: Sequence[_Element],
    private_key: PrivateKey | Signer,
    *,
    pss: bool,
) -> None:
    """Every part gets its id before any is digested: an id is part of what is signed."""
    ids = [_identified(part) for part in parts]
    signature = etree.SubElement(security, _SIGNATURE, nsmap={"ds": DS_NS})
    signed_info = _ds(signature, "SignedInfo")
    _ds(signed_info, "CanonicalizationMethod", Algorithm=EXCLUSIVE_C14N)
    _ds(signed_info, "SignatureMethod", Algorithm=_signature_method(private_key, pss=pss))
    for part, part_id in zip(parts, ids, strict=True):
        reference = _ds(signed_info, "Reference", URI=f"#{part_id}")
        _ds(_ds(reference, "Transforms"), "Transform", Algorithm=EXCLUSIVE_C14N)
        _ds(reference, "DigestMethod", Algorithm=SHA256)
        digest = hashlib.sha256(_canonical(part, None)).digest()
        _ds(reference, "DigestValue").text = base64.b64encode(digest).decode("ascii")
    value = _signed(_canonical(signed_info, None), private_key, pss=pss)
    _ds(signature, "SignatureValue").text = base64.b64encode(value).decode("ascii")
    holder = etree.SubElement(_ds(signature, "KeyInfo"), f"{{{WSSE_NS}}}SecurityTokenReference")
    etree.SubElement(holder, f"{{{WSSE_NS}}}Reference", URI=f"#{_identified(token)}", ValueType=_TOKEN_PROFILE)


def _ds(parent: _Element, name: str, **attributes: str) -> _Element:
    return etree.SubElement(parent, f"{{{DS_NS}}}{name}", attributes)


def _signature_method(private_key: PrivateKey | Signer, *, pss: bool) -> str:
    if isinstance(private_key, rsa.RSAPrivateKey):
        return RSA_PSS_SHA256 if pss else RSA_SHA256
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return ECDSA_SHA256
    return ECDSA_SHA256 if private_key.algorithm == "ES256" else RSA_PSS_SHA256


def _signed(data: bytes, private_key: PrivateKey | Signer, *, pss: bool) -> bytes:
    """The signature as XML Signature writes it, which for ECDSA is JWS's form r ‖ s (RFC 6931, section 2.3.6)."""
    if isinstance(private_key, rsa.RSAPrivateKey):
        return private_key.sign(data, PSS if pss else padding.PKCS1v15(), hashes.SHA256())
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return SigningKey(private_key).sign(data)
    return private_key.sign(data)
