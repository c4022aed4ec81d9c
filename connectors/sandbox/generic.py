"""A plain receiver: takes any POST below ``/generic/``, counts repeats by Idempotency-Key, and checks
``Lgsp-Manifest`` against the body when it is given keys. Below ``/generic/soap/`` it speaks SOAP 1.1 and 1.2; its WSDL
is at ``/generic/soap``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from connectors.sandbox import generic_soap
from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import same_secret
from schemas.message import sha256_hex
from schemas.moment import utc_now
from schemas.problem import Problem
from schemas.soap import read_soap, version_of
from security.keys import KeyDirectory
from security.signing import verify_manifest

NAME = "generic"
#: A message may have waited three days in the outbox before it comes here; its signature is as old.
MANIFEST_AGE_SECONDS = 4 * 86_400
#: Arrivals whose details are kept; counts go on beyond.
KEPT_ARRIVALS = 10_000
PRESETS = {
    "refused": error("422 and a sentence", message="Dữ liệu không hợp lệ"),
    "busy": Preset(says="429, come back in 30 s", fault={"kind": "status", "status": 429, "retry_after": 30}),
}


class GenericTwin:
    """A receiver that honours the idempotency key. Safe under threads."""

    def __init__(self, dial: Dial, credential: str, keys: KeyDirectory | None = None) -> None:
        self._dial = dial
        self._token = credential.partition(":")[2]
        self._keys = keys
        self._lock = threading.Lock()
        self._arrivals: dict[str, dict[str, Any]] = {}
        self._counts = dict.fromkeys(("received", "duplicates", "conflicts", "manifests_good", "manifests_bad"), 0)

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix="/generic")
        routes.post("/<path:where>")(self._receive)
        routes.post("/soap/<operation>")(self._receive_soap)
        routes.get("/soap")(_wsdl)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, Any]:
        with self._lock:
            return {**self._counts, "arrivals": {key: dict(arrival) for key, arrival in self._arrivals.items()}}

    def reset(self) -> None:
        with self._lock:
            self._arrivals.clear()
            self._counts = dict.fromkeys(self._counts, 0)

    def _receive(self, where: str) -> Response:
        if not self._knows_caller():
            return _answer(401, {"error": "Token không hợp lệ"})
        body = request.get_data()
        return self._dial.apply(
            NAME,
            where,
            lambda: _answer(*self._taken(where, body, self._verdict(sha256_hex(body)))),
            lambda c, m: _answer(422, {"error": m}),
        )

    def _receive_soap(self, operation: str) -> Response:
        if not self._knows_caller():
            return _answer(401, {"error": "Token không hợp lệ"})
        body = request.get_data()
        version = version_of(request.content_type or "")

        def take() -> Response:
            try:
                envelope = read_soap(body, request.content_type or "", request.headers.get("SOAPAction"))
            except Problem as problem:
                return _soap(500, generic_soap.fault(version, "Client", problem.reason))
            if envelope.payload.tag != generic_soap.REQUEST:
                return _soap(500, generic_soap.fault(version, "Client", "Thao tác không có"))
            # The manifest is over the payload's bytes as its sender wrote them, which an envelope does not keep apart.
            status, document = self._taken(f"soap/{operation}", body, None)
            if status != 200:
                return _soap(500, generic_soap.fault(version, "Client", document["error"]))
            return _soap(200, generic_soap.answer(version, duplicate=document["duplicate"]))

        def refuse(code: str, message: str) -> Response:
            return _soap(500, generic_soap.fault(version, "Client", f"{code} {message}"))

        def _soap(status: int, content: bytes) -> Response:
            return Response(content, status=status, content_type=f"{version.media_type}; charset=utf-8")

        return self._dial.apply(NAME, operation, take, refuse)

    def _knows_caller(self) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return not scheme or (scheme == "Bearer" and same_secret(token, self._token))

    def _taken(self, where: str, body: bytes, verdict: bool | None) -> tuple[int, dict[str, Any]]:
        """Status and document of the answer to a message that got through; ``verdict`` is on its manifest."""
        key = request.headers.get("Idempotency-Key", "")
        digest = sha256_hex(body)
        with self._lock:
            if verdict is not None:
                self._counts["manifests_good" if verdict else "manifests_bad"] += 1
            if verdict is False:
                return 400, {"error": "Bản kê khai không hợp lệ"}
            arrival = self._arrivals.get(key)
            if arrival is None:
                self._counts["received"] += 1
                if len(self._arrivals) < KEPT_ARRIVALS:
                    self._arrivals[key] = {
                        "where": where,
                        "sha256": digest,
                        "length": len(body),
                        "times": 1,
                        "content_type": request.content_type,
                        "receiver": request.headers.get("Lgsp-Receiver", ""),
                        "has_receipt": "Lgsp-Receipt" in request.headers,
                        "traceparent": request.headers.get("traceparent", ""),
                    }
                return 200, {"received": True, "duplicate": False}
            arrival["times"] += 1
            if arrival["sha256"] != digest:
                self._counts["conflicts"] += 1
                return 409, {"error": "Khoá chống trùng đã dùng cho nội dung khác"}
            self._counts["duplicates"] += 1
            return 200, {"received": True, "duplicate": True}

    def _verdict(self, body_sha256: str) -> bool | None:
        """Does the sender's manifest hold and cover this body? None when there are no keys to ask."""
        if self._keys is None:
            return None
        try:
            verified = verify_manifest(
                request.headers.get("Lgsp-Manifest", ""), self._keys, utc_now(), clock_skew_seconds=MANIFEST_AGE_SECONDS
            )
        except Problem:
            return False
        return verified.manifest.body_sha256 == body_sha256


def _answer(status: int, document: Mapping[str, Any]) -> Response:
    response = jsonify(document)
    response.status_code = status
    return response


def _wsdl() -> Response:
    address = f"{request.url_root}generic/soap/{generic_soap.OPERATION}"
    return Response(generic_soap.WSDL.replace("{address}", address), content_type="text/xml; charset=utf-8")
