"""Shape → XSD 1.0, for a payload whose own schema is a JSON Schema.

Everything is qualified in the namespace of the root element. A definition becomes a named type, all else is written in
place. Limits that both languages have in common are said; the others are checked in JSON, after the translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from schemas.bridge.shape import (
    VARIANT_ATTRIBUTE,
    VARIANT_KINDS,
    Array,
    Document,
    Field,
    Items,
    Kind,
    Record,
    Reference,
    Scalar,
    Shape,
    local_name,
    namespace_of,
)
from schemas.xsd import MAX_OCCURS, XS_NS

if TYPE_CHECKING:
    from lxml.etree import _Element

_XS: Final = f"{{{XS_NS}}}"
_FACETS: Final = {
    "minLength": "minLength",
    "maxLength": "maxLength",
    "minimum": "minInclusive",
    "maximum": "maxInclusive",
}


def xsd_of(document: Document) -> str:
    """The XSD of a shape that was made from a JSON Schema."""
    namespace = namespace_of(document.root.xml)
    names = {"xs": XS_NS, **({"t": namespace} if namespace else {})}
    root = etree.Element(_XS + "schema", nsmap=names)
    root.set("elementFormDefault", "qualified")
    if namespace:
        root.set("targetNamespace", namespace)
    writer = _Writer("t:" if namespace else "")
    writer.element(root, document.root, is_global=True)
    for name, shape in document.definitions.items():
        writer.type(root, shape, name=name)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode") + "\n"


class _Writer:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def element(
        self, parent: _Element, field: Field, *, is_global: bool = False, limits: Mapping[str, Any] | None = None
    ) -> None:
        node = _child(parent, "element", name=local_name(field.xml))
        if not is_global:
            _set_occurs(node, field, limits)
        if field.is_nillable:
            node.set("nillable", "true")
        if field.description:
            _child(_child(node, "annotation"), "documentation").text = _printable(field.description)
        self._typed(node, field.shape)

    def _typed(self, node: _Element, shape: Shape) -> None:
        """Give an element its type: by name if it has one, else in place."""
        if isinstance(shape, Reference):
            node.set("type", self._prefix + shape.name)
        elif isinstance(shape, Scalar) and shape.kind is not Kind.VARIANT and not _facets(shape):
            node.set("type", f"xs:{shape.xsd}")
        else:
            self.type(node, shape)

    def type(self, parent: _Element, shape: Shape, *, name: str = "") -> None:
        """Write the type of a shape, named where it is a definition."""
        named = {"name": name} if name else {}
        match shape:
            case Scalar(kind=Kind.VARIANT):
                _write_variant(_child(parent, "complexType", **named))
            case Scalar():
                _write_restriction(_child(parent, "simpleType", **named), shape)
            case Array(item=item, limits=limits):
                sequence = _child(_child(parent, "complexType", **named), "sequence")
                self.element(sequence, item, limits={"minItems": 0, **limits})
            case Record(fields=fields):
                sequence = _child(_child(parent, "complexType", **named), "sequence")
                for field in fields:
                    self.element(sequence, field)
            case Reference() | Items():  # a definition is never a mere reference; JSON Schema has no lists in a text
                raise TypeError(shape)


def _child(parent: _Element, tag: str, **attributes: str) -> _Element:
    return etree.SubElement(parent, _XS + tag, attributes)


def _set_occurs(node: _Element, field: Field, limits: Mapping[str, Any] | None) -> None:
    if limits is None:
        if not field.is_required:
            node.set("minOccurs", "0")
        return
    least, most = int(limits["minItems"]), limits.get("maxItems")
    node.set("minOccurs", str(least) if least <= MAX_OCCURS else "0")
    node.set("maxOccurs", str(int(most)) if most is not None and most <= MAX_OCCURS else "unbounded")


def _facets(scalar: Scalar) -> list[tuple[str, str]]:
    found = [("enumeration", _spelled(value)) for value in scalar.limits.get("enum", ())]
    if any(value is None for _, value in found) or (scalar.kind is not Kind.TEXT and found):
        found = []
    return [
        *((name, value) for name, value in found if value is not None),
        *((facet, str(scalar.limits[name])) for name, facet in _FACETS.items() if name in scalar.limits),
    ]


def _spelled(value: Any) -> str | None:
    return value if isinstance(value, str) and value == _printable(value) else None


def _printable(text: str) -> str:
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))


def _write_restriction(node: _Element, scalar: Scalar) -> None:
    restriction = _child(node, "restriction", base=f"xs:{scalar.xsd}")
    for name, value in _facets(scalar):
        _child(restriction, name, value=value)


def _write_variant(node: _Element) -> None:
    extension = _child(_child(node, "simpleContent"), "extension", base="xs:string")
    attribute = _child(extension, "attribute", name=VARIANT_ATTRIBUTE, default=VARIANT_KINDS[0])
    restriction = _child(_child(attribute, "simpleType"), "restriction", base="xs:string")
    for kind in VARIANT_KINDS:
        _child(restriction, "enumeration", value=kind)
