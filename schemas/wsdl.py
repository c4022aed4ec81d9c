"""WSDL 1.1, document/literal, for SOAP 1.1 and 1.2: what a toolkit makes its client from.

Written so that every toolkit at hand takes it: each message has one part ``parameters`` that names an element (so the
operation counts as *wrapped*), each header block and the fault have a message of their own, whose part has their name
(zeep asks for a block by it), both ports have the same address, and the types need nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lxml import etree

from schemas.codec import read_xml
from schemas.problem import Malformed

if TYPE_CHECKING:
    from lxml.etree import _Element

WSDL_NS: Final = "http://schemas.xmlsoap.org/wsdl/"
XSD_NS: Final = "http://www.w3.org/2001/XMLSchema"
_TRANSPORT: Final = "http://schemas.xmlsoap.org/soap/http"
#: Where the types go in the document.
_TYPES_HERE: Final = "types"
#: Suffix of binding and port → namespace of its WSDL extension.
_BINDINGS: Final = {
    "Soap11": "http://schemas.xmlsoap.org/wsdl/soap/",
    "Soap12": "http://schemas.xmlsoap.org/wsdl/soap12/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdlOperation:
    """One operation; elements are named ``{namespace}name`` and declared in the types."""

    name: str
    request: str
    #: None: nothing comes back but the HTTP status.
    reply: str | None
    #: SOAPAction; empty is what most of today's services have.
    action: str = ""
    #: Header blocks of the request, all optional.
    blocks: tuple[str, ...] = ()
    documentation: str = ""


def write_wsdl(
    *,
    name: str,
    namespace: str,
    types: Sequence[str],
    operations: Sequence[WsdlOperation],
    address: str,
    fault: str = "",
    documentation: str = "",
) -> bytes:
    """The document in UTF-8.

    ``types`` are texts of ``xs:schema`` or ``wsdl:types``; ``fault`` names the element in the detail of a fault.
    Raises Malformed (``xsd-invalid`` and the reasons of :func:`schemas.codec.read_xml`) for types that cannot be read.
    """
    return _Document(name, namespace, fault, tuple(operations)).written(types, address, documentation)


def types_text(schemas: Sequence[_Element]) -> str:
    """One text for these ``xs:schema`` elements: the schema itself, or a ``wsdl:types`` when there are more."""
    if len(schemas) == 1:
        root = schemas[0]
    else:
        root = etree.Element(_wsdl("types"), nsmap={"wsdl": WSDL_NS, "xs": XSD_NS})
        root.extend(schemas)
    for schema in schemas:
        _cleaned(schema)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode")


def schemas_in(text: str) -> list[_Element]:
    """The ``xs:schema`` elements of a schema's or a bundle's text. Raises Malformed."""
    root = read_xml(text.encode())
    if root.tag == f"{{{XSD_NS}}}schema":
        return [root]
    if root.tag != _wsdl("types"):
        raise Malformed("xsd-invalid")
    return [schema for schema in root if schema.tag == f"{{{XSD_NS}}}schema"]


class _Document:
    """A WSDL in the making."""

    def __init__(self, name: str, namespace: str, fault: str, operations: tuple[WsdlOperation, ...]) -> None:
        self._name = name
        self._operations = operations
        self._fault = fault
        elements = [element for operation in operations for element in _elements(operation)]
        spaces = dict.fromkeys(_namespace(element) for element in (*elements, *([fault] if fault else [])))
        spaces.pop(namespace, None)
        self._prefixes = {namespace: "tns"} | {space: f"e{number}" for number, space in enumerate(spaces, 1)}
        nsmap = {prefix: space for space, prefix in self._prefixes.items()}
        extensions = {prefix.lower(): space for prefix, space in _BINDINGS.items()}
        self._root = etree.Element(
            _wsdl("definitions"),
            {"name": name, "targetNamespace": namespace},
            nsmap={"wsdl": WSDL_NS, **extensions, **nsmap},
        )

    def written(self, types: Sequence[str], address: str, documentation: str) -> bytes:
        _document(self._root, documentation)
        _add(self._root, "types").append(etree.Comment(_TYPES_HERE))
        self._add_messages()
        self._add_port_type()
        for suffix, extension in _BINDINGS.items():
            self._add_binding(suffix, extension)
        service = _add(self._root, "service", name=self._name)
        for suffix, extension in _BINDINGS.items():
            port = _add(service, "port", name=f"{self._name}{suffix}", binding=f"tns:{self._name}{suffix}")
            etree.SubElement(port, f"{{{extension}}}address", {"location": address})
        etree.indent(self._root)
        frame = etree.tostring(self._root, encoding="UTF-8", xml_declaration=True)
        # As text: moved into this tree, a schema would lose the prefixes that ours has other names for, and with them
        # the meaning of its references.
        schemas = (etree.tostring(schema, with_tail=False) for text in types for schema in schemas_in(text))
        return frame.replace(f"<!--{_TYPES_HERE}-->".encode(), b"\n".join(schemas))

    def _add_messages(self) -> None:
        for operation in self._operations:
            self._add_message(operation.name, operation.request)
            if operation.reply is not None:
                self._add_message(f"{operation.name}Response", operation.reply)
        for block in dict.fromkeys(block for operation in self._operations for block in operation.blocks):
            self._add_message(f"{_local(block)}Block", block, _local(block))
        if self._fault:
            self._add_message("Fault", self._fault, _local(self._fault))

    def _add_message(self, name: str, element: str, part: str = "parameters") -> None:
        message = _add(self._root, "message", name=name)
        prefix = self._prefixes[_namespace(element)]
        _add(message, "part", name=part, element=f"{prefix}:{_local(element)}")

    def _add_port_type(self) -> None:
        port_type = _add(self._root, "portType", name=self._name)
        for operation in self._operations:
            described = _add(port_type, "operation", name=operation.name)
            _document(described, operation.documentation)
            _add(described, "input", message=f"tns:{operation.name}")
            if operation.reply is not None:
                _add(described, "output", message=f"tns:{operation.name}Response")
                if self._fault:
                    _add(described, "fault", name="Fault", message="tns:Fault")

    def _add_binding(self, suffix: str, extension: str) -> None:
        binding = _add(self._root, "binding", name=f"{self._name}{suffix}", type=f"tns:{self._name}")
        etree.SubElement(binding, f"{{{extension}}}binding", {"style": "document", "transport": _TRANSPORT})
        for operation in self._operations:
            bound = _add(binding, "operation", name=operation.name)
            action = {"soapAction": operation.action, "style": "document"}
            if suffix == "Soap12" and not operation.action:
                action["soapActionRequired"] = "false"
            etree.SubElement(bound, f"{{{extension}}}operation", action)
            received = _add(bound, "input")
            for block in operation.blocks:
                header = {"message": f"tns:{_local(block)}Block", "part": _local(block), "use": "literal"}
                etree.SubElement(received, f"{{{extension}}}header", header)
            etree.SubElement(received, f"{{{extension}}}body", {"use": "literal"})
            if operation.reply is not None:
                etree.SubElement(_add(bound, "output"), f"{{{extension}}}body", {"use": "literal"})
                if self._fault:
                    told = _add(bound, "fault", name="Fault")
                    etree.SubElement(told, f"{{{extension}}}fault", {"name": "Fault", "use": "literal"})


def _elements(operation: WsdlOperation) -> Iterator[str]:
    yield operation.request
    if operation.reply is not None:
        yield operation.reply
    yield from operation.blocks


def _add(parent: _Element, tag: str, **attributes: str) -> _Element:
    return etree.SubElement(parent, _wsdl(tag), attributes)


def _document(parent: _Element, text: str) -> None:
    if text:
        _add(parent, "documentation").text = text


def _wsdl(name: str) -> str:
    return f"{{{WSDL_NS}}}{name}"


def _namespace(element: str) -> str:
    return element[1:].partition("}")[0]


def _local(element: str) -> str:
    return element.rpartition("}")[2]


#: Attributes of XML Schema whose values begin with a prefix.
_QUALIFIED: Final = ("type", "ref", "base", "itemType", "memberTypes", "refer", "substitutionGroup")


def _cleaned(schema: _Element) -> None:
    """Take away declarations of prefixes that neither a tag nor a value uses."""
    used = {value.partition(":")[0] for value in _qualified_values(schema.iter()) if ":" in value}
    etree.cleanup_namespaces(schema, keep_ns_prefixes=sorted(used))


def _qualified_values(elements: Iterable[_Element]) -> Iterator[str]:
    for element in elements:
        for name in _QUALIFIED:
            yield from element.get(name, "").split()
