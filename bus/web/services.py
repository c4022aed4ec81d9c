"""Each data service under its own addresses: documents to make a client from, and a SOAP address to call it.

``GET /v1/services/{code}/openapi.json`` and ``GET /soap/services/{code}?wsdl`` describe the same service, whichever of
the two its provider speaks. A SOAP consumer's payload is the only child of the Body; its bytes, for manifest and
evidence, are its exclusive canonical form, which every toolkit can produce. From there on it is a message like another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, request
from lxml import etree

from bus.assembly import Bus
from bus.intake import Acceptance
from bus.spans import arriving
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import Arrival, arrival, identified_caller
from bus.web.service_documents import openapi_of, wsdl_of
from bus.web.soap import RECEIPT_ELEMENT, facts_of, receive_soap, soap_answer, soap_fault
from bus.web.submission import Environ, Taken
from bus.web.visibility import seen_service, uses
from registry.contract import Kind
from registry.model import Pattern, Service
from schemas.identifiers import ServiceCode
from schemas.message import Envelope
from schemas.moment import to_wire
from schemas.problem import Malformed, NotFound, UnknownService
from schemas.soap import EXCHANGE_NS, SECURITY_BLOCK, SoapEnvelope, SoapVersion, payload_bytes, version_of

SERVICE_PATH: Final = "/soap/services/"
_VERSION = Parameter(
    name="version", place="query", meaning="Default: the latest that is open", schema={"type": "integer", "minimum": 1}
)
_FAULT = Answer(meaning="A fault; its detail has the members of a problem", content_type="text/xml")


def service_surface(bus: Bus) -> Blueprint:
    """The routes of the services."""
    routes = Blueprint("services", __name__)
    calls = ServiceCalls(bus)

    @routes.get("/v1/services/<code>/openapi.json")
    @describe(
        "Services",
        "A service as OpenAPI",
        access="token",
        parameters=(_VERSION,),
        answers={200: Answer(meaning="OpenAPI 3.1: how to call it over REST", schema={"type": "object"})},
        problems=(400, 401, 404),
    )
    def openapi(code: str) -> Response:
        """For those who may use, take or own the service."""
        service = _service_to_describe(bus, code, request.args.get("version", ""))
        contract = bus.directory.current().contract_for(service)
        return json_response(openapi_of(service, contract, bus.settings.public_url))

    @routes.get("/soap/services/<code>", endpoint="wsdl_latest", defaults={"version": ""})
    @routes.get("/soap/services/<code>/<version>")
    @describe(
        "Services",
        "A service as WSDL",
        access="token",
        answers={200: Answer(meaning="WSDL 1.1, at `?wsdl`: how to call it over SOAP", content_type="text/xml")},
        problems=(400, 401, 404),
    )
    def wsdl(code: str, version: str) -> Response:
        """For those who may use, take or own the service. SOAP 1.1 and 1.2, document/literal."""
        if "wsdl" not in {name.lower() for name in request.args}:
            raise NotFound("page-unknown")
        service = _service_to_describe(bus, code, version)
        document = wsdl_of(service, bus.directory.current().contract_for(service), bus.settings.public_url)
        return Response(document, content_type="text/xml; charset=utf-8")

    @routes.post("/soap/services/<code>", endpoint="call_latest", defaults={"version": ""})
    @routes.post("/soap/services/<code>/<version>")
    @describe(
        "Services",
        "Call a service over SOAP",
        access="message",
        body={version.media_type: {"description": "An envelope as the WSDL describes it"} for version in SoapVersion},
        answers={
            200: Answer(meaning="Request-reply: the provider's reply. One-way: the receipt", content_type="text/xml"),
            500: _FAULT,
        },
    )
    def call(code: str, version: str) -> Response:
        """The payload is the child of the Body; the header block Manifest, a bearer token with the block Exchange, or
        a WS-Security signature over both says who sends it."""
        arrived = arrival()
        with arriving(arrived.traceparent, arrived.caller_span, "/soap/services"):
            status, headers, body = calls.take(request.environ, arrived, code, version)
        return Response(body, status, headers)

    return routes


@dataclass(frozen=True, slots=True)
class ServiceCalls:
    """Takes one SOAP call of a registered service at a time. Safe to share between threads."""

    bus: Bus

    def take(self, environ: Environ, arrival: Arrival, code: str, version: str) -> Taken:
        """The answer to a call: status, headers, body. Problems become faults; never raises."""
        soap_version = version_of(environ.get("CONTENT_TYPE", ""))
        try:
            soap = receive_soap(self.bus, environ, arrival)  # 1
            acceptance = self.bus.intake.accept(_envelope(soap, environ, arrival, code, version))  # 2 to 5
            if acceptance.permission.service.pattern is Pattern.ONE_WAY:
                return soap_answer(soap.version, _receipt(acceptance))
            reply = self.bus.calls.answer(acceptance)  # 7 and 8, in the caller's own time
            return soap_answer(soap.version, reply.body, manifest_jws=reply.manifest_jws)
        except Exception as error:
            return soap_fault(self.bus, soap_version, error, environ, arrival)


def _envelope(soap: SoapEnvelope, environ: Environ, arrival: Arrival, code: str, version: str) -> Envelope:
    """The message of a call, as it would come over REST with the canonical form of the payload as its body."""
    facts = dict(facts_of(soap, environ))
    named = f"{code}/{version}" if version else code
    by_signature = SECURITY_BLOCK in soap.blocks or not arrival.client_certificate
    if by_signature and not facts.keys() & {"lgsp-manifest", "authorization"} and "lgsp-service" not in facts:
        # A signature that names no service would be good at every address that takes such a payload.
        raise Malformed("soap-block-invalid", block="Exchange", part="Service")
    if facts.setdefault("lgsp-service", named).partition("/")[0] != code:
        raise Malformed("soap-service-differs")
    return Envelope(
        body=payload_bytes(soap.payload),
        content_type=Kind.XML.value,
        headers=facts,
        received_at=arrival.received_at,
        traceparent=arrival.traceparent,
        addressed_service=named,
        soap=soap,
        client_certificate=arrival.client_certificate,
    )


def _receipt(acceptance: Acceptance) -> bytes:
    """The receipt of a one-way message as an element."""
    root = etree.Element(RECEIPT_ELEMENT, nsmap={None: EXCHANGE_NS})  # type: ignore[dict-item]  # the stubs know no default namespace
    receipt = acceptance.receipt
    told = [
        ("messageId", receipt.message_id),
        ("state", receipt.state),
        ("receivedAt", to_wire(receipt.received_at)),
        *(("receiver", receiver) for receiver in receipt.receivers),
        ("leaf", receipt.leaf),
        ("receipt", receipt.receipt),
        ("repeated", "true" if acceptance.repeated else "false"),
    ]
    for name, text in told:
        etree.SubElement(root, f"{{{EXCHANGE_NS}}}{name}").text = text
    return etree.tostring(root)


def _service_to_describe(bus: Bus, code: str, version: str) -> Service:
    """The service, if the caller may know it. Raises NotIdentified, NotFound, UnknownService, Malformed."""
    principal = identified_caller(bus)
    if version and not (version.isdecimal() and len(version) <= 4):
        raise Malformed("query-invalid", name="version")
    number = int(version) if version else bus.directory.current().latest_version(ServiceCode(code))
    if number is None:
        raise UnknownService("no-open-version")
    service = seen_service(bus, principal, code, number)
    if service is None or not uses(bus, principal, service):
        raise NotFound("registry-entry-unknown")
    return service
