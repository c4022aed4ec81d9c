"""Twin of a land registration system (vietnam.md 4.17), in the manners of both products that living clients speak to.

1. ``/land/…`` as ILIS: a token for a password (``POST /land/token``), answers ``{"data", "status"}``;
2. ``/land/vbdlis/…``: the security code in the body, answers ``{"Result", "Message", "Data"}``.

It keeps one dossier for each SoBienNhan, answers a second one with "đã tồn tại", and takes receipts of paid tax for the
notices of a dossier. ``GET /land/reports/<SoBienNhan>`` shows the reports that the land office would send by now, so
that a tester can post them to the bus, twice if they like.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_secret

NAME = "land"
#: Names of the operations as ILIS and as VBDLIS write them, and what they do.
OPERATIONS = {
    "TiepNhanHoSo": "transfer",
    "tiepnhan": "transfer",
    "BoSungHoSo": "supplement",
    "capnhattrangthaibosunghoso": "supplement",
    "CapNhatTrangThaiHoSo": "returned",
    "capnhattrangthaitraketquahoso": "returned",
    "phanhoihososaiketqua": "result_wrong",
    "ChungTuThue": "tax_receipt",
}
MANDATORY = ("TinhId", "NguoiTiepNhan", "ThongTinNguoiNopDon", "ThongTinQuyTrinh", "DanhSachGiayToDinhKem")
WORDING = {
    "exists": "Hồ sơ đã tồn tại",
    "unknown": "Không tìm thấy hồ sơ",
    "missing": "Thiếu trường {member}",
    "proof": "Mã bảo mật không chính xác",
    "token": "Token không hợp lệ",
}
PRESETS = {
    "refused": error("Result false, with a Message", "-1", "unknown"),
    "number-taken": error("Hồ sơ đã tồn tại", "-1", "exists", service="TiepNhanHoSo"),
    "callback-twice": Preset(says="the same report twice", by="GET /land/reports/<SoBienNhan>, and post each twice"),
}
#: A tax that no 32-bit integer holds (P31).
TAX = 3_456_789_000
OFFICER = "vpdk.canbo01"

Answer = Callable[[bool, str], Response]


class LandTwin:
    """The land office's memory and manners. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        parts = json.loads(credential)
        self._user, self._password, self._code = parts["user"], parts["password"], parts["security_code"]
        self._lock = threading.Lock()
        self._dossiers: dict[str, dict[str, Any]] = {}
        self._events: dict[str, list[str]] = {}
        self._duplicates = 0

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/land")
        routes.post("/token")(self._token)
        routes.post("/<operation>")(self._as_ilis)
        routes.post("/vbdlis/<operation>")(self._as_vbdlis)
        routes.get("/reports/<path:number>")(self._reports)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "dossiers": dict(self._dossiers),
                "events": {number: list(events) for number, events in self._events.items()},
                "duplicates": self._duplicates,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._dossiers.clear()
            self._events.clear()
            self._duplicates = 0

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, lambda _, message: _ilis(False, message))

    def _logged_in(self) -> Response:
        named = same_secret(request.form.get("username"), self._user)
        if request.form.get("grant_type") != "password" or not (
            same_secret(request.form.get("password"), self._password) and named
        ):
            return make_response(jsonify({"error": "invalid_grant"}), 400)
        return jsonify(self.sessions.token_answer())

    def _as_ilis(self, operation: str) -> Response:
        if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
            return make_response(_ilis(False, self.wording["token"]), 401)
        return self._serve(operation, request.get_json(silent=True, force=True), _ilis)

    def _as_vbdlis(self, operation: str) -> Response:
        document = request.get_json(silent=True, force=True)
        code = document.pop("SecurityCode", None) if isinstance(document, dict) else None
        if not same_secret(code, self._code):
            return _vbdlis(False, self.wording["proof"])
        return self._serve(operation, document, _vbdlis)

    def _serve(self, operation: str, document: Any, say: Answer) -> Response:
        if operation not in OPERATIONS:
            return make_response(say(False, operation), 404)
        return self._dial.apply(
            NAME,
            operation,
            lambda: say(*self._act(OPERATIONS[operation], document)),
            lambda _, message: say(False, message),
        )

    def _act(self, deed: str, document: Any) -> tuple[bool, str]:
        needed = ("SoBienNhan", *(MANDATORY if deed == "transfer" else ()))
        for member in needed:
            if not isinstance(document, dict) or document.get(member) in (None, ""):
                return False, self.wording["missing"].format(member=member)
        number = str(document["SoBienNhan"])
        with self._lock:
            if deed == "transfer":
                return self._keep(number, document)
            if number not in self._dossiers:
                return False, self.wording["unknown"]
            if deed not in self._events[number]:
                self._events[number].append(deed)
            return True, ""

    def _keep(self, number: str, document: dict[str, Any]) -> tuple[bool, str]:
        if number in self._dossiers:
            self._duplicates += 1
            return False, self.wording["exists"]
        self._dossiers[number] = document
        self._events[number] = ["transfer"]
        return True, ""

    def _reports(self, number: str) -> Response:
        with self._lock:
            if number not in self._dossiers:
                return make_response(jsonify([]), 404)
            events = list(self._events[number])
        reports = [
            _moved(number),
            _tax_result(number),
            _tax_notice(number),
            *([_finished(number)] if "tax_receipt" in events else []),
        ]
        return jsonify([{"path": path, "body": body} for path, body in reports])


def _moved(number: str) -> tuple[str, dict[str, Any]]:
    body = {"MaCanBoChuyen": "motcua.canbo01", "MaCanBoNhan": OFFICER, "MaTrangThai": "DANGXULY"}
    return "LuanChuyen", {
        "SoBienNhan": number,
        **body,
        "LaTrangThaiChuyenLai": False,
        "NoiDungXuLy": "Chuyển thẩm định",
        "NgayChuyen": "2026-04-23T14:00:00",
    }


def _tax_result(number: str) -> tuple[str, dict[str, Any]]:
    notice = {
        "HoTenChu": "NGUYỄN THỊ MẪU",
        "LoaiThue": "Lệ phí trước bạ",
        "SoThongBaoThue": "TB-2026-0001",
        "DuongDan": "https://thue.example/tb/TB-2026-0001",
    }
    return "KetQuaThue", {
        "SoBienNhan": number,
        "NgayCoKetQuaThue": "2026-04-27T09:00:00",
        "DanhSachThongBaoThue": [notice],
    }


def _tax_notice(number: str) -> tuple[str, dict[str, Any]]:
    return "ThongBaoThue", {
        "SoBienNhan": number,
        "MaThongBaoThue": "TB-2026-0001",
        "MaSoThue": "9900000016",
        "SoTien": TAX,
        "SoQuyetDinh": "01/QĐ-THỬ",
        "NgayQuyetDinh": "2026-04-27T00:00:00",
        "TenTieuMuc": "Lệ phí trước bạ nhà đất",
    }


def _finished(number: str) -> tuple[str, dict[str, Any]]:
    return "KetThuc", {
        "SoBienNhan": number,
        "NgayKetThuc": "2026-05-04T10:00:00",
        "MaCanBoXuLy": OFFICER,
        "TrangThaiKetThuc": 1,
        "DanhSachGiayToKetQua": [],
    }


def _ilis(yes: bool, message: str) -> Response:
    status = {"success": yes, "code": 200 if yes else 400, "type": "", "time": "2026-04-23T10:00:00"}
    return jsonify({"data": int(yes), "status": {**status, "message": message}})


def _vbdlis(yes: bool, message: str) -> Response:
    return jsonify({"Result": yes, "Message": message, "Data": {}})
