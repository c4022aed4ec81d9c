"""The national payment platform (nền tảng thanh toán trực tuyến), and gateways that speak as it does.

::

    POST <url>/init    {"LoaiBanTin": "INIT", "MaDoiTac", "MaThamChieu", "SoTien": "150000", …, "ThongTinBienLai": {…},
                        "MaXacThuc"}        → {"error_code": "0", "message": "{\\"UrlThanhToan\\":\\"https://…\\"}"}
    POST <url>/query   {"LoaiBanTin": "QUERY", …, "MaXacThuc"}        → the same envelope, TrangThaiGD 1, 3 or 4
    POST <url>/bill    {"LoaiBanTin": "GET_BILL", …, "MaXacThuc"}     → a PDF

    the platform calls us, below /partners/<agency>/<system>/

    POST ipn           {"LoaiBanTin": "CONFIRM", "MaLoi": "00", "MaThamChieu", "SoTien", "MaGiaoDich", …, "MaXacThuc"}
                       → {"MaLoi", "MoTaLoi", "MaDoiTac", "MaThamChieu", "ThoiGianGD", "MaXacThuc"}
    POST payable       {"MaHoSo", …, "MaXacThuc"}    → the agency's answer: error_code 0 nothing, 1 payable, -1 error
    GET  return        the payer's browser: a page that says nothing, because a browser is not believed (P7)

Source: vietnam.md 4.9 (OCPS-PAY, TD-PAY); what is not verified stands in docs/partners/to-confirm.md.

Services: ``payment.init``, ``payment.query``, ``payment.bill`` (province → platform), ``payment.notice`` and
``payment.payable`` (platform → province).

Endpoint settings: ``paths`` (by LoaiBanTin), ``operations``, ``headers``, ``retry_codes``, ``algorithm`` (``sha256``,
or ``hmac-sha256`` for KeyPay's family), ``digests`` (the members of a digest, in their order, by LoaiBanTin), and
``inbound``: ``receiver`` (the agency that takes notices and look-ups), ``notice`` and ``payable`` (services),
``reference_prefixes`` (how references of our making begin; empty: any). The secret is ``MaDoiTac:secret``.

Quirks kept here and nowhere else:

- The order of a digest's members differs between messages: ThongTinGiaoDich stands before ThoiGianGD in INIT and
  behind it in CONFIRM (P32).
- ``message`` is JSON inside a JSON string (P5). It is read to judge the answer, and passed on as it came.
- A payload that brings its MaXacThuc travels byte for byte, once the digest holds; one without gets MaDoiTac and
  MaXacThuc from the bus, so that agencies need not hold the secret.
- Both known clients echo the caller's MaXacThuc in their answer to a notice (P33). Here it is computed.
- An IPN proves who says it, not that the sum is right: that is :func:`connectors.payment_books.check_notice`, for
  whoever holds the INIT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from connectors.base import Answer, Incoming, Outcome, Parcel, PartnerCall, Reply, message_id_of
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
from connectors.payment_digest import (
    ALGORITHMS,
    SHA256,
    clock_of_twelve,
    digest,
    joined,
    read_money,
    read_time,
    same_digest,
    value_text,
    write_time,
)
from connectors.rest import JSON_BOTH_WAYS, kept, question_headers
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode
from schemas.message import Receipt
from schemas.problem import (
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
)

OPERATIONS = {"payment.init": "INIT", "payment.query": "QUERY", "payment.bill": "GET_BILL"}
#: Where each message goes below the endpoint's address. The platform's own paths are not known.
PATHS = {"INIT": "init", "QUERY": "query", "GET_BILL": "bill"}
#: The members of each digest, in their order. INIT, CONFIRM and GET_BILL have test vectors; the rest is assumed.
DIGESTS: Mapping[str, tuple[str, ...]] = {
    "INIT": (
        *("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "SoTien", "LoaiHinhThanhToan", "MaKenhThanhToan"),
        *("MaThietBi", "NgonNgu", "MaTienTe", "MaNganHang", "ThongTinGiaoDich", "ThoiGianGD", "Ip"),
    ),
    "CONFIRM": (
        *("LoaiBanTin", "MaLoi", "MaDoiTac", "MaThamChieu", "SoTien", "MaTienTe", "MaGiaoDich", "MaNganHang"),
        *("ThoiGianGD", "ThongTinGiaoDich"),
    ),
    "GET_BILL": ("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "ThoiGianGD"),
    "QUERY": ("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "ThoiGianGD"),
    "ANSWER": ("MaLoi", "MoTaLoi", "MaDoiTac", "MaThamChieu", "ThoiGianGD"),
    "PAYABLE": ("MaDoiTac", "MaHoSo", "ThoiGianGD"),
}
#: Codes that say nothing about the data.
RETRY_CODES = ("-1",)
#: What a payer's browser is shown. It is told nothing, because it may have been told anything.
RETURN_PAGE = (
    "<!doctype html><html lang='vi'><meta charset='utf-8'><title>Thanh toán</title>"
    "<p>Cơ quan đang chờ nền tảng thanh toán xác nhận. Trang này không xác nhận việc thanh toán.</p></html>"
).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One endpoint's dialect: who we are, what proves it, and over which members."""

    partner: str
    secret: bytes = field(repr=False)
    algorithm: str
    digests: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, endpoint: Endpoint, secret: bytes | None) -> Protocol:
        """Raises ProviderUnavailable when settings or secret do not allow one."""
        partner, password = name_and_password(secret)
        algorithm = setting_text(endpoint, "algorithm", SHA256)
        if algorithm not in ALGORITHMS:
            raise ProviderUnavailable("endpoint-invalid", setting="algorithm")
        changed = setting_mapping(endpoint, "digests")
        digests = {name: setting_texts(changed, name, fields) for name, fields in DIGESTS.items()}
        return cls(partner=partner, secret=password.encode("utf-8"), algorithm=algorithm, digests=digests)

    def digest(self, kind: str, document: Mapping[str, Any]) -> str:
        """What MaXacThuc must be. Raises ValueError with the member's name that cannot be part of one."""
        return digest(joined(document, self.digests[kind]), self.secret, self.algorithm)


class PaymentConnector:
    """Asks the payment platform. Safe under threads; nothing is kept between calls."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The platform knows a repeat by MaThamChieu."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        if operation not in PATHS:
            raise ProviderRejected("service-not-of-partner")
        body = _request(parcel, operation, Protocol.of(endpoint, secret))
        path = _text(setting_mapping(endpoint, "paths"), operation, PATHS[operation])
        reply = check_status(
            self._http.request(
                "POST",
                f"{endpoint.url.rstrip('/')}/{path.lstrip('/')}",
                headers=question_headers(
                    parcel, endpoint, {**JSON_BOTH_WAYS, "Accept": "application/json, application/pdf"}
                ),
                body=body,
                timeout_seconds=endpoint.timeout_seconds,
            )
        )
        return kept(_judged(operation, reply, setting_texts(endpoint.settings, "retry_codes", RETRY_CODES)))

    def close(self) -> None:
        self._http.close()


def _request(parcel: Parcel, operation: str, protocol: Protocol) -> bytes:
    """The bytes to send: the payload's own when it brings its digest, else with digest and partner code put in."""
    payload = payload_object(parcel)
    if payload.get("LoaiBanTin", operation) != operation:
        raise ProviderRejected("payload-not-for-partner", member="LoaiBanTin")
    whole = {"LoaiBanTin": operation, **payload}
    whole.setdefault("MaDoiTac", protocol.partner)
    if whole["MaDoiTac"] != protocol.partner:
        raise ProviderRejected("payment-partner-differs")
    if operation == "INIT":
        _check_init(whole, parcel.manifest.issued_at)
    elif read_time(whole.get("ThoiGianGD")) is None:
        raise ProviderRejected("payload-not-for-partner", member="ThoiGianGD")
    try:
        computed = protocol.digest(operation, whole)
    except ValueError as error:
        raise ProviderRejected("payload-not-for-partner", member=str(error)) from None
    if "MaXacThuc" not in payload:
        return write_json({**whole, "MaXacThuc": computed})
    if not same_digest(payload["MaXacThuc"], computed):
        raise ProviderRejected("payment-digest-wrong")
    return parcel.body


def _check_init(payload: Mapping[str, Any], issued_at: datetime) -> None:
    """Raises ProviderRejected for what would be paid wrongly: a sum that is none, a time half a day off."""
    if read_money(payload.get("SoTien")) is None:
        raise ProviderRejected("payload-not-for-partner", member="SoTien")
    stated = read_time(payload.get("ThoiGianGD"))
    if stated is None:
        raise ProviderRejected("payload-not-for-partner", member="ThoiGianGD")
    if clock_of_twelve(stated, issued_at):
        raise ProviderRejected("payment-clock-of-twelve")


def _judged(operation: str, reply: Reply, retry_codes: Sequence[str]) -> Reply:
    """The reply if the platform did what it was asked; raises what its code means otherwise."""
    if operation == "GET_BILL" and reply.body.startswith(b"%PDF-"):
        return reply
    document = reply_object(reply)
    code = document.get("error_code")
    if not code_text(code):
        raise InvalidReply("reply-not-readable")
    if not is_success(code):
        if code_text(code) in retry_codes:
            raise ProviderUnavailable("partner-says-later", code=shown_code(code))
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    told = told_inside(document)
    if operation == "INIT" and not is_web_address(told.get("UrlThanhToan")):
        raise InvalidReply("reply-not-readable")
    if operation == "QUERY" and not code_text(told.get("TrangThaiGD")):
        raise InvalidReply("reply-not-readable")
    return reply


def told_inside(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an answer of the platform says: the JSON inside the string ``message`` (P5), over the members around it."""
    message = document.get("message")
    if isinstance(message, str) and message.lstrip().startswith("{"):
        try:
            message = read_json(message.encode("utf-8"))
        except (Problem, UnicodeEncodeError):
            raise InvalidReply("reply-not-readable") from None
    return {**document, **message} if isinstance(message, dict) else document


def is_web_address(value: object) -> bool:
    """Citizens are sent there: nothing but a plain web address will do."""
    if not isinstance(value, str) or not value.isprintable():
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)


# ---- The platform calls us


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Incoming):
    """An IPN whose digest holds, with both answers to it: they bear digests, and the secret need not travel."""

    taken: bytes
    not_taken: bytes


class PaymentReceiver:
    """Believes what the platform itself says, and nobody's browser. Safe under threads."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`."""
        if call.path == "return":
            return Answer(body=RETURN_PAGE, content_type="text/html; charset=utf-8")
        kinds = {"ipn": ("CONFIRM", self._notice), "payable": ("PAYABLE", self._look_up)}
        if call.path not in kinds or call.method != "POST":
            raise NotFound("page-unknown")
        protocol = Protocol.of(endpoint, secret)
        document = read_json(call.body)
        if not isinstance(document, dict):
            raise Malformed("json-invalid")
        kind, read = kinds[call.path]
        _prove(kind, document, protocol)
        return read(call, document, setting_mapping(endpoint, "inbound"), protocol)

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """See :class:`connectors.base.Receiver`. A look-up gets the agency's own bytes."""
        if isinstance(incoming, Notice):
            return Answer(body=incoming.taken if isinstance(outcome, Receipt) else incoming.not_taken)
        if isinstance(outcome, Reply):
            return Answer(body=outcome.body, content_type=outcome.content_type or "application/json")
        return self.refuse(call, outcome) if isinstance(outcome, Problem) else Answer(body=_said("-1", "", "payable"))

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """See :class:`connectors.base.Receiver`. To a caller who has proven nothing no digest is given."""
        code = "99" if call.path == "ipn" else "-1"
        return Answer(body=_said(code, problem.detail("vi"), call.path))

    def _notice(
        self, call: PartnerCall, document: Mapping[str, Any], inbound: Mapping[str, Any], protocol: Protocol
    ) -> Incoming:
        reference = value_text(document.get("MaThamChieu")) or ""
        if document.get("LoaiBanTin") != "CONFIRM":
            raise Malformed("payment-notice-incomplete", member="LoaiBanTin")
        if not reference or not code_text(document.get("MaLoi")):
            raise Malformed("payment-notice-incomplete", member="MaLoi" if reference else "MaThamChieu")
        if read_money(document.get("SoTien")) is None:
            raise Malformed("payment-notice-incomplete", member="SoTien")
        prefixes = setting_texts(inbound, "reference_prefixes", ())
        if prefixes and not reference.startswith(prefixes):
            raise NotFound("payment-reference-unknown")
        told = {"MaDoiTac": protocol.partner, "MaThamChieu": reference, "ThoiGianGD": write_time(call.received_at)}
        parts = (reference, value_text(document.get("MaGiaoDich")) or "", code_text(document.get("MaLoi")))
        return Notice(
            service=_service(inbound, "notice", "payment.notice"),
            receivers=_receivers(inbound),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, "CONFIRM", *parts),
            dossier=named_dossier(document.get("ThongTinGiaoDich")),
            taken=_signed({"MaLoi": "00", "MoTaLoi": "Thanh cong", **told}, protocol),
            not_taken=_signed({"MaLoi": "99", "MoTaLoi": "Chua ghi nhan", **told}, protocol),
        )

    def _look_up(
        self, call: PartnerCall, document: Mapping[str, Any], inbound: Mapping[str, Any], protocol: Protocol
    ) -> Incoming:
        code = value_text(document.get("MaHoSo"))
        if not code:
            raise Malformed("payment-notice-incomplete", member="MaHoSo")
        return Incoming(
            service=_service(inbound, "payable", "payment.payable"),
            receivers=_receivers(inbound),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, "PAYABLE", code, protocol.digest("PAYABLE", document)),
            dossier=named_dossier(code),
        )


def _prove(kind: str, document: Mapping[str, Any], protocol: Protocol) -> None:
    """Raises NotIdentified unless the document names us and its digest is the secret's. Known systems have this very
    check commented out (P6)."""
    try:
        computed = protocol.digest(kind, document)
    except ValueError as error:
        raise Malformed("payment-notice-incomplete", member=str(error)) from None
    if not same_digest(document.get("MaXacThuc"), computed):
        raise NotIdentified("payment-digest-wrong")
    if document.get("MaDoiTac") != protocol.partner:
        raise NotIdentified("payment-partner-differs")


def named_dossier(text: object) -> DossierCode | None:
    """The dossier that a description names, when it names exactly one. For the trace; no payment is credited by it.
    A code is found whole, never cut out by positions (P34)."""
    found: set[DossierCode] = set()
    for word in text.split() if isinstance(text, str) else ():
        try:
            found.add(DossierCode(word.strip(".,;:()")))
        except Malformed:
            continue
    return found.pop() if len(found) == 1 else None


def _service(inbound: Mapping[str, Any], name: str, usual: str) -> ServiceCode:
    return ServiceCode(_text(inbound, name, usual))


def _text(settings: Mapping[str, Any], name: str, usual: str) -> str:
    value = settings.get(name, usual)
    if not isinstance(value, str):
        raise ProviderUnavailable("endpoint-invalid", setting=name)
    return value


def _receivers(inbound: Mapping[str, Any]) -> tuple[AgencyCode, ...]:
    receiver = inbound.get("receiver")
    if not isinstance(receiver, str):
        raise ProviderUnavailable("endpoint-invalid", setting="inbound")
    return (AgencyCode(receiver),)


def _signed(answer: Mapping[str, str], protocol: Protocol) -> bytes:
    return write_json({**answer, "MaXacThuc": protocol.digest("ANSWER", answer)})


def _said(code: str, text: str, path: str) -> bytes:
    names = ("MaLoi", "MoTaLoi") if path == "ipn" else ("error_code", "message")
    return write_json(dict(zip(names, (code, text), strict=True)))
