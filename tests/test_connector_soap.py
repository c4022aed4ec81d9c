"""The SOAP connector, bound to the contract, and what is its own: framing, headers as data, faults, hostile answers."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from connectors import soap
from connectors.base import Parcel, Reply
from connectors.http import HttpClient
from connectors.sandbox import generic_soap
from connectors.soap import SoapConnector
from registry.model import Endpoint, HttpCall, SoapCall
from schemas.codec import read_xml
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import InvalidReply, Problem, ProviderFailure, ProviderRejected, ProviderUnavailable
from schemas.soap import SECURITY_BLOCK, SoapVersion, payload_bytes, read_soap
from security.keys import PublicKeyRecord, SigningKey
from security.ws_security import verify_ws_security
from tests.connector_contract import KEY, Binding, ConnectorContract, parcel_of
from tests.loopback import saying, serving

WSDL = generic_soap.WSDL
NS = generic_soap.NAMESPACE
CALL = SoapCall(wsdl=WSDL, operation="NhanHoSo")
CALL_12 = replace(CALL, port="Soap12")
ANSWER = f'<a:NhanHoSoTraLoi xmlns:a="{NS}"><a:DaNhan>true</a:DaNhan><a:NhanLai>false</a:NhanLai></a:NhanHoSoTraLoi>'
ENV_11, ENV_12 = SoapVersion.V11.namespace, SoapVersion.V12.namespace
#: A partner's text that must not come back.
PRIVATE = "bí mật 099199000001"


def payload(number: int = 1) -> bytes:
    return (
        f'<NhanHoSo xmlns="{NS}"><MaHoSo>H99.15-260423-{number:04d}</MaHoSo><ChuHoSo>NGUYỄN VĂN A</ChuHoSo></NhanHoSo>'
    ).encode()


class TestSoap(ConnectorContract):
    bound = Binding(
        connector="soap",
        twin="generic",
        path="/generic/soap/NhanHoSo",
        operation="NhanHoSo",
        service="dossier.transfer",
        payload=payload,
        effects=lambda state: state["received"],
        settings={"auth": "bearer"},
        logs_in=False,
        secret_of=lambda credential: credential.partition(":")[2],
        content_type="application/xml",
        call=CALL,
    )


class TestSoap12(TestSoap):
    bound = replace(TestSoap.bound, call=CALL_12)


def _parcel(body: bytes | None = None, call: Any = CALL) -> Parcel:
    body = payload() if body is None else body
    return parcel_of("dossier.transfer", body, content_type="application/xml", call=call)


def _envelope(content: str, header: str = "", namespace: str = ENV_11) -> str:
    return f'<s:Envelope xmlns:s="{namespace}">{header}<s:Body>{content}</s:Body></s:Envelope>'


def _fault(code: str, text: str = PRIVATE) -> str:
    return _envelope(f"<s:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring></s:Fault>")


def _fault_12(code: str) -> str:
    return _envelope(
        f'<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code><s:Reason><s:Text xml:lang="vi">{PRIVATE}</s:Text>'
        "</s:Reason></s:Fault>",
        namespace=ENV_12,
    )


def _deliver(
    parcel: Parcel,
    answer: Callable[[], Response] | None = None,
    *,
    secret: bytes | None = None,
    now: datetime | None = None,
    below: str = "",
    **settings: Any,
) -> tuple[Reply, dict[str, str], bytes]:
    """The reply, and the headers and body of the one request that was made."""
    app = Flask("provider")
    seen: list[bytes] = []

    def take(where: str = "") -> Response:
        seen.append(request.get_data())
        seen_headers.update({name.lower(): value for name, value in request.headers.items()})
        return answer() if answer else Response(_envelope(ANSWER), content_type="text/xml")

    app.add_url_rule("/", view_func=take, methods=["POST"], endpoint="root")
    app.add_url_rule("/<path:where>", view_func=take, methods=["POST"])
    seen_headers: dict[str, str] = {}
    http = HttpClient()
    with serving(app) as server:
        connector = SoapConnector(http, lambda: now) if now else SoapConnector(http)
        try:
            endpoint = Endpoint(connector="soap", url=server.url + below, timeout_seconds=5.0, settings=settings)
            reply = connector.deliver(parcel, endpoint, secret)
        except Problem as problem:
            told = [str(problem), problem.detail("vi"), repr(problem), *map(str, problem.facts.values())]
            hidden = [server.url, PRIVATE, "099199000001", *([secret.decode()] if secret else [])]
            assert not any(word in text for word in hidden for text in told)
            raise
        finally:
            connector.close()
    assert len(seen) == 1
    return reply, seen_headers, seen[0]


# ---- Framing


def test_the_payload_travels_as_the_bytes_it_is() -> None:
    odd = b'\xef\xbb\xbf<?xml version="1.0"?>\n' + payload().replace(b"<MaHoSo>", b"<MaHoSo  ><![CDATA[]]>")
    _, headers, sent = _deliver(_parcel(odd))
    assert odd[odd.index(b"<NhanHoSo") :] in sent
    assert headers["content-type"] == "text/xml; charset=utf-8"
    assert headers["soapaction"] == f'"{NS}/NhanHoSo"'
    assert read_soap(sent, "text/xml", headers["soapaction"]).payload.tag == generic_soap.REQUEST


def test_soap_1_2_names_its_action_in_the_content_type() -> None:
    _, headers, sent = _deliver(_parcel(call=CALL_12))
    assert headers["content-type"] == f'application/soap+xml; charset=utf-8; action="{NS}/NhanHoSo"'
    assert "soapaction" not in headers
    assert ENV_12.encode() in sent


def test_the_message_headers_are_those_of_rest() -> None:
    parcel = _parcel()
    _, headers, _ = _deliver(parcel, headers={"dstcode": "VN:GOV:H99:x"})
    assert headers["idempotency-key"] == parcel.manifest.message_id
    assert headers["lgsp-manifest"] == parcel.manifest_jws
    assert headers["lgsp-receiver"] == "H99.16"
    assert headers["traceparent"] == parcel.traceparent
    assert headers["dstcode"] == "VN:GOV:H99:x"


def test_the_reply_is_the_payload_alone_and_the_whole_answer_is_kept() -> None:
    whole = _envelope(
        f"<!-- x -->\n {ANSWER}\n",
        '<s:Header><m:Manifest xmlns:m="urn:lgsp:exchange:1"> a.b.c </m:Manifest></s:Header>',
    )
    reply, _, _ = _deliver(_parcel(), lambda: Response(whole, content_type="text/xml", headers={"Lgsp-Manifest": "no"}))
    assert reply.body == ANSWER.encode()
    assert reply.content_type == "application/xml"
    assert reply.original == whole.encode()
    assert reply.headers == {"lgsp-manifest": "a.b.c"}
    assert read_xml(reply.body).tag == f"{{{NS}}}NhanHoSoTraLoi"


def test_the_address_of_the_registry_wins_over_the_wsdls_and_may_name_the_operation() -> None:
    app = Flask("provider")
    app.add_url_rule("/dan-cu/v1/NhanHoSo", view_func=lambda: _envelope(ANSWER), methods=["POST"])
    connector = SoapConnector(HttpClient())
    with serving(app) as server:
        wsdl = WSDL.replace("{address}", "http://10.1.2.3/khong-ai-toi-duoc")
        endpoint = Endpoint(connector="soap", url=f"{server.url}/dan-cu/v1", settings={"path": "{operation}"})
        assert connector.deliver(_parcel(call=replace(CALL, wsdl=wsdl)), endpoint, None).status == 200
        in_wsdl = WSDL.replace("{address}", f"{server.url}/dan-cu/v1/NhanHoSo")
        connector.deliver(_parcel(call=replace(CALL, wsdl=in_wsdl)), Endpoint(connector="soap", url=""), None)
    connector.close()


def test_a_one_way_operation_ends_with_an_empty_answer() -> None:
    one_way = replace(CALL, operation="BaoTin")
    for content in ("", _envelope("")):
        reply, headers, _ = _deliver(_parcel(call=one_way), lambda c=content: Response(c, status=202))  # type: ignore[misc]
        assert (reply.status, reply.body, headers["soapaction"]) == (202, b"", '""')
    with pytest.raises(InvalidReply):
        _deliver(_parcel(call=one_way), lambda: Response("<html/>", content_type="text/html"))
    with pytest.raises(ProviderRejected):
        _deliver(_parcel(call=one_way), lambda: Response(_fault("s:Client"), status=500, content_type="text/xml"))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<a/>", payload().replace(NS.encode(), b"urn:other"), b"<!DOCTYPE a []>" + payload()]
)
def test_a_payload_that_is_not_the_operations_never_leaves(body: bytes) -> None:
    connector = SoapConnector(HttpClient())
    with pytest.raises(ProviderRejected) as caught:
        connector.deliver(_parcel(body), Endpoint(connector="soap", url="http://127.0.0.1:9"), None)
    assert caught.value.reason == "payload-not-for-partner"
    connector.close()


@pytest.mark.parametrize(
    "call, setting",
    [
        (None, "provider.soap"),
        (HttpCall(), "provider.soap"),
        (replace(CALL, wsdl="<nothing/>"), "provider.soap.wsdl"),
        (replace(CALL, operation="Khac"), "provider.soap.operation"),
        (replace(CALL, port="Khac"), "provider.soap.port"),
        (replace(CALL, operation="BaoTin", port="Soap12"), "provider.soap.operation"),
    ],
)
def test_a_registration_that_cannot_be_called_waits_for_the_registrar(call: Any, setting: str) -> None:
    connector = SoapConnector(HttpClient())
    with pytest.raises(ProviderUnavailable) as caught:
        connector.deliver(_parcel(call=call), Endpoint(connector="soap", url="http://127.0.0.1:9"), None)
    assert caught.value.facts == {"setting": setting}
    connector.close()


def test_eight_threads_read_a_wsdl_once(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: list[str] = []
    real = soap.describe_wsdl
    monkeypatch.setattr(soap, "describe_wsdl", lambda text: (readings.append(text), real(text))[1])
    contracts = soap.Contracts(most=2)
    start = threading.Barrier(8)

    def find() -> None:
        start.wait()
        contracts.find(CALL)

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 1
    for number in range(3):
        contracts.find(replace(CALL, wsdl=f"{WSDL}<!-- {number} -->"))
    contracts.find(CALL)
    assert len(readings) == 5


# ---- Headers as data

POPULATION = {
    "soap_action": "",
    "content_type": "application/xml",
    "http_headers": {
        "Timestamp": "{timestamp_ms}",
        "Authorization": "Basic {base64({secret.user}:{sha256({url_path}{secret.user}{timestamp_ms}{secret.secret})})}",
        "X-Road-Client": "VN/GOV/H99/lgsp",
        "ApiKey": "{secret.api_key}",
    },
}
#: vietnam.md 4.11
DIGEST = "a3c962038d01270c27b35938db96640338ff2d93d76caedad25c47c8e7ea3bf8"
MOMENT = datetime.fromtimestamp(1776913200, UTC)


def test_the_population_databases_headers_are_data() -> None:
    secret = json.dumps({"user": "sandbox", "secret": "SANDBOX-SECRET-02", "api_key": "K-1"}).encode()
    path = "/cong-dan/v1/XacThucThongTinCongDan"
    _, headers, _ = _deliver(_parcel(), secret=secret, now=MOMENT, below=path, **POPULATION)
    assert headers["timestamp"] == "1776913200000"
    scheme, _, credential = headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credential).decode()) == ("Basic", f"sandbox:{DIGEST}")
    assert (headers["x-road-client"], headers["apikey"]) == ("VN/GOV/H99/lgsp", "K-1")
    assert (headers["soapaction"], headers["content-type"]) == ('""', "application/xml")


def test_the_provincial_wrapper_takes_its_keys_as_json_in_base64() -> None:
    keys = {"AccessKey": "a", "SecretKey": "b", "AppName": "c", "PartnerCode": "d", "PartnerCodeCus": "e"}
    template = "{base64({secret_json(AccessKey,SecretKey,AppName,PartnerCode,PartnerCodeCus)})}"
    _, headers, _ = _deliver(
        _parcel(), secret=json.dumps({**keys, "token": "t"}).encode(),
        http_headers={"lgspaccesstoken": template, "Authorization": "Bearer {secret.token}"},
    )  # fmt: skip
    assert json.loads(base64.b64decode(headers["lgspaccesstoken"])) == keys
    assert headers["authorization"] == "Bearer t"


def test_header_blocks_are_templates_whose_values_cannot_break_out() -> None:
    block = (
        '<w:Security xmlns:w="urn:w"><w:Username>{secret.user}</w:Username><w:Password>{secret.password}</w:Password>'
        "<w:At>{timestamp_iso}</w:At><w:Id>{message_id}</w:Id></w:Security>"
    )
    parcel = _parcel()
    _, _, sent = _deliver(parcel, secret=b"u:<p>&amp;", now=MOMENT, soap_headers=[block])
    found = read_soap(sent, "text/xml").blocks["{urn:w}Security"]
    assert [child.text for child in found] == ["u", "<p>&amp;", "2026-04-23T03:00:00Z", parcel.manifest.message_id]


@pytest.mark.parametrize(
    "settings, secret, reason",
    [
        ({"http_headers": {"A": "{nothing}"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{secret.nothing}"}}, b'{"a": "b"}', "endpoint-secret-missing"),
        ({"http_headers": {"A": "{secret}"}}, None, "endpoint-secret-missing"),
        ({"http_headers": {"A": "{secret}"}}, b"\xff", "endpoint-secret-missing"),
        ({"http_headers": {"A": "{secret.a}"}}, b'{"a": 1}', "endpoint-secret-missing"),
        ({"http_headers": {"A": "{secret.a}"}}, b'{"a": "x\\r\\nB: y"}', "endpoint-invalid"),
        ({"http_headers": {"A": "{secret"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{sha1(x)}"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{sha256(x)"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{sha256(x)}}"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{secret_json()}"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "{base64(" * 50 + "x" + ")}" * 50}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": "x" * 9000}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": ""}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A": 1}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"A b": "x"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"Lgsp-Manifest": "x"}}, b"x", "endpoint-invalid"),
        ({"http_headers": {"SOAPAction": "x"}}, b"x", "endpoint-invalid"),
        ({"http_headers": ["x"]}, b"x", "endpoint-invalid"),
        ({"soap_headers": ["<a>{user}"]}, b"x", "endpoint-invalid"),
        ({"soap_headers": ["<a/><b/>"]}, b"x", "endpoint-invalid"),
        ({"soap_headers": "<a/>"}, b"x", "endpoint-invalid"),
        ({"soap_action": 'a"; x="'}, b"x", "endpoint-invalid"),
        ({"soap_action": None}, b"x", "endpoint-invalid"),
        ({"content_type": "text/xml\r\nX: y"}, b"x", "endpoint-invalid"),
        ({"path": 7}, b"x", "endpoint-invalid"),
        ({"auth": "magic"}, b"x", "endpoint-invalid"),
    ],
)
def test_settings_that_would_forge_a_request_never_leave(settings: Any, secret: bytes | None, reason: str) -> None:
    connector = SoapConnector(HttpClient())
    with serving(Flask("nobody")) as server:
        with pytest.raises(ProviderUnavailable) as caught:
            connector.deliver(_parcel(), Endpoint(connector="soap", url=server.url, settings=settings), secret)
        assert caught.value.reason == reason
        assert server.requests == []
    connector.close()


# ---- WS-Security


class _OneKey:
    """A directory of one registered key."""

    def __init__(self, key: SigningKey) -> None:
        self._record = PublicKeyRecord(
            key_id=key.key_id,
            public_key=key.public_key,
            algorithm=key.algorithm,
            thumbprint=key.thumbprint,
            system=SystemCode("H99.15/mot-cua"),
            agency=SystemCode("H99.15/mot-cua").agency,
            not_before=utc_now() - timedelta(days=1),
            not_after=utc_now() + timedelta(days=1),
        )

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self._record if key_id == self._record.key_id else None


@pytest.mark.parametrize(
    "algorithm, settings", [("ES256", {}), ("PS256", {}), ("PS256", {"algorithm": "rsa-pss-sha256"})]
)
@pytest.mark.parametrize("call", [CALL, CALL_12], ids=["1.1", "1.2"])
def test_a_signed_envelope_verifies_and_keeps_its_payload(algorithm: Any, settings: Any, call: SoapCall) -> None:
    key = SigningKey.generate(algorithm)
    block = '<t:Toi xmlns:t="urn:t">{sender}</t:Toi>'
    _, headers, sent = _deliver(
        _parcel(call=call),
        secret=key.to_pem(),
        soap_headers=[block],
        ws_security={**settings, "lifetime_seconds": 60, "signed_blocks": ["{urn:t}Toi"]},
    )
    envelope = read_soap(sent, headers["content-type"], understood=frozenset({SECURITY_BLOCK}))
    record = verify_ws_security(envelope, _OneKey(key), utc_now(), 5, signed_blocks=frozenset({"{urn:t}Toi"}))
    assert record.key_id == key.key_id
    assert payload_bytes(envelope.payload) == payload_bytes(read_xml(payload()))


def test_the_signing_key_may_stand_beside_other_secrets_and_is_read_once() -> None:
    key = SigningKey.generate()
    secret = json.dumps({"token": "t", "pem": key.to_pem().decode()}).encode()
    _, headers, sent = _deliver(
        _parcel(), secret=secret, ws_security={}, http_headers={"Authorization": "Bearer {secret.token}"}
    )
    assert headers["authorization"] == "Bearer t"
    assert SECURITY_BLOCK in read_soap(sent, "text/xml", understood=frozenset({SECURITY_BLOCK})).blocks
    assert key.to_pem() not in sent


KEY_ONLY = SigningKey.generate().to_pem().partition(b"-----BEGIN CERT")[0]


@pytest.mark.parametrize(
    "wanted, secret, reason",
    [
        ({}, None, "endpoint-secret-missing"),
        ({}, b"token", "endpoint-secret-missing"),
        ({}, b'{"token": "t"}', "endpoint-secret-missing"),
        ({}, KEY_ONLY, "endpoint-secret-missing"),
        ({}, KEY_ONLY + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "endpoint-secret-missing"),
        ({}, KEY_ONLY + KEY.certificate_pem.encode(), "endpoint-secret-missing"),
        ({"algorithm": "rsa-sha1"}, KEY.to_pem(), "endpoint-invalid"),
        ({"lifetime_seconds": 86400}, KEY.to_pem(), "endpoint-invalid"),
        ({"signed_blocks": ["{urn:t}Nothing"]}, KEY.to_pem(), "endpoint-invalid"),
        ({"signed_blocks": "x"}, KEY.to_pem(), "endpoint-invalid"),
        ({"must_understand": "no"}, KEY.to_pem(), "endpoint-invalid"),
        ({"nonsense": 1}, KEY.to_pem(), "endpoint-invalid"),
        (True, KEY.to_pem(), "endpoint-invalid"),
    ],
)
def test_what_cannot_sign_never_leaves(wanted: Any, secret: bytes | None, reason: str) -> None:
    connector = SoapConnector(HttpClient())
    endpoint = Endpoint(connector="soap", url="http://127.0.0.1:9", settings={"ws_security": wanted})
    with pytest.raises(ProviderUnavailable) as caught:
        connector.deliver(_parcel(), endpoint, secret)
    assert caught.value.reason == reason
    connector.close()


def test_the_examples_of_the_manual_work() -> None:
    """Every endpoint in docs/partners/soap.md, with a secret that has all parts that any of them names."""
    manual = Path("docs/partners/soap.md").read_text("utf-8")
    examples = [json.loads(found) for found in re.findall(r"```json\n(.*?)```", manual, re.DOTALL)]
    assert len(examples) >= 4
    names = ("user", "password", "secret", "api_key", "token", "AccessKey", "SecretKey", "AppName", "PartnerCode")
    secret = {**dict.fromkeys((*names, "PartnerCodeCus"), "x"), "pem": SigningKey.generate().to_pem().decode()}
    for example in examples:
        assert example["connector"] == "soap"
        reply, _, _ = _deliver(_parcel(), secret=json.dumps(secret).encode(), **example["settings"])
        assert reply.status == 200


# ---- Faults and hostile answers


@pytest.mark.parametrize(
    "status, answer, problem, reason",
    [
        (500, _fault("s:Client"), ProviderRejected, "provider-fault"),
        (200, _fault("s:Client"), ProviderRejected, "provider-fault"),
        (400, _fault("Client.Authentication"), ProviderRejected, "provider-fault"),
        (500, _fault("s:Server"), ProviderUnavailable, "provider-fault-not-now"),
        (200, _fault("s:Server.Busy"), ProviderUnavailable, "provider-fault-not-now"),
        (500, _fault("s:MustUnderstand"), ProviderRejected, "provider-fault"),
        (500, _fault("s:VersionMismatch"), ProviderRejected, "provider-fault"),
        (500, _fault("q:FailedAuthentication"), ProviderUnavailable, "provider-login-failed"),
        (500, _fault("LOI-17 " + PRIVATE), ProviderRejected, "provider-fault"),
        (500, _fault(""), ProviderRejected, "provider-fault"),
        (500, _envelope("<s:Fault/>"), ProviderRejected, "provider-fault"),
        (500, _fault_12("Sender"), ProviderRejected, "provider-fault"),
        (500, _fault_12("Receiver"), ProviderUnavailable, "provider-fault-not-now"),
        (500, _envelope(ANSWER), ProviderUnavailable, "provider-busy"),
        (500, "Lỗi", ProviderUnavailable, "provider-busy"),
        (503, _fault("s:Client"), ProviderUnavailable, "provider-busy"),
        (401, _fault("s:Server"), ProviderRejected, "provider-refused"),
        (404, "", ProviderRejected, "provider-refused"),
        (302, "", ProviderUnavailable, "provider-redirected"),
    ],
)
def test_faults_and_statuses_mean_what_they_say(status: int, answer: str, problem: Any, reason: str) -> None:
    with pytest.raises(problem) as caught:
        _deliver(_parcel(), lambda: Response(answer, status=status, content_type="text/xml"))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "settings, answer, problem",
    [
        ({"retry_faults": ["Client.Busy"]}, _fault("s:Client.Busy"), ProviderUnavailable),
        ({"retry_faults": ["Hệ thống đang bận"]}, _fault("s:Client", "Hệ thống đang bận 17"), ProviderUnavailable),
        ({"retry_faults": ["bận"]}, _fault("s:Client", "Hệ thống đang bận"), ProviderRejected),
        ({"final_faults": ["Server"]}, _fault("s:Server"), ProviderRejected),
        ({"final_faults": [""]}, _fault("s:Server"), ProviderRejected),
        ({"final_faults": "Server"}, _fault("s:Server"), ProviderUnavailable),
    ],
)
def test_a_partners_own_use_of_fault_codes_is_data(settings: Any, answer: str, problem: Any) -> None:
    with pytest.raises(problem):
        _deliver(_parcel(), lambda: Response(answer, status=500, content_type="text/xml"), **settings)


BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "answer, content_type",
    [
        ("", "text/xml"),
        ("<html><body>Hệ thống đang bảo trì</body></html>", "text/html"),
        ("{}", "application/json"),
        (_envelope(ANSWER)[:-20], "text/xml"),
        (_envelope(ANSWER) + "<x/>", "text/xml"),
        (_envelope(ANSWER + ANSWER), "text/xml"),
        (_envelope(ANSWER).replace("<s:Body>", "<s:Body/><s:Body>"), "text/xml"),
        (_envelope(""), "text/xml"),
        (ANSWER, "text/xml"),
        (_envelope(ANSWER, namespace="urn:other"), "text/xml"),
        (_envelope(ANSWER.replace(NS, "urn:other")), "text/xml"),
        (_envelope(payload().decode()), "text/xml"),
        (BOMB + _envelope(ANSWER.replace("true", "&b;")), "text/xml"),
        ('<!DOCTYPE b SYSTEM "http://127.0.0.1:1/x.dtd">' + _envelope(ANSWER), "text/xml"),
        ('<!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + _envelope("&e;"), "text/xml"),
        (_envelope("<x>" * 200 + "</x>" * 200), "text/xml"),
        (_envelope(f"<x>{'<y/>' * 30_000}</x>"), "text/xml"),
        (_envelope(ANSWER).encode("utf-16"), "text/xml; charset=utf-16"),
        (_envelope(ANSWER), 'multipart/related; type="application/xop+xml"; boundary=x'),
        (b"<x>" + b" " * 11 * 1024 * 1024 + b"</x>", "text/xml"),
    ],
)
def test_an_answer_that_is_no_answer_is_invalid(answer: str | bytes, content_type: str) -> None:
    with pytest.raises(InvalidReply):
        _deliver(_parcel(), lambda: Response(answer, content_type=content_type))


def test_an_answer_without_end_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    connector = SoapConnector(HttpClient())
    with saying([head, *[chunk] * 20]) as url, pytest.raises(InvalidReply) as caught:
        connector.deliver(_parcel(), Endpoint(connector="soap", url=url), None)
    assert caught.value.reason == "reply-too-large"
    connector.close()


def test_one_bad_answer_does_not_spoil_the_next_call() -> None:
    answers = [Response("<html/>"), Response(_envelope(ANSWER))]
    app = Flask("provider")
    app.add_url_rule("/", view_func=lambda: answers.pop(0), methods=["POST"])
    connector = SoapConnector(HttpClient())
    with serving(app) as server:
        endpoint = Endpoint(connector="soap", url=server.url)
        with pytest.raises(ProviderFailure):
            connector.deliver(_parcel(), endpoint, None)
        assert connector.deliver(_parcel(), endpoint, None).body == ANSWER.encode()
    connector.close()
