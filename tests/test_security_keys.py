"""Keys, rings, certificates and sealed secrets."""

from __future__ import annotations

import itertools
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from schemas.identifiers import SystemCode
from schemas.problem import Malformed, NotIdentified
from security import base64url
from security.certificates import SandboxAuthority, check_path, key_record, read_certificate
from security.evidence.checkpoint import NoteKey
from security.keys import Algorithm, KeyRing, SigningKey, key_id_of, self_signed_certificate, write_private_file
from security.secrets import SecretBox
from security.signing import sign_receipt, signature_holds, verify_receipt

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


SYSTEM = SystemCode("H99.15/mot-cua")
BUS = SystemCode("H99/bus")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pem_of(private_key: object) -> bytes:
    return private_key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("text", ["=", "QQ==", "QR", "Q", "a+b/", "é", "Q\n", "QUJD\n", " ", "Q Q"])
def test_base64url_has_one_spelling_for_a_value(text: str) -> None:
    with pytest.raises(ValueError):
        base64url.decode(text)


def test_base64url_reads_what_it_writes() -> None:
    for length in range(70):
        data = bytes((length * 7 + i * 31) % 256 for i in range(length))
        assert base64url.decode(base64url.encode(data)) == data


def test_of_all_short_texts_only_what_was_written_is_read() -> None:
    characters = "ABQgwAEv-_89+/=.\n"
    for text in ("".join(letters) for length in range(5) for letters in itertools.product(characters, repeat=length)):
        try:
            data = base64url.decode(text)
        except ValueError:
            continue
        assert base64url.encode(data) == text


def test_the_key_id_is_the_example_of_rfc_7638() -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu"
        "6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw"
    )
    key = rsa.RSAPublicNumbers(65537, int.from_bytes(base64url.decode(modulus), "big")).public_key()
    assert key_id_of(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
@pytest.mark.parametrize("password", [None, b"mat khau"])
def test_a_key_survives_its_file(tmp_path: Path, algorithm: Algorithm, password: bytes | None) -> None:
    key, path = SigningKey.generate(algorithm, name=SYSTEM), tmp_path / "key.pem"
    key.save(path, password=password)
    assert mode(path) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (password is not None)
    again = SigningKey.load(path, password=password)
    assert (again.key_id, again.thumbprint, again.algorithm) == (key.key_id, key.thumbprint, algorithm)
    assert signature_holds(key.public_key, algorithm, again.sign(b"data"), b"data")


def test_a_key_is_read_from_pkcs12(tmp_path: Path) -> None:
    private_key = ec.generate_private_key(ec.SECP256R1())
    certificate = x509.load_pem_x509_certificate(self_signed_certificate(private_key, name="x", days=9).encode())
    encryption = serialization.BestAvailableEncryption(b"secret")
    data = pkcs12.serialize_key_and_certificates(b"x", private_key, certificate, None, encryption)
    path = tmp_path / "key.p12"
    write_private_file(path, data)
    key = SigningKey.load(path, password=b"secret")
    assert key.key_id == key_id_of(private_key.public_key())
    assert key.thumbprint
    with pytest.raises(Malformed) as caught:
        SigningKey.load(path, password=b"wrong")
    assert caught.value.reason == "key-unreadable"


def test_a_wrong_password_and_a_damaged_file_look_alike(tmp_path: Path) -> None:
    pem = SigningKey.generate().to_pem(password=b"right")
    for data, password in ((pem, b"wrong"), (pem, None), (pem.replace(b"M", b"N"), b"right"), (b"-----BEGIN", None)):
        with pytest.raises(Malformed) as caught:
            SigningKey.from_pem(data, password=password)
        assert caught.value.reason == "key-unreadable"


WEAK_KEYS = {
    "RSA 1024": rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 (weak on purpose)
    "RSA with exponent 3": rsa.generate_private_key(public_exponent=3, key_size=2048),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("name", WEAK_KEYS)
def test_a_key_that_may_not_sign_here_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        SigningKey.from_pem(pem_of(WEAK_KEYS[name]))
    assert caught.value.reason == "key-weak"


@pytest.mark.parametrize("name", ["RSA 1024", "P-384"])
def test_a_certificate_of_a_weak_key_is_refused(name: str) -> None:
    pem = self_signed_certificate(WEAK_KEYS[name], name="weak", days=9)  # type: ignore[arg-type]
    with pytest.raises(Malformed) as caught:
        read_certificate(pem)
    assert caught.value.reason == "key-weak"


@pytest.mark.parametrize("pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n", "é", "A" * 100_000])
def test_what_is_no_certificate_cannot_be_read(pem: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_certificate(pem)
    assert caught.value.reason == "certificate-unreadable"


def test_a_certificate_of_another_key_does_not_stick() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    with pytest.raises(Malformed) as caught:
        key.with_certificate(other.certificate_pem)
    assert caught.value.reason == "key-certificate-mismatch"


def test_no_secret_shows_in_a_representation(tmp_path: Path) -> None:
    key = SigningKey.generate()
    assert repr(key) == f"SigningKey(key_id={key.key_id!r}, algorithm='ES256')"
    assert repr(SecretBox([bytes(32)])) == "SecretBox(1 master keys)"


# --- the sandbox's authority -----------------------------------------------------------------------------------------


def test_the_sandbox_authority_issues_certificates_that_lead_to_it(tmp_path: Path) -> None:
    authority = SandboxAuthority.create(tmp_path / "ca", "CA Mẫu")
    key = authority.issue_key(SYSTEM, algorithm="PS256", days=30)
    facts = read_certificate(key.certificate_pem)
    assert (facts.key_id, facts.thumbprint, facts.algorithm) == (key.key_id, key.thumbprint, "PS256")
    assert facts.subject == "CN=H99.15/mot-cua"
    assert timedelta(days=29) < facts.not_after - NOW <= timedelta(days=30)
    assert key_record(facts, SYSTEM).agency == "H99.15"
    check_path(key.certificate_pem, [authority.certificate_pem], NOW)
    assert mode(tmp_path / "ca" / "authority.key") == 0o600


def test_an_authority_opens_again_and_is_not_overwritten(tmp_path: Path) -> None:
    first = SandboxAuthority.create(tmp_path, "CA")
    again = SandboxAuthority.open_or_create(tmp_path, "CA")
    assert again.certificate_pem == first.certificate_pem
    check_path(again.issue_key(SYSTEM).certificate_pem, [first.certificate_pem], NOW)
    with pytest.raises(FileExistsError):
        SandboxAuthority.create(tmp_path, "CA")


def test_a_path_to_nowhere_is_not_trusted(tmp_path: Path) -> None:
    authority = SandboxAuthority.create(tmp_path / "a", "CA")
    namesake = SandboxAuthority.create(tmp_path / "b", "CA")
    key = authority.issue_key(SYSTEM, days=30)
    # A system's certificate is no authority, though its key could sign one.
    cases = [
        (key.certificate_pem, [namesake.certificate_pem], NOW),
        (key.certificate_pem, [], NOW),
        (key.certificate_pem, [authority.certificate_pem], NOW + timedelta(days=31)),
        (key.certificate_pem, [authority.certificate_pem], NOW - timedelta(days=1)),
        (SigningKey.generate(name="x").certificate_pem, [authority.certificate_pem], NOW),
    ]
    for pem, authorities, moment in cases:
        with pytest.raises(Malformed) as caught:
            check_path(pem, authorities, moment)
        assert caught.value.reason == "certificate-untrusted"


# --- the bus's own ring ----------------------------------------------------------------------------------------------

RECEIPT = {"version": 1, "iat": int(NOW.timestamp())}


def test_a_ring_rotates_with_overlap_and_old_receipts_stay_good(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path, BUS)
    old = ring.current
    receipt = sign_receipt(RECEIPT, ring)
    new = ring.rotate(now=NOW, overlap=timedelta(minutes=10))
    assert ring.current.key_id == new.key_id != old.key_id
    assert verify_receipt(receipt, ring.find_key) == RECEIPT
    # Another process that has not reloaded yet goes on with the old key, but not for ever.
    soon, late = (RECEIPT | {"iat": RECEIPT["iat"] + seconds} for seconds in (599, 601))
    assert verify_receipt(sign_receipt(soon, old), ring.find_key) == soon
    with pytest.raises(NotIdentified) as caught:
        verify_receipt(sign_receipt(late, old), ring.find_key)
    assert caught.value.reason == "key-expired"
    jwks = ring.public_jwks()["keys"]
    assert [jwk["kid"] for jwk in jwks] == [new.key_id, old.key_id]
    assert all("d" not in jwk for jwk in jwks)


def test_a_ring_reads_what_another_process_rotated(tmp_path: Path) -> None:
    mine = KeyRing.create(tmp_path, BUS)
    theirs = KeyRing.open_or_create(tmp_path, BUS)
    assert theirs.current.key_id == mine.current.key_id
    assert not mine.reload_if_changed()
    theirs.rotate(now=NOW)
    assert mine.reload_if_changed()
    assert mine.current.key_id == theirs.current.key_id
    assert all(mode(path) == 0o600 for path in tmp_path.iterdir())


def test_a_revoked_key_of_the_ring_counts_only_before(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path, BUS)
    old = ring.current
    with pytest.raises(ValueError, match="rotate first"):
        ring.revoke(old.key_id, now=NOW)
    ring.rotate(now=NOW)
    ring.revoke(old.key_id, now=NOW + timedelta(seconds=5))
    assert verify_receipt(sign_receipt(RECEIPT, old), ring.find_key) == RECEIPT
    with pytest.raises(NotIdentified) as caught:
        verify_receipt(sign_receipt(RECEIPT | {"iat": RECEIPT["iat"] + 5}, old), ring.find_key)
    assert caught.value.reason == "key-revoked"


def test_a_ring_whose_files_were_swapped_does_not_open(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path, BUS)
    SigningKey.generate().save(tmp_path / f"{ring.current.key_id}.pem")
    with pytest.raises(Malformed) as caught:
        KeyRing(tmp_path, BUS)
    assert caught.value.reason == "key-unreadable"


def test_a_private_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"one")
    write_private_file(path, b"two")
    assert path.read_bytes() == b"two"
    with pytest.raises(IsADirectoryError):
        write_private_file(tmp_path, b"three")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret"]


# --- sealed secrets --------------------------------------------------------------------------------------------------


def unreadable(box: SecretBox, name: str, sealed: bytes) -> bool:
    with pytest.raises(Malformed) as caught:
        box.open(name, sealed)
    return caught.value.reason == "secret-unreadable"


def test_a_sealed_secret_opens_under_its_own_name_only(tmp_path: Path) -> None:
    box = SecretBox.load_or_create(tmp_path / "master.json")
    sealed = box.seal("portal/password", "mật khẩu".encode())
    assert mode(tmp_path / "master.json") == 0o600
    assert b"password" not in sealed
    assert SecretBox.load(tmp_path / "master.json").open("portal/password", sealed).decode() == "mật khẩu"
    assert unreadable(box, "post/password", sealed)
    assert box.seal("portal/password", b"x") != box.seal("portal/password", b"x")


def test_every_altered_byte_of_a_sealed_secret_is_noticed() -> None:
    box = SecretBox([bytes(range(32))])
    sealed = box.seal("name", b"value")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert unreadable(box, "name", bytes(changed))
    for length in range(len(sealed)):
        assert unreadable(box, "name", sealed[:length])


def test_master_keys_rotate_and_old_values_move_over(tmp_path: Path) -> None:
    path = tmp_path / "master.json"
    old = SecretBox.load_or_create(path)
    sealed = old.seal("name", b"value")
    box = SecretBox.rotate(path)
    assert not box.is_current(sealed)
    moved = box.reseal("name", sealed)
    assert box.is_current(moved)
    box = SecretBox.drop_old(path)
    assert box.open("name", moved) == b"value"
    assert unreadable(box, "name", sealed)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"master_keys": ["??"]}', '{"master_keys": 7}'])
def test_a_damaged_master_key_file_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.json"
    path.write_text(text)
    with pytest.raises(Malformed) as caught:
        SecretBox.load(path)
    assert caught.value.reason == "key-unreadable"


def test_processes_that_start_together_on_an_empty_folder_agree_on_the_keys(tmp_path: Path) -> None:
    def start(number: int) -> tuple[str, str, str, bytes]:
        barrier.wait()
        ring = KeyRing.open_or_create(tmp_path / "ring", BUS)
        log_key = NoteKey.load_or_create(tmp_path / "log.pem", "log")
        authority = SandboxAuthority.open_or_create(tmp_path / "ca", "CA")
        box = SecretBox.load_or_create(tmp_path / "master.json")
        return ring.current.key_id, str(log_key.verifier), authority.certificate_pem, box.seal("name", b"value")[:9]

    barrier = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(start, range(6)))
    assert len(answers) == 1
    assert len(list((tmp_path / "ring").iterdir())) == 2
