"""JSON → XML: a shape compiled into functions that write.

Every tag is spelled once, when the shape is compiled. A function gets a value, the text written so far and the path to
the value; it writes or notes an error and goes on, so that one refusal names several places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn
from xml.sax.saxutils import quoteattr

from schemas.bridge.lexical import Digits, Untranslatable, json_text, to_text, variant_kind
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
    namespace_of,
)
from schemas.codec import read_json
from schemas.problem import FieldError, SchemaViolation
from schemas.validation import MAX_ERRORS

#: What must not stand in the text of an element as it is; a carriage return would come back as a line feed.
_SPECIAL: Final = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
#: ... and in an attribute, where a reader turns tabs and line ends into spaces.
_SPECIAL_IN_ATTRIBUTE: Final = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
#: May there be a number with a fraction or an exponent? Then numbers are read again, as they are written.
_FRACTION: Final = re.compile(rb"[0-9][.eE][0-9+-]")

#: Where a value stands, as a chain: the steps before it, and its own; None is the root.
Path = tuple[Any, str | int] | None
Write = Callable[[Any, "Out", Path], None]


class Out(list[str]):
    """The text written so far, and what could not be."""

    __slots__ = ("errors",)

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[FieldError] = []

    def refuse(self, path: Path, rule: str) -> None:
        """Note an error. Raises SchemaViolation when there are enough."""
        steps: list[str] = []
        while path is not None:
            path, step = path
            steps.append(str(step).replace("~", "~0").replace("/", "~1"))
        self.errors.append(FieldError(pointer="".join(f"/{step}" for step in reversed(steps)), detail=rule))
        if len(self.errors) >= MAX_ERRORS:
            self.end()

    def end(self) -> NoReturn:
        raise SchemaViolation("payload-not-translatable", errors=self.errors, count=len(self.errors))


class Writer(NamedTuple):
    """What writes a value: its attributes into an open start tag, and what stands between the tags."""

    content: Write
    attributes: Write | None = None


def compile_writer(document: Document) -> Callable[[bytes], bytes]:
    """The function that makes a JSON document the XML of that shape. It may run in many threads at once."""
    compiled = _Compiler(document)
    root = compiled.element(document.root, is_root=True)

    def to_xml(body: bytes) -> bytes:
        value = read_json(body)
        if _FRACTION.search(body):  # only now: the strict reader has refused what readers disagree about
            value = json.loads(body, parse_float=Digits)
        out = Out()
        root(value, out, None)
        if out.errors:
            out.end()
        return "".join(out).encode()

    return to_xml


def escaped(text: str, special: re.Pattern[str] = _SPECIAL) -> str:
    """Raises Untranslatable for a character that XML cannot say at all."""
    return special.sub(_entity, text) if special.search(text) else text


def _entity(found: re.Match[str]) -> str:
    try:
        return _ENTITIES[found[0]]
    except KeyError:
        raise Untranslatable("character-not-in-xml") from None


class _Compiler:
    """Spells the names of one document and turns its shapes into functions."""

    def __init__(self, document: Document) -> None:
        self._definitions = document.definitions
        self._writers: dict[str, Writer] = {}
        fields = [document.root, *_all_fields(document)]
        self._prefixes = _prefixes(document.root.xml, fields)
        self._has_nil = any(field.is_nillable for field in fields)
        for name, shape in document.definitions.items():
            self._writers[name] = self.shape(shape)

    def shape(self, shape: Shape) -> Writer:
        match shape:
            case Scalar(kind=Kind.VARIANT):
                return Writer(_write_variant, _write_variant_attribute)
            case Scalar():
                return Writer(_scalar(shape, _SPECIAL))
            case Items(item=item):
                return Writer(_items(item, _SPECIAL))
            case Array(item=item):
                return Writer(self._array(item))
            case Record():
                return self._record(shape)
            case Reference(name=name):
                return self._reference(name)

    def element(self, field: Field, *, is_root: bool = False) -> Write:
        """Write a whole element."""
        name = self._name(field.xml)
        start = f"<{name}{self._declarations() if is_root else ''}"
        nil = f'{start} xsi:nil="true"/>' if field.is_nillable else ""
        if isinstance(field.shape, Scalar) and field.shape.kind is not Kind.VARIANT:
            return _simple_element(start, nil, f"</{name}>", field.shape)
        return _element(start, nil, f"</{name}>", self._shape_of(field))

    def _shape_of(self, field: Field) -> Writer:
        return self.shape(field.shape)

    def _reference(self, name: str) -> Writer:
        writers = self._writers  # looked up when it runs: the definition may be the one being compiled

        def content(value: Any, out: Out, path: Path) -> None:
            writers[name].content(value, out, path)

        def attributes(value: Any, out: Out, path: Path) -> None:
            write = writers[name].attributes
            if write is not None:
                write(value, out, path)

        return Writer(content, attributes)

    def _array(self, item: Field) -> Write:
        write = self.element(item)

        def array(value: Any, out: Out, path: Path) -> None:
            if type(value) is not list:
                return out.refuse(path, "type: array")
            for index, each in enumerate(value):
                write(each, out, (path, index))
            return None

        return array

    def _record(self, record: Record) -> Writer:
        parts = [(field.json, field.is_required, self._part(field)) for field in record.fields if _is_inside(field)]
        rest = next((self._rest(field) for field in record.fields if field.place is Place.REST), None)
        attributes = [f for f in record.fields if f.place is Place.ATTRIBUTE]
        names = frozenset(field.json for field in record.fields if field.place is not Place.REST)
        attribute_names = names & {field.json for field in attributes}

        def content(value: Any, out: Out, path: Path) -> None:
            if type(value) is not dict:
                return out.refuse(path, "type: object")
            known = len(attribute_names & value.keys()) if attribute_names else 0
            for name, is_required, write in parts:
                if name in value:
                    known += 1
                    write(value[name], out, (path, name))
                elif is_required:
                    out.refuse(path, f"required: {name}")
            if known != len(value):
                if rest is None:
                    return out.refuse((path, "*"), "additionalProperties")
                rest({name: each for name, each in value.items() if name not in names}, out, (path, "*"))
            return None

        return Writer(content, self._attributes(attributes) if attributes else None)

    def _part(self, field: Field) -> Write:
        if field.place is Place.TEXT:
            return self._shape_of(field).content
        if field.place is Place.CHOICES:
            return self._choices(field)
        write = self.element(field)
        if not field.is_repeated:
            return write

        def repeated(value: Any, out: Out, path: Path) -> None:
            if type(value) is not list:
                return out.refuse(path, "type: array")
            if field.is_required and not value:
                out.refuse(path, "minItems: 1")
            for index, each in enumerate(value):
                write(each, out, (path, index))
            return None

        return repeated

    def _choices(self, field: Field) -> Write:
        assert isinstance(field.shape, Record)  # noqa: S101  # says so to the type checker
        writers = {each.json: self.element(each) for each in field.shape.fields}

        def choices(value: Any, out: Out, path: Path) -> None:
            if type(value) is not list:
                return out.refuse(path, "type: array")
            for index, each in enumerate(value):
                here = (path, index)
                if type(each) is not dict:
                    out.refuse(here, "type: object")
                elif len(each) != 1 or (name := next(iter(each))) not in writers:
                    out.refuse(here, "one member: " + ", ".join(writers)[:200])
                else:
                    writers[name](each[name], out, (here, name))
            return None

        return choices

    def _rest(self, field: Field) -> Write:
        name = self._name(field.xml)

        def rest(value: Any, out: Out, path: Path) -> None:
            try:
                out.append(f"<{name}>{escaped(json_text(value))}</{name}>")
            except Untranslatable as refusal:
                out.refuse(path, str(refusal))

        return rest

    def _attributes(self, fields: list[Field]) -> Write:
        parts = [(f.json, f.is_required, f' {self._name(f.xml, is_attribute=True)}="', _attribute(f)) for f in fields]

        def attributes(value: Any, out: Out, path: Path) -> None:
            if type(value) is not dict:
                return  # its content says so
            for name, is_required, start, write in parts:
                if name in value:
                    out.append(start)
                    write(value[name], out, (path, name))
                    out.append('"')
                elif is_required:
                    out.refuse(path, f"required: {name}")

        return attributes

    def _name(self, name: str, *, is_attribute: bool = False) -> str:
        namespace = namespace_of(name)
        if is_attribute and namespace == "http://www.w3.org/XML/1998/namespace":
            return f"xml:{local_name(name)}"
        prefix = self._prefixes[namespace] if namespace else ""
        if is_attribute and namespace and not prefix:
            prefix = self._prefixes["@" + namespace]
        return f"{prefix}:{local_name(name)}" if prefix else local_name(name)

    def _declarations(self) -> str:
        found = [
            f" xmlns{':' if prefix else ''}{prefix}={quoteattr(namespace.removeprefix('@'))}"
            for namespace, prefix in self._prefixes.items()
        ]
        xsi = f' xmlns:xsi="{XSI[1:-1]}"' if self._has_nil else ""
        return "".join(found) + xsi


def _is_inside(field: Field) -> bool:
    return field.place not in (Place.ATTRIBUTE, Place.REST)


def _all_fields(document: Document) -> Iterator[Field]:
    rest: list[Shape] = [document.root.shape, *document.definitions.values()]
    while rest:
        shape = rest.pop()
        fields = shape.fields if isinstance(shape, Record) else (shape.item,) if isinstance(shape, Array) else ()
        yield from fields
        rest.extend(field.shape for field in fields)


def _prefixes(root: str, fields: list[Field]) -> Mapping[str, str]:
    """A prefix for each namespace; none for the root's, unless there are elements without a namespace.

    An attribute cannot use the namespace that has no prefix, so its own prefix stands under ``@namespace``.
    """
    elements = {namespace_of(f.xml) for f in fields if f.place in (Place.ELEMENT, Place.REST)}
    attributes = {namespace_of(f.xml) for f in fields if f.place is Place.ATTRIBUTE} - {
        "http://www.w3.org/XML/1998/namespace"
    }
    home = namespace_of(root)
    default = home if "" not in elements else None
    found = {namespace: "" for namespace in (home,) if namespace and namespace == default}
    for namespace in [home, *sorted(elements | attributes)]:
        if namespace and namespace not in found:
            found[namespace] = f"n{len(found)}"
    if default and default in attributes:
        found["@" + default] = f"n{len(found)}"
    return found


def _simple_element(start: str, nil: str, end: str, scalar: Scalar) -> Write:
    text = to_text(scalar)
    start += ">"

    def write(value: Any, out: Out, path: Path) -> None:
        if value is None and nil:
            out.append(nil)
            return
        try:
            out.append(f"{start}{escaped(text(value))}{end}")
        except Untranslatable as refusal:
            out.refuse(path, str(refusal))

    return write


def _element(start: str, nil: str, end: str, writer: Writer) -> Write:
    content, attributes = writer

    def write(value: Any, out: Out, path: Path) -> None:
        if value is None and nil:
            out.append(nil)
            return
        out.append(start)
        if attributes is not None:
            attributes(value, out, path)
        out.append(">")
        content(value, out, path)
        out.append(end)

    return write


def _scalar(scalar: Scalar, special: re.Pattern[str]) -> Write:
    text = to_text(scalar)

    def write(value: Any, out: Out, path: Path) -> None:
        try:
            out.append(escaped(text(value), special))
        except Untranslatable as refusal:
            out.refuse(path, str(refusal))

    return write


def _items(item: Scalar, special: re.Pattern[str]) -> Write:
    text = to_text(item)

    def write(value: Any, out: Out, path: Path) -> None:
        if type(value) is not list:
            return out.refuse(path, "type: array")
        for index, each in enumerate(value):
            try:
                word = escaped(text(each), special)
                if not word or any(space in word for space in " \t\n") or "&#" in word:
                    raise Untranslatable("no-white-space-in-list")
                out.append(f" {word}" if index else word)
            except Untranslatable as refusal:
                out.refuse((path, index), str(refusal))
        return None

    return write


def _attribute(field: Field) -> Write:
    if isinstance(field.shape, Items):
        return _items(field.shape.item, _SPECIAL_IN_ATTRIBUTE)
    assert isinstance(field.shape, Scalar)  # noqa: S101  # attributes have simple types; says so to the type checker
    return _scalar(field.shape, _SPECIAL_IN_ATTRIBUTE)


def _write_variant_attribute(value: Any, out: Out, path: Path) -> None:
    try:
        kind = variant_kind(value)
    except Untranslatable:
        return  # its content says so
    if kind != "string":
        out.append(f' {VARIANT_ATTRIBUTE}="{kind}"')


def _write_variant(value: Any, out: Out, path: Path) -> None:
    try:
        kind = variant_kind(value)
        out.append(escaped(str(value)) if kind != "boolean" else str(value).lower())
    except Untranslatable as refusal:
        out.refuse(path, str(refusal))
