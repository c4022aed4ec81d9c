"""Twin of the national system of petitions (vietnam.md 4.21): takes petitions and answers, hands petitions down.

::

    POST /petition/token                                client credentials
    POST /petition/pakn/tiep-nhan    Bearer …           a petition that was entered in a province
    POST /petition/pakn/trang-thai   Bearer …           what became of one

    What people do at the Government Office, for testers (no login):
    POST /petition/bo/chuyen         {"petition": {…}, "to"}    hands one down: keeps it, and sends it there
    POST /petition/bo/trang-thai     {"status": {…}, "to"}      the same for a status (closed, rated)

Its manners: one petition for each MaPAKN, the same once more is taken and counted; a status of a petition that it does
not know is refused with code 2, for the petition may still be on its way; one out of turn is taken and counted. With
``to`` a document is sent to that address, as often as ``times`` says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.calling import call_bus
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_login
from schemas.codes import PETITION_STATUSES, may_follow

NAME = "petition"
WORDING = {
    "taken": "Tiếp nhận thành công",
    "unknown": "Không tìm thấy phản ánh, kiến nghị",
    "missing": "Thiếu trường bắt buộc {member}",
    "status": "Trạng thái không hợp lệ",
    "token": "Token không hợp lệ",
}
PRESETS = {
    "incomplete": error("1, a mandatory member is missing", "1", message=WORDING["missing"].format(member="NoiDung")),
    "wrong-status": error("1, TrangThai is none of its list", "1", "status", service="trang-thai"),
    "unknown": error("2, the petition is not known here, or not yet", "2", "unknown", service="trang-thai"),
    "handed-down-twice": Preset(
        says="one petition is handed down to the province twice",
        call=(
            f"/{NAME}/bo/chuyen",
            {"petition": {"MaPAKN": "…"}, "times": 2, "to": "http://…/partners/G99.23/pakn/chuyen"},
        ),
    ),
}
MANDATORY = ("MaPAKN", "NguonGui", "NoiDung", "NgayGui")
Verdict = tuple[str, str]


class PetitionTwin:
    """The Government Office's memory and manners. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        """``credential``: a JSON object of ``user``, ``secret`` and ``callback``."""
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._credential: Mapping[str, str] = json.loads(credential)
        self._lock = threading.Lock()
        self.reset()

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        routes.post("/token")(self._token)
        for operation, act in {"tiep-nhan": self._take, "trang-thai": self._move}.items():
            routes.post(f"/pakn/{operation}", endpoint=operation)(self._desk(operation, act))
        for path, hand in {"chuyen": self._hand_down, "trang-thai": self._tell}.items():
            routes.post(f"/bo/{path}", endpoint=f"bo-{path}")(hand)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "petitions": {code: dict(petition) for code, petition in self._petitions.items()},
                "duplicates": self._duplicates,
                "out_of_turn": self._out_of_turn,
                "idempotency_keys": dict(self._keys),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._petitions: dict[str, dict[str, Any]] = {}
            self._keys: dict[str, int] = {}
            self._duplicates = self._out_of_turn = 0

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, _said)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._credential["user"], self._credential["secret"]):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _desk(self, operation: str, act: Callable[[Mapping[str, Any]], Verdict]) -> Callable[[], Response]:
        def answered() -> Response:
            document = request.get_json(silent=True, force=True)
            with self._lock:
                return _said(*act(document if isinstance(document, dict) else {}))

        def serve() -> Response:
            if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
                return make_response(_said("-1", self.wording["token"]), 401)
            key = request.headers.get("Idempotency-Key", "")
            with self._lock:
                self._keys[key] = self._keys.get(key, 0) + 1
            return self._dial.apply(NAME, operation, answered, _said)

        return serve

    # ---- What the system does, under the lock

    def _take(self, petition: Mapping[str, Any]) -> Verdict:
        for member in MANDATORY:
            if not petition.get(member):
                return "1", self.wording["missing"].format(member=member)
        code = str(petition["MaPAKN"])
        if code in self._petitions:
            self._duplicates += 1
        else:
            self._petitions[code] = {"NguonGui": petition["NguonGui"], "TrangThai": "1", "NoiDungTraLoi": ""}
            self._petitions[code]["TrangThai"] = str(petition.get("TrangThai") or "1")
        return "0", self.wording["taken"]

    def _move(self, status: Mapping[str, Any]) -> Verdict:
        petition, after = self._petitions.get(str(status.get("MaPAKN"))), str(status.get("TrangThai"))
        if petition is None:
            return "2", self.wording["unknown"]
        if after not in PETITION_STATUSES:
            return "1", self.wording["status"]
        self._out_of_turn += not may_follow(petition["TrangThai"], after, PETITION_STATUSES)
        petition["TrangThai"] = after
        petition["NoiDungTraLoi"] = status.get("NoiDungTraLoi") or petition["NoiDungTraLoi"]
        return "0", self.wording["taken"]

    # ---- Its people's hands

    def _hand_down(self) -> Response:
        return self._sent("petition", self._take)

    def _tell(self) -> Response:
        return self._sent("status", self._move)

    def _sent(self, member: str, act: Callable[[Mapping[str, Any]], Verdict]) -> Response:
        asked = request.get_json(silent=True, force=True) or {}
        document, address = asked.get(member) or {}, str(asked.get("to") or "")
        with self._lock:
            code, message = act(document)
        times = int(asked.get("times", 1)) if address else 0
        answers = [call_bus(address, document, self._credential["callback"]) for _ in range(times)]
        return jsonify({"error_code": code, "message": message, "answers": answers})


def _said(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message})
