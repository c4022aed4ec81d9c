"""Timestamps on checkpoints: what an authority says is believed by two readers, or by nobody."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from benchmarks.certificates import Issued, issue, new_root
from benchmarks.timestamp_authority import POLICY, AuthorityMissing, TimestampServer
from schemas.moment import utc_now
from schemas.problem import InvalidReply, Malformed
from security.timestamps import MAX_ANSWER_BYTES, TimestampRequest, TimestampTrust
from security.verifier import MAX_TOKEN_BYTES, Refuted, believe_timestamp, read_timestamp

pytestmark = pytest.mark.service

NOTE = (
    "lgsp.h99.example/evidence\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— lgsp.h99.example/evidence AAAA\n"
)
STAMPS = [ExtendedKeyUsageOID.TIME_STAMPING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """An authority that is believed, and a forger who has whatever else a case gives to him."""

    folder: Path
    server: TimestampServer
    trust: TimestampTrust

    def asked(self, note: str = NOTE) -> tuple[TimestampRequest, bytes]:
        request = self.trust.ask(note)
        return request, self.server.reply(request.query)

    def info(self, request: TimestampRequest) -> bytes:
        """What the authority would sign."""
        answer = self.server.reply(request.query)
        return read_timestamp(self.trust.accept(request, answer, utc_now()).token, request.note).info

    def signed(self, info: bytes, signer: Issued, *others: Issued, named: bool = True) -> bytes:
        """An answer with this TSTInfo, signed with any certificate; ``others`` come along."""
        place = self.folder / f"forged-{signer.certificate.serial_number}"
        place.mkdir(exist_ok=True)
        (place / "info").write_bytes(info)
        (place / "signer.pem").write_bytes(signer.pem)
        (place / "signer.key").write_bytes(signer.key_pem)
        (place / "others.pem").write_bytes(b"".join(other.pem for other in others))
        command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256", "-nosmimecap"]
        command += ["-econtent_type", "1.2.840.113549.1.9.16.1.4", "-in", str(place / "info")]
        command += ["-signer", str(place / "signer.pem"), "-inkey", str(place / "signer.key")]
        command += ["-certfile", str(place / "others.pem")] if others else []
        command += ["-cades"] if named else []
        return granted(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, missing_service: Callable[[str], NoReturn]) -> Stage:
    folder = tmp_path_factory.mktemp("authority")
    try:
        server = TimestampServer(folder / "tsa")
    except AuthorityMissing as reason:
        missing_service(str(reason))
    return Stage(folder=folder, server=server, trust=TimestampTrust.load(server.roots_file))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    size = bytes([length]) if length < 128 else (b"\x82" + length.to_bytes(2, "big"))
    if 128 <= length < 256:
        size = b"\x81" + bytes([length])
    return bytes([tag]) + size + content


def granted(token: bytes) -> bytes:
    return der(0x30, der(0x30, der(0x02, b"\0")), token)


def stamper(root: Issued, **facts: Any) -> Issued:
    key = facts.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
    return issue("TSA khac", key, root, **{"usages": STAMPS, **facts})


def middle(root: Issued, name: str = "CA trung gian", **facts: Any) -> Issued:
    return issue(name, ec.generate_private_key(ec.SECP256R1()), root, **{"authority": True, **facts})


# ── what is believed ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"digest": "sha512"},
        {"named_by": "sha1"},
        {"key": rsa.generate_private_key(65537, 2048)},
        {"key": rsa.generate_private_key(65537, 2048), "digest": "sha384"},
        {"key": ec.generate_private_key(ec.SECP384R1()), "digest": "sha384", "named_by": "sha512"},
    ],
    ids=["EC", "EC with SHA-512", "named by SHA-1", "RSA", "RSA with SHA-384", "P-384"],
)
def test_what_an_authority_says_is_believed_by_both_readers(
    tmp_path: Path, stage: Stage, facts: dict[str, Any]
) -> None:
    server = TimestampServer(tmp_path, **facts)
    trust = TimestampTrust.load(server.roots_file, policy=POLICY)
    request = trust.ask(NOTE)
    stamp = trust.accept(request, server.reply(request.query), utc_now())
    assert abs(stamp.at - utc_now()) < timedelta(seconds=10)
    read = read_timestamp(stamp.token, NOTE)
    assert (read.at, read.policy, read.nonce) == (stamp.at, POLICY, request.nonce)
    assert believe_timestamp(read, trust.roots) == "CN=TSA mau"


def test_each_question_has_a_nonce_of_its_own(stage: Stage) -> None:
    questions = {stage.trust.ask(NOTE).query for _ in range(20)}
    assert len(questions) == 20


def test_an_authority_below_another_is_believed_with_what_came_along(stage: Stage) -> None:
    between = middle(stage.server.root, path_length=0)
    request, _ = stage.asked()
    answer = stage.signed(stage.info(request), stamper(between), between)
    token = stage.trust.accept(request, answer, utc_now()).token
    assert believe_timestamp(read_timestamp(token, NOTE), stage.trust.roots) == "CN=TSA khac"


def test_a_certificate_that_has_ended_since_is_no_fault(stage: Stage) -> None:
    """A timestamp is for later: what counts is the moment in it."""
    request, answer = stage.asked()
    token = stage.trust.accept(request, answer, utc_now()).token
    assert believe_timestamp(read_timestamp(token, NOTE), stage.trust.roots)
    with pytest.raises(InvalidReply) as caught:
        stage.trust.accept(request, answer, utc_now() + timedelta(days=400))
    assert caught.value.reason == "timestamp-out-of-time"


# ── what is not ───────────────────────────────────────────────────────────────────────────────────────────────────────

Forge = Callable[[Stage, TimestampRequest], bytes]
WRONG, STRANGE = "timestamp-wrong", "timestamp-not-from-authority"


def _other_note(stage: Stage, request: TimestampRequest) -> bytes:
    return stage.asked(NOTE.replace("3", "4"))[1]


def _other_nonce(stage: Stage, request: TimestampRequest) -> bytes:
    return stage.asked()[1]


def _by(make: Callable[[Issued], list[Issued]], **facts: Any) -> Forge:
    """Signed with the first of what ``make`` gives, the others come along."""

    def forge(stage: Stage, request: TimestampRequest) -> bytes:
        return stage.signed(stage.info(request), *make(stage.server.root), **facts)

    return forge


def _dated_back(stage: Stage, request: TimestampRequest) -> bytes:
    """By a key whose certificate has ended, for the time when it had not."""
    then = (utc_now() - timedelta(days=8)).strftime("%Y%m%d%H%M%SZ").encode()
    info = stage.info(request)
    at = info.index(b"\x18\x0f")
    changed = info[: at + 2] + then + info[at + 17 :]
    return stage.signed(changed, stamper(stage.server.root, days=(-10, -5)))


def _below(make: Callable[[Issued], Issued]) -> Callable[[Issued], list[Issued]]:
    def chain(root: Issued) -> list[Issued]:
        between = make(root)
        return [stamper(between), between]

    return chain


def _two_below(root: Issued) -> list[Issued]:
    upper = middle(root, "CA tren", path_length=0)
    lower = middle(upper, "CA duoi")
    return [stamper(lower), lower, upper]


def _critical_extension(root: Issued) -> list[Issued]:
    """An authority that may sign for one name only, which neither reader would look at."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = middle(root).certificate
    constraint = x509.NameConstraints(permitted_subtrees=[x509.DNSName("khac.invalid")], excluded_subtrees=None)
    builder = x509.CertificateBuilder(
        plain.issuer, plain.subject, key.public_key(), x509.random_serial_number(),
        plain.not_valid_before_utc, plain.not_valid_after_utc,
        [*plain.extensions, x509.Extension(constraint.oid, True, constraint)],
    )  # fmt: skip
    between = Issued(certificate=builder.sign(root.key, hashes.SHA256()), key=key)
    return [stamper(between), between]


#: An answer; why the bus does not keep it; what the offline verifier says of the token, if it can tell.
HOSTILE: dict[str, tuple[Forge, str, str | None]] = {
    "of another checkpoint": (_other_note, "timestamp-wrong", WRONG),
    "to another question": (_other_nonce, "timestamp-wrong", None),
    "of another authority": (_by(lambda _: [stamper(new_root("CA khac"))]), "timestamp-untrusted", STRANGE),
    "of another one of the same name": (
        _by(lambda root: [stamper(new_root("CA dau thoi gian mau"))]), "timestamp-untrusted", STRANGE,
    ),
    "that brings its own root": (
        _by(lambda _: (lambda root: [stamper(root), root])(new_root("CA tu lap"))), "timestamp-untrusted", STRANGE,
    ),
    "by a certificate that has ended": (
        _by(lambda root: [stamper(root, days=(-10, -5))]), "timestamp-untrusted", STRANGE,
    ),
    "by one that has not begun": (_by(lambda root: [stamper(root, days=(5, 10))]), "timestamp-untrusted", STRANGE),
    "by one that is for nothing": (_by(lambda root: [stamper(root, usages=())]), "timestamp-untrusted", STRANGE),
    "by one for code": (
        _by(lambda root: [stamper(root, usages=[ExtendedKeyUsageOID.CODE_SIGNING])]), "timestamp-untrusted", STRANGE,
    ),
    "by one that is for more": (
        _by(lambda root: [stamper(root, usages=[*STAMPS, ExtendedKeyUsageOID.CODE_SIGNING])]),
        "timestamp-untrusted", STRANGE,
    ),
    "by one whose purpose is not critical": (
        _by(lambda root: [stamper(root, usages_are_critical=False)]), "timestamp-untrusted", STRANGE,
    ),
    "below one that may not issue": (
        _by(_below(lambda root: middle(root, authority=False))), "timestamp-untrusted", STRANGE,
    ),
    "below one that has ended": (
        _by(_below(lambda root: middle(root, days=(-10, -5)))), "timestamp-untrusted", STRANGE,
    ),
    "too far below": (_by(_two_below), "timestamp-untrusted", STRANGE),
    "below one with a limit that is not understood": (_by(_critical_extension), "timestamp-untrusted", STRANGE),
    "by a short key": (
        _by(lambda root: [stamper(root, key=rsa.generate_private_key(65537, 1024))]),  # noqa: S505 - its point
        "timestamp-wrong", WRONG,
    ),
    "that does not say by which certificate": (
        _by(lambda root: [stamper(root)], named=False), "timestamp-wrong", WRONG,
    ),
    "dated back": (_dated_back, "timestamp-out-of-time", None),
    "refused": (lambda stage, _: der(0x30, der(0x30, der(0x02, b"\x02"))), "timestamp-refused", None),
    "granted, and empty": (lambda stage, _: granted(b""), "timestamp-wrong", None),
    "garbage": (lambda stage, _: b"\x00\xff" * 50, "timestamp-unreadable", None),
    "nothing": (lambda stage, _: b"", "timestamp-unreadable", None),
    "a page": (lambda stage, _: b"<html>It works!</html>", "timestamp-unreadable", None),
    "a depth of boxes": (lambda stage, _: _boxes(500), "timestamp-unreadable", None),
    "with something behind it": (
        lambda stage, request: stage.server.reply(request.query) + b"\0", "timestamp-unreadable", None,
    ),
}  # fmt: skip


def _boxes(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = der(0x30, data)
    return granted(data)


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_authority_said_is_not_kept(stage: Stage, case: str) -> None:
    forge, reason, said_offline = HOSTILE[case]
    request = stage.trust.ask(NOTE)
    answer = forge(stage, request)
    with pytest.raises(InvalidReply) as caught:
        stage.trust.accept(request, answer, utc_now())
    assert caught.value.reason == reason
    if said_offline:
        with pytest.raises(Refuted) as refuted:
            believe_timestamp(read_timestamp(_token(answer), NOTE), stage.trust.roots)
        assert refuted.value.code == said_offline


def _token(answer: bytes) -> bytes:
    """All behind the status of a granted answer."""
    return answer[answer.index(b"\x30\x03\x02\x01\0") + 5 :]


def test_a_policy_that_was_asked_for_counts(stage: Stage) -> None:
    trust = TimestampTrust(roots=stage.trust.roots, policy="1.2.3.4.2")
    request = trust.ask(NOTE)
    with pytest.raises(InvalidReply) as caught:
        trust.accept(request, stage.server.reply(request.query), utc_now())
    assert caught.value.reason == "timestamp-wrong"


def test_no_bit_of_an_answer_is_free(stage: Stage) -> None:
    request, answer = stage.asked()
    begun = utc_now()
    stage.trust.accept(request, answer, begun)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of certificates that a changed bit has made odd
        for place in range(len(answer)):
            changed = bytearray(answer)
            changed[place] ^= 1 << place % 8
            assert _is_refused(stage, request, bytes(changed), begun), place


def _is_refused(stage: Stage, request: TimestampRequest, answer: bytes, now: datetime) -> bool:
    try:
        stage.trust.accept(request, answer, now)
    except InvalidReply:
        return True
    return False


def test_an_answer_cut_short_is_none(stage: Stage) -> None:
    request, answer = stage.asked()
    assert all(_is_refused(stage, request, answer[:end], utc_now()) for end in range(0, len(answer), 7))


def test_a_token_is_no_larger_than_it_need_be(stage: Stage) -> None:
    assert MAX_ANSWER_BYTES > MAX_TOKEN_BYTES
    with pytest.raises(Refuted):
        read_timestamp(der(0x04) * (MAX_TOKEN_BYTES // 2 + 1), NOTE)


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_roots_that_cannot_be_read_are_said_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "roots.pem"
    for _ in range(2):
        with pytest.raises(Malformed) as caught:
            TimestampTrust.load(file)
        assert caught.value.reason == "timestamp-authority-unreadable"
        file.write_bytes(content)
