"""The document axis's connector, bound to the contract in both variants, and the axis's own manners."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree
from signxml import XMLSigner

from connectors.base import Reply
from connectors.edoc import EdocConnector, agencies_of, sealed_headers
from connectors.http import HttpClient
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.edoc import EdocTwin
from registry.contract import Contract, Kind
from registry.model import Endpoint, Pattern, Service
from schemas.edxml import (
    NAMESPACE,
    Document,
    Organization,
    StatusDocument,
    read_edxml,
    recall_of,
    status_of,
    unpack,
    write_edxml,
)
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import utc_now
from schemas.problem import InvalidReply, ProviderFailure, ProviderRejected, ProviderUnavailable, SchemaViolation
from security.keys import SigningKey
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "schemas" / "partners" / "edoc"
XML = "application/xml"


def example(name: str = "document") -> Document:
    document = read_edxml((EXAMPLES / f"{name}.example.xml").read_bytes())
    assert isinstance(document, Document)
    return document


def packet(number: int = 12, **changes: Any) -> bytes:
    """The example document under another number."""
    document = example()
    return write_edxml(replace(document, document_id=f"000.00.15.H99,2026/04/23,{number}/TTHCC-VP", **changes))


class TestNational(ConnectorContract):
    bound = Binding(
        connector="edoc",
        path="/edoc",
        operation="sendEdoc",
        service="edoc.send",
        payload=packet,
        content_type=XML,
        effects=lambda state: len(state["sent"]),
        logs_in=False,
    )


class TestProvincial(ConnectorContract):
    bound = replace(TestNational.bound, settings={"variant": "provincial"})


@pytest.fixture(params=["national", "provincial"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """The axis in one of its variants."""
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    connector = EdocConnector(HttpClient())
    with serving(app) as server:
        try:
            binding = replace(TestNational.bound, settings={"variant": request.param})
            yield Rig(binding, sandbox, server, connector)
        finally:
            sandbox.close()
            connector.close()


#: For what does not depend on the variant: once is enough.
once = pytest.mark.parametrize("rig", ["national"], indirect=True)


def twin_of(rig: Rig) -> EdocTwin:
    twin = rig.sandbox.twins["edoc"]
    assert isinstance(twin, EdocTwin)
    return twin


def send(rig: Rig, body: bytes, service: str = "edoc.send", **settings: Any) -> Reply:
    reply: Reply = rig.deliver(
        parcel_of(service, body, content_type=XML), settings={**rig.endpoint.settings, **settings}
    )
    return reply


def ask(rig: Rig, service: str, payload: dict[str, Any] | None = None, **settings: Any) -> Reply:
    parcel = parcel_of(service, payload or {})
    reply: Reply = rig.deliver(parcel, settings={**rig.endpoint.settings, **settings})
    return reply


class TestSending:
    def test_the_packet_travels_as_it_was_signed(self, rig: Rig) -> None:
        """Odd prefixes and spaces included: writing it again would break its signature."""
        odd = packet().replace(b"<From>", b"\n  <From >").replace(b"</From>", b"</From\n>")
        doc_id = json.loads(send(rig, odd).body)["docId"]
        assert twin_of(rig)._kept[doc_id].packet == odd

    def test_a_packet_in_the_older_dialect_is_written_in_the_newer_one(self, rig: Rig) -> None:
        old = (EXAMPLES / "incoming-old.example.xml").read_bytes()
        old = old.replace(b"<OrganId>H99.15<", b"<OrganId>G99.14<").replace(b"H99.DN.001<", b"H99.15<")
        doc_id = json.loads(send(rig, old).body)["docId"]
        kept = twin_of(rig)._kept[doc_id].packet
        assert f'xmlns="{NAMESPACE}"'.encode() in kept
        document = read_edxml(kept)
        assert isinstance(document, Document)
        assert document.document_type.type_name == "Công văn"
        assert unpack(document.attachments[0])[0].content.startswith(b"%PDF")

    def test_every_receiver_has_a_status_of_its_own(self, rig: Rig) -> None:
        """P29: one receiver that is unknown or locked does not stop the others, and is not lost among them."""
        names = ["000.00.16.H99", "000.00.14.G99", "000.00.77.H99", "000.00.17.H99"]
        body = packet(receivers=tuple(Organization(organ_id=name) for name in names))
        doc_id = json.loads(send(rig, body).body)["docId"]
        rows = json.loads(ask(rig, "edoc.sent", {"docId": doc_id}).body)["data"]
        assert {row["to"]: row["status"] for row in rows} == dict(
            zip(names, ["done", "done", "fail", "fail"], strict=True)
        )

    def test_a_document_to_forty_agencies_is_one_effect(self, rig: Rig) -> None:
        names = [f"000.00.{number:02d}.H99" for number in range(10, 50)]
        body = packet(receivers=tuple(Organization(organ_id=name) for name in names))
        parcel = parcel_of("edoc.send", body, content_type=XML)
        first, again = rig.deliver(parcel), rig.deliver(replace(parcel, attempt=2))
        assert first.body == again.body
        (kept,) = twin_of(rig).state()["sent"]
        assert len(kept["statuses"]) == 40

    @pytest.mark.parametrize(
        "organ_id, code", [("000.00.17.H99", "23"), ("000.00.77.H99", "18"), ("H99.77.01.02", "18")]
    )
    def test_the_axis_refuses_receivers_that_it_cannot_reach(self, rig: Rig, organ_id: str, code: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, packet(receivers=(Organization(organ_id=organ_id),)))
        assert caught.value.facts["code"] == code

    @pytest.mark.parametrize(
        "changes, code",
        [
            ({"subject": ""}, "N.MessageHeader.Subject"),
            ({"subject": "x" * 501}, "R.MessageHeader.Subject"),
            ({"due_date": "23/04/2026"}, "T.MessageHeader.DueDate"),
            ({"receivers": ()}, "N.MessageHeader.To"),
            ({"receivers": (Organization(organ_id="1.2.3.4.5"),)}, "M.MessageHeader.To.OrganId"),
        ],
    )
    @once
    def test_what_the_axis_would_refuse_does_not_leave(self, rig: Rig, changes: dict[str, Any], code: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, packet(**changes))
        assert caught.value.reason == "edoc-not-valid"
        assert [error.detail for error in caught.value.errors] == [code]
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "body, reason",
        [
            (b"<a/>", "edxml-unknown"),
            (b"not xml", "edxml-unknown"),
            (packet()[:-30], "xml-invalid"),
            (packet().replace(b"<edXMLEnvelope>", b"<!-- --><edXMLEnvelope2>", 1), "xml-invalid"),
            (b'<!DOCTYPE a [<!ENTITY b "c">]>' + packet().partition(b"\n")[2], "edxml-unknown"),
            (packet(sender=Organization(organ_id="000.00.16.H99")), "edoc-sender-differs"),
            (packet(sender=Organization(organ_id="000.00.00.H99")), "edoc-sender-differs"),
            (packet(sender=Organization(organ_id="H99.150")), "edoc-sender-differs"),
            (packet(sender=Organization(organ_id="H99.15\r\nX-Evil: 1")), "edoc-sender-differs"),
        ],
    )
    @once
    def test_what_is_no_document_of_the_sender_does_not_leave(self, rig: Rig, body: bytes, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, body)
        assert caught.value.reason == reason
        assert rig.server.requests == []

    @pytest.mark.parametrize("organ_id", ["000.00.15.H99", "H99.15", "000.01.15.H99", "H99.15.01"])
    @once
    def test_an_agency_sends_under_either_spelling_and_for_what_lies_below_it(self, rig: Rig, organ_id: str) -> None:
        assert send(rig, packet(sender=Organization(organ_id=organ_id))).status == 200

    @once
    def test_an_organ_id_by_decree_is_a_setting(self, rig: Rig) -> None:
        body = packet(sender=Organization(organ_id="000.00.88.H99"))
        assert send(rig, body, organ_ids={"H99.15": ["000.00.88.H99"]}).status == 200

    def test_a_document_over_the_limit_is_refused_on_both_sides(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, packet(), max_file_bytes=100)
        assert caught.value.reason == "edoc-too-large"
        twin_of(rig).max_bytes = 100
        with pytest.raises(ProviderRejected) as caught:
            send(rig, packet())
        assert caught.value.facts["code"] == "10"

    def test_a_status_document_goes_as_one(self, rig: Rig) -> None:
        send(rig, (EXAMPLES / "status.example.xml").read_bytes(), "edoc.status")
        (kept,) = twin_of(rig).state()["sent"]
        assert (kept["messageType"], kept["documentId"]) == ("status", "000.00.14.G99,2026/04/23,78/CTN-VP")

    @once
    def test_the_status_service_takes_no_document(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            send(rig, packet(), "edoc.status")

    @pytest.mark.parametrize("code", ["01", "02", "03", "04", "05", "06", "13", "15", "16"])
    @once
    def test_every_status_code_is_taken(self, rig: Rig, code: str) -> None:
        said = status_of(example("incoming"), code, receiver=example().sender, now=utc_now())
        assert send(rig, write_edxml(said), "edoc.status").status == 200

    @once
    def test_a_status_code_that_nobody_knows_is_not(self, rig: Rig) -> None:
        said = status_of(example("incoming"), "07", receiver=example().sender, now=utc_now())
        with pytest.raises(ProviderRejected) as caught:
            send(rig, write_edxml(said), "edoc.status")
        assert caught.value.facts["code"] == "R.MessageHeader.StatusCode"

    def test_a_recall_is_asked_of_each_receiver_and_answered_by_each(self, rig: Rig) -> None:
        """13, then 15 from one and 16 from the other, as status documents to be fetched."""
        document = example()
        doc_id = json.loads(send(rig, write_edxml(document)).body)["docId"]
        recall = recall_of(
            document, "Gửi nhầm", document_id="000.00.15.H99,2026/04/24,13/TTHCC-VP", now=datetime.now(UTC)
        )
        send(rig, write_edxml(recall))
        rows = json.loads(ask(rig, "edoc.sent", {"docId": doc_id}).body)["data"]
        assert {row["status"] for row in rows} == {"13"}
        answers = {}
        for row in json.loads(ask(rig, "edoc.received", {"messageType": "status"}).body)["data"]:
            said = read_edxml(ask(rig, "edoc.receive", {"docId": row["docId"]}).body)
            assert isinstance(said, StatusDocument)
            assert said.response_for.document_id == document.document_id
            answers[said.sender.organ_id] = said.status_code
        assert answers == {"000.00.16.H99": "16", "000.00.14.G99": "15"}

    @pytest.mark.parametrize("name", ["update", "replacement"])
    @once
    def test_changes_of_a_document_are_taken(self, rig: Rig, name: str) -> None:
        send(rig, packet())
        assert send(rig, (EXAMPLES / f"{name}.example.xml").read_bytes()).status == 200

    @once
    def test_a_recall_that_names_nothing_does_not_leave(self, rig: Rig) -> None:
        recall = example("recall")
        nothing = replace(recall, response_for=(), bussiness=replace(recall.bussiness, document_id=""))
        with pytest.raises(ProviderRejected) as caught:
            send(rig, write_edxml(nothing))
        assert caught.value.facts["code"] == "M.TraceHeaderList.Bussiness.DocumentId"


class TestReceiving:
    def test_documents_wait_until_they_are_acknowledged(self, rig: Rig) -> None:
        """P26: nothing is acknowledged by reading it."""
        waiting = json.loads(ask(rig, "edoc.received").body)["data"]
        assert len(waiting) == 2
        for row in waiting:
            ask(rig, "edoc.receive", {"docId": row["docId"]})
        assert len(json.loads(ask(rig, "edoc.received").body)["data"]) == 2
        ask(rig, "edoc.acknowledge", {"docId": waiting[0]["docId"], "status": "done"})
        ask(rig, "edoc.acknowledge", {"docId": waiting[1]["docId"], "status": "processing"})
        (left,) = json.loads(ask(rig, "edoc.received").body)["data"]
        assert left["docId"] == waiting[1]["docId"]

    def test_bytes_before_the_root_are_left_out_and_kept_as_evidence(self, rig: Rig) -> None:
        rows = json.loads(ask(rig, "edoc.received").body)["data"]
        (row,) = (row for row in rows if row["from"] == "000.00.14.G99")
        reply = ask(rig, "edoc.receive", {"docId": row["docId"]})
        raw = (EXAMPLES / "incoming.example.xml").read_bytes()
        assert reply.body == raw.removeprefix(b"1212")
        assert reply.content_type == XML
        assert reply.received != reply.body
        if rig.endpoint.settings["variant"] == "national":
            assert reply.received == raw

    def test_a_document_in_the_older_dialect_comes_as_it_is(self, rig: Rig) -> None:
        rows = json.loads(ask(rig, "edoc.received").body)["data"]
        (row,) = (row for row in rows if row["from"] == "H99.DN.001")
        assert (
            ask(rig, "edoc.receive", {"docId": row["docId"]}).body
            == (EXAMPLES / "incoming-old.example.xml").read_bytes()
        )

    def test_a_doc_id_without_quotes_gets_them(self, rig: Rig) -> None:
        quoted = ask(rig, "edoc.received")
        twin_of(rig).wording["doc_id"] = "bare"
        bare = ask(rig, "edoc.received")
        assert bare.body == quoted.body
        assert re.search(rb'"docId": [0-9a-f]{8}-', bare.received)
        doc_id = json.loads(send(rig, packet()).body)["docId"]
        assert re.fullmatch(r"[0-9a-f-]{36}", doc_id)

    def test_the_directory_names_every_agency_in_both_spellings(self, rig: Rig) -> None:
        reply = ask(rig, "edoc.agencies")
        agencies = {row["code"]: row["code102"] for row in json.loads(reply.body)["agencies"]}
        assert agencies["H99.15"] == "000.00.15.H99"
        assert agencies["G99"] == "000.00.00.G99"
        assert agencies["H99.DN.001"] == ""
        assert reply.received != reply.body

    @pytest.mark.parametrize(
        "row, both",
        [
            ({"code": "28.22.H99"}, ("H99.22.28", "28.22.H99")),
            ({"code": "H99.22"}, ("H99.22", "000.00.22.H99")),
            ({"code": "H99.15", "code102": "000.00.88.H99"}, ("H99.15", "000.00.88.H99")),
            ({"code": "H15.50.05.13.01"}, ("H15.50.05.13.01", "")),
            ({"code": "?"}, ("?", "")),
            ({}, ("", "")),
        ],
    )
    def test_what_the_axis_states_stands_and_the_rest_follows(self, row: dict[str, str], both: tuple[str, str]) -> None:
        (agency,) = json.loads(agencies_of(Reply(body=json.dumps({"data": [row]}).encode())).body)["agencies"]
        assert (agency["code"], agency["code102"]) == both

    @pytest.mark.parametrize(
        "service, payload, reason",
        [
            ("edoc.receive", {}, "payload-not-for-partner"),
            ("edoc.receive", {"docId": "a\r\nX: 1"}, "payload-not-for-partner"),
            ("edoc.receive", {"docId": 5}, "payload-not-for-partner"),
            ("edoc.receive", {"docId": "a", "status": "done"}, "payload-not-for-partner"),
            ("edoc.acknowledge", {"docId": "a", "status": "deleted"}, "payload-not-for-partner"),
            ("edoc.received", {"messageType": "all"}, "payload-not-for-partner"),
            ("edoc.delete", {"docId": "a"}, "service-not-of-partner"),
        ],
    )
    @once
    def test_questions_the_axis_does_not_take_never_leave(
        self, rig: Rig, service: str, payload: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(ProviderRejected) as caught:
            ask(rig, service, payload)
        assert caught.value.reason == reason
        assert rig.server.requests == []

    def test_a_document_that_is_not_there_is_refused(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            ask(rig, "edoc.receive", {"docId": "0"})


@once
class TestJudging:
    def test_a_wrong_key_waits_for_the_operator(self, rig: Rig) -> None:
        rig.secret = b"truc-lgsp:sai"
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"

    @pytest.mark.parametrize(
        "code, problem",
        [("20", ProviderUnavailable), ("15", ProviderUnavailable), ("22", ProviderRejected), ("-1", ProviderRejected)],
    )
    def test_answers_are_judged_by_their_code(self, rig: Rig, code: str, problem: type[ProviderFailure]) -> None:
        rig.fault("error", code=code, message="Thành công")
        with pytest.raises(problem):
            rig.deliver()

    def test_which_codes_pass_by_waiting_is_a_setting(self, rig: Rig) -> None:
        rig.fault("error", code="21")
        with pytest.raises(ProviderUnavailable):
            rig.deliver(settings={**rig.endpoint.settings, "retry_codes": ["21"]})

    @pytest.mark.parametrize("code", ["N.MessageHeader.Subject", "099199000001", "R.099199000001", "M.a b"])
    def test_only_codes_are_told(self, rig: Rig, code: str) -> None:
        rig.fault("error", code=code)
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver()
        assert caught.value.facts["code"] == (code if code == "N.MessageHeader.Subject" else "?")

    @pytest.mark.parametrize(
        "settings", [{"variant": "other"}, {"signatures": "yes"}, {"certificates": []}, {"max_file_bytes": "1"}]
    )
    def test_wrong_settings_wait_for_the_operator(self, rig: Rig, settings: dict[str, Any]) -> None:
        body = signed(packet(), SigningKey.generate())
        with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
            send(rig, body, **{"certificates": {}, **settings})
        if settings.keys() != {"max_file_bytes"}:
            assert caught.value.reason == "endpoint-invalid"


def test_the_seal_is_the_kits() -> None:
    """The HMAC covers the very text of the sign-header, and every header that is sealed is sent."""
    endpoint = Endpoint(connector="edoc", url="http://axis.invalid")
    now = datetime(2026, 4, 23, 3, 0, 0, 45_000, tzinfo=UTC)
    headers = sealed_headers({"from": "000.00.15.H99"}, endpoint, b"vxp.test:khoa", now)
    assert headers["XroadVnpt-timestamp"] == "23042026T100000+0045"
    assert headers["XroadVnpt-sign-header-key"] == "systemid;timestamp;from"
    said = headers["XroadVnpt-sign-header"]
    assert json.loads(said) == {
        f"XroadVnpt-{name}": headers[f"XroadVnpt-{name}"] for name in ("systemid", "timestamp", "from")
    }
    assert headers["XroadVnpt-hash-header"] == hmac.new(b"khoa", said.encode(), hashlib.sha256).hexdigest()
    assert headers["User-Agent"] == "JAVASDKAgent/1.0.0 XRoad/VPCP"


# ---- Organisation signatures


def signed(body: bytes, key: SigningKey) -> bytes:
    root = etree.fromstring(body)
    header = root.find(f"{{{NAMESPACE}}}edXMLEnvelope/{{{NAMESPACE}}}edXMLHeader")
    assert header is not None
    etree.SubElement(header, "{http://www.w3.org/2000/09/xmldsig#}Signature", Id="placeholder")
    signer = XMLSigner(signature_algorithm="ecdsa-sha256", c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#")
    done = signer.sign(root, key=key.to_pem(), cert=key.certificate_pem)
    written: bytes = etree.tostring(done)
    return written


@once
class TestSignatures:
    def test_a_signed_document_passes_when_its_certificate_is_registered(self, rig: Rig) -> None:
        key = SigningKey.generate()
        body = signed(packet(), key)
        settings = {"signatures": "required", "certificates": {"H99.15": [key.certificate_pem]}}
        assert send(rig, body, **settings).status == 200

    def test_an_unsigned_one_does_not_where_signatures_are_required(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected) as caught:
            send(rig, packet(), signatures="required")
        assert caught.value.reason == "edxml-unsigned"

    def test_nor_one_whose_certificate_belongs_to_another_agency(self, rig: Rig) -> None:
        key = SigningKey.generate()
        with pytest.raises(ProviderRejected) as caught:
            send(rig, signed(packet(), key), certificates={"H99.16": key.certificate_pem})
        assert caught.value.reason == "edxml-signature-certificate"

    def test_nor_one_that_was_changed_after_signing(self, rig: Rig) -> None:
        key = SigningKey.generate()
        body = signed(packet(), key).replace(b"000.00.16.H99", b"000.00.20.H99")
        with pytest.raises(ProviderRejected) as caught:
            send(rig, body, certificates={"H99.15": key.certificate_pem})
        assert caught.value.reason == "edxml-signature-invalid"

    def test_what_comes_from_the_axis_is_judged_the_same_and_stays_there(self, rig: Rig) -> None:
        (doc_id,) = (row["docId"] for row in _waiting(rig) if row["from"] == "000.00.14.G99")
        with pytest.raises(InvalidReply) as caught:
            ask(rig, "edoc.receive", {"docId": doc_id}, signatures="required")
        assert caught.value.reason == "edoc-signature-refused"
        assert doc_id in {row["docId"] for row in _waiting(rig)}


def _waiting(rig: Rig) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(ask(rig, "edoc.received").body)["data"]
    return rows


# ---- The demonstration, and the manual


def province_service(code: str) -> Service:
    """A service as the demonstration's province registers it."""
    text = (ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8").replace("{schemas}", str(ROOT / "schemas"))
    for facts in yaml.safe_load_all(text):
        if facts["kind"] == "Service" and facts["code"] == code:
            for name in ("schema", "reply_schema"):
                if name in facts:
                    path = Path(facts[name]["file"])
                    facts[name] = path.read_text("utf-8") if path.suffix == ".xsd" else json.loads(path.read_bytes())
            return Service(
                code=ServiceCode(facts["code"]),
                version=1,
                name=facts["name"],
                owner=AgencyCode(facts["owner"]),
                pattern=Pattern(facts["pattern"]),
                content_types=tuple(facts.get("content_types", ["application/json"])),
                schema=facts.get("schema"),
                reply_schema=facts.get("reply_schema"),
                element=facts.get("element", ""),
            )
    raise LookupError(code)


class TestProvince:
    @pytest.mark.parametrize("name", ["document", "recall", "update", "replacement", "status"])
    def test_packets_are_taken_at_the_door(self, name: str) -> None:
        body = (EXAMPLES / f"{name}.example.xml").read_bytes()
        Contract(province_service("edoc.send")).check_request(body, XML)

    @pytest.mark.parametrize(
        "body",
        [
            packet(subject="x" * 501),
            packet(due_date="23/04/2026"),
            packet(receivers=(Organization(organ_id="1.2.3.4.5"),)),
            packet(other_info=replace(example().other_info, priority="5")),
            (EXAMPLES / "incoming-old.example.xml").read_bytes(),
        ],
    )
    def test_others_are_refused_there_and_need_not_be_accepted_first(self, body: bytes) -> None:
        with pytest.raises(SchemaViolation):
            Contract(province_service("edoc.send")).check_request(body, XML)

    def test_a_signed_packet_is_taken(self) -> None:
        Contract(province_service("edoc.send")).check_request(signed(packet(), SigningKey.generate()), XML)

    @once
    def test_answers_reach_the_consumer(self, rig: Rig) -> None:
        for row in _waiting(rig):
            reply = ask(rig, "edoc.receive", {"docId": row["docId"]})
            contract = Contract(province_service("edoc.receive"))
            assert contract.for_consumer(reply.body, reply.content_type, Kind.JSON) is None
        reply = ask(rig, "edoc.agencies")
        contract = Contract(province_service("edoc.agencies"))
        assert contract.for_consumer(reply.body, reply.content_type, Kind.JSON) is None


@once
def test_the_commands_of_the_manual_ask_the_twin(rig: Rig) -> None:
    page = (ROOT / "docs" / "partners" / "edoc.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    name, _, password = rig.secret.decode().partition(":")
    said = subprocess.run(
        ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
        env={"PATH": os.environ["PATH"], "NAME": name, "PASSWORD": password},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    sent, statuses, waiting, agencies = (json.loads(f"{{{part}}}") for part in said[1:-1].split("}{"))
    assert sent["success"] is True
    assert [row["status"] for row in statuses["data"]] == ["done", "done"]
    assert waiting["count"] == 2
    assert agencies["data"][1]["code102"] == "000.00.15.H99"
