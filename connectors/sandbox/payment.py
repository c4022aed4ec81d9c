"""Twin of the national payment platform (vietnam.md 4.9, 6.2): INIT, QUERY, GET_BILL, and the payer at the till.

::

    POST /payment/init, /query, /bill            the platform's own calls
    GET  /payment/pay/<reference>                the page that a payer is sent to
    GET  /payment/daily?date=20260423            the day's transactions, as CSV
    POST /payment/fees                           the agency's fee software: notices, refunds, what is payable

    POST /_sandbox/payment/pay                   the payer pays, or does not:
    {"MaThamChieu": "HP…", "ipn_url": "http://…/partners/G99.30/thanh-toan/ipn",
     "times": 1,                notices sent; 2 is the IPN that comes twice
     "MaLoi": "00",             "99" cancelled
     "TrangThaiGD": "1",        "3" pending at the bank: no notice is sent
     "SoTien": "150000",        another sum than was asked for
     "digest": "good",          "wrong"
     "reference": "",           another reference in the notice
     "return_url": "", "redirect": "after"}      the browser comes back, "before" or after the IPN
    → {"answers": ["{\\"MaLoi\\":\\"00\\", …}"], "MaGiaoDich": "G22.99.1-…"}

Its digests are computed here, not by the connector's code, so that the two check each other. A reference that comes
again with the same digest gets the same answer; with another one it is a duplicate.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.http import HttpClient
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import same_secret
from schemas.moment import VIETNAM, utc_now
from schemas.problem import Problem

NAME = "payment"
INIT_FIELDS = (
    *("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "SoTien", "LoaiHinhThanhToan", "MaKenhThanhToan"),
    *("MaThietBi", "NgonNgu", "MaTienTe", "MaNganHang", "ThongTinGiaoDich", "ThoiGianGD", "Ip"),
)
ASK_FIELDS = ("LoaiBanTin", "PhienBan", "MaDoiTac", "MaThamChieu", "ThoiGianGD")
CONFIRM_FIELDS = (
    *("LoaiBanTin", "MaLoi", "MaDoiTac", "MaThamChieu", "SoTien", "MaTienTe", "MaGiaoDich", "MaNganHang"),
    *("ThoiGianGD", "ThongTinGiaoDich"),
)
DAILY_COLUMNS = (
    *("NgayDoiSoat", "MaDoiTac", "MaGiaoDich", "MaThamChieu", "MaHoSo", "SoTien", "TrangThaiGD", "ThoiGianGD"),
    "KetQua",
)
WORDING = {
    "digest": "Sai mã xác thực",
    "body": "Dữ liệu không hợp lệ",
    "duplicate": "Mã tham chiếu đã tồn tại",
    "unknown": "Không tìm thấy giao dịch",
    "unpaid": "Giao dịch chưa thanh toán",
    "paid": "Thanh toan thanh cong",
    "cancelled": "Huy thanh toan",
}
_REFERENCE = {"MaThamChieu": "HP0001260423100001", "ipn_url": "http://127.0.0.1:8080/partners/G99.30/thanh-toan/ipn"}


def _payer(says: str, **deed: Any) -> Preset:
    return Preset(says=says, call=("/_sandbox/payment/pay", {**_REFERENCE, **deed}))


PRESETS = {
    "cancelled": _payer("the payer cancels: MaLoi 99", MaLoi="99"),
    "wrong-digest": _payer("the notice's MaXacThuc does not hold", digest="wrong"),
    "amount-mismatch": _payer("the notice names another sum", SoTien="1"),
    "unknown-reference": _payer("the notice names a reference that nobody has", reference="HP9999260423100001"),
    "pending": _payer("the bank is still at it: TrangThaiGD 3, and no notice", TrangThaiGD="3"),
    "notice-twice": _payer("the notice comes twice", times=2),
    "notice-first": _payer(
        "the notice comes before the browser is back", redirect="after", return_url="https://dvc.example.vn/ket-qua"
    ),
    "duplicate-reference": error("Mã tham chiếu đã tồn tại", "3", "duplicate", service="INIT"),
    "digest-refused": error("Sai mã xác thực", "2", "digest"),
}
#: A whole PDF of one empty page; what is on a real receipt is not known.
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 298 420]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


class PaymentTwin:
    """The platform's till. Safe under threads."""

    def __init__(self, dial: Dial, credential: str, wording: Mapping[str, str] | None = None) -> None:
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._partner, _, self._secret = credential.partition(":")
        self._http = HttpClient()
        self._lock = threading.Lock()
        self._transactions: dict[str, dict[str, str]] = {}
        self._repeats = 0
        self._answers: list[str] = []
        self._notices: dict[str, dict[str, Any]] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/payment")
        routes.post("/init")(self._init)
        routes.post("/query")(self._query)
        routes.post("/bill")(self._bill)
        routes.get("/pay/<reference>")(self._page)
        routes.get("/daily")(self._daily)
        routes.post("/fees")(self._fees)
        app.register_blueprint(routes)
        app.post("/_sandbox/payment/pay", endpoint="payment_pay")(self._pay)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "transactions": {reference: dict(kept) for reference, kept in self._transactions.items()},
                "repeats": self._repeats,
                "notice_answers": list(self._answers),
                "notices": {key: dict(notice) for key, notice in self._notices.items()},
            }

    def reset(self) -> None:
        with self._lock:
            self._transactions.clear()
            self._answers.clear()
            self._notices.clear()
            self._repeats = 0

    # --- what the province asks ---

    def _init(self) -> Response:
        return self._serve("INIT", INIT_FIELDS, self._start)

    def _query(self) -> Response:
        return self._serve("QUERY", ASK_FIELDS, self._status)

    def _bill(self) -> Response:
        return self._serve("GET_BILL", ASK_FIELDS, self._receipt)

    def _serve(self, kind: str, fields: Sequence[str], act: Any) -> Response:
        document = request.get_json(silent=True, force=True)

        def answer() -> Response:
            if not isinstance(document, dict) or not all(isinstance(document.get(name), str) for name in fields):
                return _answer("1", self.wording["body"])
            named = document["LoaiBanTin"] == kind and document["MaDoiTac"] == self._partner
            if not named or not same_secret(document.get("MaXacThuc"), self._digest(document, fields)):
                return _answer("2", self.wording["digest"])
            done: Response = act(document)
            return done

        return self._dial.apply(NAME, kind, answer, _answer)

    def _start(self, init: Mapping[str, Any]) -> Response:
        reference = init["MaThamChieu"]
        receipt = init.get("ThongTinBienLai")
        with self._lock:
            known = self._transactions.get(reference)
            if known is not None and known["MaXacThuc"] != init["MaXacThuc"]:
                return _answer("3", self.wording["duplicate"])
            self._repeats += known is not None
            if known is None:
                self._transactions[reference] = {
                    "SoTien": init["SoTien"],
                    "MaXacThuc": init["MaXacThuc"],
                    "MaHoSo": str(receipt.get("MaHoSo", "")) if isinstance(receipt, dict) else "",
                    "MaGiaoDich": f"G22.99.1-{_now():%y%m%d}{len(self._transactions) + 1:06d}",
                    "ThoiGianGD": "",
                    "TrangThaiGD": "",
                }
        address = f"{request.host_url}payment/pay/{quote(reference, safe='')}"
        return _answer("0", json.dumps({"UrlThanhToan": address}))

    def _status(self, question: Mapping[str, Any]) -> Response:
        with self._lock:
            known = self._transactions.get(question["MaThamChieu"])
            if known is None:
                return _answer("4", self.wording["unknown"])
            told = {
                "MaThamChieu": question["MaThamChieu"],
                "MaGiaoDich": known["MaGiaoDich"],
                "SoTien": known["SoTien"],
                "TrangThaiGD": known["TrangThaiGD"] or "4",
            }
        return _answer("0", json.dumps(told))

    def _receipt(self, question: Mapping[str, Any]) -> Response:
        with self._lock:
            known = self._transactions.get(question["MaThamChieu"])
            paid = known is not None and known["TrangThaiGD"] == "1"
        return Response(PDF, mimetype="application/pdf") if paid else _answer("4", self.wording["unpaid"])

    # --- what the payer does ---

    def _page(self, reference: str) -> tuple[Response, int]:
        with self._lock:
            known = self._transactions.get(reference)
        text = self.wording["unknown"] if known is None else f"Thanh toán thử nghiệm: {int(known['SoTien']):,} đồng"
        return Response(text, mimetype="text/plain"), 404 if known is None else 200

    def _pay(self) -> Response | tuple[Response, int]:
        given = request.get_json(silent=True, force=True)
        wish: Mapping[str, Any] = given if isinstance(given, dict) else {}
        notice = self._settle(wish)
        if notice is None:
            return jsonify({"error": "a MaThamChieu that INIT has named is expected"}), 400
        if wish.get("digest", "good") != "good":
            notice["MaXacThuc"] = "0" * 64
        pending = wish.get("TrangThaiGD") == "3"
        times = 0 if pending or not wish.get("ipn_url") else int(wish.get("times", 1))
        return jsonify({"answers": self._tell(wish, notice, times), "MaGiaoDich": notice["MaGiaoDich"]})

    def _settle(self, wish: Mapping[str, Any]) -> dict[str, str] | None:
        """The payer's doing in the books, and the notice of it."""
        reference, code = str(wish.get("MaThamChieu")), str(wish.get("MaLoi", "00"))
        with self._lock:
            known = self._transactions.get(reference)
            if known is None:
                return None
            known["TrangThaiGD"] = str(wish.get("TrangThaiGD", "1" if code == "00" else "4"))
            known["ThoiGianGD"] = known["ThoiGianGD"] or f"{_now():%Y%m%d%H%M%S}"
            known["SoTien"] = str(wish.get("SoTien", known["SoTien"]))
            return self._confirm(str(wish.get("reference") or reference), code, known)

    def _confirm(self, reference: str, code: str, known: Mapping[str, str]) -> dict[str, str]:
        notice = {
            "LoaiBanTin": "CONFIRM",
            "MaLoi": code,
            "MaDoiTac": self._partner,
            "MaThamChieu": reference,
            "SoTien": known["SoTien"],
            "MaTienTe": "VND",
            "MaGiaoDich": known["MaGiaoDich"],
            "MaNganHang": "970400",
            "ThoiGianGD": known["ThoiGianGD"],
            "ThongTinGiaoDich": self.wording["paid" if code == "00" else "cancelled"],
        }
        return {**notice, "MaXacThuc": self._digest(notice, CONFIRM_FIELDS)}

    def _tell(self, wish: Mapping[str, Any], notice: Mapping[str, str], times: int) -> list[str]:
        back = f"{wish['return_url']}?{urlencode(notice)}" if wish.get("return_url") else ""
        if back and wish.get("redirect") == "before":
            self._call("GET", back, None)
        body = json.dumps(notice, ensure_ascii=False).encode()
        answers = [self._call("POST", wish["ipn_url"], body) for _ in range(times)]
        if back and wish.get("redirect") != "before":
            self._call("GET", back, None)
        with self._lock:
            self._answers.extend(answers)
        return answers

    def _call(self, method: str, url: str, body: bytes | None) -> str:
        try:
            headers = {"Content-Type": "application/json"}
            reply = self._http.request(method, url, headers=headers, body=body, timeout_seconds=10.0)
        except Problem as problem:
            return problem.reason
        return reply.body.decode("utf-8", errors="replace")

    # --- the agency's fee software ---

    def _fees(self) -> Response:
        document = request.get_json(silent=True, force=True)
        given = document if isinstance(document, dict) else {}
        return self._dial.apply(NAME, "fees", lambda: self._booked(given), _answer)

    def _booked(self, document: Mapping[str, Any]) -> Response:
        """A notice is kept once for each message; a dossier is payable until a transaction of it is settled."""
        with self._lock:
            # PayGov's notices come here too, and refunds.
            if document.get("LoaiBanTin") == "CONFIRM" or {"orderId", "NgayHoanPhi"} & document.keys():
                self._notices[request.headers.get("Idempotency-Key", "")] = dict(document)
                return jsonify({"error_code": "0"})
            code = str(document.get("MaHoSo", ""))
            open_sums = [
                known["SoTien"]
                for known in self._transactions.values()
                if known["MaHoSo"] == code and known["TrangThaiGD"] != "1"
            ]
        if not open_sums:
            return jsonify({"error_code": "0"})
        return jsonify({"error_code": "1", "MaTraCuuTT": f"{code}{_now():%Y%m%d%H%M%S}", "SoTien": open_sums[0]})

    # --- the end of the day ---

    def _daily(self) -> Response:
        day = request.args.get("date", f"{_now():%Y%m%d}")
        with self._lock:
            rows = [
                {**known, "NgayDoiSoat": day, "MaDoiTac": self._partner, "MaThamChieu": reference, "KetQua": ""}
                for reference, known in self._transactions.items()
                if known["ThoiGianGD"].startswith(day)
            ]
        text = io.StringIO()
        table = csv.DictWriter(text, DAILY_COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
        return Response(text.getvalue(), mimetype="text/csv")

    def _digest(self, document: Mapping[str, Any], fields: Sequence[str]) -> str:
        text = "|".join([*(str(document[name]) for name in fields), self._secret])
        return hashlib.sha256(text.encode()).hexdigest()


def _now() -> datetime:
    return utc_now().astimezone(VIETNAM)


def _answer(code: str, message: str) -> Response:
    return jsonify({"error_code": code, "message": message})
