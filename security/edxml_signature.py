"""The organisation signature of an edXML document: whose it is, and whether it holds.

::

    <edXMLHeader>… <Signature xmlns="http://www.w3.org/2000/09/xmldsig#">
      <SignedInfo>
        <CanonicalizationMethod/> <SignatureMethod/>
        <Reference URI=""><Transforms>enveloped-signature, then C14N if named</Transforms>
          <DigestMethod/> <DigestValue/></Reference>
      </SignedInfo>
      <SignatureValue/>
      <KeyInfo><X509Data>[<X509SubjectName/>] <X509Certificate/></X509Data></KeyInfo>
    </Signature></edXMLHeader>

Source: vietnam.md 4.19 (VXP samples: enveloped, C14N 1.0 and exclusive C14N, rsa-sha1). Only this one form is taken,
over the whole document: a signature over a part leaves the rest to whoever carries the packet (XML signature
wrapping). The certificate in it only names the key; it counts if it is known for the agency that the document is from.

SHA-1 is broken for signatures of documents (chosen-prefix collisions, 2020). The samples of the axis's kit use it, so
it can be switched on (``allow_broken_sha1``) for an axis that has nothing better; it is never the default. The
signature in those samples does not even stand in the namespace of XML Signature: such a document is unsigned here.
"""

from __future__ import annotations

import base64
import binascii
import copy
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from schemas.codec import read_xml
from schemas.edxml import MAX_ELEMENTS, NAMESPACE, XMLDSIG, without_stray_bytes
from schemas.identifiers import AgencyCode
from schemas.problem import Malformed, NotIdentified
from security.certificates import read_certificate
from security.keys import KeyDirectory, PublicKey, PublicKeyRecord
from security.signing import check_key_window

if TYPE_CHECKING:
    from lxml.etree import _Element

ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
C14N: Final = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"

#: Largest certificate in base64; real ones have two to four thousand characters.
_MAX_CERTIFICATE_LENGTH: Final = 16 * 1024
_RSA: Final = frozenset({SignatureMethod.RSA_SHA256, SignatureMethod.RSA_SHA512, SignatureMethod.SHA256_RSA_MGF1})
_ECDSA: Final = frozenset({SignatureMethod.ECDSA_SHA256})
_DIGESTS: Final = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})

# signxml writes what it canonicalises, documents included, to its log at the level debug.
logging.getLogger("signxml").setLevel(logging.WARNING)


def verify_edxml_signature(
    data: bytes, keys: KeyDirectory, agency: AgencyCode, now: datetime, *, allow_broken_sha1: bool = False
) -> PublicKeyRecord:
    """The registered key, of ``agency`` or one that speaks for it, whose signature covers all of the document.

    Bytes before the root are no part of the document and not covered. Raises NotIdentified: ``edxml-unsigned``,
    ``edxml-signature-form``, ``edxml-signature-algorithm``, ``edxml-signature-certificate``,
    ``edxml-signature-invalid``, ``key-not-yet-valid``, ``key-expired``, ``key-revoked``; Malformed for what is no
    edXML. Safe from many threads.
    """
    root = read_xml(without_stray_bytes(data), max_elements=MAX_ELEMENTS)
    header, signature = _signature(root)
    certificate, key = _registered(signature, keys, agency)
    check_key_window(key, now)
    method = _check_form(signature, key.public_key, allow_broken_sha1=allow_broken_sha1)
    signed = _verified(root, header, certificate, allow_broken_sha1=allow_broken_sha1)
    if signed != _without_signature(root, signature, method):
        raise NotIdentified("edxml-signature-invalid")
    return key


def _signature(root: _Element) -> tuple[str, _Element]:
    """Where the header is, and the one signature of the document, which must stand there."""
    tag = f"{{{XMLDSIG}}}Signature"
    found = list(root.iter(tag))
    if not found:
        raise NotIdentified("edxml-unsigned")
    envelope = "." if root.tag == f"{{{NAMESPACE}}}edXMLEnvelope" else f"./{{{NAMESPACE}}}edXMLEnvelope"
    header = f"{envelope}/{{{NAMESPACE}}}edXMLHeader"
    if len(found) != 1 or root.findall(f"{header}/{tag}") != found:
        raise NotIdentified("edxml-signature-form")
    return f"{header}/", found[0]


def _registered(
    signature: _Element, keys: KeyDirectory, agency: AgencyCode
) -> tuple[x509.Certificate, PublicKeyRecord]:
    given = signature.findall(f"{{{XMLDSIG}}}KeyInfo/{{{XMLDSIG}}}X509Data/{{{XMLDSIG}}}X509Certificate")
    text = "".join((given[0].text or "").split()) if len(given) == 1 else ""
    if not 0 < len(text) <= _MAX_CERTIFICATE_LENGTH or len(given[0]):
        raise NotIdentified("edxml-signature-form")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        facts = read_certificate(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    except (ValueError, binascii.Error, x509.InvalidVersion, UnsupportedAlgorithm, Malformed):
        raise NotIdentified("edxml-signature-form") from None
    key = keys.find_key(facts.key_id)
    if key is None or key.thumbprint != facts.thumbprint or key.attests or not key.speaks_for(agency):
        raise NotIdentified("edxml-signature-certificate")
    return certificate, key


def _check_form(signature: _Element, public_key: PublicKey, *, allow_broken_sha1: bool) -> _Element | None:
    """The transform that canonicalises, None when none is named. Cheap, so it comes before cryptography."""
    children = _children(signature, ("SignedInfo", "SignatureValue", "KeyInfo"))
    canonicalization, method, reference = _children(
        children[0], ("CanonicalizationMethod", "SignatureMethod", "Reference")
    )
    transforms, digest, _ = _children(reference, ("Transforms", "DigestMethod", "DigestValue"))
    _check_c14n(canonicalization)
    methods, digests = _taken(public_key, allow_broken_sha1=allow_broken_sha1)
    if method.get("Algorithm") not in {item.value for item in methods} or len(method):
        raise NotIdentified("edxml-signature-algorithm")
    if digest.get("Algorithm") not in {item.value for item in digests} or len(digest):
        raise NotIdentified("edxml-signature-algorithm")
    # An absent URI means "whatever the application thinks"; an empty one means this document.
    if reference.get("URI") != "" or not 1 <= len(transforms) <= 2 or transforms[0].get("Algorithm") != ENVELOPED:
        raise NotIdentified("edxml-signature-form")
    if len(transforms) == 1:
        return None
    _check_c14n(transforms[1])
    return transforms[1]


def _taken(
    public_key: PublicKey, *, allow_broken_sha1: bool
) -> tuple[frozenset[SignatureMethod], frozenset[DigestAlgorithm]]:
    methods = _RSA if isinstance(public_key, rsa.RSAPublicKey) else _ECDSA
    if not allow_broken_sha1:
        return methods, _DIGESTS
    return methods | (methods & _RSA and {SignatureMethod.RSA_SHA1}), _DIGESTS | {DigestAlgorithm.SHA1}


def _check_c14n(element: _Element) -> None:
    """Without comments and without parameters."""
    if element.get("Algorithm") not in (C14N, EXCLUSIVE_C14N) or len(element):
        raise NotIdentified("edxml-signature-form")


def _children(element: _Element, names: Sequence[str]) -> list[_Element]:
    children = list(element)
    if [child.tag for child in children] != [f"{{{XMLDSIG}}}{name}" for name in names]:
        raise NotIdentified("edxml-signature-form")
    return children


def _verified(root: _Element, header: str, certificate: x509.Certificate, *, allow_broken_sha1: bool) -> bytes:
    """The bytes that signxml found signed by this certificate's key."""
    public_key: Any = certificate.public_key()
    methods, digests = _taken(public_key, allow_broken_sha1=allow_broken_sha1)
    config = SignatureConfiguration(
        location=header,
        expect_references=1,
        signature_methods=methods,
        digest_algorithms=digests,
        # Validity is the registry's business (check_key_window); signxml asks again, so ask for a moment that fits.
        verification_time=certificate.not_valid_before_utc,
    )
    try:
        # validate_schema: the form has been checked more narrowly, and signxml shares one schema among threads.
        result: Any = XMLVerifier().verify(root, x509_cert=certificate, validate_schema=False, expect_config=config)
    except (SignXMLException, ValueError, TypeError, AttributeError, LookupError, etree.LxmlError):
        raise NotIdentified("edxml-signature-invalid") from None
    return bytes(result.signed_data)


def _without_signature(root: _Element, signature: _Element, method: _Element | None) -> bytes:
    """Our own tree without its signature, canonical: what we read must be what was signed."""
    mine = copy.deepcopy(root)
    found = next(mine.iter(str(signature.tag)))
    parent, before, tail = found.getparent(), found.getprevious(), found.tail or ""
    if parent is None:
        raise NotIdentified("edxml-signature-form")
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    parent.remove(found)
    exclusive = method is not None and method.get("Algorithm") == EXCLUSIVE_C14N
    canonical: bytes = etree.tostring(mine, method="c14n", exclusive=exclusive, with_comments=False)
    return canonical
