"""Twin of the national portal adapter (vietnam.md 4.1–4.5, 4.20, 4.21), in the three ways that living clients speak:

1. the envelope in the body: ``POST /login``, then ``/share`` and ``/integration`` with ``{"session", "madonvi",
   "service", …}``;
2. the envelope in the query: ``POST /DongBoHoSoMC?MaDinhDanhDV=…&isUpdating=True`` with the array as body;
3. a bare array to a path of its own: ``/add``, ``/update``, ``/progress``.

For 2 and 3 the session stands in the query or in the header ``session``. All of it is reachable under
``/national_portal/`` and behind the adapters' own paths ``/XrdAdapter/RestService/forward/mapi/`` and
``/VXPAdapter/RestService/forward/mapi/``.

It keeps one dossier for each MaHoSo, answers a second creation with "đã tồn tại", knows a few procedures with names
that are nearly the same, and cuts nothing silently: an over-long subject is an error here, so that a client learns it.
Ratings whose percentages do not add up to 100 are taken, as clients in the field send them, and counted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox import national_portal_catalogue as known
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_secret

NAME = "national_portal"
PREFIXES = {
    NAME: "/national_portal",
    f"{NAME}_xrd": "/XrdAdapter/RestService/forward/mapi",
    f"{NAME}_vxp": "/VXPAdapter/RestService/forward/mapi",
}
#: Members of a dossier that clients treat as mandatory (vietnam.md 4.3, column M).
MANDATORY = (
    *("MaHoSo", "MaTTHC", "TenTTHC", "MaLinhVuc", "TenLinhVuc", "LoaiDoiTuong", "TrichYeuHoSo"),
    *("NgayTiepNhan", "TrangThaiHoSo", "HinhThuc", "DonViXuLy"),
)
MANDATORY_PROGRESS = ("MaHoSo", "NguoiXuLy", "ThoiDiemXuLy", "TrangThai")
#: Caps seen in code (vietnam.md 4.3); the official column was not available.
LENGTHS = {"MaHoSo": 50, "TrichYeuHoSo": 1000, "GhiChu": 2000}
DATES = ("NgayNopHoSo", "NgayTiepNhan", "NgayHenTra", "NgayTuChoi", "NgayTra", "NgayKetThucXuLy")
DATE = re.compile(r"20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]")
WORDING = {
    "synced": "Đồng bộ hồ sơ thành công",
    "progressed": "Cập nhật tiến độ hồ sơ thành công",
    "found": "Thành công",
    "exists": "Hồ sơ đã tồn tại",
    "unknown_dossier": "Không tìm thấy hồ sơ",
    "unknown_procedure": "Không tìm thấy thủ tục",
    "unknown_service": "Dịch vụ không tồn tại",
    "session": "session không hợp lệ",
    "login": "Sai tài khoản hoặc mật khẩu",
    "missing": "Thiếu trường bắt buộc {member}",
    "too_long": "Trường {member} vượt quá {limit} ký tự",
    "date": "Trường {member} không đúng định dạng yyyyMMddHHmmss",
    "body": "Dữ liệu không hợp lệ",
    "month": "Trường NgayTongHop không đúng định dạng M-yyyy",
}
PRESETS = {
    "generic-error": error("error_code -1 and no more than that", "-1"),
    "minus-three": error("error_code -3 and no more than that", "-3"),
    "duplicate-dossier": error("Hồ sơ đã tồn tại", "-3", "exists"),
    "unknown-procedure": error("Không tìm thấy thủ tục", "-1", "unknown_procedure"),
    "session-expired": error("session không hợp lệ, once", "-1", "session", count=1),
    "slow": Preset(says="the right answer after six seconds", fault={"kind": "stall", "seconds": 6.0}),
    "cut": Preset(says="half of the answer", fault={"kind": "truncate"}),
}
MANDATORY_RATING = ("NgayTongHop", "TongSoNguoiDanhGia", "NoiDung", "Madonvi", "TenDonVi")
MANDATORY_QUESTION = ("HOIDAPID", "NOIDUNG", "MADONVI")
MANDATORY_ANSWER = ("HOIDAPID", "MADONVI", "NGUOITRALOI", "NGAYTRALOI", "NOIDUNGTRALOI")
MANDATORY_PROMOTION = ("TrangThai", "MaHoSo", "MaHoSoDonVi", "NgayXuLy")
MONTH = re.compile(r"([1-9]|1[0-2])-20[0-9]{2}")
#: Questions that citizens left at the portal, and one answer (vietnam.md 4.21); invented.
QUESTIONS = (
    {
        "HOIDAPID": "HD-0001",
        "HOVATEN": "NGUYỄN THỊ MẪU",
        "THUDIENTU": "mau.nguyen@example.com",
        "SODIENTHOAI": "0900000001",
        "DIACHI": "1 đường Mẫu",
        "MaLinhVuc": "G15-HT03",
        "MATTHCDP": "1.001193",
        "NOIDUNG": "Khai sinh trực tuyến cần giấy tờ gì?",
        "TRANGTHAI": "1",
        "TRALOIID": "",
    },
)
READS = frozenset(
    {
        *("TraCuuHoSo", "LayThuTuc", "LayDanhSachTTHC", "LayDanhMucCoQuan", "LayDanhMucLinhVuc", "LayDVC"),
        *("TraCuuTechID", "LayDanhSachHoiDapGuiTuDVCQG", "LayDanhSachHoiDapBoCoQuan", "LayNoiDungTraLoiTheoCauHoi"),
    }
)
_COUNTS = (
    *("created", "updated", "duplicates", "progress_rows", "progress_duplicates"),
    *("promotion_results", "ratings", "ratings_not_100", "questions", "answers"),
)


class NationalPortalTwin:
    """The portal's memory and manners. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._username, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._dossiers: dict[str, dict[str, Any]] = {}
        self._progress: dict[str, list[dict[str, Any]]] = {}
        #: Procedures by code; testers may change them to see what a drift report says.
        self.catalogue = known.catalogue()
        #: Rows by what identifies them, so that a repeat is one effect.
        self._rows: dict[tuple[str, ...], dict[str, Any]] = {}
        self._counts = dict.fromkeys(_COUNTS, 0)

    def register(self, app: Flask) -> None:
        for name, prefix in PREFIXES.items():
            routes = Blueprint(name, __name__, url_prefix=prefix)
            routes.post("/login")(self._login)
            routes.post("/share")(self._envelope)
            routes.post("/integration")(self._envelope)
            routes.post("/<any(DongBoHoSoMC, CapNhatTienDoHoSoMC):service>")(self._by_query)
            routes.post("/<any(add, update, progress):action>")(self._by_path)
            app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "dossiers": {code: dict(dossier) for code, dossier in self._dossiers.items()},
                "progress": {code: list(rows) for code, rows in self._progress.items()},
                "rows": [{"service": key[0], **row} for key, row in self._rows.items()],
                **self._counts,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._dossiers.clear()
            self._progress.clear()
            self._rows.clear()
            self.catalogue = known.catalogue()
            self._counts = dict.fromkeys(self._counts, 0)

    # --- the three doors ---

    def _login(self) -> Response:
        document = request.get_json(silent=True, force=True)
        return self._dial.apply(NAME, "login", lambda: self._logged_in(document), _answer)

    def _logged_in(self, document: Any) -> Response:
        given = document if isinstance(document, dict) else {}
        named = same_secret(given.get("username"), self._username)
        if not (same_secret(given.get("password"), self._password) and named):
            return _answer("-1", self.wording["login"])
        # A number here, a text everywhere else: the mixture is the portal's own (P4).
        return jsonify({"error_code": 0, "session": self.sessions.issue()})

    def _envelope(self) -> Response:
        document = request.get_json(silent=True, force=True)
        if not isinstance(document, dict):
            return _answer("-1", self.wording["body"])
        service, updating = str(document.get("service", "")), document.get("isUpdating") == "True"
        arguments = document if service in READS or service == "DongBoTrangThaiHoSo" else document.get("data")
        return self._serve(document.get("session"), service, arguments, updating, str(document.get("madonvi", "*")))

    def _by_query(self, service: str) -> Response:
        updating = request.args.get("isUpdating", "False") == "True"
        tenant = request.args.get("MaDinhDanhDV", "*")
        return self._serve(_loose_session(), service, request.get_json(silent=True, force=True), updating, tenant)

    def _by_path(self, action: str) -> Response:
        service = "CapNhatTienDoHoSoMC" if action == "progress" else "DongBoHoSoMC"
        rows = request.get_json(silent=True, force=True)
        return self._serve(_loose_session(), service, rows, action == "update", "*")

    def _serve(self, session: object, service: str, arguments: Any, updating: bool, tenant: str) -> Response:
        if not self.sessions.holds(session):
            return _answer("-1", self.wording["session"])
        return self._dial.apply(NAME, service, lambda: self._act(service, arguments, updating), _answer, tenant)

    # --- what the portal does ---

    def _act(self, service: str, arguments: Any, updating: bool) -> Response:
        if service == "DongBoHoSoMC":
            return self._sync(arguments, updating)
        if service == "CapNhatTienDoHoSoMC":
            return self._add_progress(arguments)
        if service in READS:
            return self._read(service, arguments)
        if service == "DongBoTrangThaiHoSo":
            return self._promotion(arguments)
        if service == "DongBoDanhGia":
            return self._ratings(arguments)
        if service == "DongBoHoiDap":
            return self._keep(service, "questions", arguments, MANDATORY_QUESTION, ("HOIDAPID",))
        if service == "DongBoKetQuaHoiDapGuiTuDVCQG":
            return self._keep(service, "answers", arguments, MANDATORY_ANSWER, ("HOIDAPID",))
        return _answer("-1", self.wording["unknown_service"])

    def _sync(self, rows: Any, updating: bool) -> Response:
        complaint = self._complaint(rows, MANDATORY)
        if complaint:
            return _answer("1", complaint)
        with self._lock:
            known = [row["MaHoSo"] in self._dossiers for row in rows]
            if not updating and any(known):
                self._counts["duplicates"] += sum(known)
                return _answer("-3", self.wording["exists"])
            if updating and not all(known):
                return _answer("-1", self.wording["unknown_dossier"])
            if not all(row["MaTTHC"] in self.catalogue for row in rows):
                return _answer("-1", self.wording["unknown_procedure"])
            for row in rows:
                self._dossiers[row["MaHoSo"]] = row
            self._counts["updated" if updating else "created"] += len(rows)
        return _answer("0", self.wording["synced"])

    def _add_progress(self, rows: Any) -> Response:
        complaint = self._complaint(rows, MANDATORY_PROGRESS)
        if complaint:
            return _answer("1", complaint)
        with self._lock:
            if not all(row["MaHoSo"] in self._dossiers for row in rows):
                return _answer("-1", self.wording["unknown_dossier"])
            for row in rows:
                history = self._progress.setdefault(row["MaHoSo"], [])
                kind = "progress_duplicates" if row in history else "progress_rows"
                self._counts[kind] += 1
                if row not in history:
                    history.append(row)
                    self._dossiers[row["MaHoSo"]]["TrangThaiHoSo"] = row["TrangThai"]
        return _answer("00", self.wording["progressed"])

    def _look_up(self, code: str) -> Response:
        with self._lock:
            dossier = self._dossiers.get(code)
            result = [] if dossier is None else [{k: dossier[k] for k in ("MaHoSo", "MaTTHC", "TrangThaiHoSo")}]
        message = self.wording["found"] if result else self.wording["unknown_dossier"]
        return jsonify({"error_code": "0", "message": message, "result": result})

    def _read(self, service: str, arguments: Mapping[str, Any]) -> Response:
        if service == "TraCuuHoSo":
            return self._look_up(str(arguments.get("mahoso", "")))
        if service == "LayThuTuc":
            # An array even for one procedure (vietnam.md 4.2).
            procedure = self.catalogue.get(str(arguments.get("maTTHC", "")))
            return self._found([procedure]) if procedure else _answer("-1", self.wording["unknown_procedure"])
        if service == "TraCuuTechID":
            return self._found({"TECHNICALID": f"TID-{str(arguments.get('mstorcmnd', ''))[-4:]}"})
        if service == "LayDVC":
            return self._found({"data": [known.public_service(each) for each in self._public()]})
        if service == "LayDanhSachTTHC":
            return self._found([known.listed(each) for each in self.catalogue.values()])
        if service == "LayDanhMucCoQuan":
            rows = known.AGENCIES.items()
            return self._found([{"MADONVI": code, "TENDONVI": it[0], "CAPDONVI": it[1]} for code, it in rows])
        if service == "LayDanhMucLinhVuc":
            rows_of_fields = known.FIELDS.items()
            return self._found(
                [{"MALINHVUC": code, "TENLINHVUC": name, "MANGANH": code[:3]} for code, name in rows_of_fields]
            )
        if service == "LayNoiDungTraLoiTheoCauHoi":
            wanted = str(arguments.get("cauhoiid", ""))
            with self._lock:
                answer = self._rows.get(("DongBoKetQuaHoiDapGuiTuDVCQG", wanted))
            return self._found([answer] if answer else [])
        return self._found([self._with_answer(question) for question in QUESTIONS])

    def _public(self) -> list[dict[str, Any]]:
        return [each for each in self.catalogue.values() if each["TRANGTHAI"] == 1]

    def _with_answer(self, question: Mapping[str, str]) -> dict[str, str]:
        with self._lock:
            answered = ("DongBoKetQuaHoiDapGuiTuDVCQG", question["HOIDAPID"]) in self._rows
        return {**question, "TRANGTHAI": "2", "TRALOIID": question["HOIDAPID"]} if answered else dict(question)

    def _promotion(self, document: Mapping[str, Any]) -> Response:
        data = document.get("data")
        if document.get("type") != "2" or not isinstance(data, dict) or data.get("TrangThai") not in ("2", "5"):
            return _answer("1", self.wording["body"])
        key = ("MaHoSo", "TrangThai", "NgayXuLy")
        return self._keep("DongBoTrangThaiHoSo", "promotion_results", [data], MANDATORY_PROMOTION, key)

    def _ratings(self, rows: Any) -> Response:
        if isinstance(rows, list) and not all(
            isinstance(row, dict) and MONTH.fullmatch(str(row.get("NgayTongHop", ""))) for row in rows
        ):
            return _answer("1", self.wording["month"])
        answer = self._keep("DongBoDanhGia", "ratings", rows, MANDATORY_RATING, ("NgayTongHop", "Madonvi", "NoiDung"))
        with self._lock:
            self._counts["ratings_not_100"] = sum(
                _percent_sum(row) != 100 for key, row in self._rows.items() if key[0] == "DongBoDanhGia"
            )
        return answer

    def _keep(self, service: str, count: str, rows: Any, mandatory: tuple[str, ...], key: tuple[str, ...]) -> Response:
        """Keep rows by their key; the last one counts, as for a client that corrects a month."""
        complaint = self._complaint(rows, mandatory)
        if complaint:
            return _answer("1", complaint)
        with self._lock:
            for row in rows:
                at = (service, *(str(row[member]) for member in key))
                self._counts[count] += at not in self._rows
                self._rows[at] = row
        return _answer("00", self.wording["found"])

    def _found(self, result: Any) -> Response:
        return jsonify({"error_code": "0", "message": self.wording["found"], "result": result})

    def _complaint(self, rows: Any, mandatory: tuple[str, ...]) -> str:
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            return self.wording["body"]
        if not all(isinstance(row.get("MaHoSo") or "", str) for row in rows):
            return self.wording["body"]
        for row in rows:
            for member in mandatory:
                if row.get(member) in (None, ""):
                    return self.wording["missing"].format(member=member)
            for member, limit in LENGTHS.items():
                if len(str(row.get(member) or "")) > limit:
                    return self.wording["too_long"].format(member=member, limit=limit)
            for member in (*DATES, "ThoiDiemXuLy"):
                if row.get(member) and not DATE.fullmatch(str(row[member])):
                    return self.wording["date"].format(member=member)
        return ""


def _percent_sum(row: Mapping[str, Any]) -> int:
    names = ("PhanTramDanhGiaRatHaiLong", "PhanTramDanhGiaHaiLong", "PhanTramDanhGiaChuaHaiLong")
    texts = [str(row.get(name, "")).removesuffix("%") for name in names]
    return sum(int(text) for text in texts) if all(text.isdecimal() for text in texts) else 0


def _loose_session() -> str | None:
    return request.args.get("session") or request.headers.get("session")


def _answer(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message})
