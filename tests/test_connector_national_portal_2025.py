"""The national portal's newer interface, bound to the contract, and what is its own."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from connectors.base import Reply
from connectors.http import HttpClient
from connectors.national_portal_2025 import NationalPortal2025Connector
from connectors.sandbox.faults import Fault
from schemas.mapping import compile_mapping
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of


def dossier(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "MaHoSo": f"G99.99-260423-{number:06d}",
        "MaTTHC": "1.001193",
        "MaDichVuCong": "1.001193.01",
        "ChuHoSo": "NGUYỄN THỊ MẪU",
        "LoaiDoiTuong": 1,
        "MaDonViTiepNhan": "H99.15",
        "EformThongTinChiTiet": {},
        "ThanhPhanHoSo": [],
        "ThongTinNguoiNop": {"LoaiDoiTuong": 1, "ThongTinChiTiet": {"TenNguoiNop": "NGUYỄN THỊ MẪU"}},
    } | changes


FILE = {
    "TenTep": 'Giấy "chứng" sinh.pdf',
    "KieuTep": "application/pdf",
    "NoiDung": base64.b64encode(b"%PDF\r\n--x").decode(),
}


class Listening(HttpClient):
    """The real client, which remembers what it sent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Any] = []

    def request(self, method: str, url: str, **facts: Any) -> Reply:
        self.bodies.append(facts.get("body"))
        return super().request(method, url, **facts)


#: A registrar's rules for members that still write progress as the older interface wants it (docs/mapping.md).
FROM_THE_OLDER = [
    *(
        {"date": "yyyyMMddHHmmss", "to_format": "yyyy-MM-ddTHH:mm:ss.fff", "at": f"/*/{member}"}
        for member in ("ThoiDiemXuLy", "NgayBatDau", "NgayKetThucTheoQuyDinh")
    ),
    {"type": "integer", "at": "/*/TrangThai"},
]


class TestNationalPortal2025(ConnectorContract):
    bound = Binding(
        connector="national_portal_2025",
        path="/national_portal_2025",
        operation="create",
        service="dossier.create",
        payload=dossier,
        effects=lambda state: len(state["dossiers"]),
    )

    def put(self, rig: Rig, service: str, payload: Any) -> Any:
        return json.loads(rig.deliver(parcel_of(service, payload)).body)["data"]

    def row(self, rig: Rig, member: str, **changes: Any) -> list[dict[str, Any]]:
        number = self.put(rig, "dossier.number", {"MaTTHC": "1.001193"})["Value"]
        identity = self.put(rig, "dossier.create", dossier(MaHoSo=number))["IdHoSo"]
        return [{member: identity, "MaHoSo": number, "TrangThai": 4, **changes}]

    def test_a_dossier_goes_from_its_number_to_its_result(self, rig: Rig) -> None:
        number = self.put(rig, "dossier.number", {"MaTTHC": "1.001193"})["Value"]
        (file,) = self.put(rig, "dossier.upload", FILE)
        assert file["HashTepTin"] == hashlib.sha256(base64.b64decode(FILE["NoiDung"])).hexdigest()
        paper = {"IdGiayTo": file["IdTepTin"], "HashTepTin": file["HashTepTin"], "TenGiayTo": "Giấy chứng sinh"}
        component = {"MaThanhPhanHoSo": "G99.T002", "SoLuong": 1, "LoaiBan": 2, "GiayToDinhKem": [paper]}
        identity = self.put(rig, "dossier.create", dossier(MaHoSo=number, ThanhPhanHoSo=[component]))["IdHoSo"]
        step = {"IDHoSo": identity, "MaHoSo": number, "NguoiXuLy": "Lê Thị Thử", "TrangThai": 4}
        self.put(rig, "dossier.advance", [step | {"ThoiDiemXuLy": "2026-04-23T14:15:00.000"}])
        done = {"IdHoSo": identity, "MaHoSo": number, "TrangThai": 9, "DanhSachLePhi": [], "DanhSachGiayToKetQua": []}
        self.put(rig, "dossier.status", [done])
        state = rig.sandbox.twins["national_portal_2025"].state()
        assert (len(state["progress"]), len(state["status"]), state["logins"]) == (1, 1, 1)
        assert list(state["files"].values()) == ['Giấy "chứng" sinh.pdf']

    def test_what_is_in_the_portals_shape_goes_byte_for_byte(self, rig: Rig) -> None:
        body = json.dumps(dossier(), ensure_ascii=False, indent=3).encode() + b"\n"
        listening = Listening()
        rig.connector = NationalPortal2025Connector(listening)
        rig.deliver(parcel_of("dossier.create", body))
        assert listening.bodies[-1] == body

    @pytest.mark.parametrize(
        "service, member, wrong", [("dossier.advance", "IDHoSo", "IdHoSo"), ("dossier.status", "IdHoSo", "IDHoSo")]
    )
    def test_each_call_has_its_own_spelling_of_the_id(self, rig: Rig, service: str, member: str, wrong: str) -> None:
        rows = self.row(rig, member)
        self.put(rig, service, rows)
        calls = len(rig.server.requests)
        with pytest.raises(ProviderRejected) as caught:
            self.put(rig, service, [{wrong: rows[0][member], **rows[0], member: None}])
        assert caught.value.facts == {"member": member}
        assert len(rig.server.requests) == calls

    @pytest.mark.parametrize(
        "changes", [{"TrangThai": "4"}, {"ThoiDiemXuLy": "20260423141500"}, {"TrangThai": 11}, {"MaHoSo": "x"}]
    )
    def test_a_row_of_the_older_interface_is_refused_by_the_newer_one(self, rig: Rig, changes: dict[str, Any]) -> None:
        with pytest.raises(ProviderRejected):
            self.put(rig, "dossier.advance", self.row(rig, "IDHoSo", **changes))

    def test_rules_of_the_service_write_an_older_row_as_a_newer_one(self, rig: Rig) -> None:
        rows = self.row(rig, "IDHoSo", TrangThai="4", ThoiDiemXuLy="20260423141500", NgayBatDau="20260423141500")
        mapped = compile_mapping(FROM_THE_OLDER).apply(rows)
        assert mapped[0]["ThoiDiemXuLy"] == "2026-04-23T14:15:00.000"
        self.put(rig, "dossier.advance", mapped)
        assert rig.sandbox.twins["national_portal_2025"].state()["progress"] == mapped

    def test_fees_and_results_come_only_with_the_statuses_that_have_them(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            self.put(rig, "dossier.status", self.row(rig, "IdHoSo", TrangThai=4, DanhSachLePhi=[]))

    def test_a_number_that_is_taken_is_final_at_first_and_ours_from_the_second_attempt(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        stranger = rig.parcel(1)
        with pytest.raises(ProviderRejected):
            rig.deliver(stranger)
        assert rig.deliver(replace(stranger, attempt=2)).status == 200

    @pytest.mark.parametrize(
        "code, problem",
        [("-1", ProviderUnavailable), (500, ProviderUnavailable), ("4", ProviderRejected), (None, ProviderRejected)],
    )
    def test_codes_are_told_apart_by_settings(self, rig: Rig, code: Any, problem: type[Exception]) -> None:
        rig.fault("error", code=code)
        with pytest.raises(problem):
            rig.deliver()
        rig.sandbox.dial.turn("national_portal_2025", [Fault(kind="error", service="create", code="4")])
        assert rig.deliver(settings={"success_codes": ["4"]}).status == 200

    @pytest.mark.parametrize("code", [0, "0", "00", 200, "200"])
    def test_success_has_several_spellings(self, rig: Rig, code: Any) -> None:
        rig.fault("error", code=code)
        assert rig.deliver().status == 200

    @pytest.mark.parametrize(
        "service, payload",
        [
            ("dossier.create", []),
            ("dossier.advance", {}),
            ("dossier.advance", []),
            ("dossier.advance", [7]),
            ("dossier.upload", FILE | {"NoiDung": "không phải base64"}),
            ("dossier.upload", FILE | {"NoiDung": ""}),
            ("dossier.upload", FILE | {"TenTep": ""}),
            ("dossier.upload", FILE | {"KieuTep": "text/plain\r\nX: 1"}),
            ("dossier.sync", {}),
        ],
    )
    def test_a_payload_of_another_shape_never_leaves(self, rig: Rig, service: str, payload: Any) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of(service, payload))
        assert rig.server.requests == []

    def test_a_files_name_cannot_add_a_part(self, rig: Rig) -> None:
        listening = Listening()
        rig.connector = NationalPortal2025Connector(listening)
        self.put(rig, "dossier.upload", FILE | {"TenTep": 'a"\r\nX-Y: 1\r\n\r\n.pdf'})
        assert b"X-Y" in listening.bodies[-1]
        assert b"\r\nX-Y" not in listening.bodies[-1]

    def test_a_token_that_ended_is_renewed_once(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        twin: Any = rig.sandbox.twins["national_portal_2025"]
        twin.sessions.end_all()
        rig.deliver(rig.parcel(2))
        assert twin.state()["logins"] == 2
