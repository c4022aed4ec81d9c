"""Notices by SMS: three carriers bound to the contract, texts and their lengths, and a citizen's "HS <code>"."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep

from connectors.base import Answer, Incoming, PartnerCall, Reply
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sms import SmsReceiver
from connectors.sms_text import SmsLimits, SmsTemplate, characters, check_length, render
from registry.model import Agency, DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.identifiers import ServiceCode, SystemCode
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.problem import (
    Malformed,
    NotIdentified,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.bus_world import MINISTRY, RECEIVER, ask, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import Recorded, serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "sms"
VINAPHONE = {"carrier": "vinaphone", "label_id": "55", "template_ids": {"dossier-received": "1001"}}
VIETTEL = {"carrier": "viettel", "cp_code": "HCC_H99", "service_id": "HCC-H99"}
LGSP = {"carrier": "lgsp", "sender": "HCC-H99", "application_title": "Trung tam PVHCC"}


def notice(number: int = 1, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "notice-sms.example.json").read_bytes())
    parameters = document["parameters"] | {"MaHoSo": f"H99.15-260423-{number:04d}"}
    return document | {"parameters": parameters} | changes


def outbox(rig: Rig) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = rig.sandbox.twins["sms"].state()["outbox"]
    return kept


def send(rig: Rig, document: Any, **settings: Any) -> None:
    rig.deliver(parcel_of("notice.sms", document), settings={**rig.binding.settings, **settings})


BOUND = Binding(
    connector="sms",
    path="/sms/vinaphone",
    operation="send_sms_list",
    service="notice.sms",
    payload=notice,
    effects=lambda state: len(state["outbox"]),
    settings=VINAPHONE,
    logs_in=False,
)


class TestVinaphone(ConnectorContract):
    bound = BOUND

    def test_values_go_by_number_and_a_comma_stays_in_its_value(self, rig: Rig) -> None:
        document = json.loads((FOLDER / "notice-sms.2.example.json").read_bytes())
        send(rig, document, template_ids={"dossier-result": "1002"})
        (message,) = outbox(rig)
        assert message["to"] == "84900000001"
        assert message["values"] == ["H99.15-260423-0001", "Dang Phuong Dong, Ly Thai An", "1 duong Mau"]

    def test_zero_is_success_here_and_one_is_not(self, rig: Rig) -> None:
        rig.fault("error", code="1", message="x")
        with pytest.raises(ProviderUnavailable):
            rig.deliver()
        with pytest.raises(ProviderRejected):
            send(rig, notice(), final_codes=["1"])

    def test_a_template_without_approval_is_refused_by_the_carrier(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, notice(), template_ids={"dossier-received": "9"}, final_codes=["2"])
        assert (caught.value.reason, caught.value.facts) == ("provider-said-no", {"code": "2"})

    @pytest.mark.parametrize(
        "settings",
        [{"carrier": "x"}, {"carrier": 5}, {"template_ids": {}}, {"template_ids": []}, {"templates": {"a": "b"}}],
    )
    def test_a_wrong_setting_waits_for_the_operator(self, rig: Rig, settings: dict[str, Any]) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            send(rig, notice(template="a") if "templates" in settings else notice(), **settings)
        assert caught.value.reason == "endpoint-invalid"
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "document, reason, member",
        [
            (notice(to="0900"), "payload-not-for-partner", "to"),
            (notice(to=None), "payload-not-for-partner", "to"),
            (notice(to="+1 212 555 0100"), "payload-not-for-partner", "to"),
            (notice(template="x"), "template-unknown", None),
            (notice(template=["x"]), "template-unknown", None),
            (notice(parameters={"MaHoSo": "1"}), "payload-not-for-partner", "parameters/NgayHenTra"),
            (notice(parameters={"MaHoSo": "1", "NgayHenTra": " "}), "payload-not-for-partner", "parameters/NgayHenTra"),
            (notice(parameters={"MaHoSo": "1", "NgayHenTra": 5}), "payload-not-for-partner", "parameters/NgayHenTra"),
            (notice(parameters={"MaHoSo": "1\n2", "NgayHenTra": "x"}), "payload-not-for-partner", "parameters/MaHoSo"),
            (notice(parameters={"a": "1"}), "payload-not-for-partner", "parameters"),
            (notice(parameters=["1", "2"]), "payload-not-for-partner", "parameters"),
            (notice(parameters={"MaHoSo": "1", "NgayHenTra": "x" * 120}), "notice-too-long", None),
        ],
    )
    def test_what_makes_no_notice_never_leaves(self, rig: Rig, document: Any, reason: str, member: str | None) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, document)
        assert caught.value.reason == reason
        assert caught.value.facts.get("member") == member
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "written", ["0900000001", "84900000001", "+84900000001", "+84 (0)900 000 001", "0900.000.001"]
    )
    def test_a_number_is_one_number_however_it_is_written(self, rig: Rig, written: str) -> None:
        send(rig, notice(to=written))
        assert [message["to"] for message in outbox(rig)] == ["84900000001"]

    def test_an_84_inside_a_number_stays(self, rig: Rig) -> None:
        send(rig, notice(to="0848400084"))
        assert [message["to"] for message in outbox(rig)] == ["84848400084"]

    def test_a_failing_carrier_is_called_once_for_a_delivery(self, rig: Rig) -> None:
        rig.fault("status", status=500)
        with pytest.raises(ProviderUnavailable):
            rig.deliver()
        assert len(rig.server.requests) == 1


class TestViettel(ConnectorContract):
    bound = replace(BOUND, path="/sms/viettel", operation="wsCpMt", settings=VIETTEL)

    def test_one_is_success_here_and_zero_is_not(self, rig: Rig) -> None:
        rig.deliver()
        assert outbox(rig) == [
            {
                "carrier": "viettel",
                "to": "84900000001",
                "sender": "HCC-H99",
                "text": "Ho so H99.15-260423-0001 da duoc tiep nhan. Ngay hen tra: 24/04/2026",
            }
        ]
        rig.fault("error", code="0", message="x")
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    def test_markup_in_a_value_is_text(self, rig: Rig) -> None:
        send(rig, notice(parameters={"MaHoSo": "</Content><Content>", "NgayHenTra": "& {MaHoSo}"}))
        (message,) = outbox(rig)
        assert message["text"] == "Ho so </Content><Content> da duoc tiep nhan. Ngay hen tra: & {MaHoSo}"

    def test_a_province_may_keep_the_accents(self, rig: Rig) -> None:
        own = {"dossier-received": {"text": "Hồ sơ {MaHoSo}, hẹn {NgayHenTra}", "accented": True}}
        send(rig, notice(), templates=own)
        assert outbox(rig)[0]["text"] == "Hồ sơ H99.15-260423-0001, hẹn 24/04/2026"
        with pytest.raises(ProviderRejected) as caught:
            send(rig, notice(parameters={"MaHoSo": "1", "NgayHenTra": "x" * 58}), templates=own)
        assert caught.value.facts == {"length": 71, "limit": 70}

    def test_its_wsdl_is_what_other_software_can_use(self, rig: Rig) -> None:
        session = requests.Session()
        session.trust_env = False
        transport = zeep.Transport(session=session)  # type: ignore[no-untyped-call]
        client = zeep.Client(f"{rig.server.url}/sms/viettel?wsdl", transport=transport)  # type: ignore[no-untyped-call]
        user, _, password = rig.secret.decode().partition(":")
        asking = {
            "User": user,
            "Password": password,
            "CPCode": "HCC_H99",
            "RequestID": "1",
            "UserID": "84900000001",
            "ReceiverID": "84900000001",
            "ServiceID": "HCC-H99",
            "CommandCode": "bulksms",
            "Content": "Thu nghiem",
            "ContentType": "0",
        }
        assert client.service.wsCpMt(**asking).result == "1"
        assert client.service.wsCpMt(**asking | {"Password": "x"}).result == "0"
        assert len(outbox(rig)) == 1


class TestLgsp(ConnectorContract):
    bound = replace(BOUND, path="/sms/lgsp", operation="sms", settings=LGSP, logs_in=True)

    def test_the_platform_says_successful(self, rig: Rig) -> None:
        assert json.loads(rig.deliver().body)["result"] == "SUCCESSFUL"
        rig.fault("error", code="FAILED", message="x")
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    def test_another_wording_is_a_setting(self, rig: Rig) -> None:
        requests.put(f"{rig.server.url}/_sandbox/sms/wording", json={"success": "THANH CONG"}, timeout=5)
        with pytest.raises(ProviderUnavailable):
            rig.deliver()
        send(rig, notice(), success_codes=["SUCCESSFUL", "THANH CONG"])


# ---- Texts


@pytest.mark.parametrize(
    "text, length",
    [
        ("", 0),
        ("a" * 160, 160),
        ("{}[]", 8),
        ("`", 1),
        ("à", 1),
        ("ạ" * 70, 70),
        ("😀", 2),
        ("ạ[", 2),
    ],
)
def test_characters_count_as_the_air_counts_them(text: str, length: int) -> None:
    assert characters(text) == length


@pytest.mark.parametrize(
    "text, parts, fits",
    [
        ("a" * 160, 1, True),
        ("a" * 161, 1, False),
        ("a" * 306, 2, True),
        ("a" * 307, 2, False),
        ("a" * 79 + "{" * 41, 1, False),
        ("ạ" * 70, 1, True),
        ("ạ" + "a" * 70, 1, False),
        ("ạ" * 134, 2, True),
        ("ạ" * 135, 2, False),
    ],
)
def test_a_notice_fits_or_is_refused(text: str, parts: int, fits: bool) -> None:
    limits = SmsLimits(plain=160, unicode=70, plain_part=153, unicode_part=67, parts=parts)
    made = render(SmsTemplate(text="{a}", accented=True), {"a": text})
    if fits:
        check_length(made, limits)
        return
    with pytest.raises(ProviderRejected) as caught:
        check_length(made, limits)
    assert caught.value.reason == "notice-too-long"


def test_a_value_is_put_in_once_and_everywhere() -> None:
    made = render(SmsTemplate(text="{b} {a} {b}"), {"a": "{b}", "b": "Đông"})
    assert (made.text, made.values) == ("Dong {b} Dong", ("Dong", "{b}"))


@pytest.mark.parametrize("value", ["a\nb", "a\u2028b", "a\u200bb", "a\x00", "a\ud800", "\u202eabc"])
def test_a_value_that_is_no_line_of_text_is_refused(value: str) -> None:
    with pytest.raises(ProviderRejected):
        render(SmsTemplate(text="{a}"), {"a": value})


def test_every_template_that_ships_is_plain_and_has_room() -> None:
    templates = json.loads((FOLDER / "templates.json").read_bytes())["templates"]
    for facts in templates.values():
        template = SmsTemplate(text=facts["text"])
        assert template.names
        assert template.text.isascii()
        assert characters(template.text) + 22 * len(template.names) <= 160


# ---- A citizen asks

SYSTEM = SystemCode("G99.31/sms")
SECRET = b"nha-mang:thu-nghiem-mat-khau"
PROOF = "Basic " + base64.b64encode(SECRET).decode()
ENDPOINT = Endpoint(connector="sms", url="", settings={"carrier": "viettel", "inbound": {"receiver": "H99.15"}})


def pushed(content: Any = "HS H99.15-260423-0001", *, proof: str = PROOF, body: bytes | None = None) -> PartnerCall:
    document = {"requestId": "MO-1", "sender": "0900000001", "content": content}
    return PartnerCall(
        method="POST",
        path="mo",
        query={},
        headers={"authorization": proof} if proof else {},
        body=json.dumps(document).encode() if body is None else body,
        content_type="application/json",
        received_at=utc_now(),
        system=SYSTEM,
    )


def received(call: PartnerCall) -> Incoming:
    incoming = SmsReceiver().receive(call, ENDPOINT, SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


def said(answer: Answer) -> tuple[int, str, str]:
    document = json.loads(answer.body)
    return answer.status, document["result"], document["content"]


@pytest.mark.parametrize(
    "content",
    ["HS H99.15-260423-0001", " hs  h99.15-260423-0001 ", "Hs H99.15 - 260423 - 0001", "HS\nH99.15-260423-0001"],
)
def test_a_question_is_read_however_the_telephone_wrote_it(content: str) -> None:
    incoming = received(pushed(content))
    assert (incoming.service, incoming.receivers, incoming.dossier) == (
        "dossier.status-query",
        ("H99.15",),
        "H99.15-260423-0001",
    )
    schema = compile_schema(json.loads((FOLDER / "dossier-status-query.schema.json").read_bytes()))
    assert schema.validate(incoming.body, "application/json")["SoDienThoai"] == "84900000001"


def test_a_question_that_comes_twice_is_one_message() -> None:
    assert received(pushed()).message_id == received(pushed()).message_id


@pytest.mark.parametrize(
    "content", ["HS", "hello", "HS x", "KQ H99.15-260423-0001", "H99.15-260423-0001", "HS H99.15-261323-0001"]
)
def test_what_is_no_question_is_told_how_to_ask(content: str) -> None:
    answer = SmsReceiver().receive(pushed(content), ENDPOINT, SECRET)
    assert isinstance(answer, Answer)
    assert said(answer)[2] == "Soan HS <ma ho so> de tra cuu, vi du HS H99.15-260423-0001"


@pytest.mark.parametrize(
    "call, kind",
    [
        (pushed(proof=""), NotIdentified),
        (pushed(proof="Bearer x"), NotIdentified),
        (pushed(proof="Basic x"), NotIdentified),
        (pushed(proof="Basic ớ"), NotIdentified),
        (pushed(body=b""), Malformed),
        (pushed(body=b"[]"), Malformed),
        (pushed(body=b'{"sender": "0900000001", "content": "HS 1"}'), Malformed),
        (pushed(body=b'{"requestId": "1", "sender": "099199000001", "content": "HS 1"}'), Malformed),
        (pushed(5), Malformed),
        (pushed("x" * 1001), Malformed),
        (replace(pushed(), method="GET"), Malformed),
    ],
)
def test_a_call_that_proves_or_says_nothing_is_refused_without_an_echo(call: PartnerCall, kind: type[Refused]) -> None:
    with pytest.raises(kind) as caught:
        SmsReceiver().receive(call, ENDPOINT, SECRET)
    status, result, content = said(SmsReceiver().refuse(call, caught.value))
    assert (status, result) == (caught.value.status, "FAILED")
    assert content.isascii()
    assert "099199000001" not in content


@pytest.mark.parametrize(
    "document, text",
    [
        (
            {"TrangThai": "4", "NgayHenTra": "24/04/2026"},
            "Ho so H99.15-260423-0001: Dang xu ly. Ngay hen tra: 24/04/2026",
        ),
        ({"TrangThai": 10, "NgayHenTra": None}, "Ho so H99.15-260423-0001: Da tra ket qua"),
        ({"TrangThai": "Chờ ký"}, "Ho so H99.15-260423-0001: Cho ky"),
        ({}, "Da nhan yeu cau tra cuu ho so H99.15-260423-0001. Ket qua se duoc gui sau."),
        ([], "Da nhan yeu cau tra cuu ho so H99.15-260423-0001. Ket qua se duoc gui sau."),
        ({"TrangThai": "x" * 200}, "Da nhan yeu cau tra cuu ho so H99.15-260423-0001. Ket qua se duoc gui sau."),
        ({"TrangThai": "a\nb"}, "Da nhan yeu cau tra cuu ho so H99.15-260423-0001. Ket qua se duoc gui sau."),
    ],
)
def test_the_reply_becomes_one_line_of_plain_text(document: Any, text: str) -> None:
    call = pushed()
    answer = SmsReceiver().answer(call, received(call), Reply(body=json.dumps(document).encode()))
    assert said(answer) == (200, "SUCCESSFUL", text)


@pytest.mark.parametrize(
    "problem, text",
    [
        (
            ProviderUnavailable("provider-unreachable"),
            "Chua tra cuu duoc ho so H99.15-260423-0001. Vui long thu lai sau.",
        ),
        (
            ProviderRejected("provider-said-no", code="1"),
            "Khong tra cuu duoc ho so H99.15-260423-0001. Kiem tra lai ma ho so.",
        ),
    ],
)
def test_a_failure_is_told_to_the_citizen_and_to_the_carrier(problem: Any, text: str) -> None:
    call = pushed()
    assert said(SmsReceiver().answer(call, received(call), problem)) == (problem.status, "FAILED", text)


def test_through_the_bus_a_citizen_gets_an_answer_and_a_repeat_the_same_one(
    tmp_path: Path, sandbox: tuple[Recorded, Sandbox]
) -> None:
    server, _ = sandbox
    code = ServiceCode("dossier.status-query")
    carrier, desk = SystemCode("G99.32/sms"), SystemCode(f"{RECEIVER}/tra-cuu")
    inbound = {"carrier": "viettel", "inbound": {"receiver": RECEIVER}}
    replied = json.loads((FOLDER / "dossier-status-query-reply.schema.json").read_bytes())
    asked = json.loads((FOLDER / "dossier-status-query.schema.json").read_bytes())
    with bus_world(tmp_path) as world:
        world.register(
            Agency(code=carrier.agency, name="Nhà mạng thử", parent=MINISTRY),
            System(
                code=carrier,
                name="Nhà mạng thử",
                mode=DeliveryMode.PUSH,
                endpoint=Endpoint(connector="sms", url="http://127.0.0.1:9", secret="sms", settings=inbound),
            ),
            System(
                code=desk,
                name="Tra cứu",
                mode=DeliveryMode.PUSH,
                endpoint=Endpoint(connector="rest", url=f"{server.url}/sms/dossiers"),
                receives=(code,),
            ),
            Service(
                code=code,
                version=1,
                name="Tra cứu tình trạng hồ sơ",
                owner=RECEIVER,
                pattern=Pattern.REQUEST_REPLY,
                grade=Grade.ATTESTED,
                schema=asked,
                reply_schema=replied,
            ),
            Grant(id="sms", service=code, grantee=carrier.agency),
        )
        world.bus.registry.put_secret("sms", world.bus.secrets.seal("sms", SECRET), "test")
        with world.serving() as url:
            call = pushed()
            headers = {"Content-Type": "application/json", "Authorization": PROOF}
            answers = [ask("POST", f"{url}/partners/{carrier}/mo", call.body, headers) for _ in range(2)]
            stranger = ask("POST", f"{url}/partners/{carrier}/mo", call.body, {"Content-Type": "application/json"})
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].body == answers[1].body
        text = "Ho so H99.15-260423-0001: Dang xu ly. Ngay hen tra: 24/04/2026"
        assert json.loads(answers[0].body) == {"result": "SUCCESSFUL", "receiver": "84900000001", "content": text}
        assert (stranger.status, json.loads(stranger.body)["result"]) == (401, "FAILED")
        assert world.rows()["exchanges"] == 1


def test_members_of_another_carrier_are_a_setting() -> None:
    inbound = {"receiver": "H99.15", "members": {"id": "SmsId", "number": "From", "text": "Body"}, "keywords": ["TC"]}
    endpoint = replace(ENDPOINT, settings={"inbound": inbound})
    call = pushed(body=b'{"SmsId": "1", "From": "84900000001", "Body": "tc H99.15-260423-0001"}')
    incoming = SmsReceiver().receive(call, endpoint, SECRET)
    assert isinstance(incoming, Incoming)


def test_a_receiver_that_is_not_set_waits_for_the_operator() -> None:
    with pytest.raises(ProviderUnavailable):
        SmsReceiver().receive(pushed(), replace(ENDPOINT, settings={}), SECRET)


@pytest.mark.parametrize(
    "document", [notice(to="x"), notice(template="A b"), notice(parameters={"a b": "x"}), notice(parameters={"a": 5})]
)
def test_the_schema_refuses_what_no_carrier_takes(document: Any) -> None:
    schema = compile_schema(json.loads((FOLDER / "notice-sms.schema.json").read_bytes()))
    with pytest.raises(SchemaViolation):
        schema.validate(json.dumps(document).encode(), "application/json")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[tuple[Recorded, Sandbox]]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    parts: Sandbox = app.extensions["sandbox"]
    with serving(app) as server:
        try:
            yield server, parts
        finally:
            parts.close()


def test_the_commands_of_the_manual_ask_it(sandbox: tuple[Recorded, Sandbox]) -> None:
    server, parts = sandbox
    page = (ROOT / "docs" / "partners" / "sms.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    name, _, password = parts.credentials["sms"].partition(":")
    printed = subprocess.run(
        ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
        env={"PATH": os.environ["PATH"], "NAME": name, "PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert '"ERROR":"0"' in printed
    assert "<result>1</result>" in printed
    assert '"result":"SUCCESSFUL"' in printed
    assert len(parts.twins["sms"].state()["outbox"]) == 3
