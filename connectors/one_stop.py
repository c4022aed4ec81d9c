"""The provincial one-stop (một cửa điện tử), by the dossier exchange between agencies that MIC calls "profile".

::

    POST <url>/<token_path>    Authorization: Basic …   → {"access_token": "…", "expires_in": 3600}
    POST <url>/<profile_path>  Authorization: Bearer …  profile → {"error_code": "0", "message", "profile_id"}

Source: vietnam.md 4.8 (OCPS-FREQ); the shape of the answers is unverified, see docs/partners/to-confirm.md.

Payloads of ``dossier.transfer`` (or what the endpoint's ``operations`` name): a profile with ``source_id`` goes as the
very bytes that its sender signed. A dossier in the portal's shape (``MaHoSo``) is written as a profile first, dates
as ``yyyy/MM/dd HH:mm:ss``; nothing is invented for what it lacks. The manifest and the receipt travel beside both.

The one-stop keeps one dossier for each ``source_id`` and answers a repeat with the first ``profile_id``.
Endpoint settings: ``token_path``, ``profile_path``, ``headers``. The secret is ``username:password``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import (
    is_success,
    operation_of,
    payload_object,
    reply_object,
    shown_code,
)
from connectors.rest import fixed_headers, kept, message_headers
from registry.model import Endpoint
from schemas.codec import write_json
from schemas.problem import ProviderRejected

OPERATIONS = {"dossier.transfer": "profile", "dossier.supplement": "profile", "dossier.result": "profile"}
PORTAL_DATE = "%Y%m%d%H%M%S"
PROFILE_DATE = "%Y/%m/%d %H:%M:%S"


class OneStopConnector:
    """Hands dossiers to a one-stop. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        operation_of(parcel, endpoint, OPERATIONS)
        body = profile_bytes(parcel)
        reply = self._calls.make(
            lambda authorization, seconds: self._http.request(
                "POST",
                place(endpoint, "profile_path", "profile"),
                headers={
                    **fixed_headers(endpoint),
                    **message_headers(parcel),
                    "Content-Type": "application/json",
                    "Authorization": authorization,
                },
                body=body,
                timeout_seconds=seconds,
            ),
            endpoint,
            secret,
            token_url=place(endpoint, "token_path", "token"),
            headers=fixed_headers(endpoint),
        )
        return kept(_judged(check_status(reply)))

    def close(self) -> None:
        self._http.close()


def profile_bytes(parcel: Parcel) -> bytes:
    """The profile to send: the signed bytes themselves, or a portal dossier written as a profile."""
    payload = payload_object(parcel)
    if isinstance(payload.get("source_id"), str):
        return parcel.body
    if isinstance(payload.get("MaHoSo"), str):
        return write_json(profile_of(payload, parcel))
    raise ProviderRejected("payload-not-for-partner", member="source_id")


def profile_of(dossier: Mapping[str, Any], parcel: Parcel) -> dict[str, Any]:
    """A dossier in the portal's field names as a profile of the MIC exchange (vietnam.md 4.3 → 4.8)."""
    owner = {
        "name": dossier.get("ChuHoSo", ""),
        "identity_number": dossier.get("SoGiayToChuHoSo", ""),
        "phone": dossier.get("SoDienThoai", ""),
        "email": dossier.get("Email", ""),
    }
    return {
        "source_id": dossier["MaHoSo"],
        "ref_code": dossier.get("SoBienNhan") or dossier["MaHoSo"],
        "procedures_code": dossier.get("MaTTHC", ""),
        "system_id": parcel.manifest.sender,
        "profiles_status": dossier.get("TrangThaiHoSo", ""),
        "from_unit_code": parcel.manifest.sender,
        "to_unit_code": [parcel.receiver],
        "applicants_type": dossier.get("LoaiDoiTuong", ""),
        "accept_date": profile_date(dossier.get("NgayTiepNhan"), "NgayTiepNhan"),
        "appointment_date": profile_date(dossier.get("NgayHenTra"), "NgayHenTra"),
        "profileOwner": owner,
        "profileApplicant": owner,
        "profileAttachments": [
            {"name": file.get("TenTepDinhKem", ""), "url": file.get("DuongDanTaiTepTin", "")}
            for file in _items(dossier, "TaiLieuNop")
        ],
        "profileDocPaper": [
            {"name": paper.get("TenGiayTo", ""), "quantity": paper.get("SoLuong", 1)}
            for paper in _items(dossier, "DanhSachTepDinhKemKhac")
        ],
        "profileDocFees": [
            {"code": fee.get("MaPhiLePhi", ""), "name": fee.get("TenPhiLePhi", ""), "amount": fee.get("Gia", "")}
            for fee in _items(dossier, "DanhSachLePhi")
        ],
        "data_eform": dossier.get("ThongTinKhac") or "",
    }


def profile_date(text: object, member: str) -> str:
    """``20260423093000`` as ``2026/04/23 09:30:00``, both Asia/Ho_Chi_Minh; empty stays empty (P1)."""
    if text in (None, ""):
        return ""
    try:
        return datetime.strptime(str(text), PORTAL_DATE).strftime(PROFILE_DATE)  # noqa: DTZ007 - both ends are local
    except ValueError:
        raise ProviderRejected("payload-not-for-partner", member=member) from None


def _items(dossier: Mapping[str, Any], member: str) -> list[Mapping[str, Any]]:
    items = dossier.get(member) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ProviderRejected("payload-not-for-partner", member=member)
    return items


def _judged(reply: Reply) -> Reply:
    document = reply_object(reply)
    if not is_success(document.get("error_code", "0")):
        raise ProviderRejected("provider-said-no", code=shown_code(document.get("error_code")))
    return reply
