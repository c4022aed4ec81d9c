"""What differs between two payload schemas, field by field, as somebody reads it who must change a program.

Pure. JSON Schemas are walked from their root; an XSD is read as the JSON that the bus makes of it, so two versions may
even be of two languages. Where that cannot be done there is the text of both, line by line (:func:`line_difference`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from registry.contract import Contract, Form
from registry.model import Service
from schemas.problem import Malformed

#: Facts of a field that are told, in this order.
TOLD: Final = (
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems",
    "maxItems", "additionalProperties",
)  # fmt: skip
#: A schema that refers to itself has no end.
_DEEPEST: Final = 12
_MOST_FIELDS: Final = 2000
_MOST_LINES: Final = 500


class Sort(StrEnum):
    """What happened to a field."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One field of a schema."""

    required: bool
    facts: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One field that is not as it was. ``pointer``: ``/ToKhai/HoTen``; items of an array are ``*``."""

    pointer: str
    sort: Sort
    before: FieldShape | None
    after: FieldShape | None
    #: Would what was valid before be refused, or not be understood, after?
    breaks: bool

    def facts(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, before, after of each fact that differs; ``required`` is one of them."""
        old, new = self.before, self.after
        if old is None or new is None:
            return
        if old.required != new.required:
            yield "required", old.required, new.required
        for name in TOLD:
            if old.facts.get(name) != new.facts.get(name):
                yield name, old.facts.get(name), new.facts.get(name)


def schema_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldDifference]:
    """Every field that came, went or changed, in the order of the newer schema, what went at the end."""
    old, new = fields_of(before), fields_of(after)
    found = [
        FieldDifference(
            pointer=pointer,
            sort=Sort.CHANGED if pointer in old else Sort.ADDED,
            before=old.get(pointer),
            after=shape,
            breaks=_narrows(old[pointer], shape) if pointer in old else shape.required,
        )
        for pointer, shape in new.items()
        if pointer not in old or _shape(old[pointer]) != _shape(shape)
    ]
    gone = [pointer for pointer in old if pointer not in new]
    found += [
        FieldDifference(pointer=pointer, sort=Sort.REMOVED, before=old[pointer], after=None, breaks=True)
        for pointer in gone
    ]
    return found


def service_differences(before: Service, after: Service, side: str) -> list[FieldDifference] | None:
    """The same of one side (``request``, ``reply``) of two services; None where a schema cannot be said as JSON."""
    try:
        old: Form = getattr(Contract(before), side)
        new: Form = getattr(Contract(after), side)
        return schema_differences(old.json_schema, new.json_schema)
    except Malformed:
        return None


def line_difference(before: Mapping[str, Any] | str | None, after: Mapping[str, Any] | str | None) -> list[str]:
    """Both texts, line by line, as ``diff -u`` shows them."""
    lines = difflib.unified_diff(schema_text(before).splitlines(), schema_text(after).splitlines(), lineterm="", n=2)
    return [line for _, line in zip(range(_MOST_LINES), lines, strict=False)][2:]


def schema_text(document: Mapping[str, Any] | str | None) -> str:
    """A schema as people read it."""
    if document is None:
        return ""
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, indent=2)


def fields_of(schema: Mapping[str, Any]) -> dict[str, FieldShape]:
    """The fields of a JSON Schema by their place, outer before inner."""
    found: dict[str, FieldShape] = {}
    _walk(schema, schema, "", False, 0, found)
    return found


def sample_of(schema: Mapping[str, Any]) -> Any:
    """A document of invented values that has every required field and, of optional ones, those near the root."""
    return _sample(schema, schema, 0)


def _walk(
    root: Mapping[str, Any], schema: Any, pointer: str, required: bool, depth: int, found: dict[str, FieldShape]
) -> None:
    shape = _resolved(root, schema)
    if depth > _DEEPEST or len(found) >= _MOST_FIELDS:
        return
    title = str(shape.get("title") or shape.get("description") or "")
    found[pointer] = FieldShape(
        required=required, facts={name: shape[name] for name in TOLD if name in shape}, title=title[:200]
    )
    needed = shape.get("required", ())
    for name, inner in _properties(root, shape).items():
        _walk(root, inner, f"{pointer}/{name}", name in needed, depth + 1, found)
    items = shape.get("items")
    if isinstance(items, Mapping):
        _walk(root, items, f"{pointer}/*", False, depth + 1, found)


def _resolved(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """The schema itself, behind references within its document."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for part in reference[1:].split("/")[1:]:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**target, **beside} if isinstance(target, Mapping) else beside
    return schema if isinstance(schema, Mapping) else {}


def _properties(root: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in (shape, *(_resolved(root, each) for each in shape.get("allOf", ()) if isinstance(each, Mapping))):
        inner = part.get("properties")
        if isinstance(inner, Mapping):
            found.update({str(name): value for name, value in inner.items()})
    return found


def _shape(field: FieldShape) -> tuple[bool, str]:
    """What counts as the same: a title may be worded anew."""
    return field.required, json.dumps(field.facts, sort_keys=True, ensure_ascii=False)


#: Facts where more means that less is taken, and the other way round.
_FLOORS: Final = ("minLength", "minimum", "minItems")
_CEILINGS: Final = ("maxLength", "maximum", "maxItems")


def _narrows(before: FieldShape, after: FieldShape) -> bool:
    """Is something refused after that was taken before? In doubt, yes."""
    old, new = before.facts, after.facts
    if after.required and not before.required:
        return True
    if not _as_set(old.get("type")) <= _as_set(new.get("type")):
        return True
    if "enum" in new and not ("enum" in old and all(value in new["enum"] for value in old["enum"])):
        return True
    if any(name in new and new[name] != old.get(name) for name in ("const", "format", "pattern")):
        return True
    if any(name in new and (name not in old or new[name] > old[name]) for name in _FLOORS):
        return True
    if any(name in new and (name not in old or new[name] < old[name]) for name in _CEILINGS):
        return True
    return new.get("additionalProperties") is False and old.get("additionalProperties") is not False


_ANY: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


def _as_set(types: Any) -> frozenset[str]:
    if types is None:
        return _ANY
    found = frozenset([types] if isinstance(types, str) else map(str, types))
    return found | {"integer"} if "number" in found else found


_SAMPLES: Final[dict[str, Any]] = {
    "string": "chữ", "integer": 1, "number": 1.5, "boolean": True, "null": None,
}  # fmt: skip
_FORMATS: Final = {
    "date": "2026-11-22", "date-time": "2026-11-22T08:05:00+07:00", "time": "08:05:00+07:00", "email": "ten@example.vn",
    "uri": "https://example.vn/", "uuid": "01938c00-0000-7000-8000-000000000001",
}  # fmt: skip


def _sample(root: Mapping[str, Any], schema: Any, depth: int) -> Any:
    shape = _resolved(root, schema)
    for known in ("const", "default"):
        if known in shape:
            return shape[known]
    for several in ("examples", "enum"):
        if isinstance(shape.get(several), list) and shape[several]:
            return shape[several][0]
    for choice in ("oneOf", "anyOf"):
        if isinstance(shape.get(choice), list) and shape[choice] and depth < _DEEPEST:
            return _sample(root, shape[choice][0], depth + 1)
    kinds = shape.get("type")
    kind = kinds if isinstance(kinds, str) else kinds[0] if kinds else "object" if "properties" in shape else "string"
    if kind == "object":
        needed = shape.get("required", ())
        inner = _properties(root, shape)
        return {name: _sample(root, inner[name], depth + 1) for name in inner if name in needed or depth < 2}
    if kind == "array":
        return [_sample(root, shape.get("items", {}), depth + 1)] if depth < _DEEPEST else []
    if kind == "string":
        return _text(shape)
    if kind in ("integer", "number"):
        return shape.get("minimum", _SAMPLES[kind])
    return _SAMPLES.get(str(kind))


def _text(shape: Mapping[str, Any]) -> str:
    made = _FORMATS.get(str(shape.get("format")), "chữ")
    least, most = shape.get("minLength", 0), shape.get("maxLength", 10_000)
    if len(made) < least:
        made = (made * least)[:least]
    return made[:most] if "format" not in shape else made
