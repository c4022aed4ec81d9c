"""`/openapi.json`: the API as a document, made from the routes themselves; what is served is what is described."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, current_app
from werkzeug.routing import Rule

from bus.assembly import Bus
from bus.web.described import Access, Answer, Operation, Parameter, describe
from schemas.bundled import document

#: Of the contract under ``/v1``, not of the program.
API_VERSION = "1.0.0"
_PLACE = re.compile(r"<(?:([a-z]+):)?([a-z_0-9]+)>")
_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    "anyone": [],
    "token": [{"bearer": []}],
    "message": [{"manifest": []}, {"bearer": []}],
}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "From `POST /v1/oauth/token`"},
    "manifest": {
        "type": "apiKey",
        "in": "header",
        "name": "Lgsp-Manifest",
        "description": "The sender's manifest of this very message, signed with its registered key",
    },
}
#: Every error of every operation has this body; its meaning by status.
_PROBLEM_MEANINGS = {
    400: "The request cannot be read",
    401: "Who asks is not proven",
    403: "Not permitted",
    404: "Not there, or not yours to see",
    409: "In conflict with what is recorded",
    413: "Too large",
    422: "The payload breaks its schema, or an attachment is missing",
    429: "Quota used up; see `Retry-After`",
    502: "The receiver refused or its answer is invalid",
    503: "The receiver cannot serve now; see `Retry-After`",
    504: "The receiver did not answer in time",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def openapi_surface(bus: Bus) -> Blueprint:
    """The route of the document."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    @describe(
        "Documentation",
        "This document",
        access="anyone",
        answers={200: Answer(meaning="OpenAPI 3.1", schema={"type": "object"})},
    )
    def openapi() -> Response:
        """Made from the routes that this process serves."""
        return Response(
            orjson.dumps(openapi_document(current_app, bus.settings.public_url)), content_type="application/json"
        )

    return routes


def openapi_document(app: Flask, public_url: str) -> dict[str, Any]:
    """The document of all described routes of ``app``; others are left out (a test finds them)."""
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in sorted(described_rules(app), key=lambda pair: pair[0].rule):
        path = _PLACE.sub(r"{\2}", rule.rule)
        paths.setdefault(path, {})[_method(rule)] = _operation(rule, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lgsp-bus",
            "version": API_VERSION,
            "summary": "An inter-agency data bus: signed, validated, traced and provable exchange.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # "Here" first: the page may try only what its own origin serves, and that may be the admin side.
        "servers": [{"url": "/"}, {"url": public_url}],
        "tags": [{"name": name} for name in dict.fromkeys(op.tag for _, op in described_rules(app))],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY_SCHEMES,
            "schemas": {name: component(name, document(name.lower())) for name in ("Manifest", "Receipt", "Problem")},
        },
    }


def described_rules(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    """The routes that say what they are."""
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is not None:
            yield rule, operation


def _method(rule: Rule) -> str:
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method.lower()


def _operation(rule: Rule, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": _SECURITY[operation.access],
        "parameters": [*_path_parameters(rule), *map(described_parameter, operation.parameters)],
        "responses": {str(status): _response(answer) for status, answer in operation.answers.items()}
        | {str(status): described_problem(status) for status in operation.problems},
    }
    described["responses"]["default"] = described_problem(None)
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {media: {"schema": dict(schema)} for media, schema in operation.body.items()},
        }
    return described


def _path_parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for converter, name in _PLACE.findall(rule.rule):
        schema = {"type": "integer", "minimum": 0} if converter == "int" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def described_parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
    }


def _response(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.meaning}
    if answer.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in answer.headers.items()
        }
    if answer.schema is not None or answer.content_type != "application/json":
        described["content"] = {answer.content_type: {"schema": dict(answer.schema)} if answer.schema else {}}
    return described


def described_problem(status: int | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": _PROBLEM_MEANINGS[status] if status else "Any other problem",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        described["headers"] = _RETRY_AFTER
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return described


def component(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as a component: without its own base URI, so that its references work from here."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _moved_reference(name, item) if key == "$ref" else moved(item) for key, item in value.items()}
        return [moved(item) for item in value] if isinstance(value, list) else value

    described: dict[str, Any] = moved({key: value for key, value in schema.items() if key not in ("$id", "$schema")})
    return described


def _moved_reference(name: str, reference: str) -> str:
    return reference.replace("#/", f"#/components/schemas/{name}/", 1)
