"""The national portal's connector, bound to the contract, and the portal's own manners."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connectors.national_portal import READS
from connectors.sandbox.faults import Fault
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.connector_contract import Binding, ConnectorContract, Rig, dossier, parcel_of


def progress(number: int, rows: int = 1) -> dict[str, Any]:
    return {
        "data": [
            {
                "MaHoSo": f"H99.15-260423-{number:04d}",
                "NguoiXuLy": "Lê Thị Thử",
                "ThoiDiemXuLy": f"202604231415{row:02d}",
                "NoiDungXuLy": "Kiểm tra hồ sơ",
                "TrangThai": "4",
            }
            for row in range(rows)
        ]
    }


TRANSPORTS: list[dict[str, str]] = [
    {"transport": "envelope"},
    {"transport": "query"},
    {"transport": "query", "session_in": "query"},
    {"transport": "paths"},
    {"transport": "paths", "session_in": "query"},
]
PROMOTION_RESULT = {
    "TrangThai": "2",
    "MaHoSo": "G22.99-260423-000001",
    "MaHoSoDonVi": "H99.15-260423-0009",
    "MaDoiTuong": "TID-0001",
    "NoiDung": "Đã tiếp nhận",
    "NgayXuLy": "20260424080000",
    "TaiLieuXuLy": [],
}
RATING = {
    "NgayTongHop": "4-2026",
    "TongSoNguoiDanhGia": 120,
    "PhanTramDanhGiaRatHaiLong": "90%",
    "PhanTramDanhGiaHaiLong": "8%",
    "PhanTramDanhGiaChuaHaiLong": "2%",
    "NoiDung": "Thái độ của công chức",
    "Madonvi": "H99",
    "TenDonVi": "Tỉnh Thử Nghiệm",
}
ANSWER = {
    "HOIDAPID": "HD-0001",
    "MADONVI": "H99.15",
    "NGUOITRALOI": "Lê Thị Thử",
    "CHUCVUNGUOITRALOI": "Chuyên viên",
    "NGAYTRALOI": "20260424080000",
    "NOIDUNGTRALOI": "Tờ khai và giấy chứng sinh.",
}


class TestNationalPortal(ConnectorContract):
    bound = Binding(
        connector="national_portal",
        beside=frozenset({"national_portal_2025"}),
        path="/national_portal",
        operation="DongBoHoSoMC",
        service="dossier.sync",
        payload=dossier,
        effects=lambda state: len(state["dossiers"]) if state["created"] == len(state["dossiers"]) else -1,
        settings={"madonvi": "H99"},
    )

    def test_a_second_delivery_goes_as_an_update(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        rig.deliver(parcel_of("dossier.sync", dossier(1, GhiChu="đã bổ sung")))
        state = rig.sandbox.twins["national_portal"].state()
        assert (state["created"], state["updated"], state["duplicates"]) == (1, 1, 0)
        assert state["dossiers"]["H99.15-260423-0001"]["GhiChu"] == "đã bổ sung"

    def test_when_another_sender_was_quicker_the_words_da_ton_tai_turn_it_into_an_update(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        # The look-up fails as it does on a slow portal, so the connector believes the dossier to be new.
        rig.sandbox.dial.turn("national_portal", [Fault(kind="error", service="TraCuuHoSo", count=1, code="-3")])
        rig.deliver(rig.parcel(1))
        state = rig.sandbox.twins["national_portal"].state()
        assert (state["created"], state["updated"], state["duplicates"]) == (1, 1, 1)

    @pytest.mark.parametrize("code", [0, "0", "00", "000", " 0 "])
    def test_zero_is_success_in_every_spelling(self, rig: Rig, code: Any) -> None:
        rig.fault("error", code=code, message="Đồng bộ hồ sơ thành công")
        assert rig.deliver().status == 200

    @pytest.mark.parametrize(
        "code, message, problem",
        [
            ("-1", "Lỗi hệ thống", ProviderUnavailable),
            (-1, "Lỗi hệ thống", ProviderUnavailable),
            ("-1", "Không tìm thấy thủ tục", ProviderRejected),
            ("-3", "Dữ liệu sai", ProviderRejected),
            ("99", "", ProviderRejected),
            ("", "", ProviderRejected),
            (None, None, ProviderRejected),
            (True, "", ProviderRejected),
            ({"a": 1}, ["b"], ProviderRejected),
        ],
    )
    def test_other_codes_are_told_apart(self, rig: Rig, code: Any, message: Any, problem: type[Exception]) -> None:
        rig.fault("error", code=code, message=message)
        with pytest.raises(problem):
            rig.deliver()

    def test_wording_is_a_setting_because_the_portal_changes_it(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        rig.sandbox.twins["national_portal"].wording["exists"] = "Mã hồ sơ bị trùng"  # type: ignore[attr-defined]
        rig.sandbox.dial.turn("national_portal", [Fault(kind="error", service="TraCuuHoSo", count=1, code="-3")])
        settings = {"madonvi": "H99", "wording": {"exists": ["bị trùng"]}}
        rig.deliver(rig.parcel(1), settings=settings)
        assert rig.sandbox.twins["national_portal"].state()["updated"] == 1

    def test_success_can_be_made_to_need_the_words(self, rig: Rig) -> None:
        rig.fault("error", code="0", message="Đã nhận, chưa xử lý")
        with pytest.raises(ProviderRejected):
            rig.deliver(settings={"madonvi": "H99", "wording": {"success": ["thành công"]}})

    def test_words_are_known_in_any_unicode_composition(self, rig: Rig) -> None:
        import unicodedata

        rig.deliver(rig.parcel(1))
        twin: Any = rig.sandbox.twins["national_portal"]
        twin.wording["exists"] = unicodedata.normalize("NFD", "Hồ sơ ĐÃ TỒN TẠI")
        rig.sandbox.dial.turn("national_portal", [Fault(kind="error", service="TraCuuHoSo", count=1, code="-3")])
        rig.deliver(rig.parcel(1))
        assert twin.state()["updated"] == 1

    def test_progress_goes_in_batches_of_ten(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        before = len(rig.server.requests)
        rig.deliver(parcel_of("dossier.progress", progress(1, rows=23)))
        assert len(rig.server.requests) - before == 3
        state = rig.sandbox.twins["national_portal"].state()
        assert state["progress_rows"] == 23
        assert state["dossiers"]["H99.15-260423-0001"]["TrangThaiHoSo"] == "4"

    def test_progress_that_overtakes_its_dossier_waits(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel_of("dossier.progress", progress(7)))

    def test_a_session_that_never_holds_is_given_up_after_one_more_login(self, rig: Rig) -> None:
        rig.fault("error", code="-1", message="Session không hợp lệ")
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"
        assert rig.sandbox.twins["national_portal"].state()["logins"] == 2

    def test_a_read_gives_back_the_portals_own_bytes(self, rig: Rig) -> None:
        reply = rig.deliver(parcel_of("procedure.detail", {"maTTHC": "1.001193"}))
        assert b'"TENTTHC":"Th\xe1\xbb\xa7 t\xe1\xbb\xa5c' in reply.body.replace(b": ", b":")
        missing = rig.deliver(parcel_of("procedure.detail", {"maTTHC": "9.999999"}))
        assert "Không tìm thấy thủ tục" in missing.body.decode()

    @pytest.mark.parametrize("address_in", ["query", "header"])
    def test_the_adapters_addressing_works_both_ways(self, rig: Rig, address_in: str) -> None:
        url = rig.server.url + "/XrdAdapter/RestService/forward/mapi"
        settings = {"madonvi": "H99", "dstcode": "VN:GOV:000.00.00.G99:portal", "address_in": address_in}
        assert rig.deliver(url=url, settings=settings).status == 200

    @pytest.mark.parametrize("password", ["H99@123", "abc-h99", "H.9.9"])
    def test_a_password_made_of_the_agencys_code_is_refused(self, rig: Rig, password: str) -> None:
        rig.secret = f"user:{password}".encode()
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "endpoint-secret-weak"
        assert rig.server.requests == []

    @pytest.mark.parametrize("payload", [[], {}, {"data": []}, {"data": [1]}, {"data": [{"MaHoSo": 5}]}, b"{", b"\xff"])
    def test_a_payload_of_another_shape_is_final(self, rig: Rig, payload: Any) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("dossier.sync", payload))
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("something.else", dossier()))

    @pytest.mark.parametrize("settings", TRANSPORTS, ids=lambda settings: " ".join(map(str, settings.values())))
    def test_all_transports_create_update_and_progress(self, rig: Rig, settings: dict[str, str]) -> None:
        settings = {"madonvi": "H99", **settings}
        rig.deliver(rig.parcel(1), settings=settings)
        rig.deliver(rig.parcel(1), settings=settings)
        rig.deliver(parcel_of("dossier.progress", progress(1, rows=11)), settings=settings)
        state = rig.sandbox.twins["national_portal"].state()
        assert (state["created"], state["updated"], state["progress_rows"]) == (1, 1, 11)
        assert state["logins"] == 1

    def test_transports_without_an_envelope_renew_a_session_too(self, rig: Rig) -> None:
        settings = {"madonvi": "H99", "transport": "paths"}
        rig.deliver(rig.parcel(1), settings=settings)
        twin: Any = rig.sandbox.twins["national_portal"]
        twin.sessions.end_all()
        rig.deliver(rig.parcel(2), settings=settings)
        assert (twin.state()["created"], twin.state()["logins"]) == (2, 2)

    def test_an_unknown_transport_waits_for_the_operator(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={"madonvi": "H99", "transport": "pigeon"})
        assert caught.value.facts == {"setting": "transport"}

    @pytest.mark.parametrize("service", READS)
    def test_every_read_answers_in_the_portals_form(self, rig: Rig, service: str) -> None:
        arguments = {"maTTHC": "1.001193", "mahoso": "H99.15-260423-0001", "cauhoiid": "HD-0001", "provider": "wso2is"}
        document = json.loads(rig.deliver(parcel_of(service, arguments)).body)
        assert document["error_code"] == "0"
        assert isinstance(document["result"], list | dict)

    def test_arguments_cannot_take_the_envelopes_place(self, rig: Rig) -> None:
        reply = rig.deliver(parcel_of("field.list", {"session": "x", "madonvi": "H01", "service": "DongBoHoSoMC"}))
        assert b"MALINHVUC" in reply.body

    @pytest.mark.parametrize(
        "service, payload, count",
        [
            ("promotion.result", PROMOTION_RESULT, "promotion_results"),
            ("rating.sync", RATING, "ratings"),
            ("rating.sync", {"data": [RATING]}, "ratings"),
            ("question.sync", {"HOIDAPID": "HD-9", "NOIDUNG": "Bao lâu?", "MADONVI": "H99.15"}, "questions"),
            ("answer.sync", ANSWER, "answers"),
        ],
    )
    def test_a_write_has_one_effect_however_often_it_comes(
        self, rig: Rig, service: str, payload: dict[str, Any], count: str
    ) -> None:
        parcel = parcel_of(service, payload)
        rig.deliver(parcel)
        rig.deliver(parcel)
        assert rig.sandbox.twins["national_portal"].state()[count] == 1

    @pytest.mark.parametrize(
        "service, payload",
        [
            ("promotion.result", PROMOTION_RESULT | {"TrangThai": "9"}),
            ("rating.sync", RATING | {"NgayTongHop": "2026-04"}),
            ("rating.sync", {"data": [{"NgayTongHop": ""}]}),
            ("answer.sync", {"HOIDAPID": 7}),
        ],
    )
    def test_a_write_that_the_portal_refuses_is_final(self, rig: Rig, service: str, payload: dict[str, Any]) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of(service, payload))

    def test_an_answer_reaches_the_list_of_questions(self, rig: Rig) -> None:
        rig.deliver(parcel_of("answer.sync", ANSWER))
        listed = json.loads(rig.deliver(parcel_of("question.list", {})).body)["result"]
        assert listed[0]["TRALOIID"] == "HD-0001"
        answers = json.loads(rig.deliver(parcel_of("answer.list", {"cauhoiid": "HD-0001"})).body)["result"]
        assert answers == [ANSWER]

    def test_the_portals_own_line_of_the_secret_does_not_disturb_ours(self, rig: Rig) -> None:
        rig.secret += b"\ncong-dvc:another-password"
        assert rig.deliver().status == 200

    def test_the_commands_of_the_manual_ask_the_twins(self, rig: Rig) -> None:
        page = Path("docs/partners/national_portal.md").read_text("utf-8")
        _, commands = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        credentials = rig.sandbox.credentials
        name, _, password = credentials["national_portal"].partition(":")
        name_2025, _, password_2025 = credentials["national_portal_2025"].partition(":")
        told = {"NAME": name, "PASSWORD": password, "NAME_2025": name_2025, "PASSWORD_2025": password_2025}
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], **told},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        for expected in ("Không tìm thấy hồ sơ", "Cấp giấy phép", "Đồng bộ hồ sơ thành công", "IdHoSo", '"Value"'):
            assert expected in said
        state = rig.sandbox.twins["national_portal"].state()
        assert (state["created"], state["ratings"], state["promotion_results"]) == (1, 1, 1)
