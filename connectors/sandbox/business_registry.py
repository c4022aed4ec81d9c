"""Twin of the business registry (vietnam.md 4.13): tokens, one enterprise, filings in a window of five days.

::

    POST /_sandbox/business_registry/registered {"in_journal_no": "HS260423", "date": "24/04/2026"}

It only reads, but a filing is decided by somebody: from then on ``tinhTrangHoSo`` has its REGISTRATION_DATE.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.sandbox.faults import Dial, error
from connectors.sandbox.sessions import IssuedSessions, same_login

NAME = "business_registry"
WINDOW_DAYS = 5
WORDING = {
    "found": "success",
    "unknown": "Không tìm thấy doanh nghiệp",
    "unknown_filing": "Không tìm thấy hồ sơ",
    "window": "Khoảng thời gian tra cứu tối đa 5 ngày",
    "parameters": "Tham số không hợp lệ",
    "token": "Token không hợp lệ",
}
PRESETS = {
    "not-found": error('Status "0", Không tìm thấy doanh nghiệp', "0", "unknown"),
    "window-too-wide": error("Khoảng thời gian tra cứu tối đa 5 ngày", "0", "window"),
}
#: Invented enterprises with test tax codes (vietnam.md 6.1).
ENTERPRISES = (
    ("9900000016", "CÔNG TY TNHH MẪU", "Trần Văn Thử", "6201", "Lập trình máy vi tính", 1_000_000_000),
    ("9900000023", "CÔNG TY CỔ PHẦN THỬ NGHIỆM", "Đặng Phương Đông", "4711", "Bán lẻ tổng hợp", 5_000_000_000),
    ("9900000048", "DOANH NGHIỆP TƯ NHÂN LÝ THÁI AN", "Lý Thái An", "1071", "Sản xuất bánh", 300_000_000),
    ("9900000055", "HỢP TÁC XÃ NÔNG Y BANG", "Nông Y Bang", "0111", "Trồng lúa", 150_000_000),
)


class BusinessRegistryTwin:
    """The registry's desk. Its state is what was asked, and what was registered. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._client_id, _, self._client_secret = credential.partition(":")
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._idempotency_keys: dict[str, int] = {}
        self._registered: dict[str, str] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/business_registry")
        routes.post("/token")(self._token)
        for operation, answer in {
            "chiTietDoanhNghiep": self._detail,
            "danhSachHoSo": self._filings,
            "danhSachHoSoTrongNgay": self._filings_today,
            "tinhTrangHoSo": self._filing,
        }.items():
            routes.get(f"/apiCSDLDKDN/{operation}", endpoint=operation)(self._desk(operation, answer))
        app.register_blueprint(routes)
        app.post(f"/_sandbox/{NAME}/registered", endpoint="business_registry_registered")(self._decide)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "asked": dict(self._asked),
                "idempotency_keys": dict(self._idempotency_keys),
                "registered": dict(self._registered),
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._asked.clear()
            self._idempotency_keys.clear()
            self._registered.clear()

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, self._no)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._client_id, self._client_secret):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        if request.form.get("grant_type") != "client_credentials":
            return make_response(jsonify({"error": "unsupported_grant_type"}), 400)
        return jsonify(self.sessions.token_answer())

    def _desk(self, operation: str, answer: Any) -> Any:
        def serve() -> Response:
            if not self.sessions.holds_bearer(request.headers.get("Authorization", "")):
                return make_response(self._no("0", self.wording["token"]), 401)
            key = request.headers.get("Idempotency-Key", "")
            with self._lock:
                self._asked[operation] = self._asked.get(operation, 0) + 1
                self._idempotency_keys[key] = self._idempotency_keys.get(key, 0) + 1
            return self._dial.apply(NAME, operation, answer, self._no)

        return serve

    def _detail(self) -> Response:
        for number, name, owner, code, activity, capital in ENTERPRISES:
            if request.args.get("msdn", "") == number:
                return jsonify(self._enterprise(number, name, owner, code, activity, capital))
        return self._no("0", self.wording["unknown"])

    def _enterprise(self, number: str, name: str, owner: str, code: str, activity: str, capital: int) -> dict[str, Any]:
        return {
            "MainInformation": {
                "ENTERPRISE_ID": int(number[-4:]),
                "ENTERPRISE_GDT_CODE": number,
                "ENTERPRISE_TYPE_NAME": "Công ty trách nhiệm hữu hạn",
                "NAME": name,
                "FOUNDING_DATE": "02/01/2020",
                "LAST_AMEND_DATE": "15/03/2026",
                "NUMBER_CHANGES": 1,
                "ENTERPRISE_STATUS": "1",
                "LEGAL_NAMES": owner,
                "CAPITAL_AMOUNT": capital,
            },
            # The misspelling is the registry's own, and every reader depends on it (P25).
            "HOAdress": {
                "CityID": 31,
                "CityName": "Hải Phòng",
                "DistrictID": None,
                "DistrictName": "",
                "WardID": 11560,
                "WardName": "Phường Thủy Nguyên",
                "AddressFullText": "1 đường Mẫu, phường Thủy Nguyên, thành phố Hải Phòng",
            },
            "BusinessActivity": [{"CODE": code, "NAME": activity, "IS_MAIN": "Y"}],
            "Member": [],
            "DataCount": 1,
            "Status": "1",
            "Message": self.wording["found"],
        }

    def _filings(self) -> Response:
        try:
            first, last = (
                datetime.strptime(request.args[name], "%d/%m/%Y")  # noqa: DTZ007 - days, not moments
                for name in ("from_date", "to_date")
            )
            offset, limit = int(request.args.get("offset", 0)), int(request.args.get("limit", 100))
        except (KeyError, ValueError):
            return self._no("0", self.wording["parameters"])
        days = (last - first).days
        if not 0 <= days < WINDOW_DAYS:
            return self._no("0", self.wording["window"])
        filings = [self._filing_of(first + timedelta(days=day)) for day in range(days + 1)]
        return jsonify(
            {
                "Data": filings[offset : offset + limit],
                "DataCount": len(filings),
                "Status": "1",
                "Message": self.wording["found"],
            }
        )

    def _filings_today(self) -> Response:
        try:
            for name in ("from_ts", "to_ts"):
                datetime.strptime(request.args[name], "%H:%M")  # noqa: DTZ007 - a time of day
        except (KeyError, ValueError):
            return self._no("0", self.wording["parameters"])
        filings = [self._filing_of(datetime(2026, 4, 23))]  # noqa: DTZ001 - a fixed day of the sandbox
        return jsonify({"Data": filings, "DataCount": 1, "Status": "1", "Message": self.wording["found"]})

    def _filing(self) -> Response:
        number = request.args.get("in_journal_no", "")
        try:
            day = datetime.strptime(number, "HS%y%m%d")  # noqa: DTZ007 - a day
        except ValueError:
            return self._no("0", self.wording["unknown_filing"])
        return jsonify({**self._filing_of(day), "Status": "1", "Message": self.wording["found"], "DataCount": 1})

    def _decide(self) -> Response:
        given = request.get_json(silent=True, force=True)
        decision: Mapping[str, Any] = given if isinstance(given, dict) else {}
        with self._lock:
            self._registered[str(decision.get("in_journal_no"))] = str(decision.get("date", "24/04/2026"))
            return jsonify(self._registered)

    def _filing_of(self, day: datetime) -> dict[str, Any]:
        number, name = ENTERPRISES[day.toordinal() % len(ENTERPRISES)][:2]
        with self._lock:
            registered = self._registered.get(f"HS{day:%y%m%d}", "")
        return {
            "IN_JOURNAL_NO": f"HS{day:%y%m%d}",
            "DOCUMENT_TYPE": "change",
            "ENTERPRISE_GDT_CODE": number,
            "NAME": name,
            "SITE_ID": "31",
            "RECEIPT_DATE": f"{day:%d/%m/%Y}",
            "PLAN_DATE": f"{day + timedelta(days=3):%d/%m/%Y}",
            "PROCESS_STATUS": "1",
            **({"REGISTRATION_DATE": registered} if registered else {}),
        }

    def _no(self, _code: str, message: str) -> Response:
        return jsonify({"DataCount": 0, "Status": "0", "Message": message})
