"""The one-stop's connector, bound to the contract, and how a portal dossier becomes a profile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.problem import ProviderRejected
from tests.connector_contract import Binding, ConnectorContract, Rig, dossier, parcel_of


def profile(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "source_id": f"H99.15-260423-{number:04d}",
        "procedures_code": "1.001193",
        "from_unit_code": "H99.15",
        "to_unit_code": ["H99.16"],
        "accept_date": "2026/04/23 10:00:00",
        "appointment_date": "2026/04/24 17:00:00",
    } | changes


class TestOneStop(ConnectorContract):
    bound = Binding(
        connector="one_stop",
        path="/one_stop",
        operation="profile",
        service="dossier.transfer",
        payload=profile,
        effects=lambda state: len(state["dossiers"]),
    )

    def test_a_portal_dossier_is_written_as_a_profile(self, rig: Rig) -> None:
        rig.deliver(parcel_of("dossier.transfer", dossier(3)))
        filed = rig.sandbox.twins["one_stop"].state()["dossiers"]["H99.15-260423-0003"]["profile"]
        assert filed["accept_date"] == "2026/04/23 10:00:00"
        assert filed["appointment_date"] == "2026/04/24 17:00:00"
        assert filed["procedures_code"] == "1.001193"
        assert filed["profileOwner"]["name"] == "NGUYỄN THỊ MẪU"
        assert filed["to_unit_code"] == ["H99.16"]
        assert len(filed["profileAttachments"]) == 2

    def test_a_repeat_gets_the_first_profile_id(self, rig: Rig) -> None:
        first = json.loads(rig.deliver(rig.parcel(1)).body)
        again = json.loads(rig.deliver(rig.parcel(1)).body)
        assert first["profile_id"] == again["profile_id"]
        assert again["message"] == "Hồ sơ đã được tiếp nhận"

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            [],
            profile(accept_date="23/04/2026"),
            dossier(1, NgayTiepNhan="2026-04-23"),
            dossier(1, TaiLieuNop="x"),
            profile(procedures_code=""),
        ],
    )
    def test_what_the_one_stop_will_never_take_is_final(self, rig: Rig, payload: Any) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("dossier.transfer", payload))
        assert rig.effects() == 0
