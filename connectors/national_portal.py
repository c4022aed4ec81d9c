"""The national public service portal (Cổng Dịch vụ công quốc gia), through the adapter beside the security server.

::

    POST <url>/<login_path>        {"username", "password"}             → {"error_code": 0, "session": "…"}
    POST <url>/<share_path>        {"session", "madonvi", "service", …} → {"error_code", "message", "result"}
    POST <url>/<integration_path>  {"session", "madonvi", "service", "data": […], "isUpdating"}

Source: vietnam.md 4.1–4.5, 4.20, 4.21, from the code of living clients (OCPS-DVC, TD-SYNC, HG); no official text was at
hand, what is unverified stands in docs/partners/to-confirm.md.

Services of the bus (the endpoint's ``operations`` may add or change names). Writes:

============================ ================================ =================================================
``dossier.sync``             DongBoHoSoMC                     one dossier, or ``{"data": [dossier, …]}``
``dossier.progress``         CapNhatTienDoHoSoMC              one progress row, or ``{"data": [row, …]}``
``promotion.result``         DongBoTrangThaiHoSo, type "2"    what became of a promotion notice
``rating.sync``              DongBoDanhGia                    one monthly row, or ``{"data": [row, …]}``
``question.sync``            DongBoHoiDap                     one question, or ``{"data": [question, …]}``
``answer.sync``              DongBoKetQuaHoiDapGuiTuDVCQG     one answer, or ``{"data": [answer, …]}``
============================ ================================ =================================================

Reads, whose payload is the operation's arguments and whose answer is passed on as it is: see ``READS`` below.

Three ways to send dossiers and progress live side by side (setting ``transport``):

``envelope``
    the one above;
``query``
    ``POST <url>/DongBoHoSoMC?MaDinhDanhDV=…&isUpdating=True`` with the bare array (HG);
``paths``
    the bare array, of one dossier, to ``add_path`` or ``update_path``, progress to ``progress_path`` (TD-SYNC).

The two without an envelope carry the session in a header, or in the query with ``session_in: query``, and have no
look-up: a dossier is created, and updated when the portal says that it is there.

Endpoint settings: ``madonvi`` (ours, needed), ``login_path``, ``share_path``, ``integration_path``, ``transport``, the
destination (:mod:`connectors.adapter`), ``operations``, ``wording`` (lists ``exists``, ``session``, ``permanent`` and
``success``: the portal's answers are told apart by words where its codes say nothing, P3, and the words change),
``retry_codes``; ``inbound`` for its calls to us (:mod:`connectors.national_portal_inbound`). The secret is
``username:password``; a second line, if there is one, is what the portal logs in to us with.

Quirks kept here and nowhere else:

- Whether a dossier is new is asked first (TraCuuHoSo), and answered again by "đã tồn tại" when two senders race or an
  answer was lost (5.3): then the same rows go once more as an update. So a repeat changes nothing.
- Zero is success in any spelling; ``-1`` is anything, so it is tried again; other codes are final.
- Sessions die without notice, so one more login is tried, once.
- Progress goes in batches of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from connectors.adapter import post, refuse_guessable
from connectors.base import Parcel, Reply
from connectors.http import Deadline, HttpClient
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
from connectors.rest import HEADER_VALUE, kept
from connectors.sessions import Sessions
from registry.model import Endpoint
from schemas.codec import write_json
from schemas.problem import ProviderRejected, ProviderUnavailable

#: Service of the bus → operation that reads. The payload is the arguments, the answer is passed on.
READS = {
    "dossier.lookup": "TraCuuHoSo",
    "procedure.list": "LayDanhSachTTHC",
    "procedure.detail": "LayThuTuc",
    "agency.list": "LayDanhMucCoQuan",
    "field.list": "LayDanhMucLinhVuc",
    "public-service.list": "LayDVC",
    "applicant.technical-id": "TraCuuTechID",
    "question.list": "LayDanhSachHoiDapGuiTuDVCQG",
    "question.list-agency": "LayDanhSachHoiDapBoCoQuan",
    "answer.list": "LayNoiDungTraLoiTheoCauHoi",
}
#: Service of the bus → operation that writes rows, and the member that every row must have.
WRITES = {
    "rating.sync": "DongBoDanhGia",
    "question.sync": "DongBoHoiDap",
    "answer.sync": "DongBoKetQuaHoiDapGuiTuDVCQG",
}
ROW_KEYS = {
    "DongBoDanhGia": "NgayTongHop",
    "DongBoHoiDap": "HOIDAPID",
    "DongBoKetQuaHoiDapGuiTuDVCQG": "HOIDAPID",
}
OPERATIONS = {
    "dossier.sync": "DongBoHoSoMC",
    "dossier.progress": "CapNhatTienDoHoSoMC",
    "promotion.result": "DongBoTrangThaiHoSo",
    **READS,
    **WRITES,
}
#: ``type`` of a DongBoTrangThaiHoSo that answers a promotion notice (vietnam.md 4.5).
PROMOTION_TYPE = "2"
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
TRANSPORTS = ("envelope", "query", "paths")


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
            return kept(_sync_dossiers(portal, _rows(payload, "MaHoSo")))
        if operation == "CapNhatTienDoHoSoMC":
            return kept(_send_progress(portal, _rows(payload, "MaHoSo")))
        if operation == "DongBoTrangThaiHoSo":
            return kept(portal.judged(portal.tell(operation, {"type": PROMOTION_TYPE, "data": payload})))
        if operation in ROW_KEYS:
            return kept(portal.judged(portal.tell(operation, {"data": _rows(payload, ROW_KEYS[operation])})))
        return kept(portal.ask(operation, payload))

    def close(self) -> None:
        self._http.close()


def _sync_dossiers(portal: _Portal, dossiers: Sequence[Mapping[str, Any]]) -> Reply:
    """One dossier a call: ``isUpdating`` and the answer stand for a whole call, and one bad row would fail them all."""
    return [_sync_dossier(portal, dossier) for dossier in dossiers][-1]


def _sync_dossier(portal: _Portal, dossier: Mapping[str, Any]) -> Reply:
    if not portal.knows(dossier["MaHoSo"]):
        reply = portal.send("DongBoHoSoMC", [dossier], updating=False)
        if not portal.says_exists(reply):
            return portal.judged(reply)
    return portal.judged(portal.send("DongBoHoSoMC", [dossier], updating=True))


def _send_progress(portal: _Portal, rows: Sequence[Mapping[str, Any]]) -> Reply:
    return [portal.judged(portal.send("CapNhatTienDoHoSoMC", batch)) for batch in _batches(rows, PROGRESS_BATCH)][-1]


class _Portal:
    """One delivery's conversation with the portal, all of it within one time limit."""

    def __init__(
        self, http: HttpClient, sessions: Sessions, parcel: Parcel, endpoint: Endpoint, secret: bytes | None
    ) -> None:
        self._http = http
        self._sessions = sessions
        self._parcel = parcel
        self._endpoint = endpoint
        self._username, self._password = name_and_password(outgoing(secret))
        self._secret = secret or b""
        self._agency = setting_text(endpoint, "madonvi")
        if not self._agency:
            raise ProviderUnavailable("endpoint-invalid", setting="madonvi")
        refuse_guessable(self._password, self._agency)
        self._wording = setting_mapping(endpoint, "wording")
        self._transport = setting_text(endpoint, "transport", "envelope")
        if self._transport not in TRANSPORTS:
            raise ProviderUnavailable("endpoint-invalid", setting="transport")
        self._deadline = Deadline(endpoint.timeout_seconds)

    def ask(self, operation: str, arguments: Mapping[str, Any]) -> Reply:
        """A read. Whether the portal is content is for :meth:`judged` to say, here and below."""
        return self._enveloped("share", operation, arguments)

    def tell(self, operation: str, members: Mapping[str, Any]) -> Reply:
        """A write that has its envelope whatever the transport."""
        return self._enveloped("integration", operation, members)

    def send(self, operation: str, rows: Sequence[Mapping[str, Any]], *, updating: bool | None = None) -> Reply:
        """Dossiers (``updating`` says whether they are there already) or progress, by the endpoint's transport."""
        flag = {} if updating is None else {"isUpdating": str(updating)}
        if self._transport == "envelope":
            return self.tell(operation, {**flag, "data": rows})
        if self._transport == "query":
            path, query = operation, {"MaDinhDanhDV": self._agency, **flag}
        else:
            name = "progress" if updating is None else "update" if updating else "add"
            path, query = setting_text(self._endpoint, f"{name}_path", name), {}
        body = write_json(rows)
        if setting_text(self._endpoint, "session_in", "header") == "query":
            return self._in_session(lambda session: self._post(path, body, {**query, "session": session}))
        return self._in_session(lambda session: self._post(path, body, query, {"session": session}))

    def knows(self, dossier_code: str) -> bool:
        """Has the portal this dossier already? An error counts as no: "đã tồn tại" will correct it."""
        if self._transport != "envelope":
            return False
        found = reply_object(self.ask("TraCuuHoSo", {"mahoso": dossier_code}))
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

    def _enveloped(self, kind: str, operation: str, members: Mapping[str, Any]) -> Reply:
        path = setting_text(self._endpoint, f"{kind}_path", kind)

        def call(session: str) -> Reply:
            own = {"session": session, "madonvi": self._agency, "service": operation}
            return self._post(path, write_json({**members, **own}))

        return self._in_session(call)

    def _in_session(self, call: Callable[[str], Reply]) -> Reply:
        """The answer to a call with a good session: a new one is fetched once when the portal no longer knows ours."""
        for _ in range(2):
            session = self._sessions.get(self._endpoint, self._secret, self._login)
            reply = call(session)
            if not self._says("session", SESSION_GONE, reply):
                return reply
            self._sessions.forget(self._endpoint, self._secret, session)
        raise ProviderUnavailable("provider-login-failed")

    def _login(self) -> tuple[str, float | None]:
        path = setting_text(self._endpoint, "login_path", "login")
        document = reply_object(self._post(path, write_json({"username": self._username, "password": self._password})))
        session = document.get("session")
        # A session may travel in a header, so it must be one.
        if (
            not is_success(document.get("error_code"))
            or not isinstance(session, str)
            or not HEADER_VALUE.fullmatch(session)
        ):
            raise ProviderUnavailable("provider-login-failed")
        return session, None

    def _post(
        self,
        path: str,
        body: bytes,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        return post(
            self._http,
            self._parcel,
            self._endpoint,
            self._deadline,
            path=path,
            body=body,
            query=query,
            headers=headers,
        )


def outgoing(secret: bytes | None) -> bytes | None:
    """The line of the secret that we log in with; the second line is the portal's own."""
    return secret.strip().split(b"\n")[0] if secret else None


def _rows(payload: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = payload.get("data", [payload])
    if not isinstance(rows, list) or not rows:
        raise ProviderRejected("payload-not-for-partner", member="data")
    # The numbers of questions may be numbers; a dossier's code never is.
    kinds = str if key == "MaHoSo" else str | int
    if not all(isinstance(row, dict) and isinstance(row.get(key), kinds) and row[key] for row in rows):
        raise ProviderRejected("payload-not-for-partner", member=key)
    return rows


def _batches(rows: Sequence[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
