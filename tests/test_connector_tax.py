"""Tax registration: services on the plain REST connector, bound to the contract, and a request that is taken back."""

from __future__ import annotations

import json

import pytest
import requests

from registry.model import HttpCall
from schemas.problem import ProviderRejected
from tests.connector_contract import Rig, parcel_of
from tests.office_contract import Asked, OfficeContract, bound_to

OFFICE = Asked(
    name="tax",
    service="tax.register",
    result_service="tax.result",
    operation="dangKyThue",
    request="register",
    system="G99.26/dang-ky-thue",
    faults=(
        {"maSoDoanhNghiep": "9900000017"},
        {"maSoDoanhNghiep": ""},
        {"maSoDoanhNghiep": 9900000016},
        {"tenNguoiNopThue": ""},
    ),
)
CANCEL = HttpCall(method="POST", path="/huyDangKyThue", body="*")


class TestTax(OfficeContract):
    office = OFFICE
    bound = bound_to(OFFICE)

    def test_a_request_that_was_taken_back_is_not_made_again(self, rig: Rig) -> None:
        rig.deliver()
        cancel = parcel_of("tax.cancel", {"maHoSo": "H99.15-260423-0001"}, call=CANCEL)
        for _ in range(2):
            assert json.loads(rig.deliver(cancel).body)["maLoi"] == "0"
        with pytest.raises(ProviderRejected):
            rig.deliver(rig.parcel())
        assert rig.sandbox.twins["tax"].state()["cancelled"] == ["H99.15-260423-0001"]

    def test_nothing_can_be_taken_back_that_was_not_asked(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("tax.cancel", {"maHoSo": "H99.15-260423-0001"}, call=CANCEL))
        assert caught.value.facts == {"code": "3"}

    def test_the_tax_code_of_an_enterprise_is_its_number(self, rig: Rig) -> None:
        rig.deliver()
        address = f"{rig.server.url}/_sandbox/tax/answer"
        notice = requests.post(address, json={"maHoSo": "H99.15-260423-0001"}, timeout=10).json()["notice"]
        assert notice["ketQua"]["MaSoThue"] == rig.binding.payload(1)["maSoDoanhNghiep"]
