"""Who sends this? Signed manifests, bearer tokens, client assertions and secrets."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec
from jsonschema import Draft202012Validator

from schemas import bundled
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import Direction, Envelope, Grade, Manifest, Means
from schemas.problem import Malformed, NotIdentified, Problem, UnknownService
from schemas.soap import (
    EXCHANGE_BLOCK,
    EXCHANGE_NS,
    SECURITY_BLOCK,
    SoapVersion,
    payload_bytes,
    read_soap,
    write_soap,
)
from security import base64url
from security.certificates import key_record, read_certificate
from security.identity import Identification
from security.keys import KeyRing, PublicKeyRecord, SigningKey, self_signed_certificate
from security.signing import sign_manifest, verify_manifest
from security.tokens import (
    TokenAuthority,
    hash_secret,
    new_secret,
    refuse_weak_secret,
    verify_secret,
)
from security.ws_security import sign_ws_security

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


SYSTEM = SystemCode("H99.15/mot-cua")
BUS = SystemCode("H99/bus")
ISSUER = "urn:lgsp:bus:H99"
BODY = b'{"maHoSo":"H99.15-260423-0001"}'
ID = "018f3c1e-7b0a-7000-8000-000000000001"
KEY = SigningKey.generate(name=SYSTEM)
RECORD = key_record(read_certificate(KEY.certificate_pem), SYSTEM)


class Directory:
    def __init__(self, *records: PublicKeyRecord) -> None:
        self.records = {record.key_id: record for record in records}

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.records.get(key_id)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "ring", BUS)


@pytest.fixture
def tokens(ring: KeyRing) -> TokenAuthority:
    return TokenAuthority(ring, ISSUER)


@pytest.fixture
def identification(ring: KeyRing, tokens: TokenAuthority) -> Identification:
    versions = {ServiceCode("dossier.transfer"): 3}
    return Identification(Directory(RECORD), tokens, ring, versions.get)


def an_envelope(headers: dict[str, str], body: bytes = BODY, content_type: str = "application/json") -> Envelope:
    return Envelope(
        body=body,
        content_type=content_type,
        headers=headers,
        received_at=NOW,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def a_manifest(**changes: object) -> Manifest:
    manifest = Manifest(
        message_id=MessageId(ID),
        sender=AgencyCode("H99.15"),
        receivers=(AgencyCode("G99"),),
        service=ServiceCode("dossier.transfer"),
        service_version=1,
        issued_at=NOW,
        content_type="application/json",
        body_sha256=hashlib.sha256(BODY).hexdigest(),
        body_length=len(BODY),
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def signed_headers(**changes: object) -> dict[str, str]:
    return {"lgsp-manifest": sign_manifest(a_manifest(**changes), KEY)}


def content_digest(body: bytes, algorithm: str = "sha-256") -> str:
    name = algorithm.replace("-", "")
    return f"{algorithm}=:{base64.b64encode(hashlib.new(name, body).digest()).decode()}:"


def refusal(identification: Identification, envelope: Envelope) -> tuple[type[Problem], str]:
    with pytest.raises(Problem) as caught:
        identification.identify(envelope)
    return type(caught.value), caught.value.reason


def test_a_signed_message_is_its_senders(identification: Identification) -> None:
    headers = signed_headers()
    message = identification.identify(an_envelope(headers))
    assert message.grade is Grade.SIGNED
    assert (message.principal.agency, message.principal.system) == ("H99.15", SYSTEM)
    assert message.principal.means is Means.MANIFEST
    assert message.principal.key_id == KEY.key_id
    assert message.manifest_jws == headers["lgsp-manifest"]
    assert message.body == BODY
    assert message.trace_id == "0af7651916cd43dd8448eb211c80319c"


def test_a_charset_added_by_a_client_library_changes_nothing(identification: Identification) -> None:
    message = identification.identify(an_envelope(signed_headers(), content_type="Application/JSON; charset=utf-8"))
    assert message.manifest.content_type == "application/json"


TAMPERED: dict[str, tuple[dict[str, str], bytes, str, str]] = {
    "another byte": (signed_headers(), BODY.replace(b"0001", b"0002"), "application/json", "body-digest-mismatch"),
    "a byte more": (signed_headers(), BODY + b" ", "application/json", "body-length-mismatch"),
    "nothing": (signed_headers(), b"", "application/json", "body-length-mismatch"),
    "another type": (signed_headers(), BODY, "application/xml", "content-type-mismatch"),
    "a reply": (signed_headers(direction=Direction.REPLY), BODY, "application/json", "direction-not-request"),
    "another sender": (signed_headers(sender=AgencyCode("H99.16")), BODY, "application/json", "key-of-another-agency"),
    "no proof": ({}, BODY, "application/json", "unsigned"),
    "an empty proof": ({"lgsp-manifest": ""}, BODY, "application/json", "manifest-missing"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_not_signed_is_not_identified(identification: Identification, name: str) -> None:
    headers, body, content_type, reason = TAMPERED[name]
    assert refusal(identification, an_envelope(headers, body, content_type)) == (NotIdentified, reason)


def test_a_bad_manifest_is_not_saved_by_a_good_token(identification: Identification, tokens: TokenAuthority) -> None:
    headers = plain_headers(tokens) | {"lgsp-manifest": "a.b.c"}
    assert refusal(identification, an_envelope(headers))[1] == "manifest-unreadable"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (content_digest(BODY), None),
        (content_digest(BODY, "sha-512") + ", " + content_digest(BODY), None),
        (content_digest(b"other", "sha-512"), None),
        (content_digest(b"other"), "content-digest-mismatch"),
        (content_digest(BODY) + "," + content_digest(b"other"), "content-digest-mismatch"),
        ("sha-256=abc", "content-digest-unreadable"),
        ("", "content-digest-unreadable"),
        ("sha-256=:A:", "content-digest-unreadable"),
        (content_digest(BODY) * 20, "content-digest-unreadable"),
    ],
)
def test_a_content_digest_is_checked_when_present(
    identification: Identification, header: str, reason: str | None
) -> None:
    envelope = an_envelope(signed_headers() | {"content-digest": header})
    if reason:
        assert refusal(identification, envelope) == (Malformed, reason)
    else:
        assert identification.identify(envelope).body == BODY


def plain_headers(tokens: TokenAuthority) -> dict[str, str]:
    return {
        "authorization": f"Bearer {tokens.issue(SYSTEM, now=NOW)}",
        "lgsp-service": "dossier.transfer/1",
        "lgsp-receiver": "G99, H99.16",
        "lgsp-message-id": ID,
    }


def test_the_bus_writes_and_signs_the_manifest_of_a_caller_with_a_token(
    identification: Identification, tokens: TokenAuthority, ring: KeyRing
) -> None:
    headers = plain_headers(tokens) | {
        "lgsp-dossier": "H99.15-260423-0001",
        "lgsp-purpose": "tra-cuu",
        "lgsp-user": "canbo.mau",
    }
    message = identification.identify(an_envelope(headers))
    assert message.grade is Grade.ATTESTED
    assert message.principal.means is Means.TOKEN
    manifest = message.manifest
    assert (manifest.sender, manifest.receivers) == ("H99.15", ("G99", "H99.16"))
    assert (manifest.dossier, manifest.purpose, manifest.user) == ("H99.15-260423-0001", "tra-cuu", "canbo.mau")
    assert (manifest.attested_means, manifest.attested_system) == (Means.TOKEN, SYSTEM)
    verified = verify_manifest(message.manifest_jws, ring, NOW)
    assert (verified.manifest, verified.payload_sha256) == (manifest, message.manifest_sha256)


def test_a_repeated_attested_message_says_the_same(identification: Identification, tokens: TokenAuthority) -> None:
    envelope = an_envelope(plain_headers(tokens))
    later = replace(envelope, received_at=NOW + timedelta(seconds=90))
    first, second = identification.identify(envelope), identification.identify(later)
    assert first.manifest.facts_sha256() == second.manifest.facts_sha256()


def test_a_service_without_a_version_means_the_newest_open_one(
    identification: Identification, tokens: TokenAuthority
) -> None:
    headers = plain_headers(tokens) | {"lgsp-service": "dossier.transfer"}
    assert identification.identify(an_envelope(headers)).manifest.service_version == 3
    headers["lgsp-service"] = "dossier.unknown"
    assert refusal(identification, an_envelope(headers)) == (UnknownService, "no-open-version")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lgsp-message-id": ""}, "header-missing"),
        ({"lgsp-message-id": "1"}, "identifier-invalid"),
        ({"lgsp-service": ""}, "header-missing"),
        ({"lgsp-service": "dossier.transfer/"}, "header-invalid"),
        ({"lgsp-service": "dossier.transfer/0"}, "header-invalid"),
        ({"lgsp-service": "dossier.transfer/1/2"}, "header-invalid"),
        ({"lgsp-service": "Dossier"}, "identifier-invalid"),
        ({"lgsp-receiver": ""}, "header-missing"),
        ({"lgsp-receiver": "G99,G99"}, "header-invalid"),
        ({"lgsp-receiver": "G99,,H99"}, "identifier-invalid"),
        ({"lgsp-receiver": ",".join(["G99"] * 2000)}, "header-invalid"),
        ({"lgsp-dossier": "one"}, "identifier-invalid"),
        ({"lgsp-purpose": "a\nb"}, "header-invalid"),
        ({"lgsp-user": "x" * 101}, "header-invalid"),
        ({"content-digest": content_digest(b"other")}, "content-digest-mismatch"),
    ],
)
def test_plain_headers_are_read_strictly(
    identification: Identification, tokens: TokenAuthority, changes: dict[str, str], reason: str
) -> None:
    envelope = an_envelope(plain_headers(tokens) | changes)
    assert refusal(identification, envelope) == (Malformed, reason)


def test_an_attested_manifest_sent_back_to_the_bus_is_refused(
    ring: KeyRing, tokens: TokenAuthority, identification: Identification
) -> None:
    attested = identification.identify(an_envelope(plain_headers(tokens)))
    everybody = Identification(ring, tokens, ring, lambda service: None)
    envelope = an_envelope({"lgsp-manifest": attested.manifest_jws})
    assert refusal(everybody, envelope) == (NotIdentified, "attestation-not-yours")


# --- WS-Security -----------------------------------------------------------------------------------------------------

XML = b'<x:GuiHoSo xmlns:x="urn:x"><x:ma>H99.15-260423-0001</x:ma></x:GuiHoSo>'
SIGNER = ec.generate_private_key(ec.SECP256R1())
SIGNER_PEM = self_signed_certificate(SIGNER, name=SYSTEM, days=10)
FACTS = {"Service": "dossier.transfer/1", "Receiver": "G99", "MessageId": ID, "User": "canbo.mau"}


def an_exchange_block(facts: dict[str, str], more: str = "") -> bytes:
    children = "".join(f"<{name}>{value}</{name}>" for name, value in facts.items())
    return f'<Exchange xmlns="{EXCHANGE_NS}">{children}{more}</Exchange>'.encode()


def a_soap_envelope(
    block: bytes | None = None, headers: dict[str, str] | None = None, *, sign: bool = True, cover: bool = True
) -> Envelope:
    """What the door makes of a SOAP message; signed over its Exchange block unless told otherwise."""
    data = write_soap(SoapVersion.V11, XML, [] if block is None else [block])
    if sign:
        covered = frozenset({EXCHANGE_BLOCK}) if block and cover else frozenset[str]()
        data = sign_ws_security(data, SIGNER, SIGNER_PEM, NOW, signed_blocks=covered)
    soap = read_soap(data, "text/xml", understood=frozenset({SECURITY_BLOCK, EXCHANGE_BLOCK}))
    envelope = an_envelope(headers or {}, payload_bytes(soap.payload), "text/xml")
    return replace(envelope, soap=soap)


@pytest.fixture
def soap_identification(ring: KeyRing, tokens: TokenAuthority) -> Identification:
    record = key_record(read_certificate(SIGNER_PEM), SYSTEM)
    return Identification(Directory(record), tokens, ring, {ServiceCode("dossier.transfer"): 3}.get)


def test_a_signed_soap_message_is_attested_with_its_means(soap_identification: Identification, ring: KeyRing) -> None:
    message = soap_identification.identify(a_soap_envelope(an_exchange_block(FACTS, "<Receiver>H99.16</Receiver>")))
    assert message.grade is Grade.ATTESTED
    assert message.principal.means is Means.WS_SECURITY
    assert message.principal.key_id == key_record(read_certificate(SIGNER_PEM), SYSTEM).key_id
    manifest = message.manifest
    assert (manifest.sender, manifest.receivers, manifest.service_version) == ("H99.15", ("G99", "H99.16"), 1)
    assert (manifest.message_id, manifest.user) == (ID, "canbo.mau")
    assert (manifest.attested_means, manifest.attested_system) == (Means.WS_SECURITY, SYSTEM)
    verified = verify_manifest(message.manifest_jws, ring, NOW)
    assert (verified.manifest, verified.payload_sha256) == (manifest, message.manifest_sha256)
    Draft202012Validator(bundled.document("manifest")).validate(manifest.to_claims())


def test_a_signed_message_with_an_id_may_come_again(soap_identification: Identification) -> None:
    envelope = a_soap_envelope(an_exchange_block(FACTS))
    first, second = soap_identification.identify(envelope), soap_identification.identify(envelope)
    assert first.manifest.facts_sha256() == second.manifest.facts_sha256()


def test_a_signed_call_without_an_id_counts_once(soap_identification: Identification) -> None:
    envelope = a_soap_envelope()
    principal = soap_identification.identify_caller({}, NOW, envelope.soap)
    assert (principal.system, principal.means) == (SYSTEM, Means.WS_SECURITY)
    with pytest.raises(NotIdentified) as caught:
        soap_identification.identify_caller({}, NOW, envelope.soap)
    assert caught.value.reason == "ws-security-replayed"
    assert soap_identification.identify_caller({}, NOW, a_soap_envelope().soap) == principal


def test_unsigned_http_headers_say_nothing_beside_a_signed_block(soap_identification: Identification) -> None:
    headers = {"lgsp-receiver": "H99.17", "lgsp-purpose": "khac", "lgsp-user": "nguoi.khac"}
    headers |= {"lgsp-service": "dossier.transfer/1", "lgsp-message-id": ID}
    block = an_exchange_block({name: value for name, value in FACTS.items() if name != "User"})
    manifest = soap_identification.identify(a_soap_envelope(block, headers)).manifest
    assert (manifest.receivers, manifest.purpose, manifest.user) == (("G99",), "", "")
    no_service = an_exchange_block({name: value for name, value in FACTS.items() if name != "Service"})
    for envelope in (a_soap_envelope(no_service, headers), a_soap_envelope(headers=headers)):
        assert refusal(soap_identification, envelope) == (Malformed, "header-missing")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (an_exchange_block(FACTS | {"Service": ""}), "header-missing"),
        (an_exchange_block({"Service": "dossier.transfer/1"}), "header-missing"),
        (an_exchange_block(FACTS | {"Receiver": "G99,H99"}), "soap-block-invalid"),
        (an_exchange_block(FACTS, "<MessageId>2</MessageId>"), "soap-block-invalid"),
        (an_exchange_block(FACTS, "<Other/>"), "soap-block-invalid"),
        (an_exchange_block(FACTS, '<User xmlns="urn:other"/>'), "soap-block-invalid"),
        (an_exchange_block(FACTS, "<Purpose><b/></Purpose>"), "soap-block-invalid"),
        (an_exchange_block(FACTS, "text"), "soap-block-invalid"),
    ],
)
def test_an_exchange_block_is_read_strictly(soap_identification: Identification, block: bytes, reason: str) -> None:
    assert refusal(soap_identification, a_soap_envelope(block)) == (Malformed, reason)


def test_a_soap_message_without_proof_of_its_own_is_nobodys(
    soap_identification: Identification, tokens: TokenAuthority, ring: KeyRing
) -> None:
    block = an_exchange_block(FACTS)
    assert refusal(soap_identification, a_soap_envelope(block, sign=False)) == (NotIdentified, "unsigned")
    uncovered = a_soap_envelope(block, cover=False)
    assert refusal(soap_identification, uncovered) == (NotIdentified, "ws-security-not-signed")
    elsewhere = Identification(Directory(), tokens, ring, {}.get)
    unknown = (NotIdentified, "ws-security-certificate-unknown")
    assert refusal(elsewhere, a_soap_envelope(block)) == unknown
    record = key_record(read_certificate(SIGNER_PEM), SYSTEM)
    suspended = Identification(Directory(record), tokens, ring, {}.get, admits=lambda _: False)
    assert refusal(suspended, a_soap_envelope(block)) == unknown


def test_a_bad_token_is_not_saved_by_a_good_signature(soap_identification: Identification) -> None:
    block = an_exchange_block(FACTS)
    for headers, reason in (
        ({"authorization": "Bearer a.b.c"}, "token-invalid"),
        ({"lgsp-manifest": "a.b.c"}, "manifest-unreadable"),
    ):
        with pytest.raises(Problem) as caught:
            soap_identification.identify(a_soap_envelope(block, headers))
        assert caught.value.reason == reason


# --- tokens ----------------------------------------------------------------------------------------------------------


def token_reason(tokens: TokenAuthority, token: str, now: datetime = NOW) -> str:
    with pytest.raises(NotIdentified) as caught:
        tokens.verify(token, now)
    return caught.value.reason


def test_a_token_names_its_system_until_it_expires(tokens: TokenAuthority, identification: Identification) -> None:
    token = tokens.issue(SYSTEM, now=NOW)
    for _ in range(2):  # the second time from memory
        assert tokens.verify(token, NOW + timedelta(seconds=599)).system == SYSTEM
    assert token_reason(tokens, token, NOW + timedelta(seconds=600)) == "token-expired"
    assert token_reason(tokens, token, NOW + timedelta(seconds=601)) == "token-expired"
    assert token_reason(tokens, token, NOW - timedelta(seconds=301)) == "token-invalid"
    assert identification.identify_caller({"authorization": f"bearer {token}"}, NOW).agency == "H99.15"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token x"])
def test_a_caller_without_a_bearer_token_is_nobody(identification: Identification, authorization: str) -> None:
    with pytest.raises(NotIdentified) as caught:
        identification.identify_caller({"authorization": authorization}, NOW)
    assert caught.value.reason == "unsigned"


def test_a_token_of_another_bus_or_of_another_kind_is_refused(
    ring: KeyRing, tokens: TokenAuthority, tmp_path: Path
) -> None:
    strange = TokenAuthority(KeyRing.create(tmp_path / "other", BUS), ISSUER)
    elsewhere = TokenAuthority(ring, "urn:lgsp:bus:H98")
    good = tokens.issue(SYSTEM, now=NOW)
    bent = good[:-4] + ("AAAA" if not good.endswith("AAAA") else "BBBB")
    for token in (
        strange.issue(SYSTEM, now=NOW),
        elsewhere.issue(SYSTEM, now=NOW),
        sign_manifest(a_manifest(), ring),
        bent,
        "",
        "a.b.c",
        "A" * 5000,
    ):
        assert token_reason(tokens, token) == "token-invalid"


def test_tokens_of_the_old_key_live_on_after_a_rotation(ring: KeyRing, tokens: TokenAuthority) -> None:
    token = tokens.issue(SYSTEM, now=NOW)
    ring.rotate(now=NOW)
    assert TokenAuthority(ring, ISSUER).verify(token, NOW + timedelta(minutes=5)).system == SYSTEM


# --- client assertions -----------------------------------------------------------------------------------------------

CLAIMS = {
    "iss": SYSTEM,
    "sub": SYSTEM,
    "aud": ISSUER,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 240,
    "jti": "once",
}
HEADER = {"alg": "ES256", "typ": "JWT", "kid": KEY.key_id}


def an_assertion(claims: dict[str, object], header: dict[str, object], key: SigningKey = KEY) -> str:
    parts = [base64url.encode(json.dumps(part).encode()) for part in (header, claims)]
    return ".".join([*parts, base64url.encode(key.sign(".".join(parts).encode()))])


@pytest.mark.parametrize("header", [HEADER, {"alg": "ES256", "kid": KEY.key_id}, HEADER | {"x5t#S256": KEY.thumbprint}])
def test_a_system_with_only_its_signing_key_earns_a_token_once(
    tokens: TokenAuthority, header: dict[str, object]
) -> None:
    assertion = an_assertion(CLAIMS, header)
    principal = tokens.verify_assertion(assertion, Directory(RECORD), NOW)
    assert principal.system == SYSTEM
    with pytest.raises(NotIdentified) as caught:
        tokens.verify_assertion(assertion, Directory(RECORD), NOW)
    assert caught.value.reason == "assertion-replayed"


BAD_ASSERTIONS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "for another bus": ({"aud": "urn:lgsp:bus:H98"}, {}, "assertion-invalid"),
    "for nobody": ({"aud": None}, {}, "assertion-invalid"),
    "for another system": ({"sub": "H99.16/mot-cua"}, {}, "assertion-invalid"),
    "from another system": ({"iss": "H99.16/mot-cua"}, {}, "assertion-invalid"),
    "expired": ({"exp": int(NOW.timestamp()) - 301}, {}, "assertion-expired"),
    "living long": ({"exp": int(NOW.timestamp()) + 3600}, {}, "assertion-expired"),
    "exp a text": ({"exp": "soon"}, {}, "assertion-invalid"),
    "exp with a fraction": ({"exp": NOW.timestamp() + 0.5}, {}, "assertion-invalid"),
    "no jti": ({"jti": None}, {}, "assertion-invalid"),
    "jti endless": ({"jti": "x" * 201}, {}, "assertion-invalid"),
    "alg none": ({}, {"alg": "none"}, "algorithm-not-allowed"),
    "alg HS256": ({}, {"alg": "HS256"}, "algorithm-not-allowed"),
    "alg of another key": ({}, {"alg": "PS256"}, "assertion-invalid"),
    "jku": ({}, {"jku": "https://example.invalid"}, "header-not-allowed"),
    "crit": ({}, {"crit": "exp"}, "header-not-allowed"),
    "typ of a manifest": ({}, {"typ": "lgsp-evidence+jws"}, "header-not-allowed"),
    "kid unknown": ({}, {"kid": "A" * 43}, "key-unknown"),
    "kid a number": ({}, {"kid": 7}, "assertion-invalid"),
}


@pytest.mark.parametrize("name", BAD_ASSERTIONS)
def test_a_bad_assertion_earns_nothing(tokens: TokenAuthority, name: str) -> None:
    claims, header, reason = BAD_ASSERTIONS[name]
    with pytest.raises(NotIdentified) as caught:
        tokens.verify_assertion(an_assertion(CLAIMS | claims, HEADER | header), Directory(RECORD), NOW)
    assert caught.value.reason == reason


def test_an_assertion_signed_by_another_or_by_a_revoked_key_earns_nothing(tokens: TokenAuthority) -> None:
    with pytest.raises(NotIdentified) as caught:
        tokens.verify_assertion(an_assertion(CLAIMS, HEADER, SigningKey.generate()), Directory(RECORD), NOW)
    assert caught.value.reason == "signature-invalid"
    with pytest.raises(NotIdentified) as caught:
        tokens.verify_assertion(an_assertion(CLAIMS, HEADER), Directory(replace(RECORD, revoked_at=NOW)), NOW)
    assert caught.value.reason == "key-revoked"


# --- client secrets --------------------------------------------------------------------------------------------------


def test_a_secret_is_kept_as_argon2id_and_recognised() -> None:
    secret = new_secret()
    kept = hash_secret(secret)
    assert kept.startswith("$argon2id$")
    assert secret not in kept
    assert verify_secret(kept, secret)
    assert not verify_secret(kept, secret + "x")
    assert not verify_secret("", secret)
    assert not verify_secret("not a hash", secret)


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "H99.15@2026-matkhau",
        "h9915-mat-khau-manh",
        "matkhau-dai-H99.15",
        "Mot-Cua-mat-khau-88",
        "xxMOTCUAxx-12345678",
    ],
)
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(Malformed) as caught:
        refuse_weak_secret(secret, SYSTEM)
    assert caught.value.reason == "secret-weak"
    assert secret not in str(caught.value)


def test_a_random_secret_is_never_called_weak() -> None:
    for _ in range(300):
        refuse_weak_secret(f"k{new_secret()}k", SYSTEM)
