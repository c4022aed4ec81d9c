"""`/v1/exchange`: messages in, their state and receipts out."""

from __future__ import annotations

from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.records import ExchangeRecord
from bus.trace import status_document
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import arrival, identified_caller
from bus.web.submission import PATH, Submission
from registry import access
from schemas.identifiers import MessageId
from schemas.message import Principal
from schemas.problem import Malformed, NotFound

RECEIPT = {"$ref": "#/components/schemas/Receipt"}

MESSAGE_HEADERS = (
    Parameter(
        name="Lgsp-Manifest",
        place="header",
        meaning="The sender's manifest as compact JWS (grade signed)",
        schema={
            "type": "string",
            "contentMediaType": "application/jose",
            "contentSchema": {"$ref": "#/components/schemas/Manifest"},
        },
    ),
    Parameter(name="Lgsp-Service", place="header", meaning="Without a manifest: `code` or `code/version`"),
    Parameter(name="Lgsp-Receiver", place="header", meaning="Without a manifest: agency codes, comma-separated"),
    Parameter(name="Lgsp-Message-Id", place="header", meaning="Without a manifest: a UUID; a retry repeats it"),
    Parameter(name="Lgsp-Dossier", place="header", meaning="Without a manifest: the dossier code, if any"),
    Parameter(name="Lgsp-Purpose", place="header", meaning="Without a manifest: the stated purpose"),
    Parameter(name="Lgsp-User", place="header", meaning="Without a manifest: the officer who asks"),
    Parameter(name="Content-Digest", place="header", meaning="RFC 9530, checked when present"),
    Parameter(name="traceparent", place="header", meaning="W3C trace context, continued"),
)
_ANY_BODY = {
    media: {"description": "The payload, exactly as it is"} for media in ("application/json", "application/xml")
}


def exchange_surface(bus: Bus) -> Blueprint:
    """The routes of message exchange."""
    routes = Blueprint("exchange", __name__)
    submission = Submission(bus)

    @routes.post(PATH)
    @describe(
        "Exchange",
        "Send one message",
        access="message",
        parameters=MESSAGE_HEADERS,
        body=_ANY_BODY,
        answers={
            202: Answer(meaning="One-way: recorded for good; the receipt proves it", schema=RECEIPT),
            200: Answer(
                meaning="Request-reply: the provider's reply. One-way: the message was here before, the first receipt",
                content_type="*/*",
                headers={"Lgsp-Manifest": "Manifest of the reply", "Lgsp-Receipt": "The bus's receipt of the request"},
            ),
        },
        problems=(400, 401, 403, 404, 409, 413, 422, 429, 502, 503, 504),
    )
    def submit() -> Response:
        """The body is the payload as it is. A one-way message is answered with a receipt once it is on disk; a
        request-reply message with the provider's reply. Sending the same message again is safe."""
        # Reached by the short way without Flask (bus.web.submission), which calls the very same method.
        status, headers, body = submission.take(request.environ, arrival())
        return Response(body, status, headers)

    @routes.get("/v1/exchange/<message_id>")
    @describe(
        "Exchange",
        "How far a message is",
        access="token",
        answers={200: Answer(meaning="State, deliveries with their attempts, timeline", schema={"type": "object"})},
        problems=(401, 404),
    )
    def status(message_id: str) -> Response:
        """For the sender and the receivers of the message only; to all others it does not exist."""
        principal = identified_caller(bus)
        return json_response(status_document(own_exchange(bus, principal, message_id)))

    @routes.get("/v1/exchange/<message_id>/receipt")
    @describe(
        "Exchange",
        "The receipts of a message",
        access="token",
        answers={
            200: Answer(
                meaning="The bus's signed word: when it accepted the message, and each delivery",
                schema={
                    "type": "object",
                    "required": ["receipt", "deliveries"],
                    "properties": {"receipt": {"type": "string"}, "deliveries": {"type": "array"}},
                },
            )
        },
        problems=(401, 404),
    )
    def receipt(message_id: str) -> Response:
        """Compact JWS each (`typ: lgsp-receipt+jws`); verify them with the keys at `/v1/keys`."""
        record = own_exchange(bus, identified_caller(bus), message_id)
        receipts = [
            {"receiver": delivery.receiver, "receipt": delivery.receipt_jws}
            for delivery in record.deliveries
            if delivery.receipt_jws
        ]
        return json_response({"message_id": record.message_id, "receipt": record.receipt_jws, "deliveries": receipts})

    return routes


def own_exchange(bus: Bus, principal: Principal, message_id: str) -> ExchangeRecord:
    """The message, if the caller is a party to it. Raises NotFound: what is not yours does not exist."""
    try:
        record = bus.ledger.find(MessageId(message_id))
    except Malformed:
        record = None
    if record is None or not is_party(bus, principal, record):
        raise NotFound("message-unknown")
    return record


def is_party(bus: Bus, principal: Principal, record: ExchangeRecord) -> bool:
    """Is the caller's agency, or one that its system speaks for, the sender or a receiver? A system that is there to
    send some services only is a party to what it sent itself."""
    return access.is_party(
        bus.directory.current(),
        principal.system,
        sender=record.sender,
        sender_system=record.sender_system,
        receivers={delivery.receiver for delivery in record.deliveries},
    )
