"""Schemas of OpenAPI 3.0 and 3.1 → JSON Schema 2020-12, complete in one document.

What is reached by ``$ref`` stands in ``$defs`` and is referred to there, so schemas that contain themselves stay so.
OpenAPI 3.0 is not JSON Schema: ``nullable``, boolean ``exclusiveMinimum`` and members beside ``$ref`` mean something
else there. What only decorates (``example``, ``xml``, ``discriminator``, ``x-…``) is left out. ``readOnly`` members are
not part of a request and ``writeOnly`` members not of a reply (OpenAPI 3.1, 4.8.24), so each gets its own document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final
from urllib.parse import unquote

from connectors.importing.sources import Documents
from schemas.problem import Malformed
from schemas.reasons import Wording
from schemas.validation import compile_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Formats of JSON Schema 2020-12, which are checked; others say nothing to us.
_FORMATS: Final = frozenset({
    "date", "date-time", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4",
    "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer",
    "relative-json-pointer", "regex",
})  # fmt: skip
_INT32: Final = {"minimum": -(2**31), "maximum": 2**31 - 1}
_ONE: Final = frozenset({
    "additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_PLAIN: Final = frozenset({
    "type", "enum", "const", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains",
    "minProperties", "maxProperties", "required", "dependentRequired", "title", "description",
    "contentEncoding",
})  # fmt: skip
#: Would move what the references around them mean.
_NAMING: Final = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor"})
#: Apply to the same value as the schema that holds them.
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf")
_IN_PLACE_ONE: Final = ("not", "if", "then", "else")
MAX_DEFINITIONS: Final = 2000
_PATTERN_LEFT_OUT: Final = Wording(
    "a pattern with look-around or back-references is left out: the provider checks it alone",
    "bỏ một mẫu ký tự dùng phép nhìn trước, nhìn sau hoặc tham chiếu ngược: chỉ nhà cung cấp kiểm tra",
)


class Direction(Enum):
    """Whose message a schema describes; the value is the flag of members that are not part of it."""

    REQUEST = "readOnly"
    REPLY = "writeOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value and the place of the document that holds it, by which its references are resolved."""

    value: Any
    place: str

    def at(self, value: Any) -> Node:
        """Another value of the same document."""
        return Node(value=value, place=self.place)


class Pointers:
    """The documents of a description, parsed once, and what references in them lead to. Used by one thread."""

    def __init__(self, documents: Documents, parse: Callable[[bytes], Any]) -> None:
        self._documents = documents
        self._parse = parse
        self._parsed: dict[str, Any] = {}
        value = self._document(documents.first)
        if not isinstance(value, Mapping):
            raise Malformed("import-not-openapi")
        self.root: Mapping[str, Any] = value

    def address(self, node: Node) -> tuple[str, str] | None:
        """Place and pointer that the node's ``$ref`` names; None when it has none."""
        reference = node.value.get("$ref") if isinstance(node.value, Mapping) else None
        if reference is None:
            return None
        if not isinstance(reference, str):
            raise Malformed("import-openapi-reference")
        path, _, pointer = reference.partition("#")
        return self._documents.locate(path, node.place), unquote(pointer)

    def resolve(self, place: str, pointer: str) -> Node:
        """What stands there. Raises Malformed(import-openapi-reference), reasons of ``Documents``."""
        value = self._document(place)
        if pointer and not pointer.startswith("/"):
            raise Malformed("import-openapi-reference")
        for raw in pointer.split("/")[1:]:
            step = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                raise Malformed("import-openapi-reference")
        return Node(value=value, place=place)

    def follow(self, node: Node) -> Node:
        """The object that the node is or refers to, through references to references."""
        seen: set[tuple[str, str]] = set()
        while (address := self.address(node)) is not None:
            if address in seen:
                raise Malformed("import-openapi-loop")
            seen.add(address)
            node = self.resolve(*address)
        if not isinstance(node.value, Mapping):
            raise Malformed("import-openapi-reference")
        return node

    def _document(self, place: str) -> Any:
        if place not in self._parsed:
            self._parsed[place] = self._parse(self._documents.read(place))
        return self._parsed[place]


class SchemaWriter:
    """Writes one JSON Schema document. ``notes`` say what could not be kept."""

    def __init__(self, pointers: Pointers, direction: Direction, *, is_3_0: bool) -> None:
        self._pointers = pointers
        self._direction = direction
        self._is_3_0 = is_3_0
        self._names: dict[tuple[str, str], str] = {}
        self._definitions: dict[str, Any] = {}
        #: Met and not yet converted. One after the other: a chain of references is longer than Python's stack.
        self._waiting: list[tuple[str, Node]] = []
        self.notes: list[Wording] = []

    def document(self, schema: Node) -> dict[str, Any]:
        """The whole document of one schema."""
        converted = self.converted(schema)
        return self.complete(converted if isinstance(converted, dict) else {"not": {}} if converted is False else {})

    def complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema of converted ones with the definitions that they refer to. Raises Malformed for one that loops."""
        while self._waiting:
            name, node = self._waiting.pop(0)
            self._definitions[name] = self.converted(node)
        whole = {"$schema": DIALECT, **schema}
        if self._definitions:
            whole["$defs"] = dict(self._definitions)
        _refuse_loops(self._definitions)
        return whole

    def converted(self, schema: Node) -> Any:
        """The schema in JSON Schema 2020-12. Raises Malformed."""
        value = schema.value
        if isinstance(value, bool):
            return value
        if not isinstance(value, Mapping):
            raise Malformed("import-openapi-schema")
        if _NAMING & value.keys():
            raise Malformed("import-openapi-reference")
        if value.get("format") == "binary" or value.get("type") == "file":
            raise Malformed("import-openapi-file")
        if "$ref" in value:
            reference = {"$ref": f"#/$defs/{self._defined(schema)}"}
            if self._is_3_0 or len(value) == 1:
                return reference
            return {**reference, **dict(self._keywords(schema))}
        made = dict(self._keywords(schema))
        if self._is_3_0:
            self._translate_3_0(value, made)
        return made

    def _defined(self, schema: Node) -> str:
        """The name under ``$defs`` of what the schema refers to."""
        address = self._pointers.address(schema)
        if address is None:
            raise Malformed("import-openapi-reference")
        if address in self._names:
            return self._names[address]
        if len(self._names) >= MAX_DEFINITIONS:
            raise Malformed("schema-too-large", max_bytes=MAX_DEFINITIONS)
        name = self._names[address] = self._free_name(address[1])
        self._waiting.append((name, self._pointers.resolve(*address)))
        return name

    def _free_name(self, pointer: str) -> str:
        words = re.sub(r"[^A-Za-z0-9_.-]+", "_", pointer.rpartition("/")[2]).strip("_") or "schema"
        taken = set(self._names.values())
        number = 2
        name = words
        while name in taken:
            name, number = f"{words}-{number}", number + 1
        return name

    def _keywords(self, schema: Node) -> Iterator[tuple[str, Any]]:
        value = schema.value
        hidden = self._hidden(schema)
        for keyword, content in value.items():
            if keyword in _ONE:
                yield keyword, self.converted(schema.at(content))
            elif keyword in _LISTS and isinstance(content, list):
                yield keyword, [self.converted(schema.at(part)) for part in content]
            elif keyword in _MAPS and isinstance(content, Mapping):
                members = {
                    name: part for name, part in content.items() if keyword != "properties" or name not in hidden
                }
                yield keyword, {name: self.converted(schema.at(part)) for name, part in members.items()}
            elif keyword == "required":
                # Some write `required: true` at a property, which says nothing.
                names = [name for name in content if name not in hidden] if isinstance(content, list) else []
                if names:
                    yield keyword, names
            elif keyword == "pattern":
                yield from self._pattern(content)
            elif keyword == "format":
                yield from self._format(content, value)
            elif keyword in _PLAIN:
                yield keyword, content

    def _hidden(self, schema: Node) -> frozenset[str]:
        """Members that are not part of this direction's messages."""
        properties = schema.value.get("properties")
        flag = self._direction.value
        return frozenset(
            name
            for name, part in (properties.items() if isinstance(properties, Mapping) else ())
            if isinstance(part, Mapping) and part.get(flag) is True
        )

    def _pattern(self, pattern: Any) -> Iterator[tuple[str, Any]]:
        """A pattern that runs in linear time; one that cannot (look-around) is left to the provider."""
        try:
            compile_schema({"$schema": DIALECT, "pattern": pattern})
        except Malformed:
            self.notes.append(_PATTERN_LEFT_OUT)
            return
        yield "pattern", pattern

    def _format(self, name: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        if name in _FORMATS:
            yield "format", name
        elif name == "byte":
            yield "contentEncoding", "base64"
        elif name == "int32":
            yield from ((bound, limit) for bound, limit in _INT32.items() if bound not in schema)

    def _translate_3_0(self, value: Mapping[str, Any], made: dict[str, Any]) -> None:
        """What OpenAPI 3.0 means in other words."""
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(made.get(exclusive), bool):
                is_exclusive = made.pop(exclusive)
                if is_exclusive and bound in made:
                    made[exclusive] = made.pop(bound)
        if value.get("nullable") is not True:
            return
        if _LISTS & made.keys() or "not" in made:
            inner = {name: made.pop(name) for name in list(made) if name not in ("title", "description")}
            made["anyOf"] = [inner, {"type": "null"}]
            return
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list) and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]


def _refuse_loops(definitions: Mapping[str, Any]) -> None:
    """A schema that applies itself to the same value would never come to an end."""
    try:
        TopologicalSorter({name: _applied(schema) for name, schema in definitions.items()}).prepare()
    except CycleError:
        raise Malformed("import-openapi-loop") from None


def _applied(schema: Any) -> list[str]:
    """Definitions that a schema applies to its own value."""
    found: list[str] = []
    rest = [schema]
    while rest:
        node = rest.pop()
        if not isinstance(node, dict):
            continue
        if "$ref" in node:
            found.append(node["$ref"].removeprefix("#/$defs/"))
        rest += [part for keyword in _IN_PLACE for part in node.get(keyword, ())]
        rest += [node[keyword] for keyword in _IN_PLACE_ONE if keyword in node]
        rest += node["dependentSchemas"].values() if isinstance(node.get("dependentSchemas"), dict) else []
    return found
