"""Twin of the e-document axis (vietnam.md 4.19), in both variants: documents, status documents, many receivers.

It judges packets as the axis does: 22 for what is no edXML, ``N.``, ``R.``, ``M.``, ``T.`` codes for its fields, 10 for
a file over the limit, 18 for receivers that it does not know, 23 for one that is locked, 15 for a wrong id or key. Each
receiver has a status of its own (P29). A recall asks the receivers (13); the answer of each comes back as a status
document, 15, or 16 from ``REFUSES``. One effect per DocumentId and kind of document.

Wording ``doc_id``: ``bare`` answers with ``docId`` without quotes, as the real axis does; ``quoted`` is JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import same_secret
from schemas.edxml import (
    MAX_FILE_BYTES,
    BussinessDocType,
    Document,
    StatusDocument,
    faults_of,
    read_edxml,
    status_of,
    timestamp_of,
    write_edxml,
)
from schemas.moment import utc_now
from schemas.problem import Malformed

NAME = "edoc"
WORDING = {
    "ok": "Thành công",
    "format": "Format edXML không đúng chuẩn",
    "field": "Dữ liệu không hợp lệ",
    "file": "File không hợp lệ",
    "login": "Sai SystemId hoặc SecretKey",
    "receiver": "Đơn vị nhận không tồn tại",
    "locked": "Đơn vị nhận đã khóa",
    "unknown": "Không tìm thấy văn bản",
    "doc_id": "quoted",
}
PRESETS = {
    "missing": error("N.: a required field is missing", "N.MessageHeader.Subject", "field", service="sendEdoc"),
    "out-of-range": error("R.: a field is too long", "R.MessageHeader.Subject", "field", service="sendEdoc"),
    "mismatch": error(
        "M.: two fields contradict each other", "M.MessageHeader.DocumentId", "field", service="sendEdoc"
    ),
    "wrong-type": error("T.: a field is of another type", "T.MessageHeader.DueDate", "field", service="sendEdoc"),
    "no-edxml": error("22 Format edXML không đúng chuẩn", "22", "format", service="sendEdoc"),
    "locked": error("23 Đơn vị nhận đã khóa", "23", "locked", service="sendEdoc"),
    "file-too-large": error("10 a file over 50 MB", "10", "file", service="sendEdoc"),
    "busy": error("20: it passes by waiting", "20"),
    "wrong-key": error("15 Sai SystemId hoặc SecretKey", "15", "login"),
    "bare-ids": Preset(says="docId without quotes, as the real axis writes it", by='PUT …/wording {"doc_id": "bare"}'),
}
#: Invented agencies: code of QĐ 20/2020, code of QCVN 102:2016, name.
AGENCIES = (
    ("H99", "000.00.00.H99", "UBND tỉnh Thử Nghiệm"),
    ("H99.15", "000.00.15.H99", "Trung tâm Phục vụ hành chính công (thử nghiệm)"),
    ("H99.16", "000.00.16.H99", "Sở Tư pháp (thử nghiệm)"),
    ("H99.17", "000.00.17.H99", "Sở đã khóa (thử nghiệm)"),
    ("H99.20", "000.00.20.H99", "UBND phường Mẫu (thử nghiệm)"),
    ("G99", "000.00.00.G99", "Bộ Thử Nghiệm"),
    ("G99.14", "000.00.14.G99", "Cục Thử Nghiệm"),
    ("H99.DN.001", "", "Doanh nghiệp Mẫu"),
)
LOCKED = frozenset({"H99.17", "000.00.17.H99"})
#: Receivers that refuse a recall (16); the others agree (15).
REFUSES = frozenset({"H99.16", "000.00.16.H99"})
#: What waits on the axis for the province from the start.
WAITING = ("incoming.example.xml", "incoming-old.example.xml")
_EXAMPLES = Path(__file__).resolve().parent.parent.parent / "schemas" / "partners" / "edoc"
_KNOWN = frozenset(code for row in AGENCIES for code in row[:2] if code)


@dataclass(slots=True)
class _Kept:
    """One document on the axis. ``statuses`` by receiver: status word or code, description."""

    doc_id: str
    kind: str
    sender: str
    document_id: str
    packet: bytes = field(repr=False)
    created: str = ""
    statuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Does it wait for the province, or has the province sent it?
    incoming: bool = False


class EdocTwin:
    """The axis. Safe under threads."""

    def __init__(self, dial: Dial, credential: str, wording: Mapping[str, str] | None = None) -> None:
        self.wording = {**WORDING, **(wording or {})}
        self.max_bytes = MAX_FILE_BYTES
        self._dial = dial
        self._system_id, _, self._key = credential.partition(":")
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._by_name: dict[tuple[str, ...], str] = {}
        self._repeats = 0
        self.reset()

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/edoc")
        for operation, act in self._acts().items():
            path = operation.replace("getReceivedEdocList", "syncReceivedEdocList")
            routes.add_url_rule(
                f"/{operation}", f"national_{operation}", self._national(operation, act), methods=["GET", "POST"]
            )
            routes.add_url_rule(
                f"/v1/{path}", f"provincial_{operation}", self._provincial(operation, act), methods=["GET", "POST"]
            )
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            sent = [item for item in self._kept.values() if not item.incoming]
            return {
                "sent": [
                    {
                        "docId": item.doc_id,
                        "messageType": item.kind,
                        "documentId": item.document_id,
                        "statuses": {to: status for to, (status, _) in item.statuses.items()},
                    }
                    for item in sent
                ],
                "waiting": [item.doc_id for item in self._kept.values() if item.incoming and _waits(item)],
                "repeats": self._repeats,
            }

    def reset(self) -> None:
        with self._lock:
            self._kept.clear()
            self._by_name.clear()
            self._repeats = 0
            for name in WAITING:
                packet = (_EXAMPLES / name).read_bytes()
                document = read_edxml(packet)
                self._keep(document, packet, incoming=True)

    # ---- The doors

    def _acts(self) -> dict[str, Callable[[Mapping[str, str]], dict[str, Any] | Response]]:
        return {
            "sendEdoc": self._send,
            "getReceivedEdocList": self._received,
            "getEdoc": self._get,
            "updateStatus": self._update,
            "getSentEdocList": self._sent,
            "getAgenciesList": self._agencies,
            "getAgenciesListQD20": self._agencies,
        }

    def _national(self, operation: str, act: Callable[..., Any]) -> Callable[[], Response]:
        def serve() -> Response:
            given = self._sealed()
            if given is None:
                return self._national_no("15", self.wording["login"])
            if operation == "sendEdoc":
                given["packet"] = self._body()
            return self._dial.apply(NAME, operation, lambda: self._national_yes(act(given)), self._national_no)

        return serve

    def _provincial(self, operation: str, act: Callable[..., Any]) -> Callable[[], Response]:
        def serve() -> Response:
            held = same_secret(request.headers.get("X-SystemId"), self._system_id)
            if not (same_secret(request.headers.get("X-SecretKey"), self._key) and held):
                return self._provincial_no("15", self.wording["login"])
            given: dict[str, Any] = {"provincial": True, **request.args, **request.form}
            given["messagetype"] = given.get("messageType", "edoc")
            if request.is_json:
                given |= request.get_json(silent=True) or {}
            if operation == "sendEdoc":
                file = request.files.get("edocFile")
                given["packet"] = b"" if file is None else file.read()
            return self._dial.apply(NAME, operation, lambda: self._provincial_yes(act(given)), self._provincial_no)

        return serve

    def _sealed(self) -> dict[str, Any] | None:
        """The national headers without their prefix, if the seal over them holds."""
        said = request.headers.get("XroadVnpt-sign-header", "")
        digest = hmac.new(self._key.encode(), said.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(digest, request.headers.get("XroadVnpt-hash-header", "")):
            return None
        try:
            named: dict[str, str] = json.loads(said)
        except ValueError:
            return None
        names = request.headers.get("XroadVnpt-sign-header-key", "").split(";")
        if named != {f"XroadVnpt-{name}": request.headers.get(f"XroadVnpt-{name}") for name in names}:
            return None
        given: dict[str, Any] = {name: named[f"XroadVnpt-{name}"] for name in names}
        return given if given.get("systemid") == self._system_id and given.get("timestamp") else None

    def _body(self) -> bytes:
        # The sandbox's own limit is lower than the axis's; this call may be longer.
        request.max_content_length = None
        return request.get_data()

    # ---- What it does: a mapping is success, ``{"code", "text"}`` with a code is a refusal

    def _send(self, given: Mapping[str, Any]) -> dict[str, Any]:
        packet = given["packet"]
        if len(packet) > self.max_bytes:
            return self._refusal("10", "file")
        try:
            document = read_edxml(packet)
        except Malformed:
            return self._refusal("22", "format")
        codes = faults_of(document)
        kind = "status" if isinstance(document, StatusDocument) else "edoc"
        if codes:
            return self._refusal(codes[0], "field")
        if given.get("messagetype") != kind:
            return self._refusal("M.messagetype", "field")
        if isinstance(document, Document):
            named = [item.organ_id for item in document.receivers]
            if len(named) == 1 and named[0] in LOCKED:
                return self._refusal("23", "locked")
            if not any(name in _KNOWN for name in named):
                return self._refusal("18", "receiver")
        with self._lock:
            return {"docId": self._keep(document, packet, incoming=False)}

    def _keep(self, document: Document | StatusDocument, packet: bytes, *, incoming: bool) -> str:
        """Under the lock. The docId, the first one for a repeat."""
        if isinstance(document, StatusDocument):
            told = document.response_for.document_id
            name: tuple[str, ...] = ("status", document.sender.organ_id, told, document.status_code)
            receivers: list[str] = [document.response_for.organ_id]
        else:
            told = document.document_id or str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(packet).hexdigest()))
            name = ("edoc", document.sender.organ_id, told, document.bussiness.bussiness_doc_type)
            receivers = [item.organ_id for item in document.receivers]
        if name in self._by_name:
            self._repeats += 1
            return self._by_name[name]
        doc_id = str(uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join(name)))
        kept = _Kept(doc_id, name[0], document.sender.organ_id, told, packet, timestamp_of(utc_now()))
        kept.incoming = incoming
        kept.statuses = {to: self._first_status(to, incoming=incoming) for to in receivers}
        self._by_name[name] = doc_id
        self._kept[doc_id] = kept
        if isinstance(document, Document) and not incoming and document.concerns:
            self._ask_back(document)
        return doc_id

    def _first_status(self, receiver: str, *, incoming: bool) -> tuple[str, str]:
        if incoming:
            return "initial", "Chưa xử lý"
        if receiver in LOCKED:
            return "fail", self.wording["locked"]
        return ("done", "") if receiver in _KNOWN else ("fail", self.wording["receiver"])

    def _ask_back(self, document: Document) -> None:
        """Under the lock. A recall or another change of a document that was sent: 13, then each receiver's answer."""
        kind = document.bussiness_doc_type
        for item in list(self._kept.values()):
            if item.incoming or item.kind != "edoc" or item.document_id not in document.concerns:
                continue
            original = read_edxml(item.packet)
            if not isinstance(original, Document) or original.bussiness_doc_type != BussinessDocType.NEW:
                continue
            for receiver in original.receivers:
                if receiver.organ_id not in _KNOWN or receiver.organ_id in LOCKED:
                    continue
                if kind == BussinessDocType.RECALL:
                    item.statuses[receiver.organ_id] = ("13", "")
                code = "16" if receiver.organ_id in REFUSES else "15"
                said = status_of(original, code, receiver=receiver, now=utc_now())
                self._keep(said, write_edxml(said), incoming=True)

    def _received(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kind = given.get("messagetype", "edoc")
        with self._lock:
            found = [item for item in self._kept.values() if item.incoming and item.kind == kind and _waits(item)]
            return {"data": [row for item in found for row in _rows(item, given)]}

    def _sent(self, given: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            found = [item for item in self._kept.values() if not item.incoming]
            if given.get("docId"):
                found = [item for item in found if item.doc_id == given["docId"]]
            else:
                found = [item for item in found if item.kind == given.get("messagetype", "edoc")]
            return {"data": [row for item in found for row in _rows(item, given)]}

    def _get(self, given: Mapping[str, Any]) -> dict[str, Any] | Response:
        with self._lock:
            item = self._kept.get(given.get("docId", ""))
        if item is None or not item.incoming:
            return self._refusal("-1", "unknown")
        if not given.get("provincial"):
            return Response(item.packet, mimetype="application/xml")
        text = base64.b64encode(item.packet).decode("ascii")
        return {"data": {"docId": item.doc_id, "from": item.sender, "edxml": text, "attachments": []}}

    def _update(self, given: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            item = self._kept.get(given.get("docId", ""))
            if item is None or not item.incoming:
                return self._refusal("-1", "unknown")
            if given.get("status") not in ("done", "fail", "processing"):
                return self._refusal("R.status", "field")
            item.statuses = dict.fromkeys(item.statuses, (given["status"], ""))
        return {}

    def _agencies(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        new = request.path.endswith("QD20")
        rows = [
            {"id": str(number), "pcode": "", "code": code, "code102": old, "name": name, "mail": "", "mobile": ""}
            if new
            else {"id": str(number), "pcode": "", "code": old or code, "name": name, "mail": "", "mobile": ""}
            for number, (code, old, name) in enumerate(AGENCIES, 1)
        ]
        return {"data": rows}

    # ---- How it answers

    def _refusal(self, code: str, text: str) -> dict[str, Any]:
        return {"refused": (code, self.wording[text])}

    def _national_yes(self, answer: dict[str, Any] | Response) -> Response:
        if isinstance(answer, Response):
            return answer
        if "refused" in answer:
            return self._national_no(*answer["refused"])
        return self._json({"status": "success", "ErrorCode": "0", "ErrorDesc": self.wording["ok"], **answer})

    def _national_no(self, code: str, message: str) -> Response:
        return self._json({"status": "fail", "ErrorCode": code, "ErrorDesc": message})

    def _provincial_yes(self, answer: dict[str, Any] | Response) -> Response:
        if isinstance(answer, Response):
            return answer
        if "refused" in answer:
            return self._provincial_no(*answer["refused"])
        data = answer.get("data")
        count = {"count": len(data)} if isinstance(data, list) else {}
        return self._json({"success": True, "message": "OK", **count, **answer})

    def _provincial_no(self, code: str, message: str) -> Response:
        data = {"docId": None, "status": "error", "errorCode": code, "errorDesc": message}
        return self._json({"success": False, "message": "Lỗi", "data": data})

    def _json(self, document: Mapping[str, Any]) -> Response:
        text = json.dumps(document, ensure_ascii=False)
        if self.wording["doc_id"] == "bare":
            for item in list(self._kept):
                text = text.replace(f'"docId": "{item}"', f'"docId": {item}')
        return Response(text, mimetype="application/json")


def _waits(item: _Kept) -> bool:
    return any(status in ("initial", "processing") for status, _ in item.statuses.values())


def _rows(item: _Kept, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row for each receiver (P29), in the names of the variant."""
    created, updated, said = (
        ("createdTime", "updatedTime", "statusDesc")
        if given.get("provincial")
        else ("created_time", "updated_time", "status_desc")
    )
    return [
        {
            "docId": item.doc_id,
            "serviceType": "eDoc",
            "messageType": item.kind,
            created: item.created,
            updated: item.created,
            "from": item.sender,
            "to": to,
            "status": status,
            said: text,
        }
        for to, (status, text) in item.statuses.items()
    ]
