"""Twin of the criminal-record system (vietnam.md 4.16): declarations through NGSP, a queue of statuses, and VNeID.

::

    POST /criminal_record/token
    POST /criminal_record/apiLLTP/<operation>      Bearer …   {"STATUS", "DESCRIPTION", "ID" or "LISTCONTENT"}
    POST /criminal_record/vneid/dongBoTrangThai    Bearer …   {"statusCode", "data", "errorDetail"}

    What people do, for testers (no login):
    POST /criminal_record/so/xu-ly   {"idReceivedDec"}        the department goes one step on: 3, 4, 5
    POST /criminal_record/so/nop     {"maHoSoMCDT", "to"}     a citizen files in VNeID; with "to" it is sent there

Its manners: a receipt number is taken once; what changed stands in the list until it is marked as taken (P26), and
comes back when it changes again; refusals have no code; "03" comes by the dial (``{"kind": "error", "code": "03"}``).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.calling import call_bus
from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import IssuedSessions, same_login
from schemas.date_format import read_date_pattern
from schemas.moment import VIETNAM

NAME = "criminal_record"
WORDING = {
    "again": "Số biên nhận đã tồn tại",
    "missing": "Thiếu trường bắt buộc {member}",
    "date": "{member} không đúng định dạng",
    "unknown": "Không tìm thấy hồ sơ",
    "token": "Token không hợp lệ",
    "batch": "Quá số lượng bản ghi cho phép",
}
PRESETS = {
    "refused": error('STATUS "0" and a DESCRIPTION', "0", "unknown"),
    "number-taken": error("Số biên nhận đã tồn tại", "0", "again", service="nhanHoSoDangKy"),
    "vneid-error": error('VNeID "01"', "01", "batch", service="dongBoTrangThai"),
    "vneid-interrupted": error('VNeID "03": it may come again', "03", service="dongBoTrangThai"),
}
STATUSES: Final = {3: "Sở Tư pháp đã tiếp nhận", 4: "Đang xử lý", 5: "Đã cấp phiếu"}
#: Mandatory parts of a declaration.
MANDATORY: Final = (
    *("fullName", "genderId", "birthDateStr", "nationalityId", "idTypeId", "identifyNo", "phone"),
    *("declareDate", "declareTypeId", "requestQty", "objectRequestId", "formType"),
)
MOST_IN_BATCH: Final = 1000
DAY = read_date_pattern("dd/MM/yyyy")
#: A birth may be known in part.
BIRTHS = tuple(map(read_date_pattern, ("dd/MM/yyyy", "MM/yyyy", "yyyy")))


@dataclass
class _Declaration:
    number: int
    receipt: str
    identity: str
    status: int = 3
    taken: bool = False

    def shown(self) -> dict[str, Any]:
        issued = self.status == 5
        return {
            "DECLARATION_ID": self.number,
            "DEC_STATUS_ID": self.status,
            "DEC_STATUS_NAME": STATUSES[self.status],
            "APPROVE_DATE": f"{datetime.now(VIETNAM):%d/%m/%Y}" if issued else "",
            "APPOINTMENT_NO": f"PLLTP-{self.number:06d}" if issued else "",
            "RECEIVE_NO": self.receipt,
            "ISSUE_DATE": f"{datetime.now(VIETNAM):%d/%m/%Y}" if issued else "",
        }


class CriminalRecordTwin:
    """The department's desk. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        """``credential`` is a JSON object of ``user``, ``secret`` and ``callback``."""
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._credential: Mapping[str, str] = json.loads(credential)
        self._lock = threading.Lock()
        self.reset()

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        routes.post("/token")(self._token)
        for operation, act in {
            "nhanHoSoDangKy": self._take,
            "traTrangThaiHs": self._status,
            "traDsTrangThaiHs": self._list,
            "danhDauHsThanhCong": self._mark,
        }.items():
            desk = self._desk(operation, act, self._no)
            # One living installation has a space in its addresses (vietnam.md 5.2).
            for path in (f"/apiLLTP/{operation}", f"/LLTP-API- {operation}"):
                routes.post(path, endpoint=f"{operation}{len(path)}")(desk)
        desk = self._desk("dongBoTrangThai", self._sync, _vneid)
        routes.post("/vneid/dongBoTrangThai", endpoint="dongBoTrangThai")(desk)
        routes.post("/so/xu-ly", endpoint="xu-ly")(self._go_on)
        routes.post("/so/nop", endpoint="nop")(self._submit)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "declarations": {one.receipt: one.status for one in self._declarations},
                "waiting": [one.number for one in self._declarations if not one.taken],
                "duplicates": self._duplicates,
                "synced": dict(self._synced),
                "batches": list(self._batches),
                "idempotency_keys": dict(self._keys),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._declarations: list[_Declaration] = []
            self._duplicates = 0
            self._synced: dict[str, str] = {}
            self._batches: list[int] = []
            self._keys: dict[str, int] = {}

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, self._no)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._credential["user"], self._credential["secret"]):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _desk(
        self, operation: str, act: Callable[[Any], Response], no: Callable[[str, str], Response]
    ) -> Callable[[], Response]:
        def serve() -> Response:
            if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
                return make_response(no("01", self.wording["token"]), 401)
            question = request.get_json(silent=True, force=True)
            key = request.headers.get("Idempotency-Key", "")
            with self._lock:
                self._keys[key] = self._keys.get(key, 0) + 1
            return self._dial.apply(NAME, operation, lambda: self._acted(act, question), no)

        return serve

    def _acted(self, act: Callable[[Any], Response], question: Any) -> Response:
        with self._lock:
            return act(question if isinstance(question, dict) else {})

    # ---- What the department does, under the lock

    def _take(self, declared: Mapping[str, Any]) -> Response:
        form = declared.get("declarationWSForm")
        complaint = self._complaint(declared, form if isinstance(form, dict) else {})
        if complaint:
            return self._no("0", complaint)
        receipt = str(declared["idReceivedDec"])
        if any(one.receipt == receipt for one in self._declarations):
            self._duplicates += 1
            return self._no("0", self.wording["again"])
        identity = str(declared["declarationWSForm"]["identifyNo"])
        number = len(self._declarations) + 1
        self._declarations.append(_Declaration(number=number, receipt=receipt, identity=identity))
        return jsonify({"STATUS": "1", "DESCRIPTION": "", "ID": str(number)})

    def _complaint(self, declared: Mapping[str, Any], form: Mapping[str, Any]) -> str:
        for member in ("idReceivedDec", "dateReceivedDec", "datePromissoryDec"):
            if not declared.get(member):
                return self.wording["missing"].format(member=member)
        for member in MANDATORY:
            if form.get(member) in (None, ""):
                return self.wording["missing"].format(member=member)
        for member, text in (("dateReceivedDec", declared["dateReceivedDec"]), ("declareDate", form["declareDate"])):
            if DAY.read(text) is None:
                return self.wording["date"].format(member=member)
        if all(pattern.read(form["birthDateStr"]) is None for pattern in BIRTHS):
            return self.wording["date"].format(member="birthDateStr")
        return ""

    def _status(self, question: Mapping[str, Any]) -> Response:
        for one in self._declarations:
            if one.receipt == question.get("idReceivedDec") and one.identity == str(question.get("identifyNo")):
                return jsonify({"STATUS": "1", "DESCRIPTION": "", "LISTCONTENT": [one.shown()]})
        return self._no("0", self.wording["unknown"])

    def _list(self, question: Mapping[str, Any]) -> Response:
        if question.get("infoType") not in (1, 2):
            return self._no("0", self.wording["missing"].format(member="infoType"))
        waiting = [one.shown() for one in self._declarations if not one.taken]
        return jsonify({"STATUS": "1", "DESCRIPTION": "", "LISTCONTENT": waiting[:MOST_IN_BATCH]})

    def _mark(self, question: Mapping[str, Any]) -> Response:
        listed = str(question.get("declarationId", ""))
        if not re.fullmatch("[0-9]+(;[0-9]+)*", listed):
            return self._no("0", self.wording["missing"].format(member="declarationId"))
        numbers = {int(number) for number in listed.split(";")}
        found = [one for one in self._declarations if one.number in numbers]
        if len(found) < len(numbers):
            return self._no("0", self.wording["unknown"])
        for one in found:
            one.taken = True
        return jsonify({"STATUS": "1", "DESCRIPTION": ""})

    def _sync(self, question: Mapping[str, Any]) -> Response:
        rows = question.get("data", [question])
        if not isinstance(rows, list) or not 0 < len(rows) <= MOST_IN_BATCH:
            return _vneid("01", self.wording["batch"])
        for row in rows:
            for member in ("maHoSoMCDT", "trangThaiXuLy"):
                if not isinstance(row, dict) or not row.get(member):
                    return _vneid("01", self.wording["missing"].format(member=member))
        self._batches.append(len(rows))
        self._synced |= {str(row["maHoSoMCDT"]): str(row["trangThaiXuLy"]) for row in rows}
        return _vneid("00", "")

    def _no(self, code: str, text: str) -> Response:
        return jsonify({"STATUS": "0", "DESCRIPTION": text})

    # ---- What people do

    def _go_on(self) -> Response:
        """One step on; a declaration that changed stands in the list again."""
        with self._lock:
            found = [one for one in self._declarations if one.receipt == _asked("idReceivedDec")]
            for one in found:
                one.status, one.taken = min(one.status + 1, 5), False
        return jsonify([one.shown() for one in found])

    def _submit(self) -> Response:
        dossier = {
            "maTinh": "31",
            "maHoSoMCDT": _asked("maHoSoMCDT"),
            "ngayTiepNhan": f"{datetime.now(VIETNAM):%d/%m/%Y}",
            "nguonDangKy": 1,
            "tenNguonDangKy": "VNeID",
            "toKhai": {
                "loaiPhieu": int(_asked("loaiPhieu") or 1),
                "soLuongCap": 1,
                "nycHoTen": "TRẦN VĂN THỬ",
                "nycGioiTinh": 1,
                "nycNgaySinh": "02/01/1985",
                "nycSoGiayTo": "099085000002",
                "uyQuyen": 0,
            },
            "thongTinBienLai": {"trangThaiGD": 1, "urlBienLai": "https://bien-lai.example.vn/BL0001"},
        }
        return jsonify({"dossier": dossier, "answer": self._sent(dossier, _asked("to")) if _asked("to") else None})

    def _sent(self, dossier: Mapping[str, Any], address: str) -> Any:
        return call_bus(address, dossier, self._credential["callback"])


def _vneid(code: str, text: str) -> Response:
    return jsonify({"statusCode": code, "data": None, "errorDetail": text or None})


def _asked(member: str) -> str:
    document = request.get_json(silent=True, force=True)
    return str(document.get(member) or "") if isinstance(document, dict) else ""
