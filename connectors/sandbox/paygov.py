"""Twin of PayGov (vietnam.md 4.9): orders with a checksum over joined values, notices answered by a bare word.

::

    POST /paygov/order                  an order → {"errorCode": "00", "payUrl": "…"}
    POST /_sandbox/paygov/pay           the payer:
    {"orderId": "…", "ipn_url": "http://…/partners/G99.39/paygov/ipn", "times": 1, "errorCode": "00",
     "amount": "150000", "checksum": "wrong", "notice_orderId": "…"}      → {"answers": ["SUCCESSFUL"]}

The shape of the order's answer and the IPN's checksum are this twin's guess. Checksums are computed here, not by the
connector's code. The partner's code is ``PARTNER01``.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.http import HttpClient
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import same_secret
from schemas.moment import VIETNAM, utc_now
from schemas.problem import Problem

NAME = "paygov"
PARTNER = "PARTNER01"
MANDATORY = ("orderId", "requestCode", "amount", "partnerCode", "accessKey", "checksum")
WORDING = {
    "body": "Dữ liệu không hợp lệ",
    "checksum": "Sai checksum",
    "duplicate": "orderId đã tồn tại",
    "done": "Thành công",
}
PRESETS = {
    "checksum-refused": error("Sai checksum", "02", "checksum"),
    "duplicate-order": error("orderId đã tồn tại", "03", "duplicate"),
    "notice-twice": Preset(
        says="the notice comes twice",
        call=(
            "/_sandbox/paygov/pay",
            {
                "orderId": "H99.15-H99.15-260423-0001-01",
                "ipn_url": "http://127.0.0.1:8080/partners/G99.39/paygov/ipn",
                "times": 2,
            },
        ),
    ),
}


class PaygovTwin:
    """The gateway's till. Safe under threads."""

    def __init__(self, dial: Dial, credential: str, wording: Mapping[str, str] | None = None) -> None:
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._access_key, _, self._secret_key = credential.partition(":")
        self._http = HttpClient()
        self._lock = threading.Lock()
        self._orders: dict[str, dict[str, Any]] = {}
        self._answers: list[str] = []

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/paygov")
        routes.post("/order")(self._order)
        app.register_blueprint(routes)
        app.post("/_sandbox/paygov/pay", endpoint="paygov_pay")(self._pay)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            orders = {order_id: dict(order) for order_id, order in self._orders.items()}
            return {"orders": orders, "notice_answers": list(self._answers)}

    def reset(self) -> None:
        with self._lock:
            self._orders.clear()
            self._answers.clear()

    def _order(self) -> Response:
        document = request.get_json(silent=True, force=True)
        return self._dial.apply(NAME, "order", lambda: self._placed(document), self._answer)

    def _placed(self, order: Any) -> Response:
        if not isinstance(order, dict) or not all(isinstance(order.get(name), str) for name in MANDATORY):
            return self._answer("01", self.wording["body"])
        values = (order["partnerCode"], order["orderId"], order["requestCode"], order["amount"])
        if order["partnerCode"] != PARTNER or not same_secret(order["checksum"], self._checksum(*values)):
            return self._answer("02", self.wording["checksum"])
        with self._lock:
            known = self._orders.setdefault(order["orderId"], {**order, "paid": ""})
        if known["checksum"] != order["checksum"]:
            return self._answer("03", self.wording["duplicate"])
        return self._answer(
            "00", self.wording["done"], payUrl=f"{request.host_url}paygov/pay/{quote(order['orderId'])}"
        )

    def _pay(self) -> Response | tuple[Response, int]:
        given = request.get_json(silent=True, force=True)
        wish: Mapping[str, Any] = given if isinstance(given, dict) else {}
        code = str(wish.get("errorCode", "00"))
        with self._lock:
            known = self._orders.get(str(wish.get("orderId")))
            if known is None:
                return jsonify({"error": "an orderId that was ordered is expected"}), 400
            known["paid"] = known["paid"] or f"{utc_now().astimezone(VIETNAM):%Y%m%d%H%M%S}"
            at = known["paid"]
        notice = {
            "orderId": str(wish.get("notice_orderId") or wish["orderId"]),
            "errorCode": code,
            "transactionNo": f"PG{known['requestCode']}",
            "payDate": at,
            "paygate": "NAPAS",
        }
        notice["checksum"] = self._checksum(PARTNER, *notice.values())
        if "amount" in wish:
            notice["amount"] = str(wish["amount"])
        if wish.get("checksum") == "wrong":
            notice["checksum"] = "0" * 64
        body = json.dumps(notice).encode()
        answers = [self._call(str(wish["ipn_url"]), body) for _ in range(int(wish.get("times", 1)))]
        with self._lock:
            self._answers.extend(answers)
        return jsonify({"answers": answers})

    def _call(self, url: str, body: bytes) -> str:
        try:
            headers = {"Content-Type": "application/json"}
            reply = self._http.request("POST", url, headers=headers, body=body, timeout_seconds=10.0)
        except Problem as problem:
            return problem.reason
        return reply.body.decode("utf-8", errors="replace")

    def _checksum(self, *values: str) -> str:
        return hashlib.sha256("".join((self._secret_key, self._access_key, *values)).encode()).hexdigest()

    def _answer(self, code: str, message: str, **more: str) -> Response:
        return jsonify({"errorCode": code, "message": message, **more})
