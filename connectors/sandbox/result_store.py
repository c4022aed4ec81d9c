"""Twin of the store of digitised results (vietnam.md 4.7), under ``/result_store/bndp/public/v1/``.

It holds one birth certificate of an invented citizen, and hands its file out as bytes. Sessions travel as bearer tokens
or in a header named ``session``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_secret

NAME = "result_store"
WORDING = {
    "done": "Thành công",
    "login": "Sai tài khoản hoặc mật khẩu",
    "owner": "Thiếu trường bắt buộc SoDinhDanhChuSoHuu",
    "unknown_file": "Không tìm thấy tệp",
}
PRESETS = {
    "no-such-file": error("Không tìm thấy tệp", "1", "unknown_file", service="file"),
    "session-expired": Preset(says="401, once", fault={"kind": "status", "status": 401, "count": 1}),
}
FILE = b"%PDF-1.7\n% a birth certificate that nobody has\n%%EOF\n"
RESULTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "099199000001": (
        {
            "MaKetQua": "KQ.G15.000031",
            "TenGiayTo": "Giấy khai sinh",
            "SoKyHieu": "01/2026",
            "CoQuanChuQuan": "H99.20",
            "DanhSachTepDinhKem": [{"TenTep": "giay-khai-sinh.pdf", "DuongDan": "kho/2026/0001"}],
        },
    ),
}


class ResultStoreTwin:
    """Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._username, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._files = 0

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}/bndp/public/v1")
        routes.post("/login")(self._login)
        routes.post("/search")(self._search)
        routes.post("/file")(self._file)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {"questions": len(self._asked), "read": self._files, "logins": self.sessions.issued}

    def reset(self) -> None:
        with self._lock:
            self._asked.clear()
            self._files = 0

    def _login(self) -> Response:
        return self._dial.apply(NAME, "login", self._logged_in, _answer)

    def _logged_in(self) -> Response:
        given = _given()
        named = same_secret(given.get("username"), self._username)
        if not (same_secret(given.get("password"), self._password) and named):
            return _answer("-1", self.wording["login"])
        return jsonify({"error_code": 0, "session": self.sessions.issue()})

    def _search(self) -> Response:
        return self._serve("search", self._found)

    def _file(self) -> Response:
        return self._serve("file", self._handed_out)

    def _serve(self, service: str, act: Callable[[], Response]) -> Response:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.sessions.holds(bearer or request.headers.get("session")):
            return Response(status=401)
        return self._dial.apply(NAME, service, act, _answer)

    def _found(self) -> Response:
        question = _given()
        owner = str(question.get("SoDinhDanhChuSoHuu") or "")
        if not owner:
            return _answer("1", self.wording["owner"])
        kinds = question.get("DanhSachDanhMucKetQua")
        rows = kinds if isinstance(kinds, list) else []
        wanted = {row.get("MaKetQua") for row in rows if isinstance(row, dict)}
        found = [each for each in RESULTS.get(owner, ()) if not wanted or each["MaKetQua"] in wanted]
        with self._lock:
            self._asked.add(repr(sorted(question.items(), key=str)))
        result = {"DanhSachGiayToKetQua": found}
        return jsonify({"errorCode": "0", "message": self.wording["done"], "signature": "", "result": result})

    def _handed_out(self) -> Response:
        place = _given()
        for result in (each for results in RESULTS.values() for each in results):
            for file in result["DanhSachTepDinhKem"]:
                wanted = {"CoQuanChuQuan": result["CoQuanChuQuan"], **file}
                if {name: place.get(name) for name in wanted} == wanted:
                    with self._lock:
                        self._files += 1
                    return Response(FILE, mimetype="application/pdf")
        return _answer("1", self.wording["unknown_file"])


def _given() -> Mapping[str, Any]:
    document = request.get_json(silent=True, force=True)
    return document if isinstance(document, dict) else {}


def _answer(code: str, message: str) -> Response:
    return jsonify({"errorCode": code, "message": message, "signature": "", "result": None})
