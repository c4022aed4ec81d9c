"""Twin of the national portal's newer interface (vietnam.md 4.6), under ``/national_portal_2025/``.

It draws dossier numbers, keeps files by their SHA-256, one dossier for each MaHoSo, and progress rows and statuses
under the ``IdHoSo`` that it gave out. ``IDHoSo`` belongs to progress and ``IdHoSo`` to statuses: the other spelling is
a missing member.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_secret
from schemas.moment import VIETNAM, utc_now

NAME = "national_portal_2025"
#: Names dossiers after their codes, so that a sandbox that was reset gives the same ids out.
IDS = uuid.UUID("0b0d2f86-0f3f-5d0a-8f10-4f2c1ac94f25")
MOMENT = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}")
MANDATORY = ("MaHoSo", "MaTTHC", "ChuHoSo", "LoaiDoiTuong", "MaDonViTiepNhan")
#: Statuses that may bring fees and results with them.
WITH_LISTS = (5, 6, 9)
WORDING = {
    "done": "Thành công",
    "exists": "Hồ sơ đã tồn tại",
    "unknown_dossier": "Không tìm thấy hồ sơ",
    "missing": "Thiếu trường bắt buộc {member}",
    "moment": "Trường {member} không đúng định dạng yyyy-MM-ddTHH:mm:ss.fff",
    "status": "TrangThai phải là số từ 1 đến 10",
    "lists": "Danh sách chỉ gửi kèm trạng thái 5, 6, 9",
    "body": "Dữ liệu không hợp lệ",
}
PRESETS = {
    "number-taken": error("Hồ sơ đã tồn tại", "-3", "exists", service="create"),
    "unknown-dossier": error("Không tìm thấy hồ sơ", "1", "unknown_dossier"),
    "token-expired": Preset(says="401, once", fault={"kind": "status", "status": 401, "count": 1}),
}


class NationalPortal2025Twin:
    """The portal's memory and manners. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._client, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._numbers = 0
        self._files: dict[str, str] = {}
        self._dossiers: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {"progress": [], "status": []}
        self._duplicates = 0

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        routes.post("/token")(self._token)
        acts: Mapping[str, Callable[[], Response]] = {
            "GetNextValue": self._next_value,
            "upload": self._upload,
            "dossiers": self._create,
            "progress": lambda: self._keep("progress", "IDHoSo"),
            "status": lambda: self._keep("status", "IdHoSo"),
        }
        for path, act in acts.items():
            service = "create" if path == "dossiers" else path
            routes.add_url_rule(f"/{path}", path, partial(self._serve, service, act), methods=["POST"])
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "dossiers": {code: dict(dossier) for code, dossier in self._dossiers.items()},
                **{kind: list(rows) for kind, rows in self._rows.items()},
                "files": dict(self._files),
                "numbers": self._numbers,
                "duplicates": self._duplicates,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._numbers = self._duplicates = 0
            self._files.clear()
            self._dossiers.clear()
            self._rows = {"progress": [], "status": []}

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._issue, _answer)

    def _issue(self) -> Response:
        named = same_secret(request.form.get("client_id"), self._client)
        if not (same_secret(request.form.get("client_secret"), self._password) and named):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify({**self.sessions.token_answer(), "scope": "dvcqg"})

    def _serve(self, service: str, act: Callable[[], Response]) -> Response:
        bearer = request.headers.get("Authorization", "")
        if not self.sessions.holds(bearer.removeprefix("Bearer ")):
            return Response(status=401)
        return self._dial.apply(NAME, service, act, _answer)

    def _next_value(self) -> Response:
        document = request.get_json(silent=True, force=True)
        if not isinstance(document, dict) or not document.get("MaTTHC"):
            return _answer("1", self.wording["missing"].format(member="MaTTHC"))
        with self._lock:
            self._numbers += 1
            number = self._numbers
        return self._done({"Value": f"G99.99-{utc_now().astimezone(VIETNAM):%y%m%d}-{number:06d}"})

    def _upload(self) -> Response:
        file = request.files.get("file")
        if file is None:
            return _answer("1", self.wording["missing"].format(member="file"))
        digest = hashlib.sha256(file.read()).hexdigest()
        with self._lock:
            self._files[digest] = str(file.filename)
        return self._done([{"IdTepTin": str(uuid.uuid5(IDS, digest)), "HashTepTin": digest}])

    def _create(self) -> Response:
        dossier = request.get_json(silent=True, force=True)
        if not isinstance(dossier, dict):
            return _answer("1", self.wording["body"])
        for member in MANDATORY:
            if dossier.get(member) in (None, ""):
                return _answer("1", self.wording["missing"].format(member=member))
        code = str(dossier["MaHoSo"])
        with self._lock:
            if code in self._dossiers:
                self._duplicates += 1
                return _answer("-3", self.wording["exists"])
            identity = str(uuid.uuid5(IDS, code))
            self._dossiers[code] = {**dossier, "IdHoSo": identity}
        return self._done({"IdHoSo": identity})

    def _keep(self, kind: str, member: str) -> Response:
        rows = request.get_json(silent=True, force=True)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            return _answer("1", self.wording["body"])
        with self._lock:
            for row in rows:
                complaint = self._complaint(row, kind, member)
                if complaint:
                    return _answer("1", complaint)
            kept = self._rows[kind]
            kept.extend(row for row in rows if row not in kept)
        return self._done(None)

    def _complaint(self, row: Mapping[str, Any], kind: str, member: str) -> str:
        if not row.get(member):
            return self.wording["missing"].format(member=member)
        known = self._dossiers.get(str(row.get("MaHoSo")))
        if known is None or known["IdHoSo"] != row[member]:
            return self.wording["unknown_dossier"]
        status = row.get("TrangThai")
        if type(status) is not int or not 1 <= status <= 10:
            return self.wording["status"]
        for name in ("ThoiDiemXuLy", "NgayBatDau", "NgayKetThucTheoQuyDinh"):
            if row.get(name) and not MOMENT.fullmatch(str(row[name])):
                return self.wording["moment"].format(member=name)
        if kind == "status" and status not in WITH_LISTS and {"DanhSachLePhi", "DanhSachGiayToKetQua"} & row.keys():
            return self.wording["lists"]
        return ""

    def _done(self, data: Any) -> Response:
        return jsonify({"code": "0", "message": self.wording["done"], "data": data})


def _answer(code: str, message: str) -> Response:
    return jsonify({"code": code, "message": message, "data": None})
