"""The transport ministry's driver-licence system (cấp đổi GPLX): sessions in the body, one address for all questions.

::

    POST <url>/<login_path>   {"username", "password"}                            → {"error_code", "result", "session"}
    POST <url>/<ask_path>     {"session", "service", "donViXuLy", "ngayNhan1", …} → {"error_code", "data": […]}
                              LayTaiLieuHoSo                                      → {"error_code", "TepTinDinhKem": […]}

Source: vietnam.md 4.14 and the code of a living client (TD-GPLX). It is only read; each service is request-reply.

============================ ======================== =============================================================
``driver-licence.dossiers``  DanhSachHoSo             ``{"ngayNhan1": "2026-04-20", "ngayNhan2": "2026-04-23"}``
``driver-licence.dossier``   TraCuuHoSo               ``{"mahoso": "…"}``
``driver-licence.document``  LayTaiLieuHoSo           ``{"duongdanteptin": "…"}``: a file in base64
============================ ======================== =============================================================

Endpoint settings: ``donViXuLy`` (ours, needed), ``login_path`` (``mapi/login``), ``ask_path`` (``mapi/g``),
``operations``, ``headers``, ``session_codes`` and ``wording`` (list ``session``), ``retry_codes``. The secret is
``username:password``.

Quirks kept here and nowhere else:

- A session dies without notice, and the words that tell of it are a setting (P3). One more login is tried, once.
- Zero in any spelling is success (P4); ``-1`` is anything, so it is tried again; the rest is final.
- An empty list is an answer: nothing was found.
- ``hanggplxgplx`` is misspelt at the source, and every reader depends on it (P25): the answer's bytes are passed on.
- ``HinhThucNhanKQ`` 1 is "by post"; ``KenhThucHien`` of this feed is 0 or 1 where the nation counts 1 or 2
  (vietnam.md 3.5). Who reads the feed translates it; nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.base import Parcel, Reply
from connectors.http import Deadline, HttpClient, check_status
from connectors.oauth2 import place
from connectors.partner_json import (
    code_text,
    is_success,
    name_and_password,
    operation_of,
    payload_object,
    reply_object,
    says,
    setting_mapping,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import kept, question_headers
from connectors.sessions import Sessions
from registry.model import Endpoint
from schemas.codec import write_json
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable

OPERATIONS = {
    "driver-licence.dossiers": "DanhSachHoSo",
    "driver-licence.dossier": "TraCuuHoSo",
    "driver-licence.document": "LayTaiLieuHoSo",
}
#: What a question consists of; anything else would overwrite what the connector says of itself.
ARGUMENTS = {
    "DanhSachHoSo": ("ngayNhan1", "ngayNhan2"),
    "TraCuuHoSo": ("mahoso",),
    "LayTaiLieuHoSo": ("duongdanteptin",),
}
OWN_MEMBERS = frozenset({"session", "service", "donViXuLy"})
#: The session is no longer good; assumed to be worded as the national portal words it, of whose family this is.
SESSION_GONE = ("session không hợp lệ", "phiên làm việc", "session hết hạn", "invalid session")
#: Codes that say nothing about the question.
RETRY_CODES = ("-1",)


class DriverLicenceConnector:
    """Asks the driver-licence system. Safe under threads; sessions are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._sessions = Sessions()

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the system's answer, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        question = question_of(operation, payload_object(parcel))
        unit = setting_text(endpoint, "donViXuLy")
        if not unit:
            raise ProviderUnavailable("endpoint-invalid", setting="donViXuLy")
        name, password = name_and_password(secret)
        deadline = Deadline(endpoint.timeout_seconds)

        def login() -> tuple[str, float | None]:
            document = {"username": name, "password": password}
            return self._login(self._post(parcel, endpoint, "login_path", "mapi/login", document, deadline))

        for _ in range(2):
            session = self._sessions.get(endpoint, secret or b"", login)
            document = {"session": session, "service": operation, "donViXuLy": unit, **question}
            reply = self._post(parcel, endpoint, "ask_path", "mapi/g", document, deadline)
            if not _session_gone(reply, endpoint):
                return kept(judged(reply, endpoint))
            self._sessions.forget(endpoint, secret or b"", session)
        raise ProviderUnavailable("provider-login-failed")

    def close(self) -> None:
        self._http.close()

    def _login(self, reply: Reply) -> tuple[str, float | None]:
        """The new session. A refused login may pass (an operator renews the credential), so it is not final."""
        document = reply_object(reply)
        session = document.get("session")
        if not is_success(document.get("error_code")):
            raise ProviderUnavailable("provider-login-failed")
        if not isinstance(session, str) or not session:
            raise InvalidReply("reply-not-readable")
        return session, None

    def _post(
        self, parcel: Parcel, endpoint: Endpoint, setting: str, usual: str, document: Any, deadline: Deadline
    ) -> Reply:
        headers = question_headers(parcel, endpoint)
        url = place(endpoint, setting, usual)
        return check_status(
            self._http.request(
                "POST", url, headers=headers, body=write_json(document), timeout_seconds=deadline.remaining()
            )
        )


def question_of(operation: str, payload: Mapping[str, Any]) -> Mapping[str, str]:
    """The members of a question. Raises ProviderRejected for what the system would not understand."""
    names = ARGUMENTS.get(operation, tuple(payload))
    if OWN_MEMBERS & payload.keys() or payload.keys() - set(names):
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    for name in names:
        if not isinstance(payload.get(name), str) or not payload[name]:
            raise ProviderRejected("payload-not-for-partner", member=name if operation in ARGUMENTS else "(root)")
    return payload


def judged(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply if it is an answer; raises what its code means otherwise."""
    code = reply_object(reply).get("error_code")
    if is_success(code):
        return reply
    if code_text(code) in setting_texts(endpoint.settings, "retry_codes", RETRY_CODES):
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))


def _session_gone(reply: Reply, endpoint: Endpoint) -> bool:
    document = reply_object(reply)
    if is_success(document.get("error_code")):
        return False
    if code_text(document.get("error_code")) in setting_texts(endpoint.settings, "session_codes", ()):
        return True
    words = setting_texts(setting_mapping(endpoint, "wording"), "session", SESSION_GONE)
    return says(document.get("message"), words) or says(document.get("result"), words)
