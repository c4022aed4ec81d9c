"""Twin of a department's social-protection system (vietnam.md 4.18): dossiers and progress in, results out.

It keeps one dossier for each MaHoSo and answers a second one with "đã tồn tại"; the results of a day are its dossiers,
with the XML inside the JSON string as it came, or with an example of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import same_secret

NAME = "social_protection"
MANDATORY = {"DongBoDVC": ("MaHoSo", "MaTTHC", "HoVaTen", "StatusId"), "XuLyHoSo": ("MaHoSo", "NguoiXuLy", "StatusId")}
WORDING = {
    "synced": "Đồng bộ thành công",
    "exists": "Hồ sơ đã tồn tại",
    "unknown": "Không tìm thấy hồ sơ",
    "missing": "Thiếu trường {member}",
    "key": "AcceptKey không hợp lệ",
    "parameters": "Tham số không hợp lệ",
}
PRESETS = {
    "duplicate-dossier": error("Hồ sơ đã tồn tại", "3", "exists", service="DongBoDVC"),
    "unknown-dossier": error("Không tìm thấy hồ sơ", "-1", "unknown"),
    "wrong-key": error("AcceptKey không hợp lệ", "2", "key"),
}
EXTENT = (
    "<ExtentData><DanhsachTaiLieuNop/><DanhSachGiayToKetQua><GiayToKetQua><TenGiayTo>Quyết định &quot;trợ cấp&quot;"
    "</TenGiayTo><MaGiayToKetQua>KQ.G07.000001</MaGiayToKetQua></GiayToKetQua></DanhSachGiayToKetQua></ExtentData>"
)


class SocialProtectionTwin:
    """The department's memory. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        del session_seconds  # a shared key in each body is all there is
        self.wording = {**WORDING, **(wording or {})}
        #: What a result carries where its dossier came without: testers may hang something worse here.
        self.extent = EXTENT
        self._dial = dial
        self._key = credential.partition(":")[2]
        self._lock = threading.Lock()
        self._dossiers: dict[str, dict[str, Any]] = {}
        self._progress: dict[str, list[dict[str, Any]]] = {}
        self._duplicates = 0

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/social_protection")
        routes.post("/apiBTXH/<any(DongBoDVC, XuLyHoSo, KetQua):operation>")(self._serve)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "dossiers": dict(self._dossiers),
                "progress": {number: list(rows) for number, rows in self._progress.items()},
                "duplicates": self._duplicates,
            }

    def reset(self) -> None:
        with self._lock:
            self._dossiers.clear()
            self._progress.clear()
            self._duplicates = 0

    def _serve(self, operation: str) -> Response:
        document = request.get_json(silent=True, force=True)
        say = _results if operation == "KetQua" else _said
        if not isinstance(document, dict) or not same_secret(document.pop("AcceptKey", None), self._key):
            return say("2", self.wording["key"])
        deeds = {"DongBoDVC": self._keep, "XuLyHoSo": self._note, "KetQua": self._found}
        return self._dial.apply(NAME, operation, lambda: self._checked(operation, document, deeds[operation]), say)

    def _checked(self, operation: str, document: dict[str, Any], deed: Any) -> Response:
        for member in MANDATORY.get(operation, ()):
            if document.get(member) in (None, ""):
                return _said("1", self.wording["missing"].format(member=member))
        answer: Response = deed(document)
        return answer

    def _keep(self, document: dict[str, Any]) -> Response:
        with self._lock:
            if document["MaHoSo"] in self._dossiers:
                self._duplicates += 1
                return _said("3", self.wording["exists"])
            self._dossiers[document["MaHoSo"]] = document
        return _said("0", self.wording["synced"])

    def _note(self, document: dict[str, Any]) -> Response:
        with self._lock:
            if document["MaHoSo"] not in self._dossiers:
                return _said("-1", self.wording["unknown"])
            rows = self._progress.setdefault(document["MaHoSo"], [])
            if document not in rows:
                rows.append(document)
        return _said("0", self.wording["synced"])

    def _found(self, document: dict[str, Any]) -> Response:
        try:
            first, last = (
                datetime.strptime(str(document[name]), "%d/%m/%Y")  # noqa: DTZ007 - days, not moments
                for name in ("tuNgay", "denNgay")
            )
        except (KeyError, ValueError):
            return _results("1", self.wording["parameters"])
        with self._lock:
            dossiers = [item for item in self._dossiers.values() if _within(item.get("NgayTiepNhan"), first, last)]
        return _results(0, self.wording["synced"], [self._row(dossier) for dossier in dossiers])

    def _row(self, dossier: Mapping[str, Any]) -> dict[str, Any]:
        """The reply's spelling of a member is the request's with its first letter small."""
        row = {name[:1].lower() + name[1:]: value for name, value in dossier.items() if not name.startswith("CMND")}
        return row | {
            "cmnd": dossier.get("CMND", ""),
            "certificateExtentData": dossier.get("CertificateExtentData") or self.extent,
        }


def _within(text: object, first: datetime, last: datetime) -> bool:
    try:
        day = datetime.strptime(str(text)[:10], "%d/%m/%Y")  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        return False
    return first <= day <= last


def _said(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message})


def _results(code: str | int, message: str, rows: list[dict[str, Any]] | None = None) -> Response:
    # A number here, a text there: the mixture is the department's own (P4).
    number = int(code) if str(code).lstrip("-").isdigit() else code
    return jsonify({"result": {"message": message, "error_code": number, "data": rows or []}})
