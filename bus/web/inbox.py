"""`/v1/inbox`: for members that cannot be called. They fetch, and say when they have it."""

from __future__ import annotations

import base64
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from bus.assembly import Bus
from bus.inbox import MAX_DELIVERIES, MAX_SAID_CHARACTERS, MAX_WAIT_SECONDS
from bus.records import Claim
from bus.translation import parcel_for
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller, read_body, received_at
from schemas.codec import read_json
from schemas.moment import to_wire
from schemas.problem import Malformed

_MAX_NACK_BYTES = 4096

_DELIVERIES = {
    "type": "object",
    "required": ["deliveries"],
    "properties": {"deliveries": {"type": "array", "items": {"type": "object"}}},
}


def inbox_surface(bus: Bus) -> Blueprint:
    """The routes of the pull inbox."""
    routes = Blueprint("inbox", __name__)

    @routes.get("/v1/inbox")
    @describe(
        "Inbox",
        "Fetch what waits for you",
        access="token",
        parameters=(
            Parameter(
                name="wait", place="query", meaning="Seconds to wait for the first message", schema=_number(0, 60)
            ),
            Parameter(name="max", place="query", meaning="Most messages at once", schema=_number(1, MAX_DELIVERIES)),
        ),
        answers={200: Answer(meaning="Leased deliveries, oldest first; none is an empty list", schema=_DELIVERIES)},
        problems=(400, 401, 403),
    )
    def fetch() -> Response:
        """Long poll. Each delivery is yours until `lease_until`; acknowledge it by then, or it is handed out again."""
        if request.method == "HEAD":  # Flask adds it to every GET, and this one hands out leases
            raise MethodNotAllowed(valid_methods=["GET", "OPTIONS"])
        principal = identified_caller(bus)
        wait, most = _query_number("wait", 0, MAX_WAIT_SECONDS), _query_number("max", 50, MAX_DELIVERIES)
        claims = bus.inbox.fetch(principal, wait_seconds=wait, most=most)
        return json_response({"deliveries": [_delivery_document(bus, claim) for claim in claims]})

    @routes.post("/v1/inbox/<delivery>/ack")
    @describe(
        "Inbox",
        "Acknowledge a delivery",
        access="token",
        answers={204: Answer(meaning="Recorded: it will not come again")},
        problems=(401, 404, 409),
    )
    def acknowledge(delivery: str) -> Response:
        """Say so only after you have stored the message. Acknowledging twice is answered with 409 the second time."""
        bus.inbox.acknowledge(identified_caller(bus), delivery, received_at())
        return Response(status=204)

    @routes.post("/v1/inbox/<delivery>/nack")
    @describe(
        "Inbox",
        "Give a delivery back",
        access="token",
        body={
            "application/json": {
                "type": "object",
                "properties": {
                    "reason": {"type": "string", "maxLength": MAX_SAID_CHARACTERS},
                    "final": {"type": "boolean", "description": "true: never send it again"},
                },
            }
        },
        answers={204: Answer(meaning="It comes again later, or (final) is dead with your reason")},
        problems=(400, 401, 404, 409),
    )
    def give_back(delivery: str) -> Response:
        """With a reason that the sender and the operator can read. Not final: the service's retry policy decides when
        it comes again."""
        said, final = _nack_body()
        bus.inbox.give_back(identified_caller(bus), delivery, received_at(), said=said, final=final)
        return Response(status=204)

    return routes


def _delivery_document(bus: Bus, claim: Claim) -> dict[str, Any]:
    parcel = parcel_for(claim, bus.directory.current(), bus.ring)
    manifest = parcel.manifest
    return {
        "delivery_id": f"{claim.delivery_id}.{claim.attempt}",
        "message_id": claim.message_id,
        "sender": claim.sender,
        "receiver": claim.receiver,
        "service": f"{claim.service}/{claim.service_version}",
        "dossier": claim.dossier,
        "content_type": manifest.content_type,
        "manifest": parcel.manifest_jws,
        "receipt": claim.receipt_jws,
        "body_base64": base64.b64encode(parcel.body).decode("ascii"),
        "attempt": claim.attempt,
        "lease_until": to_wire(claim.lease_until),
        "attachments": [
            {"sha256": a.sha256, "length": a.length, "name": a.name, "content_type": a.content_type}
            for a in manifest.attachments
        ],
    }


def _query_number(name: str, default: int, most: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 6:
        raise Malformed("query-invalid", name=name)
    return min(int(text), most)


def _nack_body() -> tuple[str, bool]:
    data = read_body(request.environ, _MAX_NACK_BYTES)
    document = read_json(data) if data else {}
    if not isinstance(document, dict):
        raise Malformed("query-invalid", name="reason")
    said, final = document.get("reason", ""), document.get("final", False)
    if not isinstance(said, str) or not isinstance(final, bool):
        raise Malformed("query-invalid", name="reason")
    return said, final


def _number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}
