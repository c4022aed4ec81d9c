"""`/soap/exchange`: the exchange for those who speak SOAP. A message is the same message whichever way it comes.

::

    <soap:Header>
      <Manifest xmlns="urn:lgsp:exchange:1"> compact JWS </Manifest>        grade signed, or
      <Exchange xmlns="urn:lgsp:exchange:1"> Service, Receiver… </Exchange>  with a bearer token or WS-Security
    </soap:Header>
    <soap:Body>
      <SubmitMessage xmlns="urn:lgsp:exchange:1"> contentType, payload (base64), attachment… </SubmitMessage>
    </soap:Body>

The payload travels as base64, so that a manifest covers the very bytes: sent again over REST it is a repetition, and
gets the first receipt. The steps are those of ``bus.web.submission``; what goes wrong is a fault made of the problem
that REST would tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

import structlog
from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.intake import Acceptance
from bus.logs import get_logger
from bus.records import DeliveryRecord
from bus.trace import overall_state, timeline
from bus.translation import parcel_for
from bus.web import soap_messages as messages
from bus.web.described import Answer, describe
from bus.web.door import Arrival, arrival, read_body
from bus.web.exchange import own_exchange
from bus.web.problems import language_of, retry_after
from bus.web.submission import Environ, Taken, unread
from connectors.soap_server import Operation, SoapServer
from registry.model import Pattern
from schemas.message import AttachedFile, AttachmentReference, Envelope, Principal, sha256_hex
from schemas.moment import from_wire
from schemas.problem import InternalFailure, Malformed, NotFound, Problem, Refused, TooLarge
from schemas.reasons import REASONS
from schemas.soap import (
    EXCHANGE_BLOCK,
    EXCHANGE_NS,
    MANIFEST_BLOCK,
    SECURITY_BLOCK,
    SoapEnvelope,
    SoapVersion,
    exchange_headers,
    read_soap,
    version_of,
    write_fault,
    write_soap,
)

log = get_logger()

SOAP_PATH: Final = "/soap/exchange"
#: The XSD of what all SOAP addresses of the bus have in common.
EXCHANGE_TYPES: Final = files("schemas").joinpath("documents", "exchange.xsd").read_text(encoding="utf-8")
PROBLEM_ELEMENT: Final = f"{{{EXCHANGE_NS}}}Problem"
RECEIPT_ELEMENT: Final = f"{{{EXCHANGE_NS}}}Receipt"
#: Header blocks that the bus processes.
UNDERSTOOD: Final = frozenset({MANIFEST_BLOCK, EXCHANGE_BLOCK, SECURITY_BLOCK})
#: An envelope may have so many times the bytes of the largest payload: base64 takes 4 for 3, the rest is for files
#: that come along. Larger ones are uploaded before.
ENVELOPE_FACTOR: Final = 4


def soap_surface(bus: Bus) -> Blueprint:
    """The routes of the SOAP exchange."""
    routes = Blueprint("soap", __name__)
    exchange = SoapExchange(bus)

    @routes.get(SOAP_PATH)
    @describe(
        "SOAP",
        "The WSDL of the exchange",
        access="anyone",
        answers={200: Answer(meaning="WSDL 1.1, at `?wsdl`", content_type="text/xml")},
        problems=(404,),
    )
    def wsdl() -> Response:
        """SOAP 1.1 and 1.2, document/literal: SubmitMessage, GetStatus, GetReceipt, FetchInbox, AckDelivery,
        NackDelivery."""
        if "wsdl" not in {name.lower() for name in request.args}:
            raise NotFound("page-unknown")
        document = exchange_server().wsdl(f"{bus.settings.public_url}{SOAP_PATH}")
        return Response(document, content_type="text/xml; charset=utf-8")

    @routes.post(SOAP_PATH)
    @describe(
        "SOAP",
        "Exchange over SOAP",
        access="anyone",
        body={version.media_type: {"description": "An envelope as the WSDL describes it"} for version in SoapVersion},
        answers={
            200: Answer(meaning="The operation's answer", content_type="text/xml"),
            500: Answer(meaning="A fault; its detail has the members of a problem", content_type="text/xml"),
        },
    )
    def call() -> Response:
        """Who calls is proven in the envelope: a message by its header block Manifest, any operation by a WS-Security
        signature (or by a bearer token in the HTTP header Authorization)."""
        # Reached by the short way without Flask (bus.web.submission), which calls the very same method.
        status, headers, body = exchange.take(request.environ, arrival())
        return Response(body, status, headers)

    return routes


class SoapExchange:
    """Takes one SOAP call at a time. Safe to share between threads."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def take(self, environ: Environ, arrival: Arrival) -> Taken:
        """The answer to a call: status, headers, body. Problems become faults; never raises."""
        version = version_of(environ.get("CONTENT_TYPE", ""))
        try:
            soap = receive_soap(self._bus, environ, arrival)
            call = Call(self._bus, soap, facts_of(soap, environ), arrival)
            return soap_answer(soap.version, self._answer(call))
        except Exception as error:
            return soap_fault(self._bus, version, error, environ, arrival)

    def _answer(self, call: Call) -> bytes:
        payload = call.soap.payload
        try:
            return exchange_server().handle(payload.tag.rpartition("}")[2], payload, call)
        except Refused as problem:
            if not call.is_judged and payload.tag == f"{{{EXCHANGE_NS}}}SubmitMessage":
                self._bus.intake.refuse(problem, unread(call.arrival))
            raise


# ---- What every SOAP address does (also the one of a service)


def receive_soap(bus: Bus, environ: Environ, arrival: Arrival) -> SoapEnvelope:
    """The envelope of a request, through the gate. A refusal is kept as evidence. Raises TooLarge, Malformed."""
    try:
        body = read_body(environ, bus.settings.max_body_bytes * ENVELOPE_FACTOR)
        content_type, action = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_SOAPACTION")
        return read_soap(body, content_type, action, understood=UNDERSTOOD)
    except (TooLarge, Malformed) as problem:
        bus.intake.refuse(problem, unread(arrival))
        raise


def facts_of(soap: SoapEnvelope, environ: Environ) -> Mapping[str, str]:
    """What the header blocks say, as the headers that say the same over REST. Raises Malformed(soap-block-invalid)."""
    facts = exchange_headers(soap.blocks[EXCHANGE_BLOCK]) if EXCHANGE_BLOCK in soap.blocks else {}
    manifest = soap.blocks.get(MANIFEST_BLOCK)
    if manifest is not None:
        if len(manifest):
            raise Malformed("soap-block-invalid", block="Manifest", part="text")
        facts["lgsp-manifest"] = (manifest.text or "").strip()
    if "HTTP_AUTHORIZATION" in environ:
        facts["authorization"] = environ["HTTP_AUTHORIZATION"]
    return facts


def soap_answer(version: SoapVersion, payload: bytes, *, manifest_jws: str = "") -> Taken:
    """An answer around the payload; a manifest that proves it stands in a header block."""
    blocks = [f'<Manifest xmlns="{EXCHANGE_NS}">{manifest_jws}</Manifest>'.encode()] if manifest_jws else []
    return 200, {"Content-Type": f"{version.media_type}; charset=utf-8"}, write_soap(version, payload, blocks)


def soap_fault(bus: Bus, version: SoapVersion, error: Exception, environ: Environ, arrival: Arrival) -> Taken:
    """The fault of a problem; what is no problem goes to the log and is told as our failure."""
    problem = error if isinstance(error, Problem) else InternalFailure()
    if problem is not error:
        log.error("request.failed", exc_info=error)
    language = language_of(environ.get("HTTP_ACCEPT_LANGUAGE", ""))
    body = write_fault(version, problem, language=language, trace_id=arrival.traceparent[3:35])
    headers = {"Content-Type": f"{version.media_type}; charset=utf-8", **retry_after(problem)}
    return bus.settings.soap_fault_status, headers, body


# ---- The operations


@dataclass(slots=True)
class Call:
    """One call, as the operations see it."""

    bus: Bus
    soap: SoapEnvelope
    #: Lower-case names, as in an envelope.
    headers: Mapping[str, str]
    arrival: Arrival
    #: The intake has seen it: a refusal from now on is kept there.
    is_judged: bool = False

    def principal(self) -> Principal:
        """Who asks for anything but to send: by bearer token or WS-Security. Raises NotIdentified, Malformed.

        The block Exchange says that a message comes, which may come again; what is asked here counts once.
        """
        if EXCHANGE_BLOCK in self.soap.blocks:
            raise Malformed("soap-block-not-here", block="Exchange")
        principal = self.bus.identification.identify_caller(
            self.headers, self.arrival.received_at, self.soap, self.arrival.client_certificate
        )
        structlog.contextvars.bind_contextvars(sender=principal.agency, system=principal.system)
        return principal


@cache
def exchange_server() -> SoapServer:
    """The operations of the exchange; the same for every bus of this process, which comes with each call."""
    spoken = (
        ("SubmitMessage", messages.SubmitMessage, messages.SubmitMessageResponse, _submit, "Send one message"),
        ("GetStatus", messages.GetStatus, messages.GetStatusResponse, _status, "How far a message is"),
        ("GetReceipt", messages.GetReceipt, messages.GetReceiptResponse, _receipt, "The receipts of a message"),
        ("FetchInbox", messages.FetchInbox, messages.FetchInboxResponse, _fetch, "Fetch what waits for you"),
        ("AckDelivery", messages.AckDelivery, messages.AckDeliveryResponse, _acknowledge, "You have stored it"),
        ("NackDelivery", messages.NackDelivery, messages.NackDeliveryResponse, _give_back, "You give it back"),
    )
    return SoapServer(
        "Exchange",
        EXCHANGE_NS,
        [
            Operation(
                name=name,
                request=asked,
                reply=answered,
                call=call,
                documentation=documentation,
                blocks=(MANIFEST_BLOCK, EXCHANGE_BLOCK) if name == "SubmitMessage" else (),
            )
            for name, asked, answered, call, documentation in spoken
        ],
        declarations=EXCHANGE_TYPES,
        fault=PROBLEM_ELEMENT,
    )


def _submit(asked: messages.SubmitMessage, call: Call) -> messages.SubmitMessageResponse:
    bus = call.bus
    limit = bus.settings.max_body_bytes
    if len(asked.payload) > limit:
        raise TooLarge("body-too-large", limit=limit)
    envelope = Envelope(
        body=asked.payload,
        content_type=asked.content_type,
        headers=call.headers,
        received_at=call.arrival.received_at,
        traceparent=call.arrival.traceparent,
        attached=tuple(map(_attached, asked.attachment)),
        soap=call.soap,
        client_certificate=call.arrival.client_certificate,
    )
    call.is_judged = True
    acceptance = bus.intake.accept(envelope)  # 2 to 5
    reply = None
    if acceptance.permission.service.pattern is Pattern.REQUEST_REPLY:
        stored = bus.calls.answer(acceptance)  # 7 and 8, in the caller's own time
        reply = messages.Reply(content_type=stored.content_type, payload=stored.body, manifest=stored.manifest_jws)
    return messages.SubmitMessageResponse(**receipt_facts(acceptance), reply=reply)


def receipt_facts(acceptance: Acceptance) -> dict[str, Any]:
    """The members of a receipt over SOAP."""
    receipt = acceptance.receipt
    return {
        "message_id": receipt.message_id,
        "state": receipt.state,
        "received_at": receipt.received_at,
        "receiver": receipt.receivers,
        "leaf": receipt.leaf,
        "receipt": receipt.receipt,
        "repeated": acceptance.repeated,
    }


def _attached(file: messages.Attachment) -> AttachedFile:
    digest, length = file.sha256, file.length
    if file.content is not None:
        digest, length = digest or sha256_hex(file.content), len(file.content) if length is None else length
    if digest is None or length is None:
        raise Malformed("soap-attachment-incomplete")
    reference = AttachmentReference(sha256=digest, length=length, name=file.name, content_type=file.content_type)
    return AttachedFile(reference=reference, content=file.content)


def _status(asked: messages.GetStatus, call: Call) -> messages.GetStatusResponse:
    record = own_exchange(call.bus, call.principal(), asked.message_id)
    return messages.GetStatusResponse(
        message_id=record.message_id,
        state=overall_state(record),
        sender=record.sender,
        service=f"{record.service}/{record.service_version}",
        grade=record.grade.value,
        dossier=record.dossier,
        received_at=record.received_at,
        trace_id=record.traceparent[3:35],
        delivery=tuple(map(_delivery_state, record.deliveries)),
        event=tuple(map(_event, timeline(record))),
    )


def _delivery_state(delivery: DeliveryRecord) -> messages.DeliveryState:
    problem = delivery.problem or {}
    reason = problem.get("reason")
    wording = REASONS.get(str(reason))
    return messages.DeliveryState(
        receiver=delivery.receiver,
        state=delivery.state.told,
        attempts=delivery.attempt,
        due_at=delivery.due_at,
        settled_at=delivery.settled_at,
        reason=reason,
        detail=wording.en.format(**problem.get("facts", {})) if wording else None,
        said=problem.get("said"),
    )


def _event(event: Mapping[str, Any]) -> messages.Event:
    problem = event.get("problem") or {}
    return messages.Event(
        at=from_wire(event["at"]),
        event=event["event"],
        receiver=event.get("receiver"),
        attempt=event.get("attempt"),
        reason=event.get("reason") or problem.get("reason"),
    )


def _receipt(asked: messages.GetReceipt, call: Call) -> messages.GetReceiptResponse:
    record = own_exchange(call.bus, call.principal(), asked.message_id)
    delivered = [(delivery.receiver, delivery.receipt_jws) for delivery in record.deliveries]
    return messages.GetReceiptResponse(
        message_id=record.message_id,
        receipt=record.receipt_jws,
        delivery=tuple(
            messages.DeliveryReceipt(receiver=receiver, receipt=receipt) for receiver, receipt in delivered if receipt
        ),
    )


def _fetch(asked: messages.FetchInbox, call: Call) -> messages.FetchInboxResponse:
    bus = call.bus
    claims = bus.inbox.fetch(call.principal(), wait_seconds=asked.wait, most=asked.max)
    directory = bus.directory.current()
    delivered = []
    for claim in claims:
        parcel = parcel_for(claim, directory, bus.ring)
        delivered.append(
            messages.Delivery(
                delivery_id=f"{claim.delivery_id}.{claim.attempt}",
                message_id=claim.message_id,
                sender=claim.sender,
                receiver=claim.receiver,
                service=f"{claim.service}/{claim.service_version}",
                dossier=claim.dossier,
                content_type=parcel.manifest.content_type,
                payload=parcel.body,
                manifest=parcel.manifest_jws,
                receipt=claim.receipt_jws,
                attempt=claim.attempt,
                lease_until=claim.lease_until,
                attachment=tuple(map(_attachment_facts, parcel.manifest.attachments)),
            )
        )
    return messages.FetchInboxResponse(delivery=tuple(delivered))


def _attachment_facts(reference: AttachmentReference) -> messages.AttachmentFacts:
    return messages.AttachmentFacts(
        name=reference.name,
        content_type=reference.content_type,
        sha256=reference.sha256,
        length=reference.length,
    )


def _acknowledge(asked: messages.AckDelivery, call: Call) -> messages.AckDeliveryResponse:
    call.bus.inbox.acknowledge(call.principal(), asked.delivery_id, _started(call))
    return messages.AckDeliveryResponse(state="delivered")


def _give_back(asked: messages.NackDelivery, call: Call) -> messages.NackDeliveryResponse:
    state = call.bus.inbox.give_back(
        call.principal(), asked.delivery_id, _started(call), said=asked.reason, final=asked.final
    )
    return messages.NackDeliveryResponse(state=state.value)


def _started(call: Call) -> datetime:
    return call.arrival.received_at
