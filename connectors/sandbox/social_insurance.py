"""Twin of the social-insurance look-ups behind an LGSP (vietnam.md 4.15): a token, three questions, strings everywhere.

It only reads, so its state is what was asked. Somebody unknown gets an empty number and the code of the wording's
``not_found_code``; ``success_code`` may be "25", which one client takes as success.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import IssuedSessions, same_login

NAME = "social_insurance"
OPERATIONS = ("getTraCuuTtHgdByMaSoBhxh", "getMaSoBhxhTheoTieuChi", "getTraCuuThongTinHgd")
WORDING = {
    "member": "Đang tham gia",
    "unknown": "Không tìm thấy",
    "parameters": "Tham số không hợp lệ",
    "token": "Token không hợp lệ",
    "success_code": "",
    "not_found_code": "0",
}
PRESETS = {
    "error-code": error("errorCode is set", "1", "parameters"),
    "no-number": error("an empty maSoBhxh", "0", "unknown"),
}
#: Invented people with test numbers (vietnam.md 6.1): number, name, birth, its kind, sex.
PEOPLE = (
    ("9900000001", "NGUYỄN THỊ MẪU", "19990501", "0", "2"),
    ("9900000002", "TRẦN VĂN THỬ", "19851130", "0", "1"),
    ("9900000003", "LÝ THÁI AN", "1950", "1", "1"),
    ("9900000004", "NÔNG Y BANG", "196203", "2", "3"),
)


class SocialInsuranceTwin:
    """The insurance's desk. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._client_id, _, self._client_secret = credential.partition(":")
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._idempotency_keys: dict[str, int] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/social_insurance")
        routes.post("/token")(self._token)
        routes.post(f"/apiBHXH/<any({', '.join(OPERATIONS)}):operation>")(self._serve)
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

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, _no)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._client_id, self._client_secret):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _serve(self, operation: str) -> Response:
        if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
            return make_response(_no("", self.wording["token"]), 401)
        key = request.headers.get("Idempotency-Key", "")
        with self._lock:
            self._asked[operation] = self._asked.get(operation, 0) + 1
            self._idempotency_keys[key] = self._idempotency_keys.get(key, 0) + 1
        question = request.get_json(silent=True, force=True)
        return self._dial.apply(NAME, operation, lambda: self._answer(operation, question), _no)

    def _answer(self, operation: str, question: Any) -> Response:
        if not isinstance(question, dict) or not all(isinstance(value, str) for value in question.values()):
            return _no("1", self.wording["parameters"])
        if operation == "getTraCuuTtHgdByMaSoBhxh":
            found = [person for person in PEOPLE if person[0] == question.get("maSoBhxh")]
        else:
            asked = tuple(question.get(name) for name in ("hoTen", "ngaySinh", "loaiNgaySinh", "gioiTinh"))
            found = [person for person in PEOPLE if person[1:] == asked]
        if not found:
            return jsonify(_unknown(operation, self.wording["unknown"], self.wording["not_found_code"]))
        answer = _person(operation, *found[0])
        return jsonify({**answer, "trangThai": self.wording["member"], "errorCode": self.wording["success_code"]})


def _person(operation: str, number: str, name: str, born: str, kind: str, sex: str) -> dict[str, str]:
    if operation == "getMaSoBhxhTheoTieuChi":
        return {"maSoBhxh": number}
    person = {"hoTen": name, "ngaySinh": born, "loaiNgaySinh": kind, "gioiTinh": sex}
    if operation == "getTraCuuThongTinHgd":
        address = "1 đường Mẫu, phường Thủy Nguyên, thành phố Hải Phòng"
        return {"maSo": number, **person, "maHo": "9900000100", "diaChi": address}
    # No district since 01/07/2025, and the member stays (P23).
    return {**person, "soSoCu": "", "maTinhKs": "31", "maHuyenKs": "", "maXaKs": "11560"}


def _unknown(operation: str, message: str, code: str) -> dict[str, str]:
    number = {"getMaSoBhxhTheoTieuChi": "maSoBhxh", "getTraCuuThongTinHgd": "maSo"}.get(operation, "hoTen")
    return {number: "", "trangThai": message, "errorCode": code}


def _no(code: str, message: str) -> Response:
    return jsonify({"maSoBhxh": "", "trangThai": message, "errorCode": code})
