"""What a developer makes a client from: any registered service as OpenAPI for REST and as WSDL for SOAP.

Both are written from the contract of the service. Which of the two its provider speaks cannot be seen in them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bus.web.described import Parameter
from bus.web.exchange import MESSAGE_HEADERS
from bus.web.openapi import SECURITY_SCHEMES, component, described_parameter, described_problem
from bus.web.soap import EXCHANGE_TYPES, PROBLEM_ELEMENT, RECEIPT_ELEMENT
from registry.contract import Contract, Form, Kind, operation_name
from registry.model import Pattern, Service
from schemas.bundled import document
from schemas.soap import EXCHANGE_BLOCK, MANIFEST_BLOCK
from schemas.wsdl import WsdlOperation, write_wsdl


def openapi_of(service: Service, contract: Contract, public_url: str) -> dict[str, Any]:
    """OpenAPI 3.1 of one service: ``POST /v1/exchange`` with what this service wants to be told.

    Raises Malformed(schema-not-bridgeable) when its XML cannot be said in JSON.
    """
    components = {name: component(name, document(name.lower())) for name in ("Manifest", "Receipt", "Problem")}
    components["Request"] = component("Request", contract.request.json_schema)
    answers: dict[str, Any] = {}
    if service.pattern is Pattern.REQUEST_REPLY:
        components["Reply"] = component("Reply", contract.reply.json_schema)
        answers["200"] = {"description": "The provider's reply", "content": _content(contract.reply, "Reply")}
    else:
        receipt = {"application/json": {"schema": _reference("Receipt")}}
        answers["202"] = {"description": "Recorded for good; the receipt proves it", "content": receipt}
    submit = {
        "operationId": operation_name(service),
        "summary": service.name,
        "deprecated": service.sunset is not None,
        "security": [{"manifest": []}, {"bearer": []}],
        "parameters": [described_parameter(_told_of(service, header)) for header in MESSAGE_HEADERS],
        "requestBody": {"required": True, "content": _content(contract.request, "Request")},
        "responses": {**answers, "default": described_problem(None)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": str(service.version), "description": _about(service)},
        "servers": [{"url": public_url}],
        "paths": {"/v1/exchange": {"post": submit}},
        "components": {"securitySchemes": SECURITY_SCHEMES, "schemas": components},
    }


def wsdl_of(service: Service, contract: Contract, public_url: str) -> bytes:
    """WSDL 1.1 of one service, for SOAP 1.1 and 1.2. Raises Malformed(schema-not-bridgeable)."""
    request = contract.request.bridge()
    reply = contract.reply.bridge() if service.pattern is Pattern.REQUEST_REPLY else None
    operation = WsdlOperation(
        name=request.element.rpartition("}")[2],
        request=request.element,
        reply=reply.element if reply else RECEIPT_ELEMENT,
        blocks=(EXCHANGE_BLOCK, MANIFEST_BLOCK),
        documentation=service.name,
    )
    types = [request.xsd, *([reply.xsd] if reply else []), EXCHANGE_TYPES]
    return write_wsdl(
        name=operation_name(service),
        namespace=f"urn:lgsp:service:{service.code}:{service.version}",
        types=list(dict.fromkeys(types)),
        operations=[operation],
        address=f"{public_url}/soap/services/{service.code}/{service.version}",
        fault=PROBLEM_ELEMENT,
        documentation=_about(service),
    )


def _content(form: Form, name: str) -> dict[str, Any]:
    """The payload by media type: JSON, and XML where there is a schema to translate by."""
    content: dict[str, Any] = {Kind.JSON.value: {"schema": _reference(name)}}
    if form.is_bridgeable:
        root = f"XML with the root {form.bridge().element}; the service's WSDL has its schema"
        content[Kind.XML.value] = {"schema": {"type": "string", "description": root}}
    return content


def _about(service: Service) -> str:
    pattern = "one-way, answered by a receipt" if service.pattern is Pattern.ONE_WAY else "request-reply"
    return f"{service.key} of {service.owner}: {pattern}. Evidence grade: {service.grade.value}."


def _told_of(service: Service, header: Parameter) -> Parameter:
    """A header of the exchange as this service wants it."""
    if header.name == "Lgsp-Service":
        return replace(header, schema={"type": "string", "const": service.key})
    return header


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
