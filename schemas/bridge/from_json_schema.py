"""JSON Schema 2020-12 → shape.

A shape is found by a small algebra. *Any* is the shape of a schema that says nothing about form. ``allOf`` and the
keywords beside it meet (what both allow: the more definite shape, records with the fields of both); ``oneOf`` and
``anyOf`` join (what either allows: records with the fields of both, scalars of two types as a variant, else any).
Rules that only choose among values (``if``, ``not``, ``dependentRequired``, patterns, counts) leave the shape as it is:
the JSON Schema itself checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

from schemas.bridge.names import xml_name
from schemas.bridge.shape import (
    ANY,
    MAX_PARTS,
    REST_ELEMENT,
    VARIANT_KINDS,
    Array,
    Document,
    Field,
    Kind,
    Place,
    Record,
    Reference,
    Scalar,
    Shape,
    namespace_of,
    not_bridgeable,
)

_TEXT: Final = Scalar(kind=Kind.TEXT)
_SCALARS: Final[Mapping[str, Scalar]] = {
    "string": _TEXT,
    "boolean": Scalar(kind=Kind.BOOLEAN, xsd="boolean"),
    "integer": Scalar(kind=Kind.INTEGER, xsd="long"),
    "number": Scalar(kind=Kind.NUMBER, xsd="double"),
}
_FORMATS: Final = {"date": "date", "date-time": "dateTime", "time": "time"}
_VARIANT: Final = Scalar(kind=Kind.VARIANT)
#: What there is in neither XML Schema nor a name.
_REFUSED: Final = {
    "patternProperties": "pattern-properties",
    "prefixItems": "tuple",
    "$dynamicRef": "dynamic-reference",
}
#: Words beside a ``$ref`` that say nothing about form.
_WORDS: Final = frozenset(
    {"title", "description", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
_ITEM: Final = "item"


def shape_of_json_schema(schema: Mapping[str, Any], element: str) -> Document:
    """The shape of a JSON Schema that :func:`schemas.validation.compile_schema` has taken.

    Raises Malformed ``schema-not-bridgeable``, whose place is a JSON Pointer into the schema.
    """
    reader = _Reader(schema, namespace_of(element))
    try:
        root = reader.field("", element, schema, "")
    except RecursionError:
        raise not_bridgeable("too-deep", "") from None
    return Document(root=replace(root, is_required=True), definitions=dict(reader.definitions))


class _Reader:
    def __init__(self, document: Mapping[str, Any], namespace: str) -> None:
        self._document = document
        self._namespace = namespace
        self._names: dict[str, str] = {}
        self._unfinished: set[str] = set()
        self._nullable: dict[str, bool] = {}
        self._parts = 0
        self.definitions: dict[str, Shape] = {}

    def field(self, name: str, xml: str, schema: Any, place: str) -> Field:
        """The field for a member (or item, or root) with that schema."""
        shape = self.shape(schema, place)
        description = str(schema.get("description", schema.get("title", ""))) if isinstance(schema, dict) else ""
        return Field(
            json=name,
            xml=xml,
            shape=shape,
            is_nillable=shape != ANY and self._allows_null(schema),
            description=" ".join(description.split())[:500],
        )

    def shape(self, schema: Any, place: str) -> Shape:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise not_bridgeable("too-large", place)
        if not isinstance(schema, dict):  # True or False; what is never there needs no form
            return ANY
        for keyword, why in _REFUSED.items():
            if keyword in schema:
                raise not_bridgeable(why, f"{place}/{keyword}")
        if "$ref" in schema:
            return self._referred(schema, place)
        shape = self._own(schema, place)
        for n, part in enumerate(schema.get("allOf", ())):
            shape = _meet(shape, self._inlined(part, f"{place}/allOf/{n}"))
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                shape = _meet(shape, self._alternatives(schema[keyword], f"{place}/{keyword}"))
        return shape

    # -- references

    def _referred(self, schema: Mapping[str, Any], place: str) -> Shape:
        beside = {name: value for name, value in schema.items() if name not in _WORDS and name not in ("$ref", "$defs")}
        if beside.keys() <= {"$schema", "$id"}:
            return self._reference(schema["$ref"], place)
        rest = self.shape(beside, place)
        if rest == ANY:
            return self._reference(schema["$ref"], place)
        return _meet(rest, self._inlined({"$ref": schema["$ref"]}, place))

    def _reference(self, pointer: str, place: str) -> Reference:
        pointer, target = self._resolve(pointer, place)
        if pointer not in self._names:
            name = self._names[pointer] = self._free_name(xml_name(pointer.rpartition("/")[2].strip("#") or "root"))
            self.definitions[name] = ANY  # holds the place while it refers to itself
            self._unfinished.add(name)
            self.definitions[name] = self.shape(target, pointer[1:])
            self._unfinished.remove(name)
        return Reference(name=self._names[pointer])

    def _resolve(self, pointer: str, place: str) -> tuple[str, Any]:
        """Where a reference ends, through references that are nothing more."""
        seen = {pointer}
        while True:
            target = self._at(pointer, place)
            following = target.get("$ref") if isinstance(target, dict) else None
            if following is None or target.keys() - _WORDS - {"$ref"}:
                return unquote(pointer), target
            if following in seen:
                raise not_bridgeable("endless-reference", place)
            seen.add(following)
            pointer = following

    def _at(self, pointer: str, place: str) -> Any:
        node: Any = self._document
        for step in unquote(pointer).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            else:
                raise not_bridgeable("reference", place)
        if pointer != "#" and not pointer.startswith("#/"):  # an $anchor
            raise not_bridgeable("reference", place)
        return node

    def _free_name(self, name: str) -> str:
        taken = sum(1 for known in self.definitions if known == name or known.startswith(f"{name}."))
        return f"{name}.{taken + 1}" if taken else name

    def _inlined(self, schema: Any, place: str) -> Shape:
        """The shape itself, not a reference to it: it is going to be merged."""
        shape = self.shape(schema, place)
        if isinstance(shape, Reference):
            if shape.name in self._unfinished:
                raise not_bridgeable("recursive-union", place)
            return self.definitions[shape.name]
        return shape

    # -- unions

    def _alternatives(self, schemas: list[Any], place: str) -> Shape:
        shapes = [
            self._inlined(schema, f"{place}/{n}") for n, schema in enumerate(schemas) if not _is_only_null(schema)
        ]
        if not shapes:
            return ANY
        joined = shapes[0]
        for shape in shapes[1:]:
            joined = _join(joined, shape)
        return joined

    # -- one schema's own keywords

    def _own(self, schema: Mapping[str, Any], place: str) -> Shape:
        types = _types(schema)
        shapes = [self._of_type(kind, schema, place) for kind in types]
        joined = shapes[0] if shapes else ANY
        for shape in shapes[1:]:
            joined = _join(joined, shape)
        return joined

    def _of_type(self, kind: str, schema: Mapping[str, Any], place: str) -> Shape:
        if kind == "object":
            return self._record(schema, place)
        if kind == "array":
            return self._array(schema, place)
        return _scalar(kind, schema)

    def _array(self, schema: Mapping[str, Any], place: str) -> Shape:
        item = self.field(_ITEM, self._qualified(_ITEM), schema.get("items", True), f"{place}/items")
        return Array(item=item, limits={name: schema[name] for name in ("minItems", "maxItems") if name in schema})

    def _record(self, schema: Mapping[str, Any], place: str) -> Shape:
        properties = schema.get("properties", {})
        is_open = schema.get("additionalProperties", schema.get("unevaluatedProperties")) is not False
        if not properties and is_open:
            return ANY
        fields = [
            self._member(
                name, each, f"{place}/properties/{_escape(name)}", is_required=name in schema.get("required", ())
            )
            for name, each in properties.items()
            if each is not False
        ]
        if is_open:
            fields.append(self._rest())
        return Record(fields=tuple(fields), description=str(schema.get("title", ""))[:500])

    def _member(self, name: str, schema: Any, place: str, *, is_required: bool) -> Field:
        return replace(self.field(name, self._qualified(xml_name(name)), schema, place), is_required=is_required)

    def _rest(self) -> Field:
        return Field(json=REST_ELEMENT, xml=self._qualified(REST_ELEMENT), shape=ANY, place=Place.REST)

    def _qualified(self, name: str) -> str:
        return f"{{{self._namespace}}}{name}" if self._namespace else name

    def _allows_null(self, schema: Any) -> bool:
        if not isinstance(schema, dict):
            return schema is True
        if "type" in schema and "null" not in ([schema["type"]] if isinstance(schema["type"], str) else schema["type"]):
            return False
        if ("enum" in schema and None not in schema["enum"]) or schema.get("const") is not None:
            return False
        if "$ref" in schema and not self._target_allows_null(schema["$ref"]):
            return False
        if not all(map(self._allows_null, schema.get("allOf", ()))):
            return False
        return all(any(map(self._allows_null, schema[keyword])) for keyword in ("oneOf", "anyOf") if keyword in schema)

    def _target_allows_null(self, pointer: str) -> bool:
        if pointer not in self._nullable:
            self._nullable[pointer] = True  # what it says of itself is no obstacle
            self._nullable[pointer] = self._allows_null(self._at(pointer, ""))
        return self._nullable[pointer]


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _is_only_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "null" or schema.get("const", 0) is None)


_ORDER: Final = ("object", "array", "string", "boolean", "integer", "number")


def _types(schema: Mapping[str, Any]) -> list[str]:
    """The types, null left out: said, or seen from the values or the keywords."""
    said = schema.get("type")
    if said is not None:
        names = {said} if isinstance(said, str) else set(said)
        return [name for name in _ORDER if name in names and not (name == "integer" and "number" in names)]
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return [name for name in _ORDER if name in {_type_of(value) for value in values}]
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema else []


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _scalar(kind: str, schema: Mapping[str, Any]) -> Scalar:
    scalar = _SCALARS[kind]
    if kind == "string" and schema.get("contentEncoding") == "base64":
        return Scalar(kind=Kind.BASE64, xsd="base64Binary", space="collapse")
    if kind == "string" and schema.get("format") in _FORMATS:
        return Scalar(kind=Kind.TEXT, xsd=_FORMATS[schema["format"]], space="collapse")
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return replace(scalar, limits={"enum": [each for each in values if each is not None]})
    told = {"string": ("minLength", "maxLength"), "integer": ("minimum", "maximum")}.get(kind, ())
    return replace(scalar, limits={name: schema[name] for name in told if isinstance(schema.get(name), int)})


# ---- The algebra


def _join(one: Shape, other: Shape) -> Shape:
    """A shape for whatever either of the two takes."""
    if one == other:
        return one
    if isinstance(one, Record) and isinstance(other, Record):
        return _merged(one, other, _join, is_either=True)
    if isinstance(one, Array) and isinstance(other, Array):
        return Array(item=_joined_field(one.item, other.item, _join))
    if isinstance(one, Scalar) and isinstance(other, Scalar) and ANY not in (one, other):
        if (one.kind, one.xsd) == (other.kind, other.xsd):
            enums = [each.limits.get("enum") for each in (one, other)]
            known = {"enum": [*enums[0], *(v for v in enums[1] if v not in enums[0])]} if enums[0] and enums[1] else {}
            return replace(one, limits=known)
        if one.kind in _TEXTUAL and other.kind in _TEXTUAL:
            return _TEXT
        numeric = (Kind.INTEGER, Kind.NUMBER)
        return _SCALARS["number"] if one.kind in numeric and other.kind in numeric else _VARIANT
    return ANY


_TEXTUAL: Final = (Kind.TEXT, Kind.BASE64)
assert VARIANT_KINDS == ("string", "number", "boolean")  # noqa: S101  # what a join of scalars may need


def _meet(one: Shape, other: Shape) -> Shape:
    """A shape for what both take; where they differ, the first one's."""
    if one == ANY:
        return other
    if isinstance(one, Record) and isinstance(other, Record):
        return _merged(one, other, _meet, is_either=False)
    return one


def _merged(one: Record, other: Record, combine: Any, *, is_either: bool) -> Record:
    """The fields of both. ``is_either``: a document is one or the other, so a field is required only in both."""
    theirs = {field.json: field for field in other.fields if field.place is not Place.REST}
    fields = []
    for field in (each for each in one.fields if each.place is not Place.REST):
        match = theirs.pop(field.json, None)
        if match is None:
            fields.append(replace(field, is_required=field.is_required and not is_either))
        else:
            both = field.is_required and match.is_required if is_either else field.is_required or match.is_required
            fields.append(replace(_joined_field(field, match, combine), is_required=both))
    fields += [replace(field, is_required=field.is_required and not is_either) for field in theirs.values()]
    # Whoever is open in one of the two may hold what only the other one names.
    rests = [field for record in (one, other) for field in record.fields if field.place is Place.REST]
    return Record(fields=(*fields, *rests[:1]), description=one.description)


def _joined_field(one: Field, other: Field, combine: Any) -> Field:
    shape = combine(one.shape, other.shape)
    return replace(one, shape=shape, is_nillable=shape != ANY and (one.is_nillable or other.is_nillable))
