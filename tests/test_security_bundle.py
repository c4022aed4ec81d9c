"""Evidence in one file, and the offline verifier that says yes to it and no to every altered byte."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from sqlalchemy import Engine, create_engine

from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import Envelope, Manifest, Message
from security.certificates import SandboxAuthority, key_record, read_certificate
from security.evidence import entries
from security.evidence import log as evidence
from security.evidence.bundle import proven_entry, write_bundle, write_trust
from security.evidence.checkpoint import NoteKey
from security.evidence.log import EvidenceLog
from security.identity import Identification
from security.keys import KeyRing, PublicKeyRecord, SigningKey
from security.signing import receipt_claims, sign_manifest, sign_receipt
from security.tokens import TokenAuthority
from security.verifier import Trust, canonical_json, main, verify_bundle, verify_file, verify_receipt

ROOT = Path(__file__).parent.parent
VERIFIER = ROOT / "security" / "verifier.py"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", autouse=True)
def _at_now() -> Iterator[None]:
    """NOW is when the file was read, keys are made when a test runs: a long run must not come between."""
    with time_machine.travel(NOW, tick=True):
        yield


SYSTEM = SystemCode("H99.15/mot-cua")
ORIGIN = "lgsp.h99.example/evidence"
BODY = '{"maHoSo":"H99.15-260423-0001","chuHoSo":"NGUYỄN THỊ MẪU"}'.encode()
ID = MessageId("018f3c1e-7b0a-7000-8000-000000000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A small bus: its ring, log and a registered system."""

    ring: KeyRing
    log: EvidenceLog
    engine: Engine
    key: SigningKey
    authority: SandboxAuthority
    trust_data: bytes

    @property
    def trust(self) -> Trust:
        return Trust.read(self.trust_data)


class Directory:
    def __init__(self, record: PublicKeyRecord) -> None:
        self._record = record

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self._record if key_id == self._record.key_id else None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    ring = KeyRing.create(folder / "ring", SystemCode("H99/bus"))
    log_key = NoteKey.generate(ORIGIN)
    authority = SandboxAuthority.create(folder / "ca", "CA Mẫu")
    engine = create_engine(f"sqlite:///{folder / 'log.db'}")
    evidence.metadata.create_all(engine)
    log = EvidenceLog(ORIGIN, log_key)
    with engine.begin() as connection:
        log.append(connection, [(evidence.leaf_hash(b"%d" % i), b"%d" % i) for i in range(300)])
        log.seal(connection, NOW)
    yield Stage(
        ring=ring,
        log=log,
        engine=engine,
        key=authority.issue_key(SYSTEM),
        authority=authority,
        trust_data=write_trust(ring, [log_key.verifier], [authority.certificate_pem]),
    )
    engine.dispose()


def a_signed_message(stage: Stage) -> Message:
    manifest = Manifest(
        message_id=ID,
        sender=AgencyCode("H99.15"),
        receivers=(AgencyCode("G99"), AgencyCode("H99.16")),
        service=ServiceCode("dossier.transfer"),
        service_version=1,
        issued_at=NOW,
        content_type="application/json",
        body_sha256=hashlib.sha256(BODY).hexdigest(),
        body_length=len(BODY),
    )
    return identified(stage, {"lgsp-manifest": sign_manifest(manifest, stage.key)})


def identified(stage: Stage, headers: dict[str, str]) -> Message:
    directory = Directory(key_record(read_certificate(stage.key.certificate_pem), SYSTEM))
    tokens = TokenAuthority(stage.ring, "urn:lgsp:bus:H99")
    envelope = Envelope(
        body=BODY,
        content_type="application/json",
        headers=headers,
        received_at=NOW,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return Identification(directory, tokens, stage.ring, lambda service: 1).identify(envelope)


def recorded(stage: Stage, message: Message, certificate_pem: str, *, with_body: bool) -> tuple[bytes, str]:
    """What the bus does with a message, as far as evidence goes; returns the bundle and the receipt."""
    with stage.engine.connect() as connection:
        # No two recordings alike: equal entries side by side would truly be at either place.
        at = NOW + timedelta(microseconds=stage.log.size(connection))
    accepted = entries.accepted(message, at=at)
    told = entries.delivered(message_id=ID, manifest_sha256=message.manifest_sha256, receiver="G99", attempt=1, at=at)
    claims = receipt_claims(message, state="accepted", leaf=accepted.leaf_hash().hex(), recorded_at=NOW)
    receipt = sign_receipt(claims, stage.ring)
    with stage.engine.begin() as connection:
        first = stage.log.append(connection, [accepted.leaf(), told.leaf()])
        checkpoint = stage.log.seal(connection, NOW)
        assert checkpoint is not None
        proven = [proven_entry(stage.log, connection, first + i, checkpoint.size) for i in (0, 1)]
    bundle = write_bundle(
        message_id=ID,
        manifest_jws=message.manifest_jws,
        sender_certificate_pem=certificate_pem,
        receipt_jws=receipt,
        bus_jwk=stage.ring.public_jwks()["keys"][0],
        checkpoint=checkpoint,
        entries=proven,
        body=message.body if with_body else None,
    )
    return bundle, receipt


@pytest.fixture(scope="module")
def bundle(stage: Stage) -> bytes:
    return recorded(stage, a_signed_message(stage), stage.key.certificate_pem, with_body=True)[0]


@pytest.fixture(scope="module")
def bodiless(stage: Stage) -> bytes:
    return recorded(stage, a_signed_message(stage), stage.key.certificate_pem, with_body=False)[0]


@pytest.fixture(scope="module")
def receipt(stage: Stage) -> str:
    return recorded(stage, a_signed_message(stage), stage.key.certificate_pem, with_body=False)[1]


def test_a_bundle_proves_sender_receipt_log_and_body(stage: Stage, bundle: bytes) -> None:
    verdict = verify_bundle(bundle, stage.trust)
    assert verdict.holds
    assert verdict.findings == (
        "receipt-signed",
        "manifest-signed",
        "certificate-from-authority",
        "receipt-for-manifest",
        "checkpoint-signed",
        "entries-in-log",
        "body-is-signed",
    )
    assert [entry["kind"] for entry in verdict.facts["entries"]] == ["accepted", "delivered"]
    assert verdict.sentences("vi")[-1].startswith("Nội dung đúng")


def test_an_erased_body_leaves_the_proof_standing(stage: Stage, bodiless: bytes) -> None:
    assert verify_bundle(bodiless, stage.trust).findings[-1] == "body-not-checked"
    assert verify_bundle(bodiless, stage.trust, BODY).findings[-1] == "body-is-signed"
    verdict = verify_bundle(bodiless, stage.trust, BODY + b" ")
    assert (verdict.holds, verdict.findings[-1]) == (False, "body-wrong")


def test_an_attested_message_is_proven_by_the_bus(stage: Stage) -> None:
    token = TokenAuthority(stage.ring, "urn:lgsp:bus:H99").issue(SYSTEM, now=NOW)
    headers = {
        "authorization": f"Bearer {token}",
        "lgsp-service": "dossier.transfer/1",
        "lgsp-receiver": "G99",
        "lgsp-message-id": ID,
    }
    message = identified(stage, headers)
    data, _ = recorded(stage, message, stage.ring.current.certificate_pem, with_body=True)
    verdict = verify_bundle(data, stage.trust)
    assert verdict.holds
    assert "manifest-attested" in verdict.findings


def test_one_flipped_bit_anywhere_and_the_verifier_says_no(stage: Stage, bodiless: bytes) -> None:
    trust = stage.trust
    assert verify_file(bodiless, trust).holds
    for place in range(len(bodiless)):
        changed = bytearray(bodiless)
        changed[place] ^= 1 << place % 8
        assert not verify_file(bytes(changed), trust).holds, place


def test_no_byte_can_be_added_or_left_out(stage: Stage, bundle: bytes) -> None:
    for place in [*range(0, len(bundle), 97), len(bundle) - 1, len(bundle)]:
        assert not verify_file(bundle[:place] + b" " + bundle[place:], stage.trust).holds
        assert not verify_file(bundle[:place] + bundle[place + 1 :], stage.trust).holds or place == len(bundle)


def test_another_case_of_a_letter_is_another_byte(stage: Stage, bundle: bytes) -> None:
    for place in range(len(bundle)):
        if chr(bundle[place]).isalpha() and bundle[place] < 128:
            changed = bytearray(bundle)
            changed[place] ^= 0x20
            assert not verify_file(bytes(changed), stage.trust).holds, place


def rewritten(bundle: bytes, **changes: object) -> bytes:
    return canonical_json({**json.loads(bundle), **changes})


def test_parts_of_two_bundles_do_not_make_one(stage: Stage, bundle: bytes) -> None:
    other_id = MessageId("018f3c1e-7b0a-7000-8000-000000000002")
    parts = json.loads(bundle)
    foreign = SigningKey.generate(name=SYSTEM)
    strange_log = NoteKey.generate(ORIGIN)
    forged_note = evidence.sign_checkpoint(ORIGIN, 10**6, bytes(32), strange_log).note
    cases: dict[str, object] = {
        "message_id": other_id,
        "sender_certificate": foreign.certificate_pem,
        "entries": parts["entries"][1:],
        "checkpoint": forged_note,
        "format": "lgsp-evidence-bundle/2",
        "extra": "member",
        "bus_key": {**parts["bus_key"], "use": "enc"},
        "manifest": parts["receipt"],
        "receipt": parts["manifest"],
        "body": "AAAA",
    }
    for name, value in cases.items():
        assert not verify_bundle(rewritten(bundle, **{name: value}), stage.trust).holds, name
    assert not verify_bundle(rewritten(bundle, entries=parts["entries"] * 2), stage.trust).holds
    assert not verify_bundle(rewritten(bundle, entries=[]), stage.trust).holds
    # The entry about delivery may be left out: then less is proven, and what is proven is true.
    assert verify_bundle(rewritten(bundle, entries=parts["entries"][:1]), stage.trust).holds


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b"\xff", b"{" * 100_000, b'{"a":1,"a":2}'])
def test_what_is_no_evidence_is_refused_and_nothing_breaks(stage: Stage, data: bytes) -> None:
    assert not verify_file(data, stage.trust).holds


def test_a_bundle_does_not_hold_under_another_trust(stage: Stage, bundle: bytes, tmp_path: Path) -> None:
    stranger = KeyRing.create(tmp_path / "ring", SystemCode("H98/bus"))
    ours = json.loads(stage.trust_data)
    cases = {
        "bus-key-unknown": {**ours, "bus_keys": json.loads(write_trust(stranger, []))["bus_keys"]},
        "checkpoint-wrong": {**ours, "log_keys": [str(NoteKey.generate(ORIGIN).verifier)]},
        "certificate-not-from-authority": {
            **ours,
            "authorities": [SandboxAuthority.create(tmp_path / "ca", "CA Mẫu").certificate_pem],
        },
        "bus-key-out-of-time": {**ours, "bus_keys": [{**ours["bus_keys"][0], "signs_until": 1}]},
    }
    for code, trust in cases.items():
        assert verify_bundle(bundle, Trust.read(canonical_json(trust))).findings[-1] == code


def test_a_receipt_alone_is_verified(stage: Stage, receipt: str) -> None:
    verdict = verify_receipt(receipt, stage.trust)
    assert verdict.holds
    assert verdict.facts["message_id"] == ID
    assert verify_file(receipt.encode() + b"\n", stage.trust).holds
    for place in range(len(receipt)):
        changed = bytearray(receipt.encode())
        changed[place] ^= 1
        assert not verify_file(bytes(changed), stage.trust).holds


def test_receipts_from_before_a_rotation_verify_with_the_trust_from_after(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path, SystemCode("H99/bus"))
    old = ring.current
    claims = {"version": 1, "iat": int(NOW.timestamp())}
    receipt = sign_receipt(claims, ring)
    ring.rotate(now=NOW, overlap=timedelta(hours=1))
    trust = Trust.read(write_trust(ring, []))
    assert verify_receipt(receipt, trust).holds
    late = sign_receipt(claims | {"iat": claims["iat"] + 3601}, old)
    assert verify_receipt(late, trust).findings == ("bus-key-out-of-time",)


# --- as a command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(stage: Stage, bodiless: bytes, receipt: str, tmp_path: Path) -> Path:
    (tmp_path / "bundle.json").write_bytes(bodiless)
    (tmp_path / "receipt.jws").write_text(receipt)
    (tmp_path / "trust.json").write_bytes(stage.trust_data)
    (tmp_path / "body.json").write_bytes(BODY)
    (tmp_path / "bus.pem").write_text(stage.ring.current.certificate_pem)
    return tmp_path


def test_the_verifier_is_one_file_that_runs_alone(folder: Path) -> None:
    """Copied away from the bus and run isolated (-I): no module of ours is in reach."""
    alone = folder / "verifier.py"
    alone.write_bytes(VERIFIER.read_bytes())
    for script in (alone, VERIFIER):
        command = [sys.executable, *(["-I"] if script == alone else []), str(script), "bundle.json"]
        good = subprocess.run(
            [*command, "--trust", "trust.json", "--body", "body.json"], cwd=folder, capture_output=True, check=False
        )
        assert (good.returncode, good.stderr) == (0, b"")
        assert "ĐÚNG" in good.stdout.decode()
        assert "YES" in good.stdout.decode()
    (folder / "bundle.json").write_bytes((folder / "bundle.json").read_bytes().replace(b"G99", b"G98"))
    bad = subprocess.run([*command, "--trust", "trust.json"], cwd=folder, capture_output=True, check=False)
    assert bad.returncode == 1
    assert "SAI" in bad.stdout.decode()


def test_the_verifier_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    names = set(re.findall(r"^\s*(?:from|import) (\w+)", VERIFIER.read_text("utf-8"), re.MULTILINE))
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_command_tells_what_it_could_not_try(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust, missing = str(folder / "trust.json"), str(folder / "missing.json")
    assert main([str(folder / "bundle.json"), "--trust", missing]) == 2
    assert main([missing, "--trust", trust]) == 2
    assert main([str(folder / "bundle.json"), "--trust", str(folder / "body.json")]) == 2
    assert "missing.json" not in capsys.readouterr().err
    assert main([str(folder / "receipt.jws"), "--trust", trust, "--language", "vi"]) == 0
    assert capsys.readouterr().out.endswith("ĐÚNG: bằng chứng hợp lệ.\n")


def test_the_commands_of_the_readme_verify_a_receipt_by_hand(folder: Path) -> None:
    """Each sh block of the chapter runs as it stands, in a folder with the files that the chapter names."""
    chapter = (ROOT / "security" / "README.md").read_text("utf-8").split("## A receipt by hand")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    assert len(blocks) >= 2
    (folder / "verifier.py").write_bytes(VERIFIER.read_bytes())
    outputs = []
    for block in blocks:
        script = f'set -eu\npython3() {{ {shlex.quote(sys.executable)} "$@"; }}\n{block}'
        run = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    assert "Verified OK" in "".join(outputs)
    assert ID in "".join(outputs)
    assert "ĐÚNG" in "".join(outputs)
