"""An office that takes a request now and answers days later, by calling the bus: what several twins have in common.

::

    POST /<office>/token                         client credentials
    POST /<office>/<operation>                   Bearer …, {"maHoSo", …} → {"maLoi": "0", "thongBao"}

    What people do there, for testers:
    POST /_sandbox/<office>/answer {"maHoSo", "to": "http://…/partners/…", "trangThai": "4", "times": 1, "ghiChu": ""}
         → {"notice": what goes out, "answers": [what the bus said to each]}

    to the bus: {"maHoSo", "trangThai", "thoiGianThucHien", "ghiChu", "ketQua": {…}}     ketQua with trangThai 4 only

One request for each dossier: the same again is the same, another one under its code is refused. ``trangThai`` has the
values of the joint chain (vietnam.md 3.4); the rest is this sandbox's own, no source has these offices' forms.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.calling import call_bus
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_login
from schemas.date_format import read_date_pattern
from schemas.moment import VIETNAM

#: The status that has a result; 6 is a refusal.
RESULT: Final = "4"
WORDING = {
    "taken": "Đã tiếp nhận",
    "cancelled": "Đã hủy",
    "exists": "Hồ sơ đã tồn tại với nội dung khác",
    "unknown": "Không tìm thấy hồ sơ",
    "data": "Thiếu hoặc sai trường {member}",
    "token": "Token không hợp lệ",
}
MOMENT: Final = read_date_pattern("dd/MM/yyyy HH:mm:ss")


def presets(name: str, receiver: str) -> Mapping[str, Preset]:
    """An office's failures; ``receiver`` is its own address at the bus."""
    answer = {"maHoSo": "H99.15-260423-0001", "to": f"http://127.0.0.1:8080/partners/{receiver}/ket-qua"}
    path = f"/_sandbox/{name}/answer"
    return {
        "number-taken": error("Hồ sơ đã tồn tại với nội dung khác", "2", "exists"),
        "unknown": error("Không tìm thấy hồ sơ", "3", "unknown"),
        "refused-later": Preset(says="days later it refuses: trangThai 6", call=(path, {**answer, "trangThai": "6"})),
        "answered-twice": Preset(says="its answer comes twice", call=(path, {**answer, "times": 2})),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What is an office's own."""

    name: str
    #: Path of the operation that asks, and of the one that takes a request back where there is one.
    asks: str
    cancels: str = ""
    #: The member of a request that the office cannot use; empty when it can.
    fault: Callable[[Mapping[str, Any]], str]
    #: What it gives in the end, from the request and its number.
    result: Callable[[Mapping[str, Any], int], Mapping[str, Any]]


class LaterTwin:
    """One such office. Safe under threads."""

    def __init__(
        self,
        office: Office,
        dial: Dial,
        credential: str,
        session_seconds: float,
        wording: Mapping[str, str] | None = None,
    ) -> None:
        """``credential`` is a JSON object of ``user``, ``secret`` and ``callback``."""
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._office = office
        self._dial = dial
        self._credential: Mapping[str, str] = json.loads(credential)
        self._lock = threading.Lock()
        self._forget()

    def register(self, app: Flask) -> None:
        name = self._office.name
        routes = Blueprint(name, __name__)
        routes.post(f"/{name}/token")(self._token)
        routes.post(f"/{name}/{self._office.asks}", endpoint="asks")(self._desk(self._office.asks, self._keep))
        if self._office.cancels:
            desk = self._desk(self._office.cancels, self._cancel)
            routes.post(f"/{name}/{self._office.cancels}", endpoint="cancels")(desk)
        routes.post(f"/_sandbox/{name}/answer")(self._answer)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "requests": dict(self._requests),
                "cancelled": sorted(self._cancelled),
                "repeats": self._repeats,
                "answers": self._answers,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._requests: dict[str, Mapping[str, Any]] = {}
        self._cancelled: set[str] = set()
        self._repeats = 0
        self._answers = 0

    # ---- What is asked

    def _token(self) -> Response:
        return self._dial.apply(self._office.name, "token", self._logged_in, _said)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._credential["user"], self._credential["secret"]):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _desk(self, operation: str, act: Callable[[str, Mapping[str, Any]], Response]) -> Callable[[], Response]:
        def answered() -> Response:
            document = _document()
            code = document.get("maHoSo")
            if not isinstance(code, str) or not code:
                return _said("1", self.wording["data"].format(member="maHoSo"))
            with self._lock:
                return act(code, document)

        def serve() -> Response:
            if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
                return make_response(_said("401", self.wording["token"]), 401)
            return self._dial.apply(self._office.name, operation, answered, _said)

        return serve

    def _keep(self, code: str, document: Mapping[str, Any]) -> Response:
        """The lock is held."""
        wrong = self._office.fault(document)
        if wrong:
            return _said("1", self.wording["data"].format(member=wrong))
        if self._requests.get(code, document) != document or code in self._cancelled:
            return _said("2", self.wording["exists"])
        self._repeats += code in self._requests
        self._requests.setdefault(code, document)
        return _said("0", self.wording["taken"])

    def _cancel(self, code: str, _: Mapping[str, Any]) -> Response:
        """The lock is held."""
        if code not in self._requests:
            return _said("3", self.wording["unknown"])
        self._cancelled.add(code)
        return _said("0", self.wording["cancelled"])

    # ---- What it answers in the end

    def _answer(self) -> Response:
        wish = _document()
        code, status = str(wish.get("maHoSo")), str(wish.get("trangThai", RESULT))
        with self._lock:
            known = self._requests.get(code)
            number = 1 + list(self._requests).index(code) if known is not None else 0
        if known is None:
            return make_response(jsonify({"error": self.wording["unknown"]}), 404)
        notice = {
            "maHoSo": code,
            "trangThai": status,
            "thoiGianThucHien": str(wish.get("thoiGianThucHien") or MOMENT.write(datetime.now(VIETNAM))),
            "ghiChu": str(wish.get("ghiChu", "")),
            **({"ketQua": self._office.result(known, number)} if status == RESULT else {}),
        }
        times = int(wish.get("times", 1)) if wish.get("to") else 0
        answers = [call_bus(str(wish["to"]), notice, self._credential["callback"]) for _ in range(times)]
        with self._lock:
            self._answers += times
        return jsonify({"notice": notice, "answers": answers})


def _document() -> Mapping[str, Any]:
    given = request.get_json(silent=True, force=True)
    return given if isinstance(given, dict) else {}


def _said(code: str, message: str) -> Response:
    """The office's answer; "0" is a yes."""
    return jsonify({"maLoi": code, "thongBao": message})
