"""Manifest, receipt and problem: the code and the normative schema documents say the same."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from schemas import bundled
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import (
    AttachmentReference,
    Direction,
    Manifest,
    Means,
    Receipt,
    sha256_hex,
)
from schemas.moment import from_micros, from_wire, to_micros, to_wire
from schemas.problem import InternalFailure, Malformed, Problem, SchemaViolation
from schemas.validation import compile_schema

SMALL: dict[str, Any] = {
    "version": 1,
    "message_id": "019a7b3c-1111-7222-8333-444455556666",
    "direction": "request",
    "sender": "H99.15",
    "receivers": ["G99.01", "H99"],
    "service": "dossier.transfer",
    "service_version": 1,
    "iat": 1790000000,
    "content_type": "application/json",
    "body": {"sha256": "a" * 64, "length": 2897},
}
FULL: dict[str, Any] = SMALL | {
    "direction": "reply",
    "purpose": "tiếp nhận hồ sơ",
    "dossier": "000.00.15.H99-260423-0001",
    "user": "CB01",
    "schema": {"id": "urn:lgsp:schema:dossier:1", "sha256": "b" * 64},
    "attachments": [
        {"sha256": "c" * 64, "length": 0, "name": "Giấy chứng sinh.pdf", "content_type": "application/pdf"},
        {"sha256": "d" * 64, "length": 2**53 - 1},
    ],
    "request": {"manifest_sha256": "e" * 64},
    "attested": {"means": "token", "system": "H99.15/mot-cua"},
}

GOOD: list[dict[str, Any]] = [
    SMALL,
    FULL,
    SMALL | {"receivers": [f"H99.{n}" for n in range(1000)]},
    SMALL | {"iat": 0},
    SMALL | {"iat": 253402300799},
    SMALL | {"attachments": []},
    SMALL | {"purpose": "", "user": "Nguyễn\u00a0Thị Mẫu"},
]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full claims with one member replaced; an Ellipsis takes it out."""
    claims = copy.deepcopy(FULL)
    *sections, name = path.split(".")
    target: Any = claims
    for section in sections:
        target = target[int(section) if section.isdigit() else section]
    if value is ...:
        del target[name]
    else:
        target[name] = value
    return claims


BAD: list[tuple[str, Any]] = [
    *((name, ...) for name in SMALL),
    *((name, None) for name in FULL),
    *((name, ["x"]) for name in FULL),
    ("body.sha256", ...), ("body.length", ...), ("schema.id", ...), ("schema.sha256", ...), ("attested.system", ...),
    ("attested.means", ...), ("request.manifest_sha256", ...), ("attachments.0.sha256", ...),
    ("attachments.0.length", ...), ("version", 2), ("version", True), ("version", "1"), ("message_id", "x"),
    ("message_id", "019A7B3C-1111-7222-8333-444455556666"), ("direction", "sideways"), ("sender", "h99"),
    ("sender", "000.00.15.H99"), ("sender", ""), ("receivers", []), ("receivers", ["H99", "H99"]),
    ("receivers", [f"H99.{n}" for n in range(1001)]), ("receivers", ["H99", 5]), ("receivers", [["H99"]]),
    ("receivers", [None]), ("receivers", "H99"), ("service", "Dossier"), ("service", "a" * 101), ("service_version", 0),
    ("service_version", -1), ("iat", -1), ("iat", 253402300800), ("iat", 1.5), ("iat", True),
    ("iat", "1790000000"), ("content_type", "x" * 101), ("content_type", "a\r\nb: c"), ("body", []),
    ("body.sha256", "A" * 64), ("body.sha256", "a" * 63), ("body.sha256", "a" * 64 + "\n"), ("body.length", -1),
    ("body.length", 2**53), ("body.length", "5"), ("body.extra", 1), ("purpose", "x" * 101), ("purpose", "a\u2028b"),
    ("user", "a\x00b"), ("user", 5), ("dossier", "H99.15-261301-0001"), ("dossier", "x"), ("dossier", ""),
    ("schema.id", "x" * 301), ("schema.extra", ""), ("schema", {}), ("attachments.0.name", "x" * 201),
    ("attachments.0.name", 5), ("attachments.0.extra", 1), ("attachments.0", "x"), ("attachments", {}),
    ("attachments", [{"sha256": "c" * 64, "length": 0}] * 101), ("request", {}), ("request.extra", 1),
    ("attested.means", "manifests"), ("attested.system", "H99.15"), ("unknown", 1), ("", 1),
    ("service_version", 10000),
]  # fmt: skip


def hostile(path: str, value: Any) -> dict[str, Any]:
    if path.startswith("attachments.") and path.count(".") == 1:
        claims = copy.deepcopy(FULL)
        claims["attachments"][int(path.split(".")[1])] = value
        return claims
    return changed(path, value)


def schema_takes(name: str, document: Any) -> bool:
    try:
        compile_schema(bundled.document(name)).validate(orjson.dumps(document), "application/json")
    except SchemaViolation:
        return False
    return True


@pytest.mark.parametrize("claims", GOOD, ids=range(len(GOOD)))
def test_good_claims_are_taken_by_the_code_and_by_the_schema(claims: dict[str, Any]) -> None:
    assert schema_takes("manifest", claims)
    manifest = Manifest.from_claims(claims)
    assert Manifest.from_claims(manifest.to_claims()) == manifest
    assert schema_takes("manifest", manifest.to_claims())


def test_claims_come_back_as_they_were_signed() -> None:
    assert Manifest.from_claims(SMALL).to_claims() == SMALL
    assert list(Manifest.from_claims(SMALL).to_claims()) == list(SMALL)
    spelled_out = changed("attachments.1.name", "")
    spelled_out["attachments"][1]["content_type"] = "application/octet-stream"
    assert Manifest.from_claims(FULL).to_claims() == spelled_out


@pytest.mark.parametrize("path, value", BAD, ids=[f"{path}-{n}" for n, (path, _) in enumerate(BAD)])
def test_hostile_claims_are_refused_by_the_code_and_by_the_schema(path: str, value: Any) -> None:
    claims = hostile(path, value)
    assert not schema_takes("manifest", claims)
    with pytest.raises(Malformed) as refusal:
        Manifest.from_claims(claims)
    assert refusal.value.reason in ("manifest-invalid", "manifest-unknown-member")


@pytest.mark.parametrize("claims", [None, [], "x", 5])
def test_claims_that_are_no_object_are_refused(claims: Any) -> None:
    with pytest.raises(Malformed):
        Manifest.from_claims(claims)


def test_a_refusal_names_the_member_and_not_its_value() -> None:
    with pytest.raises(Malformed) as refusal:
        Manifest.from_claims(changed("attested.system", "BI-MAT"))
    assert refusal.value.facts == {"member": "attested.system"}


def test_the_values_of_a_manifest_are_checked_types() -> None:
    manifest = Manifest.from_claims(FULL)
    assert isinstance(manifest.message_id, MessageId)
    assert isinstance(manifest.sender, AgencyCode)
    assert isinstance(manifest.service, ServiceCode)
    assert isinstance(manifest.dossier, DossierCode)
    assert isinstance(manifest.attested_system, SystemCode)
    assert all(isinstance(receiver, AgencyCode) for receiver in manifest.receivers)
    assert manifest.direction is Direction.REPLY
    assert manifest.attested_means is Means.TOKEN
    assert manifest.issued_at == datetime.fromtimestamp(1790000000, UTC)
    assert manifest.attachments[1] == AttachmentReference(sha256="d" * 64, length=2**53 - 1)


def test_signing_again_later_keeps_the_facts_and_any_other_change_does_not() -> None:
    facts = Manifest.from_claims(FULL).facts_sha256()
    assert Manifest.from_claims(changed("iat", 1790000001)).facts_sha256() == facts
    for path, value in [
        ("purpose", "khác"),
        ("body.sha256", "f" * 64),
        ("receivers", ["H99", "G99.01"]),
        ("user", ...),
    ]:
        assert Manifest.from_claims(changed(path, value)).facts_sha256() != facts


def test_a_receipt_fits_its_document() -> None:
    receipt = Receipt(
        message_id=MessageId("019a7b3c-1111-7222-8333-444455556666"),
        state="recorded",
        received_at=datetime(2026, 4, 23, 3, tzinfo=UTC),
        receivers=(AgencyCode("H99"),),
        leaf=sha256_hex(b""),
        receipt="eyJh.eyJi.c2ln",
    )
    document = {
        "message_id": receipt.message_id,
        "state": receipt.state,
        "received_at": to_wire(receipt.received_at),
        "receivers": list(receipt.receivers),
        "leaf": receipt.leaf,
        "receipt": receipt.receipt,
    }
    assert schema_takes("receipt", document)
    for name, wrong in [
        ("received_at", "2026-04-23T10:00:00+07:00"),
        ("leaf", "x"),
        ("receipt", "a.b"),
        ("receivers", []),
    ]:
        assert not schema_takes("receipt", document | {name: wrong})


def concrete(kind: type[Problem]) -> list[type[Problem]]:
    return [leaf for child in kind.__subclasses__() for leaf in concrete(child)] or [kind]


@pytest.mark.parametrize("kind", concrete(Problem), ids=lambda kind: kind.slug)
def test_every_problem_has_its_place_in_the_problem_document(kind: type[Problem]) -> None:
    problem = InternalFailure() if kind is InternalFailure else kind("internal")
    document = {
        "type": f"/problems/{problem.slug}",
        "title": problem.localized_title("vi"),
        "status": problem.status,
        "detail": problem.detail("vi"),
        "retryable": problem.retryable,
        "trace_id": "0" * 32,
        "errors": [{"pointer": "/a", "detail": "type: string"}],
    }
    assert schema_takes("problem", document)
    assert not schema_takes("problem", document | {"type": "/problems/other"})
    assert problem.localized_title("vi") != problem.localized_title("en")


def test_moments_survive_the_store_and_the_wire() -> None:
    moment = datetime(2026, 4, 23, 3, 0, 0, 123456, tzinfo=UTC)
    assert from_micros(to_micros(moment)) == moment
    assert to_wire(moment) == "2026-04-23T03:00:00.123456Z"
    assert from_wire(to_wire(moment)) == moment == from_wire("2026-04-23T10:00:00.123456+07:00")
    with pytest.raises(ValueError, match="offset"):
        from_wire("2026-04-23T10:00:00")
