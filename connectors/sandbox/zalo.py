"""Twin of Zalo's notices (vietnam.md 4.22). It keeps an outbox; no message ever leaves it.

::

    POST /zalo/v4/oa/access_token   secret-key: …, form → {access_token, refresh_token, expires_in}
    POST /zalo/message/template     access-token: … → {"error": 0, "message": "Success"}

The refresh token of the credentials file is always good, those handed out are good once. Every answer is a 200. Headers
have hyphens here, because servers drop names with an underscore. Codes but 0 are this twin's own, or unverified.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import IssuedSessions, same_secret

NAME = "zalo"
APPROVED: Final = frozenset({"201001"})
WORDING = {
    "ok": "Success",
    "login": "Invalid refresh token",
    "token": "Access token has expired",
    "template": "Template is not approved",
    "user": "Zalo account not existed",
    "data": "Data is invalid",
}
PRESETS = {
    "unknown-user": error("Zalo account not existed", "-118", "user", service="template"),
    "unapproved-template": error("Template is not approved", "-112", "template", service="template"),
    "token-expired": error("Access token has expired, once: refresh it", "-124", "token", service="template", count=1),
}


class ZaloTwin:
    """Zalo's gateway. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        """``credential`` is a JSON object of ``app_id``, ``secret_key`` and ``refresh_token``."""
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._credential: Mapping[str, str] = json.loads(credential)
        self._refreshing = IssuedSessions(90 * 86_400.0)
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self._outbox: dict[str, dict[str, Any]] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        routes.post("/v4/oa/access_token")(self._token)
        routes.post("/message/template")(self._message)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {"outbox": [dict(message) for message in self._outbox.values()], "logins": self.sessions.issued}

    def reset(self) -> None:
        with self._lock:
            self._outbox.clear()

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._refreshed, _said)

    def _refreshed(self) -> Response:
        token = request.form.get("refresh_token", "")
        with self._lock:
            good = same_secret(token, self._credential["refresh_token"]) or (
                self._refreshing.holds(token) and token not in self._used
            )
            self._used.add(token)
        if not (
            good
            and request.form.get("grant_type") == "refresh_token"
            and same_secret(request.form.get("app_id"), self._credential["app_id"])
            and same_secret(request.headers.get("secret-key"), self._credential["secret_key"])
        ):
            return _said("-14014", self.wording["login"])
        # Zalo writes the seconds as text.
        life = str(int(self.sessions.seconds))
        return jsonify(access_token=self.sessions.issue(), refresh_token=self._refreshing.issue(), expires_in=life)

    def _message(self) -> Response:
        if not self.sessions.holds(request.headers.get("access-token")):
            return _said("-124", self.wording["token"])
        return self._dial.apply(NAME, "template", self._take, _said)

    def _take(self) -> Response:
        given = request.get_json(silent=True, force=True)
        if not isinstance(given, dict) or not isinstance(given.get("template_data"), dict):
            return _said("-137", self.wording["data"])
        if given.get("template_id") not in APPROVED:
            return _said("-112", self.wording["template"])
        if not str(given.get("phone", "")).startswith("8490000"):
            # Test numbers are known here, as in vietnam.md 6.1; nobody else has an account.
            return _said("-118", self.wording["user"])
        with self._lock:
            self._outbox.setdefault(str(given.get("tracking_id")), given)
        return _said("0", self.wording["ok"])


def _said(code: str, message: str) -> Response:
    return jsonify({"error": int(code) if code.lstrip("-").isdigit() else code, "message": message})
