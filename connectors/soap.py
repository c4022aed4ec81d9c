"""SOAP providers: what their WSDL says, and the connector that calls them. The only file that knows zeep.

zeep reads WSDL 1.1 (bindings, ports, operations, the elements of their messages) and nothing else: it neither fetches
nor sends, and no element of zeep outlives a reading. Payloads are spliced into their envelope as the bytes they are,
for what zeep would send is what zeep understood of them.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from registry.model import SoapCall
from schemas.codec import read_xml
from schemas.problem import Malformed, Problem, TooLarge
from schemas.soap import SoapVersion

# ---- What a WSDL says

#: Most bytes of a WSDL and all that it imports, most documents, most elements of one. The largest contract seen among
#: ministries' is under 400 KB.
MAX_WSDL_BYTES: Final = 4 * 1024 * 1024
MAX_WSDL_DOCUMENTS: Final = 50
MAX_WSDL_ELEMENTS: Final = 50_000
#: Where a WSDL is that does not say: relative references become absolute, and no loader can answer them by accident.
NOWHERE: Final = "http://wsdl.invalid/service.wsdl"


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdlOperation:
    """One operation of a port. Elements are ``{namespace}name``."""

    name: str
    #: SOAPAction, or ``action`` in SOAP 1.2; empty when the WSDL gives none.
    soap_action: str
    #: ``document`` or ``rpc``; the bus speaks ``document``.
    style: str
    #: The only child of Body; empty for rpc style and where the Body has none or several.
    request: str
    #: The same of the answer; empty also for a one-way operation.
    reply: str
    #: Header blocks that the WSDL promises with a request.
    headers: tuple[str, ...] = ()
    #: Elements of the faults that it declares.
    faults: tuple[str, ...] = ()
    #: Does the WSDL declare no answer at all?
    one_way: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdlPort:
    """Where a service is offered, and in which version of SOAP."""

    name: str
    #: As the WSDL has it; often a machine behind the provider's firewall.
    address: str
    version: SoapVersion
    operations: tuple[WsdlOperation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdlService:
    """A named group of ports; only those that speak SOAP over HTTP."""

    name: str
    ports: tuple[WsdlPort, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WsdlDescription:
    """What a WSDL offers over SOAP, in its own order."""

    services: tuple[WsdlService, ...]

    def ports(self) -> Iterator[WsdlPort]:
        for service in self.services:
            yield from service.ports

    def find(self, operation: str, port: str = "") -> tuple[WsdlPort, WsdlOperation]:
        """An operation that the bus can call, and its port: the named one, or the first that has the operation.

        Raises Malformed: ``wsdl-port-unknown``, ``wsdl-operation-unknown``, ``wsdl-rpc-style`` and
        ``wsdl-body-not-one`` (no element, several, or one given by its type only).
        """
        ports = [candidate for candidate in self.ports() if port in ("", candidate.name)]
        if not ports:
            raise Malformed("wsdl-port-unknown")
        found = [(one, offered) for one in ports for offered in one.operations if offered.name == operation]
        if not found:
            raise Malformed("wsdl-operation-unknown")
        callable_ones = [pair for pair in found if pair[1].request and (pair[1].reply or pair[1].one_way)]
        if not callable_ones:
            raise Malformed("wsdl-rpc-style" if found[0][1].style == "rpc" else "wsdl-body-not-one")
        return callable_ones[0]


def describe_wsdl(text: str, load: Callable[[str], bytes] | None = None, *, location: str = NOWHERE) -> WsdlDescription:
    """What the WSDL 1.1 in ``text`` offers over SOAP.

    References to other documents are asked of ``load`` by their absolute address, relative ones resolved against
    ``location``; without it there must be none. Each is read once, and documents that import each other come to an end.
    ``load`` raises what it likes to refuse an address: a Problem is passed on.

    Raises TooLarge ``wsdl-too-large`` (bytes or documents), Malformed: ``wsdl-remote-reference``, ``wsdl-no-soap-port``,
    ``wsdl-invalid`` and the reasons of :func:`schemas.codec.read_xml` (DOCTYPE, encoding, depth, size). Costs some ten
    milliseconds. Safe from many threads, one reading at a time.
    """
    library = _Library(load)
    content = library.admit(text.encode("utf-8"))
    with _READING:
        document = _read_document(content, library, location)
    services = tuple(_service(name, service) for name, service in document.services.items())
    services = tuple(service for service in services if service.ports)
    if not services:
        raise Malformed("wsdl-no-soap-port")
    return WsdlDescription(services=services)


#: zeep tells with warnings what it leaves out of a WSDL, and Python's warning filters are the process's.
_READING: Final = threading.Lock()


class _Library:
    """All that zeep can reach: the documents that ``load`` answers, within bounds. Has what zeep asks of a Transport."""

    def __init__(self, load: Callable[[str], bytes] | None) -> None:
        self._load = load
        self._known: dict[str, bytes] = {}
        self._bytes = 0

    def load(self, url: str) -> bytes:
        """The document at an absolute address."""
        if url in self._known:
            return self._known[url]
        if self._load is None:
            raise Malformed("wsdl-remote-reference")
        if len(self._known) >= MAX_WSDL_DOCUMENTS:
            raise TooLarge("wsdl-too-large", limit=MAX_WSDL_BYTES)
        content = self._known[url] = self.admit(self._load(url))
        return content

    def admit(self, content: bytes) -> bytes:
        """The document, which our own reader has taken: zeep's parser is not the gate."""
        self._bytes += len(content)
        if self._bytes > MAX_WSDL_BYTES:
            raise TooLarge("wsdl-too-large", limit=MAX_WSDL_BYTES)
        read_xml(content, max_elements=MAX_WSDL_ELEMENTS)
        return content


def _read_document(content: bytes, library: _Library, location: str) -> Any:
    # Imported here: zeep brings requests and takes a quarter of a second, and most processes never call SOAP.
    from zeep import Settings
    from zeep.exceptions import ExternalReferenceForbidden
    from zeep.wsdl import Document

    settings = Settings(
        strict=True,
        forbid_dtd=True,
        forbid_entities=True,
        # With a loader it is the loader that forbids: zeep's switch knows only all or nothing.
        forbid_external=library._load is None,
        xml_huge_tree=False,
        force_https=False,
    )
    try:
        with warnings.catch_warnings():
            # An incomplete message or operation is left out, and missed when somebody asks for it.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"zeep\.")
            return Document(io.BytesIO(content), library, base=location, settings=settings)
    except Problem:
        raise
    except ExternalReferenceForbidden:
        raise Malformed("wsdl-remote-reference") from None
    except Exception:
        # zeep trusts its input: a broken WSDL raises KeyError, AttributeError, AssertionError, RecursionError ….
        raise Malformed("wsdl-invalid") from None


def _service(name: str, service: Any) -> WsdlService:
    ports = (_port(port) for port in service.ports.values())
    return WsdlService(name=name, ports=tuple(port for port in ports if port is not None))


def _port(port: Any) -> WsdlPort | None:
    """None for what is no SOAP port: HTTP GET and POST bindings stand in the same WSDL."""
    from zeep.wsdl.bindings import Soap11Binding, Soap12Binding

    if not isinstance(port.binding, Soap11Binding | Soap12Binding):
        return None
    return WsdlPort(
        name=port.name,
        address=(port.binding_options or {}).get("address") or "",
        version=SoapVersion.V12 if isinstance(port.binding, Soap12Binding) else SoapVersion.V11,
        operations=tuple(_operation(operation) for operation in port.binding.all().values()),
    )


def _operation(operation: Any) -> WsdlOperation:
    is_rpc = operation.style == "rpc"
    faults = (operation.abstract.fault_messages or {}).values()
    return WsdlOperation(
        name=operation.name,
        soap_action=operation.soapaction or "",
        style="rpc" if is_rpc else "document",
        request="" if is_rpc else _body_element(operation.input),
        reply="" if is_rpc else _body_element(operation.output),
        headers=_header_elements(operation.input),
        faults=tuple(
            part.element.qname.text for fault in faults for part in fault.parts.values() if part.element is not None
        ),
        one_way=operation.abstract.output_message is None,
    )


def _body_element(message: Any) -> str:
    """The element that is the Body's only child; empty when it is not one global element."""
    body = getattr(message, "body", None)
    if body is None or message._is_body_wrapped:
        return ""
    elements = {part.element.qname.text for part in message.abstract.parts.values() if part.element is not None}
    name: str = body.qname.text
    return name if name in elements else ""


def _header_elements(message: Any) -> tuple[str, ...]:
    if getattr(message, "header", None) is None:
        return ()
    return tuple(element.qname.text for _, element in message.header.type.elements)


class Contracts:
    """Descriptions of the registry's WSDLs, each read once for all threads, the least used forgotten first."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: OrderedDict[str, WsdlDescription] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, call: SoapCall) -> tuple[WsdlPort, WsdlOperation]:
        """The operation of a call, and its port. Raises as :func:`describe_wsdl` and :meth:`WsdlDescription.find`."""
        with self._lock:
            description = self._known.get(call.wsdl)
            if description is None:
                description = self._known[call.wsdl] = describe_wsdl(call.wsdl)
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(call.wsdl)
        return description.find(call.operation, call.port)
