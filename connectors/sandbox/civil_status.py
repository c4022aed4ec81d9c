"""Twin of the ministry's civil-status system (vietnam.md 4.12): direct API, joint chain, and the ministry's hands.

::

    POST /civil_status/token
    POST /civil_status/apiHoTichTuPhap/<operation>      Bearer …
    POST /civil_status/lienThong/dangKyHoSo             Bearer …; data is JSON as text

    What people do at the ministry, for testers (no login):
    POST /civil_status/bo/cap-so     {"maHoSo"}                    the personal number comes now
    POST /civil_status/bo/xac-nhan   {"maHoSo"}                    these are two people: no duplicate
    POST /civil_status/bo/trang-thai {"maHoSo", "trangThai", …}    the status that goes out; with "to" it is sent there

Its manners: a registration is there once for each maHoSo, and a repeat is refused in words only; a record is complete
after it was asked about once, without the child's number, which comes :data:`NUMBER_AFTER` questions later (P19); a
second child of the same mother and day is a suspected duplicate until somebody confirms it (P20); a date of birth that
cannot be read is sent back to be verified (P21).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.calling import call_bus
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_login
from schemas.codec import read_xml
from schemas.date_format import read_date_pattern
from schemas.moment import VIETNAM
from schemas.problem import Problem

NAME = "civil_status"
#: Questions about a complete birth record until the population database has given its number.
NUMBER_AFTER: Final = 2
WORDING = {
    "taken": "Gửi thông tin thành công",
    "again": "Hồ sơ đã được tiếp nhận",
    "duplicate": "Suspected duplicate: nghi trùng với một hồ sơ đã đăng ký, cán bộ cần xác nhận",
    "verify": "Thông tin cần xác minh",
    "error": "Lỗi",
    "missing": "Thiếu trường bắt buộc {member}",
    "residence": "meLoaiCuTru không hợp lệ",
}
#: Error code → name (vietnam.md 4.12).
ERRORS: Final = {
    "100": "AUTHEN_ERROR",
    "101": "IP_DISALLOWED",
    "106": "AGENCY_ID_INCORRECT",
    "108": "PROVINCE_ID_INCORRECT",
    "200": "RECORD_UNCOMPLETE",
    "201": "RECORD_NOT_FOUND",
    "302": "DATA_TYPE_INVALID",
    "500": "DATA_INCORRECT",
}
PRESETS = {
    "authentication": error("100 AUTHEN_ERROR", "100", message=ERRORS["100"]),
    "address-refused": error("101 IP_DISALLOWED", "101", message=ERRORS["101"]),
    "unknown-agency": error("106 AGENCY_ID_INCORRECT", "106", message=ERRORS["106"]),
    "unknown-province": error("108 PROVINCE_ID_INCORRECT", "108", message=ERRORS["108"]),
    "incomplete": error("200 RECORD_UNCOMPLETE", "200", message=ERRORS["200"]),
    "not-found": error("201 RECORD_NOT_FOUND", "201", message=ERRORS["201"]),
    "wrong-type": error("302 DATA_TYPE_INVALID", "302", message=ERRORS["302"]),
    "data-incorrect": error("500 DATA_INCORRECT", "500", message=ERRORS["500"]),
    "suspected-duplicate": error("500, nghi trùng: an officer must confirm (P20)", "500", "duplicate"),
    "taken-before": error("500, Hồ sơ đã được tiếp nhận", "500", "again"),
    "number-late": Preset(says="the child's number comes days later (P19)", by="any birth: ask for its result again"),
    "to-verify": Preset(says="Thông tin cần xác minh (P21)", by="a date of birth that cannot be read"),
}
CATALOGUES: Final = {
    1: [{"ma": "VN", "ten": "Việt Nam"}, {"ma": "LA", "ten": "Lào"}],
    2: [{"ma": "VN", "ten": "Việt Nam"}, {"ma": "LA", "ten": "Lào"}],
    3: [{"ma": "01", "ten": "Kinh"}, {"ma": "02", "ten": "Tày"}, {"ma": "15", "ten": "Nùng"}],
    4: [{"ma": "31", "ten": "Thành phố Hải Phòng"}],
    5: [{"ma": "1", "ten": "Căn cước"}, {"ma": "2", "ten": "Hộ chiếu"}],
}
#: The test province, and the unit numbers that belong to it (vietnam.md 6.1).
PROVINCE, UNITS = "99", range(99_000, 100_000)
BIRTHS: Final = ("KS", "LTKS")
DATE, MOMENT = read_date_pattern("dd/MM/yyyy"), read_date_pattern("dd/MM/yyyy HH:mm:ss")


class _No(Exception):
    """The ministry's own "no"."""

    def __init__(self, code: str, text: str = "", missing: str = "") -> None:
        super().__init__(code)
        self.code = code
        #: The member that is not there, where that is why.
        self.missing = missing
        self.text = text or ERRORS.get(code, "")


@dataclass
class _Record:
    number: int
    unit: int
    module: str
    dossier: str
    data: Mapping[str, Any]
    status: str = "1"
    note: str = ""
    asked: int = 0
    personal_number: str = ""

    @property
    def is_birth(self) -> bool:
        return self.module in BIRTHS

    def result(self) -> dict[str, Any]:
        """What is known by now; the certificate does not wait for the number."""
        paper = {"giayKhaiSinh": "JVBERi0xLjQ="} if self.is_birth else {}
        entry = {"id": self.number, "so": f"{self.number:04d}", "quyenSo": "01/2026", "trangSo": str(self.number)}
        return {**entry, "soDinhDanh": self.personal_number, **paper}


@dataclass
class _Counts:
    registered: int = 0
    duplicates: int = 0
    suspected: int = 0
    sent: int = 0
    keys: dict[str, int] = field(default_factory=dict)


class CivilStatusTwin:
    """The ministry's desk. Safe under threads."""

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
            "dangKyHoTich": self._register_directly,
            "danhMuc": self._catalogue,
            "traTrangThaiHoSo": self._status,
            "ketQuaDangKyHS": self._result,
            "dsHoSoDangKy": self._changes,
            "traHoSo": self._one,
            "traDanhSachHoSo": self._many,
        }.items():
            routes.post(f"/apiHoTichTuPhap/{operation}", endpoint=operation)(self._desk(operation, act))
        desk = self._desk("dangKyLienThong", self._register_jointly)
        routes.post("/lienThong/dangKyHoSo", endpoint="dangKyLienThong")(desk)
        for path, hand in {"cap-so": self._give_number, "xac-nhan": self._confirm, "trang-thai": self._push}.items():
            routes.post(f"/bo/{path}", endpoint=path)(hand)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "records": {
                    dossier: {"status": one.status, "module": one.module, "soDinhDanh": one.personal_number}
                    for dossier, one in self._records.items()
                },
                "registered": self._counts.registered,
                "duplicates": self._counts.duplicates,
                "suspected": self._counts.suspected,
                "sent": self._counts.sent,
                "idempotency_keys": dict(self._counts.keys),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._records: dict[str, _Record] = {}
            self._confirmed: set[str] = set()
            self._counts = _Counts()

    # ---- Login and envelope

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, self._error)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._credential["user"], self._credential["secret"]):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _desk(self, operation: str, act: Callable[[Mapping[str, Any]], Any]) -> Callable[[], Response]:
        def answered() -> Response:
            question = request.get_json(silent=True, force=True)
            try:
                if not isinstance(question, dict):
                    raise _No("302")
                with self._lock:
                    value = act(question)
            except _No as no:
                missing = self.wording["missing"].format(member=no.missing)
                return self._error(no.code, missing if no.missing else no.text)
            return jsonify({"status": 1, "statusDescription": self.wording["taken"], "value": value})

        def serve() -> Response:
            if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
                return self._error("100", ERRORS["100"])  # inside a 200
            key = request.headers.get("Idempotency-Key", "")
            with self._lock:
                self._counts.keys[key] = self._counts.keys.get(key, 0) + 1
            tenant = str((request.get_json(silent=True, force=True) or {}).get("maDonVi", "*"))
            return self._dial.apply(NAME, operation, answered, self._error, tenant)

        return serve

    def _error(self, code: str, text: str) -> Response:
        number = int(code) if code.lstrip("-").isdigit() else code
        told = {"statusDescription": self.wording["error"], "errorCode": number, "errorDescription": text}
        return jsonify({"status": 0, **told})

    # ---- What the ministry does, under the lock

    def _register_directly(self, question: Mapping[str, Any]) -> None:
        data = _text(question, "data")
        try:
            read_xml(data.encode())
        except Problem:
            raise _No("302") from None
        self._file(question, {})

    def _register_jointly(self, question: Mapping[str, Any]) -> None:
        for member in ("maTTHC", "techId", "ngayTiepNhan"):
            _text(question, member)
        try:
            data = json.loads(_text(question, "data"))
        except ValueError:
            raise _No("302") from None
        if not isinstance(data, dict) or MOMENT.read(question["ngayTiepNhan"]) is None:
            raise _No("302")
        if str(data.get("meLoaiCuTru", "1")) == "0":
            raise _No("500", self.wording["residence"])
        self._file(question, data)

    def _file(self, question: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        unit, dossier, module = _unit(question), _text(question, "maHoSo"), _text(question, "module")
        if dossier in self._records:
            self._counts.duplicates += 1
            raise _No("500", self.wording["again"])
        if dossier not in self._confirmed and any(_same_birth(data, one.data) for one in self._records.values()):
            self._counts.suspected += 1
            raise _No("500", self.wording["duplicate"])
        record = _Record(number=len(self._records) + 1, unit=unit, module=module, dossier=dossier, data=data)
        if any(data.get(name) and DATE.read(data[name]) is None for name in ("nksNgaySinh", "meNgaySinh")):
            record.status, record.note = "2", self.wording["verify"]
        self._records[dossier] = record
        self._counts.registered += 1

    def _status(self, question: Mapping[str, Any]) -> dict[str, str]:
        record = self._known(question)
        self._proceed(record)
        return {"trangThai": record.status, "noiDung": record.note}

    def _result(self, question: Mapping[str, Any]) -> str:
        record = self._known(question)
        self._proceed(record)
        if record.status != "4":
            raise _No("200")
        return json.dumps(record.result(), ensure_ascii=False)

    def _proceed(self, record: _Record) -> None:
        """The work goes on while one asks: eligible at the first question, registered at the second."""
        record.asked += 1
        record.status = {"1": "3", "3": "4"}.get(record.status, record.status)
        if record.is_birth and record.status == "4" and record.asked >= 2 + NUMBER_AFTER:
            self._number(record)

    def _number(self, record: _Record) -> None:
        """A number that no province gives out, fitting sex and year of birth (vietnam.md 6.1)."""
        born = DATE.read(record.data.get("nksNgaySinh")) or datetime.now(VIETNAM)
        sex = 3 if str(record.data.get("nksGioiTinh")) == "2" else 2
        record.personal_number = record.personal_number or f"099{sex}{born:%y}{900_000 + record.number:06d}"

    def _catalogue(self, question: Mapping[str, Any]) -> str:
        kind = question.get("loaiDanhMuc")
        if not isinstance(kind, int) or kind not in CATALOGUES:
            raise _No("302")
        return json.dumps(CATALOGUES[kind], ensure_ascii=False)

    def _changes(self, question: Mapping[str, Any]) -> list[dict[str, int]]:
        module = _text(question, "module")
        _text(question, "ngayCapNhat")
        return [{"id": one.number, "maDonVi": one.unit} for one in self._records.values() if one.module == module]

    def _one(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._numbered(_text(question, "module"), {question.get("maHoSo")})

    def _many(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        if str(question.get("maTinh")) != PROVINCE:
            raise _No("108")
        numbers = question.get("dsMaHoSo")
        if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
            raise _No("302")
        return self._numbered(_text(question, "module"), set(numbers))

    def _numbered(self, module: str, numbers: set[Any]) -> list[dict[str, Any]]:
        found = [one.result() for one in self._records.values() if one.module == module and one.number in numbers]
        if not found:
            raise _No("201")
        return found

    def _known(self, question: Mapping[str, Any]) -> _Record:
        unit, record = _unit(question), self._records.get(_text(question, "maHoSo"))
        if record is None or record.unit != unit:
            raise _No("201")
        return record

    # ---- The ministry's hands

    def _give_number(self) -> Response:
        with self._lock:
            record = self._records.get(_asked("maHoSo"))
            if record is not None:
                record.status = "4"
                self._number(record)
        return jsonify({"soDinhDanh": record.personal_number if record else None})

    def _confirm(self) -> Response:
        with self._lock:
            self._confirmed.add(_asked("maHoSo"))
        return jsonify({"confirmed": _asked("maHoSo")})

    def _push(self) -> Response:
        """Word a status as the chain sends it, and send it when told where."""
        with self._lock:
            record = self._records.get(_asked("maHoSo"))
        result = json.dumps(record.result(), ensure_ascii=False) if record and _asked("trangThai") == "4" else ""
        notice = {
            "maTTHC": _asked("maTTHC") or "2.002622",
            "soHoSoLT": _asked("soHoSoLT") or f"LT-{_asked('maHoSo')}",
            "coQuanXuLy": 5,
            "maHoSo": _asked("maHoSo"),
            "trangThai": _asked("trangThai"),
            "thoiGianThucHien": _asked("thoiGianThucHien") or MOMENT.write(datetime.now(VIETNAM)),
            "ghiChu": _asked("ghiChu"),
            "nguoiXuLy": "Lê Thị Thử",
            "chucDanh": "Công chức hộ tịch",
            "phongBanXuLy": "Tư pháp - Hộ tịch",
            "noiDungXuLy": _asked("noiDungXuLy"),
            "ketQuaXuLy": result,
        }
        return jsonify({"notice": notice, "answer": self._sent(notice, _asked("to")) if _asked("to") else None})

    def _sent(self, notice: Mapping[str, Any], address: str) -> Any:
        answer = call_bus(address, notice, self._credential["callback"])
        with self._lock:
            self._counts.sent += 1
        return answer


def _text(question: Mapping[str, Any], member: str) -> str:
    value = question.get(member)
    if not isinstance(value, str) or not value.strip():
        raise _No("500", missing=member)
    return value


def _unit(question: Mapping[str, Any]) -> int:
    unit = question.get("maDonVi")
    if not isinstance(unit, int) or unit not in UNITS:
        raise _No("106")
    return unit


def _same_birth(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    facts = ("meSoGiayToTuyThan", "nksNgaySinh")
    return all(one.get(fact) and one.get(fact) == other.get(fact) for fact in facts)


def _asked(member: str) -> str:
    document = request.get_json(silent=True, force=True)
    return str(document.get(member) or "") if isinstance(document, dict) else ""
