"""PayGov, a gateway of another family: checksums over values with nothing between them, answers in bare words.

::

    POST <url>/order   {"partnerCode", "returnUrl", "orderId": "H99.15-H99.15-260423-0001-01", "amount": "150000",
                        "orderInfo", "requestCode", "ipAddress", "serviceCode", "accessKey", "checksum"}
    checksum           SHA-256( secretKey accessKey partnerCode orderId requestCode amount )

    it calls us, below /partners/<agency>/<system>/

    POST ipn           {"orderId", "errorCode": "00", "transactionNo", "payDate", "paygate", "checksum"}
                       → SUCCESSFUL, FAILED or SIGNATURE_WRONG, as text
    GET  return        the payer's browser: a page that says nothing (P7)

Source: vietnam.md 4.9 (OCPS-PAY); the answer to an order and the checksum of an IPN are not known, and are settings.

Services: ``paygov.order`` (province → gateway), ``paygov.notice`` (gateway → province).

Endpoint settings: ``partnerCode`` (needed), ``path``, ``checksums`` (``order`` and ``ipn``: the members in their order,
``secretKey`` among them), ``code_member`` and ``address_member`` (of the answer), ``operations``, ``headers``,
``retry_codes``, and ``inbound``: ``receiver``, ``notice``. The secret is ``accessKey:secretKey``.

Quirks kept here and nowhere else:

- Nothing stands between the values of a checksum, so ``…-01`` and ``00`` have the checksum of ``…-010`` and ``0``. Each
  value therefore must have its exact form before a checksum says anything.
- orderId is ``<unit>-<MaHoSo>-<trial>``. A known system cuts the dossier code out of it by positions, which ends with
  the first unit of another length (P34); here it is read from the right, by its hyphens.
- The same system checks neither checksum nor sum (P6). Here the checksum decides, and :func:`check_order` compares the
  sum where the notice has one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from connectors.payment import RETURN_PAGE, is_web_address
from connectors.payment_books import Verdict
from connectors.payment_digest import read_money, same_digest, value_text
from connectors.rest import kept, question_headers
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

OPERATIONS = {"paygov.order": "order"}
#: The values of each checksum, in their order. The first has a test vector, the second is assumed.
CHECKSUMS: Mapping[str, tuple[str, ...]] = {
    "order": ("secretKey", "accessKey", "partnerCode", "orderId", "requestCode", "amount"),
    "ipn": ("secretKey", "accessKey", "partnerCode", "orderId", "errorCode", "transactionNo", "payDate", "paygate"),
}
#: Codes that say nothing about the data.
RETRY_CODES = ("-1",)
TAKEN, NOT_TAKEN, WRONG_SIGNATURE = b"SUCCESSFUL", b"FAILED", b"SIGNATURE_WRONG"
#: What an IPN's values look like. An orderId ends in two digits and an errorCode has two, so the checksum says where
#: they end; the others decide nothing.
_FORMS: Mapping[str, re.Pattern[str]] = {
    "errorCode": re.compile(r"[0-9]{2}"),
    **dict.fromkeys(("transactionNo", "payDate", "paygate"), re.compile(r"[0-9A-Za-z./: _-]{0,100}")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderId:
    """``<unit>-<MaHoSo>-<trial>``, read from the right."""

    unit: str
    dossier: DossierCode
    trial: str

    @classmethod
    def read(cls, text: object) -> OrderId | None:
        """None for what was never an order of ours."""
        parts = text.rsplit("-", 4) if isinstance(text, str) and len(text) <= 100 else []
        if len(parts) != 5 or not re.fullmatch(r"[0-9A-Za-z._]+", parts[0]) or not re.fullmatch("[0-9]{2}", parts[4]):
            return None
        try:
            return cls(unit=parts[0], dossier=DossierCode("-".join(parts[1:4])), trial=parts[4])
        except Malformed:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Protocol:
    """One endpoint's keys, and what its checksums go over."""

    keys: Mapping[str, str] = field(repr=False)
    checksums: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, endpoint: Endpoint, secret: bytes | None) -> _Protocol:
        """Raises ProviderUnavailable when settings or secret do not allow one."""
        access_key, secret_key = name_and_password(secret)
        partner = setting_text(endpoint, "partnerCode")
        if not partner:
            raise ProviderUnavailable("endpoint-invalid", setting="partnerCode")
        changed = setting_mapping(endpoint, "checksums")
        checksums = {name: setting_texts(changed, name, members) for name, members in CHECKSUMS.items()}
        if not all("secretKey" in members for members in checksums.values()):  # anybody could compute such a one
            raise ProviderUnavailable("endpoint-invalid", setting="checksums")
        keys = {"secretKey": secret_key, "accessKey": access_key, "partnerCode": partner}
        return cls(keys=keys, checksums=checksums)

    def checksum(self, kind: str, document: Mapping[str, Any]) -> str:
        """Raises ValueError with the member's name for a value that is neither text nor a whole number."""
        values = []
        for name in self.checksums[kind]:
            text = value_text(self.keys.get(name, document.get(name)))
            if text is None:
                raise ValueError(name)
            values.append(text)
        return hashlib.sha256("".join(values).encode("utf-8")).hexdigest()


class PaygovConnector:
    """Places orders at PayGov. Safe under threads; the gateway knows a repeat by orderId."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        if operation_of(parcel, endpoint, OPERATIONS) != "order":
            raise ProviderRejected("service-not-of-partner")
        reply = check_status(
            self._http.request(
                "POST",
                f"{endpoint.url.rstrip('/')}/{setting_text(endpoint, 'path', 'order').lstrip('/')}",
                headers=question_headers(parcel, endpoint),
                body=_request(parcel, _Protocol.of(endpoint, secret)),
                timeout_seconds=endpoint.timeout_seconds,
            )
        )
        return kept(_judged(reply, endpoint))

    def close(self) -> None:
        self._http.close()


def _request(parcel: Parcel, protocol: _Protocol) -> bytes:
    """The bytes to send: the payload's own when it brings its checksum, else with what the bus knows put in."""
    payload = payload_object(parcel)
    own = {name: protocol.keys[name] for name in ("partnerCode", "accessKey")}
    whole = {**own, **payload}
    if any(whole[name] != value for name, value in own.items()):
        raise ProviderRejected("payment-partner-differs")
    if read_money(whole.get("amount")) is None:
        raise ProviderRejected("payload-not-for-partner", member="amount")
    if OrderId.read(whole.get("orderId")) is None:
        raise ProviderRejected("payload-not-for-partner", member="orderId")
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,100}", str(whole.get("requestCode", ""))):
        raise ProviderRejected("payload-not-for-partner", member="requestCode")
    try:
        computed = protocol.checksum("order", whole)
    except ValueError as error:
        raise ProviderRejected("payload-not-for-partner", member=str(error)) from None
    if "checksum" not in payload:
        return write_json({**whole, "checksum": computed})
    if not same_digest(payload["checksum"], computed):
        raise ProviderRejected("payment-digest-wrong")
    return parcel.body


def _judged(reply: Reply, endpoint: Endpoint) -> Reply:
    document = reply_object(reply)
    code = document.get(setting_text(endpoint, "code_member", "errorCode"))
    if not code_text(code):
        raise InvalidReply("reply-not-readable")
    if is_success(code):
        if not is_web_address(document.get(setting_text(endpoint, "address_member", "payUrl"))):
            raise InvalidReply("reply-not-readable")
        return reply
    if code_text(code) in setting_texts(endpoint.settings, "retry_codes", RETRY_CODES):
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))


class PaygovReceiver:
    """Takes PayGov's notices, and answers in its three words. Safe under threads."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`."""
        if call.path == "return":
            return Answer(body=RETURN_PAGE, content_type="text/html; charset=utf-8")
        if call.path != "ipn" or call.method != "POST":
            raise NotFound("page-unknown")
        protocol = _Protocol.of(endpoint, secret)
        notice = read_json(call.body)
        if not isinstance(notice, dict):
            raise Malformed("json-invalid")
        _prove(notice, protocol)
        order = OrderId.read(notice.get("orderId"))
        if order is None:
            raise NotFound("payment-reference-unknown")
        if "amount" in notice and ("amount" not in protocol.checksums["ipn"] or read_money(notice["amount"]) is None):
            # A sum that the checksum does not cover is anybody's word.
            raise Malformed("payment-notice-incomplete", member="amount")
        inbound = setting_mapping(endpoint, "inbound")
        receiver, service = inbound.get("receiver"), inbound.get("notice", "paygov.notice")
        if not isinstance(receiver, str) or not isinstance(service, str):
            raise ProviderUnavailable("endpoint-invalid", setting="inbound")
        parts = (str(notice["orderId"]), value_text(notice.get("transactionNo")) or "", code_text(notice["errorCode"]))
        return Incoming(
            service=ServiceCode(service),
            receivers=(AgencyCode(receiver),),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, *parts),
            dossier=order.dossier,
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """See :class:`connectors.base.Receiver`. A failed payment that is recorded is SUCCESSFUL too: the notice is."""
        return _said(TAKEN if isinstance(outcome, Receipt) else NOT_TAKEN)

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """See :class:`connectors.base.Receiver`."""
        return _said(WRONG_SIGNATURE if problem.reason == "payment-digest-wrong" else NOT_TAKEN)


def _prove(notice: Mapping[str, Any], protocol: _Protocol) -> None:
    """Raises Malformed for a value that has not its form, NotIdentified unless the checksum is ours."""
    for member, form in _FORMS.items():
        text = value_text(notice.get(member))
        if text is None or not form.fullmatch(text):
            raise Malformed("payment-notice-incomplete", member=member)
    try:
        computed = protocol.checksum("ipn", notice)
    except ValueError as error:
        raise Malformed("payment-notice-incomplete", member=str(error)) from None
    if not same_digest(notice.get("checksum"), computed):
        raise NotIdentified("payment-digest-wrong")


def _said(word: bytes) -> Answer:
    return Answer(body=word, content_type="text/plain")


def check_order(order: Mapping[str, Any], notice: Mapping[str, Any]) -> Verdict:
    """Does this notice, whose checksum holds, say that this order is paid? A notice without a sum proves that something
    was paid, not how much: the day's reconciliation says that."""
    if not order.get("orderId") or notice.get("orderId") != order["orderId"]:
        return Verdict.OTHER_REFERENCE
    if not is_success(notice.get("errorCode")):
        return Verdict.NOT_PAID
    if "amount" not in notice:
        return Verdict.AMOUNT_UNKNOWN
    asked = read_money(order.get("amount"))
    return Verdict.PAID if asked is not None and read_money(notice["amount"]) == asked else Verdict.OTHER_AMOUNT
