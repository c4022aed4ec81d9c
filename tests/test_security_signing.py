"""Manifests and receipts as compact JWS: what verifies, and everything that must not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import AttachmentReference, Manifest, Means
from schemas.problem import Malformed, NotIdentified, Problem
from security import base64url
from security.certificates import key_record, read_certificate
from security.keys import PublicKeyRecord, SigningKey
from security.signing import MANIFEST_TYPE, sign_compact, sign_manifest, sign_receipt, verify_manifest, verify_receipt

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


SYSTEM = SystemCode("H99.15/mot-cua")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = SigningKey.generate(name=SYSTEM)
OTHER_KEY = SigningKey.generate(name=SYSTEM)
RSA_KEY = SigningKey.generate("PS256", name=SYSTEM)


class Directory:
    """A key directory over a dictionary, as the registry's snapshot is one."""

    def __init__(self, *records: PublicKeyRecord) -> None:
        self.records = {record.key_id: record for record in records}

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.records.get(key_id)


def record_of(key: SigningKey, system: SystemCode = SYSTEM) -> PublicKeyRecord:
    return key_record(read_certificate(key.certificate_pem), system)


RECORD = record_of(KEY)
KEYS = Directory(RECORD, record_of(RSA_KEY))


def a_manifest(**changes: object) -> Manifest:
    body = b'{"maHoSo":"H99.15-260423-0001"}'
    manifest = Manifest(
        message_id=MessageId("018f3c1e-7b0a-7000-8000-000000000001"),
        sender=AgencyCode("H99.15"),
        receivers=(AgencyCode("G99"),),
        service=ServiceCode("dossier.transfer"),
        service_version=1,
        issued_at=NOW,
        content_type="application/json",
        body_sha256=hashlib.sha256(body).hexdigest(),
        body_length=len(body),
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def signed(header: object, payload: bytes, key: SigningKey = KEY) -> str:
    """A JWS with any header, properly signed: only the header can be what is refused."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{base64url.encode(text)}.{base64url.encode(payload)}"
    return f"{signing_input}.{base64url.encode(key.sign(signing_input.encode()))}"


PAYLOAD = json.dumps(a_manifest().to_claims()).encode()
HEADER = {"alg": "ES256", "typ": MANIFEST_TYPE, "kid": KEY.key_id, "x5t#S256": KEY.thumbprint}
GOOD = sign_manifest(a_manifest(), KEY)


def with_signature(signature: bytes) -> str:
    return f"{GOOD.rpartition('.')[0]}.{base64url.encode(signature)}"


def raw_signature() -> tuple[int, int]:
    signature = base64url.decode(GOOD.rpartition(".")[2])
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


def pair(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def hmac_with_the_public_key() -> str:
    """The classic: the attacker takes the public key's text as the secret of an HMAC."""
    header = base64url.encode(json.dumps(HEADER | {"alg": "HS256"}).encode())
    signing_input = f"{header}.{base64url.encode(PAYLOAD)}"
    pem = KEY.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"{signing_input}.{base64url.encode(hmac.digest(pem, signing_input.encode(), 'sha256'))}"


def reason_of(jws: str, keys: Directory = KEYS, now: datetime = NOW) -> str:
    with pytest.raises(Problem) as caught:
        verify_manifest(jws, keys, now)
    assert isinstance(caught.value, NotIdentified | Malformed)
    return caught.value.reason


@pytest.mark.parametrize("key", [KEY, RSA_KEY], ids=["ES256", "PS256"])
def test_a_signed_manifest_verifies_and_comes_back_whole(key: SigningKey) -> None:
    manifest = a_manifest(attachments=(AttachmentReference(sha256="0" * 64, length=3, name="Giấy khai sinh.pdf"),))
    jws = sign_manifest(manifest, key)
    verified = verify_manifest(jws, KEYS, NOW)
    assert verified.manifest == manifest
    assert verified.key.key_id == key.key_id
    payload = base64url.decode(jws.split(".")[1])
    assert verified.payload_sha256 == hashlib.sha256(payload).hexdigest()


@pytest.mark.parametrize(("key", "make"), [(KEY, ECKey.import_key), (RSA_KEY, RSAKey.import_key)], ids=["ES", "PS"])
def test_joserfc_reads_what_we_sign_and_we_read_what_it_signs(key: SigningKey, make: object) -> None:
    private = make(key.to_pem().partition(b"-----BEGIN CERT")[0])  # type: ignore[operator]
    registry = JWSRegistry(algorithms=[key.algorithm], strict_check_header=False)
    ours = sign_manifest(a_manifest(), key)
    theirs_read = joserfc_jws.deserialize_compact(ours, private, registry=registry)
    assert json.loads(theirs_read.payload) == a_manifest().to_claims()
    header = HEADER | {"alg": key.algorithm, "kid": key.key_id, "x5t#S256": key.thumbprint}
    theirs = joserfc_jws.serialize_compact(header, PAYLOAD, private, registry=registry)
    assert verify_manifest(theirs, KEYS, NOW).manifest == a_manifest()


def test_the_key_id_is_the_thumbprint_that_joserfc_computes() -> None:
    for key, make in ((KEY, ECKey), (RSA_KEY, RSAKey)):
        imported = make.import_key(key.to_pem().partition(b"-----BEGIN CERT")[0])
        assert imported.thumbprint() == key.key_id


ALIEN_HEADERS: dict[str, tuple[object, str]] = {
    "alg none": (HEADER | {"alg": "none"}, "algorithm-not-allowed"),
    "alg None in capitals": (HEADER | {"alg": "NONE"}, "algorithm-not-allowed"),
    "alg HS256": (HEADER | {"alg": "HS256"}, "algorithm-not-allowed"),
    "alg ES512": (HEADER | {"alg": "ES512"}, "algorithm-not-allowed"),
    "alg EdDSA": (HEADER | {"alg": "EdDSA"}, "algorithm-not-allowed"),
    "alg RS256 for a P-256 key": (HEADER | {"alg": "RS256"}, "algorithm-not-allowed"),
    "alg PS256 for a P-256 key": (HEADER | {"alg": "PS256"}, "algorithm-not-allowed"),
    "alg missing": ({k: v for k, v in HEADER.items() if k != "alg"}, "algorithm-not-allowed"),
    "alg a list": (HEADER | {"alg": "ES256", "kid": [KEY.key_id]}, "header-not-allowed"),
    "typ missing": ({k: v for k, v in HEADER.items() if k != "typ"}, "header-not-allowed"),
    "typ of a receipt": (HEADER | {"typ": "lgsp-receipt+jws"}, "header-not-allowed"),
    "typ of a token": (HEADER | {"typ": "at+jwt"}, "header-not-allowed"),
    "kid missing": ({k: v for k, v in HEADER.items() if k != "kid"}, "header-not-allowed"),
    "x5t missing": ({k: v for k, v in HEADER.items() if k != "x5t#S256"}, "header-not-allowed"),
    "kid unknown": (HEADER | {"kid": "A" * 43}, "key-unknown"),
    "kid a path": (HEADER | {"kid": "../../etc/passwd"}, "key-unknown"),
    "x5t of another certificate": (HEADER | {"x5t#S256": OTHER_KEY.thumbprint}, "certificate-mismatch"),
    "crit": (HEADER | {"crit": ["exp"], "exp": 1}, "header-not-allowed"),
    "crit empty": (HEADER | {"crit": []}, "header-not-allowed"),
    "b64 false": (HEADER | {"b64": False, "crit": ["b64"]}, "header-not-allowed"),
    "b64 true": (HEADER | {"b64": True}, "header-not-allowed"),
    "jku": (HEADER | {"jku": "https://example.invalid/keys"}, "header-not-allowed"),
    "x5u": (HEADER | {"x5u": "https://example.invalid/cert"}, "header-not-allowed"),
    "jwk": (HEADER | {"jwk": {"kty": "EC"}}, "header-not-allowed"),
    "x5c": (HEADER | {"x5c": ["MIIB"]}, "header-not-allowed"),
    "zip": (HEADER | {"zip": "DEF"}, "header-not-allowed"),
    "duplicate alg": (json.dumps(HEADER)[:-1].encode() + b',"alg":"ES256"}', "manifest-unreadable"),
    "not an object": ([HEADER], "manifest-unreadable"),
    "not JSON": (b"alg=ES256", "manifest-unreadable"),
    "not UTF-8": (b'{"alg":"\xff"}', "manifest-unreadable"),
    "with a byte order mark": (b"\xef\xbb\xbf" + json.dumps(HEADER).encode(), "manifest-unreadable"),
    "enormous": (HEADER | {"kid": "A" * 2000}, "manifest-unreadable"),
}


@pytest.mark.parametrize("name", ALIEN_HEADERS)
def test_an_alien_header_is_refused_though_its_signature_holds(name: str) -> None:
    header, reason = ALIEN_HEADERS[name]
    assert reason_of(signed(header, PAYLOAD)) == reason


HEAD, BODY, TAIL = GOOD.split(".")


def bent_signatures() -> dict[str, bytes]:
    """After Wycheproof's lists for ECDSA in P1363 form."""
    r, s = raw_signature()
    good = pair(r, s)
    return {
        "empty": b"",
        "all zero": bytes(64),
        "r zero": pair(0, s),
        "s zero": pair(r, 0),
        "r = s = 1": pair(1, 1),
        "r = order": pair(P256_ORDER, s),
        "s = order": pair(r, P256_ORDER),
        "all ones": b"\xff" * 64,
        "truncated": good[:-1],
        "one byte more": good + b"\x00",
        "a byte before": b"\x00" + good,
        "r and s swapped": pair(s, r),
        "r negated": pair(P256_ORDER - r, s),
        "half": good[:32],
        "twice": good + good,
        "DER": encode_dss_signature(r, s),
        "of another key": OTHER_KEY.sign(f"{HEAD}.{BODY}".encode()),
        "of other data": KEY.sign(b"something else"),
        "of RSA": RSA_KEY.sign(f"{HEAD}.{BODY}".encode()),
    }


@pytest.mark.parametrize("name", bent_signatures())
def test_a_bent_signature_does_not_hold(name: str) -> None:
    assert reason_of(with_signature(bent_signatures()[name])) == "signature-invalid"


def test_the_twin_of_an_ecdsa_signature_names_the_same_message() -> None:
    """(r, n - s) is valid too, by RFC 7518. So the text of a JWS names nothing; the digest of its payload does."""
    r, s = raw_signature()
    twin = with_signature(pair(r, P256_ORDER - s))
    assert twin != GOOD
    assert verify_manifest(twin, KEYS, NOW).payload_sha256 == verify_manifest(GOOD, KEYS, NOW).payload_sha256


def other_last_character(segment: str) -> str:
    """Another text that lenient readers take for the same bytes: the spare bits of the last character set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) ^ 1]


UNREADABLE = {
    "one segment": HEAD,
    "two segments": f"{HEAD}.{BODY}",
    "four segments": f"{GOOD}.{TAIL}",
    "JSON serialisation": json.dumps({"protected": HEAD, "payload": BODY, "signature": TAIL}),
    "padding": f"{HEAD}.{BODY}.{TAIL}==",
    "a space inside": f"{HEAD}.{BODY[:9]} {BODY[9:]}.{TAIL}",
    "a newline at the end": GOOD + "\n",
    "standard alphabet": f"{HEAD}.{BODY}.{base64.b64encode(b'?' * 62 + bytes([251, 255])).decode().rstrip('=')}",
    "spare bits set": f"{HEAD}.{BODY}.{other_last_character(TAIL)}",
    "not ASCII": f"{HEAD}.{BODY}.{TAIL[:-1]}é",
    "a length that base64 cannot have": f"{HEAD}.{BODY}.{TAIL[:-1]}",
    "dots alone": "..",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_canonical_compact_jws_cannot_be_read(name: str) -> None:
    assert reason_of(UNREADABLE[name]) == "manifest-unreadable"


def test_an_empty_header_has_its_own_reason_and_a_long_one_too() -> None:
    assert reason_of("") == "manifest-missing"
    assert reason_of("A" * 20_000) == "manifest-too-long"


def test_an_hmac_made_with_the_public_key_is_refused() -> None:
    assert reason_of(hmac_with_the_public_key()) == "algorithm-not-allowed"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (PAYLOAD[:-1] + b',"sender":"G99"}', "json-duplicate-key"),
        (b"\xef\xbb\xbf" + PAYLOAD, "json-byte-order-mark"),
        (PAYLOAD.replace(b'"service_version": 1', b'"service_version": NaN'), None),
        (b"[]", "manifest-invalid"),
        (b"", None),
        (PAYLOAD[:-1] + b',"colour":"red"}', "manifest-unknown-member"),
    ],
    ids=["duplicate", "byte order mark", "NaN", "a list", "nothing", "unknown member"],
)
def test_a_payload_is_read_strictly_though_its_signature_holds(payload: bytes, reason: str | None) -> None:
    found = reason_of(signed(HEADER, payload))
    assert found == reason if reason else found.startswith("json-")


def test_an_unproven_payload_is_not_even_parsed() -> None:
    """A stranger gets the same answer for any payload: nothing of it was looked at."""
    forged = f"{HEAD}.{base64url.encode(b'{' * 500)}.{TAIL}"
    assert reason_of(forged) == "signature-invalid"


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(0, None), (-300, None), (300, None), (-301, "manifest-expired"), (301, "manifest-from-future")],
)
def test_a_manifest_counts_five_minutes_before_and_after_its_signing(seconds: int, reason: str | None) -> None:
    jws = sign_manifest(a_manifest(issued_at=NOW + timedelta(seconds=seconds)), KEY)
    if reason:
        assert reason_of(jws) == reason
    else:
        assert verify_manifest(jws, KEYS, NOW).manifest.issued_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"not_before": NOW + timedelta(seconds=1)}, "key-not-yet-valid"),
        ({"not_after": NOW - timedelta(seconds=1)}, "key-expired"),
        ({"revoked_at": NOW}, "key-revoked"),
        ({"revoked_at": NOW - timedelta(days=1)}, "key-revoked"),
        ({"thumbprint": OTHER_KEY.thumbprint}, "certificate-mismatch"),
        ({"agency": AgencyCode("H99.16")}, "key-of-another-agency"),
    ],
)
def test_a_key_signs_only_in_its_time_and_for_its_agency(changes: dict[str, object], reason: str) -> None:
    assert reason_of(GOOD, Directory(replace(RECORD, **changes))) == reason  # type: ignore[arg-type]


def test_a_key_revoked_later_still_counts_before() -> None:
    record = replace(RECORD, revoked_at=NOW + timedelta(seconds=1))
    assert verify_manifest(GOOD, Directory(record), NOW).key is record


@pytest.mark.parametrize(
    ("sender", "speaks_for_children", "allowed"),
    [
        ("H99.15", False, True),
        ("H99.15.01", False, False),
        ("H99.15.01", True, True),
        ("H99.15.01.02", True, True),
        ("H99", True, False),
        ("H99.150", True, False),
        ("H99.16", True, False),
        ("H99.40", True, True),
    ],
)
def test_a_one_stop_may_speak_for_those_below_it(sender: str, speaks_for_children: bool, allowed: bool) -> None:
    record = replace(RECORD, speaks_for_children=speaks_for_children, also_speaks_for=frozenset({AgencyCode("H99.40")}))
    jws = sign_manifest(a_manifest(sender=AgencyCode(sender)), KEY)
    if allowed:
        assert verify_manifest(jws, Directory(record), NOW).manifest.sender == sender
    else:
        assert reason_of(jws, Directory(record)) == "key-of-another-agency"


def test_only_the_bus_attests() -> None:
    manifest = a_manifest(attested_means=Means.TOKEN, attested_system=SYSTEM)
    jws = sign_manifest(manifest, KEY)
    assert reason_of(jws) == "attestation-not-yours"
    bus = replace(RECORD, attests=True, agency=AgencyCode("H99"))
    assert verify_manifest(jws, Directory(bus), NOW).manifest == manifest


def test_rs256_needs_the_legacy_flag() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    private = serialization.load_pem_private_key(RSA_KEY.to_pem(), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    header = {"alg": "RS256", "typ": MANIFEST_TYPE, "kid": RSA_KEY.key_id, "x5t#S256": RSA_KEY.thumbprint}
    signing_input = f"{base64url.encode(json.dumps(header).encode())}.{base64url.encode(PAYLOAD)}"
    signature = private.sign(signing_input.encode(), padding.PKCS1v15(), hashes.SHA256())
    jws = f"{signing_input}.{base64url.encode(signature)}"
    assert reason_of(jws) == "algorithm-not-allowed"
    assert verify_manifest(jws, KEYS, NOW, allow_rs256=True).manifest == a_manifest()
    # The flag opens RS256 for RSA keys and nothing else.
    with pytest.raises(NotIdentified) as caught:
        verify_manifest(signed(HEADER | {"alg": "RS256"}, PAYLOAD), KEYS, NOW, allow_rs256=True)
    assert caught.value.reason == "algorithm-not-allowed"


def test_a_pss_signature_with_another_salt_length_does_not_hold() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    private = serialization.load_pem_private_key(RSA_KEY.to_pem(), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    signing_input = sign_manifest(a_manifest(), RSA_KEY).rpartition(".")[0]
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=20)
    signature = private.sign(signing_input.encode(), pss, hashes.SHA256())
    assert reason_of(f"{signing_input}.{base64url.encode(signature)}") == "signature-invalid"


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=len(GOOD) - 1), st.integers(min_value=1, max_value=255))
def test_no_byte_of_a_signed_manifest_can_change(place: int, flip: int) -> None:
    changed = GOOD[:place] + chr(ord(GOOD[place]) ^ flip) + GOOD[place + 1 :]
    with pytest.raises(Problem):
        verify_manifest(changed, KEYS, NOW)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail_otherwise_than_by_a_problem(text: str) -> None:
    for candidate in (text, f"{text}.{BODY}.{TAIL}", f"{HEAD}.{text}.{TAIL}", f"{HEAD}.{BODY}.{text}"):
        with pytest.raises((NotIdentified, Malformed)):
            verify_manifest(candidate, KEYS, NOW)


def test_a_problem_repeats_nothing_of_what_came() -> None:
    for jws in (signed(HEADER | {"kid": "secret-word"}, PAYLOAD), f"secret-word.{BODY}.{TAIL}"):
        with pytest.raises(Problem) as caught:
            verify_manifest(jws, KEYS, NOW)
        assert "secret-word" not in str(caught.value) + caught.value.detail("vi")


CLAIMS = {"version": 1, "message_id": "018f3c1e-7b0a-7000-8000-000000000001", "iat": int(NOW.timestamp())}


def test_a_receipt_verifies_for_ever_but_not_under_another_key() -> None:
    jws = sign_receipt(CLAIMS, KEY)
    assert verify_receipt(jws, KEYS.find_key) == CLAIMS
    with pytest.raises(NotIdentified, match="registered key"):
        verify_receipt(jws, Directory(record_of(OTHER_KEY)).find_key)


def test_a_receipt_from_after_the_end_of_its_key_is_refused() -> None:
    jws = sign_receipt(CLAIMS | {"iat": int((RECORD.not_after + timedelta(days=1)).timestamp())}, KEY)
    with pytest.raises(NotIdentified) as caught:
        verify_receipt(jws, KEYS.find_key)
    assert caught.value.reason == "key-expired"


def test_a_manifest_does_not_pass_for_a_receipt_nor_a_receipt_for_a_manifest() -> None:
    with pytest.raises(NotIdentified) as caught:
        verify_receipt(GOOD, KEYS.find_key)
    assert caught.value.reason == "header-not-allowed"
    assert reason_of(sign_receipt(a_manifest().to_claims(), KEY)) == "header-not-allowed"


def test_nothing_is_signed_that_nobody_could_verify() -> None:
    bare = SigningKey.from_pem(KEY.to_pem().partition(b"-----BEGIN CERT")[0])
    with pytest.raises(ValueError, match="certificate"):
        sign_compact(b"{}", MANIFEST_TYPE, bare)
    with pytest.raises(ValueError, match="iat"):
        sign_receipt({"version": 1}, KEY)
