"""Notices by SMS, and the citizens' "HS <code>" that comes back: three carriers, one service ``notice.sms``.

::

    {"to": "0900000001", "template": "dossier-received", "parameters": {"MaHoSo": "…", "NgayHenTra": "…"}}

    vinaphone  POST <url>  {"RQST": {"name": "send_sms_list", "REQID", "LABELID", "CONTRACTTYPEID", "CONTRACTID",
                            "TEMPLATEID", "PARAMS": [{"NUM": "1", "CONTENT": "…"}], "SCHEDULETIME": "", "MOBILELIST",
                            "ISTELCOSUB", "AGENTID", "APIUSER", "APIPASS", "USERNAME", "DATACODING": "0"}}
                           → {"RPLY": {"ERROR": "0"}}
    viettel    POST <url>  SOAP 1.1 {http://impl.bulkSms.ws/}wsCpMt {User, Password, CPCode, RequestID, UserID,
                           ReceiverID, ServiceID, CommandCode, Content, ContentType}
                           → wsCpMtResponse/return {message, result "1"}
    lgsp       POST <url>  {"content", "sender", "receiver", "applicationTitle"} → {"result": "SUCCESSFUL"}

Source: vietnam.md 4.22; the namespace and the reply of wsCpMt: code of several living clients. "0" is success at one
carrier and "1" at the other, so success is by carrier and exact.

Numbers go out as 84… whatever way they were written (P13). A text that is longer than the carrier takes is refused, not
cut. Nothing is sent twice here: one call for a delivery, the message id as the carrier's request id, and the outbox
tries again with growing pauses (a client in use loops eight times without any, P36).

Endpoint settings: ``carrier``; ``templates`` and ``limits`` over schemas/partners/sms/templates.json; ``success_codes``
and ``final_codes`` (any other code is tried again); for vinaphone ``label_id``, ``contract_type_id``, ``contract_id``,
``agent_id``, ``username``, ``is_telco_sub`` and ``template_ids`` (our template → the carrier's approved one); for
viettel ``cp_code``, ``service_id``, ``command_code``, ``content_type``; for lgsp ``sender``, ``application_title``,
``result_member``, and ``auth`` (``oauth2``, the default, with ``token_path``, or those of ``rest``); ``inbound`` for
:class:`SmsReceiver`. The secret is ``user:password``.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from connectors.base import Answer, Incoming, Outcome, Parcel, PartnerCall, Reply, message_id_of
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import (
    code_text,
    name_and_password,
    payload_object,
    reply_object,
    setting_mapping,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import authorization, fixed_headers, kept, question_headers
from connectors.sms_text import SmsText, check_length, limits_of, render, template_named
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.codes import DOSSIER_STATUSES
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode
from schemas.problem import (
    InvalidReply,
    Malformed,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
)
from schemas.soap import SoapVersion, fault_code, read_soap_reply, write_soap
from schemas.text import normalize_phone, unaccented

NAMESPACE: Final = "http://impl.bulkSms.ws/"
STATUS_QUERY: Final = "dossier.status-query"


# ---- Sending


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """One notice on its way to one carrier."""

    id: str
    #: Country code and number, digits only.
    number: str
    template: str
    text: SmsText


class SmsConnector:
    """Hands notices to a carrier. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the carrier's answer, byte for byte."""
        name = setting_text(endpoint, "carrier")
        carrier = CARRIERS.get(name)
        if carrier is None:
            raise ProviderUnavailable("endpoint-invalid", setting="carrier")
        notice = _notice(parcel, endpoint, name)
        body = carrier.write(notice, endpoint, secret)
        headers = question_headers(parcel, endpoint, carrier.headers)

        def call(proof: Mapping[str, str], seconds: float) -> Reply:
            return self._http.request(
                "POST", endpoint.url, headers={**headers, **proof}, body=body, timeout_seconds=seconds
            )

        if carrier.has_password_inside:
            reply = call({}, endpoint.timeout_seconds)
        elif setting_text(endpoint, "auth", "oauth2") != "oauth2":
            reply = call(authorization(endpoint, secret), endpoint.timeout_seconds)
        else:
            reply = self._calls.make(
                lambda bearer, seconds: call({"Authorization": bearer}, seconds),
                endpoint,
                secret,
                token_url=place(endpoint, "token_path", "token"),
                headers=fixed_headers(endpoint),
                form="grant_type=client_credentials",
            )
        _judge(carrier.read(check_status(reply), endpoint), endpoint, carrier.success)
        return kept(reply)

    def close(self) -> None:
        self._http.close()


def _notice(parcel: Parcel, endpoint: Endpoint, carrier: str) -> _Notice:
    """Raises ProviderRejected for a number, a template or parameters that no notice can be made of."""
    payload = payload_object(parcel)
    template = template_named(payload.get("template"), setting_mapping(endpoint, "templates"))
    text = render(template, payload.get("parameters", {}))
    check_length(text, limits_of(carrier, setting_mapping(endpoint, "limits")))
    return _Notice(
        id=parcel.manifest.message_id, number=carrier_number(payload.get("to")), template=payload["template"], text=text
    )


def carrier_number(text: object) -> str:
    """``84900000001``. Only a leading country code is one: 0848 400 084 keeps all of its 84s (P13)."""
    try:
        return normalize_phone(text if isinstance(text, str) else "")[1:]
    except Malformed:
        raise ProviderRejected("payload-not-for-partner", member="to") from None


def _judge(code: str, endpoint: Endpoint, success: str) -> None:
    """Raise ProviderRejected by ``final_codes``, ProviderUnavailable for other codes that are no success."""
    if code in setting_texts(endpoint.settings, "success_codes", (success,)):
        return
    if code in setting_texts(endpoint.settings, "final_codes", ()):
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    raise ProviderUnavailable("partner-says-later", code=shown_code(code))


# ---- Carriers


def _vinaphone(notice: _Notice, endpoint: Endpoint, secret: bytes | None) -> bytes:
    user, password = name_and_password(secret)
    number = setting_mapping(endpoint, "template_ids").get(notice.template)
    if not isinstance(number, str):
        raise ProviderUnavailable("endpoint-invalid", setting="template_ids")
    values = [{"NUM": str(at), "CONTENT": value} for at, value in enumerate(notice.text.values, start=1)]
    request = {
        "name": "send_sms_list",
        "REQID": notice.id,
        "LABELID": setting_text(endpoint, "label_id"),
        "CONTRACTTYPEID": setting_text(endpoint, "contract_type_id"),
        "CONTRACTID": setting_text(endpoint, "contract_id"),
        "TEMPLATEID": number,
        "PARAMS": values,
        "SCHEDULETIME": "",
        "MOBILELIST": notice.number,
        "ISTELCOSUB": setting_text(endpoint, "is_telco_sub", "0"),
        "AGENTID": setting_text(endpoint, "agent_id"),
        "APIUSER": user,
        "APIPASS": password,
        "USERNAME": setting_text(endpoint, "username"),
        "DATACODING": "0",
    }
    return write_json({"RQST": request})


def _vinaphone_code(reply: Reply, endpoint: Endpoint) -> str:
    inner = reply_object(reply).get("RPLY")
    return _code(inner.get("ERROR") if isinstance(inner, Mapping) else None)


def _viettel(notice: _Notice, endpoint: Endpoint, secret: bytes | None) -> bytes:
    user, password = name_and_password(secret)
    members = {
        "User": user,
        "Password": password,
        "CPCode": setting_text(endpoint, "cp_code"),
        "RequestID": notice.id,
        "UserID": notice.number,
        "ReceiverID": notice.number,
        "ServiceID": setting_text(endpoint, "service_id"),
        "CommandCode": setting_text(endpoint, "command_code", "bulksms"),
        "Content": notice.text.text,
        "ContentType": setting_text(endpoint, "content_type", "1" if notice.text.is_unicode else "0"),
    }
    # The members have no namespace: the carrier's stack reads them so and no other way.
    inside = "".join(f"<{name}>{escape(value, quote=False)}</{name}>" for name, value in members.items())
    return write_soap(SoapVersion.V11, f'<impl:wsCpMt xmlns:impl="{NAMESPACE}">{inside}</impl:wsCpMt>'.encode())


def _viettel_code(reply: Reply, endpoint: Endpoint) -> str:
    envelope = read_soap_reply(reply.body, reply.content_type)
    fault = fault_code(envelope)
    if fault is not None:
        raise ProviderUnavailable("partner-says-later", code=shown_code(fault[0]))
    return _code(envelope.payload.findtext("{*}return/{*}result"))


def _lgsp(notice: _Notice, endpoint: Endpoint, secret: bytes | None) -> bytes:
    return write_json(
        {
            "content": notice.text.text,
            "sender": setting_text(endpoint, "sender"),
            "receiver": notice.number,
            "applicationTitle": setting_text(endpoint, "application_title"),
        }
    )


def _lgsp_code(reply: Reply, endpoint: Endpoint) -> str:
    try:
        document = read_json(reply.body)
    except Problem:
        raise InvalidReply("reply-not-readable") from None
    if isinstance(document, Mapping):
        document = document.get(setting_text(endpoint, "result_member", "result"))
    return _code(document)


def _code(given: object) -> str:
    """Raises InvalidReply for an answer without a code."""
    code = code_text(given)
    if not code:
        raise InvalidReply("reply-not-readable")
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """How one carrier is spoken to: what is written, which code comes back, and which one is success."""

    write: Callable[[_Notice, Endpoint, bytes | None], bytes]
    read: Callable[[Reply, Endpoint], str]
    success: str
    headers: Mapping[str, str]
    #: The password travels in the document, so no header proves who calls.
    has_password_inside: bool = True


_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}
CARRIERS: Final[Mapping[str, Carrier]] = {
    "vinaphone": Carrier(write=_vinaphone, read=_vinaphone_code, success="0", headers=_JSON),
    "viettel": Carrier(
        write=_viettel,
        read=_viettel_code,
        success="1",
        headers={"Content-Type": f"{SoapVersion.V11.media_type}; charset=utf-8", "SOAPAction": '""'},
    ),
    "lgsp": Carrier(write=_lgsp, read=_lgsp_code, success="SUCCESSFUL", headers=_JSON, has_password_inside=False),
}


# ---- A citizen asks


class SmsReceiver:
    """Makes "HS H99.15-260423-0001" a question to the one-stop, and its reply a text.

    ::

        POST /partners/<agency>/<system>/mo   Authorization: Basic user:password
        {"requestId": "…", "sender": "84900000001", "content": "HS H99.15-260423-0001"}
        → {"result": "SUCCESSFUL", "receiver": "84900000001", "content": "Ho so …: Dang xu ly"}

    The form of what carriers push is unverified, so the members' names are ``inbound["members"]``. ``inbound`` has the
    ``receiver`` of the questions besides, ``keywords`` (HS) and ``service``. The carrier proves itself with the
    endpoint's secret.
    """

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`. A text that is no question is answered with how to ask."""
        _prove(call, secret)
        inbound = setting_mapping(endpoint, "inbound")
        asked = _Asked.read(call, inbound)
        keywords = setting_texts(inbound, "keywords", ("HS",))
        dossier = _dossier(asked.text, keywords)
        if dossier is None:
            return _said("SUCCESSFUL", asked.number, _text("status-usage", TuKhoa=(*keywords, "HS")[0]))
        receiver = inbound.get("receiver")
        if not isinstance(receiver, str):
            raise ProviderUnavailable("endpoint-invalid", setting="inbound")
        return Incoming(
            service=ServiceCode(inbound.get("service", STATUS_QUERY)),
            receivers=(AgencyCode(receiver),),
            body=write_json({"MaHoSo": dossier, "SoDienThoai": asked.number, "Kenh": "sms"}),
            content_type="application/json",
            message_id=message_id_of(call.system, "mo", asked.id),
            dossier=dossier,
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """The text that the citizen gets."""
        payload = read_json(incoming.body)
        number, code = payload["SoDienThoai"], payload["MaHoSo"]
        if isinstance(outcome, Problem):
            template = "status-not-now" if outcome.retryable else "status-unknown"
            return _said("FAILED", number, _text(template, MaHoSo=code), outcome.status)
        status = _status(outcome) if isinstance(outcome, Reply) else {}
        try:
            text = _text("status-answer-due" if "NgayHenTra" in status else "status-answer", MaHoSo=code, **status)
        except ProviderRejected:
            # No state, or one that is no line of text: the question is recorded all the same.
            text = _text("status-later", MaHoSo=code)
        return _said("SUCCESSFUL", number, text)

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        return _said("FAILED", "", unaccented(problem.detail("vi")), problem.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    id: str
    number: str
    text: str

    @classmethod
    def read(cls, call: PartnerCall, inbound: Mapping[str, Any]) -> _Asked:
        """Raises Malformed ``sms-call-unreadable``, without a word of what came."""
        names = {"id": "requestId", "number": "sender", "text": "content"}
        own = inbound.get("members")
        names |= {name: str(own[name]) for name in names if isinstance(own, Mapping) and name in own}
        document = read_json(call.body) if call.method == "POST" else None
        if not isinstance(document, Mapping):
            raise Malformed("sms-call-unreadable", member="(root)")
        given = {name: document.get(member) for name, member in names.items()}
        for name, value in given.items():
            if not isinstance(value, str) or not value.strip() or len(value) > 1000:
                raise Malformed("sms-call-unreadable", member=names[name])
        try:
            number = normalize_phone(str(given["number"]))[1:]
        except Malformed:
            raise Malformed("sms-call-unreadable", member=names["number"]) from None
        return cls(id=str(given["id"]), number=number, text=str(given["text"]))


def _prove(call: PartnerCall, secret: bytes | None) -> None:
    user, password = name_and_password(secret)
    expected = base64.b64encode(f"{user}:{password}".encode())
    scheme, _, given = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or not hmac.compare_digest(given.strip().encode(), expected):
        raise NotIdentified("sms-caller-unknown")


def _dossier(text: str, keywords: tuple[str, ...]) -> DossierCode | None:
    """The code in ``HS <code>``; telephones change case and put spaces where none were."""
    words = unaccented(text).upper().split()
    if len(words) < 2 or words[0] not in (keyword.upper() for keyword in keywords):
        return None
    try:
        return DossierCode(re.sub(r"\s", "", "".join(words[1:])))
    except Malformed:
        return None


def _status(reply: Reply) -> dict[str, str]:
    """State and due date in a reply, as text; a national status by its name."""
    try:
        document = read_json(reply.body)
    except Problem:
        document = None
    given = document if isinstance(document, Mapping) else {}
    found = {name: str(given[name]) for name in ("TrangThai", "NgayHenTra") if given.get(name)}
    known = DOSSIER_STATUSES.get(found.get("TrangThai", ""))
    return {**found, "TrangThai": known.name} if known else found


def _text(template: str, **parameters: str) -> str:
    """Raises ProviderRejected for values that make no notice of the length that every carrier takes."""
    text = render(template_named(template, {}), parameters)
    check_length(text, limits_of("lgsp", {}))
    return text.text


def _said(result: str, number: str, text: str, status: int = 200) -> Answer:
    return Answer(status=status, body=write_json({"result": result, "receiver": number, "content": text}))
