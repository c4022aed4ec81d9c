"""Civil status (hộ tịch): the ministry's direct API, and the joint chain birth – residence – health card (DVCLT).

::

    POST <url>/<token_path>  grant_type=client_credentials, Basic client_id:client_secret
                             → {"access_token", "expires_in"}
    POST <url>/<path>        Bearer …, JSON
                             → {"status": 1, "statusDescription", "value", "errorCode", "errorDescription"}

    us ← POST …/partners/<agency>/<system>/<inbound path>   {"maTTHC", "soHoSoLT", "maHoSo", "trangThai": "4", …}

Source: vietnam.md 4.12 (NGSP-QB for the direct API, TD-KS for the chain); the addresses of the chain and how the
ministry proves itself to us are unverified, see docs/partners/to-confirm.md.

=============================== ==================== =========================================================
service                         operation            payload
=============================== ==================== =========================================================
``civil-status.register``       dangKyHoTich         maDonVi, module, maHoSo, ngayTiepNhan, data (XML as text)
``civil-status.catalogue``      danhMuc              loaiDanhMuc 1–5; ``value`` of the answer is JSON as text
``civil-status.status``         traTrangThaiHoSo     maDonVi, maHoSo
``civil-status.result``         ketQuaDangKyHS       maDonVi, maHoSo
``civil-status.changes``        dsHoSoDangKy         module, ngayCapNhat
``civil-status.record``         traHoSo              module, maHoSo (the record's number)
``civil-status.records``        traDanhSachHoSo      maTinh, module, dsMaHoSo
``civil-status.joint-register`` dangKyLienThong      maDonVi, maTTHC, module, maHoSo, ngayTiepNhan, techId, data
=============================== ==================== =========================================================

Payloads go as the bytes that the sender signed. One exception: ``data`` of a joint registration is an object to the
sender, so that a schema can check it, and JSON as text to the ministry (P5); where it is text already nothing is
touched.

Quirks kept here and nowhere else:

- The answer is judged by ``status`` and ``errorCode``: :data:`JUDGEMENTS` says which code is final, which passes by
  waiting, and which is an answer to a question ("not found", "not complete yet").
- A registration that comes again is refused, in words only: "đã được tiếp nhận". That is success (setting ``wording``).
- A second child of the same mother and day is held up as a suspected duplicate until an officer confirms it by hand at
  the ministry (P20). Repeating cannot help, so the message ends with a reason of its own, and is replayed afterwards.
- The personal number of a new-born comes later, sometimes days (P19): the answers without it are passed on as they
  are. Whoever needs the number asks again, or waits for the status that the ministry sends us.

Endpoint settings: ``token_path``, ``paths`` (operation → path below the URL), ``operations``, ``headers``, ``codes``
(errorCode → ``later``, ``final`` or ``answer``), ``wording`` (lists ``received`` and ``duplicate``); for the
ministry's own calls ``inbound``: ``receiver`` (agency, needed), ``path``, ``header``. The secret is
``client_id:client_secret``, or a JSON object of ``user``, ``secret`` and ``callback``, what the ministry proves itself
with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from connectors.base import Answer, Incoming, Outcome, Parcel, PartnerCall, Reply, message_id_of
from connectors.callbacks import login_of, prove, receiver_of
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import (
    code_text,
    operation_of,
    payload_object,
    reply_object,
    says,
    setting_mapping,
    setting_texts,
    shown_code,
)
from connectors.rest import fixed_headers, kept, question_headers
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.codes import LOCAL_STATUSES
from schemas.identifiers import DossierCode, ServiceCode
from schemas.message import Receipt
from schemas.problem import (
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)

OPERATIONS: Final = {
    "civil-status.register": "dangKyHoTich",
    "civil-status.catalogue": "danhMuc",
    "civil-status.status": "traTrangThaiHoSo",
    "civil-status.result": "ketQuaDangKyHS",
    "civil-status.changes": "dsHoSoDangKy",
    "civil-status.record": "traHoSo",
    "civil-status.records": "traDanhSachHoSo",
    "civil-status.joint-register": "dangKyLienThong",
}
#: Operations that leave something at the ministry; the others only ask.
REGISTRATIONS: Final = frozenset({"dangKyHoTich", "dangKyLienThong"})
#: Where an operation is, when the setting ``paths`` does not say.
DIRECT_PATH: Final = "apiHoTichTuPhap"
JOINT_PATHS: Final[Mapping[str, str]] = {"dangKyLienThong": "lienThong/dangKyHoSo"}

Judgement = Literal["later", "final", "answer"]
#: What an error code means: to a registration, and to a question. A code that is not here may pass: it says nothing
#: about the data.
JUDGEMENTS: Final[Mapping[str, tuple[Judgement, Judgement]]] = {
    "100": ("later", "later"),  # AUTHEN_ERROR: an operator renews the credential
    "101": ("later", "later"),  # IP_DISALLOWED: an operator has our address allowed
    "106": ("final", "final"),  # AGENCY_ID_INCORRECT
    "108": ("final", "final"),  # PROVINCE_ID_INCORRECT
    "200": ("final", "answer"),  # RECORD_UNCOMPLETE: something is missing; or it is not complete yet
    "201": ("final", "answer"),  # RECORD_NOT_FOUND
    "302": ("final", "final"),  # DATA_TYPE_INVALID
    "500": ("final", "final"),  # DATA_INCORRECT: the ministry's own checks, in free text
}
#: The code of an access that was refused: the token has ended, whatever the HTTP status says.
NOT_AUTHENTICATED: Final = "100"
#: A registration is there already.
RECEIVED: Final = ("đã được tiếp nhận",)
#: Somebody must confirm by hand that two records are two people (P20); the population system's text is English.
DUPLICATE: Final = ("nghi trùng", "suspected duplicate")


class CivilStatusConnector:
    """Registers with the ministry and asks it. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the ministry's answer, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        body = joint_body(parcel) if operation in JOINT_PATHS else parcel.body
        payload_object(parcel)
        url = f"{endpoint.url.rstrip('/')}/{_path(operation, endpoint)}"
        headers = question_headers(parcel, endpoint)

        def call(authorization: str, seconds: float) -> Reply:
            own = {**headers, "Authorization": authorization}
            return _with_status(self._http.request("POST", url, headers=own, body=body, timeout_seconds=seconds))

        reply = self._calls.make(
            call,
            endpoint,
            login_of(secret),
            token_url=place(endpoint, "token_path", "token"),
            headers=fixed_headers(endpoint),
            form="grant_type=client_credentials",
        )
        return kept(judged(check_status(reply), operation, endpoint))

    def close(self) -> None:
        self._http.close()


def joint_body(parcel: Parcel) -> bytes:
    """The registration with ``data`` as JSON text. Raises ProviderRejected for any other data."""
    payload = payload_object(parcel)
    data = payload.get("data")
    if isinstance(data, dict):
        return write_json({**payload, "data": write_json(data).decode()})
    if not isinstance(data, str) or not isinstance(_json_or_none(data), dict):
        raise ProviderRejected("payload-not-for-partner", member="data")
    return parcel.body


def judged(reply: Reply, operation: str, endpoint: Endpoint) -> Reply:
    """The reply if it is what the operation is for; raises what its code and words mean otherwise."""
    document = reply_object(reply)
    status = code_text(document.get("status"))
    if status == "1":
        return reply
    if status != "0":
        raise InvalidReply("reply-not-readable")
    code, text = document.get("errorCode"), document.get("errorDescription")
    wording = setting_mapping(endpoint, "wording")
    if operation in REGISTRATIONS:
        if says(text, setting_texts(wording, "received", RECEIVED)):
            return reply
        if says(text, setting_texts(wording, "duplicate", DUPLICATE)):
            raise ProviderRejected("civil-status-duplicate-suspected")
    judgement = _judgement(code_text(code), operation, endpoint)
    if judgement == "answer":
        return reply
    if judgement == "later":
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))


def _judgement(code: str, operation: str, endpoint: Endpoint) -> Judgement:
    told = setting_mapping(endpoint, "codes").get(code)
    if told is None:
        return JUDGEMENTS.get(code, ("later", "later"))[operation not in REGISTRATIONS]
    if told not in ("later", "final", "answer"):
        raise ProviderUnavailable("endpoint-invalid", setting="codes")
    judgement: Judgement = told
    return judgement


def _path(operation: str, endpoint: Endpoint) -> str:
    usual = JOINT_PATHS.get(operation, f"{DIRECT_PATH}/{operation}")
    path = setting_mapping(endpoint, "paths").get(operation, usual)
    if not isinstance(path, str):
        raise ProviderUnavailable("endpoint-invalid", setting="paths")
    return path.lstrip("/")


def _with_status(reply: Reply) -> Reply:
    """A refused token as the 401 that it is: it comes inside a 200."""
    if reply.status == 200 and reply.body[:1] in (b"{", b" ", b"\n"):
        document = _json_or_none(reply.body.decode("utf-8", errors="replace"))
        if isinstance(document, dict) and code_text(document.get("errorCode")) == NOT_AUTHENTICATED:
            return replace(reply, status=401)
    return reply


def _json_or_none(text: str) -> Any:
    try:
        return read_json(text.encode("utf-8"))
    except (Problem, UnicodeEncodeError):
        return None


# ---- The ministry calls us

STATUS_SERVICE: Final = ServiceCode("civil-status.joint-status")
#: What our refusals are called in the ministry's own list of codes.
_REFUSALS: Final[tuple[tuple[type[Problem], int, str], ...]] = (
    (NotIdentified, 100, "AUTHEN_ERROR"),
    (Malformed, 302, "DATA_TYPE_INVALID"),
    (SchemaViolation, 302, "DATA_TYPE_INVALID"),
    (Problem, 500, "DATA_INCORRECT"),
)


class CivilStatusReceiver:
    """Takes the statuses of the joint chain. Keeps nothing, so it is safe under threads."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`. A status that comes twice is one message."""
        inbound = setting_mapping(endpoint, "inbound")
        prove(call, str(inbound.get("header", "authorization")), secret)
        if call.method != "POST" or call.path != inbound.get("path", "trang-thai"):
            raise NotFound("page-unknown")
        notice = read_json(call.body)
        if not isinstance(notice, dict):
            raise Malformed("partner-notice-invalid", member="(root)")
        number, status = _text(notice, "soHoSoLT"), _text(notice, "trangThai")
        if status not in LOCAL_STATUSES["birth-group"].national:
            raise Malformed("partner-notice-invalid", member="trangThai")
        result = notice.get("ketQuaXuLy")
        if result not in (None, "") and not (isinstance(result, str) and isinstance(_json_or_none(result), dict)):
            raise Malformed("partner-notice-invalid", member="ketQuaXuLy")
        return Incoming(
            service=STATUS_SERVICE,
            receivers=(receiver_of(inbound),),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, number, status, _text(notice, "thoiGianThucHien")),
            dossier=_dossier(notice.get("maHoSo")),
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """Success for what is recorded, and for nothing else."""
        if isinstance(outcome, Receipt):
            return _answer({"status": 1, "statusDescription": "Gửi thông tin thành công"})
        return self.refuse(call, outcome) if isinstance(outcome, Problem) else _answer({"status": 0}, 503)

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """The ministry's own form; 503 where the same call may succeed later."""
        code, name = next((code, name) for kind, code, name in _REFUSALS if isinstance(problem, kind))
        told = {
            "status": 0,
            "statusDescription": "Lỗi",
            "errorCode": code,
            "errorDescription": f"{name}: {problem.detail('vi')}",
        }
        return _answer(told, 503 if problem.retryable else 200)


def _text(notice: Mapping[str, Any], member: str) -> str:
    text = code_text(notice.get(member))
    if not 0 < len(text) <= 100:
        raise Malformed("partner-notice-invalid", member=member)
    return text


def _dossier(code: object) -> DossierCode | None:
    """The dossier that the notice is about. The ministry may name it in its own way: then the message has none."""
    try:
        return DossierCode(code)
    except Malformed:
        return None


def _answer(document: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status=status, body=write_json(document))
