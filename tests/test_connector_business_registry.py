"""The business registry's connector, bound to the contract, and the registry's own manners."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.problem import ProviderRejected
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of


class TestBusinessRegistry(ConnectorContract):
    bound = Binding(
        connector="business_registry",
        path="/business_registry",
        operation="chiTietDoanhNghiep",
        service="enterprise.detail",
        payload=lambda number: {"msdn": "9900000016"},
        # It only reads: the effect of a question is that it was asked under its key.
        effects=lambda state: len(state["idempotency_keys"]),
        answers=frozenset({"error"}),
    )

    def test_an_enterprise_comes_back_as_the_registry_wrote_it(self, rig: Rig) -> None:
        document = json.loads(rig.deliver().body)
        assert document["HOAdress"]["CityName"] == "Hải Phòng"
        assert document["MainInformation"]["ENTERPRISE_GDT_CODE"] == "9900000016"

    def test_an_unknown_enterprise_is_an_answer(self, rig: Rig) -> None:
        document = json.loads(rig.deliver(parcel_of("enterprise.detail", {"msdn": "9900000017"})).body)
        assert document == {"DataCount": 0, "Status": "0", "Message": "Không tìm thấy doanh nghiệp"}

    def test_filings_come_in_a_window_of_five_days(self, rig: Rig) -> None:
        ask = {"from_date": "01/04/2026", "to_date": "05/04/2026", "offset": 0, "limit": 3}
        document = json.loads(rig.deliver(parcel_of("enterprise.filings", ask)).body)
        assert (document["DataCount"], len(document["Data"])) == (5, 3)

    @pytest.mark.parametrize(
        "service, payload, reason",
        [
            ("enterprise.filings", {"from_date": "01/04/2026", "to_date": "06/04/2026"}, "window-too-wide"),
            ("enterprise.filings", {"from_date": "05/04/2026", "to_date": "01/04/2026"}, "window-too-wide"),
            ("enterprise.filings", {"from_date": "2026-04-01", "to_date": "05/04/2026"}, "payload-not-for-partner"),
            ("enterprise.filings", {"from_date": "01/04/2026"}, "payload-not-for-partner"),
            ("enterprise.detail", {}, "payload-not-for-partner"),
            ("enterprise.detail", {"msdn": ["9900000016"]}, "payload-not-for-partner"),
            ("enterprise.detail", {"msdn": "9900000016", "admin": "1"}, "payload-not-for-partner"),
            ("enterprise.delete", {"msdn": "9900000016"}, "service-not-of-partner"),
        ],
    )
    def test_questions_the_registry_does_not_take_never_leave(
        self, rig: Rig, service: str, payload: Any, reason: str
    ) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of(service, payload))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    def test_a_value_cannot_add_a_parameter(self, rig: Rig) -> None:
        rig.deliver(parcel_of("enterprise.detail", {"msdn": "1&token=x#y"}))
        assert rig.sandbox.twins["business_registry"].state()["asked"] == {"chiTietDoanhNghiep": 1}
