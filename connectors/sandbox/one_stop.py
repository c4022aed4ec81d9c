"""Twin of a provincial one-stop (vietnam.md 4.8): takes profiles, keeps one for each ``source_id``, and lets them be
listed and acknowledged. :class:`OneStopMember` is the same one-stop as a member of the bus that pulls its inbox."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_login
from schemas.moment import VIETNAM

NAME = "one_stop"
DATE = re.compile(r"[0-9]{4}/(0[1-9]|1[0-2])/(0[1-9]|[12][0-9]|3[01]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
WORDING = {
    "taken": "Tiếp nhận hồ sơ thành công",
    "again": "Hồ sơ đã được tiếp nhận",
    "missing": "Thiếu trường bắt buộc {member}",
    "date": "Trường {member} không đúng định dạng yyyy/MM/dd HH:mm:ss",
    "body": "Dữ liệu không hợp lệ",
    "unknown": "Không tìm thấy hồ sơ",
    "token": "Token không hợp lệ",
}
PRESETS = {
    "invalid": error("Dữ liệu không hợp lệ", "1", "body"),
    "token-expired": Preset(says="401, once", fault={"kind": "status", "status": 401, "count": 1}),
}
MANDATORY = ("source_id", "procedures_code", "from_unit_code", "to_unit_code")


class OneStopTwin:
    """The one-stop's counter. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._username, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._profiles: dict[str, dict[str, Any]] = {}
        self._duplicates = 0
        self._idempotency_keys: dict[str, int] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/one_stop")
        routes.post("/token")(self._token)
        routes.post("/profile")(self._post_profile)
        routes.get("/profile")(self._get_profile)
        routes.get("/profiles")(self._list)
        routes.post("/updateStatusReceiver")(self._acknowledge)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "dossiers": {source: dict(entry) for source, entry in self._profiles.items()},
                "duplicates": self._duplicates,
                "idempotency_keys": dict(self._idempotency_keys),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._profiles.clear()
            self._idempotency_keys.clear()
            self._duplicates = 0

    def take(self, profile: Mapping[str, Any]) -> tuple[str, bool]:
        """File a profile once. Returns its id here and whether it was there already."""
        source = str(profile.get("source_id") or profile["MaHoSo"])
        with self._lock:
            entry = self._profiles.get(source)
            if entry is not None:
                self._duplicates += 1
                return str(entry["profileId"]), True
            number = f"P{len(self._profiles) + 1:06d}"
            self._profiles[source] = {
                "profileId": number,
                "status": "new",
                "createTime": datetime.now(VIETNAM).strftime("%Y/%m/%d %H:%M:%S"),
                "profile": dict(profile),
            }
            return number, False

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, _answer)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._username, self._password):
            return make_response(_answer("401", self.wording["token"]), 401)
        return jsonify({"access_token": self.sessions.issue(), "expires_in": int(self.sessions.seconds)})

    def _post_profile(self) -> Response:
        if not self._bearer_holds():
            return make_response(_answer("401", self.wording["token"]), 401)
        document = request.get_json(silent=True, force=True)
        key = request.headers.get("Idempotency-Key", "")
        with self._lock:
            self._idempotency_keys[key] = self._idempotency_keys.get(key, 0) + 1
        return self._dial.apply(NAME, "profile", lambda: self._filed(document), _answer)

    def _filed(self, document: Any) -> Response:
        complaint = self._complaint(document)
        if complaint:
            return _answer("1", complaint)
        number, again = self.take(document)
        message = self.wording["again" if again else "taken"]
        return jsonify({"error_code": "0", "message": message, "profile_id": number})

    def _complaint(self, document: Any) -> str:
        if not isinstance(document, dict):
            return self.wording["body"]
        for member in MANDATORY:
            if not document.get(member):
                return self.wording["missing"].format(member=member)
        for member in ("accept_date", "appointment_date"):
            if document.get(member) and not DATE.fullmatch(str(document[member])):
                return self.wording["date"].format(member=member)
        return ""

    def _list(self) -> Response:
        if not self._bearer_holds():
            return make_response(_answer("401", self.wording["token"]), 401)
        unit = request.args.get("unit_code", "")
        with self._lock:
            waiting = [
                {
                    "profileId": entry["profileId"],
                    "fromUnitCode": entry["profile"].get("from_unit_code", ""),
                    "toUnitCode": unit,
                    "createTime": entry["createTime"],
                    "status": entry["status"],
                    "status_profile": entry["profile"].get("profiles_status", ""),
                    "type": "TIEPNHAN",
                }
                for entry in self._profiles.values()
                if entry["status"] == "new" and unit in entry["profile"].get("to_unit_code", [])
            ]
        return jsonify({"profileReceivers": waiting})

    def _get_profile(self) -> Response:
        if not self._bearer_holds():
            return make_response(_answer("401", self.wording["token"]), 401)
        entry = self._by_number(request.args.get("profile_id", ""))
        return (
            _answer("1", self.wording["unknown"]) if entry is None else jsonify({"profileOutmodel": entry["profile"]})
        )

    def _acknowledge(self) -> Response:
        if not self._bearer_holds():
            return make_response(_answer("401", self.wording["token"]), 401)
        entry = self._by_number(request.args.get("profile_id", ""))
        status = request.args.get("status", "")
        if entry is None or status not in ("done", "fail"):
            return _answer("1", self.wording["unknown"])
        with self._lock:
            # "fail" leaves it waiting: an unacknowledged profile comes again (P26).
            entry["status"] = "done" if status == "done" else "new"
        return _answer("0", self.wording["taken"])

    def _by_number(self, number: str) -> dict[str, Any] | None:
        with self._lock:
            return next((entry for entry in self._profiles.values() if entry["profileId"] == number), None)

    def _bearer_holds(self) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme == "Bearer" and self.sessions.holds(token)


class _Pulled(Protocol):
    @property
    def body(self) -> bytes: ...

    def ack(self) -> None: ...

    def nack(self, reason: str) -> None: ...


class OneStopMember:
    """The one-stop as a member of the bus without an address of its own: it files what its inbox holds."""

    def __init__(self, twin: OneStopTwin) -> None:
        self._twin = twin

    def take(self, delivery: _Pulled) -> bool:
        """File first, acknowledge then. Returns whether it was new; what is no dossier goes back with a reason."""
        try:
            _, again = self._twin.take(json.loads(delivery.body))
        except (ValueError, KeyError, TypeError, AttributeError):
            delivery.nack("not-a-dossier")
            return False
        delivery.ack()
        return not again


def _answer(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message})
