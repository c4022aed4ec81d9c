"""Shape → JSON Schema 2020-12, for a payload whose own schema is an XSD.

It says all that both languages can say. What only the XSD knows (patterns, calendars, rules of a choice) is checked in
XML, after the translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from schemas.bridge.lexical import LEXICAL, SPECIAL_DOUBLES
from schemas.bridge.shape import (
    VARIANT_KINDS,
    Array,
    Document,
    Field,
    Items,
    Kind,
    Place,
    Record,
    Reference,
    Scalar,
    Shape,
    local_name,
)

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "string",
    Kind.BOOLEAN: "boolean",
    Kind.INTEGER: "integer",
    Kind.DECIMAL: "number",
    Kind.NUMBER: "number",
}


def json_schema_of(document: Document) -> Mapping[str, Any]:
    """The JSON Schema of a shape that was made from an XSD."""
    root = _of_field(document.root)
    definitions = {name: _of_shape(shape) for name, shape in document.definitions.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": local_name(document.root.xml),
        **root,
        **({"$defs": definitions} if definitions else {}),
    }


def _of_field(field: Field) -> dict[str, Any]:
    schema = _of_shape(field.shape)
    if field.is_nillable:
        schema = _or_null(schema)
    if field.place is Place.CHOICES:
        schema |= {"minProperties": 1, "maxProperties": 1}
    if field.is_repeated:
        schema = {"type": "array", "items": schema, **field.limits}
    return {**schema, "description": field.description} if field.description else schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _of_shape(shape: Shape) -> dict[str, Any]:
    match shape:
        case Scalar():
            return _of_scalar(shape)
        case Items(item=item, limits=limits):
            return {"type": "array", "items": _of_scalar(item), **limits}
        case Array(item=item, limits=limits):
            return {"type": "array", "items": _of_field(item), **limits}
        case Reference(name=name):
            return {"$ref": f"#/$defs/{quote(name)}"}
        case Record():
            return _of_record(shape)


def _of_record(record: Record) -> dict[str, Any]:
    required = [field.json for field in record.fields if field.is_required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.json: _of_field(field) for field in record.fields},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    return {**schema, "description": record.description} if record.description else schema


def _of_scalar(scalar: Scalar) -> dict[str, Any]:
    limits = dict(scalar.limits)
    match scalar.kind:
        case Kind.WIDE:
            return {"type": ["integer", "string"], "pattern": "^-?[0-9]{19,}$", **limits}
        case Kind.DOUBLE:
            return {"anyOf": [{"type": "number"}, {"enum": list(SPECIAL_DOUBLES)}]}
        case Kind.BASE64:
            return {"type": "string", "contentEncoding": "base64"}
        case Kind.VARIANT:
            return {"type": list(VARIANT_KINDS)}
        case Kind.JSON:
            return {}
        case _ if scalar.xsd in LEXICAL:
            return {"type": "string", "pattern": f"^{LEXICAL[scalar.xsd]}$", **limits}
        case kind:
            return {"type": _TYPES[kind], **limits}
