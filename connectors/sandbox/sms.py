"""Twin of three SMS carriers (vietnam.md 4.22). It keeps an outbox; no message ever leaves it.

::

    POST /sms/vinaphone             JSON, ``RQST`` → ``RPLY``; "0" is success
    POST /sms/viettel, GET ?wsdl    SOAP 1.1 wsCpMt; "1" is success
    POST /sms/lgsp/token, /sms/lgsp OAuth, then {content, sender, receiver, applicationTitle} → "SUCCESSFUL"
    POST /sms/dossiers              stands in for the one-stop that a citizen's "HS <code>" is asked of
    GET  /_sandbox/sms/state        the outbox

A repeat by request id (at the platform by Idempotency-Key) is one message. The error codes are this twin's own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_secret
from connectors.sms import NAMESPACE
from schemas.problem import Problem
from schemas.soap import SoapVersion, read_soap, write_soap

NAME = "sms"
#: Templates that VinaPhone has approved for the province.
APPROVED: Final = frozenset({"1001", "1002", "1003"})
WORDING = {
    "ok": "Insert MT_QUEUE: OK",
    "success": "SUCCESSFUL",
    "login": "Sai ten dang nhap hoac mat khau",
    "template": "Mau tin chua duoc duyet",
    "number": "So dien thoai khong hop le",
    "data": "Du lieu khong hop le",
}
PRESETS = {
    "unknown-user": error("Sai ten dang nhap hoac mat khau", "9", "login"),
    "unapproved-template": error("Mau tin chua duoc duyet", "2", "template", service="send_sms_list"),
    "unknown-number": error("So dien thoai khong hop le", "3", "number"),
    "token-expired": Preset(
        says="the platform answers 401, once", fault={"kind": "status", "status": 401, "service": "sms", "count": 1}
    ),
}
#: Messages whose details are kept; repeats are known for as many.
KEPT: Final = 100_000


class SmsTwin:
    """The carriers' gateways. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._user, _, self._password = credential.partition(":")
        self._lock = threading.Lock()
        self._outbox: dict[tuple[str, str], dict[str, Any]] = {}
        self._duplicates = 0

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        routes.post("/vinaphone")(self._vinaphone)
        routes.get("/viettel")(self._described)
        routes.post("/viettel")(self._viettel)
        routes.post("/lgsp/token")(self._token)
        routes.post("/lgsp")(self._lgsp)
        routes.post("/dossiers")(self._status)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "outbox": [dict(message) for message in self._outbox.values()],
                "duplicates": self._duplicates,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._outbox.clear()
            self._duplicates = 0

    def _put(self, carrier: str, key: str, **message: Any) -> None:
        with self._lock:
            if (carrier, key) in self._outbox:
                self._duplicates += 1
            elif len(self._outbox) < KEPT:
                self._outbox[carrier, key] = {"carrier": carrier, **message}

    def _knows(self, user: object, password: object) -> bool:
        return same_secret(user, self._user) and same_secret(password, self._password)

    # ---- The one-stop behind a citizen's question

    def _status(self) -> Response:
        return self._dial.apply(NAME, "dossiers", self._found, lambda _, text: make_response(jsonify(error=text), 422))

    def _found(self) -> Response:
        given = request.get_json(silent=True, force=True)
        code = given.get("MaHoSo") if isinstance(given, dict) else None
        return jsonify({"MaHoSo": code, "TrangThai": "4", "NgayHenTra": "24/04/2026"})

    # ---- VinaPhone

    def _vinaphone(self) -> Response:
        return self._dial.apply(NAME, "send_sms_list", self._take_list, _reply_list)

    def _take_list(self) -> Response:
        given = request.get_json(silent=True, force=True)
        asked = given.get("RQST") if isinstance(given, dict) else None
        if not isinstance(asked, dict) or asked.get("name") != "send_sms_list" or not asked.get("REQID"):
            return _reply_list("4", self.wording["data"])
        if not self._knows(asked.get("APIUSER"), asked.get("APIPASS")):
            return _reply_list("1", self.wording["login"])
        if asked.get("TEMPLATEID") not in APPROVED:
            return _reply_list("2", self.wording["template"])
        if not _is_number(asked.get("MOBILELIST")):
            return _reply_list("3", self.wording["number"])
        params = asked.get("PARAMS")
        if not isinstance(params, list) or [one.get("NUM") for one in params] != [
            str(at + 1) for at in range(len(params))
        ]:
            return _reply_list("4", self.wording["data"])
        self._put(
            "vinaphone",
            str(asked["REQID"]),
            to=asked["MOBILELIST"],
            template=asked["TEMPLATEID"],
            values=[one.get("CONTENT") for one in params],
        )
        return _reply_list("0", "success")

    # ---- Viettel

    def _described(self) -> Response:
        text = files("schemas").joinpath("partners", NAME, f"{NAME}.wsdl").read_text("utf-8")
        text = re.sub(r'(<soap:address location=")[^"]*', lambda found: found[1] + escape(request.base_url), text)
        return Response(text, mimetype="text/xml")

    def _viettel(self) -> Response:
        return self._dial.apply(NAME, "wsCpMt", self._take_one, _reply_one)

    def _take_one(self) -> Response:
        try:
            asked = read_soap(request.get_data(), request.content_type or "", request.headers.get("SOAPAction")).payload
        except Problem:
            return _reply_one("0", self.wording["data"])
        if asked.tag != f"{{{NAMESPACE}}}wsCpMt":
            return _reply_one("0", self.wording["data"])
        # Members have no namespace, as in every client of this carrier.
        given = {name: asked.findtext(name, "") for name in ("User", "Password", "RequestID", "ReceiverID", "Content")}
        if not self._knows(given["User"], given["Password"]):
            return _reply_one("0", self.wording["login"])
        if not _is_number(given["ReceiverID"]):
            return _reply_one("0", self.wording["number"])
        if not given["Content"] or not given["RequestID"]:
            return _reply_one("0", self.wording["data"])
        sender = asked.findtext("ServiceID", "")
        self._put("viettel", given["RequestID"], to=given["ReceiverID"], sender=sender, text=given["Content"])
        return _reply_one("1", self.wording["ok"])

    # ---- A platform of the province

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, _reply_platform)

    def _logged_in(self) -> Response:
        given = request.authorization
        if given is None or not self._knows(given.username, given.password):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        return jsonify(self.sessions.token_answer())

    def _lgsp(self) -> Response:
        if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
            return make_response(_reply_platform("UNAUTHORIZED", ""), 401)
        return self._dial.apply(NAME, "sms", self._take_platform, _reply_platform)

    def _take_platform(self) -> Response:
        given = request.get_json(silent=True, force=True)
        names = ("content", "sender", "receiver", "applicationTitle")
        if not isinstance(given, dict) or not all(isinstance(given.get(name), str) for name in names):
            return _reply_platform("FAILED", self.wording["data"])
        if not _is_number(given["receiver"]):
            return _reply_platform("FAILED", self.wording["number"])
        key = request.headers.get("Idempotency-Key", "")
        self._put("lgsp", key, to=given["receiver"], sender=given["sender"], text=given["content"])
        return _reply_platform(self.wording["success"], "")


def _is_number(given: object) -> bool:
    """The one form that carriers take."""
    return isinstance(given, str) and re.fullmatch("84[235789][0-9]{8,9}", given) is not None


def _reply_list(code: str, message: str) -> Response:
    return jsonify({"RPLY": {"name": "send_sms_list", "ERROR": code, "ERROR_DESC": message}})


def _reply_one(code: str, message: str) -> Response:
    inside = f"<return><message>{escape(message)}</message><result>{escape(code)}</result></return>"
    payload = f'<ns2:wsCpMtResponse xmlns:ns2="{NAMESPACE}">{inside}</ns2:wsCpMtResponse>'
    return Response(write_soap(SoapVersion.V11, payload.encode()), content_type="text/xml; charset=utf-8")


def _reply_platform(code: str, message: str) -> Response:
    return jsonify({"result": code, "message": message})
