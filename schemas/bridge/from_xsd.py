"""XSD → shape, with the components of the xmlschema library: types resolved, groups and references followed.

A named complex type becomes a definition, so that recursion is a reference. What JSON cannot say without loss is
refused with its place: the names from the root element or the type down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from schemas.bridge.lexical import LEXICAL
from schemas.bridge.shape import (
    CHOICES_NAME,
    MAX_PARTS,
    TEXT_NAME,
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
    not_bridgeable,
)
from schemas.problem import Malformed
from schemas.xsd import XS_NS, open_with_xmlschema, read_xsd

if TYPE_CHECKING:
    from xmlschema.validators import XsdAttribute, XsdComplexType, XsdElement, XsdGroup, XsdSimpleType, XsdType

_XS: Final = f"{{{XS_NS}}}"
#: Whole numbers that always fit 64 bits; the other ones are WIDE.
_FITS: Final = frozenset({"long", "int", "short", "byte", "unsignedInt", "unsignedShort", "unsignedByte"})
_KINDS: Final[Mapping[str, Kind]] = {
    "boolean": Kind.BOOLEAN,
    "decimal": Kind.DECIMAL,
    "double": Kind.DOUBLE,
    "float": Kind.DOUBLE,
    "base64Binary": Kind.BASE64,
}
#: Their values are names whose prefix only the XML document explains, or point to other parts of it.
_BOUND_TO_XML: Final = frozenset({"QName", "NOTATION", "ENTITY", "ENTITIES"})


def shape_of_xsd(text: str, element: str) -> Document:
    """The shape of that global element (``{namespace}name``) of an XSD or a bundle of them.

    Raises Malformed: ``schema-not-bridgeable``, ``xsd-element-unknown``, or a reason of :func:`schemas.xsd.read_xsd`.
    """
    schema = open_with_xmlschema(read_xsd(text.encode()))
    found = schema.maps.elements.get(element)
    if found is None:
        raise Malformed("xsd-element-unknown")
    reader = _Reader(schema.maps.substitution_groups)
    try:
        root = reader.field(found, local_name(element), is_required=True)
    except RecursionError:
        raise not_bridgeable("too-deep", local_name(element)) from None
    return Document(root=replace(root, json="", is_repeated=False, limits={}), definitions=dict(reader.definitions))


#: Choices of whose alternatives an element is one: (id of the choice, number of the alternative).
_Branches = tuple[tuple[int, int], ...]


class _Reader:
    def __init__(self, substitutions: Any) -> None:
        self._substitutions = substitutions
        self.definitions: dict[str, Shape] = {}
        self._names: dict[int, str] = {}
        self._parts = 0

    def field(self, element: XsdElement, place: str, *, is_required: bool, is_repeated: bool = False) -> Field:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise not_bridgeable("too-large", place)
        if element.name in self._substitutions or element.abstract:
            raise not_bridgeable("substitution-group", place)
        assert element.type is not None and element.name is not None  # noqa: PT018, S101  # built schemas have both
        return Field(
            json=local_name(element.name),
            xml=element.name,
            shape=self._shape(element.type, place),
            is_required=is_required,
            is_repeated=is_repeated,
            is_nillable=element.nillable,
            description=_documentation(element),
        )

    def _shape(self, kind: XsdType, place: str) -> Shape:
        from xmlschema.validators import XsdComplexType, XsdSimpleType

        if isinstance(kind, XsdSimpleType):
            return _simple(kind, place)
        assert isinstance(kind, XsdComplexType)  # noqa: S101  # there is no third
        if kind.name == _XS + "anyType":
            raise not_bridgeable("any-type", place)
        if kind.abstract:
            raise not_bridgeable("abstract-type", place)
        if kind.name is None:
            return self._record(kind, place)
        if id(kind) not in self._names:
            name = self._names[id(kind)] = self._free_name(local_name(kind.name))
            self.definitions[name] = Record(fields=())  # holds the place while it refers to itself
            self.definitions[name] = self._record(kind, local_name(kind.name))
        return Reference(name=self._names[id(kind)])

    def _free_name(self, name: str) -> str:
        taken = sum(1 for known in self.definitions if known == name or known.startswith(f"{name}."))
        return f"{name}.{taken + 1}" if taken else name

    def _record(self, kind: XsdComplexType, place: str) -> Shape:
        if kind.mixed:
            raise not_bridgeable("mixed-content", place)
        if any((base.name or "").startswith("{http://schemas.xmlsoap.org/soap/encoding/}") for base in _bases(kind)):
            raise not_bridgeable("soap-encoding", place)
        is_open, attributes = self._attributes(kind, place)
        if kind.has_simple_content():
            simple = kind.simple_type
            assert simple is not None  # noqa: S101  # it has simple content
            text = _simple(simple, place)
            if not attributes and not is_open:
                return text
            own = Field(json=TEXT_NAME, xml=TEXT_NAME, shape=text, place=Place.TEXT, is_required=True)
            return Record(fields=(*attributes, own), is_open=is_open, description=_documentation(kind))
        content = _Content(self, place)
        content.group(kind.content, (), is_required=True)  # type: ignore[arg-type]  # not simple, so it is a group
        return Record(
            fields=_with_own_names([*attributes, *content.fields()]),
            is_open=is_open or content.is_open,
            description=_documentation(kind),
        )

    def _attributes(self, kind: XsdComplexType, place: str) -> tuple[bool, list[Field]]:
        from xmlschema.validators import XsdAttribute

        found = [
            _attribute(attribute, f"{place}/@{local_name(name)}")
            for name, attribute in kind.attributes.items()
            if isinstance(attribute, XsdAttribute) and name is not None and attribute.use != "prohibited"
        ]
        return None in kind.attributes, found


def _attribute(attribute: XsdAttribute, place: str) -> Field:
    assert attribute.name is not None  # noqa: S101  # only a wildcard has none
    return Field(
        json=f"@{local_name(attribute.name)}",
        xml=attribute.name,
        shape=_simple(attribute.type, place),
        place=Place.ATTRIBUTE,
        is_required=attribute.use == "required",
        description=_documentation(attribute),
    )


def _bases(kind: XsdType) -> Iterator[XsdType]:
    base: XsdType | None = kind
    while base is not None and base.name != _XS + "anyType":
        yield base
        base = base.base_type


class _Content:
    """The fields of one content model, in the order in which XML has them."""

    def __init__(self, reader: _Reader, place: str) -> None:
        self._reader, self._place = reader, place
        self._fields: dict[str, Field] = {}
        self._branches: dict[str, list[_Branches]] = {}
        self.is_open = False

    def fields(self) -> list[Field]:
        return list(self._fields.values())

    def group(self, group: XsdGroup, branches: _Branches, *, is_required: bool) -> None:
        """Take a group's particles; it is repeated only if it holds a single element."""
        from xmlschema.validators import XsdAnyElement, XsdElement

        if group.max_occurs == 0:
            return
        is_needed = is_required and group.min_occurs > 0 and (group.model != "choice" or len(group) == 1)
        if group.max_occurs != 1 and len(group):
            return self._repeated_group(group, branches, is_required=is_required and group.min_occurs > 0)
        for number, particle in enumerate(group):
            here = (*branches, (id(group), number)) if group.model == "choice" else branches
            if isinstance(particle, XsdAnyElement):
                if is_needed and particle.min_occurs:
                    raise not_bridgeable("any-required", self._place)
                self.is_open = True
            elif isinstance(particle, XsdElement):
                self._element(particle, here, is_required=is_needed and particle.min_occurs > 0)
            else:
                self.group(particle, here, is_required=is_needed)
        return None

    def _element(self, element: XsdElement, branches: _Branches, *, is_required: bool, again: bool = False) -> None:
        if element.max_occurs == 0:
            return
        place = f"{self._place}/{element.local_name}"
        is_repeated = again or element.max_occurs != 1
        field = self._reader.field(element, place, is_required=is_required, is_repeated=is_repeated)
        if is_repeated and not again:
            field = replace(field, limits=_occurs(element, is_required=is_required))
        known = self._fields.get(field.xml)
        if known is None:
            self._fields[field.xml] = field
        elif (
            is_repeated
            or known.is_repeated
            or not all(_exclude(before, branches) for before in self._branches[field.xml])
        ):
            raise not_bridgeable("element-twice", place)
        elif known.shape != field.shape or known.is_nillable != field.is_nillable:
            raise not_bridgeable("element-with-two-types", place)
        self._branches.setdefault(field.xml, []).append(branches)

    def _repeated_group(self, group: XsdGroup, branches: _Branches, *, is_required: bool) -> None:
        from xmlschema.validators import XsdElement

        elements = [particle for particle in group if isinstance(particle, XsdElement)]
        if len(elements) != len(group):
            raise not_bridgeable("repeated-group", self._place)
        if len(elements) == 1:
            return self._element(
                elements[0], branches, is_required=is_required and elements[0].min_occurs > 0, again=True
            )
        if group.model != "choice" or any(each.max_occurs != 1 for each in elements) or CHOICES_NAME in self._fields:
            raise not_bridgeable("repeated-group", self._place)
        taken = [self._reader.field(each, f"{self._place}/{each.local_name}", is_required=False) for each in elements]
        self._fields[CHOICES_NAME] = Field(
            json=CHOICES_NAME,
            xml=CHOICES_NAME,
            shape=Record(fields=_with_own_names(taken)),
            place=Place.CHOICES,
            is_required=is_required and all(each.min_occurs for each in elements),
            is_repeated=True,
            limits=_occurs(group, is_required=is_required),
        )
        return None


def _exclude(one: _Branches, other: _Branches) -> bool:
    """Can only one of the two be in a document, since they stand in two alternatives of a choice?"""
    alternatives = dict(one)
    return any(alternatives.get(choice, number) != number for choice, number in other)


def _occurs(particle: XsdElement | XsdGroup, *, is_required: bool) -> Mapping[str, Any]:
    # One occurrence at least, wherever there is an array: a missing one is left out.
    least = particle.min_occurs if is_required else 1
    most = {} if particle.max_occurs is None else {"maxItems": particle.max_occurs}
    return {"minItems": max(least, 1), **most}


def _with_own_names(fields: list[Field]) -> tuple[Field, ...]:
    """Fields of two namespaces may share a local name; the second gets a number."""
    taken: set[str] = set()
    found = []
    for field in fields:
        name, number = field.json, 2
        while name in taken:
            name, number = f"{field.json}_{number}", number + 1
        taken.add(name)
        found.append(replace(field, json=name))
    return tuple(found)


# ---- Simple types


def _simple(kind: XsdSimpleType, place: str) -> Scalar | Items:
    from xmlschema.validators import XsdList, XsdUnion

    chain = list(_bases(kind))
    item = next((each.item_type for each in chain if isinstance(each, XsdList)), None)
    if item is not None:
        inner = _simple(item, place)
        if not isinstance(inner, Scalar):
            raise not_bridgeable("list-of-lists", place)
        return Items(item=inner)
    if any(isinstance(each, XsdUnion) for each in chain):
        return Scalar(kind=Kind.TEXT, xsd="anySimpleType", space="collapse")
    xsd = next((local_name(each.name or "") for each in chain if (each.name or "").startswith(_XS)), "string")
    if xsd in ("anySimpleType", "anyAtomicType"):
        return Scalar(kind=Kind.TEXT)
    if xsd in _BOUND_TO_XML or any((each.name or "") == _XS + name for each in chain for name in _BOUND_TO_XML):
        raise not_bridgeable("bound-to-xml", place)
    primitive_type: Any = getattr(kind, "primitive_type", None)
    primitive = local_name(primitive_type.name) if primitive_type is not None else "string"
    space = kind.white_space if kind.white_space in ("preserve", "replace") else "collapse"
    result = Scalar(kind=_kind(kind, primitive, chain), xsd=xsd, space=space)  # type: ignore[arg-type]  # two of three words
    return replace(result, limits=_limits(kind, result))


def _kind(kind: XsdSimpleType, primitive: str, chain: list[XsdType]) -> Kind:
    names = {local_name(each.name or "") for each in chain}
    if "integer" not in names:
        return _KINDS.get(primitive, Kind.TEXT)
    if names & _FITS:
        return Kind.INTEGER
    facets: Any = kind.facets
    digits = getattr(facets.get(_XS + "totalDigits"), "value", None)
    low: Any = kind.min_value
    high: Any = kind.max_value
    is_bounded = low is not None and high is not None and low >= -(2**63) and high < 2**63
    return Kind.INTEGER if is_bounded or (digits is not None and digits <= 18) else Kind.WIDE


#: Facets that JSON Schema has too.
_LENGTHS: Final = {"minLength": "minLength", "maxLength": "maxLength"}
_BOUNDS: Final = {
    "minInclusive": "minimum",
    "maxInclusive": "maximum",
    "minExclusive": "exclusiveMinimum",
    "maxExclusive": "exclusiveMaximum",
}
_MAX_EXACT: Final = 2**53


def _limits(kind: XsdSimpleType, scalar: Scalar) -> Mapping[str, Any]:
    """The facets in the words of JSON Schema, where those mean the same."""
    limits: dict[str, Any] = {}
    facets: Any = {local_name(name): facet for name, facet in kind.facets.items() if name}
    if scalar.kind is Kind.TEXT:
        if kind.enumeration and scalar.xsd not in ("date", "dateTime", "time"):
            return {"enum": [str(value) for value in kind.enumeration]}
        length = facets.get("length")
        if scalar.xsd == "hexBinary":
            return {}
        if length is not None:
            return {"minLength": int(length.value), "maxLength": int(length.value)}
        for name, keyword in _LENGTHS.items():
            if name in facets:
                limits[keyword] = int(facets[name].value)
        if scalar.xsd not in LEXICAL and (pattern := _pattern(kind)):
            limits["pattern"] = pattern
    elif scalar.kind in (Kind.INTEGER, Kind.WIDE, Kind.DECIMAL):
        for name, keyword in _BOUNDS.items():
            if name in facets and (bound := _bound(facets[name].value)) is not None:
                limits[keyword] = bound
    return limits


#: What means the same in the patterns of XML Schema and of JSON Schema: letters, digits, signs, groups, plain classes.
_PLAIN_PATTERN: Final = re.compile(r"(?:[\w ,;:/@#%=<>!\"'{}()|?*+.-]|\[[\w ,;:/@#%.()|?*+-]+\])+")


def _pattern(kind: XsdSimpleType) -> str:
    """The type's pattern as JSON Schema says it, if both say it alike: XML Schema means the whole text."""
    patterns: Any = kind.patterns
    texts = [str(each.get("value", "")) for each in patterns] if patterns is not None else []
    is_plain = len(texts) == 1 and _PLAIN_PATTERN.fullmatch(texts[0]) and "--" not in texts[0]
    return f"^(?:{texts[0]})$" if is_plain else ""


def _bound(value: Any) -> int | None:
    """A limit that JSON readers take exactly; other ones are left to the XSD."""
    number = Decimal(str(value))
    return int(number) if number == number.to_integral_value() and abs(number) <= _MAX_EXACT else None


def _documentation(component: Any) -> str:
    """The first words that the schema says about it."""
    annotation = component.annotation
    texts = [str(element.text or "") for element in annotation.documentation] if annotation is not None else []
    return " ".join(texts[0].split())[:500] if texts else ""
