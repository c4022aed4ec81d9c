"""WS-Security: a signature counts for the Body, the Timestamp and the block in hand, and for nothing else."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from lxml import etree

from schemas.codec import read_xml
from schemas.identifiers import SystemCode
from schemas.problem import Malformed, NotIdentified, Problem
from schemas.soap import (
    EXCHANGE_BLOCK,
    SECURITY_BLOCK,
    WSSE_NS,
    WSU_NS,
    SoapVersion,
    payload_bytes,
    read_soap,
    write_soap,
)
from security.certificates import SandboxAuthority, key_record, read_certificate
from security.keys import PrivateKey, PublicKeyRecord, SigningKey
from security.ws_security import DS_NS, EXCLUSIVE_C14N, SeenSignatures, sign_ws_security, verify_ws_security

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


SYSTEM = SystemCode("H99.15/mot-cua")
V11, V12 = SoapVersion.V11, SoapVersion.V12
UNDERSTOOD = frozenset({SECURITY_BLOCK, EXCHANGE_BLOCK})
SIGNED = frozenset({EXCHANGE_BLOCK})

EXCHANGE = (
    b'<l:Exchange xmlns:l="urn:lgsp:exchange:1"><l:Service>dossier.transfer/1</l:Service>'
    b"<l:Receiver>G99</l:Receiver></l:Exchange>"
)
PAYLOAD = '<x:GuiHoSo xmlns:x="urn:x"><x:ten>Nguyễn Thị Thử</x:ten></x:GuiHoSo>'.encode()


class Owner:
    """A private key with its certificate, as a partner has it."""

    def __init__(self, private_key: PrivateKey, certificate_pem: str = "") -> None:
        self.private_key = private_key
        self.pem = certificate_pem or a_certificate(private_key)
        self.record = key_record(read_certificate(self.pem), SYSTEM)

    def sign(self, soap: bytes, now: datetime = NOW, **options: object) -> bytes:
        options.setdefault("signed_blocks", SIGNED)
        return sign_ws_security(soap, self.private_key, self.pem, now, **options)  # type: ignore[arg-type]


def a_certificate(private_key: PrivateKey, *, serial: int | None = None, name: str = "mot-cua") -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, private_key.public_key(), serial or 4711)
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    return builder.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Directory:
    def __init__(self, *records: PublicKeyRecord) -> None:
        self.records = {record.key_id: record for record in records}

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.records.get(key_id)


EC = Owner(ec.generate_private_key(ec.SECP256R1()))
RSA = Owner(rsa.generate_private_key(public_exponent=65537, key_size=2048))
STRANGER = Owner(ec.generate_private_key(ec.SECP256R1()))
KEYS = Directory(EC.record, RSA.record)
MESSAGE = write_soap(V11, PAYLOAD, [EXCHANGE])
SIGNED_MESSAGE = EC.sign(MESSAGE)


def verify(
    data: bytes,
    *,
    keys: Directory = KEYS,
    now: datetime = NOW,
    signed_blocks: frozenset[str] = SIGNED,
    seen: SeenSignatures | None = None,
) -> PublicKeyRecord:
    content_type = V12.media_type if V12.namespace.encode() in data else V11.media_type
    envelope = read_soap(data, content_type, understood=UNDERSTOOD)
    return verify_ws_security(envelope, keys, now, 300, signed_blocks=signed_blocks, seen=seen)


def refusal(data: bytes, **options: object) -> str:
    with pytest.raises(Problem) as caught:
        verify(data, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, NotIdentified | Malformed)
    return caught.value.reason


# ---- What holds


@pytest.mark.parametrize("version", SoapVersion)
@pytest.mark.parametrize(("owner", "pss"), [(EC, False), (RSA, False), (RSA, True)])
def test_a_registered_key_is_proven(version: SoapVersion, owner: Owner, pss: bool) -> None:
    signed = owner.sign(write_soap(version, PAYLOAD, [EXCHANGE]), pss=pss)
    assert verify(signed) == owner.record
    envelope = read_soap(signed, version.media_type, understood=UNDERSTOOD)
    assert payload_bytes(envelope.payload) == payload_bytes(read_xml(PAYLOAD))


def test_a_signer_that_keeps_its_key_to_itself_signs_too() -> None:
    for algorithm in ("ES256", "PS256"):
        key = SigningKey.generate(algorithm, name=SYSTEM)  # type: ignore[arg-type]
        record = key_record(read_certificate(key.certificate_pem), SYSTEM)
        signed = sign_ws_security(MESSAGE, key, key.certificate_pem, NOW, signed_blocks=SIGNED)
        assert verify(signed, keys=Directory(record)) == record


def test_a_certificate_of_an_authority_serves_as_well(tmp_path: Path) -> None:
    authority = SandboxAuthority.create(tmp_path / "ca", "CA")
    key = authority.issue_key(SYSTEM)
    record = key_record(read_certificate(key.certificate_pem), SYSTEM)
    assert verify(
        sign_ws_security(MESSAGE, key, key.certificate_pem, NOW), keys=Directory(record), signed_blocks=frozenset()
    )


def enveloped(inside: str, declarations: str = "") -> bytes:
    return f'<s:Envelope xmlns:s="{V11.namespace}" {declarations}>{inside}</s:Envelope>'.encode()


@pytest.mark.parametrize(
    "message",
    [
        write_soap(V11, PAYLOAD),
        f'<Envelope xmlns="{V11.namespace}"><Body><a xmlns="">1</a></Body></Envelope>'.encode(),
        enveloped("<s:Header/><s:Body><wsu:a/></s:Body>", 'xmlns:wsu="urn:taken"'),
        enveloped('\n <s:Body u:Id="B">\n<a>\r\n1&#13;</a></s:Body> ', f'xmlns:u="{WSU_NS}"'),
        write_soap(V11, "<a b='&lt;&#10;&quot;' xmlns:q='urn:q' q:c='Đ'>]]&gt; 𠀀</a>".encode()),
    ],
)
def test_awkward_envelopes_are_signed_and_verified(message: bytes) -> None:
    signed = EC.sign(message, signed_blocks=frozenset())
    assert verify(signed, signed_blocks=frozenset()) == EC.record
    before, after = read_soap(message, "text/xml"), read_soap(signed, "text/xml", understood=UNDERSTOOD)
    assert payload_bytes(before.payload) == payload_bytes(after.payload)


def test_the_security_header_of_another_actor_is_passed_by() -> None:
    other = f'<w:Security xmlns:w="{WSSE_NS}" soap:actor="urn:edge"><d:Signature xmlns:d="{DS_NS}"/></w:Security>'
    signed = SIGNED_MESSAGE.replace(b"<soap:Header>", b"<soap:Header>" + other.encode())
    assert verify(signed) == EC.record


def test_a_type_whose_prefix_is_declared_on_the_envelope_needs_the_prefix_in_the_signature() -> None:
    """Exclusive C14N leaves such a declaration out, so anybody could bind the prefix to another namespace."""
    xsi = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'
    outside = EC.sign(
        enveloped('<s:Body><a i:type="d:T"/></s:Body>', f'{xsi} xmlns:d="urn:d"'), signed_blocks=frozenset()
    )
    assert refusal(outside, signed_blocks=frozenset()) == "ws-security-not-signed"
    inside = write_soap(V11, f'<d:a {xsi} xmlns:d="urn:d" i:type="d:T"/>'.encode())
    assert verify(EC.sign(inside, signed_blocks=frozenset()), signed_blocks=frozenset()) == EC.record


# ---- A toolkit whose every setting can be wrong


def resigned(
    change: Callable[[etree._Element], None] = lambda _: None,
    *,
    owner: Owner = EC,
    base: bytes | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    digest: bool = True,
) -> bytes:
    """The good message after a change that its own sender makes: digests and signature are made anew over it."""
    root = read_xml(base or owner.sign(MESSAGE))
    change(root)
    for reference in root.iter(f"{{{DS_NS}}}Reference") if digest else ():
        target = [e for e in root.iter() if e.get(f"{{{WSU_NS}}}Id") == reference.get("URI", "")[1:]]
        if target:
            transform = reference.find(f".//{{{DS_NS}}}Transform")
            text = hashlib.sha256(canonical(target[0], reference if transform is None else transform)).digest()
            find(reference, "DigestValue").text = base64.b64encode(text).decode()
    info = root.find(f".//{{{DS_NS}}}SignedInfo")
    if info is None:
        return etree.tostring(root)
    value = (sign or (lambda data: SigningKey(owner.private_key).sign(data)))(canonical(info, info[0]))
    find(root, "SignatureValue").text = base64.b64encode(value).decode()
    return etree.tostring(root)


def canonical(element: etree._Element, method: etree._Element) -> bytes:
    exclusive = method.get("Algorithm", "").startswith(EXCLUSIVE_C14N)
    prefixes = method[0].get("PrefixList", "").split(" ") if len(method) and exclusive else None
    return etree.tostring(element, method="c14n", exclusive=exclusive, with_tail=False, inclusive_ns_prefixes=prefixes)


def find(root: etree._Element, name: str, namespace: str = DS_NS) -> etree._Element:
    found = root.find(f".//{{{namespace}}}{name}")
    assert found is not None
    return found


def setting(name: str, attribute: str, value: str, *, every: bool = False) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        for element in list(root.iter(f"{{{DS_NS}}}{name}"))[: None if every else 1]:
            element.set(attribute, value)

    return change


def adding(parent: str, child: str, *, at: int = 99, namespace: str = DS_NS) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        find(root, parent, namespace).insert(at, etree.fromstring(child))

    return change


def without(name: str, namespace: str = DS_NS) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        element = find(root, name, namespace)
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return change


def without_reference(position: int) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        info = find(root, "SignedInfo")
        info.remove(info[2 + position])

    return change


def retimed(created: str, expires: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        find(root, "Created", WSU_NS).text = created
        find(root, "Expires", WSU_NS).text = expires

    return change


def wire(seconds: int) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_hand_made_signature_is_good_until_something_is_changed() -> None:
    assert verify(resigned()) == EC.record
    assert verify(resigned(retimed(wire(-10), wire(3590)))) == EC.record
    # .NET writes seven digits, WSS4J lists prefixes: both are common.
    assert verify(resigned(retimed(wire(0)[:-1] + ".1234567Z", wire(300)))) == EC.record
    listed = f'<c:InclusiveNamespaces xmlns:c="{EXCLUSIVE_C14N}" PrefixList="soap x"/>'
    assert verify(resigned(adding("Transform", listed))) == EC.record
    assert verify(resigned(adding("CanonicalizationMethod", listed))) == EC.record


def hmac_with_the_public_key(data: bytes) -> bytes:
    public = EC.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made = hmac.HMAC(public, hashes.SHA256())
    made.update(data)
    return made.finalize()


def rsa_sha1(data: bytes) -> bytes:
    assert isinstance(RSA.private_key, rsa.RSAPrivateKey)
    return RSA.private_key.sign(data, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303


XMLDSIG, MORE = "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2001/04/xmldsig-more#"
TRANSFORM = f'<d:Transform xmlns:d="{DS_NS}" Algorithm="{{}}"/>'
KEY_VALUE = f'<d:KeyValue xmlns:d="{DS_NS}"><d:RSAKeyValue/></d:KeyValue>'
X509_DATA = f'<d:X509Data xmlns:d="{DS_NS}"><d:X509Certificate>AAAA</d:X509Certificate></d:X509Data>'
OBJECT = f'<d:Object xmlns:d="{DS_NS}" Id="o"><a/></d:Object>'
SECOND = f'<d:Signature xmlns:d="{DS_NS}"/>'
ALGORITHM, FORM, CANONICALIZATION = (
    "ws-security-algorithm",
    "ws-security-signature-form",
    "ws-security-canonicalization",
)
WRONG_SETTINGS: dict[str, tuple[Callable[[etree._Element], None], str]] = {
    "rsa-sha1": (setting("SignatureMethod", "Algorithm", f"{XMLDSIG}rsa-sha1"), ALGORITHM),
    "ecdsa-sha1": (setting("SignatureMethod", "Algorithm", f"{MORE}ecdsa-sha1"), ALGORITHM),
    "ecdsa-sha512": (setting("SignatureMethod", "Algorithm", f"{MORE}ecdsa-sha512"), ALGORITHM),
    "dsa-sha1": (setting("SignatureMethod", "Algorithm", f"{XMLDSIG}dsa-sha1"), ALGORITHM),
    "hmac-sha256": (setting("SignatureMethod", "Algorithm", f"{MORE}hmac-sha256"), ALGORITHM),
    "an encryption's name": (
        setting("SignatureMethod", "Algorithm", "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
        ALGORITHM,
    ),
    "another key's method": (setting("SignatureMethod", "Algorithm", f"{MORE}rsa-sha256"), ALGORITHM),
    "no method": (setting("SignatureMethod", "Algorithm", ""), ALGORITHM),
    "a length for the hmac": (
        adding("SignatureMethod", f'<d:HMACOutputLength xmlns:d="{DS_NS}">1</d:HMACOutputLength>'),
        ALGORITHM,
    ),
    "digest sha1": (setting("DigestMethod", "Algorithm", f"{XMLDSIG}sha1"), ALGORITHM),
    "digest md5": (setting("DigestMethod", "Algorithm", f"{MORE}md5"), ALGORITHM),
    "inclusive c14n of the signature": (
        setting("CanonicalizationMethod", "Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        CANONICALIZATION,
    ),
    "inclusive c14n of a part": (
        setting("Transform", "Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        CANONICALIZATION,
    ),
    "c14n with comments": (setting("Transform", "Algorithm", f"{EXCLUSIVE_C14N}WithComments"), CANONICALIZATION),
    "xpath": (adding("Transforms", TRANSFORM.format("http://www.w3.org/TR/1999/REC-xpath-19991116")), CANONICALIZATION),
    "xslt": (adding("Transforms", TRANSFORM.format("http://www.w3.org/TR/1999/REC-xslt-19991116")), CANONICALIZATION),
    "xpath alone": (
        setting("Transform", "Algorithm", "http://www.w3.org/2002/06/xmldsig-filter2"),
        CANONICALIZATION,
    ),
    "enveloped": (adding("Transforms", TRANSFORM.format(f"{XMLDSIG}enveloped-signature"), at=0), CANONICALIZATION),
    "base64": (adding("Transforms", TRANSFORM.format(f"{XMLDSIG}base64"), at=0), CANONICALIZATION),
    "c14n twice": (adding("Transforms", TRANSFORM.format(EXCLUSIVE_C14N)), CANONICALIZATION),
    "no transform": (without("Transform"), CANONICALIZATION),
    "a transform with content": (adding("Transform", "<XPath>1</XPath>"), CANONICALIZATION),
    "no transforms": (without("Transforms"), FORM),
    "no references": (
        lambda root: [without_reference(0)(root) for _ in range(3)] and None,
        FORM,
    ),
    "the whole document": (setting("Reference", "URI", ""), FORM),
    "a file": (setting("Reference", "URI", "file:///etc/hostname"), FORM),
    "an address": (setting("Reference", "URI", "http://127.0.0.1:9/"), FORM),
    "an xpointer": (setting("Reference", "URI", "#xpointer(/)"), FORM),
    "the same part thrice": (setting("Reference", "URI", "#same", every=True), FORM),
    "an unknown part": (adding("SignedInfo", f'<d:Manifest xmlns:d="{DS_NS}"/>'), FORM),
    "KeyValue": (adding("KeyInfo", KEY_VALUE), FORM),
    "KeyValue first": (adding("KeyInfo", KEY_VALUE, at=0), FORM),
    "another certificate": (adding("KeyInfo", X509_DATA), FORM),
    "no KeyInfo": (without("KeyInfo"), FORM),
    "KeyInfo of nothing": (without("SecurityTokenReference", WSSE_NS), FORM),
    "an object": (adding("Signature", OBJECT), FORM),
    "no SignedInfo's method": (without("SignatureMethod"), FORM),
    "two signatures": (adding("Security", SECOND, namespace=WSSE_NS), "ws-security-parts"),
    "no signature": (without("Signature"), "ws-security-parts"),
    "no Timestamp": (without("Timestamp", WSU_NS), "ws-security-parts"),
    "no token": (without("BinarySecurityToken", WSSE_NS), "ws-security-parts"),
    "a password beside": (
        adding("Security", f'<w:UsernameToken xmlns:w="{WSSE_NS}"/>', namespace=WSSE_NS),
        "ws-security-parts",
    ),
    "Body not signed": (without_reference(0), "ws-security-not-signed"),
    "Timestamp not signed": (without_reference(1), "ws-security-not-signed"),
    "Exchange not signed": (without_reference(2), "ws-security-not-signed"),
    "expired": (retimed(wire(-900), wire(-301)), "ws-security-expired"),
    "from the future": (retimed(wire(301), wire(600)), "ws-security-from-future"),
    "a life of an hour and a second": (retimed(wire(0), wire(3601)), "ws-security-timestamp"),
    "a life of a century": (retimed(wire(0), "2126-01-01T00:00:00Z"), "ws-security-timestamp"),
    "expired before it began": (retimed(wire(10), wire(0)), "ws-security-timestamp"),
    "no time zone": (retimed(wire(0)[:-1], wire(300)[:-1]), "ws-security-timestamp"),
    "the end of time": (retimed("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"), "ws-security-timestamp"),
    "no moment": (retimed("now", "later"), "ws-security-timestamp"),
    "no Expires": (without("Expires", WSU_NS), "ws-security-timestamp"),
    "no Created": (without("Created", WSU_NS), "ws-security-timestamp"),
    "Created twice": (
        adding("Timestamp", f'<u:Created xmlns:u="{WSU_NS}">{wire(0)}</u:Created>', namespace=WSU_NS),
        "ws-security-timestamp",
    ),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_only_one_form_of_signature_is_taken(name: str) -> None:
    change, reason = WRONG_SETTINGS[name]
    assert refusal(resigned(change)) == reason


def test_a_signature_made_another_way_than_it_says_does_not_hold() -> None:
    method = setting("SignatureMethod", "Algorithm", f"{MORE}rsa-sha256")
    assert refusal(resigned(sign=hmac_with_the_public_key)) == "ws-security-signature-invalid"
    assert refusal(resigned(method, owner=RSA, sign=rsa_sha1)) == "ws-security-signature-invalid"
    assert refusal(resigned(sign=lambda _: b"")) == FORM
    assert refusal(resigned(sign=lambda _: b"\x00" * 64)) == "ws-security-signature-invalid"
    assert refusal(resigned(sign=lambda _: b"\x00" * 63)) == "ws-security-signature-invalid"


def test_more_references_than_anybody_needs_are_not_followed() -> None:
    def crowd(root: etree._Element) -> None:
        info = find(root, "SignedInfo")
        for number in range(6):
            copy = etree.fromstring(etree.tostring(info[2]))
            copy.set("URI", f"#other-{number}")
            info.append(copy)

    assert refusal(resigned(crowd)) == FORM


# ---- Wrapped and changed messages


def changed(change: Callable[[etree._Element], None], base: bytes = SIGNED_MESSAGE) -> bytes:
    """What somebody makes of a good message on the way: he cannot sign."""
    root = read_xml(base)
    change(root)
    return etree.tostring(root)


def wrap_body(root: etree._Element, place: str, *, new_id: str | None, qualified: bool = True) -> None:
    """Move the signed Body under another element and put a new one in its place."""
    body = find(root, "Body", V11.namespace)
    old_id = body.get(f"{{{WSU_NS}}}Id")
    root.remove(body)
    wrapper = etree.Element("{urn:w}Wrapper")
    wrapper.append(body)
    {
        "header": lambda: find(root, "Header", V11.namespace).append(wrapper),
        "security": lambda: find(root, "Security", WSSE_NS).append(wrapper),
        "signature": lambda: find(root, "Signature").append(wrapper),
        "sibling": lambda: root.append(wrapper),
        "exchange": lambda: find(root, "Exchange", "urn:lgsp:exchange:1").append(wrapper),
        "body": lambda: None,
    }[place]()
    new = etree.SubElement(root, f"{{{V11.namespace}}}Body")
    if new_id is not None:
        new.set(f"{{{WSU_NS}}}Id" if qualified else "Id", old_id if new_id == "same" else new_id)
    payload = etree.SubElement(new, "{urn:x}GuiHoSo")
    if place == "body":
        payload.append(wrapper)


WRAPPED = [
    ("header", None, "ws-security-not-signed"),
    ("header", "new", "ws-security-not-signed"),
    ("header", "same", "soap-id-duplicate"),
    ("security", None, "ws-security-parts"),
    ("signature", None, FORM),
    ("signature", "same", "soap-id-duplicate"),
    ("sibling", None, "soap-parts"),
    ("exchange", None, "ws-security-not-signed"),
    ("body", None, "ws-security-not-signed"),
    ("body", "new", "ws-security-not-signed"),
    ("body", "same", "soap-id-duplicate"),
]


@pytest.mark.parametrize(("place", "new_id", "reason"), WRAPPED)
def test_a_body_that_was_moved_away_does_not_vouch_for_another(place: str, new_id: str | None, reason: str) -> None:
    assert refusal(changed(lambda root: wrap_body(root, place, new_id=new_id))) == reason


def test_an_id_of_another_spelling_does_not_help() -> None:
    assert (
        refusal(changed(lambda root: wrap_body(root, "header", new_id="same", qualified=False))) == "soap-id-duplicate"
    )


def test_a_signature_over_a_copy_of_the_timestamp_does_not_make_ours_fresh() -> None:
    old = EC.sign(MESSAGE, NOW - timedelta(hours=1))

    def keep_the_old_one_elsewhere(root: etree._Element) -> None:
        timestamp = find(root, "Timestamp", WSU_NS)
        security = find(root, "Security", WSSE_NS)
        fresh = etree.fromstring(etree.tostring(timestamp))
        fresh.set(f"{{{WSU_NS}}}Id", "fresh")
        retimed(wire(0), wire(300))(fresh)
        security.replace(timestamp, fresh)
        etree.SubElement(find(root, "Header", V11.namespace), "{urn:w}W").append(timestamp)

    assert refusal(old) == "ws-security-expired"
    assert refusal(changed(keep_the_old_one_elsewhere, old)) == "ws-security-not-signed"


def test_a_block_that_was_swapped_is_not_the_signed_one() -> None:
    def swap(root: etree._Element) -> None:
        block = find(root, "Exchange", "urn:lgsp:exchange:1")
        header = block.getparent()
        assert header is not None
        header.remove(block)
        etree.SubElement(header, "{urn:w}Wrapper").append(block)
        header.append(etree.fromstring(EXCHANGE.replace(b"G99", b"G98")))

    assert refusal(changed(swap)) == "ws-security-not-signed"
    assert refusal(changed(without("Exchange", "urn:lgsp:exchange:1"))) == "ws-security-not-signed"
    unsigned = EC.sign(MESSAGE, signed_blocks=frozenset())
    assert verify(unsigned, signed_blocks=frozenset()) == EC.record
    assert refusal(unsigned) == "ws-security-not-signed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Nguy", b"nguy"),
        (b"G99", b"G98"),
        (b"dossier.transfer/1", b"dossier.transfer/2"),
        (b"<x:ten>", b"<x:ten >\n"),
        (b"urn:x", b"urn:y"),
        (b"</x:GuiHoSo>", b"<x:them/></x:GuiHoSo>"),
        (b"<x:GuiHoSo", b"<x:GuiHoSo a='1'"),
        (wire(300)[:10].encode(), b"2099-01-01"),
        (b"xml-exc-c14n#", b"xml-exc-c14n# "),
    ],
)
def test_a_changed_byte_is_noticed(old: bytes, new: bytes) -> None:
    assert old in SIGNED_MESSAGE
    assert refusal(SIGNED_MESSAGE.replace(old, new)).startswith("ws-security-")


def test_every_flipped_character_of_the_signature_and_its_digests_is_noticed() -> None:
    text = SIGNED_MESSAGE.decode()
    for name in ("SignatureValue", "DigestValue"):
        for found in re.finditer(f"<ds:{name}>([^<]+)<", text):
            at = found.start(1) + 5
            flipped = "A" if text[at] != "A" else "B"
            assert refusal((text[:at] + flipped + text[at + 1 :]).encode()) == "ws-security-signature-invalid"


def test_random_damage_is_refused_with_a_reason_or_changes_nothing() -> None:
    chance = random.Random(1306)
    pieces = [found.span() for found in re.finditer(rb"<[^>]+>|[A-Za-z0-9+/=:#.-]+", SIGNED_MESSAGE)]
    good = read_soap(SIGNED_MESSAGE, "text/xml", understood=UNDERSTOOD)
    for _ in range(1500):
        data = bytearray(SIGNED_MESSAGE)
        (start, end), (other, other_end) = chance.choice(pieces), chance.choice(pieces)
        data[start:end] = chance.choice((b"", SIGNED_MESSAGE[other:other_end], SIGNED_MESSAGE[start:end] * 2, b"0"))
        try:
            verify(bytes(data))
        except (NotIdentified, Malformed):
            continue
        read = read_soap(bytes(data), "text/xml", understood=UNDERSTOOD)
        assert payload_bytes(read.payload) == payload_bytes(good.payload)
        assert payload_bytes(read.blocks[EXCHANGE_BLOCK]) == payload_bytes(good.blocks[EXCHANGE_BLOCK])


# ---- Keys


def test_only_a_registered_certificate_speaks() -> None:
    unknown = "ws-security-certificate-unknown"
    assert refusal(STRANGER.sign(MESSAGE)) == unknown
    # Another certificate for a registered key, and another key under a registered name and serial number.
    assert refusal(Owner(EC.private_key, a_certificate(EC.private_key, serial=1)).sign(MESSAGE)) == unknown
    same_serial = a_certificate(STRANGER.private_key, serial=4711)
    assert refusal(Owner(STRANGER.private_key, same_serial).sign(MESSAGE)) == unknown
    bus = replace(EC.record, attests=True)
    assert refusal(SIGNED_MESSAGE, keys=Directory(bus)) == unknown


def test_a_registered_certificate_over_a_strangers_signature_does_not_hold() -> None:
    def borrow(root: etree._Element) -> None:
        find(root, "BinarySecurityToken", WSSE_NS).text = "".join(EC.pem.splitlines()[1:-1])

    assert refusal(changed(borrow, STRANGER.sign(MESSAGE))) == "ws-security-signature-invalid"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revoked_at": NOW - timedelta(seconds=1)}, "key-revoked"),
        ({"not_after": NOW - timedelta(seconds=1)}, "key-expired"),
        ({"not_before": NOW + timedelta(seconds=1)}, "key-not-yet-valid"),
    ],
)
def test_a_key_that_may_not_sign_now_is_refused(changes: dict[str, datetime], reason: str) -> None:
    assert refusal(SIGNED_MESSAGE, keys=Directory(replace(EC.record, **changes))) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda root: setattr(find(root, "BinarySecurityToken", WSSE_NS), "text", "!!!"),
        lambda root: setattr(find(root, "BinarySecurityToken", WSSE_NS), "text", "AAAA"),
        lambda root: setattr(find(root, "BinarySecurityToken", WSSE_NS), "text", ""),
        lambda root: setattr(find(root, "BinarySecurityToken", WSSE_NS), "text", "A" * 100_000),
        lambda root: find(root, "BinarySecurityToken", WSSE_NS).set("ValueType", "#PKCS7"),
        lambda root: find(root, "BinarySecurityToken", WSSE_NS).set("EncodingType", "#HexBinary"),
        adding("BinarySecurityToken", "<a/>", namespace=WSSE_NS),
    ],
)
def test_a_token_is_one_certificate(change: Callable[[etree._Element], None]) -> None:
    assert refusal(changed(change)) == "ws-security-token"


def test_a_weak_key_is_no_token() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    token = "".join(a_certificate(weak).splitlines()[1:-1])
    assert (
        refusal(changed(lambda r: setattr(find(r, "BinarySecurityToken", WSSE_NS), "text", token)))
        == "ws-security-token"
    )


# ---- Replays


def test_a_signature_counts_once_where_it_is_remembered() -> None:
    seen = SeenSignatures()
    assert verify(SIGNED_MESSAGE, seen=seen) == EC.record
    assert refusal(SIGNED_MESSAGE, seen=seen) == "ws-security-replayed"
    # A second signature of the same key over the same text: ECDSA allows it to anybody who has the first.
    again = resigned(base=SIGNED_MESSAGE, digest=False)
    assert again != SIGNED_MESSAGE
    assert refusal(again, seen=seen) == "ws-security-replayed"
    assert verify(EC.sign(MESSAGE), seen=seen) == EC.record
    assert verify(SIGNED_MESSAGE) == EC.record


def test_a_signature_counts_once_among_all_who_share_a_memory() -> None:
    used: set[bytes] = set()
    asked: list[bytes] = []

    def use_once(proof: bytes, _expires_at: datetime) -> bool:
        asked.append(proof)
        first = proof not in used
        used.add(proof)
        return first

    here, there = SeenSignatures(use_once=use_once), SeenSignatures(use_once=use_once)
    assert verify(SIGNED_MESSAGE, seen=here) == EC.record
    assert refusal(SIGNED_MESSAGE, seen=there) == "ws-security-replayed"
    assert len(asked) == 2
    for seen in (here, there):
        assert refusal(SIGNED_MESSAGE, seen=seen) == "ws-security-replayed"
    assert len(asked) == 2, "who has seen it need not ask again"


def test_a_use_that_cannot_be_noted_does_not_count() -> None:
    def away(_proof: bytes, _expires_at: datetime) -> bool:
        raise OSError("the store is away")

    seen = SeenSignatures(use_once=away)
    with pytest.raises(OSError, match="away"):
        verify(SIGNED_MESSAGE, seen=seen)
    seen._use_once = lambda *_: True
    assert verify(SIGNED_MESSAGE, seen=seen) == EC.record, "the same call, made again"


def test_a_refused_message_is_not_remembered() -> None:
    seen = SeenSignatures()
    assert refusal(SIGNED_MESSAGE.replace(b"G99", b"G98"), seen=seen) == "ws-security-signature-invalid"
    assert verify(SIGNED_MESSAGE, seen=seen) == EC.record


def test_what_has_expired_is_forgotten_and_the_memory_is_bounded() -> None:
    seen = SeenSignatures(capacity=3)
    for number in range(10):
        seen.use(bytes([number]), NOW + timedelta(seconds=number), NOW)
    with pytest.raises(NotIdentified):
        seen.use(bytes([9]), NOW + timedelta(seconds=9), NOW)
    seen.use(bytes([9]), NOW + timedelta(seconds=99), NOW + timedelta(seconds=50))


def test_eight_threads_verify_their_own_messages() -> None:
    wrong: list[str] = []

    def work(owner: Owner) -> None:
        good, bad = owner.sign(MESSAGE), owner.sign(MESSAGE).replace(b"G99", b"G98")
        for _ in range(20):
            if verify(good) != owner.record:
                wrong.append("good")
            if refusal(bad) != "ws-security-signature-invalid":
                wrong.append("bad")

    threads = [threading.Thread(target=work, args=(owner,)) for owner in (EC, RSA) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- Signing


def test_what_cannot_be_signed_is_refused() -> None:
    with pytest.raises(ValueError):
        EC.sign(SIGNED_MESSAGE)
    with pytest.raises(ValueError):
        EC.sign(write_soap(V11, PAYLOAD))
    with pytest.raises(ValueError):
        EC.sign(PAYLOAD)
    with pytest.raises(Malformed):
        sign_ws_security(MESSAGE, EC.private_key, STRANGER.pem, NOW)
