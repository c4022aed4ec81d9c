"""Social protection (bảo trợ xã hội) of a provincial department: results of dossiers go there and come from there.

::

    POST <url>/apiBTXH/DongBoDVC   {"AcceptKey", "MaHoSo", …, "CertificateExtentData": "<ExtentData>…"} one dossier
    POST <url>/apiBTXH/XuLyHoSo    {"AcceptKey", "MaHoSo", "NguoiXuLy", …}                              one progress row
    → {"error_code": "0", "message"}
    POST <url>/apiBTXH/KetQua      {"AcceptKey", "tuNgay", "denNgay"}
    → {"result": {"message", "error_code": 0, "data": [{"maHoSo", …, "certificateExtentData": "<ExtentData>…"}]}}

Source: vietnam.md 4.18 and the code of a living client (TD-SLD); address and question of the third are assumed.

=============================== ==================
``social-protection.dossier``   apiBTXH/DongBoDVC
``social-protection.progress``  apiBTXH/XuLyHoSo
``social-protection.results``   apiBTXH/KetQua
=============================== ==================

Endpoint settings: ``operations``, ``headers``, ``wording`` (list ``exists``), ``retry_codes``. The secret is the
AcceptKey, or ``name:key``.

Quirks kept here and nowhere else:

- The AcceptKey is a secret inside the document (vietnam.md 5.2): it is written into the bytes, and every other stays.
- XML inside a JSON string (P5): it is never unwrapped and written again, the string arrives as it left. But XML that
  carries a DTD is refused in both directions, for whoever reads it next may be a parser that follows entities out of
  the house. What is not well-formed passes: its reader sees that, and one bad row must not hold up a list.
- ``DanhsachTaiLieuNop`` and ``DanhSachTaiLieuNop`` are both alive in that XML: nothing here depends on either.
- The code stands inside ``result`` for questions and beside nothing for deliveries, a number here and a text there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.partner_json import (
    code_text,
    is_success,
    operation_of,
    payload_object,
    reply_object,
    says,
    setting_mapping,
    setting_texts,
    shown_code,
    with_member,
)
from connectors.rest import kept, question_headers, secret_text
from registry.model import Endpoint
from schemas.codec import read_xml
from schemas.problem import InvalidReply, Malformed, ProviderRejected, ProviderUnavailable

OPERATIONS = {
    "social-protection.dossier": "apiBTXH/DongBoDVC",
    "social-protection.progress": "apiBTXH/XuLyHoSo",
    "social-protection.results": "apiBTXH/KetQua",
}
PROOF = "AcceptKey"
#: A repeat; assumed to be worded as elsewhere in this family.
EXISTS = ("đã tồn tại",)
#: Codes that say nothing about the data.
RETRY_CODES = ("-1",)
#: The member that holds XML, in both spellings that are alive.
EMBEDDED = ("CertificateExtentData", "certificateExtentData")


class SocialProtectionConnector:
    """Carries dossiers and progress, and asks for results. Safe under threads."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the department's answer, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        payload = payload_object(parcel)
        if PROOF in payload:
            # A sender that knows the key, or guesses at it, does not speak for the bus.
            raise ProviderRejected("payload-not-for-partner", member=PROOF)
        if any(carries_doctype(text) for text in embedded_xml([payload])):
            raise ProviderRejected("payload-not-for-partner", member=EMBEDDED[0])
        key = secret_text(secret)
        reply = self._http.request(
            "POST",
            f"{endpoint.url.rstrip('/')}/{operation}",
            headers=question_headers(parcel, endpoint),
            body=with_member(parcel.body, PROOF, key.rpartition(":")[2]),
            timeout_seconds=endpoint.timeout_seconds,
        )
        return kept(judged(check_status(reply), endpoint))

    def close(self) -> None:
        self._http.close()


def judged(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply if it is a yes without danger in it; raises what its code means otherwise."""
    document = reply_object(reply)
    inner = document.get("result")
    said = inner if isinstance(inner, dict) else document
    code = said.get("error_code")
    if "error_code" not in said:
        raise InvalidReply("reply-not-readable")
    if is_success(code):
        if any(carries_doctype(text) for text in embedded_xml(said.get("data"))):
            raise InvalidReply("embedded-xml-doctype")
        return reply
    if says(said.get("message"), setting_texts(setting_mapping(endpoint, "wording"), "exists", EXISTS)):
        return reply
    if code_text(code) in setting_texts(endpoint.settings, "retry_codes", RETRY_CODES):
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))


def embedded_xml(rows: object) -> Iterator[str]:
    """The XML texts inside rows of JSON."""
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping):
            yield from (text for name in EMBEDDED if isinstance(text := row.get(name), str) and text)


def carries_doctype(text: str) -> bool:
    """Has this XML a DTD, the door to external entities and to expansion without end? Nothing of it is resolved."""
    try:
        read_xml(text.encode("utf-8", errors="replace"))
    except Malformed as problem:
        # A document that is broken elsewhere is searched too: parsers differ in what they forgive.
        return problem.reason == "xml-doctype" or "<!doctype" in text.casefold() or "<!entity" in text.casefold()
    return False
