"""The national business registration database (CSDL quốc gia về đăng ký doanh nghiệp), as NGSP offers it.

::

    POST <url>/<token_path>  grant_type=client_credentials, Basic client_id:client_secret
                             → {"access_token", "expires_in"}
    GET  <url>/apiCSDLDKDN/chiTietDoanhNghiep?msdn=…          one enterprise
    GET  <url>/apiCSDLDKDN/danhSachHoSo?from_date=&to_date=   filings, dd/MM/yyyy, at most 5 days at once
    GET  <url>/apiCSDLDKDN/danhSachHoSoTrongNgay?from_ts=&to_ts=   filings of today, HH:mm
    GET  <url>/apiCSDLDKDN/tinhTrangHoSo?in_journal_no=       state of one filing

Source: vietnam.md 4.13 (NGSP-QB).

The payload of a request is a JSON object with the registry's own parameter names, ``{"msdn": "9900000016"}``. The
answer's bytes are passed on untouched, misspelt ``HOAdress`` and all: every reader knows them so, and the provider's
evidence is over these bytes. "Không tìm thấy doanh nghiệp" is an answer, not a failure: the question was understood.

Endpoint settings: ``token_path``, ``api_path``, ``headers``, ``operations``. The secret is ``client_id:client_secret``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import operation_of, payload_object, reply_object, setting_text
from connectors.rest import fixed_headers, kept, question_headers
from registry.model import Endpoint
from schemas.problem import InvalidReply, ProviderRejected

OPERATIONS = {
    "enterprise.detail": "chiTietDoanhNghiep",
    "enterprise.filings": "danhSachHoSo",
    "enterprise.filings-today": "danhSachHoSoTrongNgay",
    "enterprise.filing-status": "tinhTrangHoSo",
}
#: What each operation must be asked with, and may be.
PARAMETERS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "chiTietDoanhNghiep": (frozenset({"msdn"}), frozenset()),
    "danhSachHoSo": (frozenset({"from_date", "to_date"}), frozenset({"offset", "limit"})),
    "danhSachHoSoTrongNgay": (frozenset({"from_ts", "to_ts"}), frozenset({"offset", "limit"})),
    "tinhTrangHoSo": (frozenset({"in_journal_no"}), frozenset()),
}
#: The registry answers for at most this many days at once (P27).
WINDOW_DAYS = 5


class BusinessRegistryConnector:
    """Asks the business registry. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        query = query_of(operation, payload_object(parcel))
        api = setting_text(endpoint, "api_path", "apiCSDLDKDN").strip("/")
        reply = self._calls.make(
            lambda authorization, seconds: self._http.request(
                "GET",
                f"{endpoint.url.rstrip('/')}/{api}/{operation}?{query}",
                headers=question_headers(
                    parcel, endpoint, {"Accept": "application/json", "Authorization": authorization}
                ),
                timeout_seconds=seconds,
            ),
            endpoint,
            secret,
            token_url=place(endpoint, "token_path", "token"),
            headers=fixed_headers(endpoint),
            form="grant_type=client_credentials",
        )
        return kept(_readable(check_status(reply)))

    def close(self) -> None:
        self._http.close()


def query_of(operation: str, payload: Mapping[str, Any]) -> str:
    """The query string of a request payload. Raises ProviderRejected for what the registry would not understand."""
    if operation not in PARAMETERS:
        raise ProviderRejected("service-not-of-partner")
    needed, allowed = PARAMETERS[operation]
    for name in sorted(needed | (payload.keys() - needed)):
        value = payload.get(name)
        if name not in needed | allowed or isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            # The name of a needed parameter may be shown; a foreign one came from the sender and may not.
            raise ProviderRejected("payload-not-for-partner", member=name if name in needed | allowed else "(root)")
    if operation == "danhSachHoSo":
        days = (_day(payload, "to_date") - _day(payload, "from_date")).days
        if not 0 <= days < WINDOW_DAYS:
            raise ProviderRejected("window-too-wide", days=WINDOW_DAYS)
    return urlencode(payload)


def _day(payload: Mapping[str, Any], member: str) -> date:
    try:
        return datetime.strptime(str(payload[member]), "%d/%m/%Y").date()  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        raise ProviderRejected("payload-not-for-partner", member=member) from None


def _readable(reply: Reply) -> Reply:
    """The reply, if it is one of the registry's answers: ``Status`` is "1" or "0"."""
    if str(reply_object(reply).get("Status")) not in ("0", "1"):
        raise InvalidReply("reply-not-readable")
    return reply
