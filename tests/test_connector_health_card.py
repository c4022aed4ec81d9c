"""Health cards: services on the plain REST connector, bound to the contract, and the numbers of cards."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import requests

from schemas.problem import SchemaViolation
from tests.connector_contract import Rig
from tests.office_contract import Asked, OfficeContract, bound_to, schema_of
from tests.test_connector_residence import OFFICE as RESIDENCE

OFFICE: Asked = replace(
    RESIDENCE,
    name="health_card",
    service="health-card.issue",
    result_service="health-card.result",
    operation="capThe",
    request="issue",
    system="G99.25/the-bhyt",
)


class TestHealthCard(OfficeContract):
    office = OFFICE
    bound = bound_to(OFFICE)

    def test_each_child_has_a_card_of_its_own_with_its_insurance_number(self, rig: Rig) -> None:
        cards = []
        for number in (1, 2):
            rig.deliver(rig.parcel(number))
            asked = {"maHoSo": OFFICE.recorded(number)["maHoSo"]}
            address = f"{rig.server.url}/_sandbox/health_card/answer"
            cards.append(requests.post(address, json=asked, timeout=10).json()["notice"]["ketQua"])
        assert [card["soTheBHYT"] for card in cards] == ["TE1999900000001", "TE1999900000002"]
        assert all(card["soTheBHYT"].endswith(card["maSoBhxh"]) for card in cards)


@pytest.mark.parametrize(
    "card",
    ["TE199990000001", "TE19999000000011", "TE0999900000001", "TE6999900000001", "te1999900000001", "1"],
)
def test_what_is_no_number_of_a_card_is_refused(card: str) -> None:
    result = {"soDinhDanh": "099326900001", "maSoBhxh": "9900000001", "soTheBHYT": card}
    notice = {"maHoSo": "H99.15-260423-0001", "trangThai": "4", "thoiGianThucHien": "24/04/2026 10:00:00"}
    with pytest.raises(SchemaViolation):
        schema_of("health_card", "result").validate(
            json.dumps(notice | {"ketQua": result}).encode(), "application/json"
        )
