"""The driver-licence connector, bound to the contract, and the system's own manners."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connectors.sandbox.faults import Fault
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of

ROOT = Path(__file__).resolve().parent.parent
NUMBER = "G99.04-260423-0001"


class TestDriverLicence(ConnectorContract):
    bound = Binding(
        connector="driver_licence",
        path="/driver_licence",
        operation="TraCuuHoSo",
        service="driver-licence.dossier",
        payload=lambda number: {"mahoso": NUMBER},
        effects=lambda state: len(state["idempotency_keys"]),
        settings={"donViXuLy": "H99.15"},
    )

    def test_the_feed_leads_from_the_days_to_the_document(self, rig: Rig) -> None:
        days = {"ngayNhan1": "2026-04-22", "ngayNhan2": "2026-04-23"}
        listed = json.loads(rig.deliver(parcel_of("driver-licence.dossiers", days)).body)["data"]
        assert [dossier["maHoSo"] for dossier in listed] == ["G99.04-260422-0001", NUMBER]
        (detail,) = json.loads(rig.deliver(parcel_of("driver-licence.dossier", {"mahoso": NUMBER})).body)["data"]
        assert detail["HinhThucNhanKQ"] == "1"
        path = listed[-1]["hoSoDinhKem"][0]["filedinhkem"]
        (file,) = json.loads(rig.deliver(parcel_of("driver-licence.document", {"duongdanteptin": path})).body)[
            "TepTinDinhKem"
        ]
        assert base64.b64decode(file["Base64"]).startswith(b"%PDF")

    @pytest.mark.parametrize(
        "name, question",
        [
            ("dossiers", {"ngayNhan1": "2026-04-22", "ngayNhan2": "2026-04-23"}),
            ("dossier", {"mahoso": NUMBER}),
            ("document", {"duongdanteptin": f"/gplx/{NUMBER}/gksk.pdf"}),
        ],
    )
    def test_questions_and_answers_are_as_the_schemas_say(self, rig: Rig, name: str, question: Any) -> None:
        folder = ROOT / "schemas" / "partners" / "driver_licence"
        parcel = parcel_of(f"driver-licence.{name}", question)
        compile_schema(json.loads((folder / f"{name}.schema.json").read_bytes())).validate(
            parcel.body, "application/json"
        )
        reply = rig.deliver(parcel)
        compile_schema(json.loads((folder / f"{name}-reply.schema.json").read_bytes())).validate(
            reply.body, reply.content_type
        )

    def test_a_misspelt_member_is_passed_on(self, rig: Rig) -> None:
        days = {"ngayNhan1": "2026-04-23", "ngayNhan2": "2026-04-23"}
        assert b'"hanggplxgplx"' in rig.deliver(parcel_of("driver-licence.dossiers", days)).body

    def test_an_unknown_dossier_is_an_answer(self, rig: Rig) -> None:
        reply = rig.deliver(parcel_of("driver-licence.dossier", {"mahoso": "G99.04-260231-0001"}))
        assert json.loads(reply.body) == {"error_code": "0", "data": []}

    @pytest.mark.parametrize(
        "service, payload",
        [
            ("driver-licence.dossier", {}),
            ("driver-licence.dossier", {"mahoso": ""}),
            ("driver-licence.dossier", {"mahoso": 5}),
            ("driver-licence.dossier", {"mahoso": NUMBER, "session": "của người khác"}),
            ("driver-licence.dossier", {"mahoso": NUMBER, "service": "XoaHoSo"}),
            ("driver-licence.dossier", {"mahoso": NUMBER, "donViXuLy": "H99.16"}),
            ("driver-licence.dossier", {"mahoso": NUMBER, "them": "1"}),
            ("driver-licence.dossier", []),
            ("driver-licence.delete", {"mahoso": NUMBER}),
        ],
    )
    def test_questions_that_are_none_never_leave(self, rig: Rig, service: str, payload: Any) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of(service, payload))
        assert rig.server.requests == []

    def test_without_its_unit_nothing_is_asked(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={})
        assert caught.value.reason == "endpoint-invalid"
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "code, settings, problem",
        [
            ("-1", {}, ProviderUnavailable),
            (-1, {}, ProviderUnavailable),
            ("1", {}, ProviderRejected),
            ("", {}, ProviderRejected),
            (None, {}, ProviderRejected),
            (True, {}, ProviderRejected),
            ("7", {"retry_codes": ["7"]}, ProviderUnavailable),
            ("-1", {"retry_codes": []}, ProviderRejected),
        ],
    )
    def test_codes_are_told_apart(self, rig: Rig, code: Any, settings: Any, problem: type[Exception]) -> None:
        rig.fault("error", code=code, message="thành công")
        with pytest.raises(problem):
            rig.deliver(settings={"donViXuLy": "H99.15", **settings})

    @pytest.mark.parametrize("code", [0, "0", "00", "000"])
    def test_zero_is_success_in_every_spelling(self, rig: Rig, code: Any) -> None:
        rig.fault("error", code=code, message="session không hợp lệ")
        assert rig.deliver().status == 200

    def test_a_dead_session_is_known_by_a_code_where_the_system_has_one(self, rig: Rig) -> None:
        rig.fault("error", code="401", message="?", count=1)
        rig.deliver(settings={"donViXuLy": "H99.15", "session_codes": ["401"]})
        assert rig.sandbox.twins["driver_licence"].state()["logins"] == 2

    def test_a_session_that_never_holds_is_given_up(self, rig: Rig) -> None:
        rig.fault("error", code="-1", message="Session HẾT HẠN")
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"
        assert rig.sandbox.twins["driver_licence"].state()["logins"] == 2

    def test_a_login_without_a_session_is_nonsense(self, rig: Rig) -> None:
        rig.sandbox.dial.turn("driver_licence", [Fault(kind="error", service="login", code="0")])
        with pytest.raises(InvalidReply):
            rig.deliver()

    def test_the_commands_of_the_manual_ask_the_twin(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / "driver_licence.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        name, _, password = rig.sandbox.credentials["driver_licence"].partition(":")
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], "NAME": name, "PASSWORD": password},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert "hanggplxgplx" in said
        assert '"HinhThucNhanKQ"' in said
        assert '"TenTaiLieu"' in said
