"""What a payload is made of, whichever language it is written in.

::

    Document ── root: Field ── shape ─┬─ Scalar     one text: a kind and its limits
                                      ├─ Items      an xs:list: several scalars in one text
                                      ├─ Array      a JSON array, as an element that holds its items
                                      ├─ Record     named fields: elements, attributes, the text
                                      └─ Reference  to a definition of the document; how recursion is said

Frozen values that know nothing of documents. A shape is more lenient than the schema it was made from (it has no
patterns and no rules between fields): translating is not validating, each language has its own schema for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Literal

from schemas.problem import Malformed

#: Fields, items and alternatives in one document: a real axis stays below 2,000, and inlined unions can multiply.
MAX_PARTS: Final = 20_000


class Kind(Enum):
    """How one text is written in JSON."""

    TEXT = auto()  #: a string
    BOOLEAN = auto()
    INTEGER = auto()  #: a whole number of 64 bits
    WIDE = auto()  #: a whole number; beyond 64 bits a string of its digits, since JSON readers round it
    DECIMAL = auto()  #: a number with the very digits of the XML
    DOUBLE = auto()  #: a number, or one of the strings INF, -INF, NaN
    NUMBER = auto()  #: a JSON number, as it is written
    BASE64 = auto()  #: a string of base64
    VARIANT = auto()  #: a string, number or boolean; XML says which in the attribute ``kind``
    JSON = auto()  #: any value; XML holds its JSON text


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One text. ``limits`` are keywords of JSON Schema (``minLength``, ``maximum``, ``enum``, …)."""

    kind: Kind
    #: The built-in type of XML Schema, without prefix.
    xsd: str = "string"
    #: What XML Schema does with white space before it looks at the value.
    space: Literal["preserve", "replace", "collapse"] = "preserve"
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Several scalars in one text, with white space between them (``xs:list``); a JSON array."""

    item: Scalar
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A JSON array: an element with one child for each item, so that an empty array is not a missing one."""

    item: Field
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The definition of that name."""

    name: str


class Place(Enum):
    """Where in an element a field stands."""

    ELEMENT = auto()  #: a child
    ATTRIBUTE = auto()
    TEXT = auto()  #: the text of an element that has attributes
    CHOICES = auto()  #: children in any order, each one of the record's elements (a repeated xs:choice)
    REST = auto()  #: a child with the JSON text of all members that the schema does not name


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A named part of a record: a JSON member and what it is in XML (``{namespace}name``)."""

    json: str
    xml: str
    shape: Shape
    place: Place = Place.ELEMENT
    is_required: bool = False
    is_repeated: bool = False
    is_nillable: bool = False
    #: How many, where ``is_repeated``.
    limits: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A JSON object. ``is_open``: further elements or attributes are allowed in XML (``xs:any``), and left out."""

    fields: tuple[Field, ...]
    is_open: bool = False
    description: str = ""


Shape = Scalar | Items | Array | Record | Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole payload. ``root.xml`` is its element; the root has no JSON name."""

    root: Field
    definitions: Mapping[str, Shape]


#: Any JSON value at all.
ANY: Final = Scalar(kind=Kind.JSON)
#: The JSON names of what has no name of its own.
TEXT_NAME: Final = "#text"
CHOICES_NAME: Final = "#items"
#: The element that holds the JSON text of members without a name in the schema.
REST_ELEMENT: Final = "_more"
#: The attribute that says what a variant is in JSON, and what it may say ("string" is left out).
VARIANT_ATTRIBUTE: Final = "kind"
VARIANT_KINDS: Final = ("string", "number", "boolean")
XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"


def not_bridgeable(why: str, place: str) -> Malformed:
    """``why`` is a stable word of docs/bridging.md, ``place`` a part of the schema; both are the registrar's own."""
    return Malformed("schema-not-bridgeable", why=why, place=place[:200] or "/")


def local_name(name: str) -> str:
    """``{namespace}name`` without its namespace."""
    return name.rpartition("}")[2]


def namespace_of(name: str) -> str:
    return name[1:].rpartition("}")[0] if name.startswith("{") else ""
