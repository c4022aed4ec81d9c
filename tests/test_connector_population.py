"""The population database's connector, bound to the contract; its two rules; the twin as other software meets it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
import zeep
from lxml import etree

from connectors.http import HttpClient
from connectors.population import NAMESPACE, SETTINGS, check_question
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.faults import Fault
from connectors.sandbox.population import CITIZENS, OPERATIONS, digest
from connectors.soap import SoapConnector, describe_wsdl
from connectors.templates import Facts, render
from registry.contract import Contract, Kind
from registry.model import Endpoint, Pattern, Service, SoapCall, provider_from
from schemas.bridge import bridge_xsd
from schemas.codec import read_xml
from schemas.problem import (
    InvalidReply,
    ProviderFailure,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.soap import SoapVersion, fault_code, read_soap_reply, write_soap
from schemas.validation import PayloadSchema, compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import Recorded, serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "population"
WSDL = (FOLDER / "population.wsdl").read_text("utf-8")
REPLY_NAMESPACE = "http://www.mic.gov.vn/dancu/1.0"
HEADERS = {"headers": {"X-Road-Client": "VN/GOV/H99/lgsp"}}
EXAMPLES = sorted(path.name.removesuffix(".example.xml") for path in FOLDER.glob("*.example.xml"))
QUESTIONS = [name for name in EXAMPLES if not name.endswith("Response")]


def call(operation: str) -> SoapCall:
    return SoapCall(wsdl=WSDL, operation=operation)


def question(operation: str = "XacThucThongTinCongDan", **changes: str | None) -> bytes:
    """The example of an operation with other texts; None takes an element away. ``NhanThan__HoVaTen`` is nested."""
    root = read_xml((FOLDER / f"{operation}.example.xml").read_bytes())
    for path, text in changes.items():
        element = root.find("/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("__")))
        assert element is not None
        if text is None:
            parent = element.getparent()
            assert parent is not None
            parent.remove(element)
        else:
            element.text = text
    return etree.tostring(root, encoding="utf-8")


#: What a service manifest names as its schema.
TYPES = (FOLDER / "population.xsd").read_text("utf-8")


def schema(operation: str, *, reply: bool = False) -> PayloadSchema:
    name = f"{{{REPLY_NAMESPACE}}}{operation}Response" if reply else f"{{{NAMESPACE}}}{operation}"
    return compile_schema(TYPES, element=name)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


#: How a name can be written so that the database finds nobody (P17).
WRONG_NAMES = [
    "Nguyễn Thị Mẫu",
    "NGUYỄN THỊ MẪu",
    decomposed("NGUYỄN THỊ MẪU"),
    "ÐẶNG PHƯƠNG ÐÔNG",  # U+00D0, Icelandic
    "ƉẶNG PHƯƠNG ƉÔNG",  # U+0189, African
    "NGUYỄN THỊ\u200b MẪU",
    "NGUYỄN\u00a0THỊ MẪU",
]
#: These too, and a pattern of XML Schema that tells would be one that libxml2 may run away with.
WRONG_SPACES = ["NGUYỄN  THỊ MẪU", "NGUYỄN THỊ MẪU "]
RIGHT_NAMES = ["ĐẶNG PHƯƠNG ĐÔNG", "NÔNG Y BANG", "LÝ THÁI AN", "NGUYỄN TRẦN PHƯƠNG THẢO", "H'MẪU NIÊ", "Ỷ"]


def province_service(code: str) -> Service:
    """A service as the demonstration's province registers it."""
    documents = yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8"))
    facts: dict[str, Any] = next(one for one in documents if one["kind"] == "Service" and one["code"] == code)
    for place in (facts, facts["provider"], facts["provider"]["soap"]):
        for name in {"schema", "reply_schema", "wsdl"} & place.keys():
            text = Path(place[name]["file"].replace("{schemas}", str(ROOT / "schemas"))).read_text("utf-8")
            place[name] = json.loads(text) if text.startswith("{") else text
    del facts["kind"]
    made = {"pattern": Pattern(facts.pop("pattern")), "provider": provider_from(facts.pop("provider"))}
    return Service(**{**facts, **made, "content_types": tuple(facts["content_types"])})


class TestPopulation(ConnectorContract):
    bound = Binding(
        connector="population",
        path="/population/cong-dan/v1",
        operation="XacThucThongTinCongDan",
        service="population.citizen-verify",
        payload=lambda number: question(MaYeuCau=f"YC-{number:04d}"),
        # It only reads: the effect of a question is that it was asked under its key.
        effects=lambda state: len(state["idempotency_keys"]),
        settings=HEADERS,
        logs_in=False,
        content_type="application/xml",
        call=call("XacThucThongTinCongDan"),
    )

    def ask(self, rig: Rig, operation: str, **changes: str | None) -> Any:
        """The payload of the answer, which is valid by the WSDL."""
        parcel = parcel_of(
            "population.question",
            question(operation, **changes),
            content_type="application/xml",
            call=call(operation),
        )
        reply = rig.deliver(parcel)
        return schema(operation, reply=True).validate(reply.body, reply.content_type)

    def test_the_call_is_dressed_as_the_ministry_wants_it(self, rig: Rig) -> None:
        reply = rig.deliver()
        method, path, headers = rig.server.requests[0]
        assert (method, path) == ("POST", "/population/cong-dan/v1/XacThucThongTinCongDan")
        assert headers["soapaction"] == '""'
        assert abs(int(headers["timestamp"]) / 1000 - time.time()) < 60
        assert headers["x-road-client"] == "VN/GOV/H99/lgsp"
        assert headers["apikey"] == json.loads(rig.secret)["api_key"]
        assert b"Envelope" in reply.received
        assert b"Envelope" not in reply.body

    @pytest.mark.parametrize("operation", QUESTIONS)
    def test_every_operation_answers_its_example_with_what_the_wsdl_promises(self, rig: Rig, operation: str) -> None:
        root = self.ask(rig, operation)
        assert root.tag == f"{{{REPLY_NAMESPACE}}}{operation}Response"
        assert root.findtext(".//{*}TonTai") in (None, "true")
        assert rig.sandbox.twins["population"].state() == {
            "asked": {operation: 1},
            "officers": {"CB01": 1},
            "idempotency_keys": {rig.server.header("Idempotency-Key")[0]: 1},
        }

    @pytest.mark.parametrize("operation", ["TraCuuThongTinCongDan", "CungCapThongTinHoGiaDinh"])
    def test_the_recorded_reply_shows_what_the_twin_says(self, rig: Rig, operation: str) -> None:
        recorded = read_xml((FOLDER / f"{operation}Response.example.xml").read_bytes())
        said = {(element.tag, (element.text or "").strip()) for element in self.ask(rig, operation).iter()}
        assert {(str(element.tag), (element.text or "").strip()) for element in recorded.iter()} <= said

    def test_nobody_found_is_an_answer(self, rig: Rig) -> None:
        assert len(self.ask(rig, "TraCuuThongTinCongDan", SoDinhDanh="099199000999")[0]) == 0
        assert self.ask(rig, "XacThucThongTinCongDan", HoVaTen="NGUYỄN THỊ MẬU").findtext(".//{*}TonTai") == "false"
        assert len(self.ask(rig, "CungCapThongTinHoGiaDinh", SoDinhDanh="099199000999")[0]) == 0

    @pytest.mark.parametrize(
        "operation, changes",
        [
            ("XacThucThongTinCongDan", {"NgayThangNamSinh__NgayThangNam": "19990102"}),
            ("XacMinhThongTinNhanThan", {"NhanThan__HoVaTen": "LÝ THÁI ÂN"}),
            ("XacMinhThongTinNhanThan", {"NhanThan__SoDinhDanh": "099305000003"}),
            ("XacMinhThongTinChuHo", {"ChuHo__HoVaTen": "TRẦN VĂN THỪ"}),
            ("XacMinhTinhTrangHonNhan", {"TinhTrangHonNhan": "1"}),
        ],
    )
    def test_one_wrong_detail_is_not_true(self, rig: Rig, operation: str, changes: Mapping[str, str]) -> None:
        assert self.ask(rig, operation, **changes).findtext(".//{*}TonTai") == "false"

    @pytest.mark.parametrize("place", ["HoVaTen", "NhanThan__HoVaTen"])
    @pytest.mark.parametrize("name", WRONG_NAMES + WRONG_SPACES)
    def test_a_name_that_would_find_nobody_never_leaves(self, rig: Rig, place: str, name: str) -> None:
        body = question("XacMinhThongTinNhanThan", **{place: name})
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("x.y", body, content_type="application/xml", call=call("XacMinhThongTinNhanThan")))
        assert (caught.value.reason, caught.value.facts) == ("name-not-as-kept", {"member": place.replace("__", "/")})
        assert rig.server.requests == []
        assert name not in caught.value.detail("vi") + caught.value.detail("en")

    @pytest.mark.parametrize("member", ["MaCanBo", "MaDonVi"])
    @pytest.mark.parametrize("text", [None, "", " ", "\n\t "])
    def test_a_question_without_its_officer_never_leaves(self, rig: Rig, member: str, text: str | None) -> None:
        body = question(**{member: text})
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("x.y", body, content_type="application/xml", call=call("XacThucThongTinCongDan")))
        assert (caught.value.reason, caught.value.facts) == ("officer-missing", {"member": member})
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "body, reason",
        [
            (b"{}", "payload-not-for-partner"),
            (b"<a", "payload-not-for-partner"),
            (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "payload-not-for-partner"),
            (question().replace(NAMESPACE.encode(), b"urn:other"), "officer-missing"),
            (question("TraCuuThongTinCongDan"), "payload-not-for-partner"),
            (question().replace("NGUYỄN".encode(), "NGUYỄN<!-- -->".encode()), "name-not-as-kept"),
        ],
    )
    def test_what_is_no_question_never_leaves(self, rig: Rig, body: bytes, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("x.y", body, content_type="application/xml", call=rig.binding.call))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    @pytest.mark.parametrize("part", ["user", "secret", "api_key"])
    def test_a_wrong_or_missing_part_of_the_secret_waits_for_the_operator(self, rig: Rig, part: str) -> None:
        parts = json.loads(rig.secret)
        for changed in (parts | {part: "sai"}, {name: text for name, text in parts.items() if name != part}):
            rig.secret = json.dumps(changed).encode()
            with pytest.raises(ProviderUnavailable) as caught:
                rig.deliver()
            assert caught.value.reason in ("provider-fault-not-now", "endpoint-secret-missing")
        assert rig.effects() == 0

    def test_a_caller_that_does_not_say_where_it_is_waits_for_the_operator(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable):
            rig.deliver(settings={})

    def test_an_endpoint_may_have_headers_of_its_own(self, rig: Rig) -> None:
        wrapper = {"http_headers": {"lgspaccesstoken": "{base64({secret_json(user,secret)})}"}}
        with pytest.raises(ProviderUnavailable):
            rig.deliver(settings=HEADERS | wrapper)
        _, _, headers = rig.server.requests[0]
        assert "apikey" not in headers
        parts = json.loads(rig.secret)
        assert json.loads(base64.b64decode(headers["lgspaccesstoken"])) == {
            "user": parts["user"],
            "secret": parts["secret"],
        }

    @pytest.mark.parametrize(
        "code, message, problem",
        [
            ("Server", "Internal error", ProviderUnavailable),
            ("Client", "Invalid authentication", ProviderUnavailable),
            ("Client", "Invalid request", ProviderRejected),
            ("Client.Officer", "Officer code is required", ProviderRejected),
        ],
    )
    def test_a_fault_is_judged_by_its_code_and_never_quoted(
        self, rig: Rig, code: str, message: str, problem: type[ProviderFailure]
    ) -> None:
        rig.fault("error", code=code, message=f"{message} 099199000001")
        with pytest.raises(problem) as caught:
            rig.deliver()
        told = caught.value.detail("vi") + caught.value.detail("en") + str(caught.value.facts)
        assert message not in told
        assert "099199000001" not in told

    def test_no_part_of_the_secret_is_told(self, rig: Rig) -> None:
        for kind in ("error", "nonsense", "reset", "truncate"):
            rig.fault(kind)
            with pytest.raises((ProviderUnavailable, InvalidReply)) as caught:
                rig.deliver()
            told = repr(caught.value) + caught.value.detail("vi") + str(caught.value.facts)
            assert not any(part in told for part in json.loads(rig.secret).values() if part != "truc-lgsp")

    def test_a_stall_is_waited_for_and_no_longer(self, rig: Rig) -> None:
        rig.fault("stall", seconds=0.2)
        assert rig.deliver().status == 200
        rig.fault("stall", seconds=30.0)
        with pytest.raises(ProviderTimeout):
            rig.deliver(timeout_seconds=0.3)

    def test_the_plain_soap_connector_under_the_same_settings_speaks_to_it_too(self, rig: Rig) -> None:
        """And it shows why there is a guard: what the guard refuses the database answers with "not found"."""
        plain = SoapConnector(HttpClient())
        endpoint = replace(rig.endpoint, connector="soap", settings={**SETTINGS, **HEADERS})
        try:
            assert b"<TonTai>true" in plain.deliver(rig.parcel(), endpoint, rig.secret).body
            for name in WRONG_NAMES:
                parcel = parcel_of("x.y", question(HoVaTen=name), content_type="application/xml", call=rig.binding.call)
                assert b"<TonTai>false" in plain.deliver(parcel, endpoint, rig.secret).body
            no_officer = parcel_of("x.y", question(MaCanBo=None), content_type="application/xml", call=rig.binding.call)
            with pytest.raises(ProviderRejected):
                plain.deliver(no_officer, endpoint, rig.secret)
        finally:
            plain.close()

    def test_the_demonstrations_services_ask_in_json_and_are_answered_in_json(self, rig: Rig) -> None:
        for code, example, expected in (
            ("population.citizen-lookup", "TraCuuThongTinCongDan", ["CongDan", "Me", "HoVaTen", "Ten"]),
            ("population.citizen-verify", "citizen-verify", ["KetQuaXacThuc", "TonTai"]),
        ):
            service = province_service(code)
            contract = Contract(service)
            asked = (FOLDER / f"{example}.example.json").read_bytes()
            contract.check_request(asked, "application/json")
            carried = contract.for_provider(asked, "application/json")
            assert carried is not None
            assert service.provider is not None
            reply = rig.deliver(
                parcel_of(code, carried.body, content_type=carried.content_type, call=service.provider.call)
            )
            told = contract.for_consumer(reply.body, reply.content_type, Kind.JSON)
            assert told is not None
            answer = json.loads(told.body)
            for member in expected:
                answer = answer[member]
            assert answer in ("AN", True)

    @pytest.mark.parametrize("name", [*WRONG_NAMES, *WRONG_SPACES])
    def test_a_mapping_mends_what_the_connector_refuses(self, rig: Rig, name: str) -> None:
        contract = Contract(province_service("population.citizen-verify"))
        number, born = ("099210000004", "28/02/2010") if "PH" in name else ("099199000001", "01/01/1999")
        asking = json.loads((FOLDER / "citizen-verify.example.json").read_bytes())
        asking |= {"HoVaTen": name, "SoDinhDanh": number, "NgaySinh": born}
        carried = contract.for_provider(json.dumps(asking).encode(), "application/json")
        assert carried is not None
        contract.provider_request.validate(carried.body, carried.content_type)
        parcel = parcel_of("x.y", carried.body, content_type=carried.content_type, call=rig.binding.call)
        assert b"<TonTai>true" in rig.deliver(parcel).body


@pytest.mark.parametrize("code", ["population.citizen-lookup", "population.citizen-verify"])
@pytest.mark.parametrize("member", ["MaCanBo", "MaDonVi"])
@pytest.mark.parametrize("text", [None, "", " "])
def test_a_consumer_that_names_no_officer_is_refused_at_the_door(code: str, member: str, text: str | None) -> None:
    example = "TraCuuThongTinCongDan" if code.endswith("lookup") else "citizen-verify"
    asking = json.loads((FOLDER / f"{example}.example.json").read_bytes()) | {member: text}
    if text is None:
        del asking[member]
    with pytest.raises(SchemaViolation):
        Contract(province_service(code)).check_request(json.dumps(asking).encode(), "application/json")


# ---- What the call proves itself with


def test_the_digest_comes_out_as_in_the_recorded_vector() -> None:
    expected = "a3c962038d01270c27b35938db96640338ff2d93d76caedad25c47c8e7ea3bf8"
    path = "/cong-dan/v1/XacThucThongTinCongDan"
    secret = b'{"user": "sandbox", "secret": "SANDBOX-SECRET-02", "api_key": "K"}'
    facts = Facts(
        parcel_of("population.citizen-verify", question(), content_type="application/xml"),
        Endpoint(connector="population", url="https://dancu.example.vn/cong-dan/v1"),
        secret,
        datetime.fromtimestamp(1776913200, UTC),
        operation="XacThucThongTinCongDan",
        url=f"https://dancu.example.vn{path}",
    )
    header = render(SETTINGS["http_headers"]["Authorization"], facts, "http_headers")
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == f"sandbox:{expected}"
    assert render(SETTINGS["http_headers"]["Timestamp"], facts, "http_headers") == "1776913200000"
    assert digest(path, "sandbox", "1776913200000", "SANDBOX-SECRET-02") == expected


# ---- The WSDL and its types


def test_the_wsdl_offers_every_operation_of_the_twin() -> None:
    (port,) = describe_wsdl(WSDL).ports()
    assert port.version is SoapVersion.V11
    offered = {one.name: (one.request, one.reply, one.soap_action) for one in port.operations}
    assert offered == {
        one.name: (f"{{{NAMESPACE}}}{one.name}", f"{{{REPLY_NAMESPACE}}}{one.name}Response", "") for one in OPERATIONS
    }


def test_the_types_that_manifests_name_are_those_of_the_wsdl() -> None:
    inside = read_xml(WSDL.encode()).find("{http://schemas.xmlsoap.org/wsdl/}types")
    assert inside is not None
    alone = read_xml(TYPES.encode())
    assert [etree.tostring(child, method="c14n", exclusive=True) for child in inside] == [
        etree.tostring(child, method="c14n", exclusive=True) for child in alone
    ]
    compile_schema(TYPES)  # as a registrar does, with the second opinion of another library


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_recorded_example_is_valid(example: str) -> None:
    name = example.removesuffix("Response")
    schema(name, reply=example != name).validate((FOLDER / f"{example}.example.xml").read_bytes(), "application/xml")


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_recorded_example_says_the_same_in_json(example: str) -> None:
    name = f"{{{REPLY_NAMESPACE if example.endswith('Response') else NAMESPACE}}}{example}"
    bridge = bridge_xsd(TYPES, name)
    in_json, in_xml = (FOLDER / f"{example}.example.{language}" for language in ("json", "xml"))
    assert json.loads(bridge.to_json(in_xml.read_bytes())) == json.loads(in_json.read_bytes())
    compile_schema(TYPES, element=name).validate(bridge.to_xml(in_json.read_bytes()), "application/xml")
    compile_schema(bridge.json_schema).validate(in_json.read_bytes(), "application/json")


@pytest.mark.parametrize(
    "changes",
    [
        *({"HoVaTen": name} for name in WRONG_NAMES),
        *({name: text} for name in ("MaCanBo", "MaDonVi", "MaYeuCau", "MaDVC") for text in (None, "", " ")),
        {"MaTichHop": "37"},
        {"SoDinhDanh": "99199000001"},
        {"SoDinhDanh": None},
        {"HoVaTen": None},
        {"NgayThangNamSinh__NgayThangNam": "1999-01-01"},
        {"NgayThangNamSinh__NgayThangNam": "19991301"},
        {"NgayThangNamSinh__NgayThangNam": None},
    ],
)
def test_the_types_refuse_at_the_door_what_the_ministry_would_choke_on(changes: Mapping[str, str | None]) -> None:
    with pytest.raises(SchemaViolation) as caught:
        schema("XacThucThongTinCongDan").validate(question(**changes), "application/xml")
    assert all(error.pointer.startswith("/") for error in caught.value.errors)
    assert not any(text in str(caught.value.errors) for text in changes.values() if text and text.strip())


@pytest.mark.parametrize("name", RIGHT_NAMES)
def test_names_with_the_hard_letters_pass(name: str) -> None:
    body = question(HoVaTen=name)
    schema("XacThucThongTinCongDan").validate(body, "application/xml")
    check_question(body)


def test_the_invented_citizens_keep_their_own_rules() -> None:
    for citizen in CITIZENS:
        assert citizen.SoDinhDanh
        assert citizen.HoVaTen
        assert citizen.NgayThangNamSinh
        # No province has these prefixes; the next digits tell gender with century, and the year of birth.
        assert citizen.SoDinhDanh[:3] in ("097", "098", "099")
        born = citizen.NgayThangNamSinh.Nam or ""
        women = 1 if citizen.GioiTinh == "2" else 0
        assert citizen.SoDinhDanh[3:6] == f"{(int(born[:2]) - 19) * 2 + women}{born[2:]}"


# ---- The twin, as other software meets it


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[tuple[Recorded, Sandbox]]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    with serving(app) as server:
        try:
            yield server, app.extensions["sandbox"]
        finally:
            app.extensions["sandbox"].close()


class Digest(requests.auth.AuthBase):
    """What a ministry's client adds to each call."""

    def __init__(self, credential: str, *, late_seconds: float = 0.0, leave_out: str = "") -> None:
        self._parts: Mapping[str, str] = json.loads(credential)
        self._late_seconds = late_seconds
        self._leave_out = leave_out

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        stamp = str(int((time.time() - self._late_seconds) * 1000))
        user = self._parts["user"]
        proof = f"{user}:{digest(request.path_url, user, stamp, self._parts['secret'])}"
        headers = {
            "Timestamp": stamp,
            "Authorization": f"Basic {base64.b64encode(proof.encode()).decode()}",
            "ApiKey": self._parts["api_key"],
            "X-Road-Client": "VN/GOV/H99/test",
        }
        request.headers.update({name: value for name, value in headers.items() if name != self._leave_out})
        return request


def test_a_client_made_by_zeep_from_the_served_wsdl_asks_it(sandbox: tuple[Recorded, Sandbox]) -> None:
    server, parts = sandbox
    with requests.Session() as session:
        session.trust_env = False
        session.auth = Digest(parts.credentials["population"])
        transport = zeep.Transport(session=session)  # type: ignore[no-untyped-call]
        client = zeep.Client(f"{server.url}/population/cong-dan/v1?wsdl", transport=transport)  # type: ignore[no-untyped-call]
        asking = {
            "MaYeuCau": "YC-1",
            "MaDVC": "1.001193",
            "MaTichHop": "037",
            "MaCanBo": "CB01",
            "MaDonVi": "H99.15",
            "SoDinhDanh": "099210000004",
            "HoVaTen": "ĐẶNG PHƯƠNG ĐÔNG",
            "NgayThangNamSinh": {"NgayThangNam": "20100228"},
        }
        citizen = client.service.TraCuuThongTinCongDan(**asking)
        assert (citizen.HoVaTen.Ho, citizen.Cha.HoVaTen.Ten, citizen.ThuongTru.MaQuanHuyen) == ("ĐẶNG", "BANG", None)
        # zeep unwraps KetQuaXacThuc and its only element.
        assert client.service.XacThucThongTinCongDan(**asking) is True
        assert client.service.XacThucThongTinCongDan(**asking | {"HoVaTen": "ĐẶNG PHƯƠNG ÐÔNG"}) is False
        parts.dial.turn("population", [Fault(kind="error", code="Server", message="System is busy")])
        with pytest.raises(zeep.exceptions.Fault, match="System is busy"):
            client.service.XacThucThongTinCongDan(**asking)
        assert parts.twins["population"].state()["officers"] == {"CB01": 4}


def post(
    sandbox: tuple[Recorded, Sandbox],
    body: bytes,
    path: str = "/population/cong-dan/v1/XacThucThongTinCongDan",
    *,
    auth: Digest | None = None,
    **headers: str,
) -> tuple[int, tuple[str, str] | None]:
    """Status, and code and text of the fault, if any."""
    server, parts = sandbox
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            server.url + path,
            data=body,
            auth=auth or Digest(parts.credentials["population"]),
            headers={"Content-Type": "application/xml", "SOAPAction": '""'} | headers,
            timeout=10,
        )
    return answer.status_code, fault_code(read_soap_reply(answer.content, answer.headers["Content-Type"]))


def envelope(payload: bytes) -> bytes:
    return write_soap(SoapVersion.V11, payload)


@pytest.mark.parametrize(
    "late_seconds, leave_out",
    [(400, ""), (-400, ""), (0, "Timestamp"), (0, "Authorization"), (0, "ApiKey"), (0, "X-Road-Client")],
)
def test_who_does_not_prove_itself_hears_one_english_sentence(
    sandbox: tuple[Recorded, Sandbox], late_seconds: float, leave_out: str
) -> None:
    auth = Digest(sandbox[1].credentials["population"], late_seconds=late_seconds, leave_out=leave_out)
    expected = (500, ("Client.Authentication", "Invalid authentication"))
    assert post(sandbox, envelope(question()), auth=auth) == expected
    assert sandbox[1].twins["population"].state()["asked"] == {}


@pytest.mark.parametrize(
    "body, fault",
    [
        (envelope(question(MaCanBo=None)), ("Client.Officer", "Officer code is required")),
        (envelope(question(MaDonVi=" ")), ("Client.Officer", "Officer code is required")),
        (envelope(question("TraCuuThongTinCongDan")), ("Client", "Unknown operation")),
        (envelope(b"<a/>"), ("Client", "Unknown operation")),
        (envelope(question(HoVaTen=None)), ("Client", "Invalid request")),
        (question(), ("Client", "Invalid request")),
        (b"", ("Client", "Invalid request")),
        (b"{}", ("Client", "Invalid request")),
        (b"<!DOCTYPE a><a/>", ("Client", "Invalid request")),
    ],
)
def test_what_it_cannot_read_or_may_not_answer_is_a_fault(
    sandbox: tuple[Recorded, Sandbox], body: bytes, fault: tuple[str, str]
) -> None:
    assert post(sandbox, body) == (500, fault)
    assert post(sandbox, envelope(question())) == (200, None)


def test_it_takes_one_address_for_all_operations_and_both_media_types(sandbox: tuple[Recorded, Sandbox]) -> None:
    for media_type in ("application/xml", "text/xml; charset=utf-8"):
        headers = {"Content-Type": media_type}
        assert post(sandbox, envelope(question()), "/population/cong-dan/v1", **headers) == (200, None)
    assert post(sandbox, envelope(question()), **{"Content-Type": "application/json"})[0] == 500
    assert requests.get(f"{sandbox[0].url}/population/cong-dan/v1", timeout=10).status_code == 405


def test_its_wording_can_be_changed(sandbox: tuple[Recorded, Sandbox]) -> None:
    server, _ = sandbox
    wording = {"officer": "Thiếu mã cán bộ"}
    assert requests.put(f"{server.url}/_sandbox/population/wording", json=wording, timeout=10).status_code == 200
    assert post(sandbox, envelope(question(MaCanBo=None))) == (500, ("Client.Officer", "Thiếu mã cán bộ"))
    requests.post(f"{server.url}/_sandbox/population/reset", timeout=10)
    assert requests.get(f"{server.url}/_sandbox/population/state", timeout=10).json()["officers"] == {}


def test_the_commands_of_the_manual_ask_it(sandbox: tuple[Recorded, Sandbox]) -> None:
    server, parts = sandbox
    page = (ROOT / "docs" / "partners" / "population.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    credential = json.loads(parts.credentials["population"])
    said = subprocess.run(
        ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
        env={
            "PATH": os.environ["PATH"],
            "NAME": credential["user"],
            "SECRET": credential["secret"],
            "API_KEY": credential["api_key"],
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert "<TonTai>true</TonTai>" in said
    assert f'location="{server.url}/population/cong-dan/v1"' in said
