"""The e-document axis (trục liên thông văn bản): official documents between agencies, as edXML.

Two variants of one protocol are alive (setting ``variant``)::

    national (VXP)    POST <url>/sendEdoc              body: the edXML; headers from, servicetype eDoc,
                                                       messagetype edoc|status
                      GET  <url>/getReceivedEdocList   headers servicetype, messagetype
                      GET  <url>/getEdoc               header docId
                      POST <url>/updateStatus          headers status done|fail|processing, docId
                      GET  <url>/getSentEdocList       headers servicetype, messagetype, docId
                      GET  <url>/getAgenciesListQD20   header level
                      → {"status": "success", "ErrorCode": "0", "ErrorDesc": "", "docId": …, "data": […]}
    provincial        POST <url>/v1/sendEdoc           multipart: edocFile, messageType
                      GET  <url>/v1/syncReceivedEdocList?messageType=&fromDate=&toDate=    yyyy/MM/dd
                      GET  <url>/v1/getEdoc?docId=     → {"success", "message", "data": {"edxml": "…"}}
                      POST <url>/v1/updateStatus       {"docId", "status"}
                      → {"success": true, "message": "OK", "docId"} or {"success": false, "data": {"errorCode"}}

The national axis takes each header as ``XroadVnpt-<name>``, with ``systemid`` and ``timestamp``
(``ddMMyyyy'T'HHmmss+SSSS``, milliseconds behind the plus), and a seal over all of them::

    XroadVnpt-sign-header:      {"XroadVnpt-systemid":"…","XroadVnpt-timestamp":"…", …}
    XroadVnpt-sign-header-key:  systemid;timestamp;…
    XroadVnpt-hash-header:      hex HMAC-SHA256 of the sign-header by the secret

The provincial one takes ``X-SystemId`` and ``X-SecretKey``. Source: vietnam.md 4.19 (VXP, LS-EOFF).

A payload in QCVN 102:2016 goes as the very bytes that its sender signed; one in the older dialect is written anew. What
the axis would refuse does not leave (``edoc-not-valid``, with the axis's codes by place), nor does a document in the
name of another agency. What comes from the axis is handed on from its root on; ``docId`` without quotes, which is no
JSON, gets them. A repeat is harmless by DocumentId.

Settings: ``variant``, ``user_agent``, ``version``, ``max_file_bytes``, ``retry_codes``, ``login_codes``,
``operations``, ``headers``; ``organ_ids``: other OrganIds under which an agency sends, by agency code; ``signatures``:
what is asked of the organisation signature, both ways, ``off``, ``if-signed`` (default) or ``required``;
``certificates``: PEM texts by agency code, ``allow_broken_sha1``. The secret is ``system id:secret key``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.partner_json import (
    code_text,
    is_success,
    name_and_password,
    operation_of,
    payload_object,
    reply_object,
    setting_mapping,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import fixed_headers, identity_headers, kept
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.edxml import (
    MAX_FILE_BYTES,
    Dialect,
    Document,
    StatusDocument,
    faults_of,
    read_edxml,
    without_stray_bytes,
    write_edxml,
)
from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import VIETNAM, utc_now
from schemas.problem import (
    FieldError,
    InvalidReply,
    Malformed,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
)
from security.certificates import key_record, read_certificate
from security.edxml_signature import verify_edxml_signature
from security.keys import PublicKeyRecord

OPERATIONS: Final = {
    "edoc.send": "sendEdoc",
    "edoc.status": "sendEdoc",
    "edoc.received": "getReceivedEdocList",
    "edoc.receive": "getEdoc",
    "edoc.acknowledge": "updateStatus",
    "edoc.sent": "getSentEdocList",
    "edoc.agencies": "getAgenciesList",
}
#: Members of a question's payload: those it needs, and those it may have.
PARAMETERS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "getReceivedEdocList": (frozenset(), frozenset({"messageType", "fromDate", "toDate"})),
    "getEdoc": (frozenset({"docId"}), frozenset()),
    "updateStatus": (frozenset({"docId", "status"}), frozenset()),
    "getSentEdocList": (frozenset(), frozenset({"messageType", "docId"})),
    "getAgenciesList": (frozenset(), frozenset({"level"})),
}
#: What a member's value looks like. They travel in headers and query strings.
VALUES: Final = {
    "docId": re.compile(r"[0-9A-Za-z-]{1,64}"),
    "messageType": re.compile(r"edoc|status"),
    "status": re.compile(r"done|fail|processing"),
    "fromDate": re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}"),
    "toDate": re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}"),
    "level": re.compile(r"[0-9]"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    method: str
    path: str
    #: Headers or parameters that every such call has.
    fixed: Mapping[str, str]
    #: The partner's names for members of the payload.
    names: Mapping[str, str]


_EDOC: Final = {"servicetype": "eDoc"}
_LISTED: Final = {"messageType": "messagetype", "docId": "docId"}
#: The two variants. The methods of the national one are the kit's, where it shows them.
NATIONAL: Final = {
    "sendEdoc": Call(method="POST", path="sendEdoc", fixed=_EDOC, names={}),
    "getReceivedEdocList": Call(method="GET", path="getReceivedEdocList", fixed=_EDOC, names=_LISTED),
    "getEdoc": Call(method="GET", path="getEdoc", fixed={}, names={"docId": "docId"}),
    "updateStatus": Call(method="POST", path="updateStatus", fixed={}, names={"docId": "docId", "status": "status"}),
    "getSentEdocList": Call(method="GET", path="getSentEdocList", fixed=_EDOC, names=_LISTED),
    "getAgenciesList": Call(method="GET", path="getAgenciesListQD20", fixed={}, names={"level": "level"}),
}
_SPAN: Final = {"messageType": "messageType", "fromDate": "fromDate", "toDate": "toDate"}
PROVINCIAL: Final = {
    "sendEdoc": Call(method="POST", path="v1/sendEdoc", fixed={}, names={}),
    "getReceivedEdocList": Call(method="GET", path="v1/syncReceivedEdocList", fixed={}, names=_SPAN),
    "getEdoc": Call(method="GET", path="v1/getEdoc", fixed={}, names={"docId": "docId"}),
    "updateStatus": Call(method="POST", path="v1/updateStatus", fixed={}, names={"docId": "docId", "status": "status"}),
    "getSentEdocList": Call(method="GET", path="v1/getSentEdocList", fixed={}, names=_SPAN | {"docId": "docId"}),
    "getAgenciesList": Call(method="GET", path="v1/getAgenciesList", fixed={}, names={}),
}
VARIANTS: Final = {"national": NATIONAL, "provincial": PROVINCIAL}

#: 20: an error of the axis itself; 15: wrong id or key, which an operator repairs (LS-EOFF).
RETRY_CODES: Final = ("20",)
LOGIN_CODES: Final = ("15",)
USER_AGENT: Final = "JAVASDKAgent/1.0.0 XRoad/VPCP"
VERSION: Final = "3.0.201608"

#: ``"docId": 8af226c8-7cde-…``: the axis and its own kit write it so.
_BARE_DOC_ID: Final = re.compile(rb'("doc[Ii][dD]"\s*:\s*)([0-9A-Fa-f][0-9A-Fa-f-]{7,63})(?=\s*[,}\]])')
_FIELD_CODE: Final = re.compile(r"[NRMT](?:\.[A-Za-z]{1,40}){1,6}")


class EdocConnector:
    """Speaks to a document axis. Safe under threads; it keeps nothing."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        variant = setting_text(endpoint, "variant", "national")
        if variant not in VARIANTS:
            raise ProviderUnavailable("endpoint-invalid", setting="variant")
        if operation == "sendEdoc":
            return self._send(parcel, endpoint, secret, variant)
        if operation not in PARAMETERS:
            raise ProviderRejected("service-not-of-partner")
        asked = question_of(operation, payload_object(parcel))
        reply = self._ask(operation, asked, parcel, endpoint, secret, variant)
        if operation == "getEdoc":
            return _received(reply, endpoint)
        judged = _judged(reply, endpoint)
        return agencies_of(judged) if operation == "getAgenciesList" else judged

    def close(self) -> None:
        self._http.close()

    def _send(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None, variant: str) -> Reply:
        body, document = packet_of(parcel, endpoint)
        kind = "status" if isinstance(document, StatusDocument) else "edoc"
        call = VARIANTS[variant]["sendEdoc"]
        if variant == "provincial":
            content_type, body = _multipart(body, kind, parcel.manifest.message_id)
            own = _keys(secret)
        else:
            content_type = "application/xml"
            own = sealed_headers(
                {"from": document.sender.organ_id, **call.fixed, "messagetype": kind}, endpoint, secret, utc_now()
            )
        return _judged(self._request(call, "", body, content_type, own, parcel, endpoint), endpoint)

    def _ask(
        self,
        operation: str,
        asked: Mapping[str, str],
        parcel: Parcel,
        endpoint: Endpoint,
        secret: bytes | None,
        variant: str,
    ) -> Reply:
        call = VARIANTS[variant][operation]
        given = {**call.fixed, **{call.names[name]: value for name, value in asked.items() if name in call.names}}
        if variant == "national":
            own = sealed_headers(given, endpoint, secret, utc_now())
            return self._request(call, "", None, "", own, parcel, endpoint)
        own = _keys(secret)
        if call.method == "POST":
            return self._request(call, "", write_json(given), "application/json", own, parcel, endpoint)
        return self._request(call, f"?{urlencode(given)}" if given else "", None, "", own, parcel, endpoint)

    def _request(
        self,
        call: Call,
        query: str,
        body: bytes | None,
        content_type: str,
        own: Mapping[str, str],
        parcel: Parcel,
        endpoint: Endpoint,
    ) -> Reply:
        headers = {
            "Accept": "application/json",
            **({"Content-Type": content_type} if content_type else {}),
            **fixed_headers(endpoint),
            **own,
            **identity_headers(parcel),
        }
        url = f"{endpoint.url.rstrip('/')}/{call.path}{query}"
        reply = self._http.request(
            call.method, url, headers=headers, body=body, timeout_seconds=endpoint.timeout_seconds
        )
        if reply.status == 401:
            raise ProviderUnavailable("provider-login-failed")
        return kept(check_status(reply))


# ---- What leaves


def packet_of(parcel: Parcel, endpoint: Endpoint) -> tuple[bytes, Document | StatusDocument]:
    """The bytes to send and what they say. Raises ProviderRejected for what the axis would not take."""
    try:
        document = read_edxml(parcel.body)
    except Malformed as problem:
        raise _rejected(problem) from None
    if parcel.manifest.service == "edoc.status" and not isinstance(document, StatusDocument):
        raise ProviderRejected("payload-not-for-partner", member="StatusCode")
    _check_sender(document, parcel, endpoint)
    codes = faults_of(document)
    if codes:
        errors = [FieldError(pointer=code[2:], detail=code) for code in codes]
        raise ProviderRejected("edoc-not-valid", errors=errors, code=codes[0])
    body = without_stray_bytes(parcel.body)
    try:
        check_signature(body, document, endpoint)
    except NotIdentified as problem:
        raise _rejected(problem) from None
    if document.dialect != Dialect.QCVN_102:
        body = write_edxml(document)
    limit = endpoint.settings.get("max_file_bytes", MAX_FILE_BYTES)
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ProviderUnavailable("endpoint-invalid", setting="max_file_bytes")
    if len(body) > limit:
        raise ProviderRejected("edoc-too-large", limit=limit)
    return body, document


def _rejected(problem: Problem) -> ProviderRejected:
    """The same reason, as what the partner would never take."""
    facts: dict[str, Any] = dict(problem.facts)
    return ProviderRejected(problem.reason, **facts)


def _check_sender(document: Document | StatusDocument, parcel: Parcel, endpoint: Endpoint) -> None:
    """From is the sender of the message or lies below it, in either spelling, or is one of its other OrganIds."""
    others = setting_mapping(endpoint, "organ_ids").get(parcel.manifest.sender, ())
    if document.sender.organ_id in others:
        return
    try:
        agency = document.sender.agency
    except Malformed:
        raise ProviderRejected("edoc-sender-differs") from None
    if not agency.is_within(parcel.manifest.sender):
        raise ProviderRejected("edoc-sender-differs")


def question_of(operation: str, payload: Mapping[str, Any]) -> Mapping[str, str]:
    """The members of a question. Raises ProviderRejected for what the axis would not understand."""
    needed, allowed = PARAMETERS[operation]
    for name in sorted(needed | payload.keys()):
        value = payload.get(name)
        if name not in needed | allowed:
            # A foreign name came from the sender and may not be shown.
            raise ProviderRejected("payload-not-for-partner", member="(root)")
        if not isinstance(value, str) or not VALUES[name].fullmatch(value):
            raise ProviderRejected("payload-not-for-partner", member=name)
    asked = dict(payload)
    if "messageType" in allowed:
        asked.setdefault("messageType", "edoc")
    return asked


def sealed_headers(
    given: Mapping[str, str], endpoint: Endpoint, secret: bytes | None, now: datetime
) -> Mapping[str, str]:
    """The national axis's headers with their seal (the kit's ``VnptService``)."""
    system_id, key = name_and_password(secret)
    local = now.astimezone(VIETNAM)
    timestamp = f"{local:%d%m%YT%H%M%S}+{local.microsecond // 1000:04d}"
    named = {"systemid": system_id, "timestamp": timestamp, **given}
    said = {f"XroadVnpt-{name}": value for name, value in named.items()}
    text = json.dumps(said, ensure_ascii=True, separators=(",", ":"))
    return {
        **said,
        "XroadVnpt-sign-header-key": ";".join(named),
        "XroadVnpt-sign-header": text,
        "XroadVnpt-hash-header": hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest(),
        "XroadVnpt-version": setting_text(endpoint, "version", VERSION),
        "User-Agent": setting_text(endpoint, "user_agent", USER_AGENT),
    }


def _keys(secret: bytes | None) -> Mapping[str, str]:
    system_id, key = name_and_password(secret)
    return {"X-SystemId": system_id, "X-SecretKey": key}


def _multipart(packet: bytes, kind: str, message_id: str) -> tuple[str, bytes]:
    """``multipart/form-data`` (RFC 7578). The boundary is the message's id: repeats are the same bytes."""
    boundary = f"lgsp-{message_id}"
    while boundary.encode() in packet:
        boundary += "-"
    parts = (
        b'Content-Disposition: form-data; name="messageType"\r\n\r\n' + kind.encode(),
        b'Content-Disposition: form-data; name="edocFile"; filename="edoc.edxml"\r\n'
        b"Content-Type: application/xml\r\n\r\n" + packet,
    )
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return f"multipart/form-data; boundary={boundary}", body


# ---- What comes back


def _judged(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply, with quotes around ``docId``, if the axis says that all went well."""
    whole = _quoted(reply)
    document = reply_object(whole)
    code = _code_of(document)
    if code is None:
        raise InvalidReply("reply-not-readable")
    if is_success(code):
        return whole
    if code in setting_texts(endpoint.settings, "login_codes", LOGIN_CODES):
        raise ProviderUnavailable("provider-login-failed")
    if code in setting_texts(endpoint.settings, "retry_codes", RETRY_CODES):
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=code if _FIELD_CODE.fullmatch(code) else shown_code(code))


def _code_of(document: Mapping[str, Any]) -> str | None:
    """The code of an answer of either variant; None when it has none."""
    if "ErrorCode" in document:
        return code_text(document["ErrorCode"]) or "?"
    success = document.get("success")
    if not isinstance(success, bool):
        return None
    if success:
        return "0"
    data = document.get("data")
    code = code_text(data.get("errorCode")) if isinstance(data, dict) else ""
    # A refusal that names no code, or names success: still a refusal.
    return "?" if not code or is_success(code) else code


def _quoted(reply: Reply) -> Reply:
    body = _BARE_DOC_ID.sub(rb'\1"\2"', reply.body)
    return reply if body == reply.body else replace(reply, body=body, original=reply.received)


def _received(reply: Reply, endpoint: Endpoint) -> Reply:
    """The document itself, from its root on; the answer as it came is the evidence."""
    packet = reply.body
    if packet.lstrip()[:1] == b"{":
        packet = _packet_in(reply_object(_judged(reply, endpoint)))
    try:
        document = read_edxml(packet)
        packet = without_stray_bytes(packet)
        check_signature(packet, document, endpoint)
    except NotIdentified:
        raise InvalidReply("edoc-signature-refused") from None
    except Malformed:
        raise InvalidReply("reply-not-readable") from None
    original = b"" if packet == reply.received else reply.received
    return replace(reply, body=packet, content_type="application/xml", original=original)


def _packet_in(document: Mapping[str, Any]) -> bytes:
    """The edXML in a JSON answer: text, or base64 of it."""
    data = document.get("data")
    text = data.get("edxml") if isinstance(data, dict) else data
    if not isinstance(text, str):
        raise InvalidReply("reply-not-readable")
    if "<" in text[:128]:
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidReply("reply-not-readable") from None


def agencies_of(reply: Reply) -> Reply:
    """The axis's directory with both spellings of every code: ``{"agencies": [{"code", "code102", "name"}]}``.

    ``code`` is the one of QĐ 20/2020, ``code102`` the one of QCVN 102:2016; what the axis states stands, what it leaves
    out follows from the other where it can. An empty text: there is none.
    """
    document = read_json(reply.body)
    rows = document.get("data") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidReply("reply-not-readable")
    agencies = [_both_spellings(row) for row in rows]
    return replace(reply, body=write_json({"agencies": agencies}), original=reply.received)


def _both_spellings(row: Mapping[str, Any]) -> dict[str, str]:
    code, old = (str(row.get(name) or "") for name in ("code", "code102"))
    if not old and code[:1].isdigit():
        code, old = "", code
    try:
        agency = AgencyCode.parse(code or old)
        code = code or str(agency)
        old = old or str(agency.to_old())
    except Malformed:
        pass
    return {"code": code, "code102": old, "name": str(row.get("name") or "")}


# ---- Organisation signatures


class _Certificates:
    """Certificates of agencies from an endpoint's settings, as a key directory."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._keys: dict[str, PublicKeyRecord] = {}
        for agency, texts in setting_mapping(endpoint, "certificates").items():
            try:
                system = SystemCode(f"{agency}/van-thu")
                for text in [texts] if isinstance(texts, str) else texts:
                    record = key_record(read_certificate(text), system)
                    self._keys[record.key_id] = record
            except (Problem, TypeError):
                raise ProviderUnavailable("endpoint-invalid", setting="certificates") from None

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self._keys.get(key_id)


def check_signature(packet: bytes, document: Document | StatusDocument, endpoint: Endpoint) -> None:
    """Does the document carry the signature that is asked for? Raises NotIdentified."""
    asked = setting_text(endpoint, "signatures", "if-signed")
    if asked not in ("off", "if-signed", "required"):
        raise ProviderUnavailable("endpoint-invalid", setting="signatures")
    if asked == "off" or (asked == "if-signed" and not document.is_signed):
        return
    try:
        agency = document.sender.agency
    except Malformed:
        raise NotIdentified("edxml-signature-certificate") from None
    verify_edxml_signature(
        packet,
        _Certificates(endpoint),
        agency,
        utc_now(),
        allow_broken_sha1=endpoint.settings.get("allow_broken_sha1") is True,
    )
