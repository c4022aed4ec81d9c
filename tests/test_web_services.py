"""Each service under its own addresses: REST consumers call SOAP providers, SOAP consumers call REST providers.

The providers are the sandbox's twins over real HTTP: the population database over SOAP, the business registry over
REST.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import uuid6
import zeep
from openapi_spec_validator import validate as validate_openapi

from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.faults import Fault
from registry.model import (
    DeliveryMode,
    Endpoint,
    Grant,
    HttpCall,
    Pattern,
    Provider,
    Service,
    SoapCall,
    System,
)
from schemas.codec import read_json, read_xml
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade, Manifest, Means, sha256_hex
from schemas.moment import utc_now
from schemas.soap import EXCHANGE_NS, SoapVersion, payload_bytes, read_soap_reply, write_soap
from security.signing import split_compact, verify_manifest, verify_receipt
from tests.bus_world import MINISTRY, SENDER, SENDING, UNGRANTED, World, ask, bus_world, post
from tests.loopback import serving

PARTNERS = Path(__file__).resolve().parent.parent / "schemas" / "partners"
POPULATION = PARTNERS / "population"
WSDL = (POPULATION / "population.wsdl").read_text("utf-8")
TYPES = (POPULATION / "population.xsd").read_text("utf-8")
ASKS, ANSWERS = "http://dancuquocgia.bca", "http://www.mic.gov.vn/dancu/1.0"
OPERATION = "TraCuuThongTinCongDan"
CITIZEN, MAPPED, ENTERPRISE, NOTICE = map(
    ServiceCode, ("population.citizen-lookup", "population.mother", "enterprise.detail", "dossier.note")
)
QUESTION: Mapping[str, Any] = json.loads((POPULATION / f"{OPERATION}.example.json").read_bytes())
TEXT_XML = {"Content-Type": "text/xml; charset=utf-8"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    world: World
    url: str
    sandbox: Sandbox


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A bus whose ministry has a SOAP system and a REST system, both of them twins."""
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path_factory.mktemp("sandbox") / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    with serving(app) as twins, bus_world(tmp_path_factory.mktemp("bus")) as world:
        world.register(*_entries(twins.url))
        bus = world.bus
        for name, twin in (("population", "population"), ("dkdn", "business_registry")):
            bus.registry.put_secret(name, bus.secrets.seal(name, sandbox.credentials[twin].encode()), "test")
        with world.serving() as url:
            yield Stage(world=world, url=url, sandbox=sandbox)
        sandbox.close()


def _entries(twins: str) -> list[Any]:
    def system(name: str, services: tuple[ServiceCode, ...], **endpoint: Any) -> System:
        return System(
            code=SystemCode(f"{MINISTRY}/{name}"),
            name=name,
            mode=DeliveryMode.PUSH,
            receives=services,
            endpoint=Endpoint(timeout_seconds=5.0, **endpoint),
        )

    defaults: dict[str, Any] = {"version": 1, "owner": MINISTRY, "pattern": Pattern.REQUEST_REPLY}
    defaults["grade"] = Grade.ATTESTED
    detail = PARTNERS / "business_registry"
    citizen = Service(
        code=CITIZEN,
        name="Tra cứu công dân",
        content_types=("application/xml", "application/json"),
        schema=TYPES,
        reply_schema=TYPES,
        element=f"{{{ASKS}}}{OPERATION}",
        reply_element=f"{{{ANSWERS}}}{OPERATION}Response",
        provider=Provider(call=SoapCall(wsdl=WSDL, operation=OPERATION)),
        **defaults,
    )
    mapped = replace(
        citizen,
        code=MAPPED,
        name="Tra cứu người mẹ",
        content_types=("application/json",),
        schema=_MOTHER,
        reply_schema=_MOTHER_REPLY,
        element="",
        reply_element="",
        provider=Provider(
            content_type="application/xml",
            schema=TYPES,
            reply_schema=TYPES,
            element=citizen.element,
            reply_element=citizen.reply_element,
            request_mapping=_REQUEST_RULES,
            reply_mapping=_REPLY_RULES,
            call=SoapCall(wsdl=WSDL, operation=OPERATION),
        ),
    )
    enterprise = Service(
        code=ENTERPRISE,
        name="Chi tiết doanh nghiệp",
        schema=json.loads((detail / "enterprise-detail.schema.json").read_bytes()),
        reply_schema=_component("EnterpriseDetail"),
        provider=Provider(
            call=HttpCall(method="GET", path="/apiCSDLDKDN/chiTietDoanhNghiep", query=("msdn",), body="")
        ),
        **defaults,
    )
    oauth2 = {"auth": "oauth2", "token_path": "token"}
    return [
        system(
            "dan-cu",
            (CITIZEN, MAPPED),
            connector="population",
            url=f"{twins}/population/cong-dan/v1",
            secret="population",
            settings={"headers": {"X-Road-Client": "VN/GOV/H99/lgsp"}},
        ),
        system(
            "dkdn",
            (ENTERPRISE,),
            connector="rest",
            url=f"{twins}/business_registry",
            secret="dkdn",
            settings=oauth2,
        ),
        citizen,
        mapped,
        enterprise,
        *(Grant(id=str(code), service=code, grantee=SENDER) for code in (CITIZEN, MAPPED, ENTERPRISE)),
    ]


def _component(name: str) -> Mapping[str, Any]:
    """A schema of the business registry's OpenAPI, with all that it refers to."""
    text = (PARTNERS / "business_registry" / "openapi.json").read_text("utf-8")
    described = json.loads(text.replace("#/components/schemas/", "#/$defs/"))
    return {"$ref": f"#/$defs/{name}", "$defs": described["components"]["schemas"]}


#: The one-stop's own form of the question, which is not the ministry's.
_MOTHER: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["hoTen", "soDinhDanh", "ngaySinh", "canBo", "donVi"],
    "additionalProperties": False,
    "properties": {
        "hoTen": {"type": "string", "maxLength": 100},
        "soDinhDanh": {"type": "string", "pattern": "^[0-9]{12}$"},
        "ngaySinh": {"type": "string", "maxLength": 10},
        "canBo": {"type": "string", "maxLength": 50},
        "donVi": {"type": "string", "maxLength": 50},
    },
}
_MOTHER_REPLY: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["hoTen", "gioiTinh"],
    "properties": {"hoTen": {"type": "string"}, "gioiTinh": {"enum": ["Nam", "Nữ"]}, "ngaySinh": {"type": "string"}},
}
_REQUEST_RULES: tuple[Mapping[str, Any], ...] = (
    {"rename": "/hoTen", "to": "/HoVaTen"},
    {"text": "upper", "at": "/HoVaTen"},
    {"rename": "/soDinhDanh", "to": "/SoDinhDanh"},
    {"date": "dd/MM/yyyy", "to_format": "yyyyMMdd", "at": "/ngaySinh"},
    {"rename": "/ngaySinh", "to": "/NgayThangNamSinh/NgayThangNam"},
    {"rename": "/canBo", "to": "/MaCanBo"},
    {"rename": "/donVi", "to": "/MaDonVi"},
    {"constant": "037", "to": "/MaTichHop"},
    {"constant": "YC-0001", "to": "/MaYeuCau"},
    {"constant": "1.001193", "to": "/MaDVC"},
)
_REPLY_RULES: tuple[Mapping[str, Any], ...] = (
    {
        "join": ["/CongDan/HoVaTen/Ho", "/CongDan/HoVaTen/ChuDem", "/CongDan/HoVaTen/Ten"],
        "to": "/hoTen",
        "with": " ",
    },
    {"codes": {"1": "Nam", "2": "Nữ"}, "at": "/CongDan/GioiTinh"},
    {"rename": "/CongDan/GioiTinh", "to": "/gioiTinh"},
    {"keep": ["/hoTen", "/gioiTinh", "/ngaySinh"]},
)
_MOTHER_QUESTION = {
    "hoTen": "Nguyễn Thị Mẫu",
    "soDinhDanh": "099199000001",
    "ngaySinh": "01/01/1999",
    "canBo": "CB01",
    "donVi": "H99.15",
}


def rest_call(stage: Stage, service: str, payload: Any, **facts: Any) -> tuple[Manifest, Any]:
    """A signed call over REST: the manifest sent, the answer."""
    message = stage.world.signed(payload, service=service, receivers=(MINISTRY,), **facts)
    return message.manifest, post(stage.url, message)


def envelope(payload: bytes, *, block: bytes = b"", version: SoapVersion = SoapVersion.V11) -> bytes:
    return write_soap(version, payload, [block] if block else [])


def exchange_block(*, message_id: str = "", service: str = "") -> bytes:
    named = f"<Service>{service}</Service>" if service else ""
    return (
        f'<Exchange xmlns="{EXCHANGE_NS}">{named}<Receiver>{MINISTRY}</Receiver>'
        f"<MessageId>{message_id or uuid6.uuid7()}</MessageId></Exchange>"
    ).encode()


def soap_call(stage: Stage, service: str, body: bytes, **headers: str) -> requests.Response:
    sent = {**TEXT_XML, **stage.world.bearer(), **headers}
    return requests.post(f"{stage.url}/soap/services/{service}", data=body, headers=sent, timeout=30)


def reason_of(answer: requests.Response) -> str:
    return read_xml(answer.content).findtext(f".//{{{EXCHANGE_NS}}}reason") or ""


# ---- A REST consumer and a SOAP provider


def test_a_rest_consumer_gets_json_from_a_soap_provider(stage: Stage) -> None:
    _, answer = rest_call(stage, CITIZEN, QUESTION)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json["CongDan"]["SoDinhDanh"] == "099199000001"


def test_both_manifests_of_a_translated_call_hold_and_lead_to_the_providers_exact_bytes(stage: Stage) -> None:
    sent, answer = rest_call(stage, CITIZEN, QUESTION)
    bus = stage.world.bus
    reply = verify_manifest(answer.headers["lgsp-manifest"], bus.ring, utc_now()).manifest
    assert reply.body_sha256 == sha256_hex(answer.body)
    assert (reply.attested_means, reply.sender, reply.receivers) == (Means.CONNECTION, MINISTRY, (SENDER,))
    record = bus.ledger.find(sent.message_id)
    assert record is not None
    assert reply.request_manifest_sha256 == record.manifest_sha256
    stored = bus.ledger.reply_to(sent.message_id)
    assert stored is not None
    assert stored.original is not None
    # What is kept is the provider's envelope as it came, and the reply's manifest and the delivery's receipt name it.
    said = read_soap_reply(stored.original.body, stored.original.content_type)
    assert said.payload.tag == f"{{{ANSWERS}}}{OPERATION}Response"
    assert reply.translated is not None
    assert reply.translated.sha256 == sha256_hex(stored.original.body)
    receipt = verify_receipt(record.deliveries[0].receipt_jws or "", bus.ring.find_key)
    assert receipt["reply_sha256"] == reply.translated.sha256


def test_the_same_call_again_gets_the_very_same_reply(stage: Stage) -> None:
    message = stage.world.signed(QUESTION, service=CITIZEN, receivers=(MINISTRY,))
    first, second = (post(stage.url, message) for _ in range(2))
    assert (first.body, first.headers["lgsp-manifest"]) == (second.body, second.headers["lgsp-manifest"])


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ({**QUESTION, "HoVaTen": 7}, "/HoVaTen"),
        ({**QUESTION, "HoTen": "x"}, ""),
        ({**QUESTION, "NgayThangNamSinh": {"NgayThangNam": "19991301"}}, "NgayThangNam"),
        ({**QUESTION, "MaCanBo": None}, "MaCanBo"),
        ([QUESTION], ""),
    ],
    ids=["number-for-text", "unknown-member", "no-such-month", "null", "array"],
)
def test_a_payload_that_the_providers_schema_does_not_take_is_refused_with_its_place(
    stage: Stage, payload: Any, pointer: str
) -> None:
    before = stage.world.rows()["exchanges"]
    _, answer = rest_call(stage, CITIZEN, payload)
    assert answer.status == 422, answer.body
    assert any(pointer in error["pointer"] for error in answer.json["errors"])
    assert b"19991301" not in answer.body
    assert stage.world.rows()["exchanges"] == before


def test_a_fault_of_the_provider_is_a_problem_that_tells_nothing_of_it(stage: Stage) -> None:
    stage.sandbox.dial.turn("population", [Fault(kind="error", code="Client.X", message="Bí mật của nhà", count=1)])
    _, answer = rest_call(stage, CITIZEN, QUESTION)
    assert (answer.status, answer.json["reason"]) == (502, "provider-fault")
    assert "Bí mật".encode() not in answer.body


# ---- Two shapes


def test_a_mapping_carries_one_partners_shape_into_the_others_and_back(stage: Stage) -> None:
    _, answer = rest_call(stage, MAPPED, _MOTHER_QUESTION)
    assert answer.status == 200, answer.body
    assert answer.json == {"hoTen": "NGUYỄN THỊ MẪU", "gioiTinh": "Nữ"}


def test_a_mapping_that_fails_names_its_rule_and_place_and_nothing_is_recorded(stage: Stage) -> None:
    before = stage.world.rows()["exchanges"]
    _, answer = rest_call(stage, MAPPED, {**_MOTHER_QUESTION, "ngaySinh": "1999-01-01"})
    assert (answer.status, answer.json["reason"]) == (422, "mapping-failed")
    (error,) = answer.json["errors"]
    assert error["pointer"] == "/ngaySinh"
    assert "rule 4" in error["detail"]
    assert b"1999-01" not in answer.body
    assert stage.world.rows()["exchanges"] == before


def test_what_the_mapping_makes_is_checked_by_the_providers_schema(stage: Stage) -> None:
    _, answer = rest_call(stage, MAPPED, {**_MOTHER_QUESTION, "canBo": "có dấu cách"})
    assert (answer.status, answer.json["reason"]) == (422, "mapped-payload-breaks-schema")
    assert "MaCanBo" in answer.json["errors"][0]["pointer"]


# ---- A SOAP consumer


def test_a_soap_consumer_calls_a_soap_provider(stage: Stage) -> None:
    question = (POPULATION / f"{OPERATION}.example.xml").read_bytes()
    answer = soap_call(stage, CITIZEN, envelope(question, block=exchange_block()))
    assert answer.status_code == 200, answer.content
    said = read_soap_reply(answer.content, answer.headers["Content-Type"])
    assert said.payload.findtext(f".//{{{ANSWERS}}}SoDinhDanh") == "099199000001"
    jws = said.blocks[f"{{{EXCHANGE_NS}}}Manifest"].text or ""
    manifest = Manifest.from_claims(read_json(split_compact(jws).payload))
    assert manifest.body_sha256 == sha256_hex(payload_bytes(said.payload))


def test_a_soap_consumer_calls_a_rest_provider_with_a_client_made_from_the_wsdl(stage: Stage) -> None:
    client = zeep_client(stage, ENTERPRISE)
    block = client.get_element(f"{{{EXCHANGE_NS}}}Exchange")(
        Service=ENTERPRISE, Receiver=[MINISTRY], MessageId=str(uuid6.uuid7())
    )
    answer = client.service.EnterpriseDetail(msdn="9900000016", _soapheaders=[block])
    found = answer.body if hasattr(answer, "body") else answer
    assert found.MainInformation.NAME == "CÔNG TY TNHH MẪU"
    assert found.HOAdress.WardName == "Phường Thủy Nguyên"


def test_a_client_made_from_the_wsdl_reads_faults(stage: Stage) -> None:
    client = zeep_client(stage, ENTERPRISE)
    with pytest.raises(zeep.exceptions.Fault) as caught:
        client.service.EnterpriseDetail(msdn="9900000016")  # no block says which message it is
    assert caught.value.detail.findtext(f".//{{{EXCHANGE_NS}}}reason") == "header-missing"


def test_a_signed_message_of_a_soap_consumer_is_signed_over_its_canonical_payload(stage: Stage) -> None:
    loose = _DETAIL.replace(b"<", b"<q:").replace(b"<q:/", b"</q:").replace(b"xmlns=", b" xmlns:q=")
    payload = payload_bytes(read_xml(loose))
    message = stage.world.signed(payload, service=ENTERPRISE, receivers=(MINISTRY,), content_type="application/xml")
    block = f'<Manifest xmlns="{EXCHANGE_NS}">{message.headers["Lgsp-Manifest"]}</Manifest>'.encode()
    answer = soap_call(stage, ENTERPRISE, envelope(loose, block=block), Authorization="")
    assert answer.status_code == 200, answer.content
    record = stage.world.bus.ledger.find(MessageId(message.manifest.message_id))
    assert record is not None
    assert record.grade is Grade.SIGNED


def test_a_signed_message_is_taken_at_the_address_of_its_own_service_only(stage: Stage) -> None:
    payload = payload_bytes(read_xml(_DETAIL))
    message = stage.world.signed(payload, service=ENTERPRISE, receivers=(MINISTRY,), content_type="application/xml")
    block = f'<Manifest xmlns="{EXCHANGE_NS}">{message.headers["Lgsp-Manifest"]}</Manifest>'.encode()
    for address in (CITIZEN, f"{ENTERPRISE}/2"):
        refused = soap_call(stage, address, envelope(_DETAIL, block=block), Authorization="")
        assert (refused.status_code, reason_of(refused)) == (500, "service-differs-from-address")
    taken = soap_call(stage, f"{ENTERPRISE}/1", envelope(_DETAIL, block=block), Authorization="")
    assert taken.status_code == 200, taken.content


def test_a_one_way_message_over_soap_is_answered_by_its_receipt(stage: Stage) -> None:
    note = Service(
        code=ServiceCode("dossier.remark"),
        version=1,
        name="Ghi chú",
        owner=AgencyCode("H99"),
        pattern=Pattern.ONE_WAY,
        grade=Grade.ATTESTED,
        schema={"type": "object", "properties": {"text": {"type": "string"}}, "additionalProperties": False},
    )
    stage.world.register(note, Grant(id="remark", service=note.code, grantee=SENDER))
    namespace = "urn:lgsp:service:dossier.remark:1:request"
    payload = f'<DossierRemark xmlns="{namespace}"><text>Đã nhận</text></DossierRemark>'.encode()
    block = exchange_block().replace(str(MINISTRY).encode(), b"H99.16")
    answers = [soap_call(stage, note.code, envelope(payload, block=block)) for _ in range(2)]
    receipts = [read_soap_reply(answer.content, answer.headers["Content-Type"]).payload for answer in answers]
    told = [{child.tag.rpartition("}")[2]: child.text for child in receipt} for receipt in receipts]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (told[0]["repeated"], told[1]["repeated"]) == ("false", "true")
    assert told[0]["receipt"] == told[1]["receipt"]
    # It waits in an inbox: what is fetched is JSON, which the receiver's schema says, under a manifest of the bus's.
    (delivery,) = ask("GET", f"{stage.url}/v1/inbox?wait=5", headers=stage.world.bearer("H99.16/kho")).json[
        "deliveries"
    ]
    assert delivery["content_type"] == "application/json"
    manifest = verify_manifest(delivery["manifest"], stage.world.bus.ring, utc_now()).manifest
    assert manifest.translated is not None
    assert manifest.translated.content_type == "application/xml"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda: envelope(b"<x/>", block=exchange_block()), "payload-not-translatable"),
        (
            lambda: envelope(
                b'<EnterpriseDetail xmlns="urn:x"><msdn>1</msdn></EnterpriseDetail>', block=exchange_block()
            ),
            "payload-not-translatable",
        ),
        (lambda: envelope(_DETAIL.replace(b"msdn>", b"ma>"), block=exchange_block()), "payload-not-translatable"),
        (lambda: envelope(_DETAIL, block=exchange_block(service="dossier.note")), "soap-service-differs"),
        (lambda: envelope(_DETAIL), "header-missing"),
        (lambda: b"", "soap-empty"),
    ],
    ids=["no-namespace", "other-namespace", "unknown-child", "another-service", "no-facts", "empty"],
)
def test_a_bad_call_gets_a_fault_and_the_next_good_one_passes(stage: Stage, body: Any, reason: str) -> None:
    refused = soap_call(stage, ENTERPRISE, body())
    assert (refused.status_code, reason_of(refused)) == (500, reason)
    assert soap_call(stage, ENTERPRISE, envelope(_DETAIL, block=exchange_block())).status_code == 200


_DETAIL = (
    b'<EnterpriseDetail xmlns="urn:lgsp:service:enterprise.detail:1:request"><msdn>9900000016</msdn></EnterpriseDetail>'
)


# ---- What is published


def zeep_client(stage: Stage, service: str) -> Any:
    """A client of the published WSDL that speaks to the bus that is being tested."""
    session = requests.Session()
    session.headers.update(stage.world.bearer())
    document = session.get(f"{stage.url}/soap/services/{service}?wsdl", timeout=30)
    assert document.status_code == 200, document.text
    published = document.content.replace(stage.world.settings.public_url.encode(), stage.url.encode())
    return zeep.Client(io.BytesIO(published), transport=zeep.Transport(session=session))


@pytest.mark.parametrize("service", [CITIZEN, MAPPED, ENTERPRISE])
def test_every_service_is_published_as_openapi_and_as_wsdl(stage: Stage, service: str) -> None:
    described = ask("GET", f"{stage.url}/v1/services/{service}/openapi.json", headers=stage.world.bearer())
    assert described.status == 200, described.body
    validate_openapi(described.json)
    assert {"application/json", "application/xml"} == set(
        described.json["paths"]["/v1/exchange"]["post"]["requestBody"]["content"]
    )
    assert zeep_client(stage, service).wsdl.services


@pytest.mark.parametrize("address", ["/v1/services/{}/openapi.json", "/soap/services/{}?wsdl"])
def test_strangers_learn_nothing_of_a_service(stage: Stage, address: str) -> None:
    url = stage.url + address.format(CITIZEN)
    assert ask("GET", url).status == 401
    assert ask("GET", url, headers=stage.world.bearer(UNGRANTED)).status == 404
    assert ask("GET", url, headers=stage.world.bearer(SENDING)).status == 200
    assert ask("GET", stage.url + address.format("no.such-service"), headers=stage.world.bearer()).status == 404
