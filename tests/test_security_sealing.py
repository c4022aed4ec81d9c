"""Sealing: another library opens what we seal and we open what it seals; what was touched stays shut."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

from schemas.problem import Malformed
from security import base64url
from security.keys import Algorithm, SigningKey
from security.sealing import seal, unseal

TYP = "test+jwe"
CONTENT = "Nguyễn Thị Mẫu".encode()
KEYS: dict[Algorithm, SigningKey] = {"ES256": SigningKey.generate("ES256"), "PS256": SigningKey.generate("PS256")}
NAMES = {"ES256": "ECDH-ES+A256KW", "PS256": "RSA-OAEP-256"}


def theirs(key: SigningKey) -> ECKey | RSAKey:
    private = serialization.load_pem_private_key(key.to_pem(), None)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ECKey.import_key(pem) if key.algorithm == "ES256" else RSAKey.import_key(pem)


@pytest.mark.parametrize("algorithm", KEYS)
def test_another_library_opens_what_we_seal(algorithm: Algorithm) -> None:
    sealed = seal(CONTENT, KEYS[algorithm].public_key, typ=TYP, content_type="application/json")
    opened = jwe.decrypt_compact(sealed, theirs(KEYS[algorithm]), algorithms=[NAMES[algorithm], "A256GCM"])
    assert opened.plaintext == CONTENT
    assert opened.headers()["cty"] == "application/json"
    assert opened.headers()["kid"] == KEYS[algorithm].key_id


@pytest.mark.parametrize("algorithm", KEYS)
def test_we_open_what_another_library_seals(algorithm: Algorithm) -> None:
    header = {"alg": NAMES[algorithm], "enc": "A256GCM", "kid": KEYS[algorithm].key_id, "typ": TYP}
    sealed = jwe.encrypt_compact(header, CONTENT, theirs(KEYS[algorithm]), algorithms=[NAMES[algorithm], "A256GCM"])
    assert unseal(sealed, KEYS.values(), typ=TYP).content == CONTENT


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_was_touched_stays_shut(algorithm: Algorithm) -> None:
    sealed = seal(CONTENT, KEYS[algorithm].public_key, typ=TYP)
    for place, part in enumerate(sealed.split(".")):
        parts = sealed.split(".")
        raw = bytearray(base64url.decode(part))
        raw[len(raw) // 2] ^= 1
        parts[place] = base64url.encode(bytes(raw))
        with pytest.raises(Malformed) as refused:
            unseal(".".join(parts), KEYS.values(), typ=TYP)
        assert refused.value.reason in {"sealed-unreadable", "sealed-for-another-key"}


def changed(sealed: str, **members: object) -> str:
    head, rest = sealed.split(".", 1)
    header = json.loads(base64url.decode(head)) | members
    return base64url.encode(json.dumps({k: v for k, v in header.items() if v is not None}).encode()) + "." + rest


GOOD = seal(CONTENT, KEYS["ES256"].public_key, typ=TYP)
OFF_CURVE = {"kty": "EC", "crv": "P-256", "x": base64url.encode(b"\1" * 32), "y": base64url.encode(b"\2" * 32)}
OTHER_CURVE = {
    "kty": "EC",
    "crv": "P-384",
    "x": base64url.encode(ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers().x.to_bytes(48, "big")),
    "y": base64url.encode(b"\1" * 48),
}


HOSTILE = {
    "nothing": "",
    "empty parts": "....",
    "a part too many": GOOD + ".",
    "cut off": GOOD[:-1],
    "a long header": "x" * 100_000 + ".a.b.c.d",
    "a direct key": changed(GOOD, alg="dir"),
    "agreement without wrapping": changed(GOOD, alg="ECDH-ES"),
    "an old RSA": changed(GOOD, alg="RSA1_5"),
    "RSA for a P-256 key": changed(GOOD, alg="RSA-OAEP-256", epk=None),
    "another cipher": changed(GOOD, enc="A128CBC-HS256"),
    "compressed": changed(GOOD, zip="DEF"),
    "critical": changed(GOOD, crit=["x"]),
    "another type": changed(GOOD, typ="other+jwe"),
    "kid is a number": changed(GOOD, kid=7),
    "no point": changed(GOOD, epk=None),
    "the point is a text": changed(GOOD, epk="text"),
    "off the curve": changed(GOOD, epk=OFF_CURVE),
    "another curve": changed(GOOD, epk=OTHER_CURVE),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_seal_of_ours_is_refused(hostile: str) -> None:
    with pytest.raises(Malformed) as refused:
        unseal(hostile, KEYS.values(), typ=TYP)
    assert refused.value.reason == "sealed-unreadable"


def test_a_seal_for_somebody_else_says_so_and_two_seals_have_nothing_in_common() -> None:
    with pytest.raises(Malformed) as refused:
        unseal(seal(CONTENT, SigningKey.generate().public_key, typ=TYP), KEYS.values(), typ=TYP)
    assert refused.value.reason == "sealed-for-another-key"
    again = seal(CONTENT, KEYS["ES256"].public_key, typ=TYP)
    assert not set(again.split(".")) & set(GOOD.split("."))
