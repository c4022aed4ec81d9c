"""The sandbox as a partner's own software would meet it: three transports, the dial, credentials."""

from __future__ import annotations

import base64
import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from connectors.sandbox.about import calls_of, presets_of
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.credentials import open_credentials
from connectors.sandbox.faults import Dial, Fault, caller
from tests.connector_contract import dossier, parcel_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "secret" / "credentials.json"))
    yield app
    app.extensions["sandbox"].close()


@pytest.fixture
def partner(app: Flask) -> FlaskClient:
    return app.test_client()


def credential(app: Flask, twin: str) -> tuple[str, str]:
    sandbox: Sandbox = app.extensions["sandbox"]
    name, _, password = sandbox.credentials[twin].partition(":")
    return name, password


def portal_session(app: Flask, partner: FlaskClient, prefix: str = "/national_portal") -> str:
    name, password = credential(app, "national_portal")
    answer = partner.post(f"{prefix}/login", json={"username": name, "password": password}).get_json()
    assert answer["error_code"] == 0
    return str(answer["session"])


def test_credentials_are_random_kept_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "credentials.json"
    first = open_credentials(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_credentials(path) == first
    assert open_credentials(tmp_path / "other.json") != first
    assert all("h99" not in text.lower() for text in first.values())
    path.chmod(0o644)
    with pytest.raises(PermissionError):
        open_credentials(path)


@pytest.mark.parametrize(
    "prefix", ["/national_portal", "/XrdAdapter/RestService/forward/mapi", "/VXPAdapter/RestService/forward/mapi"]
)
def test_the_portal_takes_all_three_transports(app: Flask, partner: FlaskClient, prefix: str) -> None:
    session = portal_session(app, partner, prefix)
    envelope = {"session": session, "madonvi": "H99", "service": "DongBoHoSoMC", "isUpdating": "False"}
    first = partner.post(f"{prefix}/integration", json=envelope | {"data": [dossier(1)]}).get_json()
    second = partner.post(
        f"{prefix}/DongBoHoSoMC?MaDinhDanhDV=H99&isUpdating=False&session={session}", json=[dossier(2)]
    ).get_json()
    third = partner.post(f"{prefix}/add", json=[dossier(3)], headers={"session": session}).get_json()
    assert [answer["error_code"] for answer in (first, second, third)] == ["0", "0", "0"]
    update = partner.post(f"{prefix}/update", json=[dossier(3)], headers={"session": session}).get_json()
    assert update["message"] == "Đồng bộ hồ sơ thành công"
    again = partner.post(f"{prefix}/add", json=[dossier(3)], headers={"session": session}).get_json()
    assert again == {"error_code": "-3", "message": "Hồ sơ đã tồn tại"}
    state = partner.get("/_sandbox/national_portal/state").get_json()
    assert (state["created"], state["updated"], state["duplicates"]) == (3, 1, 1)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([dossier(TrichYeuHoSo="x" * 1001)], "Trường TrichYeuHoSo vượt quá 1000 ký tự"),
        ([dossier(MaTTHC="")], "Thiếu trường bắt buộc MaTTHC"),
        ([dossier(MaTTHC="9.999999")], "Không tìm thấy thủ tục"),
        ([dossier(NgayTiepNhan="23/04/2026")], "Trường NgayTiepNhan không đúng định dạng yyyyMMddHHmmss"),
        ([], "Dữ liệu không hợp lệ"),
        ([5], "Dữ liệu không hợp lệ"),
        ([dossier(MaHoSo=["x"])], "Dữ liệu không hợp lệ"),
        ({"a": 1}, "Dữ liệu không hợp lệ"),
        (None, "Dữ liệu không hợp lệ"),
    ],
)
def test_the_portal_says_what_is_wrong(app: Flask, partner: FlaskClient, rows: Any, message: str) -> None:
    headers = {"session": portal_session(app, partner)}
    assert partner.post("/national_portal/add", json=rows, headers=headers).get_json()["message"] == message
    assert partner.get("/_sandbox/national_portal/state").get_json()["dossiers"] == {}


def test_a_call_without_a_session_is_told_so(partner: FlaskClient) -> None:
    for body in ({"session": "x", "service": "DongBoHoSoMC"}, {"session": ["x"]}, [], "x", None):
        answer = partner.post("/national_portal/integration", json=body).get_json()
        assert answer["error_code"] == "-1"


def test_sessions_end(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "c.json", session_seconds=0.0))
    partner = app.test_client()
    session = portal_session(app, partner)
    answer = partner.post("/national_portal/add", json=[dossier()], headers={"session": session}).get_json()
    assert answer["message"] == "session không hợp lệ"


def test_a_one_stops_profiles_are_listed_until_they_are_acknowledged(app: Flask, partner: FlaskClient) -> None:
    basic = base64.b64encode(":".join(credential(app, "one_stop")).encode()).decode()
    token = partner.post("/one_stop/token", headers={"Authorization": f"Basic {basic}"}).get_json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    profile = json.loads(Path("schemas/partners/one_stop/profile.example.json").read_bytes())
    number = partner.post("/one_stop/profile", json=profile, headers=headers).get_json()["profile_id"]
    listed = partner.get("/one_stop/profiles?unit_code=H99.16", headers=headers).get_json()["profileReceivers"]
    assert [entry["profileId"] for entry in listed] == [number]
    shown = partner.get(f"/one_stop/profile?profile_id={number}", headers=headers).get_json()
    assert shown["profileOutmodel"] == profile
    for status, left in (("fail", 1), ("done", 0)):
        partner.post(f"/one_stop/updateStatusReceiver?profile_id={number}&status={status}", headers=headers)
        again = partner.get("/one_stop/profiles?unit_code=H99.16", headers=headers).get_json()
        assert len(again["profileReceivers"]) == left
    assert partner.get("/one_stop/profiles?unit_code=H99.16").status_code == 401


def test_a_fault_with_a_count_happens_that_often(partner: FlaskClient) -> None:
    fault = [{"service": "in", "kind": "status", "status": 503, "retry_after": 3, "count": 2}]
    assert partner.put("/_sandbox/generic/faults", json=fault).status_code == 200
    answers = [partner.post("/generic/in", data=b"x", headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "3"
    listing = partner.get("/_sandbox").get_json()
    assert listing["faults"]["generic"][0]["count"] == 0
    assert listing["happened"] == {"status": 2}


def test_chance_is_repeatable_and_faults_keep_to_their_tenant() -> None:
    def drawn(seed: int) -> list[bool]:
        dial = Dial(seed)
        dial.turn("generic", [Fault(kind="reset", probability=0.5)])
        return [dial.draw("generic", "in") is not None for _ in range(50)]

    assert drawn(1) == drawn(1)
    assert 10 < sum(drawn(1)) < 40
    dial = Dial()
    dial.turn("national_portal", [Fault(kind="reset", tenant="H99")])
    assert dial.draw("national_portal", "x", "H98") is None
    assert dial.draw("national_portal", "x", "H99") is not None


def test_a_stall_ends_when_the_sandbox_closes() -> None:
    dial = Dial()
    dial.turn("generic", [Fault(kind="stall", seconds=60)])
    app = Flask("x")
    began = time.monotonic()
    threading.Timer(0.1, dial.close).start()
    with app.test_request_context():
        from flask import Response

        answer = dial.apply("generic", "in", lambda: Response("ok"), lambda code, message: Response(message))
    assert answer.get_data() == b"ok"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "document",
    [
        {},
        [5],
        [{"kind": "magic"}],
        [{"kind": "stall", "seconds": 9999}],
        [{"kind": "reset", "probability": 2}],
        [{"kind": "reset", "count": -1}],
        [{"kind": "reset", "count": "2"}],
        [{"kind": "status", "status": 42}],
        [{"no": "kind"}],
        None,
    ],
)
def test_a_fault_that_cannot_be_is_refused_and_changes_nothing(partner: FlaskClient, document: Any) -> None:
    assert partner.put("/_sandbox/generic/faults", json=document).status_code == 400
    assert partner.get("/_sandbox").get_json()["faults"] == {}
    assert partner.put("/_sandbox/nobody/faults", json=[]).status_code == 404


def test_wording_can_be_changed_by_name_and_memory_reset(app: Flask, partner: FlaskClient) -> None:
    assert partner.put("/_sandbox/national_portal/wording", json={"exists": "Mã bị trùng"}).status_code == 200
    assert partner.put("/_sandbox/national_portal/wording", json={"unknown": "x"}).status_code == 400
    headers = {"session": portal_session(app, partner)}
    for _ in range(2):
        answer = partner.post("/national_portal/add", json=[dossier()], headers=headers).get_json()
    assert answer["message"] == "Mã bị trùng"
    partner.post("/_sandbox/national_portal/reset")
    assert partner.get("/_sandbox/national_portal/state").get_json()["dossiers"] == {}


def test_the_plain_receiver_counts_repeats_and_conflicts(partner: FlaskClient) -> None:
    def post(key: str, body: bytes) -> int:
        return partner.post("/generic/a/b", data=body, headers={"Idempotency-Key": key}).status_code

    assert [post("1", b"x"), post("1", b"x"), post("1", b"y"), post("2", b"y")] == [200, 200, 409, 200]
    state = partner.get("/_sandbox/generic/state").get_json()
    assert (state["received"], state["duplicates"], state["conflicts"]) == (2, 1, 1)
    assert partner.post("/generic/a", headers={"Authorization": "Bearer wrong"}).status_code == 401


#: What vietnam.md 6.2 asks each system to offer, by the names it has here. Stalls and cut answers are kinds.
ASKED_FOR = {
    "national_portal": ("generic-error minus-three duplicate-dossier unknown-procedure session-expired slow cut"),
    "civil_status": (
        "authentication address-refused unknown-agency unknown-province incomplete not-found wrong-type data-incorrect"
    ),
    "criminal_record": "refused vneid-error vneid-interrupted",
    "social_insurance": "error-code no-number",
    "business_registry": "not-found window-too-wide",
    "population": "fault authentication not-found stall",
    "payment": "cancelled wrong-digest duplicate-reference amount-mismatch pending notice-twice notice-first",
    "post": "refused unknown-customer tracking-gap",
    "edoc": "missing out-of-range mismatch wrong-type no-edxml locked file-too-large",
    "sms": "unknown-user unapproved-template token-expired",
    "zalo": "unknown-user unapproved-template token-expired",
    "land": "refused callback-twice",
}


@pytest.mark.parametrize("twin", ASKED_FOR)
def test_a_twin_offers_the_failures_of_its_system_by_name(twin: str) -> None:
    assert set(ASKED_FOR[twin].split()) <= presets_of(twin).keys()


def test_every_twin_names_faults_that_can_be_set_and_texts_that_are_there(app: Flask, partner: FlaskClient) -> None:
    for name, twin in app.extensions["sandbox"].twins.items():
        presets = presets_of(name)
        assert presets, name
        texts = getattr(twin, "wording", {})
        for each, preset in presets.items():
            assert bool(preset.fault) + bool(preset.call) + bool(preset.by) == 1, (name, each)
            assert preset.fault.get("wording", "") in {"", *texts}, (name, each)
            if preset.fault:
                assert partner.put(f"/_sandbox/{name}/faults", json=[{"name": each}]).status_code == 200, (name, each)
            if preset.call:
                assert f"POST {preset.call[0]}" in calls_of(app, name), (name, each)
                assert partner.post(preset.call[0], json=preset.call[1]).status_code < 500, (name, each)
        partner.put(f"/_sandbox/{name}/faults", json=[])


def test_a_named_fault_speaks_the_twin_s_text_as_it_is_now_and_takes_wishes(app: Flask, partner: FlaskClient) -> None:
    headers = {"session": portal_session(app, partner)}
    wish = {"name": "duplicate-dossier", "service": "DongBoHoSoMC", "count": 2, "code": "-7"}
    assert partner.put("/_sandbox/national_portal/faults", json=[wish]).status_code == 200
    first = partner.post("/national_portal/add", json=[dossier()], headers=headers).get_json()
    partner.put("/_sandbox/national_portal/wording", json={"exists": "Hồ sơ trùng"})
    second = partner.post("/national_portal/add", json=[dossier()], headers=headers).get_json()
    third = partner.post("/national_portal/add", json=[dossier()], headers=headers).get_json()
    assert first == {"error_code": "-7", "message": "Hồ sơ đã tồn tại"}
    assert second == {"error_code": "-7", "message": "Hồ sơ trùng"}
    assert third["error_code"] == "0"


def test_a_name_that_the_twin_has_not_is_refused_with_those_that_it_has(partner: FlaskClient) -> None:
    refused = partner.put("/_sandbox/zalo/faults", json=[{"name": "duplicate-dossier"}])
    assert refused.status_code == 400
    assert refused.get_json()["error"] == "name is one of token-expired, unapproved-template, unknown-user"
    assert partner.put("/_sandbox/payment/faults", json=[{"name": "notice-twice"}]).status_code == 400


@pytest.mark.parametrize(
    "request_facts, named",
    [
        ({"json": {"CustomerCode": "HCC-H99"}}, "HCC-H99"),
        ({"json": {"MaDoiTac": "DT-SANDBOX"}}, "DT-SANDBOX"),
        ({"headers": {"X-SystemId": "truc-lgsp"}}, "truc-lgsp"),
        ({"query_string": {"madonvi": "H99"}}, "H99"),
        ({"headers": {"Lgsp-Manifest": parcel_of("x.y", {}).manifest_jws}}, "H99.15"),
        ({"headers": {"Lgsp-Manifest": "a.b.c"}}, "*"),
        ({"data": b"{", "content_type": "application/json"}, "*"),
        ({"json": [1]}, "*"),
    ],
)
def test_a_fault_finds_its_tenant_where_the_protocol_names_the_caller(request_facts: Any, named: str) -> None:
    with Flask("x").test_request_context(method="POST", **request_facts):
        assert caller() == named


def test_a_fault_for_one_tenant_leaves_the_others_alone(app: Flask, partner: FlaskClient) -> None:
    fault = [{"kind": "status", "status": 503, "tenant": "H99.15"}]
    partner.put("/_sandbox/generic/faults", json=fault)
    ours = {"Lgsp-Manifest": parcel_of("x.y", {}).manifest_jws}
    assert partner.post("/generic/in", data=b"x", headers=ours).status_code == 503
    assert partner.post("/generic/in", data=b"x").status_code == 200


def test_a_twin_tells_where_it_answers_and_what_can_go_wrong(partner: FlaskClient) -> None:
    told = partner.get("/_sandbox/one_stop").get_json()
    assert "POST /one_stop/profile" in told["calls"]
    assert told["presets"]["token-expired"]["fault"] == {"kind": "status", "status": 401, "count": 1}
    assert told["wording"]["again"] == "Hồ sơ đã được tiếp nhận"
    assert partner.get("/_sandbox/nobody").status_code == 404
