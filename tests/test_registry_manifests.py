"""Manifests: read strictly, refused with every place that is wrong, written back to what they were."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.changes import everything, plan_changes
from registry.directory import Directory
from registry.importing import agencies_from_csv
from registry.manifests import difference_lines, parse_manifest, plan, read_manifests, write_manifest
from registry.model import Agency, Entry, Grant, Pattern, Quota, Service, Stage, System
from registry.strict_yaml import write_yaml
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.problem import Malformed
from security.keys import SigningKey

PROVINCE = AgencyCode("H99")
HELD = Directory([Agency(code=PROVINCE, name="Tỉnh Thử Nghiệm")], revision=7)
AGENCY = {"kind": "Agency", "code": "H99.15", "name": "Sở Mẫu", "parent": "H99"}
SYSTEM = {"kind": "System", "code": "H99/truc", "name": "Trục"}
SERVICE = {
    "kind": "Service", "code": "civil.birth", "version": 1, "name": "Khai sinh", "owner": "H99", "pattern": "one-way",
}  # fmt: skip
GRANT = {"kind": "Grant", "id": "g", "service": "civil.birth", "grantee": "H99"}
ENDPOINT = {"connector": "rest", "url": "https://dich.example/nhan"}


def entries(*documents: dict[str, Any], folder: Path | None = None) -> list[Entry]:
    text = write_yaml(documents).encode()
    changes = plan(HELD, parse_manifest(text, source="m.yaml", folder=folder))
    return [step.entry for step in changes.steps]


def faults(*documents: Any, folder: Path | None = None) -> dict[str, str]:
    with pytest.raises(Malformed) as refusal:
        plan(HELD, parse_manifest(json.dumps(documents).encode(), source="m.json", folder=folder))
    assert refusal.value.reason == "registry-manifest-invalid"
    return {error.pointer: error.detail for error in refusal.value.errors}


def test_what_is_left_out_has_its_default() -> None:
    assert entries(AGENCY, SYSTEM, SERVICE, GRANT) == [
        Agency(code=AgencyCode("H99.15"), name="Sở Mẫu", parent=PROVINCE),
        System(code=SystemCode("H99/truc"), name="Trục"),
        Service(code=ServiceCode("civil.birth"), version=1, name="Khai sinh", owner=PROVINCE, pattern=Pattern.ONE_WAY),
        Grant(id="g", service=ServiceCode("civil.birth"), grantee=PROVINCE),
    ]


def test_json_and_yaml_say_the_same() -> None:
    from_json = plan(HELD, parse_manifest(json.dumps([AGENCY, SERVICE]).encode()))
    from_yaml = plan(HELD, parse_manifest(write_yaml([AGENCY, SERVICE]).encode()))
    assert from_json == from_yaml
    assert plan(HELD, parse_manifest(json.dumps(AGENCY).encode())).steps == from_json.steps[:1]


def test_names_become_nfc() -> None:
    decomposed = unicodedata.normalize("NFD", "Sở Tư pháp Đặng")
    [agency] = entries({**AGENCY, "name": decomposed})
    assert isinstance(agency, Agency)
    assert agency.name == unicodedata.normalize("NFC", decomposed) != decomposed


@pytest.mark.parametrize(
    "document, pointer",
    [
        ({}, "/kind"),
        ([], "/kind"),
        ("text", "/kind"),
        (None, "/kind"),
        ({**AGENCY, "kind": "Ministry"}, "/kind"),
        ({**AGENCY, "kind": ["Agency"]}, "/kind"),
        ({**AGENCY, "code": "h99"}, "/code"),
        ({**AGENCY, "code": "000.00.15.H99"}, "/code"),
        ({**AGENCY, "code": "H99\n"}, "/code"),
        ({**AGENCY, "name": ""}, "/name"),
        ({**AGENCY, "name": 7}, "/name"),
        ({**AGENCY, "aliases": "SOMAU"}, "/aliases"),
        ({**AGENCY, "aliases": ["A", "A"]}, "/aliases"),
        ({**AGENCY, "nmae": "x"}, ""),
        ({"kind": "Agency", "code": "H99.15"}, ""),
        ({**SYSTEM, "code": "H99"}, "/code"),
        ({**SYSTEM, "mode": "pull"}, "/mode"),
        ({**SYSTEM, "concurrency": 0}, "/concurrency"),
        ({**SYSTEM, "client_secret_hash": "$argon2id$"}, ""),
        ({**SYSTEM, "endpoint": {"connector": "rest"}}, "/endpoint"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "url": "https://ten:mat-khau@dich.example/"}}, "/endpoint/url"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "url": "file:///etc/passwd"}}, "/endpoint/url"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "timeout_seconds": 60}}, "/endpoint/timeout_seconds"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "settings": {"password": "x"}}}, "/endpoint/settings"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "settings": {"api-key": "x"}}}, "/endpoint/settings"),
        ({**SYSTEM, "endpoint": {**ENDPOINT, "settings": {"client_secret": "x"}}}, "/endpoint/settings"),
        ({**SYSTEM, "certificates": [{}]}, "/certificates/0"),
        ({**SYSTEM, "certificates": [{"pem": "-----BEGIN CERTIFICATE-----\nAAAA\n"}]}, "/certificates/0"),
        ({**SYSTEM, "certificates": [{"pem": "-----BEGIN PRIVATE KEY-----"}]}, "/certificates/0/pem"),
        ({**SYSTEM, "certificates": [{"file": "/etc/ssl/x.pem"}]}, "/certificates/0/file"),
        ({**SYSTEM, "certificates": [{"file": "khong-co.pem"}]}, "/certificates/0/file"),
        ({**SERVICE, "version": 0}, "/version"),
        ({**SERVICE, "version": "1"}, "/version"),
        ({**SERVICE, "version": 1.5}, "/version"),
        ({**SERVICE, "code": "Civil.Birth"}, "/code"),
        ({**SERVICE, "stage": "open"}, "/stage"),
        ({**SERVICE, "content_types": []}, "/content_types"),
        ({**SERVICE, "content_types": ["application/json; charset=utf-8"]}, "/content_types/0"),
        ({**SERVICE, "schema": {"file": "khong-co.json"}}, "/schema"),
        ({**SERVICE, "schema": {"file": "/etc/hostname"}}, "/schema"),
        ({**SERVICE, "schema": {"file": 7}}, "/schema"),
        ({**SERVICE, "retry": {"factor": 0.5}}, "/retry/factor"),
        ({**SERVICE, "sunset": "2027-01-01"}, "/sunset"),
        ({**SERVICE, "sunset": "2027-13-01T00:00:00Z"}, "/sunset"),
        ({**GRANT, "id": "../x"}, "/id"),
        ({**GRANT, "expires_at": "2027-01-01T00:00:00"}, "/expires_at"),
        ({**GRANT, "quota": {"per_hour": 1}}, "/quota"),
        ({**GRANT, "quota": {"per_day": -1}}, "/quota/per_day"),
    ],
    ids=str,
)
def test_a_document_of_the_wrong_form_is_refused_at_its_place(document: Any, pointer: str, tmp_path: Path) -> None:
    assert set(faults(AGENCY, document, folder=tmp_path)) == {f"m.json#2{pointer}"}


def test_everything_wrong_is_said_at_once_and_no_value_is_repeated(tmp_path: Path) -> None:
    good, bad, worse = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    good.write_bytes(write_yaml([AGENCY]).encode())
    bad.write_bytes(write_yaml([{**SERVICE, "pattern": "bi-mat"}, {**GRANT, "grantee": "bi-mat"}]).encode())
    worse.write_bytes(b"a: *bi-mat")
    with pytest.raises(Malformed) as refusal:
        read_manifests([good, bad, worse])
    errors = refusal.value.errors
    assert [error.pointer for error in errors] == ["b.yaml#1/pattern", "b.yaml#2/grantee", "c.yaml"]
    assert not any("bi-mat" in error.detail for error in errors)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe{", b'{"kind": "Agency", "kind": "System"}', b"{", b"[1, NaN]", b"a: [" * 500]
)
def test_an_unreadable_text_is_refused_whole(data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_manifest(data, source="m.yaml")
    assert [error.pointer for error in refusal.value.errors] == ["m.yaml"]


def test_the_same_entry_twice_is_refused() -> None:
    assert set(faults(AGENCY, SERVICE, {**AGENCY, "name": "Khác"})) == {"m.json#3"}
    there = {"kind": "Agency", "code": "H99", "name": "Tỉnh Thử Nghiệm"}
    assert set(faults(there, {"kind": "Agency", "code": "H99", "state": "absent"})) == {"m.json#2"}


def test_certificates_and_schemas_come_from_files_beside_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    key = SigningKey.generate()
    (tmp_path / "he-thong.pem").write_text(key.certificate_pem, encoding="ascii")
    (folder / "yeu-cau.json").write_text('{"type": "object"}', encoding="utf-8-sig")
    (folder / "tra-loi.xsd").write_text('<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"/>', encoding="utf-8")
    content_types = ["application/json", "application/xml"]
    found = entries(
        {**SYSTEM, "certificates": [{"file": "../he-thong.pem", "revoked_at": "2026-11-21T07:00:00+07:00"}]},
        {
            **SERVICE,
            "content_types": content_types,
            "schema": {"file": "yeu-cau.json"},
            "reply_schema": {"file": "tra-loi.xsd"},
        },
        folder=folder,
    )
    system, service = found
    assert isinstance(system, System)
    assert isinstance(service, Service)
    [certificate] = system.certificates
    assert (certificate.key_id, certificate.thumbprint) == (key.key_id, key.thumbprint)
    assert str(certificate.revoked_at) == "2026-11-21 00:00:00+00:00"
    assert service.schema == {"type": "object"}
    assert isinstance(service.reply_schema, str)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"plain text", b"<" + b"x" * (2 * 1024 * 1024)])
def test_a_schema_file_that_holds_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(Malformed) as refusal:
        entries({**SERVICE, "schema": {"file": "x.json"}}, folder=tmp_path)
    assert refusal.value.errors


def test_a_manifest_from_the_network_names_no_files() -> None:
    rule = faults({**SERVICE, "schema": {"file": "x.json"}}, folder=None)["m.json#1/schema"]
    assert "in place" in rule


def test_absent_removes_what_is_there_and_is_content_with_the_key() -> None:
    full = Directory([*everything(HELD), *entries(AGENCY, {**SERVICE, "stage": "draft"}, GRANT)])
    gone = [
        {"kind": "Grant", "id": "g", "state": "absent"},
        {"kind": "Service", "code": "civil.birth", "version": 1, "state": "absent"},
        {"kind": "Agency", "code": "H99.15", "state": "absent"},
        {"kind": "System", "code": "H99/khong-co", "state": "absent"},
    ]
    changes = plan(full, parse_manifest(json.dumps(gone).encode()))
    assert [(step.action, step.subject) for step in changes.steps] == [
        ("remove", "g"), ("remove", "civil.birth/1"), ("remove", "H99.15"),
    ]  # fmt: skip
    assert plan(HELD, parse_manifest(json.dumps(gone).encode())).steps == ()


def test_what_is_not_mentioned_stays() -> None:
    full = Directory([*everything(HELD), *entries(AGENCY, SERVICE, GRANT)])
    assert plan(full, parse_manifest(json.dumps(GRANT).encode())).steps == ()


def test_what_is_exported_is_planned_as_no_change() -> None:
    key = SigningKey.generate()
    everything_said = entries(
        {**AGENCY, "aliases": ["SOMAU", "0015"]},
        {
            **SYSTEM,
            "mode": "push",
            "endpoint": {**ENDPOINT, "timeout_seconds": 5, "secret": "dich", "settings": {"đường": ["a", 1, None]}},
            "certificates": [{"pem": key.certificate_pem, "revoked_at": "2026-11-21T00:00:00.000001Z"}],
            "receives": ["civil.birth"],
            "concurrency": 3,
            "speaks_for_children": True,
            "suspended": True,
        },
        {
            **SERVICE,
            "pattern": "request-reply",
            "stage": "sandbox",
            "grade": "attested",
            "ordering": "dossier",
            "content_types": ["application/json", "text/xml"],
            "schema": {"type": "object", "properties": {"no": {"const": "no"}}},
            "reply_schema": '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">\n</xs:schema>\n',
            "retry": {"max_attempts": 2, "factor": 1.5},
            "max_body_bytes": 5,
            "sunset": "2027-01-01T00:00:00+07:00",
        },
        {
            **GRANT,
            "include_children": True,
            "receivers": ["H99"],
            "purposes": ["true", "010"],
            "valid_from": "2026-01-01T00:00:00Z",
            "expires_at": "2027-01-01T00:00:00Z",
            "quota": {"per_day": 5},
        },
    )
    full = Directory([*everything(HELD), *everything_said])
    text = write_manifest(everything(full))
    assert len(plan(full, parse_manifest(text.encode())).unchanged) == 5
    assert [step.entry for step in plan(HELD, parse_manifest(text.encode())).steps] == everything_said


def test_an_export_holds_no_secret_and_no_default() -> None:
    system = System(code=SystemCode("H99/truc"), name="Trục", client_secret_hash="$argon2id$bi-mat")
    assert write_manifest([system]) == "---\nkind: System\ncode: H99/truc\nname: Trục\n"


def test_the_difference_is_told_field_by_field() -> None:
    service = {**SERVICE, "stage": "sandbox", "schema": {"type": "object", "title": "x" * 100}}
    full = Directory([*everything(HELD), *entries(AGENCY, service, {**GRANT, "quota": {"per_day": 5}})])
    wanted = [
        {**AGENCY, "name": "Sở Mới"},
        {**SERVICE, "stage": "published", "schema": {"type": "object", "title": "y" * 100}},
        {"kind": "Grant", "id": "g", "state": "absent"},
        {**GRANT, "id": "g-2"},
        {"kind": "Agency", "code": "H99", "name": "Tỉnh Thử Nghiệm"},
    ]

    def digest(schema: Any) -> str:
        return hashlib.sha256(json.dumps(schema).encode()).hexdigest()[:12]

    assert list(difference_lines(plan(full, parse_manifest(json.dumps(wanted).encode())))) == [
        "~ Agency H99.15  Sở Mới",
        "    /name: Sở Mẫu → Sở Mới",
        "~ Service civil.birth/1  Khai sinh",
        f"    /schema: sha256 {digest(service['schema'])}… → sha256 {digest(wanted[1]['schema'])}…",
        "    /stage: sandbox → published",
        "+ Grant g-2",
        "- Grant g",
        "1 to add, 2 to change, 1 to remove, 1 unchanged",
    ]


def test_the_difference_shows_no_secret_hash() -> None:
    system = System(code=SystemCode("H99/truc"), name="Trục", client_secret_hash="$argon2id$bi-mat")
    held = Directory([*everything(HELD), system])
    changes = plan_changes(held, [replace(system, client_secret_hash="$argon2id$khac")])
    assert "argon2id" not in "\n".join(difference_lines(changes))


# Agencies by the hundred

CSV = "code;name;parent\r\nH99.31;UBND xã Mẫu Một;H99\r\n000.00.32.H99;UBND phường Mẫu Hai;\r\n"


@pytest.mark.parametrize(
    "data",
    [
        CSV.encode(),
        CSV.encode("utf-8-sig"),
        CSV.replace(";", ",").encode(),
        CSV.replace(";", "\t").encode(),
        CSV.replace("code;name;parent", "Mã;Tên;Trực thuộc").encode(),
        CSV.replace("code;name;parent", "MÃ_ĐỊNH_DANH;TÊN ĐƠN VỊ;mã cha").encode(),
        unicodedata.normalize("NFD", CSV).encode(),
        (CSV + "\r\n;;\r\n").encode(),
    ],
    ids=range(8),
)
def test_a_spreadsheet_becomes_agencies(data: bytes) -> None:
    assert agencies_from_csv(data, HELD) == [
        Agency(code=AgencyCode("H99.31"), name="UBND xã Mẫu Một", parent=PROVINCE),
        Agency(code=AgencyCode("H99.32"), name="UBND phường Mẫu Hai", parent=PROVINCE),
    ]


def test_212_communes_come_in_one_file_and_only_once() -> None:
    rows = "".join(f"H99.{number:03},Xã Mẫu {number},\n" for number in range(1, 213))
    found = agencies_from_csv(f"code,name,parent\n{rows}".encode(), HELD)
    changes = plan_changes(HELD, found)
    assert len(changes.steps) == 212
    after = Directory([*everything(HELD), *found])
    assert len(after.children(PROVINCE)) == 212
    assert plan_changes(after, agencies_from_csv(f"code,name,parent\n{rows}".encode(), after)).steps == ()


def test_an_import_keeps_the_aliases_that_are_there() -> None:
    held = Directory([*everything(HELD), Agency(code=AgencyCode("H99.31"), name="Cũ", aliases=("XAMAU",))])
    assert agencies_from_csv(CSV.encode(), held)[0].aliases == ("XAMAU",)


def test_an_empty_parent_is_the_nearest_agency_above() -> None:
    text = "code,name\nH99.31.05.07,Tổ\nH99.31,Xã\nG99.1,Ngoài\n"
    assert [agency.parent for agency in agencies_from_csv(text.encode(), HELD)] == ["H99.31", "H99", None]


@pytest.mark.parametrize(
    "text, pointers",
    [
        ("code,name\nH99.31,Xã\nh99.32,Xã\nH99.33,\n", ["x.csv#3", "x.csv#4/name"]),
        ("code,name\nH99.31,Xã\nH99.31,Xã\n", ["x.csv#3/code"]),
        ("code,name\nH99.31,Xã\n000.00.31.H99,Xã\n", ["x.csv#3/code"]),
        ("code,name,parent\nH99.31,Xã,H\n", ["x.csv#2"]),
        ("H99.31,Xã\n", ["x.csv#1"]),
        ("code,name,ten\nH99.31,Xã,Xã\n", ["x.csv#1"]),
        ("", ["x.csv#1"]),
        ('code,name\nH99.31,"Xã\n', ["x.csv#2"]),
    ],
)
def test_a_bad_line_is_named(text: str, pointers: list[str]) -> None:
    with pytest.raises(Malformed) as refusal:
        agencies_from_csv(text.encode(), HELD, source="x.csv")
    assert [error.pointer for error in refusal.value.errors] == pointers


def test_a_spreadsheet_in_another_encoding_is_refused() -> None:
    with pytest.raises(Malformed):
        agencies_from_csv("code,name\nH99.31,Xã".encode("cp1258", errors="replace").replace(b"?", b"\xe3"), HELD)


def test_every_stage_of_the_model_can_be_written_in_a_manifest() -> None:
    for stage in Stage:
        [service] = entries({**SERVICE, "stage": stage.value})
        assert isinstance(service, Service)
        assert service.stage is stage
    [_, grant] = entries(SERVICE, {**GRANT, "quota": {"per_minute": 3}})
    assert isinstance(grant, Grant)
    assert grant.quota == Quota(per_minute=3)
