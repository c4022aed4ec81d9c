"""XML → JSON: a shape compiled into functions that read.

A function gets an element and gives the JSON value; what it cannot read it notes with the element, and goes on.
Comments between elements are passed over; inside a value they are refused, since readers disagree about them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from schemas.bridge.lexical import Digits, Untranslatable, from_text, json_text, variant_reader
from schemas.bridge.shape import (
    VARIANT_ATTRIBUTE,
    XSI,
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
from schemas.codec import read_xml
from schemas.problem import FieldError, SchemaViolation
from schemas.validation import MAX_ERRORS

if TYPE_CHECKING:
    from lxml.etree import _Element

_NIL: Final = XSI + "nil"
_TYPE: Final = XSI + "type"
#: Attributes that any element may have, and that say nothing here: a location is not followed.
_IGNORED: Final = frozenset({XSI + "schemaLocation", XSI + "noNamespaceSchemaLocation"})
_SPACE: Final = " \t\r\n"
#: Of one element; the schemas known here stay below 20.
_MAX_ATTRIBUTES: Final = 200


class Notes:
    """What could not be read, and the names that may be told."""

    __slots__ = ("_names", "errors")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.errors: list[FieldError] = []

    def refuse(self, element: _Element, rule: str, attribute: str = "") -> None:
        """Note an error. Raises SchemaViolation when there are enough."""
        steps = [f"@{self._told(attribute)}"] if attribute else []
        node: _Element | None = element
        while node is not None:
            steps.append(self._step(node))
            node = node.getparent()
        self.errors.append(FieldError(pointer="".join(f"/{step}" for step in reversed(steps)), detail=rule))
        if len(self.errors) >= MAX_ERRORS:
            self.end()

    def end(self) -> NoReturn:
        raise SchemaViolation("payload-not-translatable", errors=self.errors, count=len(self.errors))

    def _step(self, element: _Element) -> str:
        before = sum(1 for _ in element.itersiblings(element.tag, preceding=True))
        after = element.getparent() is not None and next(element.itersiblings(element.tag), None) is not None
        return self._told(element.tag) + (f"[{before + 1}]" if before or after else "")

    def _told(self, name: str) -> str:
        """A name that the schema does not know came from the sender, and is not repeated."""
        return local_name(name) if name in self._names else "*"


Read = Callable[["_Element", Notes], Any]
ReadText = Callable[[str], Any]


def compile_reader(document: Document) -> Callable[[bytes | _Element], bytes]:
    """The function that makes XML of that shape a JSON document. It may run in many threads at once."""
    compiler = _Compiler(document)
    read = compiler.element(document.root)
    names = frozenset(compiler.names | {document.root.xml})

    def to_json(body: bytes | _Element) -> bytes:
        root = read_xml(body) if isinstance(body, bytes) else body
        notes = Notes(names)
        if root.tag != document.root.xml:
            notes.refuse(root, f"root: {document.root.xml}")
            notes.end()
        value = read(root, notes)
        if notes.errors:
            notes.end()
        return orjson.dumps(value)

    return to_json


class _Compiler:
    """Turns the shapes of one document into functions."""

    def __init__(self, document: Document) -> None:
        self.names: set[str] = {_NIL, _TYPE, VARIANT_ATTRIBUTE}
        self._readers: dict[str, Read] = {}
        for name, shape in document.definitions.items():
            self._readers[name] = self._shape(shape)

    def element(self, field: Field) -> Read:
        """Read a whole element: its nil, then its value."""
        self.names.add(field.xml)
        read = self._shape(field.shape)
        return _nillable(read) if field.is_nillable else read

    def _shape(self, shape: Shape) -> Read:
        match shape:
            case Scalar(kind=Kind.VARIANT):
                return _read_variant
            case Scalar():
                return _leaf(from_text(shape))
            case Items(item=item):
                return _leaf(_words(item))
            case Array(item=item):
                return self._array(item)
            case Record():
                return self._record(shape)
            case Reference(name=name):
                readers = self._readers  # looked up when it runs: the definition may be the one being compiled
                return lambda element, notes: readers[name](element, notes)

    def _array(self, item: Field) -> Read:
        read, tag = self.element(item), item.xml

        def array(element: _Element, notes: Notes) -> list[Any]:
            _refuse_attributes(element, notes)
            found = []
            for child in _children(element, notes):
                if child.tag == tag:
                    found.append(read(child, notes))
                else:
                    notes.refuse(child, "element-unknown")
            return found

        return array

    def _record(self, record: Record) -> Read:
        text = next((f for f in record.fields if f.place is Place.TEXT), None)
        attributes = self._attributes(record)
        if text is not None:
            return self._text_record(text, attributes)
        parts = {f.xml: (f.json, f.is_repeated, self.element(f)) for f in record.fields if f.place is Place.ELEMENT}
        rest = next((f for f in record.fields if f.place is Place.REST), None)
        read_rest = self.element(rest) if rest else None
        choices = next((f for f in record.fields if f.place is Place.CHOICES), None)
        chosen = self._chosen(choices) if choices else {}
        is_open, rest_tag = record.is_open, rest.xml if rest else None
        names = frozenset(f.json for f in record.fields)

        def read_record(element: _Element, notes: Notes) -> dict[str, Any]:
            value = attributes(element, notes)
            for child in _children(element, notes):
                tag = child.tag
                part = parts.get(tag)
                if part is not None:
                    name, is_repeated, read = part
                    if is_repeated:
                        value.setdefault(name, []).append(read(child, notes))
                    elif name in value:
                        notes.refuse(child, "maxOccurs: 1")
                    else:
                        value[name] = read(child, notes)
                elif tag in chosen and choices is not None:
                    name, read = chosen[tag]
                    value.setdefault(choices.json, []).append({name: read(child, notes)})
                elif tag == rest_tag and read_rest is not None:
                    _add_rest(value, child, notes, read_rest, names)
                elif not is_open:
                    notes.refuse(child, "element-unknown")
            return value

        return read_record

    def _chosen(self, choices: Field) -> dict[str, tuple[str, Read]]:
        fields = choices.shape.fields if isinstance(choices.shape, Record) else ()
        return {f.xml: (f.json, self.element(f)) for f in fields}

    def _text_record(self, text: Field, attributes: Callable[[_Element, Notes], dict[str, Any]]) -> Read:
        shape = text.shape
        read = (
            _words(shape.item) if isinstance(shape, Items) else from_text(shape) if isinstance(shape, Scalar) else str
        )

        def read_text_record(element: _Element, notes: Notes) -> dict[str, Any]:
            value = attributes(element, notes)
            value[text.json] = _text(element, notes, read)
            return value

        return read_text_record

    def _attributes(self, record: Record) -> Callable[[_Element, Notes], dict[str, Any]]:
        fields = [f for f in record.fields if f.place is Place.ATTRIBUTE]
        self.names.update(f.xml for f in fields)
        readers = {f.xml: (f.json, _simple(f.shape)) for f in fields}
        is_open = record.is_open

        def attributes(element: _Element, notes: Notes) -> dict[str, Any]:
            value: dict[str, Any] = {}
            for name, text in _attributes_of(element, notes):
                found = readers.get(name)
                if found is not None:
                    try:
                        value[found[0]] = found[1](text)
                    except Untranslatable as refusal:
                        notes.refuse(element, str(refusal), name)
                elif not (is_open and not name.startswith(XSI)):
                    _refuse_attribute(element, name, text, notes)
            return value

        return attributes


def _simple(shape: Shape) -> ReadText:
    if isinstance(shape, Items):
        return _words(shape.item)
    return from_text(shape) if isinstance(shape, Scalar) else str


def _add_rest(value: dict[str, Any], child: _Element, notes: Notes, read: Read, names: frozenset[str]) -> None:
    """The members that the schema does not name; one that it names must have its own element."""
    if not isinstance(read(child, notes), orjson.Fragment):
        return  # noted
    members = json.loads(child.text or "", parse_float=Digits)
    if type(members) is not dict or not names.isdisjoint(members):
        notes.refuse(child, "format: object of further members")
    else:
        value.update((name, orjson.Fragment(json_text(each))) for name, each in members.items())


def _children(element: _Element, notes: Notes) -> list[_Element]:
    """The child elements; text between them is refused, comments are passed over."""
    if element.text and element.text.strip(_SPACE):
        notes.refuse(element, "text-unexpected")
    found = []
    for child in element:
        if isinstance(child.tag, str):
            found.append(child)
        if child.tail and child.tail.strip(_SPACE):
            notes.refuse(element, "text-unexpected")
    return found


def _nillable(read: Read) -> Read:
    def nillable(element: _Element, notes: Notes) -> Any:
        nil = element.get(_NIL)
        if nil is None:
            return read(element, notes)
        if nil.strip(_SPACE) in ("true", "1"):
            if len(element) or element.text:
                notes.refuse(element, "nil-not-empty")
            for name, _ in _attributes_of(element, notes):
                if name != _NIL and name not in _IGNORED:
                    notes.refuse(element, "attribute-of-nil", name)
            return None
        del element.attrib[_NIL]  # xsi:nil="false" says nothing; whether it is a boolean is the schema's question
        return read(element, notes)

    return nillable


def _leaf(read: ReadText) -> Read:
    def leaf(element: _Element, notes: Notes) -> Any:
        _refuse_attributes(element, notes)
        return _text(element, notes, read)

    return leaf


def _text(element: _Element, notes: Notes, read: ReadText) -> Any:
    if len(element):
        child = next(element.iterchildren("*"), None)
        notes.refuse(element if child is None else child, "comment-in-value" if child is None else "element-unknown")
        return None
    try:
        return read(element.text or "")
    except Untranslatable as refusal:
        notes.refuse(element, str(refusal))
        return None


def _read_variant(element: _Element, notes: Notes) -> Any:
    kind = str(element.get(VARIANT_ATTRIBUTE, "string"))
    for name, text in _attributes_of(element, notes):
        if name != VARIANT_ATTRIBUTE:
            _refuse_attribute(element, name, text, notes)
    try:
        read = variant_reader(kind)
    except Untranslatable:
        notes.refuse(element, "enumeration", VARIANT_ATTRIBUTE)
        return None
    return _text(element, notes, read)


def _words(item: Scalar) -> ReadText:
    read = from_text(item)

    def words(text: str) -> list[Any]:
        return [read(word) for word in text.replace("\t", " ").replace("\n", " ").replace("\r", " ").split(" ") if word]

    return words


def _attributes_of(element: _Element, notes: Notes) -> list[tuple[str, str]]:
    """The attributes of an element; libxml2 searches all of them for the value of each, so they are counted first."""
    if len(element.attrib) > _MAX_ATTRIBUTES:
        notes.refuse(element, f"at most {_MAX_ATTRIBUTES} attributes")
        return []
    return [(str(name), str(text)) for name, text in element.items()]


def _refuse_attributes(element: _Element, notes: Notes) -> None:
    if element.attrib:
        for name, text in _attributes_of(element, notes):
            _refuse_attribute(element, name, text, notes)


def _refuse_attribute(element: _Element, name: str, text: str, notes: Notes) -> None:
    if name == _NIL:
        if text.strip(_SPACE) in ("true", "1"):
            notes.refuse(element, "nil-not-allowed")
    elif name == _TYPE:
        notes.refuse(element, "type-substitution", name)
    elif name not in _IGNORED:
        notes.refuse(element, "attribute-unknown", name)
