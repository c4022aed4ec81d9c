"""Twin of the driver-licence system (vietnam.md 4.14, SC-8): login, dossiers by date, one dossier, its documents.

It only reads, so its state is what was asked. One dossier is filed for each day; its number carries the day.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import IssuedSessions, same_secret

NAME = "driver_licence"
WORDING = {
    "login": "Sai tài khoản hoặc mật khẩu",
    "session": "session không hợp lệ",
    "parameters": "Tham số không hợp lệ",
    "unknown_service": "Dịch vụ không tồn tại",
    "unknown_document": "Không tìm thấy tài liệu",
}
PRESETS = {
    "session-expired": error("session không hợp lệ, once", "-1", "session", count=1),
    "no-such-document": error("Không tìm thấy tài liệu", "1", "unknown_document", service="LayTaiLieuHoSo"),
}
#: Invented people with test numbers (vietnam.md 6.1).
PEOPLE = (
    ("NGUYỄN THỊ MẪU", "NGUYỄN THỊ", "MẪU", "099199000001", "1999-05-01", "1", "B1"),
    ("TRẦN VĂN THỬ", "TRẦN VĂN", "THỬ", "099085000002", "1985-11-30", "0", "C"),
    ("ĐẶNG PHƯƠNG ĐÔNG", "ĐẶNG PHƯƠNG", "ĐÔNG", "099305000003", "2005-02-28", "1", "A1"),
)
#: A picture of one white pixel is picture enough.
PORTRAIT = "R0lGODlhAQABAAAAACw="
MOST_DAYS = 31


class DriverLicenceTwin:
    """The desk of the licence system. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._username, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._idempotency_keys: dict[str, int] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/driver_licence")
        routes.post("/mapi/login")(self._login)
        routes.post("/mapi/g")(self._ask)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "asked": dict(self._asked),
                "idempotency_keys": dict(self._idempotency_keys),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._asked.clear()
            self._idempotency_keys.clear()

    def _login(self) -> Response:
        return self._dial.apply(NAME, "login", self._logged_in, _no)

    def _logged_in(self) -> Response:
        document = request.get_json(silent=True, force=True)
        given = document if isinstance(document, dict) else {}
        named = same_secret(given.get("username"), self._username)
        if not (same_secret(given.get("password"), self._password) and named):
            return _no("-1", self.wording["login"])
        return jsonify({"error_code": "0", "result": "", "session": self.sessions.issue()})

    def _ask(self) -> Response:
        document = request.get_json(silent=True, force=True)
        given: dict[str, Any] = document if isinstance(document, dict) else {}
        if not self.sessions.holds(given.get("session")):
            return _no("-1", self.wording["session"])
        service = str(given.get("service", ""))
        with self._lock:
            self._asked[service] = self._asked.get(service, 0) + 1
            key = request.headers.get("Idempotency-Key", "")
            self._idempotency_keys[key] = self._idempotency_keys.get(key, 0) + 1
        tenant = str(given.get("donViXuLy", "*"))
        return self._dial.apply(NAME, service, lambda: self._answer(service, given), _no, tenant)

    def _answer(self, service: str, given: Mapping[str, Any]) -> Response:
        if not given.get("donViXuLy"):
            return _no("1", self.wording["parameters"])
        if service == "DanhSachHoSo":
            return self._list(given)
        if service == "TraCuuHoSo":
            day = _day_of(given.get("mahoso"))
            return jsonify({"error_code": "0", "data": [] if day is None else [_detail(day, given)]})
        if service == "LayTaiLieuHoSo":
            return self._document(str(given.get("duongdanteptin", "")))
        return _no("1", self.wording["unknown_service"])

    def _list(self, given: Mapping[str, Any]) -> Response:
        try:
            first, last = (date.fromisoformat(str(given.get(name))) for name in ("ngayNhan1", "ngayNhan2"))
        except ValueError:
            return _no("1", self.wording["parameters"])
        days = (last - first).days
        if not 0 <= days < MOST_DAYS:
            return _no("1", self.wording["parameters"])
        return jsonify({"error_code": "00", "data": [_dossier(first + timedelta(days=day)) for day in range(days + 1)]})

    def _document(self, path: str) -> Response:
        number, _, name = path.removeprefix("/gplx/").partition("/")
        if _day_of(number) is None or not name:
            return _no("1", self.wording["unknown_document"])
        content = base64.b64encode(f"%PDF-1.4\n% {number}\n".encode()).decode("ascii")
        return jsonify(
            {"error_code": "0", "TepTinDinhKem": [{"Base64": content, "DuongDan": path, "TenTaiLieu": name}]}
        )


def _number(day: date) -> str:
    return f"G99.04-{day:%y%m%d}-0001"


def _day_of(number: object) -> date | None:
    try:
        text = str(number)
        day = date(2000 + int(text[7:9]), int(text[9:11]), int(text[11:13]))
    except ValueError:
        return None
    return day if _number(day) == text else None


def _dossier(day: date) -> dict[str, Any]:
    name, surname, given_name, number, born, sex, grade = PEOPLE[day.toordinal() % len(PEOPLE)]
    return {
        "maDangKyCu": "",
        "maDangKyDvc": f"DVC{day:%y%m%d}",
        "maHoSo": _number(day),
        "hoTen": name,
        "hoTenIn": name,
        "hoDem": surname,
        "ten": given_name,
        "gioiTinh": sex,
        "ngaySinh": born,
        "quocTich": "VNM",
        "soCmnd": number,
        "noiCuTru": "Phường Thủy Nguyên, thành phố Hải Phòng",
        "dvhcNoiCuTru": "11560",
        "anhChanDung": PORTRAIT,
        "maDonVi": "G99.04",
        "ngayNhanHoSo": f"{day:%Y-%m-%d}",
        "ngayHenTraGplx": f"{day + timedelta(days=7):%Y-%m-%d}",
        "loaiHoSo": "DOI",
        "lyDoDoiGplx": "Hết hạn",
        # The misspelling is the ministry's own, and every reader depends on it (P25).
        "gplxDaCap": [{"sogplx": "990000000001", "soserigplx": "AA000001", "hanggplxgplx": grade}],
        "hoSoDinhKem": [
            {"magiayto": "GKSK", "tengiayto": "Giấy khám sức khỏe", "filedinhkem": f"/gplx/{_number(day)}/gksk.pdf"}
        ],
    }


def _detail(day: date, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "MaTTHC": "1.002809",
        "MaDVC": "1.002809.01",
        "TenDVC": "Đổi giấy phép lái xe",
        "MaHoSo": _number(day),
        "HoTenNguoiNop": PEOPLE[day.toordinal() % len(PEOPLE)][0],
        "MaTrangThai": "2",
        "TrangThaiHoSo": "Được tiếp nhận",
        "DonViXuLy": "Sở Mẫu",
        "MaDonViXuLy": given.get("donViXuLy"),
        "NgayNop": f"{day:%Y-%m-%d}",
        "NgayTiepNhan": f"{day:%Y-%m-%d}",
        "NgayHenTra": f"{day + timedelta(days=7):%Y-%m-%d}",
        # By post.
        "HinhThucNhanKQ": "1",
    }


def _no(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message, "result": message})
