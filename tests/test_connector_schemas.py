"""Payload schemas of partners: every recorded example is valid, and what partners choke on is refused before them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.problem import SchemaViolation
from schemas.validation import compile_schema
from tests.connector_contract import dossier

PARTNERS = Path(__file__).resolve().parent.parent / "schemas" / "partners"
#: Where the same example lies there in XML, it is described in XML, and the partner's own tests look at both.
EXAMPLES = sorted(path for path in PARTNERS.glob("*/*.example.json") if not path.with_suffix(".xml").exists())


def check(schema: Path, document: Any) -> None:
    compiled = compile_schema(json.loads(schema.read_bytes()))
    compiled.validate(json.dumps(document).encode(), "application/json")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recorded_example_is_valid(example: Path) -> None:
    name = example.name.split(".")[0]
    check(example.with_name(f"{name}.schema.json"), json.loads(example.read_bytes()))


def test_every_schema_has_an_example() -> None:
    named = {(path.parent.name, path.name.split(".")[0]) for path in EXAMPLES}
    assert {(path.parent.name, path.name.split(".")[0]) for path in PARTNERS.glob("*/*.schema.json")} == named


@pytest.mark.parametrize(
    "schema, document",
    [
        ("national_portal/dossier-sync", {}),
        ("national_portal/dossier-sync", {"data": []}),
        ("national_portal/dossier-sync", {"data": [dossier()] * 11}),
        ("national_portal/dossier-sync", {"data": [dossier()], "session": "S-1"}),
        ("national_portal/dossier-sync", dossier(TrichYeuHoSo="x" * 1001)),
        ("national_portal/dossier-sync", dossier(GhiChu="x" * 2001)),
        ("national_portal/dossier-sync", dossier(NgayTiepNhan="2026-04-23T10:00:00")),
        ("national_portal/dossier-progress", {"MaHoSo": "H99.15-260423-0001", "TrangThai": "11"}),
        ("national_portal/dossier-lookup", {"mahoso": "1 OR 1=1"}),
        ("national_portal/procedure-detail", {"maTTHC": "x"}),
        ("one_stop/profile", {"source_id": "a"}),
        ("business_registry/enterprise-detail", {"msdn": "99 00000016"}),
        ("business_registry/enterprise-detail-reply", {"Status": "1", "HOAddress": {}}),
        ("business_registry/enterprise-filings", {"from_date": "2026-04-01", "to_date": "05/04/2026"}),
    ],
)
def test_what_a_partner_would_choke_on_is_refused(schema: str, document: Any) -> None:
    with pytest.raises(SchemaViolation):
        check(PARTNERS / f"{schema}.schema.json", document)


def test_no_schema_lists_the_codes_of_communes() -> None:
    """P24: a commune's code came back under another name in 2025, so only a date says which place it is. Schemas check
    the form of a code and pass it on; nowhere is a list of them."""
    places = re.compile("xa(id)?$|ward|commune|phuong", re.IGNORECASE)
    found = {
        f"{path.parent.name}/{path.name} {name}": member
        for path in PARTNERS.glob("*/*.schema.json")
        for name, member in _members(json.loads(path.read_bytes()))
        if places.search(name)
    }
    assert found
    assert [place for place, member in found.items() if {"enum", "const"} & member.keys()] == []


def _members(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every member that a schema describes, with its own schema."""
    if isinstance(schema, list):
        for item in schema:
            yield from _members(item)
    elif isinstance(schema, dict):
        described = schema.get("properties", {})
        yield from ((name, member) for name, member in described.items() if isinstance(member, dict))
        for value in schema.values():
            yield from _members(value)
