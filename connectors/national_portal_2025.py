"""The national portal's newer interface (2025 and later), beside the adapter of :mod:`connectors.national_portal`.

::

    POST <url>/<token_path>     grant_type=client_credentials&client_id=…&client_secret=… → {"access_token", …}
    POST <url>/<number_path>    {"MaTTHC": "1.001193"}                                    → {"data": {"Value": "…"}}
    POST <url>/<upload_path>    multipart, one file                     → {"data": [{"IdTepTin", "HashTepTin"}]}
    POST <url>/<create_path>    {"MaHoSo", "MaTTHC", "ThanhPhanHoSo": […], …}             → {"data": {"IdHoSo": "…"}}
    POST <url>/<progress_path>  [{"IDHoSo", "MaHoSo", "ThoiDiemXuLy": "2026-04-23T10:00:00.000", "TrangThai": 4, …}]
    POST <url>/<status_path>    [{"IdHoSo", "MaHoSo", "TrangThai": 5, "DanhSachLePhi": […], …}]

    every answer: {"code", "message", "data"}

Source: vietnam.md 4.6 (code of one living client). Paths and codes are settings, and stand in
docs/partners/to-confirm.md. ``IDHoSo`` and ``IdHoSo`` are two spellings of one thing, and each call has its own (P25).

==================== ================ ================================================================================
service              setting          payload
==================== ================ ================================================================================
``dossier.number``   number_path      as above; a repeat draws another number, and the first stays unused
``dossier.upload``   upload_path      ``{"TenTep", "KieuTep", "NoiDung": "<base64>"}``, sent as the part ``file_part``
``dossier.create``   create_path      the dossier, byte for byte as its sender signed it
``dossier.advance``  progress_path    the array of progress rows, the same
``dossier.status``   status_path      the array of statuses, the same
==================== ================ ================================================================================

Other settings: the destination (:mod:`connectors.adapter`), ``token_url``, ``success_codes`` beside zero,
``retry_codes``, ``wording`` (``exists``). The secret is ``client_id:client_secret``.

A dossier that is there already is success from the second attempt on: the first one created it and its answer was lost.
At the first attempt it is somebody else's, and final.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from connectors.adapter import addressed
from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls
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
from registry.model import Endpoint
from schemas.codec import read_json
from schemas.problem import Problem, ProviderRejected, ProviderUnavailable

#: Service of the bus → setting that names the path.
OPERATIONS = {
    "dossier.number": "number_path",
    "dossier.upload": "upload_path",
    "dossier.create": "create_path",
    "dossier.advance": "progress_path",
    "dossier.status": "status_path",
}
#: Paths of the one client seen are not public; these stand in until an endpoint names its own.
PATHS = {
    "token_path": "token",
    "number_path": "GetNextValue",
    "upload_path": "upload",
    "create_path": "dossiers",
    "progress_path": "progress",
    "status_path": "status",
}
#: What a row of each call must name its dossier with.
ROW_IDS = {"progress_path": "IDHoSo", "status_path": "IdHoSo"}
SUCCESS_CODES = ("200",)
RETRY_CODES = ("-1", "500", "503")
EXISTS = ("đã tồn tại",)


class NationalPortal2025Connector:
    """See :class:`connectors.base.Connector`. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """The reply is the portal's, byte for byte."""
        operation = operation_of(parcel, endpoint, OPERATIONS)
        if operation not in OPERATIONS.values():
            raise ProviderRejected("service-not-of-partner")
        body, content_type = _body(operation, parcel, endpoint)
        reply = self._call(operation, body, content_type, parcel, endpoint, secret)
        return kept(_judged(reply, operation, parcel, endpoint))

    def close(self) -> None:
        self._http.close()

    def _call(
        self,
        operation: str,
        body: bytes,
        content_type: str,
        parcel: Parcel,
        endpoint: Endpoint,
        secret: bytes | None,
    ) -> Reply:
        name, password = name_and_password(secret)
        form = {"grant_type": "client_credentials", "client_id": name, "client_secret": password}
        token_url, common = addressed(parcel, endpoint, path=_path(endpoint, "token_path"))
        common.pop("Content-Type")

        def call(bearer: str, seconds: float) -> Reply:
            own = {"Authorization": bearer, "Content-Type": content_type}
            url, headers = addressed(parcel, endpoint, path=_path(endpoint, operation), headers=own)
            return self._http.request("POST", url, headers=headers, body=body, timeout_seconds=seconds)

        return self._calls.make(
            call,
            endpoint,
            secret,
            token_url=setting_text(endpoint, "token_url") or token_url,
            headers=common,
            form=urlencode(form),
            basic=False,
        )


def _path(endpoint: Endpoint, setting: str) -> str:
    return setting_text(endpoint, setting, PATHS[setting])


def _body(operation: str, parcel: Parcel, endpoint: Endpoint) -> tuple[bytes, str]:
    if operation == "upload_path":
        return _multipart(payload_object(parcel), setting_text(endpoint, "file_part", "file"))
    if operation in ROW_IDS:
        _check_rows(parcel, ROW_IDS[operation])
    else:
        payload_object(parcel)
    return parcel.body, "application/json"


def _check_rows(parcel: Parcel, member: str) -> None:
    """An array, each row with the spelling that its call knows: the other one would be read as missing."""
    try:
        rows = read_json(parcel.body)
    except Problem:
        rows = None
    if not isinstance(rows, list) or not rows:
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    if not all(isinstance(row, dict) and row.get(member) for row in rows):
        raise ProviderRejected("payload-not-for-partner", member=member)


def _multipart(payload: Mapping[str, Any], part: str) -> tuple[bytes, str]:
    """One file as multipart/form-data (RFC 7578). The boundary is drawn anew, so no file can hold it on purpose."""
    name, kind = payload.get("TenTep"), payload.get("KieuTep", "application/octet-stream")
    if not isinstance(name, str) or not name:
        raise ProviderRejected("payload-not-for-partner", member="TenTep")
    if not isinstance(kind, str) or not HEADER_VALUE.fullmatch(kind):
        raise ProviderRejected("payload-not-for-partner", member="KieuTep")
    try:
        content = base64.b64decode(str(payload.get("NoiDung", "")).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        content = b""
    if not content:
        raise ProviderRejected("payload-not-for-partner", member="NoiDung")
    boundary = f"lgsp-{secrets.token_hex(16)}"
    disposition = f'form-data; name="{_quoted(part)}"; filename="{_quoted(name)}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _quoted(text: str) -> str:
    """As browsers write it (WHATWG HTML, multipart): what would end the name or its line is percent-encoded."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def _judged(reply: Reply, operation: str, parcel: Parcel, endpoint: Endpoint) -> Reply:
    document = reply_object(check_status(reply))
    code, message = document.get("code"), document.get("message")
    settings = endpoint.settings
    if is_success(code) or code_text(code) in setting_texts(settings, "success_codes", SUCCESS_CODES):
        return reply
    exists = says(message, setting_texts(setting_mapping(endpoint, "wording"), "exists", EXISTS))
    if exists and operation == "create_path" and parcel.attempt > 1:
        return reply
    if code_text(code) in setting_texts(settings, "retry_codes", RETRY_CODES) and not exists:
        raise ProviderUnavailable("partner-says-later", code=shown_code(code))
    raise ProviderRejected("provider-said-no", code=shown_code(code))
