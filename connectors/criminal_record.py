"""Criminal record (lý lịch tư pháp), both generations: declarations through NGSP, and dossiers that VNeID collects.

::

    POST <url>/<token_path>   grant_type=client_credentials, Basic client_id:client_secret
                              → {"access_token", "expires_in"}
    POST <url>/<path>         Bearer …, JSON → {"STATUS": "1", "DESCRIPTION": "", "ID": "…"}               NGSP
                                             → {"STATUS": "1", "LISTCONTENT": [{"DECLARATION_ID", …}]}
                                             → {"statusCode": "00", "data": …, "errorDetail": …}            VNeID

    us ← POST …/partners/<agency>/<system>/<inbound path>   {"maHoSoMCDT", "nguonDangKy", "toKhai", "thongTinBienLai"}
                                             → {"statusCode": "00" | "01" | "03", "data", "errorDetail"}

Source: vietnam.md 4.16 (NGSP-QB, TD-LLTP); addresses and the envelope of a batch are unverified, see
docs/partners/to-confirm.md.

=============================== ==================== =========================================================
service                         operation            payload
=============================== ==================== =========================================================
``criminal-record.register``    nhanHoSoDangKy       idReceivedDec (unique), declarationWSForm, residenceWSForm, …
``criminal-record.status``      traTrangThaiHs       idReceivedDec, infoType 1 or 2, identifyNo
``criminal-record.statuses``    traDsTrangThaiHs     infoType; the answer holds what nobody has acknowledged
``criminal-record.acknowledge`` danhDauHsThanhCong   declarationId (``;`` between several), infoType
``criminal-record.sync``        dongBoTrangThai      one status of a VNeID dossier, or ``{"data": [status, …]}``
``criminal-record.submitted``   VNeID's own call     a dossier that a citizen filed in VNeID
=============================== ==================== =========================================================

Payloads go as the bytes that the sender signed, but for a list of statuses, which goes in batches of :data:`BATCH`.

Quirks kept here and nowhere else:

- The list of statuses is a queue: what is in it comes again until it is acknowledged (P26). Asking never acknowledges:
  the agency asks, saves, and sends the acknowledgement as a message of its own. An answer that is lost on its way is
  asked for again, and one acknowledgement too many does no harm.
- NGSP refuses without a code: STATUS "0" and a text. It may mean anything, so a declaration is tried again, unless the
  words say that the data are wrong (setting ``wording``, ``final``) or that this receipt number is there already
  (``received``: an attempt before this one arrived). To a question STATUS "0" is an answer.
- VNeID's "03" means interrupted: the whole batch comes again. "01" is final.

Endpoint settings: ``token_path``, ``paths`` (operation → path; a space in one is the partner's own, and is sent as
``%20``), ``operations``, ``headers``, ``wording``, ``codes`` (VNeID's statusCode → ``ok``, ``later`` or ``final``),
``batch`` (1 to 1000); for VNeID's calls ``inbound``: ``receiver`` (needed), ``path``, ``header``. The secret is that of
:mod:`connectors.callbacks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from connectors.base import Answer, Incoming, Outcome, Parcel, PartnerCall, Reply, message_id_of
from connectors.callbacks import login_of, prove, receiver_of
from connectors.http import Deadline, HttpClient, check_status
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
from schemas.identifiers import DossierCode, ServiceCode
from schemas.message import Receipt
from schemas.problem import InvalidReply, Malformed, NotFound, Problem, ProviderRejected, ProviderUnavailable

OPERATIONS: Final = {
    "criminal-record.register": "nhanHoSoDangKy",
    "criminal-record.status": "traTrangThaiHs",
    "criminal-record.statuses": "traDsTrangThaiHs",
    "criminal-record.acknowledge": "danhDauHsThanhCong",
    "criminal-record.sync": "dongBoTrangThai",
}
#: Operations that only ask.
QUESTIONS: Final = frozenset({"traTrangThaiHs", "traDsTrangThaiHs"})
#: Where an operation is, when the setting ``paths`` does not say.
NGSP_PATH: Final = "apiLLTP"
VNEID_PATHS: Final[Mapping[str, str]] = {"dongBoTrangThai": "vneid/dongBoTrangThai"}
#: Statuses of one VNeID call in the client seen; others send up to 1,000 (P27).
BATCH: Final = 40
MOST_IN_BATCH: Final = 1000
#: What VNeID's statusCode means. A code that is not here may pass.
CODES: Final[Mapping[str, str]] = {"00": "ok", "01": "final", "03": "later"}
#: The receipt number is there already.
RECEIVED: Final = ("đã tồn tại", "đã được tiếp nhận")
#: The data are wrong, and will not mend by waiting.
FINAL: Final = ("bắt buộc", "không hợp lệ", "không đúng", "không tìm thấy")


class CriminalRecordConnector:
    """Hands declarations and statuses over and asks about them. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the partner's last answer, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        payload = payload_object(parcel)
        if operation not in VNEID_PATHS:
            return kept(judged(self._post(operation, parcel.body, parcel, endpoint, secret), operation, endpoint))
        deadline = Deadline(endpoint.timeout_seconds)
        replies = []
        for body in batches(parcel.body, payload, _batch_size(endpoint)):
            within = replace(endpoint, timeout_seconds=deadline.remaining())
            replies.append(judged_by_code(self._post(operation, body, parcel, within, secret), endpoint))
        return kept(replies[-1])

    def close(self) -> None:
        self._http.close()

    def _post(self, operation: str, body: bytes, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        url = f"{endpoint.url.rstrip('/')}/{_path(operation, endpoint)}"
        headers = question_headers(parcel, endpoint)

        def call(authorization: str, seconds: float) -> Reply:
            own = {**headers, "Authorization": authorization}
            return self._http.request("POST", url, headers=own, body=body, timeout_seconds=seconds)

        return check_status(
            self._calls.make(
                call,
                endpoint,
                login_of(secret),
                token_url=place(endpoint, "token_path", "token"),
                headers=fixed_headers(endpoint),
                form="grant_type=client_credentials",
            )
        )


def batches(body: bytes, payload: Mapping[str, Any], size: int) -> Iterator[bytes]:
    """The bodies to send: one status as its sender signed it, a list in parts of ``size``."""
    if "data" not in payload:
        yield body
        return
    rows = payload["data"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ProviderRejected("payload-not-for-partner", member="data")
    for start in range(0, len(rows), size):
        yield write_json({"data": rows[start : start + size]})


def judged(reply: Reply, operation: str, endpoint: Endpoint) -> Reply:
    """The reply of NGSP if the declaration is there; raises what its text means otherwise."""
    document = reply_object(reply)
    status, text = code_text(document.get("STATUS")), document.get("DESCRIPTION")
    if status not in ("0", "1"):
        raise InvalidReply("reply-not-readable")
    if status == "1" or operation in QUESTIONS:
        return reply
    wording = setting_mapping(endpoint, "wording")
    if operation == "nhanHoSoDangKy" and says(text, setting_texts(wording, "received", RECEIVED)):
        return reply
    if says(text, setting_texts(wording, "final", FINAL)):
        raise ProviderRejected("provider-said-no", code=status)
    raise ProviderUnavailable("partner-says-later", code=status)


def judged_by_code(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply of VNeID if it took the batch; raises what its code means otherwise."""
    code = code_text(reply_object(reply).get("statusCode"))
    if not code:
        raise InvalidReply("reply-not-readable")
    meaning = {**CODES, **setting_mapping(endpoint, "codes")}.get(code, "later")
    if meaning == "ok":
        return reply
    if meaning == "final":
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    if meaning == "later":
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderUnavailable("endpoint-invalid", setting="codes")


def _batch_size(endpoint: Endpoint) -> int:
    size = endpoint.settings.get("batch", BATCH)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MOST_IN_BATCH:
        raise ProviderUnavailable("endpoint-invalid", setting="batch")
    return size


def _path(operation: str, endpoint: Endpoint) -> str:
    usual = VNEID_PATHS.get(operation, f"{NGSP_PATH}/{operation}")
    path = setting_mapping(endpoint, "paths").get(operation, usual)
    if not isinstance(path, str):
        raise ProviderUnavailable("endpoint-invalid", setting="paths")
    return quote(path.lstrip("/"), safe="/-._~%?=&")


# ---- VNeID calls us

SUBMITTED_SERVICE: Final = ServiceCode("criminal-record.submitted")


class CriminalRecordReceiver:
    """Takes the dossiers that citizens file in VNeID. Keeps nothing, so it is safe under threads."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`. The same dossier with other content is a supplement: a new message."""
        inbound = setting_mapping(endpoint, "inbound")
        prove(call, str(inbound.get("header", "authorization")), secret)
        if call.method != "POST" or call.path != inbound.get("path", "ho-so"):
            raise NotFound("page-unknown")
        dossier = read_json(call.body)
        code = code_text(dossier.get("maHoSoMCDT")) if isinstance(dossier, dict) else ""
        if not 0 < len(code) <= 100:
            raise Malformed("partner-notice-invalid", member="maHoSoMCDT")
        return Incoming(
            service=SUBMITTED_SERVICE,
            receivers=(receiver_of(inbound),),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, code, hashlib.sha256(call.body).hexdigest()),
            dossier=_dossier(code),
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """ "00" for what is recorded, and for nothing else."""
        if isinstance(outcome, Receipt):
            return _answer("00", None)
        return self.refuse(call, outcome) if isinstance(outcome, Problem) else _answer("03", "")

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """ "03" where the same call may succeed later, else "01"."""
        return _answer("03" if problem.retryable else "01", problem.detail("vi"))


def _dossier(code: str) -> DossierCode | None:
    try:
        return DossierCode(code)
    except Malformed:
        return None


def _answer(code: str, detail: str | None) -> Answer:
    return Answer(body=write_json({"statusCode": code, "data": None, "errorDetail": detail}))
