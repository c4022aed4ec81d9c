"""Twin of the public post (vietnam.md 4.10): quotes, orders, cancelling, a feed of what became of them.

::

    POST /post/token
    POST /post/<operation>, /post?service=<operation>   Authorization: Bearer …, or access_token: …
    GET  /post/orderTracking?pagesize=…&lastId=…
    POST /_sandbox/post/events    [{"orderNumber": "…", "statusCode": "50"}]     what the post does next; a state that
                                  is in no table needs a "statusMessage"

An order is known by CustomerCode and OrderNumber: the same one again is the same order, another one under the same
number is refused, and so is a cancelled one. Parcels do not move by themselves; a tester moves them, and may leave out
states, as the real feed does. Every Status but 100 is this twin's own.

Servers drop headers whose name has an underscore (nginx, gunicorn and werkzeug do, because ``access_token`` and
``access-token`` would be one name to CGI), so this twin hears the header as ``access-token``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, Flask, Response, jsonify, make_response, request

from connectors.post import FIRST_ID, PAGE_SIZE, post_statuses
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import IssuedSessions, same_login, same_secret

NAME = "post"
#: The contract of the province, as the post knows it.
CUSTOMERS: Final = frozenset({"HCC-H99"})
WORDING = {
    "ok": "Thành công",
    "customer": "Mã khách hàng không tồn tại",
    "exists": "Đơn hàng đã tồn tại với nội dung khác",
    "data": "Dữ liệu không hợp lệ",
    "unknown": "Không tìm thấy đơn hàng",
    "taken": "Đơn hàng đã được thu gom, không hủy được",
    "token": "Token không hợp lệ",
}
PRESETS = {
    "refused": error("another Status, with a Message", "199"),
    "unknown-customer": error("Mã khách hàng không tồn tại", "101", "customer"),
    "number-taken": error("Đơn hàng đã tồn tại với nội dung khác", "102", "exists", service="orderPost"),
    "tracking-gap": Preset(
        says="the feed leaves states out: delivered at once",
        call=("/_sandbox/post/events", [{"orderNumber": "H99.15-260423-0001", "statusCode": "50"}]),
    ),
}
#: What an order must have. Districts are not among it: there are none since 2025 (P23).
TEXTS: Final = ("OrderNumber", "SenderAddress", "SenderName", "SenderTel", "ReceiverName", "ReceiverAddress")
NUMBERS: Final = ("CODAmount", "SenderProvince", "ReceiverProvince")
#: đồng: what the first half kilogram costs here, what each further one, what another province, what the way back.
BASE, STEP, FAR, BACK = 26_000, 3_500, 9_000, 13_000


class PostTwin:
    """The post's counter. Safe under threads."""

    def __init__(
        self, dial: Dial, credential: str, session_seconds: float, wording: Mapping[str, str] | None = None
    ) -> None:
        self.sessions = IssuedSessions(session_seconds)
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._client_id, _, self._client_secret = credential.partition(":")
        self._lock = threading.Lock()
        self._forget()

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__)
        routes.post("/post/token")(self._token)
        for rule in ("/post", "/post/<operation>"):
            routes.post(rule)(self._serve)
            routes.get(rule)(self._serve)
        routes.post("/_sandbox/post/events")(self._move)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "orders": {number: dict(order) for (_, number), order in self._orders.items()},
                "cancelled": sorted(number for _, number in self._cancelled),
                "notices": len(self._notices),
                # What the post owes the agency: money taken at the door of delivered orders.
                "cod_collected": sum(
                    order["CODAmount"] for (_, number), order in self._orders.items() if self._last.get(number) == "50"
                ),
                "events": len(self._events),
                "asked": dict(self._asked),
                "duplicates": self._duplicates,
                "logins": self.sessions.issued,
            }

    def reset(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._orders: dict[tuple[str, str], dict[str, Any]] = {}
        self._cancelled: set[tuple[str, str]] = set()
        self._notices: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._last: dict[str, str] = {}
        self._asked: dict[str, int] = {}
        self._duplicates = 0

    # ---- Who asks

    def _token(self) -> Response:
        return self._dial.apply(NAME, "token", self._logged_in, self._no)

    def _logged_in(self) -> Response:
        if not same_login(request.authorization, self._client_id, self._client_secret):
            return make_response(jsonify({"error": "invalid_client"}), 401)
        if request.form.get("grant_type") != "client_credentials":
            return make_response(jsonify({"error": "unsupported_grant_type"}), 400)
        return jsonify(self.sessions.token_answer())

    def _knows_caller(self) -> bool:
        bare = request.headers.get("access-token", "")
        return self.sessions.holds_bearer(request.headers.get("Authorization", "")) or (
            bool(bare) and (self.sessions.holds(bare) or same_secret(bare, self._client_secret))
        )

    # ---- What is asked

    def _serve(self, operation: str = "") -> Response:
        operation = operation or request.args.get("service", "")
        if not self._knows_caller():
            return make_response(self._no("401", self.wording["token"]), 401)
        asked: dict[tuple[str, str], Callable[[], Response]] = {
            ("POST", "getPrice"): self._price,
            ("POST", "orderPost"): self._order,
            ("POST", "orderCancel"): self._cancel,
            ("POST", "document"): self._notice,
            ("GET", "orderTracking"): self._feed,
        }
        act = asked.get((request.method, operation))
        if act is None:
            return make_response(self._no("404", "Không có dịch vụ"), 404)
        with self._lock:
            self._asked[operation] = self._asked.get(operation, 0) + 1
        return self._dial.apply(NAME, operation, act, self._no)

    def _price(self) -> Response:
        given = _document()
        sender, receiver = given.get("sender"), given.get("receiver")
        weight = given.get("weight")
        if not (isinstance(sender, dict) and isinstance(receiver, dict) and type(weight) is int and weight > 0):
            return self._no("103", self.wording["data"])
        price = BASE + STEP * ((weight - 1) // 500)
        price += FAR if sender.get("provCode") != receiver.get("provCode") else 0
        price += BACK if given.get("isreturn") == 1 else 0
        return jsonify({"Status": "100", "Message": self.wording["ok"], "content": {"price": price}})

    def _order(self) -> Response:
        order = _document()
        if order.get("CustomerCode") not in CUSTOMERS:
            return self._no("101", self.wording["customer"])
        texts = all(isinstance(order.get(name), str) and order[name] for name in TEXTS)
        numbers = all(type(order.get(name)) is int and order[name] >= 0 for name in NUMBERS)
        districts = all(type(order.get(name) or 0) is int for name in ("SenderDistrict", "ReceiverDistrict"))
        if not (texts and numbers and districts):
            return self._no("103", self.wording["data"])
        key = (order["CustomerCode"], order["OrderNumber"])
        with self._lock:
            known = self._orders.get(key)
            if (known is not None and known != order) or key in self._cancelled:
                return self._no("102", self.wording["exists"])
            if known is None:
                self._orders[key] = order
                self._happened(order["OrderNumber"], "10")
            else:
                self._duplicates += 1
        return self._yes()

    def _cancel(self) -> Response:
        given = _document()
        # The misspelling is the post's own (P25).
        key = (str(given.get("CustomerCode")), str(given.get("OrderNUmber")))
        with self._lock:
            if key not in self._orders:
                return self._no("104", self.wording["unknown"])
            if key not in self._cancelled:
                if self._last.get(key[1]) != "10":
                    return self._no("105", self.wording["taken"])
                self._cancelled.add(key)
                self._happened(key[1], "90")
        return self._yes()

    def _notice(self) -> Response:
        notice = _document()
        try:
            datetime.strptime(str(notice.get("NgayTiepNhan")), "%m/%d/%Y")  # noqa: DTZ007 - a day
        except ValueError:
            return self._no("103", self.wording["data"])
        if not notice.get("MaHoSo"):
            return self._no("103", self.wording["data"])
        with self._lock:
            self._notices[str(notice["MaHoSo"])] = notice
        return self._yes()

    def _feed(self) -> Response:
        last_id, size = request.args.get("lastId", FIRST_ID), request.args.get("pagesize", "100")
        if not re.fullmatch("[0-9a-f]{24}", last_id) or not re.fullmatch("[0-9]{1,4}", size):
            return self._no("103", self.wording["data"])
        with self._lock:
            # Ids count up, so a page is a slice: nothing is searched, however long the feed has become.
            first = min(int(last_id, 16), len(self._events))
            page = self._events[first : first + min(int(size), PAGE_SIZE)]
        return jsonify({"_embedded": {"rh:doc": page}, "_returned": len(page)})

    # ---- What happens

    def _move(self) -> Response:
        given = request.get_json(silent=True, force=True)
        names = post_statuses()["delivery"]
        if not isinstance(given, list) or not all(
            isinstance(one, dict) and (str(one.get("statusCode")) in names or one.get("statusMessage")) for one in given
        ):
            return make_response(jsonify({"error": "a list of orderNumber and statusCode is expected"}), 400)
        with self._lock:
            for one in given:
                self._happened(str(one.get("orderNumber")), str(one.get("statusCode")), one.get("statusMessage"))
            return jsonify({"events": len(self._events)})

    def _happened(self, number: str, code: str, message: str | None = None) -> None:
        """Add to the feed; the lock is held."""
        self._last[number] = code
        self._events.append(
            {
                "_id": {"$oid": f"{len(self._events) + 1:024x}"},
                "orderNumber": number,
                "statusCode": code,
                "statusMessage": message or post_statuses()["delivery"][code].name,
            }
        )

    def _yes(self) -> Response:
        return jsonify({"Status": "100", "Message": self.wording["ok"]})

    def _no(self, code: str, message: str) -> Response:
        return jsonify({"Status": code, "Message": message})


def _document() -> dict[str, Any]:
    given = request.get_json(silent=True, force=True)
    return given if isinstance(given, dict) else {}
