"""Residence registration: services on the plain REST connector, bound to the contract, and the office's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.problem import SchemaViolation
from tests.office_contract import Asked, OfficeContract, bound_to, schema_of

OFFICE = Asked(
    name="residence",
    service="residence.register",
    result_service="residence.result",
    operation="dangKyThuongTru",
    request="register",
    system="G99.02/cu-tru",
    faults=(
        {"ketQua": ""},
        {"ketQua": "{}"},
        {"ketQua": "[]"},
        {"ketQua": '{"soDinhDanh": ""}'},
        {"ketQua": '{"soDinhDanh": "09932690000"}'},
        {"ketQua": {"soDinhDanh": "099326900001"}},
    ),
)


class TestResidence(OfficeContract):
    office = OFFICE
    bound = bound_to(OFFICE)


@pytest.mark.parametrize(
    "changes",
    [
        {"trangThai": "8"},
        {"trangThai": 4},
        {"ketQua": None},
        {"ketQua": {"soDinhDanh": "099326900001"}},
        {"thoiGianThucHien": "2026-04-24T10:00:00"},
        {"maHoSo": "H99.15 OR 1=1"},
        {"them": 1},
    ],
)
def test_an_answer_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    good = json.loads(json.dumps(_result()))
    schema_of("residence", "result").validate(json.dumps(good).encode(), "application/json")
    with pytest.raises(SchemaViolation):
        schema_of("residence", "result").validate(json.dumps(good | changes).encode(), "application/json")


def _result() -> dict[str, Any]:
    address = {"maTinh": "31", "maXa": "11560", "dcChiTiet": "1 đường Mẫu"}
    return {
        "maHoSo": "H99.15-260423-0001",
        "trangThai": "4",
        "thoiGianThucHien": "24/04/2026 10:00:00",
        "ketQua": {"soDinhDanh": "099326900001", "noiThuongTru": address},
    }
