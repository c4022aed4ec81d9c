"""SOAP envelopes: the strict gate for what comes in, a patient reader for partners' answers, and writing both.

::

    <soap:Envelope xmlns:soap="…">          SOAP 1.1 with text/xml, SOAP 1.2 with application/soap+xml
      <soap:Header> blocks </soap:Header>   optional; each block in a namespace, none twice
      <soap:Body> payload </soap:Body>      exactly one element
    </soap:Envelope>

Toolkits disagree about everything that is unusual in an envelope: of two Bodies one takes the first and one the last, a
comment in a value cuts it for one and is glued away by another, an ``href`` pulls an element from elsewhere into the
Body. A signature proves nothing if its verifier and the reader of the payload see two messages. So whatever readers are
known to disagree about is refused here, before any toolkit sees it, and each refusal has a reason of its own.

All functions are pure and safe from many threads; the elements that they give are for their caller alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from schemas.codec import read_content_type, read_xml
from schemas.problem import InvalidReply, Language, Malformed, Problem

if TYPE_CHECKING:
    from lxml.etree import _Element

#: The bus's own words over SOAP: header blocks, operations, the detail of a fault.
EXCHANGE_NS: Final = "urn:lgsp:exchange:1"
WSSE_NS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU_NS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
#: Header blocks that the bus knows, by ``{namespace}name``.
MANIFEST_BLOCK: Final = f"{{{EXCHANGE_NS}}}Manifest"
EXCHANGE_BLOCK: Final = f"{{{EXCHANGE_NS}}}Exchange"
SECURITY_BLOCK: Final = f"{{{WSSE_NS}}}Security"

_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"


class SoapVersion(Enum):
    """The two versions in use; a message must have the namespace and the media type of the same one."""

    V11 = ("http://schemas.xmlsoap.org/soap/envelope/", "text/xml")
    V12 = ("http://www.w3.org/2003/05/soap-envelope", "application/soap+xml")

    @property
    def namespace(self) -> str:
        return self.value[0]

    @property
    def media_type(self) -> str:
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapEnvelope:
    """A SOAP message of which only one reading is left. The elements belong to one tree, ``root``'s."""

    version: SoapVersion
    root: _Element
    #: Header blocks that are addressed to us, by ``{namespace}name``.
    blocks: Mapping[str, _Element]
    body: _Element
    #: The only child of the Body.
    payload: _Element
    #: SOAPAction, or the parameter ``action`` of SOAP 1.2, without its quotes; empty when none was given.
    action: str


# ---- Reading


def version_of(content_type: str) -> SoapVersion:
    """The version to answer a message in whose envelope may be unreadable. Never raises; SOAP 1.1 when in doubt."""
    media_type = content_type.partition(";")[0].strip().lower()
    return SoapVersion.V12 if media_type == SoapVersion.V12.media_type else SoapVersion.V11


def read_soap(
    data: bytes, content_type: str, soap_action: str | None = None, *, understood: frozenset[str] = frozenset()
) -> SoapEnvelope:
    """The strict gate: the envelope in ``data`` if it can be read in one way only. About 100 µs for 4 KB.

    ``understood`` names the header blocks (``{namespace}name``) that the caller processes: any other that must be
    understood by us is refused. CDATA is allowed: it is one more spelling of text, and canonical XML has none.
    Comments and processing instructions are refused everywhere, for in a value readers glue or cut at them.

    Raises Malformed: ``soap-content-type``, ``soap-multipart``, ``soap-version``, ``soap-empty``, the reasons of
    :func:`schemas.codec.read_content_type` and :func:`schemas.codec.read_xml`, ``soap-comment``, ``soap-not-envelope``,
    ``soap-parts``, ``soap-body-not-one``, ``soap-block-unqualified``, ``soap-block-duplicate``, ``soap-id-duplicate``,
    ``soap-reference``, ``soap-encoding-style``, ``soap-must-understand``, ``soap-must-understand-invalid``,
    ``soap-action`` and ``soap-action-unreadable``.
    """
    # 1. What it says it is
    version, parameter = _declared(content_type)
    if not data.strip():
        raise Malformed("soap-empty")
    # 2. A tree of elements, attributes and text, and nothing else
    root = read_xml(data)
    _refuse_what_readers_skip(data, root)
    # 3. The parts of an envelope
    if _version_by_root(root) is not version:
        raise Malformed("soap-version")
    header, body = _parts(root, version)
    payload = _only_child(body)
    blocks = _blocks_for_us(header, version)
    # 4. What would have one part stand for another
    _refuse_references(data, root)
    # 5. What the sender wants done
    _refuse_not_understood(blocks, version, understood)
    action = _action(soap_action, parameter, payload)
    return SoapEnvelope(version=version, root=root, blocks=blocks, body=body, payload=payload, action=action)


@lru_cache(maxsize=256)
def _declared(content_type: str) -> tuple[SoapVersion, str]:
    """Version and action parameter that a Content-Type header names."""
    media_type = read_content_type(content_type).media_type
    if media_type.startswith("multipart/") or media_type == "application/xop+xml":
        raise Malformed("soap-multipart")
    for version in SoapVersion:
        if media_type == version.media_type:
            found = _ACTION_PARAMETER.search(content_type) if version is SoapVersion.V12 else None
            return version, (found[1] or found[2] or "") if found else ""
    raise Malformed("soap-content-type")


#: RFC 3902, section 3. The header as a whole has been read before, so quotes are balanced.
_ACTION_PARAMETER: Final = re.compile(r""";[ \t]*action=(?:"([^"]*)"|([^;" \t]*))""", re.IGNORECASE)

_SKIPPED: Final = etree.XPath("boolean(//comment() | //processing-instruction())")
#: By these XML Signature finds its targets. As a union, which costs a third of comparing local names.
_IDS: Final = etree.XPath(
    "//@Id | //@ID | //@id | //@xml:id | //@wsu:Id", namespaces={"wsu": WSU_NS}, smart_strings=False
)
#: ``href`` of SOAP 1.1 encoding and of MTOM, ``ref`` of SOAP 1.2 encoding.
_REFERENCES: Final = etree.XPath(
    "boolean(//@href | //@enc:ref)", namespaces={"enc": "http://www.w3.org/2003/05/soap-encoding"}
)
_ENCODING_STYLES: Final = etree.XPath("boolean(//@*[local-name() = 'encodingStyle'])")
_TYPES: Final = etree.XPath("descendant-or-self::*/@xsi:type", namespaces={"xsi": _XSI}, smart_strings=False)
#: ``actor`` (1.1) and ``role`` (1.2) of blocks that are for whoever gets the message, which is us.
_OUR_ROLES: Final = frozenset(
    {
        "",
        "http://schemas.xmlsoap.org/soap/actor/next",
        f"{SoapVersion.V12.namespace}/role/next",
        f"{SoapVersion.V12.namespace}/role/ultimateReceiver",
    }
)
#: White space of XML. Python's own would take a no-break space for nothing.
_BLANK: Final = " \t\r\n"
_TRUTH: Final = {"1": True, "true": True, "0": False, "false": False, "": False}


def _refuse_what_readers_skip(data: bytes, root: _Element) -> None:
    """Comments and processing instructions, also outside the root. The bytes tell quickly that there are none."""
    if (b"<!--" in data or data.count(b"<?") > data.startswith(_DECLARATIONS)) and _SKIPPED(root):
        raise Malformed("soap-comment")


#: An XML declaration is no processing instruction.
_DECLARATIONS: Final = (b"<?xml ", b"\xef\xbb\xbf<?xml ")


def _version_by_root(root: _Element) -> SoapVersion | None:
    """Raises Malformed(soap-not-envelope) for what is no Envelope; None for one of a version that nobody knows."""
    name = etree.QName(root)
    if name.localname != "Envelope":
        raise Malformed("soap-not-envelope")
    return next((version for version in SoapVersion if version.namespace == name.namespace), None)


def _parts(root: _Element, version: SoapVersion) -> tuple[_Element | None, _Element]:
    """Header and Body of an Envelope that has nothing but them, in this order."""
    header, body = f"{{{version.namespace}}}Header", f"{{{version.namespace}}}Body"
    parts = list(root)
    names = [part.tag for part in parts]
    if names not in ([body], [header, body]) or _has_text(root, parts):
        raise Malformed("soap-parts")
    if len(parts) == 1:
        return None, parts[0]
    if _has_text(parts[0], parts[0]):
        raise Malformed("soap-parts")
    return parts[0], parts[1]


def _has_text(element: _Element, children: Iterable[_Element]) -> bool:
    """Is there anything but white space beside the children?"""
    return bool((element.text or "").strip(_BLANK)) or any((child.tail or "").strip(_BLANK) for child in children)


def _only_child(body: _Element) -> _Element:
    if len(body) != 1 or _has_text(body, body):
        raise Malformed("soap-body-not-one")
    return body[0]


def _blocks_for_us(header: _Element | None, version: SoapVersion) -> dict[str, _Element]:
    """Header blocks by name. Those for another actor are none of our business, also when they come twice."""
    blocks: dict[str, _Element] = {}
    role = f"{{{version.namespace}}}{'actor' if version is SoapVersion.V11 else 'role'}"
    for block in () if header is None else header:
        name = str(block.tag)
        if not name.startswith("{"):
            raise Malformed("soap-block-unqualified")
        if block.get(role, "").strip(_BLANK) in _OUR_ROLES:
            if name in blocks:
                raise Malformed("soap-block-duplicate")
            blocks[name] = block
    return blocks


def _refuse_references(data: bytes, root: _Element) -> None:
    if data.count(b"Id") + data.count(b"ID") + data.count(b"id") > 1:  # a name has but one spelling
        ids = _strings(_IDS(root))
        if len(set(ids)) != len(ids):
            raise Malformed("soap-id-duplicate")
    if b"ref" in data and _REFERENCES(root):
        raise Malformed("soap-reference")
    if b"encodingStyle" in data and _ENCODING_STYLES(root):
        raise Malformed("soap-encoding-style")


def _refuse_not_understood(blocks: Mapping[str, _Element], version: SoapVersion, understood: frozenset[str]) -> None:
    attribute = f"{{{version.namespace}}}mustUnderstand"
    for name, block in blocks.items():
        must = _TRUTH.get(block.get(attribute, "").strip(_BLANK))
        if must is None:
            raise Malformed("soap-must-understand-invalid")
        if must and name not in understood:
            raise Malformed("soap-must-understand")


def _action(soap_action: str | None, parameter: str, payload: _Element) -> str:
    """The action, which may be left out, and must agree with the payload when it is given (WS-I Basic Profile 1.1,
    R1127: the Body decides, the header is a hint; a hint that differs is somebody's attempt to pass a filter)."""
    header = (soap_action or "").strip()
    if header.startswith('"') or header.endswith('"'):
        if len(header) < 2 or header[0] != '"' or header[-1] != '"':
            raise Malformed("soap-action-unreadable")
        header = header[1:-1]
    if '"' in header or not header.isprintable():
        raise Malformed("soap-action-unreadable")
    name = etree.QName(payload).localname
    for action in (header, parameter):
        if action and re.split("[/#:]", action)[-1] != name:
            raise Malformed("soap-action")
    return parameter or header


def _strings(found: Any) -> list[str]:
    """What an XPath of attributes gives."""
    return found if isinstance(found, list) else []


# ---- The bus's own block


#: Children of the block Exchange, and the HTTP headers that say the same over REST.
_EXCHANGE_HEADERS: Final = {
    f"{{{EXCHANGE_NS}}}{name}": header
    for name, header in {
        "Service": "lgsp-service",
        "Receiver": "lgsp-receiver",
        "MessageId": "lgsp-message-id",
        "Dossier": "lgsp-dossier",
        "Purpose": "lgsp-purpose",
        "User": "lgsp-user",
    }.items()
}


def exchange_headers(block: _Element) -> dict[str, str]:
    """The facts in an Exchange block, named as the HTTP headers of an attested message, several receivers joined by
    commas. The values are unchecked. Raises Malformed(soap-block-invalid)."""
    headers: dict[str, str] = {}
    for child in block:
        name = _EXCHANGE_HEADERS.get(str(child.tag))
        if name is None or len(child):
            raise Malformed("soap-block-invalid", block="Exchange", part="children")
        text = (child.text or "").strip(_BLANK)
        several = name == "lgsp-receiver"
        if (name in headers and not several) or (several and "," in text):
            raise Malformed("soap-block-invalid", block="Exchange", part=str(child.tag).rpartition("}")[2])
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    if _has_text(block, block):
        raise Malformed("soap-block-invalid", block="Exchange", part="text")
    return headers


# ---- Partners' answers


def read_soap_reply(data: bytes, content_type: str) -> SoapEnvelope:
    """The envelope of a partner's answer: as safe as :func:`read_soap`, and patient with what does no harm.

    Comments and processing instructions are taken out of the tree (so does XML Schema), text may stand between the
    parts, Header and Body in any order, blocks twice (the first counts), the media type need not fit the version.
    A Fault is a payload like another: see :func:`fault_code`.

    Raises InvalidReply(soap-reply-multipart, reply-not-readable).
    """
    if content_type.strip().lower().startswith(("multipart/", "application/xop+xml")):
        raise InvalidReply("soap-reply-multipart")
    try:
        root = read_xml(data)
        version = _version_by_root(root)
    except Malformed:
        raise InvalidReply("reply-not-readable") from None
    etree.strip_tags(root, etree.Comment, etree.ProcessingInstruction)
    bodies = [] if version is None else root.findall(f"{{{version.namespace}}}Body")
    if version is None or len(bodies) != 1 or len(bodies[0]) != 1:
        raise InvalidReply("reply-not-readable")
    blocks: dict[str, _Element] = {}
    for block in root.iterfind(f"{{{version.namespace}}}Header/*"):
        blocks.setdefault(str(block.tag), block)
    return SoapEnvelope(version=version, root=root, blocks=blocks, body=bodies[0], payload=bodies[0][0], action="")


def fault_code(envelope: SoapEnvelope) -> tuple[str, str] | None:
    """Code (without its prefix) and text of a partner's Fault, None when the payload is none.

    For judging what happened, never for telling: the text is the partner's and may repeat what was sent to it.
    """
    fault = envelope.payload
    if fault.tag != f"{{{envelope.version.namespace}}}Fault":
        return None
    if envelope.version is SoapVersion.V11:
        # Some stacks qualify these names though SOAP 1.1 does not.
        code, text = fault.findtext("{*}faultcode"), fault.findtext("{*}faultstring")
    else:
        code, text = fault.findtext("{*}Code/{*}Value"), fault.findtext("{*}Reason/{*}Text")
    return (code or "").strip().rpartition(":")[2], (text or "").strip()


# ---- Writing


def payload_bytes(element: _Element) -> bytes:
    """The bytes of a payload that came in a SOAP Body: exclusive canonical XML 1.0 without comments.

    So they are the same whatever prefixes the envelope around declares. Prefixes that the payload uses in values of
    ``xsi:type`` alone are declared as well (the algorithm's parameter PrefixList), else no reader could resolve them.
    """
    types = _strings(_TYPES(element))
    prefixes = sorted({text.strip().partition(":")[0] for text in types if ":" in text})
    return etree.tostring(
        element,
        method="c14n",
        exclusive=True,
        with_comments=False,
        with_tail=False,
        inclusive_ns_prefixes=prefixes or None,
    )


def write_soap(version: SoapVersion, payload: bytes, blocks: Sequence[bytes] = ()) -> bytes:
    """An envelope around ``payload`` (an XML document in UTF-8), whose bytes are spliced in unchanged but for a byte
    order mark and an XML declaration, which may stand nowhere else than at the start. ``blocks`` likewise."""
    header = b"<soap:Header>%s</soap:Header>" % b"".join(map(_spliced, blocks)) if blocks else b""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="%s">%s<soap:Body>%s</soap:Body>'
        b"</soap:Envelope>" % (version.namespace.encode(), header, _spliced(payload))
    )


_DECLARATION: Final = re.compile(rb"<\?xml[ \t\r\n][^>]*\?>\s*")


def _spliced(document: bytes) -> bytes:
    document = document.removeprefix(b"\xef\xbb\xbf")
    found = _DECLARATION.match(document)
    return document[found.end() :] if found else document


#: Fault codes that SOAP itself defines for some reasons; all others are Client or Server by the problem's class.
_FAULT_CODES: Final = {"soap-must-understand": "MustUnderstand", "soap-version": "VersionMismatch"}
#: SOAP 1.2 has new names for two of them.
_FAULT_CODES_V12: Final = {"Client": "Sender", "Server": "Receiver"}
#: What XML 1.0 cannot hold in any spelling. An element path may have taken it from a JSON document.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_fault(version: SoapVersion, problem: Problem, *, language: Language, trace_id: str) -> bytes:
    """The fault of a problem: what problem details say over REST, with the catalogue's wording and no received value.

    The code is Client or Server (Sender, Receiver) by the class of the problem, MustUnderstand or VersionMismatch for
    the two reasons that SOAP has a code for. In SOAP 1.2 the reason is the Subcode, a name in ``urn:lgsp:exchange:1``.
    """
    code = _FAULT_CODES.get(problem.reason, problem.soap_fault)
    text, detail = _text(problem.detail(language)), _problem_element(problem, language, trace_id)
    if version is SoapVersion.V11:
        fault = (
            f'<faultcode>soap:{code}</faultcode><faultstring xml:lang="{language}">{text}</faultstring>'
            f"<detail>{detail}</detail>"
        )
    else:
        fault = (
            f"<soap:Code><soap:Value>soap:{_FAULT_CODES_V12.get(code, code)}</soap:Value>"
            f'<soap:Subcode><soap:Value xmlns:lgsp="{EXCHANGE_NS}">lgsp:{problem.reason}</soap:Value></soap:Subcode>'
            f'</soap:Code><soap:Reason><soap:Text xml:lang="{language}">{text}</soap:Text></soap:Reason>'
            f"<soap:Detail>{detail}</soap:Detail>"
        )
    return write_soap(version, f"<soap:Fault>{fault}</soap:Fault>".encode())


def _problem_element(problem: Problem, language: Language, trace_id: str) -> str:
    """The members of the problem document but ``detail``, which is the fault's own text."""
    members = {
        "type": f"/problems/{problem.slug}",
        "title": problem.localized_title(language),
        "status": str(problem.status),
        "reason": problem.reason,
        "retryable": "true" if problem.retryable else "false",
        "traceId": trace_id,
    }
    lines = [f"<{name}>{_text(value)}</{name}>" for name, value in members.items()]
    errors = [
        f'<error pointer="{_text(error.pointer)}" detail="{_text(error.said(language))}"/>' for error in problem.errors
    ]
    if errors:
        lines.append(f"<errors>{''.join(errors)}</errors>")
    return f'<Problem xmlns="{EXCHANGE_NS}">{"".join(lines)}</Problem>'


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value))
