"""The exchange over SOAP, over real HTTP: by hand, by zeep from the published WSDL, beside REST."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zeep
import zeep.exceptions
from lxml import etree

from bus.web.soap import UNDERSTOOD, facts_of
from schemas.codec import read_json
from schemas.message import AttachmentReference
from schemas.moment import utc_now
from schemas.soap import EXCHANGE_BLOCK, SoapVersion, read_soap
from security.signing import split_compact
from security.ws_security import sign_ws_security
from tests.bus_world import (
    LOOKUP,
    MINISTRY,
    NOTE,
    RECEIVER,
    RECEIVING,
    SENDER,
    SENDING,
    World,
    ask,
    bus_world,
    key_of,
    post,
)
from tests.loopback import serving
from tests.soap_world import (
    PATH,
    attachment,
    digest,
    element,
    envelope,
    facts,
    said,
    send,
    signed_envelope,
    submission,
    told,
)

V11, V12 = SoapVersion.V11, SoapVersion.V12
BODY = b'{"title":"\xc4\x90\xc6\xa1n"}'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with bus_world(tmp_path_factory.mktemp("soap")) as world:
        yield world


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def call(
    world: World,
    url: str,
    operation: str,
    inner: str = "",
    *,
    system: str = SENDING,
    version: SoapVersion = V11,
) -> Any:
    return said(send(url, envelope(element(operation, inner), version=version), world.bearer(system), version=version))


def fetch(world: World, url: str, version: SoapVersion = V11) -> list[dict[str, Any]]:
    """Everything that waits for the receiver."""
    found = call(world, url, "FetchInbox", "<wait>5</wait>", system=RECEIVING, version=version)["delivery"]
    return found if isinstance(found, list) else [found]


# ---- one exchange, whichever way it comes


@pytest.mark.parametrize("version", [V11, V12])
@pytest.mark.parametrize("first", ["rest", "soap"])
def test_the_same_message_by_the_other_way_is_a_repetition_with_the_first_receipt(
    world: World, url: str, first: str, version: SoapVersion
) -> None:
    message = world.signed()
    over_soap = signed_envelope(message, version=version)
    if first == "rest":
        receipt = post(url, message).json
        again = said(send(url, over_soap, version=version))
        assert (again["repeated"], again["receipt"]) == ("true", receipt["receipt"])
        assert (again["leaf"], again["messageId"]) == (receipt["leaf"], receipt["message_id"])
    else:
        taken = said(send(url, over_soap, version=version))
        assert taken["repeated"] == "false"
        answer = post(url, message)
        assert (answer.status, answer.json["receipt"]) == (200, taken["receipt"])
    assert world.bus.ledger.find(message.manifest.message_id) is not None


@pytest.mark.parametrize("version", [V11, V12])
def test_a_message_goes_all_the_way_by_soap(world: World, url: str, version: SoapVersion) -> None:
    message = world.signed({"title": "Cả đường bằng SOAP"})
    receipt = said(send(url, signed_envelope(message, version=version), version=version))
    assert (receipt["state"], receipt["receiver"]) == ("accepted", RECEIVER)
    mine = [one for one in fetch(world, url, version) if one["messageId"] == message.manifest.message_id]
    assert base64.b64decode(mine[0]["payload"]) == message.body
    assert mine[0]["manifest"] == message.headers["Lgsp-Manifest"]
    assert mine[0]["receipt"] == receipt["receipt"]
    name = f"<deliveryId>{mine[0]['deliveryId']}</deliveryId>"
    assert call(world, url, "AckDelivery", name, system=RECEIVING, version=version) == {"state": "delivered"}
    asked = f"<messageId>{message.manifest.message_id}</messageId>"
    status = call(world, url, "GetStatus", asked, version=version)
    assert (status["state"], status["delivery"]["state"], status["sender"]) == ("delivered", "delivered", SENDER)
    receipts = call(world, url, "GetReceipt", asked, version=version)
    assert receipts["receipt"] == receipt["receipt"]
    assert receipts["delivery"]["receiver"] == RECEIVER


def test_a_delivery_given_back_comes_again_or_is_dead_with_its_reason(world: World, url: str) -> None:
    message = world.signed()
    said(send(url, signed_envelope(message)))
    (mine,) = (one for one in fetch(world, url) if one["messageId"] == message.manifest.message_id)
    inner = f"<deliveryId>{mine['deliveryId']}</deliveryId><reason>hồ sơ thiếu trang</reason><final>true</final>"
    assert call(world, url, "NackDelivery", inner, system=RECEIVING) == {"state": "dead"}
    status = call(world, url, "GetStatus", f"<messageId>{message.manifest.message_id}</messageId>")
    assert (status["state"], status["delivery"]["reason"]) == ("dead", "refused-by-receiver")
    assert status["delivery"]["said"] == "hồ sơ thiếu trang"
    again = send(url, envelope(element("NackDelivery", inner)), world.bearer(RECEIVING))
    assert told(again).reason == "lease-lost"


def test_a_request_gets_its_reply_with_the_manifest_that_proves_it(tmp_path: Path) -> None:
    def partner(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"found":true}']

    with serving(partner) as recorded, bus_world(tmp_path, partner_url=recorded.url) as world, world.serving() as url:
        message = world.signed({"id": 1}, service=LOOKUP, receivers=[MINISTRY])
        first = said(send(url, signed_envelope(message)))
        assert base64.b64decode(first["reply"]["payload"]) == b'{"found":true}'
        claims = read_json(split_compact(first["reply"]["manifest"]).payload)
        assert claims["body"]["sha256"] == digest(b'{"found":true}')
        assert said(send(url, signed_envelope(message)))["reply"] == first["reply"]
        assert len(recorded.requests) == 1


# ---- three ways to be identified


def test_a_bearer_token_with_the_exchange_block_sends_an_attested_message(world: World, url: str) -> None:
    message_id = str(uuid.uuid4())
    block = facts(message_id, Purpose="giai-quyet-tthc", User="cb.01")
    answer = said(send(url, envelope(submission(BODY), block), world.bearer()))
    assert answer["messageId"] == message_id
    headers = {"Lgsp-Service": NOTE, "Lgsp-Receiver": RECEIVER, "Lgsp-Message-Id": message_id}
    more = {"Lgsp-Purpose": "giai-quyet-tthc", "Lgsp-User": "cb.01", "Content-Type": "application/json"}
    over_rest = ask("POST", f"{url}/v1/exchange", BODY, {**world.bearer(), **headers, **more})
    assert (over_rest.status, over_rest.json["receipt"]) == (200, answer["receipt"])


@pytest.mark.parametrize("version", [V11, V12])
def test_a_ws_security_signature_sends_an_attested_message(world: World, url: str, version: SoapVersion) -> None:
    key, message_id = key_of(SENDING), str(uuid.uuid4())
    data = sign_ws_security(
        envelope(submission(BODY), facts(message_id), version=version),
        key,
        key.certificate_pem,
        utc_now(),
        signed_blocks=frozenset({EXCHANGE_BLOCK}),
    )
    answer = said(send(url, data, version=version))
    assert (answer["messageId"], answer["repeated"]) == (message_id, "false")
    assert said(send(url, data, version=version))["repeated"] == "true"
    record = world.bus.ledger.find(answer["messageId"])
    assert record is not None
    assert record.grade.value == "attested"


def test_a_ws_security_signature_asks_once(world: World, url: str) -> None:
    key = key_of(RECEIVING)
    data = sign_ws_security(envelope(element("FetchInbox")), key, key.certificate_pem, utc_now())
    said(send(url, data))
    assert told(send(url, data)).problem["type"] == "/problems/not-identified"


def test_a_signed_question_with_the_block_of_a_message_is_refused(world: World, url: str) -> None:
    """That block makes a signature repeatable, because a message may come again. A fetch may not."""
    key = key_of(RECEIVING)
    blocks = frozenset({EXCHANGE_BLOCK})
    unsigned = envelope(element("FetchInbox"), facts())
    data = sign_ws_security(unsigned, key, key.certificate_pem, utc_now(), signed_blocks=blocks)
    assert told(send(url, data)).reason == "soap-block-not-here"


# ---- attachments


def test_a_file_comes_along_with_a_signed_message(world: World, url: str) -> None:
    content = b"%PDF-1.7 " + uuid.uuid4().bytes
    named = AttachmentReference(
        sha256=digest(content), length=len(content), name="don.pdf", content_type="application/pdf"
    )
    message = world.signed(attachments=[named])
    said(send(url, signed_envelope(message, inner=attachment(content))))
    (mine,) = (one for one in fetch(world, url) if one["messageId"] == message.manifest.message_id)
    assert mine["attachment"]["sha256"] == digest(content)
    found = ask("GET", f"{url}/v1/attachments/{digest(content)}", headers=world.bearer(RECEIVING))
    assert (found.status, found.body) == (200, content)


def test_files_come_along_or_are_named_in_an_attested_message(world: World, url: str) -> None:
    content, uploaded = uuid.uuid4().bytes, uuid.uuid4().bytes
    ask("PUT", f"{url}/v1/attachments/{digest(uploaded)}", uploaded, world.bearer())
    named = f"<attachment><sha256>{digest(uploaded)}</sha256><length>{len(uploaded)}</length></attachment>"
    data = envelope(submission(BODY, inner=attachment(content) + named), facts())
    answer = said(send(url, data, world.bearer()))
    (mine,) = (one for one in fetch(world, url) if one["messageId"] == answer["messageId"])
    assert [one["sha256"] for one in mine["attachment"]] == [digest(content), digest(uploaded)]


CONTRADICTING = attachment(b"a").replace("<content>", f"<sha256>{'0' * 64}</sha256><content>")
BAD_ATTACHMENTS = {
    "neither content nor digest": ("<attachment><name>a</name></attachment>", "soap-attachment-incomplete"),
    "another digest than its content's": (CONTRADICTING, "attachment-digest"),
    "never uploaded": (f"<attachment><sha256>{'0' * 64}</sha256><length>1</length></attachment>", "attachment-missing"),
}  # fmt: skip


@pytest.mark.parametrize("inner, reason", BAD_ATTACHMENTS.values(), ids=BAD_ATTACHMENTS)
def test_an_attachment_that_is_not_there_is_refused(world: World, url: str, inner: str, reason: str) -> None:
    data = envelope(submission(BODY, inner=inner), facts())
    assert told(send(url, data, world.bearer())).reason == reason


def test_a_file_that_the_signed_manifest_does_not_name_is_refused_and_not_kept(world: World, url: str) -> None:
    content = uuid.uuid4().bytes
    answer = told(send(url, signed_envelope(world.signed(), inner=attachment(content))))
    assert answer.reason == "attachment-not-in-manifest"
    assert ask("GET", f"{url}/v1/attachments/{digest(content)}", headers=world.bearer()).status == 404


def test_a_sender_without_a_grant_stores_no_file(world: World, url: str) -> None:
    content = uuid.uuid4().bytes
    data = envelope(submission(BODY, inner=attachment(content)), facts())
    assert told(send(url, data, world.bearer(RECEIVING))).problem["type"] == "/problems/not-permitted"
    assert ask("GET", f"{url}/v1/attachments/{digest(content)}", headers=world.bearer(RECEIVING)).status == 404


# ---- faults


def test_a_fault_says_what_the_problem_document_says(world: World, url: str) -> None:
    message = world.signed({"title": 7, "pages": 0})
    over_rest = post(url, message).json
    fault = told(send(url, signed_envelope(message)))
    assert (fault.code, fault.text) == ("Client", over_rest["detail"])
    kept = ("type", "title", "reason")
    assert {name: fault.problem[name] for name in kept} == {name: over_rest[name] for name in kept}
    assert (fault.problem["status"], fault.problem["retryable"]) == ("422", "false")
    data = send(url, signed_envelope(world.signed({"title": 7}))).body
    assert etree.fromstring(data).xpath("string(//*[local-name()='error']/@pointer)") == "/title"


def test_a_fault_is_told_in_the_language_that_is_asked_for(url: str) -> None:
    assert told(send(url, b"", {"Accept-Language": "vi"})).text.startswith("Yêu cầu")
    assert told(send(url, b"", {"Accept-Language": "*;q=x"})).text.startswith("The request")


@pytest.mark.parametrize(
    "version, codes", [(V11, ("Client", "MustUnderstand")), (V12, ("Sender", "MustUnderstand"))], ids=["1.1", "1.2"]
)
def test_codes_are_those_of_the_version_that_was_spoken(url: str, version: SoapVersion, codes: tuple[str, str]) -> None:
    unsigned = envelope(submission(BODY), version=version)
    strange = f'<b xmlns="urn:strange" xmlns:s="{version.namespace}" s:mustUnderstand="1"/>'
    answers = [
        send(url, data, version=version) for data in (unsigned, envelope(submission(BODY), strange, version=version))
    ]
    assert tuple(told(answer).code for answer in answers) == codes
    assert all(answer.headers["content-type"].startswith(version.media_type) for answer in answers)


def test_a_fault_may_come_with_status_200_by_setting(tmp_path: Path) -> None:
    with bus_world(tmp_path, soap_fault_status=200) as world, world.serving() as url:
        assert told(send(url, b""), status=200).reason == "soap-empty"
        assert ask("POST", f"{url}/v1/exchange", b"").status == 401


def test_an_unexpected_failure_is_told_as_ours_and_logged(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("inner workings")

    monkeypatch.setattr(type(world.bus.ledger), "find", broken)
    inner = f"<messageId>{uuid.uuid4()}</messageId>"
    answer = send(url, envelope(element("GetStatus", inner)), world.bearer())
    assert (told(answer).code, told(answer).reason) == ("Server", "internal")
    assert b"inner workings" not in answer.body


def test_what_is_not_yours_does_not_exist(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    for name in (message.manifest.message_id, str(uuid.uuid4()), "no id"):
        data = envelope(element("GetStatus", f"<messageId>{name}</messageId>"))
        assert told(send(url, data, world.bearer("H99.15.01/tiep-nhan"))).reason == "message-unknown"


def test_only_the_wsdl_is_got(url: str) -> None:
    assert ask("GET", url + PATH).status == 404
    assert ask("GET", f"{url}{PATH}?WSDL").headers["content-type"].startswith("text/xml")
    assert ask("PUT", url + PATH).status == 405


# ---- zeep, from the published WSDL


@pytest.fixture(scope="module")
def wsdl(url: str) -> bytes:
    """As published, but for the address, which is that of the settings and not of the test's port."""
    document = ask("GET", f"{url}{PATH}?wsdl").body
    return document.replace(b"http://127.0.0.1:8080", url.encode())


def client(wsdl: bytes, version: str, world: World, system: str) -> Any:
    made = zeep.Client(BytesIO(wsdl), service_name="Exchange", port_name=f"Exchange{version}")
    made.transport.session.headers.update(world.bearer(system))
    return made


@pytest.mark.parametrize("version", ["Soap11", "Soap12"])
def test_zeep_submits_fetches_acknowledges_gives_back_and_reads_a_fault(
    world: World, wsdl: bytes, version: str
) -> None:
    sender, receiver = client(wsdl, version, world, SENDING), client(wsdl, version, world, RECEIVING)
    ids = []
    for _ in range(2):
        message = world.signed()
        receipt = sender.service.SubmitMessage(
            contentType="application/json",
            payload=message.body,
            _soapheaders={"Manifest": message.headers["Lgsp-Manifest"]},
        )
        assert (receipt.state, receipt.receiver, receipt.repeated) == ("accepted", [RECEIVER], False)
        ids.append(receipt.messageId)
    fetched = {one.messageId: one for one in receiver.service.FetchInbox(wait=5, max=200)}
    assert fetched[ids[0]].payload == message.body
    assert receiver.service.AckDelivery(deliveryId=fetched[ids[0]].deliveryId) == "delivered"
    name = fetched[ids[1]].deliveryId
    assert receiver.service.NackDelivery(deliveryId=name, reason="thiếu", final=True) == "dead"
    assert [sender.service.GetStatus(messageId=one).state for one in ids] == ["delivered", "dead"]
    assert sender.service.GetReceipt(messageId=ids[0]).delivery[0].receiver == RECEIVER
    with pytest.raises(zeep.exceptions.Fault) as refused:
        sender.service.GetStatus(messageId=str(uuid.uuid4()))
    problem = refused.value.detail.find(".//{*}Problem/{*}reason")
    assert problem.text == "message-unknown"
    sender.transport.session.close()
    receiver.transport.session.close()


def test_zeep_sends_an_attested_message_with_the_exchange_block(world: World, wsdl: bytes) -> None:
    made = client(wsdl, "Soap11", world, SENDING)
    block = {"Service": NOTE, "Receiver": [RECEIVER], "MessageId": str(uuid.uuid4())}
    receipt = made.service.SubmitMessage(
        contentType="application/json",
        payload=BODY,
        attachment=[{"name": "a.txt", "contentType": "text/plain", "content": b"abc"}],
        _soapheaders={"Exchange": block},
    )
    assert receipt.messageId == block["MessageId"]
    made.transport.session.close()


def test_the_envelopes_of_the_wire_protocol_pass_the_gate() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "wire-protocol.md").read_text(encoding="utf-8")
    shown = re.findall(r"```xml\n(<soap:Envelope.*?)```", page, flags=re.DOTALL)
    assert len(shown) == 2
    for text, version in zip(shown, (SoapVersion.V11, SoapVersion.V12), strict=True):
        envelope = read_soap(text.encode(), version.media_type, understood=UNDERSTOOD)
        assert envelope.version is version
        assert facts_of(envelope, {})
