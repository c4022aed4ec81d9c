"""The land systems' connector and receiver: the contract, both products, and the land office's own calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from bus.web.app import create_app
from connectors.base import Answer, Incoming, PartnerCall, Receiver, Reply
from connectors.land import PROOF, REPORTS, LandReceiver, judged
from connectors.partner_json import with_member, without_member
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.codec import read_json
from schemas.identifiers import ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import (
    InternalFailure,
    Malformed,
    NotIdentified,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.bus_world import MINISTRY, RECEIVER, World, ask, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "schemas" / "partners" / "land"
CODE = "ma-bao-mat-thu-nghiem"
SYSTEM = SystemCode("G99.13/dat-dai")
OFFICE = SystemCode(f"{MINISTRY}/dat-dai")
JSON = {"Content-Type": "application/json"}
NOW = datetime(2026, 4, 23, 3, 0, tzinfo=UTC)


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / f"{name}.example.json").read_bytes())
    return document


def transfer(number: int = 1, **changes: Any) -> dict[str, Any]:
    return example("transfer") | {"SoBienNhan": f"H99.15-260423-{number:04d}"} | changes


class TestLand(ConnectorContract):
    bound = Binding(
        connector="land",
        path="/land",
        operation="TiepNhanHoSo",
        service="land.transfer",
        payload=transfer,
        effects=lambda state: len(state["dossiers"]),
    )

    def test_all_operations_of_ilis_reach_the_land_office(self, rig: Rig) -> None:
        rig.deliver()
        for service in ("supplement", "returned", "result-wrong", "tax-receipt"):
            assert json.loads(rig.deliver(parcel_of(f"land.{service}", example(service))).body)["data"] == 1
        events = rig.sandbox.twins["land"].state()["events"]["H99.15-260423-0001"]
        assert events == ["transfer", "supplement", "returned", "result_wrong", "tax_receipt"]

    def test_vbdlis_gets_the_security_code_in_the_body_and_nobody_else_sees_it(self, rig: Rig) -> None:
        parcel = rig.parcel()
        settings = {"dialect": "vbdlis", "auth": "security_code"}
        reply = rig.deliver(parcel, url=rig.endpoint.url + "/vbdlis", settings=settings)
        assert json.loads(reply.body) == {"Result": True, "Message": "", "Data": {}}
        state = rig.sandbox.twins["land"].state()
        assert state["dossiers"]["H99.15-260423-0001"] == json.loads(parcel.body)
        assert state["logins"] == 0

    def test_a_wrong_security_code_is_told_without_the_code(self, rig: Rig) -> None:
        rig.secret = b"truc-lgsp:sai-mat-khau"
        settings = {"dialect": "vbdlis", "auth": "security_code"}
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(url=rig.endpoint.url + "/vbdlis", settings=settings)
        assert "sai-mat-khau" not in caught.value.detail("vi") + repr(caught.value)

    def test_a_dossier_that_is_there_already_is_delivered(self, rig: Rig) -> None:
        rig.deliver(rig.parcel())
        reply = rig.deliver(rig.parcel())
        assert json.loads(reply.body)["status"]["message"] == "Hồ sơ đã tồn tại"
        assert rig.sandbox.twins["land"].state()["duplicates"] == 1

    def test_the_words_for_it_are_a_setting(self, rig: Rig) -> None:
        rig.deliver(rig.parcel())
        rig.sandbox.twins["land"].wording["exists"] = "Trùng số biên nhận"  # type: ignore[attr-defined]
        with pytest.raises(ProviderRejected):
            rig.deliver(rig.parcel())
        rig.deliver(rig.parcel(), settings={"wording": {"exists": ["trùng số"]}})

    @pytest.mark.parametrize(
        "answer, delivered",
        [
            ({"Result": True}, True),
            ({"Result": 1, "Message": None}, True),
            ({"Result": "1"}, True),
            ({"data": 1, "status": {}}, True),
            ({"data": 0, "status": {"success": True}}, True),
            ({"Result": 0, "Message": "thành công"}, False),
            ({"Result": False}, False),
            ({"Result": None}, False),
            ({"Result": 2}, False),
            ({"data": 0, "status": {"success": False, "code": 400, "message": "thành công"}}, False),
            ({"data": 0, "status": {"success": False, "message": "Hồ sơ ĐÃ TỒN TẠI"}}, True),
        ],
    )
    def test_yes_is_decided_by_code_in_both_shapes(self, rig: Rig, answer: Any, delivered: bool) -> None:
        reply = Reply(body=json.dumps(answer).encode())
        if delivered:
            assert judged(reply, rig.endpoint) is reply
            return
        with pytest.raises(ProviderRejected):
            judged(reply, rig.endpoint)

    @pytest.mark.parametrize("secret", [b"", b"user", b"{", b"{}", b'{"user": "a"}', b'{"user": 1, "password": "b"}'])
    def test_a_secret_of_another_form_waits_for_the_operator(self, rig: Rig, secret: bytes) -> None:
        rig.secret = secret
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "endpoint-secret-missing"
        assert rig.server.requests == []

    def test_a_payload_with_a_code_of_its_own_never_leaves(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("land.transfer", transfer(SecurityCode="thử")))
        assert rig.server.requests == []

    @pytest.mark.parametrize("settings", [{"dialect": "khác"}, {"auth": "none"}, {"auth": 1}])
    def test_a_wrong_setting_waits_for_the_operator(self, rig: Rig, settings: Any) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings=settings)
        assert caught.value.reason == "endpoint-invalid"


# ---- The code inside the document


@pytest.mark.parametrize(
    "body", [b"{}", b" { } ", b'{"a":1}', b'\n{ "a" : 1.10 , "b":{"x":[1e3]} }', '{"ạ":"ư"}'.encode()]
)
def test_the_code_goes_into_a_document_and_out_again(body: bytes) -> None:
    carrying = with_member(body, PROOF, 'ma "thử"')
    assert read_json(carrying) == {"SecurityCode": 'ma "thử"', **read_json(body)}
    assert read_json(without_member(carrying, PROOF)) == read_json(body)
    assert carrying.endswith(body.strip()[1:] + (b" " if body.endswith(b" ") else b""))


def test_what_stays_is_as_it_was_written() -> None:
    body = b'{"SoTien": 3456789000, "DienTich": 120.50, "SecurityCode": "x", "n": 1e2}'
    assert without_member(body, PROOF) == b'{"SoTien":3456789000,"DienTich":120.50,"n":1e2}'
    assert without_member(b'{ "a": 1 }', PROOF) == b'{ "a": 1 }'


# ---- The land office calls us


@pytest.fixture
def receiver() -> Receiver:
    return LandReceiver()


def endpoint(**inbound: Any) -> Endpoint:
    return Endpoint(
        connector="land", url="http://land.invalid", settings={"inbound": {"receivers": ["H99.15"], **inbound}}
    )


def call(path: str, document: Any, **changes: Any) -> PartnerCall:
    body = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
    made = PartnerCall(
        method="POST",
        path=path,
        query={},
        headers={},
        body=body,
        content_type="application/json; charset=utf-8",
        received_at=NOW,
        system=SYSTEM,
    )
    return replace(made, **changes)


SECRET = json.dumps({"user": "van-phong-dat-dai", "password": "mat-khau-thu", "security_code": CODE}).encode()
NAMES = {
    "LuanChuyen": "moved",
    "ChoBoSung": "waiting",
    "DaBoSung": "supplemented",
    "KetThuc": "finished",
    "KetQuaThue": "tax-result",
    "ThongBaoThue": "tax-notice",
    "nhantbthuedvcqg": "tax-notice",
}


def received(receiver: Receiver, made: PartnerCall, where: Endpoint | None = None) -> Incoming:
    incoming = receiver.receive(made, where or endpoint(), SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


@pytest.mark.parametrize("path", sorted(NAMES))
def test_every_report_becomes_a_message_without_the_code(receiver: Receiver, path: str) -> None:
    document = example(NAMES[path])
    incoming = received(receiver, call(path, {**document, "SecurityCode": CODE}))
    assert incoming.service == REPORTS[path] == f"land.{NAMES[path]}"
    assert incoming.receivers == ("H99.15",)
    assert incoming.dossier == "H99.15-260423-0001"
    assert json.loads(incoming.body) == document
    assert CODE.encode() not in incoming.body
    compile_schema(json.loads((EXAMPLES / f"{NAMES[path]}.schema.json").read_bytes())).validate(
        incoming.body, incoming.content_type
    )


def test_a_report_that_comes_twice_is_one_message(receiver: Receiver) -> None:
    document = {**example("moved"), "SecurityCode": CODE}
    first = received(receiver, call("LuanChuyen", document))
    later = NOW + timedelta(hours=3)
    again = received(receiver, call("LuanChuyen", with_member(first.body, PROOF, CODE), received_at=later))
    assert again.message_id == first.message_id
    others = [
        call("KetThuc", document),
        call("LuanChuyen", {**document, "MaTrangThai": "KHAC"}),
        call("LuanChuyen", document, system=SystemCode("G99.13/dat-dai-2")),
    ]
    assert len({first.message_id, *(received(receiver, other).message_id for other in others)}) == 4


@pytest.mark.parametrize("amount", [2_147_483_647, 2_147_483_648, 3_456_789_000, 9_007_199_254_740_991])
def test_a_land_tax_of_any_size_arrives_to_the_dong(receiver: Receiver, amount: int) -> None:
    incoming = received(
        receiver, call("ThongBaoThue", {**example("tax-notice"), "SoTien": amount, "SecurityCode": CODE})
    )
    assert f'"SoTien":{amount}'.encode() in incoming.body
    compile_schema(json.loads((EXAMPLES / "tax-notice.schema.json").read_bytes())).validate(
        incoming.body, incoming.content_type
    )


@pytest.mark.parametrize("amount", [1.5, "3456789000", -1, 1e300, None])
def test_money_is_whole_dong(amount: Any) -> None:
    schema = compile_schema(json.loads((EXAMPLES / "tax-notice.schema.json").read_bytes()))
    with pytest.raises(SchemaViolation):
        schema.validate(json.dumps({**example("tax-notice"), "SoTien": amount}).encode(), "application/json")


@pytest.mark.parametrize("code", [None, "", "sai", 1, True, [CODE], {"a": 1}, "mã-bảo-mật", "\udc80"])
def test_a_call_without_the_code_is_nobodys(receiver: Receiver, code: Any) -> None:
    document = example("moved") | ({} if code is None else {"SecurityCode": code})
    body = json.dumps(document, ensure_ascii=code == "\udc80").encode()
    with pytest.raises((NotIdentified, Malformed)) as caught:
        receiver.receive(call("LuanChuyen", body), endpoint(), SECRET)
    answer = receiver.refuse(call("LuanChuyen", body), caught.value)
    said = json.loads(answer.body)
    assert (said["Result"], said["Data"], answer.status) == (0, None, caught.value.status)
    assert CODE not in answer.body.decode()
    assert "099199000001" not in answer.body.decode()


def test_a_code_in_the_query_or_twice_proves_nothing(receiver: Receiver) -> None:
    with pytest.raises(NotIdentified):
        receiver.receive(call("LuanChuyen", example("moved"), query={"SecurityCode": CODE}), endpoint(), SECRET)
    body = f'{{"SoBienNhan":"1","SecurityCode":"x","SecurityCode":"{CODE}"}}'.encode()
    with pytest.raises(Malformed):
        receiver.receive(call("LuanChuyen", body), endpoint(), SECRET)


@pytest.mark.parametrize(
    "path, body, changes, reason",
    [
        ("LuanChuyen", b"{", {}, "json-invalid"),
        ("LuanChuyen", b"[]", {}, "partner-call-not-json"),
        ("LuanChuyen", b"{}", {"content_type": "text/xml"}, "partner-call-not-json"),
        ("Khac", {"SecurityCode": CODE, "SoBienNhan": "1"}, {}, "partner-call-unknown"),
        ("", {"SecurityCode": CODE, "SoBienNhan": "1"}, {}, "partner-call-unknown"),
        ("token", {"SecurityCode": CODE, "SoBienNhan": "1"}, {}, "partner-call-unknown"),
        ("LuanChuyen", {"SecurityCode": CODE}, {}, "partner-call-incomplete"),
        ("LuanChuyen", {"SecurityCode": CODE, "SoBienNhan": 5}, {}, "partner-call-incomplete"),
        ("LuanChuyen", {"SecurityCode": CODE, "SoBienNhan": "1"}, {"method": "GET"}, "partner-call-unknown"),
    ],
)
def test_what_is_no_report_is_refused(
    receiver: Receiver, path: str, body: Any, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Malformed) as caught:
        receiver.receive(call(path, body, **changes), endpoint(), SECRET)
    assert caught.value.reason == reason


def test_a_receipt_number_of_the_land_office_is_no_dossier(receiver: Receiver) -> None:
    document = {"SecurityCode": CODE, "SoBienNhan": "BN-2026-77"}
    assert received(receiver, call("LuanChuyen", document)).dossier is None
    document["MaHoSoMotCua"] = "H99.15-260423-0009"
    assert received(receiver, call("LuanChuyen", document)).dossier == "H99.15-260423-0009"


def login(**changes: str) -> bytes:
    form = {"grant_type": "password", "username": "van-phong-dat-dai", "password": "mat-khau-thu", **changes}
    return urlencode(form).encode()


def test_the_land_office_can_log_in_and_come_with_its_token(receiver: Receiver) -> None:
    where = endpoint(auth="password")
    answer = receiver.receive(call("token", login()), where, SECRET)
    assert isinstance(answer, Answer)
    assert answer.status == 200
    token = json.loads(answer.body)["access_token"]
    made = call("api/KetThuc", example("finished"), headers={"authorization": f"Bearer {token}"})
    assert received(LandReceiver(), made, where).service == "land.finished"
    for bad in (
        replace(made, received_at=NOW + timedelta(seconds=3601)),
        replace(made, system=SystemCode("G99.13/khac")),
        replace(made, headers={}),
        replace(made, headers={"authorization": f"Bearer 9{token}"}),
        replace(made, headers={"authorization": f"Basic {token}"}),
        replace(made, headers={"authorization": "Bearer ²³.x"}),
        replace(made, headers={}, body=with_member(made.body, PROOF, CODE)),
    ):
        with pytest.raises(NotIdentified):
            receiver.receive(bad, where, SECRET)
    with pytest.raises(NotIdentified):
        receiver.receive(made, where, SECRET.replace(b"mat-khau-thu", b"mat-khau-moi"))


@pytest.mark.parametrize("changes", [{"password": "sai"}, {"username": "khac"}, {"grant_type": "client_credentials"}])
def test_a_wrong_login_gets_no_token(receiver: Receiver, changes: dict[str, str]) -> None:
    for body in (login(**changes), b"", b"\xff" * 100, b"a=" + b"x" * 20_000):
        answer = receiver.receive(call("token", body), endpoint(auth="password"), SECRET)
        assert isinstance(answer, Answer)
        assert (answer.status, json.loads(answer.body)) == (400, {"error": "invalid_grant"})


def test_the_answer_says_taken_only_for_what_is_recorded(receiver: Receiver) -> None:
    made = call("LuanChuyen", {**example("moved"), "SecurityCode": CODE})
    incoming = received(receiver, made)
    taken = receiver.answer(made, incoming, Reply())
    assert (taken.status, json.loads(taken.body)) == (200, {"Result": 1, "Message": "", "Data": None})
    lost = receiver.answer(made, incoming, InternalFailure("internal"))
    assert lost.status == 500
    assert json.loads(lost.body)["Result"] == 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    services = [ServiceCode(f"land.{name}") for name in ("moved", "tax-notice")]
    with bus_world(tmp_path) as made:
        settings = {"inbound": {"receivers": [RECEIVER]}}
        land = Endpoint(connector="land", url="http://127.0.0.1:9", secret="land", settings=settings)
        made.register(
            System(code=OFFICE, name="Đất đai", mode=DeliveryMode.PUSH, endpoint=land, receives=tuple(services)),
            *(
                Service(
                    code=service,
                    version=1,
                    name=service,
                    owner=MINISTRY,
                    pattern=Pattern.ONE_WAY,
                    grade=Grade.ATTESTED,
                    schema=json.loads((EXAMPLES / f"{service.removeprefix('land.')}.schema.json").read_bytes()),
                )
                for service in services
            ),
            *(Grant(id=f"g{at}", service=service, grantee=MINISTRY) for at, service in enumerate(services)),
        )
        made.bus.registry.put_secret("land", made.bus.secrets.seal("land", SECRET), "test")
        yield made


def test_the_bus_records_a_report_once_without_its_code(world: World) -> None:
    notice = json.dumps({**example("tax-notice"), "SecurityCode": CODE}, ensure_ascii=False).encode()
    with serving(create_app(world.bus)) as server:
        base = f"{server.url}/partners/{OFFICE}"
        said = [requests.post(f"{base}/ThongBaoThue", data=notice, headers=JSON, timeout=10) for _ in range(3)]
        bad = requests.post(f"{base}/ThongBaoThue", data=notice.replace(CODE.encode(), b"x"), headers=JSON, timeout=10)
        wrong = requests.post(f"{base}/LuanChuyen", json={"SoBienNhan": "", "SecurityCode": CODE}, timeout=10)
        fetched = ask("GET", f"{server.url}/v1/inbox?wait=5", headers=world.bearer("H99.16/kho"))
    assert [(answer.status_code, answer.json()["Result"]) for answer in said] == [(200, 1)] * 3
    assert [(answer.status_code, answer.json()["Result"]) for answer in (bad, wrong)] == [(401, 0), (400, 0)]
    (delivery,) = fetched.json["deliveries"]
    assert world.rows()["exchanges"] == 1
    assert CODE not in json.dumps(delivery)


@pytest.mark.parametrize(
    "inbound", [{}, {"receivers": []}, {"receivers": "H99.15"}, {"receivers": ["x"], "auth": "no"}]
)
def test_a_province_that_says_not_who_takes_reports_is_told(receiver: Receiver, inbound: dict[str, Any]) -> None:
    where = Endpoint(connector="land", url="http://land.invalid", settings={"inbound": inbound})
    with pytest.raises(ProviderUnavailable) as caught:
        receiver.receive(call("LuanChuyen", {**example("moved"), "SecurityCode": CODE}), where, SECRET)
    assert caught.value.reason == "endpoint-invalid"


# ---- The twin and the manual


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[tuple[str, Sandbox]]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    parts: Sandbox = app.extensions["sandbox"]
    with serving(app) as server:
        try:
            yield server.url, parts
        finally:
            parts.close()


def test_the_commands_of_the_manual_work(sandbox: tuple[str, Sandbox]) -> None:
    url, parts = sandbox
    page = (ROOT / "docs" / "partners" / "land.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    credential = json.loads(parts.credentials["land"])
    said = subprocess.run(
        ["sh", "-euc", commands.replace("http://127.0.0.1:8090", url)],
        env={
            "PATH": os.environ["PATH"],
            "NAME": credential["user"],
            "PASSWORD": credential["password"],
            "SECURITY_CODE": credential["security_code"],
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert '"success":true' in said
    assert "đã tồn tại" in said
    assert '"Result":true' in said
    assert "3456789000" in said


def test_the_reports_that_the_twin_shows_are_reports(sandbox: tuple[str, Sandbox], receiver: Receiver) -> None:
    url, parts = sandbox
    code = json.loads(parts.credentials["land"])["security_code"]
    for operation, document in (("tiepnhan", transfer()), ("ChungTuThue", example("tax-receipt"))):
        requests.post(f"{url}/land/vbdlis/{operation}", json={**document, "SecurityCode": code}, timeout=10)
    reports = requests.get(f"{url}/land/reports/H99.15-260423-0001", timeout=10).json()
    assert [report["path"] for report in reports] == ["LuanChuyen", "KetQuaThue", "ThongBaoThue", "KetThuc"]
    for report in reports:
        incoming = received(receiver, call(report["path"], {**report["body"], "SecurityCode": CODE}))
        schema = compile_schema(json.loads((EXAMPLES / f"{NAMES[report['path']]}.schema.json").read_bytes()))
        schema.validate(incoming.body, incoming.content_type)
