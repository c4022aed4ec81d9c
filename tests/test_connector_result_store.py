"""The store of digitised results, bound to the contract, and what is its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.sandbox.result_store import FILE
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of


def question(number: int = 1) -> dict[str, Any]:
    return {"SoDinhDanhChuSoHuu": f"0991990{number:05d}", "MaThuTuc": "1.001193"}


PLACE = {"CoQuanChuQuan": "H99.20", "DuongDan": "kho/2026/0001", "TenTep": "giay-khai-sinh.pdf"}


class TestResultStore(ConnectorContract):
    bound = Binding(
        connector="result_store",
        path="/result_store",
        operation="search",
        service="result.search",
        payload=question,
        effects=lambda state: state["questions"],
    )

    def test_a_result_is_found_and_its_file_fetched(self, rig: Rig) -> None:
        wanted = {**question(), "DanhSachDanhMucKetQua": [{"MaKetQua": "KQ.G15.000031", "SoKyHieu": ""}]}
        found = json.loads(rig.deliver(parcel_of("result.search", wanted)).body)
        (paper,) = found["result"]["DanhSachGiayToKetQua"]
        (file,) = paper["DanhSachTepDinhKem"]
        place = {"CoQuanChuQuan": paper["CoQuanChuQuan"], **file}
        reply = rig.deliver(parcel_of("result.file", place))
        assert (reply.body, reply.content_type) == (FILE, "application/pdf")

    def test_nothing_found_is_an_answer(self, rig: Rig) -> None:
        found = json.loads(rig.deliver(rig.parcel(9)).body)
        assert found["result"]["DanhSachGiayToKetQua"] == []
        rig.fault("error", code="404")
        assert rig.deliver(settings={"answer_codes": ["404"]}).status == 200

    def test_a_file_that_is_not_there_is_final(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("result.file", {**PLACE, "DuongDan": "kho/khac"}))

    @pytest.mark.parametrize("address_in", ["query", "header"])
    def test_the_store_is_reached_by_its_own_address_behind_the_adapter(self, rig: Rig, address_in: str) -> None:
        settings = {"providerurl": "http://kho.example.vn", "dstcode": "VN:GOV:x", "address_in": address_in}
        assert rig.deliver(settings=settings).status == 200
        assert rig.server.header("providerurl") == (["http://kho.example.vn"] * 2 if address_in == "header" else [])

    def test_the_session_may_travel_in_a_header_of_its_own(self, rig: Rig) -> None:
        assert rig.deliver(settings={"session_header": "session"}).status == 200
        assert len(rig.server.header("session")) == 1
        for name in ("a b", "Host", ""):
            with pytest.raises(ProviderUnavailable) as caught:
                rig.deliver(settings={"session_header": name})
            assert caught.value.facts == {"setting": "session_header"}

    @pytest.mark.parametrize(
        "code, problem", [("-1", ProviderUnavailable), ("7", ProviderRejected), (None, ProviderRejected)]
    )
    def test_codes_are_told_apart(self, rig: Rig, code: Any, problem: type[Exception]) -> None:
        rig.fault("error", code=code)
        with pytest.raises(problem):
            rig.deliver()
