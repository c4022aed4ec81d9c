"""Organisation signatures on edXML: whose key covers the whole document, and every way in which it does not."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from lxml import etree
from signxml import XMLSigner
from signxml.algorithms import DigestAlgorithm, SignatureMethod

from schemas.edxml import NAMESPACE, XMLDSIG, write_edxml
from schemas.identifiers import AgencyCode, SystemCode
from schemas.problem import Malformed, NotIdentified
from security.certificates import key_record, read_certificate
from security.edxml_signature import C14N, EXCLUSIVE_C14N, verify_edxml_signature
from security.keys import PublicKeyRecord, SigningKey
from tests.test_schemas_edxml import document, raw

AGENCY = AgencyCode("H99.15")
NOW = datetime.now(UTC)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


HEADER = f"{{{NAMESPACE}}}edXMLEnvelope/{{{NAMESPACE}}}edXMLHeader"
SIGNATURE = f"{{{XMLDSIG}}}Signature"


class Directory:
    def __init__(self, *records: PublicKeyRecord) -> None:
        self._records = {record.key_id: record for record in records}

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self._records.get(key_id)


class LegacySigner(XMLSigner):
    """As the axis's kit signs."""

    def check_deprecated_methods(self) -> None:
        """SHA-1 is what this one is for."""


ECDSA = SigningKey.generate("ES256")
RSA = SigningKey.generate("PS256")


def record(signer: SigningKey, system: str = "H99.15/van-thu") -> PublicKeyRecord:
    return key_record(read_certificate(signer.certificate_pem), SystemCode(system))


def signed(
    body: bytes | None = None,
    *,
    method: SignatureMethod = SignatureMethod.ECDSA_SHA256,
    c14n: str = EXCLUSIVE_C14N,
    place: str = HEADER,
) -> bytes:
    root = etree.fromstring(raw() if body is None else body)
    holder = root.find(place)
    assert holder is not None
    etree.SubElement(holder, SIGNATURE, Id="placeholder")
    signer = ECDSA if "ECDSA" in method.name else RSA
    sha1 = "SHA1" in method.name
    maker = (LegacySigner if sha1 else XMLSigner)(
        signature_algorithm=method,
        digest_algorithm=DigestAlgorithm.SHA1 if sha1 else DigestAlgorithm.SHA256,
        c14n_algorithm=c14n,
    )
    done = maker.sign(root, key=signer.to_pem(), cert=signer.certificate_pem)
    written: bytes = etree.tostring(done, encoding="UTF-8")
    return written


def verify(data: bytes, *records: PublicKeyRecord, now: datetime = NOW, allow_broken_sha1: bool = False) -> str:
    known = Directory(*(records or (record(ECDSA), record(RSA))))
    return str(verify_edxml_signature(data, known, AGENCY, now, allow_broken_sha1=allow_broken_sha1).system)


def refused(data: bytes, *records: PublicKeyRecord, now: datetime = NOW, allow_broken_sha1: bool = False) -> str:
    with pytest.raises(NotIdentified) as caught:
        verify(data, *records, now=now, allow_broken_sha1=allow_broken_sha1)
    return caught.value.reason


@pytest.mark.parametrize(
    "method",
    [
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.SHA256_RSA_MGF1,
    ],
)
@pytest.mark.parametrize("c14n", [C14N, EXCLUSIVE_C14N])
def test_a_signature_over_the_whole_document_holds(method: SignatureMethod, c14n: str) -> None:
    assert verify(signed(method=method, c14n=c14n)) == "H99.15/van-thu"


def test_bytes_before_the_root_are_not_covered_and_do_no_harm() -> None:
    assert verify(b"1212" + signed())


def test_an_unsigned_document_says_so() -> None:
    assert refused(raw()) == "edxml-unsigned"


def test_what_is_no_document_is_malformed() -> None:
    with pytest.raises(Malformed):
        verify(b"<a/>")


class TestSha1:
    def test_it_is_refused(self) -> None:
        assert refused(signed(method=SignatureMethod.RSA_SHA1)) == "edxml-signature-algorithm"

    def test_it_can_be_allowed_for_an_axis_that_has_nothing_better(self) -> None:
        assert verify(signed(method=SignatureMethod.RSA_SHA1), allow_broken_sha1=True)

    def test_even_then_the_rest_is_checked(self) -> None:
        data = signed(method=SignatureMethod.RSA_SHA1).replace(b"<Subject>V", b"<Subject>W")
        assert refused(data, allow_broken_sha1=True) == "edxml-signature-invalid"

    @pytest.mark.parametrize("method", ["ECDSA_SHA1", "SHA1_RSA_MGF1"])
    def test_no_other_use_of_it_is(self, method: str) -> None:
        assert refused(signed(method=SignatureMethod[method]), allow_broken_sha1=True) == "edxml-signature-algorithm"


class TestWhose:
    def test_a_certificate_that_nobody_registered_proves_nothing(self) -> None:
        assert refused(signed(), record(SigningKey.generate())) == "edxml-signature-certificate"

    def test_nor_one_of_another_agency(self) -> None:
        assert refused(signed(), record(ECDSA, "H99.16/van-thu")) == "edxml-signature-certificate"

    def test_nor_one_of_the_parent_that_may_not_speak_for_it(self) -> None:
        assert refused(signed(), record(ECDSA, "H99/van-thu")) == "edxml-signature-certificate"
        assert verify(signed(), replace(record(ECDSA, "H99/van-thu"), speaks_for_children=True)) == "H99/van-thu"

    def test_nor_the_bus_itself(self) -> None:
        assert refused(signed(), replace(record(ECDSA), attests=True)) == "edxml-signature-certificate"

    def test_nor_another_certificate_for_the_same_key(self) -> None:
        assert refused(signed(), replace(record(ECDSA), thumbprint="x")) == "edxml-signature-certificate"

    @pytest.mark.parametrize(
        "changes, reason",
        [
            ({"not_after": NOW - timedelta(days=1)}, "key-expired"),
            ({"not_before": NOW + timedelta(days=1)}, "key-not-yet-valid"),
            ({"revoked_at": NOW - timedelta(days=1)}, "key-revoked"),
        ],
    )
    def test_a_key_counts_in_its_time(self, changes: dict[str, datetime], reason: str) -> None:
        assert refused(signed(), replace(record(ECDSA), **changes)) == reason  # type: ignore[arg-type]


def altered(change: Callable[[etree._Element], None]) -> bytes:
    root = etree.fromstring(signed())
    change(root)
    written: bytes = etree.tostring(root, encoding="UTF-8")
    return written


def signature_of(root: etree._Element) -> etree._Element:
    (found,) = root.iter(SIGNATURE)
    return found


def _second(root: etree._Element) -> None:
    header = root.find(HEADER)
    assert header is not None
    header.append(etree.fromstring(etree.tostring(signature_of(root))))


def _moved(root: etree._Element) -> None:
    root.append(signature_of(root))


def _attribute(path: str, name: str, value: str | None) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = signature_of(root).find(path.replace("ds:", f"{{{XMLDSIG}}}"))
        assert found is not None
        if value is None:
            del found.attrib[name]
        else:
            found.set(name, value)

    return change


def _without(path: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = signature_of(root).find(path.replace("ds:", f"{{{XMLDSIG}}}"))
        assert found is not None
        parent = found.getparent()
        assert parent is not None
        parent.remove(found)

    return change


def _text(path: str, text: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        found = signature_of(root).find(path.replace("ds:", f"{{{XMLDSIG}}}"))
        assert found is not None
        found.text = text

    return change


TRANSFORM = "ds:SignedInfo/ds:Reference/ds:Transforms/ds:Transform"
CERTIFICATE = "ds:KeyInfo/ds:X509Data/ds:X509Certificate"


@pytest.mark.parametrize(
    "change, reason",
    [
        (_second, "edxml-signature-form"),
        (_moved, "edxml-signature-form"),
        (_attribute("ds:SignedInfo/ds:Reference", "URI", "#a"), "edxml-signature-form"),
        (_attribute("ds:SignedInfo/ds:Reference", "URI", None), "edxml-signature-form"),
        (_attribute("ds:SignedInfo/ds:Reference", "URI", "http://evil.invalid/"), "edxml-signature-form"),
        (_attribute(TRANSFORM, "Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116"), "edxml-signature-form"),
        (_attribute(TRANSFORM, "Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116"), "edxml-signature-form"),
        (
            _attribute("ds:SignedInfo/ds:CanonicalizationMethod", "Algorithm", C14N + "#WithComments"),
            "edxml-signature-form",
        ),
        (
            _attribute("ds:SignedInfo/ds:SignatureMethod", "Algorithm", XMLDSIG + "hmac-sha1"),
            "edxml-signature-algorithm",
        ),
        (
            _attribute(
                "ds:SignedInfo/ds:SignatureMethod", "Algorithm", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
            ),
            "edxml-signature-algorithm",
        ),
        (
            _attribute("ds:SignedInfo/ds:Reference/ds:DigestMethod", "Algorithm", XMLDSIG + "sha1"),
            "edxml-signature-algorithm",
        ),
        (_without("ds:KeyInfo"), "edxml-signature-form"),
        (_without("ds:SignatureValue"), "edxml-signature-form"),
        (_without("ds:SignedInfo/ds:Reference"), "edxml-signature-form"),
        (_text(CERTIFICATE, "MIIFqTCCBJG"), "edxml-signature-form"),
        (_text(CERTIFICATE, ""), "edxml-signature-form"),
        (_text(CERTIFICATE, "A" * 20_000), "edxml-signature-form"),
        (_text("ds:SignatureValue", base64.b64encode(bytes(64)).decode()), "edxml-signature-invalid"),
        (_text("ds:SignatureValue", "####"), "edxml-signature-invalid"),
        (_text("ds:SignedInfo/ds:Reference/ds:DigestValue", "AAAA"), "edxml-signature-invalid"),
    ],
)
def test_a_signature_of_another_form_is_refused(change: Callable[[etree._Element], None], reason: str) -> None:
    assert refused(altered(change)) == reason


@pytest.mark.parametrize(
    "old, new",
    [
        (b"<Subject>V", b"<Subject>W"),
        (b"<OrganId>000.00.16.H99", b"<OrganId>000.00.20.H99"),
        (b"<BussinessDocType>0", b"<BussinessDocType>1"),
        (b"<ContentTransferEncoded>UEsDB", b"<ContentTransferEncoded>UEsDC"),
        (b"<Content/>", b"<Content>x</Content>"),
        (b"</edXML>", b"<AttachmentEncoded/></edXML>"),
    ],
)
def test_no_part_of_the_document_can_be_changed(old: bytes, new: bytes) -> None:
    data = signed()
    assert old in data
    assert refused(data.replace(old, new, 1)) == "edxml-signature-invalid"


def test_a_signed_document_wrapped_into_another_one_is_refused() -> None:
    """XML signature wrapping: the signed one inside, the read one outside."""
    other = etree.fromstring(write_edxml(replace(document(), subject="Chuyển tiền")))
    other.append(etree.fromstring(signed()))
    assert refused(etree.tostring(other)) == "edxml-signature-form"


def test_the_kits_sample_signature_is_none() -> None:
    sample = b"<Signature><SignedInfo/><SignatureValue>GbVb8n9=</SignatureValue></Signature></edXMLHeader>"
    assert refused(raw().replace(b"</edXMLHeader>", sample)) == "edxml-unsigned"
