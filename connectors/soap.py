"""SOAP providers: what their WSDL says, and the connector that calls them. The only file that knows zeep.

::

    POST <endpoint url>
    Content-Type: text/xml; charset=utf-8                                        SOAP 1.1
    SOAPAction: "<the WSDL's>"
    Content-Type: application/soap+xml; charset=utf-8; action="<the WSDL's>"     SOAP 1.2
    Idempotency-Key, Lgsp-Manifest, Lgsp-Receipt, Lgsp-Receiver, traceparent     as over REST
    Authorization: …                                                             by endpoint settings

    <soap:Envelope><soap:Header>…by settings…</soap:Header><soap:Body>payload</soap:Body></soap:Envelope>

zeep reads WSDL 1.1 (bindings, ports, operations, the elements of their messages) and nothing else: it neither fetches
nor sends, and no object of zeep outlives a reading. The payload is spliced into its envelope as the bytes it is, for
what zeep would send is what zeep understood of it.

Endpoint settings, beside ``auth``, ``auth_header`` and ``headers`` of :mod:`connectors.rest`; templates are those of
:mod:`connectors.templates`, examples stand in docs/partners/soap.md:

- ``path``: what is appended to the endpoint's URL, with ``{operation}`` where the operation's name goes;
- ``http_headers``: names and templates; ``soap_headers``: list of templates, each one header block in XML;
- ``soap_action`` and ``content_type``: over the WSDL's and the version's own;
- ``ws_security``: sign Body and a Timestamp with the key and certificate (PEM) in the secret or in its part ``pem``;
  ``algorithm`` (``rsa-sha256``, ``rsa-pss-sha256``; a P-256 key always signs ``ecdsa-sha256``), ``lifetime_seconds``,
  ``signed_blocks``, ``must_understand``;
- ``retry_faults`` and ``final_faults``: beginnings of fault codes or texts that mean "not now" or "never", whatever the
  fault's code says.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.partner_json import setting_mapping, setting_text, setting_texts
from connectors.rest import (
    HEADER_NAME,
    HEADER_VALUE,
    OWN_HEADERS,
    authorization,
    check_digest,
    fixed_headers,
    message_headers,
)
from connectors.soap_signing import SoapSigning
from connectors.templates import Facts, render
from registry.model import Endpoint, HttpCall, SoapCall
from schemas.codec import read_xml
from schemas.moment import utc_now
from schemas.problem import (
    InvalidReply,
    Malformed,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
    TooLarge,
)
from schemas.soap import (
    MANIFEST_BLOCK,
    SoapEnvelope,
    SoapVersion,
    fault_code,
    payload_bytes,
    read_soap_reply,
    write_soap,
)

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

    Raises TooLarge ``wsdl-too-large`` (bytes or documents), Malformed: ``wsdl-remote-reference``,
    ``wsdl-no-soap-port``, ``wsdl-invalid`` and the reasons of :func:`schemas.codec.read_xml` (DOCTYPE, encoding,
    depth, size). Costs some ten milliseconds. Safe from many threads, one reading at a time.
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
    """All that zeep can reach: the documents that ``load`` answers, within bounds. zeep takes it for a Transport, of
    which it uses no more than ``load``."""

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


def _read_document(content: bytes, library: Any, location: str) -> Any:
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

    kinds = {Soap11Binding: SoapVersion.V11, Soap12Binding: SoapVersion.V12}
    version = next((version for kind, version in kinds.items() if isinstance(port.binding, kind)), None)
    if version is None:
        return None
    return WsdlPort(
        name=port.name,
        address=(port.binding_options or {}).get("address") or "",
        version=version,
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


# ---- Calling


class SoapConnector:
    """Calls operations of SOAP providers. Safe under threads, which share the descriptions of WSDLs."""

    def __init__(self, http: HttpClient, now: Callable[[], datetime] = utc_now) -> None:
        self._http = http
        self._now = now
        self._contracts = Contracts()
        self._signing = SoapSigning()

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply's body is the answer's payload as exclusive canonical XML,
        which stands and validates alone; ``original`` is the whole envelope as it came."""
        port, operation = self._operation(parcel.call)
        _check_payload(parcel.body, operation)
        url = _address(endpoint, port, operation)
        facts = Facts(parcel, endpoint, secret, self._now(), operation=operation.name, url=url)
        reply = self._http.request(
            "POST",
            url,
            headers={
                **fixed_headers(endpoint),
                **message_headers(parcel),
                **_soap_http_headers(endpoint, port, operation),
                **authorization(endpoint, secret),
                **_written_headers(endpoint, facts),
            },
            body=self._envelope(parcel, port, endpoint, facts),
            timeout_seconds=endpoint.timeout_seconds,
        )
        return _judged(check_digest(reply), operation, endpoint)

    def close(self) -> None:
        self._http.close()

    def _envelope(self, parcel: Parcel, port: WsdlPort, endpoint: Endpoint, facts: Facts) -> bytes:
        """The payload in its envelope, signed where the partner wants that."""
        envelope = write_soap(port.version, parcel.body, _header_blocks(endpoint, facts))
        wanted = endpoint.settings.get("ws_security")
        return envelope if wanted is None else self._signing.sign(envelope, wanted, facts)

    def _operation(self, call: SoapCall | HttpCall | None) -> tuple[WsdlPort, WsdlOperation]:
        """What the registry says is called. A WSDL that cannot be used waits for the registrar."""
        if not isinstance(call, SoapCall):
            raise ProviderUnavailable("endpoint-invalid", setting="provider.soap")
        try:
            return self._contracts.find(call)
        except Problem as problem:
            place = {"wsdl-port-unknown": "port", "wsdl-operation-unknown": "operation"}.get(problem.reason, "wsdl")
            raise ProviderUnavailable("endpoint-invalid", setting=f"provider.soap.{place}") from None


def _address(endpoint: Endpoint, port: WsdlPort, operation: WsdlOperation) -> str:
    """The registry's address wins over the WSDL's, which often names a machine that only the provider reaches."""
    url = endpoint.url or port.address
    path = setting_text(endpoint, "path").replace("{operation}", operation.name)
    return f"{url.rstrip('/')}/{path.lstrip('/')}" if path else url


def _check_payload(body: bytes, operation: WsdlOperation) -> None:
    """The payload is the element that the operation takes: the bus's own schema lets nothing else through."""
    try:
        root = read_xml(body)
    except Malformed:
        raise ProviderRejected("payload-not-for-partner", member="(root)") from None
    if root.tag != operation.request:
        raise ProviderRejected("payload-not-for-partner", member=operation.request)


def _soap_http_headers(endpoint: Endpoint, port: WsdlPort, operation: WsdlOperation) -> dict[str, str]:
    """How SOAP is framed in HTTP: SOAP 1.1, section 6, and RFC 3902."""
    action = endpoint.settings.get("soap_action", operation.soap_action)
    if not isinstance(action, str) or not _ACTION.fullmatch(action):
        raise ProviderUnavailable("endpoint-invalid", setting="soap_action")
    content_type = f"{port.version.media_type}; charset=utf-8"
    headers = {}
    if port.version is SoapVersion.V11:
        headers["SOAPAction"] = f'"{action}"'
    elif action:
        content_type += f'; action="{action}"'
    content_type = endpoint.settings.get("content_type", content_type)
    if not isinstance(content_type, str) or not HEADER_VALUE.fullmatch(content_type):
        raise ProviderUnavailable("endpoint-invalid", setting="content_type")
    return {"Content-Type": content_type, **headers}


#: An action is a URI: visible ASCII, and no quote that would end it.
_ACTION: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{0,1000}")
#: What ``http_headers`` may write although ``headers`` may not: it is where partners want their own digests.
_WRITTEN_TOO: Final = frozenset({"authorization"})


def _written_headers(endpoint: Endpoint, facts: Facts) -> dict[str, str]:
    """HTTP headers from templates. Raises ProviderUnavailable when one would not be plain header text."""
    headers = {}
    for name, template in setting_mapping(endpoint, "http_headers").items():
        value = render(template, facts, "http_headers")
        own = name.lower() in OWN_HEADERS - _WRITTEN_TOO or name.lower() == "soapaction"
        if own or not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ProviderUnavailable("endpoint-invalid", setting="http_headers")
        headers[name] = value
    return headers


def _header_blocks(endpoint: Endpoint, facts: Facts) -> list[bytes]:
    """SOAP header blocks from templates, each an XML document of its own when its values are in it."""
    blocks = []
    for template in setting_texts(endpoint.settings, "soap_headers", ()):
        block = render(template, facts, "soap_headers", escape).encode()
        try:
            read_xml(block)
        except Malformed:
            raise ProviderUnavailable("endpoint-invalid", setting="soap_headers") from None
        blocks.append(block)
    return blocks


# ---- Judging answers

#: Statuses that come with faults by SOAP's own rules; any other failure speaks for itself.
_FAULT_STATUSES: Final = frozenset({400, 500})
#: Fault codes by SOAP 1.1 and 1.2. A code of 1.1 may go on after a dot (``Client.Authentication``).
_FINAL_CODES: Final = frozenset({"Client", "Sender", "MustUnderstand", "VersionMismatch", "DataEncodingUnknown"})
_NOT_NOW_CODES: Final = frozenset({"Server", "Receiver"})
#: WS-Security 1.1.1, section 12: the provider does not believe our signature or token.
_LOGIN_CODES: Final = frozenset({"FailedAuthentication", "InvalidSecurityToken", "InvalidSecurity", "FailedCheck"})


def _judged(reply: Reply, operation: WsdlOperation, endpoint: Endpoint) -> Reply:
    """The answer's payload. Raises what a fault, a status or an unreadable answer means."""
    if not 200 <= reply.status < 300 and reply.status not in _FAULT_STATUSES:
        check_status(reply)
    if operation.one_way and not reply.body.strip():
        return _kept(check_status(reply), None)
    try:
        envelope = read_soap_reply(reply.body, reply.content_type)
    except InvalidReply:
        check_status(reply)
        if operation.one_way and _has_empty_body(reply.body):
            return _kept(reply, None)
        raise
    fault = fault_code(envelope)
    if fault is not None:
        raise _fault_problem(*fault, endpoint)
    check_status(reply)
    if not operation.one_way and envelope.payload.tag != operation.reply:
        raise InvalidReply("soap-reply-unexpected")
    return _kept(reply, envelope)


def _has_empty_body(data: bytes) -> bool:
    """Is it an envelope that says nothing, as many stacks answer a one-way operation?"""
    try:
        root = read_xml(data)
    except Malformed:
        return False
    bodies = [root.find(f"{{{version.namespace}}}Body") for version in SoapVersion]
    return any(body is not None and len(body) == 0 for body in bodies)


def _fault_problem(code: str, text: str, endpoint: Endpoint) -> Problem:
    """What a fault means for the message. Its text is the partner's, and may repeat what was sent to it."""
    kind = code.partition(".")[0]
    shown = kind if kind in _FINAL_CODES | _NOT_NOW_CODES else "?"
    not_now = setting_texts(endpoint.settings, "retry_faults", ())
    never = setting_texts(endpoint.settings, "final_faults", ())
    if not_now and (code.startswith(not_now) or text.startswith(not_now)):
        return ProviderUnavailable("provider-fault-not-now", code=shown)
    if never and (code.startswith(never) or text.startswith(never)):
        return ProviderRejected("provider-fault", code=shown)
    if kind in _LOGIN_CODES:
        return ProviderUnavailable("provider-login-failed")
    if kind in _NOT_NOW_CODES:
        return ProviderUnavailable("provider-fault-not-now", code=shown)
    return ProviderRejected("provider-fault", code=shown)


def _kept(reply: Reply, envelope: SoapEnvelope | None) -> Reply:
    """The payload, and the provider's own manifest over it where it sends one: as a header block, or of HTTP."""
    headers: Mapping[str, str] = {name: reply.headers[name] for name in ("lgsp-manifest",) if name in reply.headers}
    if envelope is None:
        return Reply(status=reply.status, headers=headers, original=reply.body)
    block = envelope.blocks.get(MANIFEST_BLOCK)
    if block is not None:
        headers = {"lgsp-manifest": (block.text or "").strip()}
    return Reply(
        body=payload_bytes(envelope.payload),
        content_type="application/xml",
        status=reply.status,
        headers=headers,
        original=reply.body,
    )
