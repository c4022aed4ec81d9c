"""SOAP operations from plain dataclasses, bound to XML by spyne. The only file that imports spyne.

An operation is a name, a dataclass that is asked for, one that is answered, and a function between them. Fields map as
their types say:

=====================  ====================================================================
``str``                ``xs:string``; ``bytes`` ``xs:base64Binary``; ``bool``, ``Decimal``,
                       ``datetime`` and ``date`` as they are called in XML Schema, ``int`` is ``xs:long``
a dataclass            a complex type of that name, in the namespace of the message it is used in
``X | None``, default  ``minOccurs="0"``
``tuple[X, ...]``      ``minOccurs="0" maxOccurs="unbounded"``
``Annotated[X, …]``    with an :class:`Element`: another name, lengths, a pattern, allowed values, a choice
=====================  ====================================================================

Names of elements are the fields' in camel case (``content_type`` → ``contentType``) unless an :class:`Element` names
them. What callers send is validated before spyne sees it.

This file is here and not at the web edge because the sandbox's SOAP twins are served by it too, and imports only go
down.

What was found in spyne 2.14, and how it is kept away:

- It is driven from a parsed element to an element. Its WSGI application, its parser, its ``multipart/related`` and
  ``href`` paths, its reading of headers and of two Bodies are never reached; ``schemas.soap.read_soap`` stands before.
- Its schema validation shares one ``XMLSchema`` among threads, and 5 % of faults then tell another caller's values;
  it stays off. ``schemas.validation.compile_schema`` has one for each run.
- It writes a small answer in 190 µs; here that costs 15.
- It turns every exception of an operation into a fault of its own; here ``call_wrapper`` carries it past.
- It logs invalid input whole; its loggers are silent.
- It follows ``xsi:type`` to any type it knows; that is off.
- Its copy of ``six`` does not load on Python 3.12 and later; it gets the real one.
"""

from __future__ import annotations

import base64
import importlib
import logging
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Final

import six
from lxml import etree

from schemas.problem import Malformed
from schemas.validation import compile_xsd
from schemas.wsdl import XSD_NS, WsdlOperation, types_text, write_wsdl

if TYPE_CHECKING:
    from lxml.etree import _Element


def _lend_six() -> None:
    """Put the real ``six`` where spyne looks for its own copy, whose importer Python 3.12 does not know any more."""
    own = ModuleType("spyne.util.six")
    own.__dict__.update({name: value for name, value in vars(six).items() if not name.startswith("__")})
    own.__dict__["get_function_name"] = operator.attrgetter("__name__")  # the one thing that spyne added
    sys.modules.setdefault("spyne.util.six", own)
    for moved in ("", ".collections_abc", ".http_cookies", ".urllib", ".urllib.parse", ".urllib.request"):
        sys.modules.setdefault(f"spyne.util.six.moves{moved}", importlib.import_module(f"six.moves{moved}"))


def _silence() -> None:
    """No logger below ``spyne`` says anything: what it says holds received values."""
    logger = logging.getLogger("spyne")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.CRITICAL + 1)


_lend_six()
_silence()

import spyne  # noqa: E402 - six comes first
from spyne.interface import XmlSchema  # noqa: E402
from spyne.protocol.xml import XmlDocument  # noqa: E402

_XS: Final = f"{{{XSD_NS}}}"
#: Python type → spyne's.
_LEAVES: Final[Mapping[type, Any]] = {
    str: spyne.Unicode,
    bytes: spyne.ByteArray,
    bool: spyne.Boolean,
    int: spyne.Integer64,  # most toolkits know what to do with an xs:long, few with an xs:integer
    Decimal: spyne.Decimal,
    datetime: spyne.DateTime,
    date: spyne.Date,
}
#: Characters that XML 1.0 cannot hold (section 2.2).
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Python type → the text of a value.
_TEXTS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: lambda value: _NOT_XML.sub("\ufffd", value),
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
    bool: lambda value: "true" if value else "false",
    int: str,
    Decimal: lambda value: f"{value:f}",
    datetime: datetime.isoformat,
    date: date.isoformat,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """What a field's type cannot say of its element; stands in ``Annotated[str, Element(max_length=100)]``."""

    #: The element's name, when it is not the field's in camel case.
    name: str = ""
    min_length: int | None = None
    max_length: int | None = None
    #: A pattern of XML Schema (it matches the whole value).
    pattern: str | None = None
    #: The smallest and the largest number.
    least: int | None = None
    greatest: int | None = None
    #: Most times that a ``tuple[X, ...]`` may come.
    most: int | None = None
    #: The only values allowed.
    values: tuple[str, ...] = ()
    #: Optional fields that follow each other and name the same choice: the sender gives exactly one of them.
    choice: str | None = None
    documentation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: ``call`` gets a ``request`` (and what the caller of ``handle`` adds) and returns a ``reply``."""

    name: str
    #: Dataclasses.
    request: type
    reply: type
    call: Callable[..., Any]
    #: Names of the two elements, when they are not ``<name>`` and ``<name>Response``.
    request_name: str = ""
    reply_name: str = ""
    documentation: str = ""
    #: Header blocks (``{namespace}name``) that the WSDL tells of.
    blocks: tuple[str, ...] = ()


class SoapServer:
    """Some operations under one namespace. One instance serves all threads and greenlets."""

    def __init__(
        self,
        name: str,
        namespace: str,
        operations: Sequence[Operation],
        *,
        reply_namespace: str = "",
        declarations: str = "",
        fault: str = "",
    ) -> None:
        """``declarations`` is the text of an XSD in ``namespace``, under the prefix ``tns``, with more elements to tell
        of (header blocks, the detail of a fault); ``fault`` is the ``{namespace}name`` of that detail.

        Raises TypeError for a dataclass that cannot be mapped.
        """
        self._name = name
        self._namespace = namespace
        self._fault = fault
        shapes = _Shapes()
        self._exposed = {
            operation.name: _Exposed(operation, shapes, namespace, reply_namespace or namespace)
            for operation in operations
        }
        self._application = spyne.Application(
            [_service(self._exposed.values())],
            namespace,
            name,
            in_protocol=_Xml(validator=None, parse_xsi_type=False),
            out_protocol=XmlDocument(),
        )
        for descriptor in self._application.interface.method_id_map.values():
            self._exposed[descriptor.name].descriptor = descriptor
        messages = {shape.tag for exposed in self._exposed.values() for shape in (exposed.request, exposed.reply)}
        self._types = _published(self._application, shapes, messages, declarations)
        # Our own schema: the second opinion is asked for in the tests.
        self._schema = compile_xsd(self._types)

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(self._exposed)

    def handle(self, operation: str, payload: _Element, *given: Any) -> bytes:
        """The XML of the reply to ``payload``, the only child of a Body that passed the gate.

        ``given`` reaches the operation's function as further arguments. Raises Malformed(soap-operation-unknown,
        soap-value-unreadable), SchemaViolation when the payload breaks :meth:`types`, and whatever the function raises,
        as it is.
        """
        exposed = self._exposed.get(operation)
        if exposed is None or payload.tag != exposed.request.tag:
            raise Malformed("soap-operation-unknown")
        self._schema.validate_element(payload)
        call = _Call(exposed, given, payload)
        self._deserialize(call)
        self._application.process_request(call)
        if call.error is not None:
            raise call.error
        return exposed.reply.written(call.reply)

    def types(self) -> str:
        """All types: the text of one ``xs:schema``, or of a ``wsdl:types`` when there is more than one namespace."""
        return self._types

    def wsdl(self, address: str) -> bytes:
        """WSDL 1.1 for SOAP 1.1 and 1.2 at this address."""
        return write_wsdl(
            name=self._name,
            namespace=self._namespace,
            types=[self._types],
            operations=[exposed.described() for exposed in self._exposed.values()],
            address=address,
            fault=self._fault,
        )

    def _deserialize(self, call: _Call) -> None:
        """Valid by its schema and still no value of ours: the year 12000, base64 with other characters in it."""
        protocol = self._application.in_protocol
        try:
            protocol.deserialize(call, protocol.REQUEST)
            call.request = call.exposed.request.value(call.in_object)
        except Exception:
            raise Malformed("soap-value-unreadable") from None


# ---- spyne's side of a call


class _Xml(XmlDocument):  # type: ignore[misc]  # spyne ships no types
    """spyne's reader of elements, strict about base64: others skip what is no base64, or cut there."""

    def byte_array_from_element(self, context: Any, kind: Any, element: _Element) -> tuple[bytes]:
        return (base64.b64decode("".join((element.text or "").split()), validate=True),)


class _Exposed:
    """An operation with the shapes of its messages and spyne's descriptor of it."""

    def __init__(self, operation: Operation, shapes: _Shapes, namespace: str, reply_namespace: str) -> None:
        name = operation.name
        self.operation = operation
        self.request = shapes.of(operation.request, namespace, operation.request_name or name)
        self.reply = shapes.of(operation.reply, reply_namespace, operation.reply_name or f"{name}Response")
        self.descriptor: Any = None

    def described(self) -> WsdlOperation:
        return WsdlOperation(
            name=self.operation.name,
            request=self.request.tag,
            reply=self.reply.tag,
            blocks=self.operation.blocks,
            documentation=self.operation.documentation,
        )


class _Call:
    """What one call carries through spyne, and what came of it.

    It stands for spyne's MethodContext, as far as an application looks at it on the way from an element to an object.
    The real one costs 40 µs and is a ring of references, which only the garbage collector can clear away.
    """

    __slots__ = (
        *("descriptor", "error", "exposed", "function", "given", "in_body_doc", "in_object", "out_error", "out_object"),
        *("outprot_ctx", "protocol", "reply", "request"),
    )

    def __init__(self, exposed: _Exposed, given: tuple[Any, ...], document: _Element) -> None:
        self.exposed = exposed
        self.given = given
        self.request: Any = None
        self.reply: Any = None
        self.error: Exception | None = None
        # By spyne's names
        self.descriptor = exposed.descriptor
        self.function = exposed.descriptor.function
        self.in_body_doc = document
        self.in_object: Any = None
        self.out_object: Any = None
        self.out_error: Exception | None = None
        self.protocol = self.outprot_ctx = None

    def fire_event(self, event: str) -> None:
        """Nobody listens."""

    def answer(self) -> None:
        """Call the operation; its exception is kept, because spyne would make a fault of its own of it."""
        try:
            self.reply = self.exposed.operation.call(self.request, *self.given)
        except Exception as error:
            self.error = error


def _call_wrapper(cls: Any, call: _Call, args: Any = None) -> None:
    call.answer()


def _service(exposed: typing.Iterable[_Exposed]) -> Any:
    """A service class of spyne with one method for each operation."""
    members: dict[str, Any] = {"call_wrapper": classmethod(_call_wrapper)}
    for one in exposed:
        declare = spyne.rpc(
            one.request.model,
            _returns=one.reply.model,
            _body_style="bare",
            _in_message_name=one.request.tag,
            _out_message_name=one.reply.tag,
        )
        members[one.operation.name] = declare(_placeholder(one.operation.name))
    return type("Operations", (spyne.Service,), members)


def _placeholder(name: str) -> Callable[..., None]:
    """What spyne takes for the operation's function; it looks at its name and, by ``call_wrapper``, never calls it."""

    def placeholder(context: Any, request: Any) -> None:
        raise NotImplementedError

    placeholder.__name__ = name
    return placeholder


# ---- Dataclasses and spyne's models


class _Shapes:
    """The shapes of one server: a dataclass that is used twice is one type."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, str, str], _Shape] = {}

    def __iter__(self) -> typing.Iterator[_Shape]:
        return iter(self._made.values())

    def of(self, values: Any, namespace: str, name: str = "") -> _Shape:
        key = (values, namespace, name or values.__name__)
        if key not in self._made:
            self._made[key] = _Shape(self, *key)
        return self._made[key]


class _Shape:
    """A dataclass, the spyne model made of it, and the way between their instances."""

    def __init__(self, shapes: _Shapes, values: Any, namespace: str, name: str) -> None:
        if not is_dataclass(values):
            raise TypeError(f"{values!r} is no dataclass")
        self.namespace = namespace
        self.name = name
        self.tag = f"{{{namespace}}}{name}"
        self._values: Any = values
        hints = typing.get_type_hints(values, include_extras=True)
        self._fields = [_Field(field, hints[field.name], shapes, namespace) for field in fields(values)]
        members = [(field.name, field.model) for field in self._fields]
        self.model = spyne.ComplexModelMeta(
            name,
            (spyne.ComplexModel,),
            {
                "__namespace__": namespace,
                "__type_name__": name,
                "_type_info": members,
            },
        )

    @property
    def choices(self) -> list[tuple[str, ...]]:
        """The names of the elements of each choice."""
        chosen = dict.fromkeys(field.choice for field in self._fields if field.choice)
        return [tuple(field.name for field in self._fields if field.choice == choice) for choice in chosen]

    def value(self, instance: Any) -> Any:
        """The dataclass's instance for the model's."""
        found = {}
        for field in self._fields:
            value = field.value(getattr(instance, field.name, None))
            if value is not None:
                found[field.attribute] = value
        return self._values(**found)

    def written(self, value: Any) -> bytes:
        """The XML of a dataclass's instance; its namespace is the default one."""
        plain: Any = {None: self.namespace}  # which the stubs do not know
        root = etree.Element(self.tag, nsmap=plain)
        self.write(root, value)
        return etree.tostring(root, encoding="UTF-8")

    def write(self, element: _Element, value: Any) -> None:
        """Put the fields of an instance into an element."""
        for field in self._fields:
            field.write(element, getattr(value, field.attribute))


class _Field:
    """One field: its element's name, its model, and the way between values."""

    def __init__(self, field: Any, hint: Any, shapes: _Shapes, namespace: str) -> None:
        hint, element = _annotated(hint)
        inner, self._many, optional = _unwrapped(hint)
        kind: Any
        kind, deeper = _annotated(inner)
        self._element = element or deeper or Element()
        self.attribute = field.name
        self.choice = self._element.choice
        self.name = self._element.name or _camel_case(field.name)
        self._tag = f"{{{namespace}}}{self.name}"
        self._nested = shapes.of(kind, namespace) if is_dataclass(kind) else None
        absent = optional or self._many or field.default is not MISSING or field.default_factory is not MISSING
        self._kind = kind
        self.model = self._model(absent)

    def _model(self, may_be_absent: bool) -> Any:
        if self._nested is None and self._kind not in _LEAVES:
            raise TypeError(f"field '{self.attribute}': no XML type for {self._kind!r}")
        model = self._nested.model if self._nested else _LEAVES[self._kind]
        element = self._element
        facets: dict[str, Any] = {
            "min_occurs": 0 if may_be_absent else 1,
            "max_occurs": (element.most or "unbounded") if self._many else 1,
            "nillable": False,
            "min_len": element.min_length,
            "max_len": element.max_length,
            "ge": element.least,
            "le": element.greatest,
            "pattern": element.pattern,
            "values": element.values or None,
            "doc": element.documentation or None,
        }
        return model.customize(**{name: facet for name, facet in facets.items() if facet is not None})

    def value(self, given: Any) -> Any:
        if self._many:
            return tuple(map(self._one_value, given or ()))
        return None if given is None else self._one_value(given)

    def write(self, parent: _Element, value: Any) -> None:
        """Put the field's element, or each of them, into its parent; nothing for None."""
        for one in value if self._many else () if value is None else (value,):
            element = etree.SubElement(parent, self._tag)
            if self._nested:
                self._nested.write(element, one)
            else:
                element.text = _TEXTS[self._kind](one)

    def _one_value(self, given: Any) -> Any:
        if self._nested:
            return self._nested.value(given)
        if self._kind is bytes:
            return b"".join(given)
        return given.astimezone(UTC) if self._kind is datetime and given.tzinfo else given


def _annotated(hint: Any) -> tuple[Any, Element | None]:
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    inner, *notes = typing.get_args(hint)
    return inner, next((note for note in notes if isinstance(note, Element)), None)


def _unwrapped(hint: Any) -> tuple[Any, bool, bool]:
    """The type inside ``tuple[X, ...]`` or ``X | None``; is it many, is it optional?"""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if len(arguments) != 2 or arguments[1] is not Ellipsis:
            raise TypeError(f"{hint!r}: only tuple[X, ...] has a form in XML")
        return arguments[0], True, False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        given = [argument for argument in arguments if argument is not type(None)]
        if len(given) != 1 or len(arguments) != 2:
            raise TypeError(f"{hint!r}: only X | None has a form in XML")
        return given[0], False, True
    return hint, False, False


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


# ---- What is published


def _published(application: Any, shapes: _Shapes, messages: typing.Collection[str], declarations: str) -> str:
    """The schemas that spyne makes, put right: without elements that nobody asked for, with choices in their places."""
    made = XmlSchema(application.interface)
    made.build_interface_document()
    schemas = [schema for schema in made.schema_dict.values() if _only(schema, messages)]
    for shape in shapes:
        if shape.choices:
            _choose(shape, schemas)
    added = [etree.fromstring(declarations.encode())] if declarations else []
    for schema in added:
        next(one for one in schemas if _target(one) == _target(schema)).extend(list(schema))
    for schema in schemas:
        schema[:] = sorted(schema, key=_order)
    return types_text(schemas)


def _order(child: _Element) -> tuple[int, str]:
    """Messages first, then their types; spyne's own order differs from one process to the next."""
    kinds = [f"{_XS}annotation", f"{_XS}element", f"{_XS}complexType", f"{_XS}simpleType"]
    return kinds.index(child.tag), child.get("name", "")


def _only(schema: _Element, messages: typing.Collection[str]) -> bool:
    """Keep types and the elements of messages. Is anything left?"""
    for child in list(schema):
        is_other = child.tag == f"{_XS}element" and f"{{{_target(schema)}}}{child.get('name')}" not in messages
        if is_other or child.tag == f"{_XS}import":  # nothing here refers to another namespace
            schema.remove(child)
    return len(schema) > 0


def _choose(shape: _Shape, schemas: Sequence[_Element]) -> None:
    """Put the members of each choice into an ``xs:choice`` where the first of them stands."""
    path = f"{_XS}complexType[@name='{shape.name}']/{_XS}sequence"
    (sequence,) = (found for schema in schemas if _target(schema) == shape.namespace for found in schema.iterfind(path))
    members = {str(member.get("name")): member for member in sequence}
    for names in shape.choices:
        choice = etree.Element(f"{_XS}choice")
        members[names[0]].addprevious(choice)
        for name in names:
            members[name].attrib.pop("minOccurs", "")  # an absent one would be the choice of nothing
            choice.append(members[name])


def _target(schema: _Element) -> str | None:
    return schema.get("targetNamespace")
