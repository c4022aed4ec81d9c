"""Notices by Zalo, bound to the contract; parameter lengths, tokens that are refreshed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connectors.zalo import ZaloConnector
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "zalo"


def notice(number: int = 1, *, to: Any = "0900000001", template: str = "dossier-status", **changes: Any) -> Any:
    document = json.loads((FOLDER / "notice-zalo.example.json").read_bytes())
    parameters = document["parameters"] | {"ma_ho_so": f"H99.15-260423-{number:04d}"} | changes
    return {"to": to, "template": template, "parameters": parameters}


class TestZalo(ConnectorContract):
    bound = Binding(
        connector="zalo",
        path="/zalo",
        operation="template",
        service="notice.zalo",
        payload=notice,
        effects=lambda state: len(state["outbox"]),
        settings={"header_separator": "-", "template_ids": {"dossier-status": "201001"}},
    )

    def test_a_wrong_password_waits_for_the_operator(self, rig: Rig) -> None:
        rig.secret = json.dumps(json.loads(rig.secret) | {"secret_key": "sai"}).encode()
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"

    def test_accents_stay_and_the_number_is_one_number(self, rig: Rig) -> None:
        rig.deliver(parcel_of("notice.zalo", notice(to="+84 900 000 001", ten_nguoi_dan="Đặng Phương Đông, Mẫu")))
        (message,) = rig.sandbox.twins["zalo"].state()["outbox"]
        assert message["phone"] == "84900000001"
        assert message["template_data"]["ten_nguoi_dan"] == "Đặng Phương Đông, Mẫu"

    @pytest.mark.parametrize(
        "document, reason",
        [
            (notice(ten_nguoi_dan="x" * 31), "notice-too-long"),
            (notice(ten_dich_vu="x" * 201), "notice-too-long"),
            (notice(trang_thai=""), "payload-not-for-partner"),
            (notice(trang_thai=5), "payload-not-for-partner"),
            (notice(trang_thai="a\nb"), "payload-not-for-partner"),
            (notice(banner="x"), "payload-not-for-partner"),
            (notice(to="x"), "payload-not-for-partner"),
            (notice(template="x"), "template-unknown"),
        ],
    )
    def test_what_zalo_would_not_take_never_leaves(self, rig: Rig, document: Any, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("notice.zalo", document))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "settings",
        [{"template_ids": {}}, {"header_separator": "."}, {"limits": {"name": "30"}}, {"final_codes": 5}],
    )
    def test_a_wrong_setting_waits_for_the_operator(self, rig: Rig, settings: dict[str, Any]) -> None:
        rig.fault("error", code="-1", message="x")
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={**rig.binding.settings, **settings})
        assert caught.value.reason == "endpoint-invalid"

    def test_an_unknown_user_is_final_where_the_code_is_known_as_such(self, rig: Rig) -> None:
        parcel = parcel_of("notice.zalo", notice(to="0912345678"))
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel)
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel, settings={**rig.binding.settings, "final_codes": ["-118"]})
        assert caught.value.facts == {"code": "-118"}

    def test_the_newest_refresh_token_is_used_and_the_sealed_one_is_the_last_resort(self, rig: Rig) -> None:
        sessions = rig.sandbox.twins["zalo"].sessions  # type: ignore[attr-defined]
        assert isinstance(rig.connector, ZaloConnector)
        for number in range(1, 4):
            rig.deliver(rig.parcel(number))
            sessions.end_all()
        (newest,) = rig.connector._newest.values()
        assert newest not in rig.secret.decode()
        rig.connector._newest = dict.fromkeys(rig.connector._newest, "gone")
        rig.deliver(rig.parcel(4))
        assert rig.effects() == 4

    def test_the_commands_of_the_manual_ask_it(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / "zalo.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        parts = json.loads(rig.secret)
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], **{name.upper(): parts[name] for name in parts}},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert '"error":0' in said
        assert rig.effects() == 1
