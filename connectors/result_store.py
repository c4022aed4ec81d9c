"""The store of digitised results (kho kết quả số hóa), behind the same adapter as the national portal.

::

    POST <url>/<login_path>   ?dstcode=…&providerurl=<the store>  {"username", "password"} → {"error_code", "session"}
    POST <url>/<search_path>  {"SoDinhDanhChuSoHuu", "MaThuTuc", "DanhSachDanhMucKetQua": [{"MaKetQua", "SoKyHieu"}], …}
                              → {"errorCode", "message", "signature", "result": {"DanhSachGiayToKetQua": [
                                 {"MaKetQua", "TenGiayTo", "DanhSachTepDinhKem": [{"TenTep", "DuongDan"}]}]}}
    POST <url>/<file_path>    {"CoQuanChuQuan", "DuongDan", "TenTep"} → the file

Source: vietnam.md 4.7, 5.1 (TD-KHO, ADP1). That the login goes to ``bndp/public/v1/login`` with ``providerurl`` set to
the store's own address is seen; how its session travels afterwards is not, so that is a setting.

Services ``result.search`` and ``result.file``: payloads and answers go as they are. Both only read, so a repeat changes
nothing. Nothing found is an answer; codes that mean it are the setting ``answer_codes``.

Settings: ``login_path``, ``search_path``, ``file_path``, the destination (:mod:`connectors.adapter`),
``session_header`` (``Authorization``, then as a bearer token), ``answer_codes``, ``retry_codes``. The secret is
``username:password``.
"""

from __future__ import annotations

from connectors.adapter import addressed, post
from connectors.base import Parcel, Reply
from connectors.http import Deadline, HttpClient, check_status
from connectors.partner_json import (
    code_text,
    is_success,
    name_and_password,
    operation_of,
    payload_object,
    reply_object,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import HEADER_NAME, HEADER_VALUE, OWN_HEADERS, kept
from connectors.sessions import Sessions
from registry.model import Endpoint
from schemas.codec import write_json
from schemas.problem import ProviderRejected, ProviderUnavailable

#: Service of the bus → setting that names the path.
OPERATIONS = {"result.search": "search_path", "result.file": "file_path"}
#: Only the first is seen in a living client; the others stand in until an endpoint names its own.
PATHS = {
    "login_path": "bndp/public/v1/login",
    "search_path": "bndp/public/v1/search",
    "file_path": "bndp/public/v1/file",
}
#: Where a login's answer may keep its session.
SESSION_MEMBERS = ("session", "access_token", "token")
RETRY_CODES = ("-1",)


class ResultStoreConnector:
    """See :class:`connectors.base.Connector`. Safe under threads; sessions are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._sessions = Sessions()

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """The reply is the store's, byte for byte; a file is passed on whatever its type."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        if operation not in PATHS or operation == "login_path":
            raise ProviderRejected("service-not-of-partner")
        payload_object(parcel)
        reply = self._call(operation, parcel, endpoint, secret)
        if operation == "file_path" and "json" not in reply.content_type.lower():
            return kept(reply)
        return kept(_judged(reply, endpoint))

    def close(self) -> None:
        self._http.close()

    def _call(self, operation: str, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """One call in a good session: a new one is fetched once when the store answers 401."""
        name, password = name_and_password(secret)
        deadline = Deadline(endpoint.timeout_seconds)

        def login() -> tuple[str, float | None]:
            body = write_json({"username": name, "password": password})
            return _session(post(self._http, parcel, endpoint, deadline, path=_path(endpoint, "login_path"), body=body))

        for _ in range(2):
            session = self._sessions.get(endpoint, secret or b"", login)
            url, headers = addressed(
                parcel, endpoint, path=_path(endpoint, operation), headers=_proof(endpoint, session)
            )
            reply = self._http.request(
                "POST", url, headers=headers, body=parcel.body, timeout_seconds=deadline.remaining()
            )
            if reply.status != 401:
                return check_status(reply)
            self._sessions.forget(endpoint, secret or b"", session)
        raise ProviderUnavailable("provider-login-failed")


def _path(endpoint: Endpoint, setting: str) -> str:
    return setting_text(endpoint, setting, PATHS[setting])


def _session(reply: Reply) -> tuple[str, float | None]:
    document = reply_object(reply)
    code = document.get("error_code", document.get("errorCode", 0))
    session = next((document[name] for name in SESSION_MEMBERS if isinstance(document.get(name), str)), "")
    if not is_success(code) or not HEADER_VALUE.fullmatch(session):
        raise ProviderUnavailable("provider-login-failed")
    return session, None


def _proof(endpoint: Endpoint, session: str) -> dict[str, str]:
    name = setting_text(endpoint, "session_header", "Authorization")
    if name.lower() == "authorization":
        return {"Authorization": f"Bearer {session}"}
    if not HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
        raise ProviderUnavailable("endpoint-invalid", setting="session_header")
    return {name: session}


def _judged(reply: Reply, endpoint: Endpoint) -> Reply:
    code = reply_object(reply).get("errorCode")
    if is_success(code) or code_text(code) in setting_texts(endpoint.settings, "answer_codes", ()):
        return reply
    if code_text(code) in setting_texts(endpoint.settings, "retry_codes", RETRY_CODES):
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))
