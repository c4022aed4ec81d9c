"""Payload schemas: JSON Schema 2020-12 and XML Schema 1.0, checked once when registered, compiled once, then fast.

A schema is written by one agency and run on the input of others, so both are held at arm's length: nothing is ever
fetched, and no pair of schema and payload may take unbounded time. Patterns therefore run on a regular-expression
engine that is linear by construction. For the same reason the error list of a refused payload is derived from
jsonschema-rs too: jsonschema runs patterns on Python's backtracking engine, where 25 characters can cost a second. It
checks schemas at registration, and gives a second opinion in the tests.

Everything is safe from many threads and greenlets.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import jsonschema_rs
from lxml import etree

from schemas.codec import MAX_JSON_DEPTH, canonical_json, read_content_type, read_json, read_xml
from schemas.message import sha256_hex
from schemas.problem import FieldError, Malformed, SchemaViolation
from schemas.xsd import compile_with_libxml2, open_with_xmlschema, read_xsd

if TYPE_CHECKING:
    from lxml.etree import _Element

#: Places listed in one refusal; more help nobody, and the list must stay small for hostile input.
MAX_ERRORS: Final = 20
#: A schema is a contract that people read; the largest seen on a real axis has about 100 KiB.
MAX_SCHEMA_BYTES: Final = 512 * 1024
#: Largest automaton of one pattern, in bytes.
_PATTERN_BYTES: Final = 1 << 20
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class PayloadSchema(Protocol):
    """What a service demands of its payloads."""

    @property
    def id(self) -> str:
        """The name it gives itself: ``$id`` or target namespace, else ``sha256:<digest>``."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical text, lower-case hex: what a manifest's ``schema.sha256`` states."""
        ...

    def validate(self, body: bytes, content_type: str) -> Any:
        """The parsed payload (a JSON value or the root element), so that nobody parses it again.

        Raises Malformed when the body is not of the declared type or cannot be read, SchemaViolation with at most
        ``MAX_ERRORS`` places when it breaks the schema. Neither repeats a value of the payload.
        """
        ...


def compile_schema(document: Mapping[str, Any] | str, *, registered: bool = False, element: str = "") -> PayloadSchema:
    """The schema in a JSON Schema document or in the text of an XSD, checked and ready.

    An XSD is one ``xs:schema``, or several that import one another by namespace in a ``wsdl:types`` element
    (:mod:`schemas.xsd`). ``element`` names the root that a document must have, as ``{namespace}name``; without it any
    global element of the XSD will do. It says nothing about JSON.

    ``registered`` says that the document comes out of the registry, which took it through this function before: then
    the second opinions of jsonschema and xmlschema are left out, and with them the 40 MB and the second that loading
    those libraries costs a process. All other checks are made.

    The same document gives the same object from a cache, so that a refresh of the registry compiles nothing. Raises
    Malformed: ``schema-too-large``, ``schema-invalid``, ``schema-dialect``, ``schema-remote-reference``,
    ``schema-pattern-unsafe``, ``xsd-invalid``, ``xsd-occurrence-bound``, ``xsd-element-unknown`` or a reason of
    :func:`schemas.codec.read_xml`.
    """
    text = document.encode() if isinstance(document, str) else _canonical_schema(document)
    if len(text) > MAX_SCHEMA_BYTES:
        raise Malformed("schema-too-large", max_bytes=MAX_SCHEMA_BYTES)
    digest = sha256_hex(text)
    key = f"{digest} {element}" if isinstance(document, str) else digest
    found = _CACHE.get(key)
    if found is None:
        made = _XmlSchema(text, digest, element) if isinstance(document, str) else _JsonSchema(text, digest)
        found = _CACHE.put(key, made)
    if not registered and not found.is_checked:
        found.check(text)
    return found


class ElementSchema(PayloadSchema, Protocol):
    """What an XSD is compiled to: it also takes what was read already."""

    def validate_element(self, root: _Element) -> None:
        """Raises SchemaViolation."""
        ...


def compile_xsd(text: str) -> ElementSchema:
    """:func:`compile_schema` of an XSD of our own, for those who validate elements."""
    schema = compile_schema(text, registered=True)
    assert isinstance(schema, _XmlSchema)  # noqa: S101 - a text is an XSD
    return schema


class _Checkable(PayloadSchema, Protocol):
    """A compiled schema that may still lack its second opinion."""

    is_checked: bool

    def check(self, text: bytes) -> None:
        """Ask the second library. Raises Malformed and leaves ``is_checked`` False."""
        ...


class _Cache:
    """The schemas used last, by digest and root element."""

    #: About four versions of each of some hundred services.
    capacity: Final = 512

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schemas: OrderedDict[str, _Checkable] = OrderedDict()

    def get(self, key: str) -> _Checkable | None:
        with self._lock:
            if key in self._schemas:
                self._schemas.move_to_end(key)
            return self._schemas.get(key)

    def put(self, key: str, schema: _Checkable) -> _Checkable:
        """The schema to use: the one that another thread has put in meanwhile, if any."""
        with self._lock:
            kept = self._schemas.setdefault(key, schema)
            while len(self._schemas) > self.capacity:
                self._schemas.popitem(last=False)
            return kept


_CACHE = _Cache()


# ---- JSON Schema


class _JsonSchema:
    """A compiled JSON Schema 2020-12; ``format`` is asserted, only references inside the document are followed."""

    __slots__ = ("_names", "_validator", "digest", "id", "is_checked")

    def __init__(self, text: bytes, digest: str) -> None:
        document = read_json(text, max_depth=MAX_JSON_DEPTH * 2)
        _lint_json_schema(document)
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                document,
                validate_formats=True,
                ignore_unknown_formats=False,
                offline=True,
                mask="*",
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
            raise Malformed("schema-invalid") from None
        self.digest = digest
        self.id = str(document.get("$id", "")) or f"sha256:{digest}"
        self._names = frozenset(_property_names(document))
        self.is_checked = False

    def check(self, text: bytes) -> None:
        # Imported here: only whoever registers a schema needs it.
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(read_json(text, max_depth=MAX_JSON_DEPTH * 2))
        except (SchemaError, RecursionError):
            raise Malformed("schema-invalid") from None
        self.is_checked = True

    def validate(self, body: bytes, content_type: str) -> Any:
        if not read_content_type(content_type).is_json:
            raise Malformed("content-type-not-accepted", expected="JSON")
        value = read_json(body)
        if not self._validator.is_valid(value):
            raise _violation(self._errors(value))
        return value

    def _errors(self, value: Any) -> list[FieldError]:
        """Where the value breaks the schema, as far as an excerpt shows it.

        jsonschema-rs gathers every error before it hands out the first, 16 µs each: two million bytes of wrong items
        would cost 16 s. So a large value is cut down first, and a place that was cut away is not named.
        """
        excerpt = next(filter(None, (_excerpt(value, width, self._names) for width in _WIDTHS)), None)
        if excerpt is not None:
            errors = (error for error in self._validator.iter_errors(excerpt.value) if excerpt.shows(error.kind.name))
            if found := [self._explain(error) for error in islice(errors, MAX_ERRORS)]:
                return found
        return [FieldError(pointer="", detail=NOT_SHOWN)]

    def _explain(self, error: jsonschema_rs.ValidationError) -> FieldError:
        pointer = "".join(f"/{self._segment(part)}" for part in error.instance_path)
        return FieldError(pointer=pointer, detail=_json_rule(error.kind))

    def _segment(self, part: str | int) -> str:
        """A name that the schema does not know came from the sender, and is not repeated."""
        if isinstance(part, int):
            return str(part)
        return part.replace("~", "~0").replace("/", "~1") if part in self._names else "*"


#: Most values in an excerpt; each may give several errors.
_EXCERPT_NODES: Final = 1000
#: Items kept of each array (and members that the schema does not name, of each object): the widest that fits is used.
_WIDTHS: Final = (1_000_000_000, 50, 10, 2, 1)
#: Stands in place of a rule when the place that breaks it was cut away.
NOT_SHOWN: Final = "beyond the first items of a large payload"
#: Rules that a cut makes break.
_COUNTING: Final = frozenset({"minItems", "minProperties", "contains", "minContains", "dependentRequired"})


class _Excerpt(NamedTuple):
    value: Any
    is_whole: bool

    def shows(self, rule: str) -> bool:
        return self.is_whole or rule not in _COUNTING


def _excerpt(value: Any, width: int, names: frozenset[str]) -> _Excerpt | None:
    """The value with its arrays cut to ``width``; None when even that has too many values."""
    left = _EXCERPT_NODES
    is_whole = True

    def cut(node: Any) -> Any:
        nonlocal left, is_whole
        left -= 1
        if left < 0:
            raise OverflowError
        if isinstance(node, list):
            is_whole = is_whole and len(node) <= width
            return [cut(item) for item in islice(node, width)]
        if isinstance(node, dict):
            strange = [name for name in node if name not in names]
            is_whole = is_whole and len(strange) <= width
            left_out = frozenset(strange[width:])
            return {name: cut(member) for name, member in node.items() if name not in left_out}
        return node

    try:
        return _Excerpt(cut(value), is_whole)
    except OverflowError:
        return None


def _canonical_schema(document: Mapping[str, Any]) -> bytes:
    try:
        return canonical_json(dict(document))
    except TypeError:  # foreign values (a date from YAML), or nested too deep
        raise Malformed("schema-invalid") from None


def _lint_json_schema(document: Any) -> None:
    """What a schema must be before it is compiled: of our dialect, self-contained, with safe patterns."""
    for keyword, value in _keywords(document):
        if keyword == "$schema" and value.rstrip("#") != _DIALECT:
            raise Malformed("schema-dialect")
        if keyword in ("$ref", "$dynamicRef") and not value.startswith("#"):
            raise Malformed("schema-remote-reference")
        if keyword == "pattern":
            _check_pattern(value)
    for pattern in _pattern_properties(document):
        _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    """Compile it alone on the linear engine, which has no lookaround and no back-references to go back for."""
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        raise Malformed("schema-pattern-unsafe") from None


def _nodes(document: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document, without recursion."""
    rest = [document]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            yield node
            rest.extend(node.values())
        elif isinstance(node, list):
            rest.extend(node)


def _keywords(document: Any) -> Iterator[tuple[str, str]]:
    """Every member with a text value. A property that is merely *named* ``pattern`` has an object there."""
    for node in _nodes(document):
        for name, value in node.items():
            if isinstance(value, str):
                yield name, value


def _property_names(document: Any) -> Iterator[str]:
    for node in _nodes(document):
        if isinstance(node.get("properties"), dict):
            yield from node["properties"]
        if isinstance(node.get("required"), list):
            yield from filter(lambda name: isinstance(name, str), node["required"])


def _pattern_properties(document: Any) -> Iterator[str]:
    for node in _nodes(document):
        if isinstance(node.get("patternProperties"), dict):
            yield from node["patternProperties"]


#: Keywords whose own value in the schema may be told: it is the schema's word, not the sender's.
_TOLD: Final = {
    "required": "property",
    "type": "types",
    "format": "format",
    "pattern": "pattern",
    "minimum": "limit",
    "maximum": "limit",
    "exclusiveMinimum": "limit",
    "exclusiveMaximum": "limit",
    "minLength": "limit",
    "maxLength": "limit",
    "minItems": "limit",
    "maxItems": "limit",
    "minProperties": "limit",
    "maxProperties": "limit",
    "multipleOf": "multiple_of",
}


def _json_rule(kind: jsonschema_rs.ValidationErrorKind) -> str:
    """The broken rule as ``keyword`` or ``keyword: value in the schema``, the same in every language."""
    told = _TOLD.get(kind.name)
    value = kind.as_dict().get(told) if told else None
    if value is None:
        return kind.name
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{kind.name}: {words[:200]}"


def _violation(errors: list[FieldError]) -> SchemaViolation:
    return SchemaViolation("payload-breaks-schema", errors=errors, count=len(errors))


# ---- XML Schema


class _XmlSchema:
    """A compiled XML Schema 1.0, or several that import one another.

    An ``etree.XMLSchema`` keeps the errors of its last run, so two runs must never share one. Each run takes a
    compiled copy out of a pool and puts it back: as many copies as ever ran at once, with threads and greenlets alike
    (a thread-local would compile anew for each greenlet).
    """

    __slots__ = ("_bundle", "_element", "_idle", "digest", "id", "is_checked")

    def __init__(self, text: bytes, digest: str, element: str) -> None:
        self._bundle = read_xsd(text)
        self._element = element
        if element and element not in self._bundle.elements:
            raise Malformed("xsd-element-unknown")
        self._idle = [compile_with_libxml2(self._bundle)]
        self.digest = digest
        self.id = self._bundle.namespaces[0] or f"sha256:{digest}"
        self.is_checked = False

    def check(self, text: bytes) -> None:
        open_with_xmlschema(self._bundle)  # it finds faults that libxml2 overlooks
        self.is_checked = True

    def validate(self, body: bytes, content_type: str) -> Any:
        if not read_content_type(content_type).is_xml:
            raise Malformed("content-type-not-accepted", expected="XML")
        root = read_xml(body)
        self.validate_element(root, body)
        return root

    def validate_element(self, root: _Element, text: bytes | None = None) -> None:
        """The same for an element that was read already, inside an envelope perhaps; ``text`` is its own if at hand.

        Raises SchemaViolation.
        """
        if self._element and root.tag != self._element:
            place = "/" + self._step(etree.QName(root).localname)
            raise _violation([FieldError(pointer=place, detail=f"root: {self._element}")])
        try:
            compiled = self._idle.pop()
        except IndexError:
            compiled = compile_with_libxml2(self._bundle)
        try:
            if text is None and sum(1 for _ in root.iter()) > _LARGE_XML // 4:
                text = etree.tostring(root, with_tail=False)
            if text is not None and text.count(b"<") + text.count(b"=") > _LARGE_XML:
                self._refuse_many_errors(text, compiled)
            if not compiled.validate(root):
                log: Any = compiled.error_log  # iterable, which its stubs do not know
                raise _violation([self._explain(error, root) for error in islice(log, MAX_ERRORS)])
        except etree.XMLSchemaValidateError:  # libxml2 gave up on a pattern
            raise _violation([FieldError(pointer="", detail="cvc-pattern-valid")]) from None
        finally:
            self._idle.append(compiled)

    def _refuse_many_errors(self, body: bytes, compiled: etree.XMLSchema) -> None:
        """Stop at the first ``MAX_ERRORS`` errors of a large document, which then come without places.

        Validation of a tree goes on to the last error and counts siblings for the place of each: two seconds for
        20,000 wrong elements. Here the document, known to be well formed, is validated as it is read, in pieces.
        """
        parser = etree.XMLParser(schema=compiled, resolve_entities=False, no_network=True, collect_ids=False)
        try:
            for start in range(0, len(body), _PIECE_BYTES):
                parser.feed(body[start : start + _PIECE_BYTES])
                log: Any = parser.feed_error_log
                if len(log) >= MAX_ERRORS:
                    raise _violation([self._explain(error) for error in islice(log, MAX_ERRORS)])
        except etree.XMLSyntaxError:  # fewer errors: the tree will tell their places
            return

    def _explain(self, error: Any, root: _Element | None = None) -> FieldError:
        """libxml2's message quotes the value; its path (of names and positions) and the name of the rule do not."""
        path = error.path or ""
        # An element without a prefix is ``*`` in libxml2's path, for XPath knows no default namespace.
        found = _found(root, path) if root is not None and "*" in path else None
        if root is None or found is None:
            steps: Iterable[str] = map(self._step, path.split("/"))
        else:
            steps = self._steps_to(found, root)
        rule = error.type_name.removeprefix("SCHEMAV_").lower().replace("_", "-")
        return FieldError(pointer="/".join(steps), detail=rule)

    def _steps_to(self, element: _Element, root: _Element) -> Iterator[str]:
        nodes = [element, *element.iterancestors()]
        yield ""
        for node in reversed(nodes[: nodes.index(root) + 1]):
            name = etree.QName(node).localname
            place = sum(1 for _ in node.itersiblings(node.tag, preceding=True)) + 1
            many = place > 1 or next(node.itersiblings(node.tag), None) is not None
            yield (name if name in self._bundle.names else "*") + (f"[{place}]" if many and node is not root else "")

    def _step(self, step: str) -> str:
        name, bracket, position = step.partition("[")
        known = not name or name == "*" or name.rpartition(":")[2].lstrip("@") in self._bundle.names
        return (name.rpartition(":")[2] if known else "*") + bracket + position


def _found(root: _Element, path: str) -> _Element | None:
    """The element at a path that libxml2 wrote; None for an attribute and for what cannot be found again.

    The path begins with the root of what was validated, which may stand inside an envelope.
    """
    below = path.lstrip("/").partition("/")[2]
    if not below:
        return root
    namespaces = {prefix: namespace for prefix, namespace in root.nsmap.items() if prefix}
    try:
        found: Any = root.xpath(below, namespaces=namespaces)
    except etree.XPathError:  # a prefix that is declared further down
        return None
    return found[0] if isinstance(found, list) and found and etree.iselement(found[0]) else None


#: Tags and attributes, roughly, from which on a document counts as large.
_LARGE_XML: Final = 1000
_PIECE_BYTES: Final = 8192


# ---- Any well-formed document


class _WellFormed:
    """Takes every document of its type that can be read."""

    __slots__ = ("_is_json", "digest", "id")

    def __init__(self, name: str, *, is_json: bool) -> None:
        self.id = f"urn:lgsp:schema:{name}"
        self.digest = sha256_hex(self.id.encode())
        self._is_json = is_json

    def validate(self, body: bytes, content_type: str) -> Any:
        declared = read_content_type(content_type)
        if not (declared.is_json if self._is_json else declared.is_xml):
            raise Malformed("content-type-not-accepted", expected="JSON" if self._is_json else "XML")
        return read_json(body) if self._is_json else read_xml(body)


WELL_FORMED_JSON: Final[PayloadSchema] = _WellFormed("well-formed-json", is_json=True)
WELL_FORMED_XML: Final[PayloadSchema] = _WellFormed("well-formed-xml", is_json=False)
