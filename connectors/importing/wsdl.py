"""WSDL 1.1 → operations.

The document and all that it imports are taken apart here, because a partner's WSDL is rarely one file that a strict
reader takes: services and bindings lie in several documents, half of the ports are not SOAP, one operation of forty has
types that are nowhere. Each operation that the bus can call (document/literal, one element each way) becomes a WSDL of
its own that imports nothing and holds just its types; :func:`connectors.soap.describe_wsdl` has the last word on it, as
that is what the connector will read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lxml import etree

from connectors.importing.found import Found, Operation, Refusal
from connectors.importing.sources import Documents
from connectors.importing.xsd import WSDL, XS, SchemaSet, read_document
from connectors.soap import describe_wsdl
from schemas.codec import read_xml
from schemas.problem import Malformed, Problem
from schemas.reasons import Wording
from schemas.text import nfc
from schemas.validation import compile_schema

if TYPE_CHECKING:
    from lxml.etree import _Element

_W: Final = f"{{{WSDL}}}"
_SOAP_VERSIONS: Final = ("http://schemas.xmlsoap.org/wsdl/soap/", "http://schemas.xmlsoap.org/wsdl/soap12/")
_MIME: Final = "http://schemas.xmlsoap.org/wsdl/mime/"
_XML: Final = "http://www.w3.org/XML/1998/namespace"
#: ``xml:lang`` and its like, for zeep, which would go and fetch them from the web.
_XML_ATTRIBUTES: Final = f"""<xs:schema xmlns:xs="{XS}" targetNamespace="{_XML}">
<xs:attribute name="lang" type="xs:string"/><xs:attribute name="space" type="xs:NCName"/>
<xs:attribute name="base" type="xs:anyURI"/><xs:attribute name="id" type="xs:ID"/>
<xs:attributeGroup name="specialAttrs"><xs:attribute ref="xml:base"/><xs:attribute ref="xml:lang"/>
<xs:attribute ref="xml:space"/><xs:attribute ref="xml:id"/></xs:attributeGroup></xs:schema>"""
#: What is listed by the name it has in its own namespace.
_LISTED: Final = ("message", "portType", "binding")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """An operation as one SOAP port offers it."""

    service: _Element
    port: _Element
    address: str
    soap: str
    binding: _Element
    bound: _Element
    port_type: _Element
    abstract: _Element

    @property
    def name(self) -> str:
        return self.abstract.get("name", "")

    @property
    def style(self) -> str:
        """An operation's own style goes before its binding's (WSDL 1.1, 3.4)."""
        own = self.bound.find(f"{{{self.soap}}}operation")
        of_all = self.binding.find(f"{{{self.soap}}}binding")
        words = [node.get("style") for node in (own, of_all) if node is not None]
        return next((word for word in words if word), "document")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """One direction of an operation: the element in Body, and the header blocks that the binding adds."""

    element: str
    headers: tuple[str, ...]


def read_wsdl(documents: Documents) -> Found:
    """The operations of the WSDL at ``documents.first``.

    Raises Malformed when the description as a whole cannot be used: reasons of ``Documents``, of ``SchemaSet`` and of
    :func:`schemas.codec.read_xml`, ``import-not-wsdl``, ``wsdl-no-soap-port``.
    """
    return _Reader(documents).found()


class _Reader:
    """The definitions of all documents of one import, by what they are and how they are named."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._schemas = SchemaSet(documents)
        self._listed: dict[tuple[str, str], _Element] = {}
        self._services: list[_Element] = []
        self._inline: list[tuple[_Element, str]] = []
        self._read_all()
        self._schemas.add(self._inline)

    def found(self) -> Found:
        """Everything offered over SOAP, each operation once, by the first of its ports that can be used."""
        groups: dict[tuple[int, str], list[_Offer]] = {}
        for offer in self._offers():
            groups.setdefault((id(offer.port_type), offer.name), []).append(offer)
        if not groups:
            raise Malformed("wsdl-no-soap-port")
        names = [name for _, name in groups]
        operations: list[Operation] = []
        refusals: list[Refusal] = []
        for (_, name), offers in groups.items():
            prefix = f"{offers[0].service.get('name', '')} " if names.count(name) > 1 else ""
            try:
                operations.append(self._operation(offers, prefix))
            except Problem as problem:
                refusals.append(Refusal(name=name, problem=problem))
        return Found(connector="soap", operations=tuple(operations), refusals=tuple(refusals))

    # Reading all documents

    def _read_all(self) -> None:
        seen = {self._documents.first}
        rest = [self._documents.first]
        while rest:
            place = rest.pop(0)
            root = read_document(self._documents, place)
            if root.tag == f"{{{XS}}}schema" and place != self._documents.first:
                self._inline.append((root, place))  # some import a schema as if it were a WSDL
                continue
            if root.tag != f"{_W}definitions":
                raise Malformed("import-not-wsdl")
            self._list(root, place)
            for node in root.findall(f"{_W}import"):
                there = self._documents.locate(node.get("location", ""), place)
                if there not in seen:
                    seen.add(there)
                    rest.append(there)

    def _list(self, root: _Element, place: str) -> None:
        namespace = root.get("targetNamespace", "")
        for kind in _LISTED:
            for node in root.findall(_W + kind):
                self._listed.setdefault((kind, _qualified(namespace, node.get("name", ""))), node)
        self._services += root.findall(f"{_W}service")
        self._inline += [(schema, place) for schema in root.iterfind(f"{_W}types/{{{XS}}}schema")]

    def _offers(self) -> Iterator[_Offer]:
        for service in self._services:
            for port in service.findall(f"{_W}port"):
                binding = self._pointed("binding", port, "binding")
                port_type = None if binding is None else self._pointed("portType", binding, "type")
                soap = "" if binding is None else _soap_of(binding)
                if binding is None or port_type is None or not soap:
                    continue
                at = port.find(f"{{{soap}}}address")
                address = "" if at is None else at.get("location", "")
                bound = {node.get("name", ""): node for node in binding.findall(f"{_W}operation")}
                for abstract in port_type.findall(f"{_W}operation"):
                    if abstract.get("name", "") in bound:
                        yield _Offer(
                            service=service,
                            port=port,
                            address=address.strip(),
                            soap=soap,
                            binding=binding,
                            bound=bound[abstract.get("name", "")],
                            port_type=port_type,
                            abstract=abstract,
                        )

    def _pointed(self, kind: str, node: _Element, attribute: str) -> _Element | None:
        return self._listed.get((kind, _resolved(node, node.get(attribute, ""))))

    # One operation

    def _operation(self, offers: Sequence[_Offer], prefix: str) -> Operation:
        """The operation by the first port that can be used; why the first one cannot, when none can."""
        refused: Problem | None = None
        for offer in offers:
            try:
                return self._drafted(offer, prefix)
            except Problem as problem:
                refused = refused or problem
        raise refused or Malformed("wsdl-invalid")

    def _drafted(self, offer: _Offer, prefix: str) -> Operation:
        if sum(node.get("name") == offer.name for node in offer.port_type.findall(f"{_W}operation")) > 1:
            raise Malformed("import-wsdl-overloaded")
        if offer.style == "rpc":
            raise Malformed("wsdl-rpc-style")
        request, reply = self._message(offer, "input"), self._message(offer, "output")
        directions = [etree.QName(node).localname for node in offer.abstract.iterchildren(f"{_W}input", f"{_W}output")]
        if request is None or directions not in (["input"], ["input", "output"]):
            raise Malformed("import-wsdl-direction")
        payloads = [message.element for message in (request, reply) if message is not None]
        types = _text(self._schemas.bundle(payloads))
        for element in payloads:
            compile_schema(types, element=element)
        wsdl = self._alone(offer, request, reply)
        describe_wsdl(wsdl).find(offer.name, offer.port.get("name", ""))
        return Operation(
            name=offer.name,
            code_words=prefix + offer.name,
            title=_documentation(offer.abstract) or _documentation(offer.bound),
            one_way=reply is None,
            schema=types,
            reply_schema=types if reply is not None else None,
            element=request.element,
            reply_element=reply.element if reply is not None else "",
            call={"operation": offer.name, "port": offer.port.get("name", "")},
            wsdl=wsdl,
            address=offer.address,
            notes=tuple(_header_note(name) for name in request.headers),
        )

    def _message(self, offer: _Offer, direction: str) -> _Message | None:
        """What travels in one direction, None when nothing does. Raises Malformed when it is not one element."""
        abstract = offer.abstract.find(_W + direction)
        if abstract is None:
            return None
        message = self._pointed("message", abstract, "message")
        bound = offer.bound.find(_W + direction)
        if message is None or bound is None:
            raise Malformed("wsdl-operation-unknown")
        if any(str(node.tag).startswith(f"{{{_MIME}}}") for node in bound):
            raise Malformed("import-wsdl-mime")
        body = bound.find(f"{{{offer.soap}}}body")
        if body is not None and body.get("use", "literal") != "literal":
            raise Malformed("import-wsdl-encoded")
        headers = list(self._headers(offer, bound))
        own = _resolved(abstract, abstract.get("message", ""))
        in_headers = {part for where, part, _ in headers if where == own}
        chosen = None if body is None else body.get("parts")
        parts = [
            part
            for part in message.findall(f"{_W}part")
            if (part.get("name") in chosen.split() if chosen is not None else part.get("name") not in in_headers)
        ]
        if len(parts) != 1 or not parts[0].get("element"):
            raise Malformed("wsdl-body-not-one")
        element = _resolved(parts[0], parts[0].get("element", ""))
        if not self._schemas.has(("element", element)):
            raise Malformed("import-wsdl-element-unknown")
        return _Message(element=element, headers=tuple(element for *_, element in headers))

    def _headers(self, offer: _Offer, bound: _Element) -> Iterator[tuple[str, str, str]]:
        """Message, part and element of each header block that the binding names."""
        for header in bound.findall(f"{{{offer.soap}}}header"):
            where = _resolved(header, header.get("message", ""))
            message = self._listed.get(("message", where))
            for part in () if message is None else message.findall(f"{_W}part"):
                element = _resolved(part, part.get("element", ""))
                if part.get("name") == header.get("part") and self._schemas.has(("element", element)):
                    yield where, part.get("name", ""), element

    def _faults(self, offer: _Offer) -> Iterator[tuple[str, str]]:
        """Name and element of each declared fault that is complete."""
        for fault in offer.abstract.findall(f"{_W}fault"):
            message = self._pointed("message", fault, "message")
            part = None if message is None else message.find(f"{_W}part")
            element = "" if part is None else _resolved(part, part.get("element", ""))
            if self._schemas.has(("element", element)) and fault.get("name"):
                yield fault.get("name", ""), element

    # The WSDL of one operation

    def _alone(self, offer: _Offer, request: _Message, reply: _Message | None) -> str:
        """A WSDL with this operation, this port, and the types of its messages; it imports nothing."""
        return _Writer(offer, self._schemas).write(request, reply, self._sound_faults(offer))

    def _sound_faults(self, offer: _Offer) -> list[tuple[str, str]]:
        """Faults whose types are all here: a fault is judged by its code, and must not cost the operation."""
        sound = []
        for name, element in self._faults(offer):
            try:
                self._schemas.bundle([element])
            except Malformed:
                continue
            sound.append((name, element))
        return sound


class _Writer:
    """Writes the WSDL of one operation."""

    def __init__(self, offer: _Offer, schemas: SchemaSet) -> None:
        self._offer = offer
        self._schemas = schemas
        self._namespace = _namespace_of(offer.service) or "urn:lgsp:imported"
        #: Declared where they are used and not at the root: lxml would drop a schema's own prefixes as redundant.
        self._scope = {"wsdl": WSDL, "soap": offer.soap, "tns": self._namespace}
        self._messages: list[tuple[str, str]] = []

    def write(self, request: _Message, reply: _Message | None, faults: Sequence[tuple[str, str]]) -> str:
        offer, elements = self._offer, [*request.headers, request.element, *(element for _, element in faults)]
        if reply is not None:
            elements += [*reply.headers, reply.element]
        port_type = etree.Element(f"{_W}portType", nsmap=dict(self._scope))
        binding = etree.Element(f"{_W}binding", nsmap=dict(self._scope))
        port_type.set("name", f"{offer.name}PortType")
        binding.set("name", f"{offer.name}Binding")
        binding.set("type", f"tns:{offer.name}PortType")
        self._soap(binding, "binding", style="document", transport=self._transport())
        abstract = etree.SubElement(port_type, f"{_W}operation", name=offer.name)
        bound = etree.SubElement(binding, f"{_W}operation", name=offer.name)
        self._soap(bound, "operation", soapAction=self._action(), style="document")
        for direction, message in (("input", request), ("output", reply)):
            if message is not None:
                self._direction(direction, message, abstract, bound)
        for name, element in faults:
            etree.SubElement(abstract, f"{_W}fault", name=name, message=f"tns:{self._message(name, element)}")
            self._soap(etree.SubElement(bound, f"{_W}fault", name=name), "fault", name=name, use="literal")
        return _text(self._definitions(elements, port_type, binding))

    def _definitions(self, elements: Sequence[str], port_type: _Element, binding: _Element) -> _Element:
        offer = self._offer
        root = etree.Element(f"{_W}definitions", nsmap={"wsdl": WSDL})
        root.set("name", offer.name)
        root.set("targetNamespace", self._namespace)
        bundle = self._schemas.bundle(dict.fromkeys(elements))
        types = etree.SubElement(root, f"{_W}types")
        types.extend(list(bundle) if bundle.tag == types.tag else [bundle])
        self._inline_xml(types)
        for name, element in self._messages:
            message = etree.SubElement(root, f"{_W}message", name=name)
            namespace, local = _namespace(element), element.rpartition("}")[2]
            part = etree.SubElement(message, f"{_W}part", nsmap={"e": namespace} if namespace else None)
            part.set("name", "parameters")
            part.set("element", f"e:{local}" if namespace else local)
        root.extend([port_type, binding])
        service = etree.SubElement(root, f"{_W}service", nsmap=dict(self._scope))
        service.set("name", offer.service.get("name") or f"{offer.name}Service")
        port = etree.SubElement(service, f"{_W}port", name=offer.port.get("name", ""))
        port.set("binding", f"tns:{offer.name}Binding")
        self._soap(port, "address", location=offer.address)
        return root

    def _inline_xml(self, types: _Element) -> None:
        """zeep looks through all schemas for a name, but an import of ``xml`` sends it to the web."""
        imports = [node for node in types.iterfind(f"*/{{{XS}}}import") if node.get("namespace") == _XML]
        for node in imports:
            parent = node.getparent()
            if parent is not None:
                parent.remove(node)
        if imports:
            types.append(read_xml(_XML_ATTRIBUTES.encode()))

    def _direction(self, direction: str, message: _Message, abstract: _Element, bound: _Element) -> None:
        name = self._message(direction, message.element)
        etree.SubElement(abstract, _W + direction, message=f"tns:{name}")
        side = etree.SubElement(bound, _W + direction)
        self._soap(side, "body", use="literal")
        for at, element in enumerate(message.headers, 1):
            header = self._message(f"{direction}Header{at}", element)
            self._soap(side, "header", message=f"tns:{header}", part="parameters", use="literal")

    def _message(self, suffix: str, element: str) -> str:
        name = f"{self._offer.name}.{suffix}"
        self._messages.append((name, element))
        return name

    def _soap(self, parent: _Element, kind: str, /, **attributes: str) -> None:
        etree.SubElement(parent, f"{{{self._offer.soap}}}{kind}", dict(attributes))

    def _transport(self) -> str:
        of_all = self._offer.binding.find(f"{{{self._offer.soap}}}binding")
        return "" if of_all is None else of_all.get("transport", "")

    def _action(self) -> str:
        operation = self._offer.bound.find(f"{{{self._offer.soap}}}operation")
        return "" if operation is None else operation.get("soapAction", "")


def _soap_of(binding: _Element) -> str:
    """The namespace of the SOAP version that a binding is for; empty for GET, POST and others."""
    found = (namespace for namespace in _SOAP_VERSIONS if binding.find(f"{{{namespace}}}binding") is not None)
    return next(found, "")


def _qualified(namespace: str, name: str) -> str:
    return f"{{{namespace}}}{name}" if namespace else name


def _namespace(name: str) -> str:
    return name[1:].partition("}")[0] if name.startswith("{") else ""


def _namespace_of(node: _Element) -> str:
    root = node.getroottree().getroot()
    return root.get("targetNamespace", "")


def _resolved(node: _Element, word: str) -> str:
    """A name with a prefix, as it is meant where it stands. What has no meaning names nothing that is listed."""
    prefix, _, local = word.strip().rpartition(":")
    namespace = node.nsmap.get(prefix or None)
    return _qualified(namespace or ("?" if prefix else ""), local)


def _documentation(node: _Element) -> str:
    found = node.find(f"{_W}documentation")
    return "" if found is None else nfc(" ".join("".join(map(str, found.itertext())).split()))[:300]


def _header_note(element: str) -> Wording:
    return Wording(
        f"the request has a header block {element}: the endpoint's settings must give it",
        f"yêu cầu có khối đầu thư SOAP {element}: phải đặt trong thiết lập riêng của điểm cuối",
    )


def _text(root: _Element) -> str:
    etree.indent(root)
    return etree.tostring(root, encoding="unicode", with_tail=False) + "\n"
