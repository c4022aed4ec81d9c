"""The national public service portal (Cổng Dịch vụ công quốc gia), through the adapter beside the security server.

::

    POST <url>/<login_path>        {"username", "password"}             → {"error_code": 0, "session": "…"}
    POST <url>/<share_path>        {"session", "madonvi", "service", …} → {"error_code", "message", "result"}
    POST <url>/<integration_path>  {"session", "madonvi", "service", "data": […], "isUpdating"}

Source: vietnam.md 4.1–4.4, from the code of living clients (OCPS-DVC, TD-SYNC, HG); no official text was at hand, what
is unverified stands in docs/partners/to-confirm.md.

Services of the bus (the endpoint's ``operations`` may add or change names):

============================ ======================== =========================================================
``dossier.sync``             DongBoHoSoMC             payload: one dossier, or ``{"data": [dossier, …]}``
``dossier.progress``         CapNhatTienDoHoSoMC      payload: one progress row, or ``{"data": [row, …]}``
``dossier.lookup``           TraCuuHoSo               payload: ``{"mahoso": "…"}``; the answer as it is
``procedure.detail``         LayThuTuc                payload: ``{"maTTHC": "…"}``; the answer as it is
============================ ======================== =========================================================

Endpoint settings: ``madonvi`` (ours, needed), ``login_path``, ``share_path``, ``integration_path``, ``dstcode`` and
``providerurl`` with ``address_in`` (``header`` or ``query``), ``operations``, ``wording`` (lists ``exists``,
``session``, ``permanent`` and ``success``: the portal's answers are told apart by words where its codes say nothing,
P3, and the words change), ``retry_codes``. The secret is ``username:password``.

Quirks kept here and nowhere else:

- Whether a dossier is new is asked first (TraCuuHoSo), and answered again by "đã tồn tại" when two senders race or an
  answer was lost (5.3): then the same rows go once more as an update. So a repeat changes nothing.
- Zero is success in any spelling; ``-1`` is anything, so it is tried again; other codes are final.
- Sessions die without notice, so one more login is tried, once.
- Progress goes in batches of ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from connectors.base import Parcel, Reply
from connectors.http import Deadline, HttpClient, check_status
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
from connectors.rest import fixed_headers, kept
from connectors.sessions import Sessions
from registry.model import Endpoint
from schemas.codec import write_json
from schemas.problem import ProviderRejected, ProviderUnavailable

OPERATIONS = {
    "dossier.sync": "DongBoHoSoMC",
    "dossier.progress": "CapNhatTienDoHoSoMC",
    "dossier.lookup": "TraCuuHoSo",
    "procedure.detail": "LayThuTuc",
}
#: Rows of one CapNhatTienDoHoSoMC call in every client seen (vietnam.md 4.4).
PROGRESS_BATCH = 10
#: A dossier is there already: the answer under codes "0", "3" and "-3" alike (TD-SYNC).
EXISTS = ("đã tồn tại",)
#: The session is no longer good (vietnam.md 6.2).
SESSION_GONE = ("session không hợp lệ", "phiên làm việc", "session hết hạn", "invalid session")
#: Refusals that come under the generic code and will not pass by waiting.
PERMANENT = ("không tìm thấy thủ tục",)
#: Codes that say nothing about the data.
RETRY_CODES = ("-1",)


class NationalPortalConnector:
    """Carries dossiers and progress to the portal. Safe under threads; sessions are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._sessions = Sessions()

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the portal's last answer, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        payload = payload_object(parcel)
        portal = _Portal(self._http, self._sessions, parcel, endpoint, secret)
        if operation == "DongBoHoSoMC":
            return kept(_sync_dossiers(portal, _rows(payload)))
        if operation == "CapNhatTienDoHoSoMC":
            return kept(_send_progress(portal, _rows(payload)))
        return kept(portal.ask("share_path", operation, payload))

    def close(self) -> None:
        self._http.close()


def _sync_dossiers(portal: _Portal, dossiers: Sequence[Mapping[str, Any]]) -> Reply:
    """One dossier a call: ``isUpdating`` and the answer stand for a whole call, and one bad row would fail them all."""
    return [_sync_dossier(portal, dossier) for dossier in dossiers][-1]


def _sync_dossier(portal: _Portal, dossier: Mapping[str, Any]) -> Reply:
    if not portal.knows(dossier["MaHoSo"]):
        reply = portal.ask("integration_path", "DongBoHoSoMC", {"isUpdating": "False", "data": [dossier]})
        if not portal.says_exists(reply):
            return portal.judged(reply)
    return portal.judged(portal.ask("integration_path", "DongBoHoSoMC", {"isUpdating": "True", "data": [dossier]}))


def _send_progress(portal: _Portal, rows: Sequence[Mapping[str, Any]]) -> Reply:
    replies = [
        portal.judged(portal.ask("integration_path", "CapNhatTienDoHoSoMC", {"data": batch}))
        for batch in _batches(rows, PROGRESS_BATCH)
    ]
    return replies[-1]


class _Portal:
    """One delivery's conversation with the portal, all of it within one time limit."""

    def __init__(
        self, http: HttpClient, sessions: Sessions, parcel: Parcel, endpoint: Endpoint, secret: bytes | None
    ) -> None:
        self._http = http
        self._sessions = sessions
        self._parcel = parcel
        self._endpoint = endpoint
        self._username, self._password = name_and_password(secret)
        self._secret = secret or b""
        self._agency = setting_text(endpoint, "madonvi")
        if not self._agency:
            raise ProviderUnavailable("endpoint-invalid", setting="madonvi")
        refuse_guessable(self._password, self._agency)
        self._wording = setting_mapping(endpoint, "wording")
        self._deadline = Deadline(endpoint.timeout_seconds)

    def ask(self, path_setting: str, operation: str, arguments: Mapping[str, Any]) -> Reply:
        """One call with a good session. Whether the portal is content is for :meth:`judged` to say."""
        for _ in range(2):
            session = self._sessions.get(self._endpoint, self._secret, self._login)
            document = {**arguments, "session": session, "madonvi": self._agency, "service": operation}
            reply = self._post(setting_text(self._endpoint, path_setting, path_setting.split("_")[0]), document)
            if not self._says("session", SESSION_GONE, reply):
                return reply
            self._sessions.forget(self._endpoint, self._secret, session)
        raise ProviderUnavailable("provider-login-failed")

    def knows(self, dossier_code: str) -> bool:
        """Has the portal this dossier already? An error counts as no: "đã tồn tại" will correct it."""
        found = reply_object(self.ask("share_path", "TraCuuHoSo", {"mahoso": dossier_code}))
        return is_success(found.get("error_code")) and bool(found.get("result"))

    def says_exists(self, reply: Reply) -> bool:
        return self._says("exists", EXISTS, reply)

    def judged(self, reply: Reply) -> Reply:
        """The reply if the portal took what it was given; raises what its code and words mean otherwise."""
        document = reply_object(reply)
        code, message = document.get("error_code"), document.get("message")
        success = setting_texts(self._wording, "success", ())
        if is_success(code) and (not success or says(message, success)):
            return reply
        permanent = says(message, setting_texts(self._wording, "permanent", PERMANENT))
        if code_text(code) in setting_texts(self._endpoint.settings, "retry_codes", RETRY_CODES) and not permanent:
            raise ProviderUnavailable("partner-says-later", code=shown_code(code))
        raise ProviderRejected("provider-said-no", code=shown_code(code))

    def _says(self, kind: str, usual: Sequence[str], reply: Reply) -> bool:
        return says(reply_object(reply).get("message"), setting_texts(self._wording, kind, usual))

    def _login(self) -> tuple[str, float | None]:
        path = setting_text(self._endpoint, "login_path", "login")
        document = reply_object(self._post(path, {"username": self._username, "password": self._password}))
        session = document.get("session")
        if not is_success(document.get("error_code")) or not isinstance(session, str) or not session:
            raise ProviderUnavailable("provider-login-failed")
        return session, None

    def _post(self, path: str, document: Mapping[str, Any]) -> Reply:
        endpoint = self._endpoint
        address = {
            name: setting_text(endpoint, name) for name in ("dstcode", "providerurl") if endpoint.settings.get(name)
        }
        url = f"{endpoint.url.rstrip('/')}/{path.lstrip('/')}"
        headers = {
            **fixed_headers(endpoint),
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Charset": "utf-8",
            # The portal does not know these two; gateways on the way log them.
            "Idempotency-Key": self._parcel.manifest.message_id,
            "traceparent": self._parcel.traceparent,
        }
        if setting_text(endpoint, "address_in", "query") == "header":
            headers |= address
        elif address:
            url = f"{url}?{urlencode(address)}"
        return check_status(
            self._http.request(
                "POST", url, headers=headers, body=write_json(document), timeout_seconds=self._deadline.remaining()
            )
        )


def refuse_guessable(password: str, agency: str) -> None:
    """Public client code has default passwords made of the agency's code (vietnam.md 6.4): those are no secrets."""
    plain = "".join(filter(str.isalnum, agency)).casefold()
    if plain and plain in "".join(filter(str.isalnum, password)).casefold():
        raise ProviderUnavailable("endpoint-secret-weak")


def _rows(payload: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    rows = payload.get("data", [payload])
    if not isinstance(rows, list) or not rows:
        raise ProviderRejected("payload-not-for-partner", member="data")
    if not all(isinstance(row, dict) and isinstance(row.get("MaHoSo"), str) for row in rows):
        raise ProviderRejected("payload-not-for-partner", member="MaHoSo")
    return rows


def _batches(rows: Sequence[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
