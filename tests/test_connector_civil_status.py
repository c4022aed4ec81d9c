"""Civil status: the connector bound to the contract (direct and joint), its own manners, and its calls to us."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.base import Answer, Incoming, PartnerCall, message_id_of
from connectors.civil_status import (
    JUDGEMENTS,
    OPERATIONS,
    STATUS_SERVICE,
    CivilStatusReceiver,
)
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.civil_status import ERRORS
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.codes import LOCAL_STATUSES
from schemas.identifiers import SystemCode
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.problem import (
    InternalFailure,
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.bus_world import MINISTRY, RECEIVER, World, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "civil_status"
SYSTEM = SystemCode("G99.15/ho-tich")


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def code(number: int) -> str:
    return f"H99.15.01-260423-{number:04d}"


def direct(number: int = 1, **changes: Any) -> dict[str, Any]:
    return recorded("register") | {"maHoSo": code(number)} | changes


def joint(number: int = 1, **facts: Any) -> dict[str, Any]:
    """A birth of the joint chain; each number has a mother of its own unless the facts say otherwise."""
    document = recorded("joint-register") | {"maHoSo": code(number)}
    return document | {"data": document["data"] | {"meSoGiayToTuyThan": f"0991990{number:05d}"} | facts}


def ask(rig: Rig, service: str, **question: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(rig.deliver(parcel_of(f"civil-status.{service}", question)).body)
    compile_schema(json.loads((FOLDER / "reply.schema.json").read_bytes())).validate(
        json.dumps(answer).encode(), "application/json"
    )
    return answer


def hand(rig: Rig, path: str, **document: Any) -> Any:
    """What somebody does at the ministry."""
    return requests.post(f"{rig.server.url}/civil_status/bo/{path}", json=document, timeout=10).json()


class CivilStatusContract(ConnectorContract):
    """Both ways of registering keep the contract."""

    @pytest.mark.parametrize("error", sorted(ERRORS))
    def test_each_error_code_means_what_the_table_says(self, rig: Rig, error: str) -> None:
        rig.fault("error", code=error, message=ERRORS[error])
        expected = ProviderUnavailable if JUDGEMENTS[error][0] == "later" else ProviderRejected
        with pytest.raises(expected):
            rig.deliver()

    def test_a_code_that_nobody_knows_is_tried_again(self, rig: Rig) -> None:
        rig.fault("error", code="999", message="")
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    def test_what_a_code_means_is_a_setting(self, rig: Rig) -> None:
        rig.fault("error", code="500", message="Hệ thống đang bận")
        with pytest.raises(ProviderUnavailable):
            rig.deliver(settings={"codes": {"500": "later"}})
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={"codes": {"500": "perhaps"}})
        assert caught.value.reason == "endpoint-invalid"

    def test_a_registration_that_is_there_already_counts_as_received(self, rig: Rig) -> None:
        rig.deliver()
        again = json.loads(rig.deliver(rig.parcel()).body)
        assert (again["status"], again["errorDescription"]) == (0, "Hồ sơ đã được tiếp nhận")
        assert rig.effects() == 1

    def test_the_wording_of_received_is_a_setting(self, rig: Rig) -> None:
        rig.deliver()
        rig.sandbox.twins["civil_status"].wording["again"] = "Trùng mã hồ sơ"  # type: ignore[attr-defined]
        with pytest.raises(ProviderRejected):
            rig.deliver()
        assert rig.deliver(settings={"wording": {"received": ["TRÙNG MÃ"]}}).status == 200

    @pytest.mark.parametrize("part", ["user", "secret"])
    def test_a_wrong_part_of_the_secret_waits_for_the_operator(self, rig: Rig, part: str) -> None:
        rig.secret = json.dumps(json.loads(rig.secret) | {part: "sai"}).encode()
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"

    @pytest.mark.parametrize("secret", [b"", b"{", b"{}", b'{"user": "a"}', b'{"user": 1, "secret": "b"}', b"\xff"])
    def test_a_secret_that_cannot_be_read_waits_for_the_operator(self, rig: Rig, secret: bytes) -> None:
        rig.secret = secret
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    @pytest.mark.parametrize(
        "body",
        [b"[]", b"1", b"{}", b'{"status":2}', b'{"status":null}', b'{"status":true}', b'{"status":1,"status":0}'],
    )
    def test_an_answer_without_a_status_is_no_answer(self, rig: Rig, body: bytes) -> None:
        def answers(environ: Any, start_response: Any) -> Any:
            token = environ["PATH_INFO"].endswith("token")
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"access_token":"t"}' if token else body]

        with serving(answers) as server, pytest.raises(InvalidReply):
            rig.deliver(url=server.url)


class TestDirect(CivilStatusContract):
    bound = Binding(
        connector="civil_status",
        path="/civil_status",
        operation="dangKyHoTich",
        service="civil-status.register",
        payload=direct,
        effects=lambda state: state["registered"],
    )

    def test_the_bytes_that_were_signed_are_the_bytes_that_go(self, rig: Rig) -> None:
        body = json.dumps(direct(), ensure_ascii=False, indent=3).encode()
        sent: list[bytes] = []

        def listens(environ: Any, start_response: Any) -> Any:
            sent.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)))
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"status":1,"access_token":"t"}']

        with serving(listens) as server:
            rig.deliver(parcel_of("civil-status.register", body), url=server.url)
        assert sent == [b"grant_type=client_credentials", body]

    def test_a_record_is_asked_for_until_it_is_complete(self, rig: Rig) -> None:
        rig.deliver()
        unit = {"maDonVi": 99001, "maHoSo": code(1)}
        assert ask(rig, "result", **unit)["errorCode"] == 200
        assert ask(rig, "status", **unit)["value"]["trangThai"] == "4"
        assert json.loads(ask(rig, "result", **unit)["value"])["soDinhDanh"] == ""

    def test_the_child_gets_its_number_later_and_no_certificate_waits_for_it(self, rig: Rig) -> None:
        rig.deliver()
        unit = {"maDonVi": 99001, "maHoSo": code(1)}
        ask(rig, "status", **unit)
        results = [json.loads(ask(rig, "result", **unit)["value"]) for _ in range(4)]
        assert all(result["giayKhaiSinh"] for result in results)
        assert [bool(result["soDinhDanh"]) for result in results] == [False, False, True, True]
        assert re.fullmatch(r"099[0-9]{9}", results[-1]["soDinhDanh"])

    def test_the_ministry_can_give_the_number_by_hand(self, rig: Rig) -> None:
        rig.deliver()
        given = hand(rig, "cap-so", maHoSo=code(1))["soDinhDanh"]
        assert json.loads(ask(rig, "result", maDonVi=99001, maHoSo=code(1))["value"])["soDinhDanh"] == given

    def test_not_found_is_an_answer_to_a_question(self, rig: Rig) -> None:
        assert ask(rig, "status", maDonVi=99001, maHoSo=code(7))["errorCode"] == 201
        assert ask(rig, "record", module="KS", maHoSo=7)["errorCode"] == 201

    @pytest.mark.parametrize(
        "service, question, error",
        [
            ("status", {"maDonVi": 1, "maHoSo": code(1)}, "106"),
            ("status", {"maDonVi": "99001", "maHoSo": code(1)}, "106"),
            ("records", {"maTinh": "31", "module": "KS", "dsMaHoSo": [1]}, "108"),
            ("records", {"maTinh": "99", "module": "KS", "dsMaHoSo": ["1"]}, "302"),
            ("catalogue", {"loaiDanhMuc": 9}, "302"),
            ("changes", {"module": "KS"}, "500"),
        ],
    )
    def test_a_question_that_is_wrong_is_final(
        self, rig: Rig, service: str, question: Mapping[str, Any], error: str
    ) -> None:
        with pytest.raises(ProviderRejected) as caught:
            ask(rig, service, **question)
        assert caught.value.facts == {"code": error}

    def test_catalogues_changes_and_records_are_read(self, rig: Rig) -> None:
        assert {"ma": "15", "ten": "Nùng"} in json.loads(ask(rig, "catalogue", loaiDanhMuc=3)["value"])
        for number in (1, 2):
            rig.deliver(rig.parcel(number))
        changed = ask(rig, "changes", module="KS", ngayCapNhat="23/04/2026")["value"]
        assert changed == [{"id": 1, "maDonVi": 99001}, {"id": 2, "maDonVi": 99001}]
        assert ask(rig, "record", module="KS", maHoSo=2)["value"][0]["so"] == "0002"
        assert len(ask(rig, "records", maTinh="99", module="KS", dsMaHoSo=[1, 2])["value"]) == 2

    def test_xml_that_is_none_is_the_wrong_type_of_data(self, rig: Rig) -> None:
        for data in ("<a>", "{}", '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'):
            with pytest.raises(ProviderRejected) as caught:
                rig.deliver(parcel_of("civil-status.register", direct(data=data)))
            assert caught.value.facts == {"code": "302"}

    def test_a_token_that_ended_is_told_inside_a_200_and_renewed_once(self, rig: Rig) -> None:
        rig.fault("error", code="100", message="AUTHEN_ERROR", count=1)
        assert rig.deliver().status == 200
        assert rig.sandbox.twins["civil_status"].state()["logins"] == 2

    def test_a_plain_client_id_and_secret_are_enough_to_call_out(self, rig: Rig) -> None:
        parts = json.loads(rig.secret)
        rig.secret = f"{parts['user']}:{parts['secret']}".encode()
        assert rig.deliver().status == 200

    def test_addresses_are_settings(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(settings={"paths": {"dangKyHoTich": "v2/dangKy"}})
        assert rig.server.requests[-1][1] == "/civil_status/v2/dangKy"

    @pytest.mark.parametrize("payload", [[], b"{", b"\xff", b'{"a":1,"a":2}'])
    def test_a_payload_of_another_shape_never_leaves(self, rig: Rig, payload: Any) -> None:
        for service in OPERATIONS:
            with pytest.raises(ProviderRejected):
                rig.deliver(parcel_of(service, payload))
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("something.else", {}))
        assert rig.server.requests == []


class TestJoint(CivilStatusContract):
    bound = Binding(
        connector="civil_status",
        path="/civil_status",
        operation="dangKyLienThong",
        service="civil-status.joint-register",
        payload=joint,
        effects=lambda state: state["registered"],
    )

    def test_data_goes_as_json_in_text_and_as_it_is_when_it_is_text(self, rig: Rig) -> None:
        rig.deliver()
        document = joint(2)
        text = parcel_of("civil-status.joint-register", document | {"data": json.dumps(document["data"])})
        assert rig.deliver(text).status == 200
        assert rig.effects() == 2

    @pytest.mark.parametrize("data", [None, 1, [], "", "[]", "NaN", "{", '{"a":1,"a":2}', "\ud800"])
    def test_data_that_is_no_object_never_leaves(self, rig: Rig, data: Any) -> None:
        body = json.dumps(joint() | {"data": data}).encode()
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("civil-status.joint-register", body))
        assert rig.server.requests == []

    def test_a_twin_is_held_up_until_an_officer_confirms_it(self, rig: Rig) -> None:
        rig.deliver()
        second = parcel_of("civil-status.joint-register", joint(2, meSoGiayToTuyThan="099199000001"))
        for _ in range(2):
            with pytest.raises(ProviderRejected) as caught:
                rig.deliver(second)
            assert caught.value.reason == "civil-status-duplicate-suspected"
        assert rig.effects() == 1
        hand(rig, "xac-nhan", maHoSo=code(2))
        assert rig.deliver(second).status == 200
        assert rig.effects() == 2

    def test_a_date_of_birth_that_cannot_be_read_comes_back_to_be_verified(self, rig: Rig) -> None:
        rig.deliver(parcel_of("civil-status.joint-register", joint(nksNgaySinh="30/02/2026")))
        value = ask(rig, "status", maDonVi=99001, maHoSo=code(1))["value"]
        assert value == {"trangThai": "2", "noiDung": "Thông tin cần xác minh"}
        assert LOCAL_STATUSES["civil-status"].national[value["trangThai"]] == "5"

    @pytest.mark.parametrize("changes", [{"meLoaiCuTru": 0}, {"meLoaiCuTru": "0"}])
    def test_a_residence_of_kind_zero_is_refused_by_the_schema_and_by_the_ministry(
        self, rig: Rig, changes: dict[str, Any]
    ) -> None:
        document = joint(**changes)
        schema = compile_schema(json.loads((FOLDER / "joint-register.schema.json").read_bytes()))
        with pytest.raises(SchemaViolation):
            schema.validate(json.dumps(document).encode(), "application/json")
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("civil-status.joint-register", document))

    def test_the_number_fits_the_childs_sex_and_year(self, rig: Rig) -> None:
        rig.deliver()
        rig.deliver(parcel_of("civil-status.joint-register", joint(2, nksGioiTinh="1", nksNgaySinh="01/02/2025")))
        numbers = [hand(rig, "cap-so", maHoSo=code(number))["soDinhDanh"] for number in (1, 2)]
        assert [number[:6] for number in numbers] == ["099326", "099225"]


# ---- The ministry calls us

SECRET = b'{"user": "u", "secret": "s", "callback": "bi-mat-thu"}'
ENDPOINT = Endpoint(
    connector="civil_status",
    url="http://127.0.0.1:9",
    secret="civil-status",
    settings={"inbound": {"receiver": "H99.15"}},
)


def notice(**changes: Any) -> dict[str, Any]:
    return recorded("joint-status") | changes


def call(body: Any, **changes: Any) -> PartnerCall:
    made = PartnerCall(
        method="POST",
        path="trang-thai",
        query={},
        headers={"authorization": "Bearer bi-mat-thu"},
        body=body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode(),
        content_type="application/json",
        received_at=utc_now(),
        system=SYSTEM,
    )
    return replace(made, **changes)


def received(body: Any, **changes: Any) -> Incoming:
    incoming = CivilStatusReceiver().receive(call(body, **changes), ENDPOINT, SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


def told(answer: Answer) -> tuple[int, Any]:
    document = json.loads(answer.body)
    return answer.status, document.get("errorCode", document["status"])


@pytest.mark.parametrize("example", ["joint-status", "joint-status.2"])
def test_a_status_of_the_ministry_is_a_message_in_its_own_bytes(example: str) -> None:
    body = (FOLDER / f"{example}.example.json").read_bytes()
    incoming = received(body)
    assert incoming.body == body
    assert (incoming.service, incoming.receivers) == ("civil-status.joint-status", ("H99.15",))
    assert incoming.dossier == "H99.15.01-260423-0001"


def test_a_status_that_comes_twice_is_one_message_and_another_one_is_not() -> None:
    first = received(notice())
    assert received(notice()).message_id == first.message_id
    later = {"trangThai": "3"}, {"thoiGianThucHien": "23/04/2026 15:00:00"}, {"soHoSoLT": "LT-0002"}
    assert len({first.message_id, *(received(notice(**change)).message_id for change in later)}) == 4
    assert received(notice(trangThai=2)).message_id == first.message_id  # both spellings of a code are alive (P4)


def test_a_dossier_that_the_ministry_names_in_its_own_way_is_no_dossier_of_ours() -> None:
    assert received(notice(maHoSo="BTP-1")).dossier is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer sai"},
        {"authorization": "bi-mat-thu"},
        {"authorization": "Basic bi-mat-thu"},
        {"authorization": "Bearer bí-mật"},
    ],
)
def test_a_call_without_the_proof_is_not_the_ministrys(headers: Mapping[str, str]) -> None:
    with pytest.raises(NotIdentified):
        received(notice(), headers=headers)


@pytest.mark.parametrize("secret", [None, b"", b"u:s", b'{"user": "u", "secret": "s"}', b'{"callback": ""}', b"{"])
def test_where_no_proof_is_agreed_upon_nobody_may_call(secret: bytes | None) -> None:
    for proof in ("Bearer ", "Bearer s", "Bearer bi-mat-thu"):
        with pytest.raises(NotIdentified):
            CivilStatusReceiver().receive(call(notice(), headers={"authorization": proof}), ENDPOINT, secret)


def test_the_proof_may_have_a_header_of_its_own() -> None:
    endpoint = replace(ENDPOINT, settings={"inbound": {"receiver": "H99.15", "header": "X-Api-Key"}})
    incoming = CivilStatusReceiver().receive(call(notice(), headers={"x-api-key": "bi-mat-thu"}), endpoint, SECRET)
    assert isinstance(incoming, Incoming)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"trangThai":"1","trangThai":"4"}',
        notice(trangThai="8"),
        notice(trangThai="0"),
        notice(trangThai=True),
        notice(trangThai=None),
        notice(soHoSoLT=""),
        notice(soHoSoLT={"$ne": 1}),
        notice(soHoSoLT="x" * 101),
        notice(thoiGianThucHien=None),
        notice(ketQuaXuLy="{"),
        notice(ketQuaXuLy="[]"),
        notice(ketQuaXuLy={"soDinhDanh": "099326900001"}),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_ministrys_own_form(body: Any) -> None:
    with pytest.raises(Malformed) as caught:
        received(body)
    answer = CivilStatusReceiver().refuse(call(body), caught.value)
    assert told(answer) == (200, 302)
    assert "099326900001" not in answer.body.decode()


@pytest.mark.parametrize("changes", [{"path": "khac"}, {"path": ""}, {"method": "GET"}])
def test_other_addresses_are_nobodys(changes: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        received(notice(), **changes)


@pytest.mark.parametrize("inbound", [{}, {"receiver": None}, {"receiver": "h99"}])
def test_where_nobody_takes_the_message_the_caller_comes_again(inbound: dict[str, Any]) -> None:
    endpoint = replace(ENDPOINT, settings={"inbound": inbound})
    with pytest.raises(ProviderUnavailable) as caught:
        CivilStatusReceiver().receive(call(notice()), endpoint, SECRET)
    assert caught.value.facts == {"setting": "inbound"}


@pytest.mark.parametrize(
    "problem, expected",
    [
        (NotIdentified("partner-proof-wrong"), (200, 100)),
        (SchemaViolation("json-invalid"), (200, 302)),
        (NotFound("page-unknown"), (200, 500)),
        (ProviderUnavailable("provider-unreachable"), (503, 500)),
    ],
)
def test_success_is_said_only_for_what_is_recorded(problem: Problem, expected: tuple[int, int]) -> None:
    assert told(CivilStatusReceiver().answer(call(notice()), received(notice()), problem)) == expected


def test_a_failure_of_ours_is_not_told_as_theirs() -> None:
    assert told(CivilStatusReceiver().refuse(call(notice()), InternalFailure())) == (503, 500)


def test_the_id_of_a_status_names_what_does_not_change() -> None:
    parts = (notice()["soHoSoLT"], "2", "23/04/2026 14:15:00")
    assert received(notice(ghiChu="khác")).message_id == message_id_of(SYSTEM, *parts)


def test_the_commands_of_the_manual_ask_the_twin(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    page = (ROOT / "docs" / "partners" / "civil_status.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    credential = json.loads(sandbox.credentials["civil_status"])
    with serving(app) as server:
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "NAME": credential["user"], "SECRET": credential["secret"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    sandbox.close()
    assert said.count('"status":1') == 3
    assert '"trangThai":"3"' in said
    assert said.count("soDinhDanh") == 3


# ---- Through the bus


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path / "bus") as made:
        system = SystemCode(f"{MINISTRY}/ho-tich")
        endpoint = replace(ENDPOINT, settings={"inbound": {"receiver": RECEIVER}})
        service = Service(
            code=STATUS_SERVICE,
            version=1,
            name="Trạng thái hồ sơ liên thông",
            owner=MINISTRY,
            pattern=Pattern.ONE_WAY,
            grade=Grade.ATTESTED,
            schema=json.loads((FOLDER / "joint-status.schema.json").read_bytes()),
        )
        made.register(
            System(code=system, name="Hộ tịch", mode=DeliveryMode.PUSH, endpoint=endpoint, receives=(STATUS_SERVICE,)),
            service,
            Grant(id="trang-thai", service=STATUS_SERVICE, grantee=MINISTRY, receivers=(RECEIVER,)),
        )
        yield made


def test_the_twin_sends_its_status_and_the_agency_gets_it_once(world: World, tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    secret = sandbox.credentials["civil_status"].encode()
    world.bus.registry.put_secret("civil-status", world.bus.secrets.seal("civil-status", secret), "test")
    with world.serving() as url, serving(app) as twin:
        asked = {"maHoSo": code(1), "trangThai": "3", "thoiGianThucHien": "23/04/2026 10:00:00"}
        asked |= {"to": f"{url}/partners/{MINISTRY}/ho-tich/trang-thai"}
        said = [
            requests.post(f"{twin.url}/civil_status/bo/trang-thai", json=asked | change, timeout=10).json()
            for change in ({}, {}, {"trangThai": "9"}, {"thoiGianThucHien": "hôm qua"})
        ]
        fetched = requests.get(f"{url}/v1/inbox?wait=5", headers=world.bearer("H99.16/kho"), timeout=10).json()
    sandbox.close()
    assert [one["answer"]["status"] for one in said] == [1, 1, 0, 0]
    assert [one["answer"].get("errorCode") for one in said] == [None, None, 302, 302]
    (delivery,) = fetched["deliveries"]
    parts = (f"LT-{code(1)}", "3", "23/04/2026 10:00:00")
    record = world.bus.ledger.find(message_id_of(SystemCode(f"{MINISTRY}/ho-tich"), *parts))
    assert record is not None
    assert (record.dossier, delivery["message_id"]) == (code(1), record.message_id)
